"""What is stored: frozen records that check themselves.

Times are time-zone-aware UTC datetimes; amounts are integers in minor units, their names end in `_minor`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from .errors import InvariantViolated
from .frozen import frozen
from .ids import AccountId, HoldId, TransferId, UserId, slot_of, system_account, system_currency
from .money import BALANCE_MAX_MINOR

FEES: Final = "fees"
"""The system account that receives fees."""

CASH: Final = "cash"
"""The system account behind an operator's deposits and withdrawals."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

MICROSECOND: Final = timedelta(microseconds=1)


class AccountStatus(StrEnum):
    """`frozen` stops debits, holds and captures; `closed` is final. Neither stops a credit already decided."""

    OPEN = "open"
    FROZEN = "frozen"
    CLOSED = "closed"


@frozen
class Account:
    """Holds one currency for one user; floor 0; `available_minor` = posted - held.

    `sequence` is the number of entries so far: the last entry has this sequence, gapless from 1.
    `changed_at` is the time of the last entry, and a microsecond more for each change since then that had no entry: of
    `held_minor` or `status`. It never goes back.
    """

    id: AccountId
    owner: UserId
    currency: str
    created_at: datetime
    changed_at: datetime
    status: AccountStatus = AccountStatus.OPEN
    posted_minor: int = 0
    held_minor: int = 0
    sequence: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.held_minor <= self.posted_minor <= BALANCE_MAX_MINOR:
            raise InvariantViolated(f"account {self.id} would be overdrawn or pass 64 bits: {self}")

    def with_pending(self, pending_minor: int, count: int) -> Account:
        """The account with its pending credits counted in, up to the largest balance.

        Its version grows by their number, as it will when they are received: each gets a sequence then.
        """
        posted_minor = min(self.posted_minor + pending_minor, BALANCE_MAX_MINOR)
        return replace(self, posted_minor=posted_minor, changed_at=self.changed_at + count * MICROSECOND)

    @property
    def available_minor(self) -> int:
        """What can be spent now: posted minus held."""
        return self.posted_minor - self.held_minor

    @property
    def version(self) -> int:
        """Grows with every change: an entry counts in `sequence`, what has no entry in `changed_at`."""
        return (self.changed_at - EPOCH) // MICROSECOND + self.sequence

    @property
    def is_closed(self) -> bool:
        """Whether it was closed. Its owner may then open another account in its currency."""
        return self.status is AccountStatus.CLOSED

    @property
    def slot(self) -> int:
        """The slot of the account and of its owner."""
        return slot_of(self.id)


@frozen
class AccountFacts:
    """What a decision may know of an account that it only credits: all but `status` never changes."""

    id: AccountId
    owner: UserId
    currency: str
    status: AccountStatus


@frozen
class Entry:
    """One signed line on a customer account: its place in the account's order and the balance after it."""

    account_id: AccountId
    sequence: int
    transfer_id: TransferId
    amount_minor: int
    balance_minor: int
    at: datetime

    def __post_init__(self) -> None:
        if self.sequence < 1 or self.amount_minor == 0:
            raise InvariantViolated(f"malformed entry {self}")
        if self.balance_minor < 0:
            raise InvariantViolated(f"entry {self} leaves a negative balance")


@frozen
class PendingCredit:
    """A credit from another node that is on the payee's node and not yet an entry. It counts towards the balance.

    It becomes an entry when the account is next locked: it then gets its sequence, and its time is at least `at`.
    """

    account_id: AccountId
    transfer_id: TransferId
    amount_minor: int
    at: datetime

    def __post_init__(self) -> None:
        if self.amount_minor < 1:
            raise InvariantViolated(f"pending credit {self} brings nothing")


@frozen
class SystemEntry:
    """One signed line on a system account: no sequence and no balance, so transfers do not wait for one another."""

    account_id: AccountId
    transfer_id: TransferId
    amount_minor: int
    at: datetime

    @property
    def currency(self) -> str:
        """The account's currency."""
        return system_currency(self.account_id)


class TransferKind(StrEnum):
    """Why money moved."""

    TRANSFER = "transfer"
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    CAPTURE = "capture"
    REVERSAL = "reversal"
    PAYMENT = "payment"
    SPLIT = "split"


