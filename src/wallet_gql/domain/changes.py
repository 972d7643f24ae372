"""What a command loads (`Scope`, `Snapshot`) and what it writes (`Changes`), and the one place that posts money.

`State` is the working set of one commit: a backend loads it, `decide_all` runs decisions over it, each one seeing what
those before it wrote, and the backend writes `state.writes`. Everything that follows mechanically from a transfer (the
entries, sequences, balances, clearing lines) is computed here, once, and checked here, once:

- a command writes only in its `home` slot, except for the credit of a transfer (I2 of the design);
- the entries of every transfer sum to zero per currency on every node it touches;
- no account goes below what it holds, no hold closes twice, no receipt key is used twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from .errors import InvariantViolated, WalletError
from .ids import AccountId, HoldId, TransferId, UserId, actor_slot, clearing_account, is_system, slot_of
from .model import (
    Account,
    AccountFacts,
    AccountStatus,
    Entry,
    Hold,
    HoldState,
    Receipt,
    Record,
    RecordKey,
    SystemEntry,
    Transfer,
)

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Scope:
    """The records a command decides on. All but `credits` live in the slot `home` and are isolated until the commit.

    `wallets` loads every account of those users. `due_at` also loads the open holds of `accounts` that expire at or
    before that moment; `open_holds` loads all their open holds.
    """

    home: int
    accounts: tuple[AccountId, ...] = ()
    credits: tuple[AccountId, ...] = ()
    wallets: tuple[UserId, ...] = ()
    holds: tuple[HoldId, ...] = ()
    transfers: tuple[TransferId, ...] = ()
    receipts: tuple[tuple[str, str], ...] = ()
    records: tuple[RecordKey, ...] = ()
    due_at: datetime | None = None
    open_holds: bool = False

    def check_home(self) -> None:
        """Raise InvariantViolated if the scope names something to lock outside its home slot."""
        outside = [i for i in (*self.accounts, *self.wallets, *self.holds) if slot_of(i) != self.home]
        outside += [k.id for k in self.records if k.slot != self.home]
        if outside:
            raise InvariantViolated(f"the scope of slot {self.home} names {outside} of other slots")


@dataclass(frozen=True, slots=True)
class Changes:
    """What a command writes. Balances, sequences and entries follow from `transfers`, `placed` and `closed`."""

    opened: tuple[Account, ...] = ()
    statuses: tuple[tuple[AccountId, AccountStatus], ...] = ()
    transfers: tuple[Transfer, ...] = ()
    placed: tuple[Hold, ...] = ()
    closed: tuple[Hold, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    records: tuple[Record, ...] = ()
    removed: tuple[RecordKey, ...] = ()

    def __add__(self, other: Changes) -> Changes:
        """Both together, in order."""
        return Changes(
            self.opened + other.opened,
            self.statuses + other.statuses,
            self.transfers + other.transfers,
            self.placed + other.placed,
            self.closed + other.closed,
            self.receipts + other.receipts,
            self.records + other.records,
            self.removed + other.removed,
        )


@dataclass(frozen=True, slots=True)
class Credit:
    """The one thing that crosses nodes: `amount_minor` for a customer account of another node. It commutes."""

    account_id: AccountId
    amount_minor: int
    transfer: Transfer
    leader: str
    """The name of the node that sends it."""


@dataclass(frozen=True, slots=True)
class Decision(Generic[R]):
    """What a decide function returns: what to write, and the answer for the caller."""

    changes: Changes
    result: R


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """A decision that goes into the commit. `peers` names the nodes its credits still have to reach."""

    result: R
    peers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Failed:
    """A decision that raised: nothing of it is written."""

    error: BaseException


Outcome = Done[Any] | Failed


@dataclass(slots=True)
class Writes:
    """What a backend has to write at one commit.

    `accounts` and `records` map to (as loaded, as it shall be); None is: not there.
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
    """For other nodes; never written by the leader itself."""

    def __bool__(self) -> bool:
        """Whether there is anything to commit."""
        return any(getattr(self, f.name) for f in fields(self))


