"""The working set of one commit: what a backend has loaded, growing as decisions are posted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from ..errors import InvariantViolated
from ..ids import AccountId, HoldId, TransferId, UserId, clearing_account, slot_of
from ..model import (
    Account,
    AccountFacts,
    Entry,
    Hold,
    PendingCredit,
    Receipt,
    Record,
    RecordKey,
    SystemEntry,
    Transfer,
)
from ..money import BALANCE_MAX_MINOR
from .scope import Credit, Scope


@dataclass(slots=True)
class Writes:
    """What a backend has to write at one commit.

    `accounts` and `records` map to (as loaded, as to be written); None means absent. `opened` has new accounts. Write
    `accounts` before `opened`: a commit may close an account so that another one can be opened.
    """

    opened: list[Account] = field(default_factory=list)
    accounts: dict[AccountId, tuple[Account, Account]] = field(default_factory=dict)
    transfers: list[Transfer] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    system_entries: list[SystemEntry] = field(default_factory=list)
    placed: list[Hold] = field(default_factory=list)
    closed: list[Hold] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    records: dict[RecordKey, tuple[Record | None, Record | None]] = field(default_factory=dict)
    credits: list[Credit] = field(default_factory=list)
    """Credits for other nodes; the leader never applies them itself."""
    pending: list[PendingCredit] = field(default_factory=list)
    """Credits from other nodes that arrive on this one."""
    received: list[PendingCredit] = field(default_factory=list)
    """Credits that are pending no more: `entries` has an entry for each."""

    def __bool__(self) -> bool:
        """Whether there is anything to commit."""
        return any(map(self.__getattribute__, self.__slots__))


class State:
    """The records of one commit on one node, growing as decisions are posted."""

    def __init__(self, node: str, peer_of: Callable[[int], str | None]) -> None:
        """`peer_of(slot)` is None for a slot of this node, else the name of the slot's home node."""
        self.node = node
        self.peer_of = peer_of
        self.accounts: dict[AccountId, Account] = {}
        self.facts: dict[AccountId, AccountFacts] = {}
        self.wallets: dict[UserId, list[AccountId]] = {}
        self.holds: dict[HoldId, Hold] = {}
        self.holds_of: dict[AccountId, set[HoldId]] = {}
        self.transfers: dict[TransferId, Transfer] = {}
        self.reversed_minor: dict[TransferId, int] = {}
        self.receipts: dict[tuple[int, str, str], Receipt] = {}
        self.records: dict[RecordKey, Record] = {}
        self.pending: dict[AccountId, tuple[int, int]] = {}
        """The sum and the number of the pending credits, by account, where nothing is received; none is zero."""
        self.backlog: set[AccountId] = set()
        """The accounts that have more to receive than this commit receives."""

    @cached_property
    def writes(self) -> Writes:
        """What the decisions change; made when the first one does, for most states are only read."""
        return Writes()

    def load_account(self, account: Account) -> None:
        """Add an account that the store has read and isolated for this batch."""
        self.accounts[account.id] = account

    def load_wallet(self, owner: UserId, accounts: Iterable[Account]) -> None:
        """Add all accounts of one user."""
        ordered = sorted(accounts, key=lambda account: account.id)
        self.wallets[owner] = [account.id for account in ordered]
        self.accounts.update((account.id, account) for account in ordered)

    def load_hold(self, hold: Hold) -> None:
        """Add a hold, also to the list of its account."""
        self.holds[hold.id] = hold
        self.holds_of.setdefault(hold.account_id, set()).add(hold.id)

    def load_transfer(self, transfer: Transfer, reversed_minor: int) -> None:
        """Add a transfer header with the sum of its reversals so far."""
        self.transfers[transfer.id] = transfer
        self.reversed_minor[transfer.id] = reversed_minor

    def load_receipt(self, receipt: Receipt) -> None:
        """Add a receipt."""
        self.receipts[receipt.slot, receipt.actor, receipt.key] = receipt

    def load_record(self, record: Record) -> None:
        """Add a record."""
        self.records[record.key] = record

    def fork(self) -> State:
        """A copy to try changes on, without effect on this state."""
        copy = State(self.node, self.peer_of)
        copy.accounts, copy.facts, copy.holds = dict(self.accounts), dict(self.facts), dict(self.holds)
        copy.wallets = {owner: list(accounts) for owner, accounts in self.wallets.items()}
        copy.holds_of = {account_id: set(holds) for account_id, holds in self.holds_of.items()}
        copy.transfers, copy.reversed_minor = dict(self.transfers), dict(self.reversed_minor)
        copy.receipts, copy.records = dict(self.receipts), dict(self.records)
        return copy

    def receive(self, credit: Credit) -> None:
        """Apply a credit from another node at once: the payee's entry, against the clearing account of the sender.

        Raises:
            InvariantViolated: the account is not on this node. A credit never opens an account.
        """
        account = self.accounts.get(credit.account_id)
        if account is None:
            raise InvariantViolated(f"node {self.node} has no account {credit.account_id} to credit")
        transfer = credit.transfer
        after, entry = apply_entry(account, transfer.id, transfer.at, credit.amount_minor)
        self.writes.entries.append(entry)
        self._bring(credit)
        self.store_account(after)

    def pend(self, credit: Credit) -> None:
        """Take in a credit from another node without its account, as a pending credit."""
        transfer = credit.transfer
        self.writes.pending.append(PendingCredit(credit.account_id, transfer.id, credit.amount_minor, transfer.at))
        self._bring(credit)

    def _bring(self, credit: Credit) -> None:
        """The credit's header and its line on the sender's clearing account."""
        transfer = credit.transfer
        clearing = clearing_account(credit.leader, transfer.currency)
        self.writes.system_entries.append(SystemEntry(clearing, transfer.id, -credit.amount_minor, transfer.at))
        self.writes.transfers.append(transfer)

    def receive_pending(self, pending: Iterable[PendingCredit], backlog: Iterable[AccountId] = ()) -> None:
        """Give pending credits of isolated accounts their entries, in the given order.

        `backlog` names the accounts that have more of them: no command is decided on these before the rest is received.
        Credits that the account has no room for must not count as more, as they are never received.
        """
        self.backlog.update(backlog)
        for credit in pending:
            if not self.has_room(credit):
                continue
            account = self.accounts[credit.account_id]
            after, entry = apply_entry(account, credit.transfer_id, credit.at, credit.amount_minor)
            self.writes.entries.append(entry)
            self.writes.received.append(credit)
            self.store_account(after)

    def has_room(self, credit: PendingCredit) -> bool:
        """Whether the account's balance would stay within 64 bits. If not, the credit stays pending."""
        return self.accounts[credit.account_id].posted_minor + credit.amount_minor <= BALANCE_MAX_MINOR

    def awaits(self, scope: Scope) -> bool:
        """Whether an account that the command names has a backlog of pending credits."""
        owned = (account_id for owner in scope.wallets for account_id in self.wallets.get(owner, ()))
        return not self.backlog.isdisjoint((*scope.accounts, *scope.credits, *owned))

    def seen(self, account: Account) -> Account:
        """The account as reads see it: pending credits are part of its balance."""
        pending = self.pending.get(account.id)
        return account if pending is None else account.with_pending(*pending)

    def store_account(self, after: Account) -> None:
        """Store the account's new values, and keep what was loaded unless this commit opens it."""
        opened = self.writes.opened
        for place, account in enumerate(opened):
            if account.id == after.id:
                opened[place] = after
                break
        else:
            before = self.writes.accounts.get(after.id)
            self.writes.accounts[after.id] = (before[0] if before else self.accounts[after.id], after)
        self.accounts[after.id] = after

    def store_record(self, key: RecordKey, after: Record | None) -> None:
        """Store a record's new value (None: removed), and keep what was loaded."""
        before = self.writes.records.get(key)
        self.writes.records[key] = (before[0] if before else self.records.get(key), after)
        if after is None:
            self.records.pop(key, None)
        else:
            self.records[key] = after


def credit_peer(state: State, credit: Credit) -> str:
    """The node that a credit is for."""
    peer = state.peer_of(slot_of(credit.account_id))
    assert peer is not None
    return peer


def apply_entry(account: Account, transfer_id: TransferId, at: datetime, amount_minor: int) -> tuple[Account, Entry]:
    """One entry on one account: the next sequence, the new balance, a time that never goes back."""
    at = max(at, account.changed_at)
    sequence, balance_minor = account.sequence + 1, account.posted_minor + amount_minor
    names = (account.id, account.owner, account.currency, account.created_at)  # replace() takes twice as long
    after = Account(*names, at, account.status, balance_minor, account.held_minor, sequence)
    return after, Entry(account.id, sequence, transfer_id, amount_minor, balance_minor, at)
