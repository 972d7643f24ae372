"""Places in the history of several accounts, as text: below which sequence of each account a page goes on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from ...domain.errors import InvalidInput, reasons
from ...domain.ids import AccountId
from ...verbs.history import Place

_TEXT: Final = re.compile(r"(?:[0-9a-f]{10}\.[1-9][0-9]{0,17}~){1,1000}", re.ASCII)
_NAME: Final = slice(-10, None)
"""The part of an account's id that names it: 40 random bits."""


def text_of(place: Mapping[AccountId, int]) -> str:
    """The place as text, which needs no escape in an address."""
    return "".join(f"{account_id[_NAME]}.{sequence}~" for account_id, sequence in place.items())


def place_of(text: str, account_ids: Iterable[AccountId]) -> Place:
    """The place of a text, as far as it is about these accounts. Raises InvalidInput."""
    if _TEXT.fullmatch(text) is None:
        raise InvalidInput("after", reasons.CURSOR())
    parts = (part.partition(".") for part in text.split("~")[:-1])
    told = {name: int(sequence) for name, _, sequence in parts}
    return {account_id: told[account_id[_NAME]] for account_id in account_ids if account_id[_NAME] in told}