class State:
    """The records of one commit on one node, growing as decisions are posted."""

    def __init__(self, node: str, peer_of: Callable[[int], str | None]) -> None:
        """`peer_of(slot)` is None for a slot of this node, else the name of the node that homes it."""
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
        self.writes = Writes()

    def load_account(self, account: Account) -> None:
        """Add a full account, as locked."""
        self.accounts[account.id] = account

    def load_wallet(self, owner: UserId, accounts: Iterable[Account]) -> None:
        """Add all accounts of one user."""
        ordered = sorted(accounts, key=lambda account: account.id)
        self.wallets[owner] = [account.id for account in ordered]
        self.accounts.update((account.id, account) for account in ordered)

    def load_hold(self, hold: Hold) -> None:
        """Add a hold, and know it as one of its account's."""
        self.holds[hold.id] = hold
        self.holds_of.setdefault(hold.account_id, set()).add(hold.id)

    def load_transfer(self, transfer: Transfer, reversed_minor: int) -> None:
        """Add a transfer header with the sum of its reversals so far."""
        self.transfers[transfer.id] = transfer
        self.reversed_minor[transfer.id] = reversed_minor

    def load_receipt(self, receipt: Receipt) -> None:
        """Add a receipt."""
        self.receipts[receipt.slot, receipt.actor, receipt.key] = receipt

    def fork(self) -> State:
        """A copy to try changes on; this state does not notice."""
        copy = State(self.node, self.peer_of)
        copy.accounts, copy.facts, copy.holds = dict(self.accounts), dict(self.facts), dict(self.holds)
        copy.wallets = {owner: list(accounts) for owner, accounts in self.wallets.items()}
        copy.holds_of = {account_id: set(holds) for account_id, holds in self.holds_of.items()}
        copy.transfers, copy.reversed_minor = dict(self.transfers), dict(self.reversed_minor)
        copy.receipts, copy.records = dict(self.receipts), dict(self.records)
        return copy

    def post(self, scope: Scope, changes: Changes) -> frozenset[str]:
        """Check one command's changes, add them to the state and to `writes`; return the peers it credits.

        Raises:
            InvariantViolated: a promise would be broken; then nothing of `changes` was added.
        """
        posting = _Posting(self, scope)
        posting.run(changes)
        posting.keep(changes)
        return frozenset(credit_peer(self, credit) for credit in posting.credits)

    def receive(self, credit: Credit) -> None:
        """Apply a credit from another node: the payee's entry, against the clearing account of the sender.

        Raises:
            InvariantViolated: the account is not here. A credit never opens an account.
        """
        account = self.accounts.get(credit.account_id)
        if account is None:
            raise InvariantViolated(f"node {self.node} has no account {credit.account_id} to credit")
        after, entry = _apply(account, credit.transfer, credit.amount_minor)
        clearing = clearing_account(credit.leader, credit.transfer.currency)
        self.writes.entries.append(entry)
        self.writes.system_entries.append(
            SystemEntry(clearing, credit.transfer.id, -credit.amount_minor, credit.transfer.at)
        )
        self.writes.transfers.append(credit.transfer)
        self.store_account(after)

    def store_account(self, after: Account) -> None:
        """Remember the account's new values, and what it was when loaded."""
        before = self.writes.accounts.get(after.id)
        self.writes.accounts[after.id] = (before[0] if before else self.accounts[after.id], after)
        self.accounts[after.id] = after

    def store_record(self, key: RecordKey, after: Record | None) -> None:
        """Remember a record's new value (None: removed), and what it was when loaded."""
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


def _apply(account: Account, transfer: Transfer, amount_minor: int) -> tuple[Account, Entry]:
    """One entry on one account: the next sequence, the new balance, a time that never goes back."""
    at = max(transfer.at, account.changed_at)
    sequence, balance_minor = account.sequence + 1, account.posted_minor + amount_minor
    names = (account.id, account.owner, account.currency, account.created_at)  # replace() takes twice as long
    after = Account(*names, at, account.status, balance_minor, account.held_minor, sequence)
    return after, Entry(account.id, sequence, transfer.id, amount_minor, balance_minor, at)


