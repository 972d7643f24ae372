"""Money out: a withdrawal from its hold to the bank, and back if the bank does not take it.

```
requested ──> sent ──> in_transit ──> paid ──> returning ──> returned    the bank gave it back after all
    │          └─────────────┴──> undoing ──> failed                     the money is free again
    └──> failed ──> undoing      only if a transfer comes to light that nobody knew of
```
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from .codec import to_micros
from .frozen import frozen
from .ids import AccountId, HoldId, TransferId, UserId, WithdrawalId, slot_of
from .model import Record, RecordKey
from .payments import (
    text_of,
    time_of,
    transfer_of,
)

WITHDRAWAL: Final = "withdrawal"
"""The kind of a withdrawal's record."""

PAYOUT_ACCOUNT: Final = "payout-account"
"""The kind of the record that says to which connected account a user's money goes."""

WATCHED_FOR: Final = timedelta(days=14)
"""How long a paid withdrawal is watched: banks may return payouts for some days."""


class WithdrawalState(StrEnum):
    """The state of a withdrawal."""

    REQUESTED = "requested"
    SENT = "sent"
    IN_TRANSIT = "in_transit"
    PAID = "paid"
    UNDOING = "undoing"
    FAILED = "failed"
    RETURNING = "returning"
    RETURNED = "returned"


OPEN: Final = frozenset(WithdrawalState) - {WithdrawalState.PAID, WithdrawalState.FAILED, WithdrawalState.RETURNED}
"""The states that are not final."""


@frozen
class Withdrawal:
    """A withdrawal.

    `destination` is the customer's connected account; `sent_id` and `payout_id` are the provider's transfer and payout;
    `transfer_id` is the ledger's transfer that captured the hold. `lease` names the last lease, which ends at
    `leased_until`, or has ended if that is None. `live` says whether real money moves (None: unknown).
    """

    id: WithdrawalId
    owner: UserId
    account_id: AccountId
    hold_id: HoldId
    amount_minor: int
    currency: str
    destination: str
    created_at: datetime
    state: WithdrawalState = WithdrawalState.REQUESTED
    looks: int = 0
    due_at: datetime | None = None
    sent_id: str | None = None
    payout_id: str | None = None
    transfer_id: TransferId | None = None
    reason: str = ""
    lease: int = 0
    leased_until: datetime | None = None
    live: bool | None = None
    version: int = 0

    @property
    def key(self) -> RecordKey:
        """Where it lives: with its account."""
        return withdrawal_key(self.id)

    @property
    def is_watched(self) -> bool:
        """Whether there is still something to ask the provider for."""
        return self.state in OPEN or (self.state is WithdrawalState.PAID and self.due_at is not None)

    def is_leased(self, now: datetime) -> bool:
        """Whether a process holds the lease to call the provider."""
        return self.leased_until is not None and now < self.leased_until

    def to_record(self) -> Record:
        """The record, in the version that was read."""
        body: dict[str, object] = {
            "account": self.account_id,
            "hold": self.hold_id,
            "amount_minor": self.amount_minor,
            "currency": self.currency,
            "destination": self.destination,
            "created_at": to_micros(self.created_at),
            "state": self.state.value,
            "looks": self.looks,
            "sent": self.sent_id,
            "payout": self.payout_id,
            "transfer": self.transfer_id,
            "reason": self.reason,
            "lease": self.lease,
            "leased_until": None if self.leased_until is None else to_micros(self.leased_until),
            "live": self.live,
        }
        return Record(WITHDRAWAL, self.id, slot_of(self.id), self.owner, self.version, body, self.due_at)

    @classmethod
    def from_record(cls, record: Record) -> Withdrawal:
        """The withdrawal of a record."""
        body: Mapping[str, Any] = record.body
        return cls(
            id=WithdrawalId(record.id),
            owner=UserId(record.owner),
            account_id=AccountId(str(body["account"])),
            hold_id=HoldId(str(body["hold"])),
            amount_minor=int(body["amount_minor"]),
            currency=str(body["currency"]),
            destination=str(body["destination"]),
            created_at=time_of(body, "created_at"),
            state=WithdrawalState(str(body["state"])),
            looks=int(body["looks"]),
            due_at=record.due_at,
            sent_id=text_of(body, "sent"),
            payout_id=text_of(body, "payout"),
            transfer_id=transfer_of(body, "transfer"),
            reason=str(body["reason"]),
            lease=int(body.get("lease", 0)),
            leased_until=None if body.get("leased_until") is None else time_of(body, "leased_until"),
            live=body.get("live"),
            version=record.version,
        )


def withdrawal_key(withdrawal_id: WithdrawalId) -> RecordKey:
    """Where a withdrawal lives."""
    return RecordKey(WITHDRAWAL, withdrawal_id, slot_of(withdrawal_id))


def payout_account_key(user_id: UserId) -> RecordKey:
    """The key of the record that says which connected account a user's money goes to."""
    return RecordKey(PAYOUT_ACCOUNT, user_id, slot_of(user_id))


@frozen
class PayoutSeen:
    """A payout as the provider shows it. `withdrawal_id` is what its metadata say."""

    id: str
    status: str
    amount_minor: int
    currency: str
    destination: str
    withdrawal_id: str


def paid_key(withdrawal: Withdrawal) -> str:
    """The (object, effect) of the payout: money left the wallet."""
    return f"{withdrawal.id}/paid"


def returned_key(withdrawal: Withdrawal) -> str:
    """The (object, effect) of the return: the money came back after it was paid."""
    return f"{withdrawal.id}/returned"
