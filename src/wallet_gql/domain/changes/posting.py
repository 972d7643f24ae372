"""The one place that posts money."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from ..errors import Contended, InvariantViolated, WalletError
from ..ids import AccountId, HoldId, TransferId, actor_slot, clearing_account, is_system, slot_of
from ..model import (
    MICROSECOND,
    Account,
    Entry,
    Hold,
    HoldState,
    Receipt,
    Record,
    RecordKey,
    SystemEntry,
    Transfer,
)
from .scope import Changes, Credit, Done, Failed, Outcome, Scope, Unreceived
from .snapshot import Decide, Snapshot
from .state import State, apply_entry, credit_peer

_NO_PEERS: Final[frozenset[str]] = frozenset()


class _Posting:
    """One command's changes on top of a state, not added to it until all of them have been checked."""

    def __init__(self, state: State, scope: Scope) -> None:
        self.state = state
        self.scope = scope
        self.accounts: dict[AccountId, Account] = {}
        self.holds: dict[HoldId, Hold] = {}
        self.transfers: dict[TransferId, Transfer] = {}
        self.receipts: dict[tuple[int, str, str], Receipt] = {}
        self.records: dict[RecordKey, Record | None] = {}
        self.entries: list[Entry] = []
        self.system_entries: list[SystemEntry] = []
        self.credits: list[Credit] = []

    def run(self, changes: Changes) -> None:
        for account in changes.opened:
            self._open(account)
        for account_id, status in changes.statuses:
            self._change(self._own(account_id), status=status)
        for hold in changes.closed:
            self._release(hold)
        for transfer in changes.transfers:
            self._transfer(transfer)
        for hold in changes.placed:
            self._hold(hold)
        for receipt in changes.receipts:
            self._receipt(receipt)
        for record in changes.records:
            self._record(record)
        for key in changes.removed:
            self._remove(key)

    def keep(self, changes: Changes) -> None:
        state, writes = self.state, self.state.writes
        for account in changes.opened:
            state.accounts[account.id] = account
            state.wallets[account.owner].append(account.id)
            writes.opened.append(account)
        for account in self.accounts.values():
            if account is not state.accounts[account.id]:
                state.store_account(account)
        writes.entries += self.entries
        writes.system_entries += self.system_entries
        writes.credits += self.credits
        for transfer in self.transfers.values():
            state.load_transfer(transfer, 0)
            if transfer.reverses is not None:
                state.reversed_minor[transfer.reverses] += transfer.amount_minor
        writes.transfers += changes.transfers
        for hold in self.holds.values():
            state.load_hold(hold)
        writes.placed += changes.placed
        writes.closed += changes.closed
        for receipt in self.receipts.values():
            state.load_receipt(receipt)
        writes.receipts += changes.receipts
        for key, record in self.records.items():
            state.store_record(key, record)

    def _broken(self, message: str) -> InvariantViolated:
        return InvariantViolated(f"a command of slot {self.scope.home} {message}")

    def _check(self, sound: bool, message: str, *values: object) -> None:  # noqa: FBT001 - reads as an assertion
        """A check for paths that no payment takes; those have it inline, as a call costs more than the check."""
        if not sound:
            raise self._broken(message.format(*values))

    def _own(self, account_id: AccountId) -> Account:
        """The current account, if the scope allows writing it."""
        account = self.accounts.get(account_id) or self.state.accounts.get(account_id)
        if account is None or not (account_id in self.scope.accounts or account.owner in self.scope.wallets):
            raise self._broken(f"writes account {account_id} outside its scope")
        return account

    def _put(self, account: Account) -> None:
        self.accounts[account.id] = account

    def _change(self, account: Account, **values: Any) -> None:
        """A change without an entry: the account's version grows all the same."""
        self._put(replace(account, changed_at=account.changed_at + MICROSECOND, **values))

    def _open(self, account: Account) -> None:
        others = self.state.wallets.get(account.owner)
        seen = others is not None and account.owner in self.scope.wallets
        self._check(seen, "opens an account of {} unseen", account.owner)
        assert others is not None
        new = account.id not in self.state.accounts and account.id not in self.accounts
        self._check(new, "opens account {} again", account.id)
        known = [self.state.accounts[other] for other in others] + list(self.accounts.values())
        clash = any(other.currency == account.currency and not other.is_closed for other in known)
        self._check(not clash, "opens a second {} account", account.currency)
        blank = (account.posted_minor, account.held_minor, account.sequence) == (0, 0, 0)
        self._check(blank and account.slot == self.scope.home, "opens {} not at zero or abroad", account.id)
        self._put(account)

    def _transfer(self, transfer: Transfer) -> None:
        if slot_of(transfer.id) != self.scope.home:
            raise self._broken(f"leads transfer {transfer.id} of another slot")
        if transfer.id in self.state.transfers or transfer.id in self.transfers:
            raise self._broken(f"repeats transfer {transfer.id}")
        self.transfers[transfer.id] = transfer
        if transfer.reverses is not None and transfer.reverses not in self.state.transfers:
            raise self._broken(f"reverses {transfer.reverses} unseen")
        for account_id, amount_minor in transfer.legs():
            if is_system(account_id):
                self.system_entries.append(SystemEntry(account_id, transfer.id, amount_minor, transfer.at))
            elif amount_minor < 0:
                self._enter(self._own(account_id), transfer, amount_minor)
            else:
                self._credit(account_id, transfer, amount_minor)

    def _enter(self, account: Account, transfer: Transfer, amount_minor: int) -> None:
        if account.currency != transfer.currency:
            raise self._broken(f"enters {transfer.currency} on {account}")
        after, entry = apply_entry(account, transfer.id, transfer.at, amount_minor)
        self._put(after)
        self.entries.append(entry)

    def _credit(self, account_id: AccountId, transfer: Transfer, amount_minor: int) -> None:
        if account_id not in self.scope.credits and account_id not in self.scope.accounts:
            raise self._broken(f"credits {account_id} outside its scope")
        peer = self.state.peer_of(slot_of(account_id))
        if peer is None:
            account = self.accounts.get(account_id) or self.state.accounts.get(account_id)
            if account is None:
                raise self._broken(f"credits the absent account {account_id}")
            self._enter(account, transfer, amount_minor)
            return
        facts = self.state.facts.get(account_id)
        self._check(facts is not None and facts.currency == transfer.currency, "credits {} unseen", account_id)
        clearing = clearing_account(peer, transfer.currency)
        self.system_entries.append(SystemEntry(clearing, transfer.id, amount_minor, transfer.at))
        self.credits.append(Credit(account_id, amount_minor, transfer, self.state.node))

    def _hold(self, hold: Hold) -> None:
        new = hold.id not in self.state.holds and hold.id not in self.holds and slot_of(hold.id) == self.scope.home
        self._check(new and hold.state is HoldState.OPEN, "places hold {} twice or abroad", hold.id)
        self.holds[hold.id] = hold
        account = self._own(hold.account_id)
        self._check(account.currency == hold.currency, "holds {} on {}", hold.currency, account)
        self._change(account, held_minor=account.held_minor + hold.amount_minor)

    def _release(self, hold: Hold) -> None:
        current = self.holds.get(hold.id) or self.state.holds.get(hold.id)
        still_open = current is not None and current.state is HoldState.OPEN and hold.state is not HoldState.OPEN
        self._check(still_open, "closes hold {}, which is not open", hold.id)
        assert current is not None
        closing = (hold.state, hold.captured_minor, hold.closed_at, hold.transfer_id)
        names = ("state", "captured_minor", "closed_at", "transfer_id")
        as_placed = replace(current, **dict(zip(names, closing, strict=True))) == hold  # type: ignore[arg-type]  # its own
        self._check(as_placed, "closes hold {} as another than was placed", hold.id)
        self.holds[hold.id] = hold
        account = self._own(hold.account_id)
        self._change(account, held_minor=account.held_minor - hold.amount_minor)

    def _receipt(self, receipt: Receipt) -> None:
        key = (receipt.slot, receipt.actor, receipt.key)
        if receipt.slot != self.scope.home or (receipt.actor, receipt.key) not in self.scope.receipts:
            raise self._broken(f"stores receipt {key} outside its scope")
        if key in self.state.receipts or key in self.receipts:
            raise self._broken(f"stores receipt {key} twice")
        self.receipts[key] = receipt
        if receipt.leader is not None and actor_slot(receipt.actor) != receipt.slot:
            raise self._broken(f"claims key {key} away from the actor's home")

    def _record(self, record: Record) -> None:
        current = self.records.get(record.key, self.state.records.get(record.key))
        follows = record.version == record.after(current).version
        scoped = record.slot == self.scope.home and record.key in self.scope.records
        self._check(scoped and follows, "writes record {} outside its scope or over a newer version", record.key)
        self.records[record.key] = record

    def _remove(self, key: RecordKey) -> None:
        current = self.records.get(key, self.state.records.get(key))
        scoped = key.slot == self.scope.home and key in self.scope.records
        self._check(scoped and current is not None, "removes record {}, which it did not see", key)
        self.records[key] = None


