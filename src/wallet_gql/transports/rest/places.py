"""Places in the history of several accounts, as text that needs no escape in an address."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ...domain.errors import InvalidInput, reasons
from ...domain.ids import AccountId
from ...verbs.history import Place
from ..catalogue.places import NAMED, listed, unlisted

_MARK: Final = "~"
_TEXT: Final = re.compile(rf"(?:{NAMED}{_MARK}){{1,1000}}", re.ASCII)


def text_of(place: Place) -> str:
    """The place as text."""
    return listed(place, _MARK)


def place_of(text: str, account_ids: Iterable[AccountId]) -> Place:
    """The place of a text, as far as it is about these accounts. Raises InvalidInput."""
    if _TEXT.fullmatch(text) is None:
        raise InvalidInput("after", reasons.CURSOR())
    return unlisted(text, _MARK, account_ids)
