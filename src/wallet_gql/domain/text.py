"""Text that people type: one rule for references, names of merchants and whatever else is shown to others.

The rule names code points and never asks Python's tables, so it does not change with the server's Python: what Unicode
has assigned since, or will assign, passes. Refused are only characters that break a line, end a text for a program, or
make it read as something else: control characters, line and paragraph separators, lone surrogates, and the
bidirectional embeddings, overrides and isolates (Unicode Technical Report 36, section 2.1).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from .errors import InvalidInput, reasons

_REFUSED: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_INVISIBLE: Final = re.compile(
    "[ \u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u202f\u205f-\u206f\u2800\u3000"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]*"
)
"""Spaces, the empty Braille pattern, and what Unicode calls default ignorable (Unicode Standard Annex 44)."""


def check_text(text: str, field: str, *, length_max: int, length_min: int = 0) -> str:
    """Return the text if it is `length_min` to `length_max` characters (code points) long and has none of the refused.

    A text that must not be empty must have a character that people can see.

    Raises:
        InvalidInput: names the field; says the length, or the first refused character and its place, counted from 1.
    """
    found = _REFUSED.search(text)
    if found is not None:
        named = f"U+{ord(found[0]):04X}"
        raise InvalidInput(field, reasons.CHARACTER(place=found.start() + 1, named=named))
    if not length_min <= len(text) <= length_max:
        reason = reasons.LENGTH if length_min else reasons.TOO_LONG
        raise InvalidInput(field, reason(least=length_min, most=length_max))
    if length_min and _INVISIBLE.fullmatch(text) is not None:
        raise InvalidInput(field, reasons.VISIBLE())
    return text


def comparable(text: str) -> str:
    """The text in the form in which people compare it: ignoring case and how its accents are composed.

    Source: Unicode Standard, section 3.13, canonical caseless matching.
    """
    decomposed = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", decomposed.casefold()))


def opaque(password: str) -> str:
    """A password in the one form in which it is hashed, however a keyboard composes its accents and spaces.

    Source: RFC 8265, section 4.2, the OpaqueString profile: spaces become U+0020, the rest is NFC. Case is kept.
    """
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in password)
    return unicodedata.normalize("NFC", spaced)
