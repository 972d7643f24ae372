"""What a batch has to load: the union of its scopes, its split by node, and the step that puts it into a `State`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import Any, Final

from ...domain.changes import ReadSet, Scope, State
from ...domain.ids import AccountId, HoldId, TransferId, UserId, is_system, slot_of
from ...domain.model import Account, Hold, Receipt, Record, RecordKey, Transfer


@dataclass(slots=True)
class Wanted:
    """The union of several scopes: what one load has to read."""

    accounts: set[AccountId] = field(default_factory=set)
    credits: set[AccountId] = field(default_factory=set)
    wallets: set[UserId] = field(default_factory=set)
    holds: set[HoldId] = field(default_factory=set)
    transfers: set[TransferId] = field(default_factory=set)
    receipts: set[tuple[int, str, str]] = field(default_factory=set)
    records: set[RecordKey] = field(default_factory=set)
    due_at: datetime | None = None
    """Also load, for every account, its open holds that expire at or before this time."""
    open_holds: bool = False
    """Also load, for every account, all its open holds."""

    @classmethod
    def of(cls, scopes: Iterable[ReadSet | Scope]) -> Wanted:
        """Join the scopes of commands, or the read sets of reads."""
        wanted = cls(set(), set(), set(), set(), set(), set(), set())  # a third of the steps of the defaults
        for scope in scopes:
            wanted.accounts.update(scope.accounts)
            wanted.receipts.update(scope.receipt_names)
            if scope.credits:
                wanted.credits.update([account_id for account_id in scope.credits if not is_system(account_id)])
            if scope.wallets or scope.holds or scope.transfers or scope.records:  # a payment names none of these
                wanted.wallets.update(scope.wallets)
                wanted.holds.update(scope.holds)
                wanted.transfers.update(scope.transfers)
                wanted.records.update(scope.records)
            wanted.open_holds |= scope.open_holds
            if scope.due_at is not None and (wanted.due_at is None or scope.due_at > wanted.due_at):
                wanted.due_at = scope.due_at
        return wanted

    def split(self, home: Callable[[int], str]) -> dict[str, Wanted]:
        """Split by node; `home` returns the node of a slot."""
        parts: dict[str, Wanted] = {}
        for name, slot in _SLOTS.items():
            for item in getattr(self, name):
                node = home(slot(item))
                if node not in parts:
                    parts[node] = Wanted(due_at=self.due_at, open_holds=self.open_holds)
                getattr(parts[node], name).add(item)
        return parts


_SLOTS: Final[dict[str, Callable[[Any], int]]] = {
    **dict.fromkeys(("accounts", "credits", "wallets", "holds", "transfers"), slot_of),
    "receipts": itemgetter(0),
    "records": attrgetter("slot"),
}
"""The slot of each wanted item, by the name of the field."""


def load_found(
    state: State,
    wanted: Wanted,
    *,
    accounts: Iterable[Account],
    holds: Iterable[Hold] = (),
    transfers: Iterable[tuple[Transfer, int]] = (),
    receipts: Iterable[Receipt] = (),
    records: Iterable[Record] = (),
) -> None:
    """Put what a backend has found into the state.

    `accounts` are the named accounts and those of the wallets; an account may come twice. Each transfer comes with the
    sum of its reversals.
    """
    owned: dict[UserId, dict[AccountId, Account]] = {owner: {} for owner in wanted.wallets}
    for account in accounts:
        state.load_account(account)
        if account.owner in owned:
            owned[account.owner][account.id] = account
    for owner, mine in owned.items():
        state.load_wallet(owner, mine.values())
    for hold in holds:
        state.load_hold(hold)
    for transfer, reversed_minor in transfers:
        state.load_transfer(transfer, reversed_minor)
    for receipt in receipts:
        state.load_receipt(receipt)
    for record in records:
        state.load_record(record)


def answered(scope: Scope, state: State) -> set[TransferId]:
    """The transfers that receipts of the scope name, whether they were loaded or a command before has written them."""
    receipts = (state.receipts.get((scope.home, actor, key)) for actor, key in scope.receipts)
    return {receipt.transfer_id for receipt in receipts if receipt is not None and receipt.transfer_id is not None}


def command_of(transfer: Transfer) -> tuple[object, ...]:
    """What all transfers of one command have in common, such as those of a payment with splits.

    A receipt names only the first of them.
    """
    return transfer.debit_account_id, transfer.actor, transfer.at
