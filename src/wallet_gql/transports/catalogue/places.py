"""Places in the history of several accounts, as text: below which sequence of each account a page goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ...domain.ids import AccountId

NUMBER: Final = "[1-9][0-9]{0,17}"
"""What a sequence looks like, as a pattern."""
NAMED: Final = rf"[0-9a-f]{{10}}\.{NUMBER}"
"""What one account's part looks like, as a pattern, without the mark that ends it."""
_NAME: Final = slice(-10, None)
"""The part of an account's id that names it: 40 random bits."""


def listed(place: Mapping[AccountId, int], mark: str) -> str:
    """The place as text, in which `mark` ends each part. A sequence of 0 is left out: it is as good as none."""
    return "".join(f"{account_id[_NAME]}.{sequence}{mark}" for account_id, sequence in place.items() if sequence)


def unlisted(text: str, mark: str, account_ids: Iterable[AccountId]) -> dict[AccountId, int]:
    """The place of a text, as far as it is about these accounts. The first one stays the first."""
    names = {account_id[_NAME]: account_id for account_id in account_ids}
    parts = (part.partition(".") for part in text.split(mark)[:-1])
    return {names[name]: int(sequence) for name, _, sequence in parts if name in names}
