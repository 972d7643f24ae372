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
from ..catalogue.places import NAMED, NUMBER, listed, unlisted
from .failures import BadRequest

_MARK: Final = ","
_CURSOR: Final = re.compile(rf"1:(?P<sequence>{NUMBER})", re.ASCII)
_PLACE: Final = re.compile(rf"2:(?P<places>(?:{NAMED}{_MARK}){{0,1000}})", re.ASCII)
_SEQUENCES: Final = re.compile(rf"3:(?P<places>(?:{NAMED}{_MARK}){{0,1000}})", re.ASCII)


def cursor_of(place: str | int | Place) -> str:
    """The cursor of an id, of a sequence, or of a place in several accounts. Digits make no `+` and no `/`."""
    if isinstance(place, int):
        return binascii.b2a_base64(b"1:%d" % place, newline=False).decode().rstrip("=")
    return place if isinstance(place, str) else _encoded("2:" + listed(place, _MARK))


def sequence_of(cursor: str | None) -> int | None:
    """The sequence of a cursor of one account; None of none. Raises BadRequest."""
    return None if cursor is None else int(_decoded(cursor, _CURSOR)["sequence"])


def place_of(cursor: str, account_ids: Iterable[AccountId]) -> Place:
    """The place of a cursor in several accounts. Raises BadRequest."""
    return unlisted(_decoded(cursor, _PLACE)["places"], _MARK, account_ids)


def sequences_cursor(sequences: Mapping[AccountId, int]) -> str:
    """The cursor of the entries above these sequences; 0 is as good as no sequence."""
    return _encoded("3:" + listed(sequences, _MARK))


def sequences_of(cursor: str, account_ids: Iterable[AccountId]) -> dict[AccountId, int]:
    """The sequence of each account in such a cursor. Raises BadRequest."""
    names = list(account_ids)
    told = unlisted(_decoded(cursor, _SEQUENCES)["places"], _MARK, names)
    return {name: told.get(name, 0) for name in names}


def not_a_cursor() -> BadRequest:
    """The error for a text that is no cursor of the list."""
    return BadRequest("this is no cursor of this list; take one from a page's pageInfo or edges")


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