def post(state: State, scope: Scope, changes: Changes) -> frozenset[str]:
    """Check one command's changes, add them to the state and to its `writes`; return the peers it credits.

    Raises:
        InvariantViolated: a promise would be broken; then nothing of `changes` was added.
    """
    posting = _Posting(state, scope)
    posting.run(changes)
    posting.keep(changes)
    return frozenset([credit_peer(state, credit) for credit in posting.credits]) if posting.credits else _NO_PEERS


class Trial:
    """One command that decides in several steps, each on the result of those before. Nothing of it is stored."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Start from what the command's snapshot shows."""
        scope = snapshot._scope  # noqa: SLF001 - the two classes belong together
        if not isinstance(scope, Scope):
            raise InvariantViolated("a command is tried on what a read has loaded")
        self._state = snapshot._state.fork()  # noqa: SLF001 - the two classes belong together
        self._scope = scope

    @property
    def snapshot(self) -> Snapshot:
        """What the next step sees."""
        return Snapshot(self._state, self._scope)

    def post(self, changes: Changes) -> None:
        """Apply a step's changes. Raises InvariantViolated as `post` would."""
        post(self._state, self._scope, changes)


def decide_all(state: State, commands: Iterable[tuple[Scope, Decide[Any]]]) -> list[Outcome]:
    """Run decisions in order over one growing state. An exception is that decision's outcome; the others go on."""
    outcomes: list[Outcome] = []
    for scope, decide in commands:
        if state.backlog and state.awaits(scope):
            outcomes.append(Unreceived(Contended("credits have to be received first")))
            continue
        try:
            decision = decide(Snapshot(state, scope))
            peers = post(state, scope, decision.changes)
            changed = state.writes.accounts
            accounts = tuple([state.accounts[name] for name in scope.accounts if name in changed]) if changed else ()
            outcomes.append(Done(decision.result, peers, accounts))
        except WalletError as error:
            outcomes.append(Failed(error))
        except Exception as error:  # noqa: BLE001 - a bug in one decision must not fail the batch
            outcomes.append(Failed(error))
    return outcomes
