"""The languages in which messages are told, and which of them a client wants.

English is the source: the `words` of errors and reasons. Every other language has a gettext catalogue in `locales`,
which is read when it is first asked for. Codes, fields and the log stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final

from babel import Locale
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

from ...domain.currencies import EXPONENTS
from ...domain.currencies import format_decimal as plain_decimal
from ...domain.words import Amount, Tell, Worded, fill

SOURCE: Final = "en"
"""The language of the code."""

_LOCALES: Final = files(__package__) / "locales"

LANGUAGES: Final = (SOURCE, *sorted(one.name[:-3] for one in _LOCALES.iterdir() if one.name.endswith(".po")))
"""All of them; the first is told to whoever asks for none of them."""

OUR_WORDS: Final = frozenset({"account_state", "action", "allowed", "direction", "kind", "limit", "state"})
"""The values that are words of ours, and so are told in the language, too. A username may be any word."""

ACCEPT_MAX: Final = 200
"""The longest `Accept-Language` that is read, in characters: the language for it is remembered."""

_RANGE: Final = re.compile(r"\s*([A-Za-z]{1,8}|\*)(?:-[A-Za-z0-9-]+)?\s*(?:;\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?")


def wanted(accept: str) -> str:
    """The language that an `Accept-Language` header wants most. What is malformed or unknown does not count.

    One that is too long counts as none. A part of it would not do: the rest may refuse what the part wants.
    """
    return _wanted(accept) if len(accept) <= ACCEPT_MAX else SOURCE


@lru_cache(maxsize=256)
def _wanted(accept: str) -> str:
    found: dict[str, float] = {}
    for part in accept.split(","):
        match = _RANGE.fullmatch(part)
        if match is not None:
            name, weight = match[1].lower(), float(match[2] or 1)
            found[name] = max(weight, found.get(name, 0.0))
    known = {language: found.get(language, found.get("*", 0.0)) for language in LANGUAGES}
    return max(LANGUAGES, key=lambda language: known[language])


@cache
def messages_of(language: str) -> Mapping[str, str]:
    """What each English text is in the language."""
    with (_LOCALES / f"{language}.po").open("rb") as file:
        found = read_po(file, locale=language)
    return {str(one.id): str(one.string) for one in found if one.id and one.string and not one.fuzzy}


@cache
def teller(language: str) -> Tell:
    """What makes texts in the language."""
    if language == SOURCE:
        return fill
    known, locale = messages_of(language), Locale.parse(language)

    def tell(words: str, values: Mapping[str, object]) -> str:
        return fill(known.get(words, words), {name: told(name, value) for name, value in values.items()})

    def told(name: str, value: object) -> object:
        if isinstance(value, Worded):
            return tell(value.words, value.values)
        if isinstance(value, Amount):
            return _amount(value, locale)
        return known.get(str(value), value) if name in OUR_WORDS else value

    return tell


def _amount(amount: Amount, locale: Locale) -> str:
    """As people of that place write it: `1.234,50 EUR`."""
    if amount.currency not in EXPONENTS:
        return str(amount)
    digits = EXPONENTS[amount.currency]
    pattern = f"#,##0.{'0' * digits}" if digits else "#,##0"
    number = Decimal(plain_decimal(amount.amount_minor, amount.currency))
    return f"{format_decimal(number, format=pattern, locale=locale)} {amount.currency}"
