"""Reading the past of accounts: pages of one or several, filtered or not, the balance at a time, statements.

Everything uses keyset pages of one account in sequence order, so no backend needs special queries. The times of an
account's entries never decrease, so a point in time is found by bisection: at most 20 single-row reads for a million
entries.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ..domain.frozen import frozen
from ..domain.ids import AccountId, TransferId
from ..domain.model import Account, TransferKind
from ..domain.text import comparable
from ..storage import PAGE_MAX, HistoryLine, PageRequest, Store

EXAMINED_MAX: Final = 2_000
"""The most entries that one filtered page examines. So a page may be short although more lines follow."""


@frozen
class HistoryFilter:
    """Which lines to keep; a field that is None is ignored.

    `since` is inclusive, `until` exclusive; amounts are compared without their sign, in minor units; `reference` must
    be a part of the text, ignoring case and how accents are composed.
    """

    kinds: frozenset[TransferKind] | None = None
    counterparties: frozenset[AccountId] | None = None
    since: datetime | None = None
    until: datetime | None = None
    amount_min_minor: int | None = None
    amount_max_minor: int | None = None
    reference: str | None = None

    @property
    def selects(self) -> bool:
        """Whether the filter may drop lines within its span of time."""
        return self != HistoryFilter(since=self.since, until=self.until)

    def keeps(self, line: HistoryLine) -> bool:
        """Whether the filter keeps the line, apart from `since` and `until`, which the caller applies by bisection."""
        entry, transfer = line.entry, line.transfer
        both = {transfer.debit_account_id, transfer.credit_account_id}
        amount_minor = abs(entry.amount_minor)
        return (
            (self.kinds is None or transfer.kind in self.kinds)
            and (self.counterparties is None or bool((both - {entry.account_id}) & self.counterparties))
            and (self.amount_min_minor is None or amount_minor >= self.amount_min_minor)
            and (self.amount_max_minor is None or amount_minor <= self.amount_max_minor)
            and (self.reference is None or comparable(self.reference) in comparable(transfer.reference))
        )


EVERYTHING: Final = HistoryFilter()


Place = Mapping[AccountId, int]
"""A line's place among those of several accounts: below which sequence of each account the older lines are.

