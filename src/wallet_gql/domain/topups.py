"""Money in: a top-up from its request to its credit, and clawbacks: refunds and disputes that take money back.

```
created ──> awaiting_payment ──> succeeded ──> (clawbacks: refunds and disputes, each taken once, perhaps returned once)
   │                │
   └──> failed      ├──> canceled
                    └──> quarantined   paid, but not as requested: an operator must look
```
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from .codec import to_micros
from .frozen import frozen
from .ids import AccountId, TopUpId, TransferId, UserId, slot_of
from .model import Record, RecordKey
from .payments import (
    text_of,
    time_of,
    transfer_of,
)

TOP_UP: Final = "topup"
"""The kind of a top-up's record."""

ABANDONED_AFTER: Final = timedelta(hours=24)
"""An intent that is not paid after this time is cancelled at the provider."""


class TopUpState(StrEnum):
    """The state of a top-up. Only `succeeded` means that the account has the money."""

    CREATED = "created"
    AWAITING_PAYMENT = "awaiting_payment"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"
    FAILED = "failed"
    QUARANTINED = "quarantined"


OPEN: Final = frozenset({TopUpState.CREATED, TopUpState.AWAITING_PAYMENT})
"""The states in which the provider still has to be asked."""


@frozen
class Lot:
    """A credit that the provider may take back; `left_minor` of it has not been taken back."""

    transfer_id: TransferId
    left_minor: int


@frozen
class Piece:
    """A part of a clawback: taken from the customer's account, or owed by the customer (`receivable`)."""

    transfer_id: TransferId
    amount_minor: int
    receivable: bool


@frozen
class Clawback:
    """A clawback: a refund or dispute that took money back; `returned` if the provider has given the money back.

    It has no pieces if the money was given back before the wallet noticed that it had been taken.
    """

    id: str
    pieces: tuple[Piece, ...]
    returned: bool = False

    @property
    def taken_minor(self) -> int:
        """The amount that was taken, in minor units."""
        return sum(piece.amount_minor for piece in self.pieces)


@frozen
class TopUp:
    """A top-up. `intent_id` is the provider's object, `transfer_id` the credit in the ledger.

    `live` says whether real money moves (None: unknown).
    """

    id: TopUpId
    owner: UserId
    account_id: AccountId
    amount_minor: int
    currency: str
    created_at: datetime
    state: TopUpState = TopUpState.CREATED
    looks: int = 0
    due_at: datetime | None = None
    intent_id: str | None = None
    transfer_id: TransferId | None = None
    reason: str = ""
    lots: tuple[Lot, ...] = ()
    clawbacks: tuple[Clawback, ...] = ()
    live: bool | None = None
    version: int = 0

    @property
    def key(self) -> RecordKey:
        """Where it lives: with its account."""
        return top_up_key(self.id)

    @property
    def taken_back_minor(self) -> int:
        """What refunds and disputes have taken, less what they gave back."""
        return sum(clawback.taken_minor for clawback in self.clawbacks if not clawback.returned)

    @property
    def receivable_minor(self) -> int:
        """The part of `taken_back_minor` that the customer no longer had, and owes."""
        standing = (piece for clawback in self.clawbacks if not clawback.returned for piece in clawback.pieces)
        return sum(piece.amount_minor for piece in standing if piece.receivable)

    def to_record(self) -> Record:
        """The record, in the version that was read."""
        body: dict[str, object] = {
            "account": self.account_id,
            "amount_minor": self.amount_minor,
            "currency": self.currency,
            "created_at": to_micros(self.created_at),
            "state": self.state.value,
            "looks": self.looks,
            "intent": self.intent_id,
            "transfer": self.transfer_id,
            "reason": self.reason,
            "lots": [[lot.transfer_id, lot.left_minor] for lot in self.lots],
            "claims": [_plain(clawback) for clawback in self.clawbacks],
            "live": self.live,
        }
        return Record(TOP_UP, self.id, slot_of(self.id), self.owner, self.version, body, self.due_at)

    @classmethod
    def from_record(cls, record: Record) -> TopUp:
        """The top-up of a record."""
        body: Mapping[str, Any] = record.body
        return cls(
            id=TopUpId(record.id),
            owner=UserId(record.owner),
            account_id=AccountId(str(body["account"])),
            amount_minor=int(body["amount_minor"]),
            currency=str(body["currency"]),
            created_at=time_of(body, "created_at"),
            state=TopUpState(str(body["state"])),
            looks=int(body["looks"]),
            due_at=record.due_at,
            intent_id=text_of(body, "intent"),
            transfer_id=transfer_of(body, "transfer"),
            reason=str(body["reason"]),
            lots=tuple(Lot(TransferId(str(name)), int(left)) for name, left in body["lots"]),
            clawbacks=tuple(_clawback(plain) for plain in body["claims"]),
            live=body.get("live"),
            version=record.version,
        )


def top_up_key(top_up_id: TopUpId) -> RecordKey:
    """Where a top-up lives."""
    return RecordKey(TOP_UP, top_up_id, slot_of(top_up_id))


@frozen
class IntentSeen:
    """A PaymentIntent as the provider shows it. `top_up_id` is what its metadata say; `status` is the provider's."""

    id: str
    status: str
    amount_minor: int
    received_minor: int
    currency: str
    top_up_id: str


@frozen
class ClawbackSeen:
    """A refund or dispute as the provider shows it: `taken` while its money is taken, None if it never was.

    `gone_minor` is how much is taken now: less than `amount_minor` if a part was given back.
    """

    id: str
    amount_minor: int
    currency: str
    taken: bool | None
    gone_minor: int


def _plain(clawback: Clawback) -> dict[str, object]:
    pieces = [[piece.transfer_id, piece.amount_minor, piece.receivable] for piece in clawback.pieces]
    return {"id": clawback.id, "pieces": pieces, "returned": clawback.returned}


def _clawback(plain: Mapping[str, Any]) -> Clawback:
    pieces = tuple(Piece(TransferId(str(one)), int(amount), bool(owed)) for one, amount, owed in plain["pieces"])
    return Clawback(str(plain["id"]), pieces, bool(plain["returned"]))
