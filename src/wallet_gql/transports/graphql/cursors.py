"""Cursors: places in lists as opaque text. Each form has a number of its own, so that none is taken for another.

A cursor of one account means "below this sequence", one of several "below these sequences". So a page costs the same
everywhere in the history, and entries that arrive while a client pages cause no gap and no duplicate.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Final

from ...domain.ids import AccountId
from ...verbs.history import Place
from .failures import BadRequest

_NUMBER: Final = "[1-9][0-9]{0,17}"
_CURSOR: Final = re.compile(rf"1:(?P<sequence>{_NUMBER})", re.ASCII)
_PLACE: Final = re.compile(rf"2:(?P<places>(?:[0-9a-f]{{10}}\.{_NUMBER},){{0,1000}})", re.ASCII)
_SEQUENCES: Final = re.compile(rf"3:(?P<places>(?:[0-9a-f]{{10}}\.{_NUMBER},){{0,1000}})", re.ASCII)
_NAME: Final = slice(-10, None)
"""The part of an account's id that names it in a cursor: 40 random bits."""


def cursor_of(place: str | int | Place) -> str:
    """The cursor of an id, of a sequence, or of a place in several accounts. Digits make no `+` and no `/`."""
    if isinstance(place, int):
        return binascii.b2a_base64(b"1:%d" % place, newline=False).decode().rstrip("=")
    return place if isinstance(place, str) else _encoded("2:" + _listed(place))


def sequence_of(cursor: str | None) -> int | None:
    """The sequence of a cursor of one account; None of none. Raises BadRequest."""
    return None if cursor is None else int(_decoded(cursor, _CURSOR)["sequence"])


def place_of(cursor: str, account_ids: Iterable[AccountId]) -> Place:
    """The place of a cursor in several accounts. Raises BadRequest."""
    told, named = _unlisted(_decoded(cursor, _PLACE)), {account_id[_NAME]: account_id for account_id in account_ids}
    return {named[name]: sequence for name, sequence in told.items() if name in named}  # the first one stays the first


def sequences_cursor(sequences: Mapping[AccountId, int]) -> str:
    """The cursor of the entries above these sequences; 0 is as good as no sequence."""
    return _encoded("3:" + _listed(sequences))


def sequences_of(cursor: str, account_ids: Iterable[AccountId]) -> dict[AccountId, int]:
    """The sequence of each account in such a cursor. Raises BadRequest."""
    told = _unlisted(_decoded(cursor, _SEQUENCES))
    return {account_id: told.get(account_id[_NAME], 0) for account_id in account_ids}


def not_a_cursor() -> BadRequest:
    """The error for a text that is no cursor of the list."""
    return BadRequest("this is no cursor of this list; take one from a page's pageInfo or edges")


def _listed(sequences: Mapping[AccountId, int]) -> str:
    return "".join(f"{account_id[_NAME]}.{sequence}," for account_id, sequence in sequences.items() if sequence)


def _unlisted(match: re.Match[str]) -> dict[str, int]:
    parts = (part.partition(".") for part in match["places"].split(",")[:-1])
    return {name: int(sequence) for name, _, sequence in parts}


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(cursor: str, shape: re.Pattern[str]) -> re.Match[str]:
    """The parts of a cursor. Raises BadRequest."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        match = shape.fullmatch(base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii"))
    except (UnicodeError, binascii.Error):
        match = None
    if match is None:
        raise not_a_cursor()
    return match
