"""Everything of a user that can change, as it is at one moment: accounts, holds, top-ups, withdrawals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final

from ..domain.changes import ReadSet
from ..domain.frozen import frozen
from ..domain.ids import AccountId, HoldId, UserId
from ..domain.model import Account, Hold, HoldState
from ..domain.topups import TOP_UP, TopUp
from ..domain.withdrawals import WITHDRAWAL, Withdrawal
from ..storage import PAGE_MAX, HistoryLine, PageRequest, Store
from .hold_lists import holds_of, state_at
from .ledger import Ledger

FLOWS_MAX: Final = 20
"""How many top-ups, and how many withdrawals, are looked at: the newest."""


@frozen
class Whole:
    """A user's accounts, holds, top-ups and withdrawals at the time `at`, by their ids."""

    at: datetime
    accounts: Mapping[str, Account]
    holds: Mapping[str, Hold]
    top_ups: Mapping[str, TopUp]
    withdrawals: Mapping[str, Withdrawal]

    @property
    def open_holds(self) -> frozenset[HoldId]:
        """The holds that are still to be closed."""
        return frozenset(hold.id for hold in self.holds.values() if state_at(hold, self.at) is HoldState.OPEN)

    def since(self, before: Whole) -> Whole:
        """What is new or different here."""
        return Whole(
            self.at,
            _changed(self.accounts, before.accounts, lambda account: account),
            {
                name: hold
                for name, hold in self.holds.items()
                if name not in before.holds or state_at(hold, self.at) is not state_at(before.holds[name], before.at)
            },
            _changed(self.top_ups, before.top_ups, _shown_top_up),
            _changed(self.withdrawals, before.withdrawals, _shown_withdrawal),
        )

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.accounts or self.holds or self.top_ups or self.withdrawals)


async def whole_of(ledger: Ledger, owner: UserId, watched: Collection[HoldId] | None = None) -> Whole:
    """A user's whole state: of holds the newest hundred and those in `watched`. Raises Unavailable.

    Without `watched` these are the newest hundred that are open, of the newest 2,000.
    """
    store, now = ledger.store, ledger.clock()
    accounts, holds, older, top_ups, withdrawals = await asyncio.gather(
        ledger.accounts(owner),
        holds_of(store, owner, PAGE_MAX, now),
        _named(store, owner, now, watched),
        store.list_records(TOP_UP, owner, limit=FLOWS_MAX, descending=True),
        store.list_records(WITHDRAWAL, owner, limit=FLOWS_MAX, descending=True),
    )
    return Whole(
        now,
        {account.id: account for account in accounts},
        {hold.id: hold for hold in (*older, *holds.holds)},
        {record.id: TopUp.from_record(record) for record in top_ups.items},
        {record.id: Withdrawal.from_record(record) for record in withdrawals.items},
    )


async def _named(store: Store, owner: UserId, now: datetime, watched: Collection[HoldId] | None) -> list[Hold]:
    if watched is None:
        return list((await holds_of(store, owner, PAGE_MAX, now, states=(HoldState.OPEN,))).holds)
    if not watched:
        return []
    found = await store.fetch(ReadSet(holds=tuple(watched)))
    return [hold for hold in map(found.hold, watched) if hold is not None]


async def lines_above(store: Store, account: Account, sequence: int) -> tuple[HistoryLine, ...]:
    """The oldest hundred lines above a sequence, as far as `account` has them, oldest first. Raises Unavailable."""
    if account.sequence <= sequence:
        return ()
    page = PageRequest(PAGE_MAX, before=account.sequence + 1, after=sequence, newest_first=False)
    return (await store.list_transfers(AccountId(account.id), page)).items


def _changed(after: Mapping[str, Any], before: Mapping[str, Any], shown: Callable[[Any], object]) -> dict[str, Any]:
    """The items of which something shown is new."""
    return {name: one for name, one in after.items() if name not in before or shown(one) != shown(before[name])}


def _shown_top_up(top_up: TopUp) -> object:
    """What clients see change: not when it is looked at next."""
    return top_up.state, top_up.reason, top_up.taken_back_minor, top_up.transfer_id


def _shown_withdrawal(withdrawal: Withdrawal) -> object:
    return withdrawal.state, withdrawal.reason, withdrawal.transfer_id
