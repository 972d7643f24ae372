"""What an account received and spent in a span of time, by month, other side, kind or category."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

from ..domain.annotations import Side
from ..domain.frozen import frozen
from ..domain.ids import AccountId
from ..domain.model import Account, TransferKind
from ..storage import PAGE_MAX, HistoryLine, PageRequest, Store
from .annotations import annotations_of
from .history import sequence_at

EXAMINED_MAX: Final = 5_000
"""The most entries that one summary adds up: the newest of its span."""

GROUPS_MAX: Final = 100
"""The most groups of one summary."""


class SummaryBy(StrEnum):
    """What the groups of a summary have in common."""

    MONTH = "month"
    COUNTERPARTY = "counterparty"
    KIND = "kind"
    CATEGORY = "category"


@frozen
class Group:
    """Some entries added up, in minor units; both sums are positive.

    One of the four says what they have in common: the month such as `2026-11` (UTC), the other side's account, the
    kind, or the category that the account's owner gave them; None if none.
    """

    count: int
    received_minor: int
    spent_minor: int
    month: str | None = None
    counterparty: AccountId | None = None
    kind: TransferKind | None = None
    category: str | None = None


@frozen
class Summary:
    """Groups, those with the most money first, months newest first.

    `complete` tells whether all entries of the span were added up, and no group was left out.
    """

    groups: tuple[Group, ...]
    complete: bool


async def summary(store: Store, account: Account, since: datetime, until: datetime, by: SummaryBy) -> Summary:
    """Add up the account from `since` (inclusive) to `until` (exclusive). Raises Unavailable."""
    floor = await sequence_at(store, account, since, inclusive=False)
    top = await sequence_at(store, account, until, inclusive=False) + 1
    sums: dict[str, list[int]] = {}
    lowest = max(floor, top - 1 - EXAMINED_MAX)
    while top > lowest + 1:
        page = await store.list_transfers(account.id, PageRequest(PAGE_MAX, before=top, after=lowest))
        for line, key in zip(page.items, await _keys(store, by, page.items), strict=True):
            count = sums.setdefault(key, [0, 0, 0])
            count[0] += 1
            count[1 if line.entry.amount_minor > 0 else 2] += abs(line.entry.amount_minor)
        if not page.items:
            break
        top = page.items[-1].entry.sequence
    keys = sorted(sums, reverse=True) if by is SummaryBy.MONTH else sorted(sums, key=lambda key: -sum(sums[key][1:]))
    groups = tuple(_group(by, key, sums[key]) for key in keys[:GROUPS_MAX])
    return Summary(groups, complete=lowest == floor and len(keys) <= GROUPS_MAX)


async def _keys(store: Store, by: SummaryBy, lines: Sequence[HistoryLine]) -> list[str]:
    """The group of each line, as text."""
    if by is not SummaryBy.CATEGORY:
        return [_KEYS[by](line) for line in lines]
    sides = [Side(line.entry.account_id, line.transfer_id) for line in lines]
    noted = await annotations_of(store, sides)
    return [noted[side].category for side in sides]


def _group(by: SummaryBy, key: str, sums: list[int]) -> Group:
    count, received, spent = sums
    if by is SummaryBy.MONTH:
        return Group(count, received, spent, month=key)
    if by is SummaryBy.KIND:
        return Group(count, received, spent, kind=TransferKind(key))
    if by is SummaryBy.CATEGORY:
        return Group(count, received, spent, category=key or None)
    return Group(count, received, spent, counterparty=AccountId(key))


def _other_side(line: HistoryLine) -> str:
    transfer = line.transfer
    is_paid = transfer.debit_account_id == line.entry.account_id
    return transfer.credit_account_id if is_paid else transfer.debit_account_id


_KEYS: Final[dict[SummaryBy, Callable[[HistoryLine], str]]] = {
    SummaryBy.MONTH: lambda line: f"{line.entry.at:%Y-%m}",
    SummaryBy.COUNTERPARTY: _other_side,
    SummaryBy.KIND: lambda line: line.transfer.kind.value,
}