class _Posting:
    """One command's changes on top of a state, kept aside until all of them are found sound."""

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
            self._put(replace(self._own(account_id), status=status))
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

    def _check(self, sound: bool, message: str, *values: object) -> None:  # noqa: FBT001 - reads as an assertion
        if not sound:
            raise InvariantViolated(f"a command of slot {self.scope.home} {message.format(*values)}")

    def _own(self, account_id: AccountId) -> Account:
        """The current account, if the scope allows to write it."""
        account = self.accounts.get(account_id) or self.state.accounts.get(account_id)
        inside = account_id in self.scope.accounts or (account is not None and account.owner in self.scope.wallets)
        self._check(inside and account is not None, "writes account {} outside its scope", account_id)
        assert account is not None
        return account

    def _put(self, account: Account) -> None:
        self.accounts[account.id] = account

    def _open(self, account: Account) -> None:
        others = self.state.wallets.get(account.owner)
        seen = others is not None and account.owner in self.scope.wallets
        self._check(seen, "opens an account of {} unseen", account.owner)
        assert others is not None
        new = account.id not in self.state.accounts and account.id not in self.accounts
        self._check(new, "opens account {} again", account.id)
        known = [self.state.accounts[other] for other in others] + list(self.accounts.values())
        clash = any(other.currency == account.currency for other in known)
        self._check(not clash, "opens a second {} account", account.currency)
        blank = (account.posted_minor, account.held_minor, account.sequence) == (0, 0, 0)
        self._check(blank and account.slot == self.scope.home, "opens {} not at zero or abroad", account.id)
        self._put(account)

    def _transfer(self, transfer: Transfer) -> None:
        self._check(transfer.slot == self.scope.home, "leads transfer {} of another slot", transfer.id)
        new = transfer.id not in self.state.transfers and transfer.id not in self.transfers
        self._check(new, "repeats transfer {}", transfer.id)
        self.transfers[transfer.id] = transfer
        undone = transfer.reverses
        self._check(undone is None or undone in self.state.transfers, "reverses {} unseen", undone)
        for account_id, amount_minor in transfer.legs():
            if is_system(account_id):
                self.system_entries.append(SystemEntry(account_id, transfer.id, amount_minor, transfer.at))
            elif amount_minor < 0:
                self._enter(self._own(account_id), transfer, amount_minor)
            else:
                self._credit(account_id, transfer, amount_minor)

    def _enter(self, account: Account, transfer: Transfer, amount_minor: int) -> None:
        self._check(account.currency == transfer.currency, "enters {} on {}", transfer.currency, account)
        after, entry = _apply(account, transfer, amount_minor)
        self._put(after)
        self.entries.append(entry)

    def _credit(self, account_id: AccountId, transfer: Transfer, amount_minor: int) -> None:
        scoped = account_id in self.scope.credits or account_id in self.scope.accounts
        self._check(scoped, "credits {} outside its scope", account_id)
        peer = self.state.peer_of(slot_of(account_id))
        if peer is None:
            account = self.accounts.get(account_id) or self.state.accounts.get(account_id)
            self._check(account is not None, "credits the absent account {}", account_id)
            assert account is not None
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
        self._put(replace(account, held_minor=account.held_minor + hold.amount_minor))

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
        self._put(replace(account, held_minor=account.held_minor - hold.amount_minor))

    def _receipt(self, receipt: Receipt) -> None:
        key = (receipt.slot, receipt.actor, receipt.key)
        scoped = receipt.slot == self.scope.home and (receipt.actor, receipt.key) in self.scope.receipts
        new = key not in self.state.receipts and key not in self.receipts
        self._check(scoped and new, "stores receipt {} outside its scope or twice", key)
        self.receipts[key] = receipt
        here = not receipt.is_claim or actor_slot(receipt.actor) == receipt.slot
        self._check(here, "claims key {} away from the actor's home", key)

    def _record(self, record: Record) -> None:
        current = self.records.get(record.key, self.state.records.get(record.key))
        follows = record.version == (current.version if current else 0) + 1
        scoped = record.slot == self.scope.home and record.key in self.scope.records
        self._check(scoped and follows, "writes record {} outside its scope or over a newer version", record.key)
        self.records[record.key] = record

    def _remove(self, key: RecordKey) -> None:
        current = self.records.get(key, self.state.records.get(key))
        scoped = key.slot == self.scope.home and key in self.scope.records
        self._check(scoped and current is not None, "removes record {}, which it did not see", key)
        self.records[key] = None