@frozen
class Transfer:
    """One immutable movement: `amount_minor` leaves the debit account; the credit account gets it less the fee.

    `actor` and `idempotency_key` name the attempt that caused it; `reverses` and `hold_id` link to the transfer that it
    reverses or the hold that it captures. `at` is the time of the decision; the entries carry the times at which they
    were applied.
    """

    id: TransferId
    kind: TransferKind
    debit_account_id: AccountId
    credit_account_id: AccountId
    amount_minor: int
    currency: str
    at: datetime
    actor: str
    idempotency_key: str
    fee_minor: int = 0
    reverses: TransferId | None = None
    hold_id: HoldId | None = None
    reference: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.fee_minor < self.amount_minor:
            raise InvariantViolated(f"transfer {self.id} has no positive net amount")
        if self.debit_account_id == self.credit_account_id:
            raise InvariantViolated(f"transfer {self.id} goes nowhere")

    @property
    def net_minor(self) -> int:
        """What the credit account receives."""
        return self.amount_minor - self.fee_minor

    @property
    def slot(self) -> int:
        """The slot that led the transfer."""
        return slot_of(self.id)

    def legs(self) -> tuple[tuple[AccountId, int], ...]:
        """The signed amounts by account; they sum to zero."""
        both = ((self.debit_account_id, -self.amount_minor), (self.credit_account_id, self.net_minor))
        return (*both, (system_account(FEES, self.currency), self.fee_minor)) if self.fee_minor else both


class HoldState(StrEnum):
    """A hold closes once: captured, voided or expired."""

    OPEN = "open"
    CAPTURED = "captured"
    VOIDED = "voided"
    EXPIRED = "expired"


@frozen
class Hold:
    """Money of `account_id` reserved for `payee_account_id`. `closer` is the actor who may capture or void it.

    `expires_at` is None for a hold that only its own flow closes (a withdrawal's).
    """

    id: HoldId
    account_id: AccountId
    payee_account_id: AccountId
    closer: str
    amount_minor: int
    currency: str
    created_at: datetime
    expires_at: datetime | None
    state: HoldState = HoldState.OPEN
    captured_minor: int = 0
    closed_at: datetime | None = None
    transfer_id: TransferId | None = None
    reference: str = ""

    def __post_init__(self) -> None:
        if self.amount_minor <= 0:
            raise InvariantViolated(f"hold {self.id} holds nothing")
        if not 0 <= self.captured_minor <= self.amount_minor:
            raise InvariantViolated(f"hold {self.id} captures too much")
        if (self.state is HoldState.OPEN) != (self.closed_at is None):
            raise InvariantViolated(f"hold {self.id} is half closed")

    def is_due(self, now: datetime) -> bool:
        """Whether the hold is still open in the store although it has expired."""
        return self.state is HoldState.OPEN and self.expires_at is not None and self.expires_at <= now


@frozen
class Receipt:
    """The stored answer to one idempotency key of one actor, in one slot.

    At the leading slot it commits with its effect: `outcome` is the answer as JSON text and may be pruned, while the
    link to `transfer_id` stays for ever. A *key claim* is a receipt with `leader`: it is at the home of an actor who is
    not the payer, says which slot leads, and proves no outcome.
    """

    slot: int
    actor: str
    key: str
    operation: str
    fingerprint: str
    at: datetime
    transfer_id: TransferId | None = None
    outcome: str | None = None
    leader: int | None = None

    @property
    def is_claim(self) -> bool:
        """Whether it is a key claim."""
        return self.leader is not None


class RecordKey(NamedTuple):
    """The name of a `Record`. A tuple, because it is hashed and compared many times a command."""

    kind: str
    id: str
    slot: int


@frozen
class Record:
    """Anything that is not money (user, name claim, session, …), so that new features need no change of backends.

    `version` counts writes from 1; records are listed by `owner`; `due_at` is when a sweep should look at the record.
    `body` is plain JSON data.
    """

    kind: str
    id: str
    slot: int
    owner: str
    version: int
    body: Mapping[str, object] = field(default_factory=dict)
    due_at: datetime | None = None

    @property
    def key(self) -> RecordKey:
        """Its name."""
        return RecordKey(self.kind, self.id, self.slot)

    def after(self, before: Record | None) -> Record:
        """This record as the version that follows `before`; the first if there was none."""
        return replace(self, version=1 if before is None else before.version + 1)

    def next(self, body: Mapping[str, object], due_at: datetime | None) -> Record:
        """The version that follows this one, with another body and time."""
        return replace(self, body=body, due_at=due_at).after(self)
