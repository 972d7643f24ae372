"""The tables of one node of `memory://`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable
from typing import Any

from ..domain.changes import State, Writes
from ..domain.errors import InvariantViolated
from ..domain.ids import AccountId, HoldId, TransferId, UserId
from ..domain.model import (
    Account,
    Entry,
    Hold,
    HoldState,
    PendingCredit,
    Receipt,
    Record,
    RecordKey,
    SystemEntry,
    Transfer,
)
from ..storage import JournalItem, ScanKind
from .kit.wanted import Wanted


class MemoryNode:
    """One node's tables."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.accounts: dict[AccountId, Account] = {}
        self.wallets: dict[UserId, list[AccountId]] = {}
        self.holds: dict[HoldId, Hold] = {}
        self.open_holds: dict[AccountId, dict[HoldId, Hold]] = {}
        self.transfers: dict[TransferId, Transfer] = {}
        self.reversed_minor: dict[TransferId, int] = {}
        self.entries: dict[AccountId, list[Entry]] = {}
        self.entries_of: dict[TransferId, list[Entry]] = {}
        self.system_entries_of: dict[TransferId, list[SystemEntry]] = {}
        self.receipts: dict[tuple[int, str, str], Receipt] = {}
        self.records: dict[RecordKey, Record] = {}
        self.pending: dict[TransferId, PendingCredit] = {}
        """In the order in which they arrived."""

    def pending_of(self, accounts: Collection[AccountId]) -> list[PendingCredit]:
        """The pending credits of some accounts."""
        return [credit for credit in self.pending.values() if credit.account_id in accounts]

    def load(self, state: State, wanted: Wanted) -> None:
        """Load what is wanted and stored on this node into the state."""
        for account_id in wanted.accounts | wanted.credits:
            if account_id in self.accounts:
                state.load_account(self.accounts[account_id])
        for owner in wanted.wallets:
            if owner in self.wallets or owner not in state.wallets:
                state.load_wallet(owner, [self.accounts[i] for i in self.wallets.get(owner, ())])
        for account_id in wanted.accounts:
            for hold in self.open_holds.get(account_id, {}).values():
                if wanted.open_holds or (wanted.due_at is not None and hold.is_due(wanted.due_at)):
                    state.load_hold(hold)
        for hold_id in wanted.holds & self.holds.keys():
            state.load_hold(self.holds[hold_id])
        for transfer_id in wanted.transfers & self.transfers.keys():
            state.load_transfer(self.transfers[transfer_id], self.reversed_minor.get(transfer_id, 0))
        for name in wanted.receipts & self.receipts.keys():
            state.load_receipt(self.receipts[name])
        for key in wanted.records & self.records.keys():
            state.load_record(self.records[key])

    def check(self, writes: Writes) -> None:
        """Do what unique keys do in a database: refuse a second insert. Raises InvariantViolated."""
        if writes.opened:
            self._check_opened(writes)
        for table, keys in (
            (self.accounts, [account.id for account in writes.opened]),
            (self.transfers, [transfer.id for transfer in writes.transfers]),
            (self.holds, [hold.id for hold in writes.placed]),
            (self.receipts, [(r.slot, r.actor, r.key) for r in writes.receipts]),
            (self._entered(writes), [(entry.transfer_id, entry.account_id) for entry in writes.entries]),
            (self.records, [key for key, (before, _) in writes.records.items() if before is None]),
        ):
            _once(len(set(keys)) == len(keys) and not any(key in table for key in keys), keys)

    def _entered(self, writes: Writes) -> set[tuple[TransferId, AccountId]]:
        """Which accounts the transfers to be entered have entered before."""
        names = {entry.transfer_id for entry in writes.entries}
        return {(name, entry.account_id) for name in names for entry in self.entries_of.get(name, ())}

    def _check_opened(self, writes: Writes) -> None:
        """No owner has two accounts in a currency that are not closed."""
        owners = {account.owner for account in writes.opened}
        accounts = {i: self.accounts[i] for owner in owners for i in self.wallets.get(owner, ())}
        accounts |= {i: after for i, (_, after) in writes.accounts.items() if i in accounts}
        in_use = [(a.owner, a.currency) for a in (*accounts.values(), *writes.opened) if not a.is_closed]
        _once(len(set(in_use)) == len(in_use), in_use)

    def write(self, writes: Writes) -> None:
        """Write all of a commit; `check` has passed."""
        self.accounts.update((account_id, after) for account_id, (_, after) in writes.accounts.items())
        self.pending.update((credit.transfer_id, credit) for credit in writes.pending)
        for credit in writes.received:
            del self.pending[credit.transfer_id]
        for account in writes.opened:
            self.put_account(account)
        for transfer in writes.transfers:
            self.put_transfer(transfer)
        for entry in writes.entries:
            self.put_entry(entry)
        for line in writes.system_entries:
            self.system_entries_of.setdefault(line.transfer_id, []).append(line)
        for hold in (*writes.placed, *writes.closed):
            self.put_hold(hold)
        self.receipts.update(((r.slot, r.actor, r.key), r) for r in writes.receipts)
        for key, (_, record) in writes.records.items():
            if record is None:
                self.records.pop(key, None)
            else:
                self.records[key] = record

    def put_account(self, account: Account) -> None:
        """Add a new account."""
        self.accounts[account.id] = account
        self.entries[account.id] = []
        self.wallets.setdefault(account.owner, []).append(account.id)

    def put_entry(self, entry: Entry) -> None:
        """Add an entry at its sequence. Raises InvariantViolated if the sequence is taken."""
        entries = self.entries[entry.account_id]
        if not entries or entries[-1].sequence < entry.sequence:
            entries.append(entry)
        else:  # of an import
            place = bisect_left(entries, entry.sequence, key=lambda known: known.sequence)
            _once(entries[place].sequence != entry.sequence, entry)
            entries.insert(place, entry)
        self.entries_of.setdefault(entry.transfer_id, []).append(entry)

    def put_transfer(self, transfer: Transfer) -> None:
        """Add a transfer; a reversal also counts towards the transfer that it reverses."""
        self.transfers[transfer.id] = transfer
        if transfer.reverses is not None:
            before = self.reversed_minor.get(transfer.reverses, 0)
            self.reversed_minor[transfer.reverses] = before + transfer.amount_minor

    def put_hold(self, hold: Hold) -> None:
        """Add or replace a hold."""
        self.holds[hold.id] = hold
        still_open = self.open_holds.setdefault(hold.account_id, {})
        if hold.state is HoldState.OPEN:
            still_open[hold.id] = hold
        else:
            still_open.pop(hold.id, None)

    def all(self, kind: ScanKind) -> Iterable[tuple[object, Any]]:
        """Everything of a kind with its key. For a journal, these are the transfers."""
        tables: dict[ScanKind, Iterable[tuple[object, Any]]] = {
            "account": self.accounts.items(),
            "hold": self.holds.items(),
            "receipt": self.receipts.items(),
            "record": self.records.items(),
        }
        return tables[kind] if kind in tables else ((t.id, t) for t in self.transfers.values())

    def journal(self, transfer: Transfer) -> JournalItem:
        """A transfer with its entries on this node."""
        entries, lines = self.entries_of.get(transfer.id, ()), self.system_entries_of.get(transfer.id, ())
        pending = self.pending.get(transfer.id)
        return JournalItem(self.name, transfer, tuple(entries), tuple(lines), (pending,) if pending else ())


def _once(new: bool, item: object) -> None:  # noqa: FBT001 - reads as an assertion
    if not new:
        raise InvariantViolated(f"imported twice: {item}")