class Snapshot:
    """What one decision may look at: exactly what its scope names. None means: looked for, and not there."""

    __slots__ = ("_scope", "_state")

    def __init__(self, state: State, scope: Scope) -> None:
        """Show of `state` what `scope` names."""
        self._state = state
        self._scope = scope

    def _named(self, name: object, where: Sequence[object]) -> None:
        if name not in where:
            raise InvariantViolated(f"a decision looked at {name}, which its scope does not name")

    def account(self, account_id: AccountId) -> Account | None:
        """A full account of `scope.accounts`."""
        self._named(account_id, self._scope.accounts)
        return self._state.accounts.get(account_id)

    def facts(self, account_id: AccountId) -> AccountFacts | None:
        """What may be known of an account of `scope.credits`; the status is advisory."""
        self._named(account_id, self._scope.credits)
        account = self._state.accounts.get(account_id)
        if account is not None:
            return AccountFacts(account.id, account.owner, account.currency, account.status)
        return self._state.facts.get(account_id)

    def wallet(self, owner: UserId) -> tuple[Account, ...]:
        """All accounts of a user of `scope.wallets`, oldest first."""
        self._named(owner, self._scope.wallets)
        return tuple(self._state.accounts[i] for i in self._state.wallets.get(owner, ()))

    def hold(self, hold_id: HoldId) -> Hold | None:
        """A hold of `scope.holds`."""
        self._named(hold_id, self._scope.holds)
        return self._state.holds.get(hold_id)

    def holds_of(self, account_id: AccountId) -> tuple[Hold, ...]:
        """The open holds of an account that the scope's `due_at` or `open_holds` asked for, oldest first."""
        scope, known = self._scope, self._state.holds
        if not self._state.holds_of.get(account_id) and account_id in scope.accounts:
            return ()
        if account_id not in scope.accounts:
            owner = self._state.accounts[account_id].owner if account_id in self._state.accounts else None
            self._named(owner, scope.wallets)
        found = (known[i] for i in sorted(self._state.holds_of.get(account_id, ())))
        return tuple(
            hold
            for hold in found
            if hold.state is HoldState.OPEN
            and (scope.open_holds or (scope.due_at is not None and hold.is_due(scope.due_at)))
        )

    def transfer(self, transfer_id: TransferId) -> Transfer | None:
        """A transfer header of `scope.transfers`, as known on the home node."""
        self._named(transfer_id, self._scope.transfers)
        return self._state.transfers.get(transfer_id)

    def reversed_minor(self, transfer_id: TransferId) -> int:
        """The sum of the reversals of a transfer of `scope.transfers` so far."""
        self._named(transfer_id, self._scope.transfers)
        return self._state.reversed_minor.get(transfer_id, 0)

    def receipt(self, actor: str, key: str) -> Receipt | None:
        """A receipt of `scope.receipts`, in the home slot."""
        self._named((actor, key), self._scope.receipts)
        return self._state.receipts.get((self._scope.home, actor, key))

    def record(self, key: RecordKey) -> Record | None:
        """A record of `scope.records`."""
        self._named(key, self._scope.records)
        return self._state.records.get(key)


class Trial:
    """One command that decides in several steps, each on what those before it changed. Nothing of it is kept."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Start from what the command's snapshot shows."""
        self._state = snapshot._state.fork()  # noqa: SLF001 - the two are one
        self._scope = snapshot._scope  # noqa: SLF001 - the two are one

    @property
    def snapshot(self) -> Snapshot:
        """What the next step sees."""
        return Snapshot(self._state, self._scope)

    def post(self, changes: Changes) -> None:
        """Take a step. Raises InvariantViolated as the real posting would."""
        self._state.post(self._scope, changes)


Decide = Callable[[Snapshot], Decision[R]]
"""A pure, synchronous function: it may run several times, on any thread; one result is kept."""


def decide_all(state: State, commands: Iterable[tuple[Scope, Decide[Any]]]) -> list[Outcome]:
    """Run decisions in order over one growing state. What one raises is its own outcome and sinks no neighbour."""
    outcomes: list[Outcome] = []
    for scope, decide in commands:
        try:
            decision = decide(Snapshot(state, scope))
            peers = state.post(scope, decision.changes)
            outcomes.append(Done(decision.result, peers))
        except WalletError as error:
            outcomes.append(Failed(error))
        except Exception as error:  # noqa: BLE001 - a bug in one decision must not take the batch with it
            outcomes.append(Failed(error))
    return outcomes