The line's own account comes first, with the line's sequence. An account that it does not name
has no older lines.
"""


@frozen
class HistoryPage:
    """Some lines. The following page begins below `next_sequence`; None at the end."""

    lines: tuple[HistoryLine, ...]
    next_sequence: int | None


@frozen
class MergedPage:
    """Some lines of several accounts, each with its place. The following page begins at `goes_on`; None at the end."""

    lines: tuple[tuple[HistoryLine, Place], ...]
    goes_on: Place | None


@frozen
class Statement:
    """An account over a span of time: opening balance + the sum of its lines = closing balance, in minor units."""

    opening_minor: int
    closing_minor: int
    first_sequence: int
    """The sequence of the first entry in the span; above `last_sequence` when there is none."""
    last_sequence: int


async def sequence_at(store: Store, account: Account, at: datetime, *, inclusive: bool = True) -> int:
    """How many entries the account had at that time; with `inclusive=False`, just before it."""
    low, high = 0, account.sequence
    while low < high:
        middle = (low + high + 1) // 2
        page = await store.list_transfers(account.id, PageRequest(1, after=middle - 1, newest_first=False))
        entry = page.items[0].entry
        if entry.at < at or (inclusive and entry.at == at):
            low = middle
        else:
            high = middle - 1
    return low


async def balance_after(store: Store, account: Account, sequence: int) -> int:
    """The posted balance right after the entry of that sequence, in minor units; 0 before the first."""
    if sequence == 0:
        return 0
    page = await store.list_transfers(account.id, PageRequest(1, after=sequence - 1, newest_first=False))
    return page.items[0].entry.balance_minor


async def balance_at(store: Store, account: Account, at: datetime) -> int:
    """The posted balance at a time, in minor units."""
    return await balance_after(store, account, await sequence_at(store, account, at))


async def newest_lines(
    store: Store, account_id: AccountId, transfer_ids: Collection[TransferId]
) -> tuple[HistoryLine, ...] | None:
    """The lines of some transfers that were made just now, newest first, in one read. Raises Unavailable.

    None if one of them is not among the newest `PAGE_MAX` lines.
    """
    page = await store.list_transfers(account_id, PageRequest(PAGE_MAX))
    lines = tuple(line for line in page.items if line.transfer.id in transfer_ids)
    return lines if len(lines) == len(transfer_ids) else None


async def statement(store: Store, account: Account, since: datetime, until: datetime) -> Statement:
    """The account from `since` (inclusive) to `until` (exclusive)."""
    first = await sequence_at(store, account, since, inclusive=False)
    last = await sequence_at(store, account, until, inclusive=False)
    opening, closing = await balance_after(store, account, first), await balance_after(store, account, last)
    return Statement(opening, closing, first + 1, last)


async def page_of_history(
    store: Store, account: Account, limit: int, *, before: int | None = None, where: HistoryFilter = EVERYTHING
) -> HistoryPage:
    """Up to `limit` lines below the sequence `before` that `where` keeps, newest first; reads `EXAMINED_MAX` at most.

    `before` defaults to the account's newest entry, which is then included. Raises Unavailable.
    """
    place = None if before is None else {account.id: before}
    page = await page_of_histories(store, (account,), limit, place=place, where=where)
    below = None if page.goes_on is None else page.goes_on[account.id]
    return HistoryPage(tuple(line for line, _ in page.lines), below)


async def page_of_histories(
    store: Store,
    accounts: Sequence[Account],
    limit: int,
    *,
    place: Place | None = None,
    where: HistoryFilter = EVERYTHING,
    backward: bool = False,
) -> MergedPage:
    """Up to `limit` of the lines of all accounts that `where` keeps, newest first; reads `EXAMINED_MAX` at most.

    They are those behind the line at `place`, or the newest. With `backward` they are those in front of it, or the
    oldest. Raises Unavailable.
    """
    chunk = PAGE_MAX if where.selects else -(-limit // max(len(accounts), 1))
    made = (_Part.of(store, account, chunk, place, where, backward=backward) for account in accounts)
    parts = await asyncio.gather(*made)
    choose, kept, goes_on = min if backward else max, list[tuple[HistoryLine, Place]](), None
    for _ in range(EXAMINED_MAX):
        await asyncio.gather(*(part.fill(store) for part in parts if not part.lines and part.has_more))
        nearest = choose((part for part in parts if part.lines), key=_Part.time_of_next, default=None)
        if nearest is None:
            break
        line = nearest.take()
        goes_on = _place(nearest, parts)
        if where.keeps(line):
            kept.append((line, goes_on))
        if len(kept) == limit:
            break
    more = goes_on if any(part.has_more for part in parts) else None
    return MergedPage(tuple(reversed(kept) if backward else kept), more)


@dataclass(slots=True)
class _Part:
    """What a page has not taken yet of one account: the lines above `floor` and below `top`."""

    account: Account
    lowest: int
    """What `floor` is at least: `since`."""
    floor: int
    top: int
    chunk: int
    """How many lines to read next. It doubles, so that few reads fetch few lines too many."""
    backward: bool
    """Whether the oldest line is taken first."""
    lines: deque[HistoryLine] = field(default_factory=deque)
    """Those that were read already."""

    @classmethod
    async def of(
        cls, store: Store, account: Account, chunk: int, place: Place | None, where: HistoryFilter, *, backward: bool
    ) -> _Part:
        """An account's part of a page, before anything is read but what `since` and `until` need."""
        top, floor = account.sequence + 1, 0
        if where.until is not None:
            top = await sequence_at(store, account, where.until, inclusive=False) + 1
        if where.since is not None:
            floor = await sequence_at(store, account, where.since, inclusive=False)
        part = cls(account, floor, floor, top, chunk, backward)
        if place is not None:
            below = place.get(account.id, 1)
            if backward:
                is_own = account.id == next(iter(place), None)
                part.floor = max(floor, below if is_own else below - 1)
            else:
                part.top = min(top, below)
        return part

    @property
    def has_more(self) -> bool:
        """Whether there are lines left."""
        return self.top > self.floor + 1

    @property
    def below(self) -> int:
        """Below which sequence the lines are that are older than all that was taken, or than all that is left."""
        return self.floor + 1 if self.backward else self.top

    def time_of_next(self) -> tuple[datetime, AccountId]:
        """The order of lines: by time; those of one time by account."""
        return self.lines[0].entry.at, self.account.id

    async def fill(self, store: Store) -> None:
        """Read the next lines."""
        size = min(self.chunk, PAGE_MAX)
        reach = PageRequest(size, before=self.top, after=self.floor, newest_first=not self.backward)
        page = await store.list_transfers(self.account.id, reach)
        self.chunk = size * 2
        self.lines.extend(page.items)
        if not page.items:  # a store behind its accounts: end here, or this would go on for ever
            self.top = self.floor + 1

    def take(self) -> HistoryLine:
        """The nearest line that is left."""
        line = self.lines.popleft()
        if self.backward:
            self.floor = line.entry.sequence
        else:
            self.top = line.entry.sequence
        return line


def _place(own: _Part, parts: Sequence[_Part]) -> Place:
    """The place of the line that was just taken of `own`."""
    sequence = own.floor if own.backward else own.top
    others = {part.account.id: part.below for part in parts if part is not own and part.below > part.lowest + 1}
    return {own.account.id: sequence, **others}
