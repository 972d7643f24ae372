"""Money in: a top-up from its request to its credit, and what the provider may take back of it later.

```
created ──> awaiting_payment ──> succeeded ──> (claims: refunds and disputes, each taken once, perhaps returned once)
   │                │
   └──> failed      ├──> canceled
                    └──> quarantined   paid, but not as it was asked for: an operator looks
```

`fold_intent` here and `claims.fold_claim` are the only ways forward. They see the provider's object, never a client's
word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from .changes import Changes, Snapshot
from .codec import to_micros
from .commands import MoveExternal
from .errors import AccountClosed, AccountNotFound, CurrencyMismatch, LimitExceeded, Rejected
from .ids import AccountId, TopUpId, TransferId, UserId, actor_slot, slot_of
from .model import AccountStatus, Record, RecordKey
from .payments import (
    PROVIDER,
    Alarm,
    Step,
    effect_receipt,
    next_look,
    stripe_account,
    text_of,
    time_of,
    transfer_of,
)
from .rules import DEPOSITED_BALANCE_MAX_MINOR, deposit

TOP_UP: Final = "topup"
"""The kind of a top-up's record."""

ABANDONED_AFTER: Final = timedelta(hours=24)
"""An intent that nobody has paid by then is cancelled at the provider."""


class TopUpState(StrEnum):
    """How far a top-up has come. Only `succeeded` means that the account has the money."""

    CREATED = "created"
    AWAITING_PAYMENT = "awaiting_payment"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"
    FAILED = "failed"
    QUARANTINED = "quarantined"


OPEN: Final = frozenset({TopUpState.CREATED, TopUpState.AWAITING_PAYMENT})
"""The states in which the provider still has to be asked."""


@dataclass(frozen=True, slots=True)
class Lot:
    """A credit that the provider may take back: `left_minor` of it has not been."""

    transfer_id: TransferId
    left_minor: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a claim: taken from the customer's account, or owed by the customer (`receivable`)."""

    transfer_id: TransferId
    amount_minor: int
    receivable: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """A refund or a dispute that took money back; `returned` once the provider has given it up again.

    One that was given up before it was seen to take anything has no pieces.
    """

    id: str
    pieces: tuple[Piece, ...]
    returned: bool = False

    @property
    def taken_minor(self) -> int:
        """What it took when it was taken in."""
        return sum(piece.amount_minor for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class TopUp:
    """Money on its way in. `intent_id` is the provider's object, `transfer_id` the credit in the ledger.

    `live` says whether real money is meant (None: it is not known).
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
    claims: tuple[Claim, ...] = ()
    live: bool | None = None
    version: int = 0

    @property
    def key(self) -> RecordKey:
        """Where it lives: with its account."""
        return top_up_key(self.id)

    @property
    def taken_back_minor(self) -> int:
        """What refunds and disputes have taken, less what they gave back."""
        return sum(claim.taken_minor for claim in self.claims if not claim.returned)

    @property
    def receivable_minor(self) -> int:
        """The part of it that the customer did not have any more, and owes."""
        standing = (piece for claim in self.claims if not claim.returned for piece in claim.pieces)
        return sum(piece.amount_minor for piece in standing if piece.receivable)

    def to_record(self) -> Record:
        """As it is stored, one version on."""
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
            "claims": [_plain(claim) for claim in self.claims],
            "live": self.live,
        }
        return Record(TOP_UP, self.id, slot_of(self.id), self.owner, self.version + 1, body, self.due_at)

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
            claims=tuple(_claim(plain) for plain in body["claims"]),
            live=body.get("live"),
            version=record.version,
        )


def top_up_key(top_up_id: TopUpId) -> RecordKey:
    """Where a top-up lives."""
    return RecordKey(TOP_UP, top_up_id, slot_of(top_up_id))


@dataclass(frozen=True, slots=True)
class IntentSeen:
    """A PaymentIntent as the provider shows it. `top_up_id` is what its metadata say; `status` is the provider's."""

    id: str
    status: str
    amount_minor: int
    received_minor: int
    currency: str
    top_up_id: str


@dataclass(frozen=True, slots=True)
class ClaimSeen:
    """A refund or dispute as the provider shows it: `taken` while money is gone for it, None if none ever was.

    `gone_minor` is how much is gone now: less than `amount_minor` if a part has come back.
    """

    id: str
    amount_minor: int
    currency: str
    taken: bool | None
    gone_minor: int


def request_top_up(snapshot: Snapshot, top_up: TopUp, actor: str, now: datetime) -> Changes:
    """Note that money is to come. A frozen account receives, too.

    Raises:
        AccountNotFound, AccountClosed, CurrencyMismatch: about the account.
        LimitExceeded: the balance would pass what a deposit may lift it to.
    """
    if slot_of(top_up.account_id) != actor_slot(actor):  # then it is somebody else's, and the scope does not have it
        raise AccountNotFound(top_up.account_id)
    account = snapshot.account(top_up.account_id)
    if account is None or account.owner != actor:
        raise AccountNotFound(top_up.account_id)
    if account.status is AccountStatus.CLOSED:
        raise AccountClosed(account.id)
    if account.currency != top_up.currency:
        raise CurrencyMismatch(account.id, account.currency, top_up.currency)
    if account.posted_minor + top_up.amount_minor > DEPOSITED_BALANCE_MAX_MINOR:
        raise LimitExceeded("the balance after a deposit, in minor units,", DEPOSITED_BALANCE_MAX_MINOR)
    return Changes(records=(replace(top_up, due_at=next_look(now, 0, 15, 3600)).to_record(),))


def look_again(top_up: TopUp, now: datetime) -> TopUp:
    """The provider could not be asked, or said nothing new: it is asked later. What is over is not due any more."""
    if top_up.state not in OPEN:
        return replace(top_up, due_at=None)
    first_seconds = 15 if top_up.state is TopUpState.CREATED else 60
    due_at = next_look(now, top_up.looks, first_seconds, 3600)
    return replace(top_up, looks=top_up.looks + 1, due_at=due_at)


def refuse(top_up: TopUp, reason: str) -> TopUp:
    """The provider will not have it: nothing was made there."""
    if top_up.state is not TopUpState.CREATED:
        return top_up
    return replace(top_up, state=TopUpState.FAILED, reason=reason, due_at=None)


def is_abandoned(top_up: TopUp, now: datetime) -> bool:
    """Whether nobody is going to pay any more."""
    return top_up.state is TopUpState.AWAITING_PAYMENT and now - top_up.created_at >= ABANDONED_AFTER


def mismatch(top_up: TopUp, seen: IntentSeen) -> str | None:
    """Why an intent is not the one of this top-up; None if it is."""
    if seen.top_up_id != top_up.id or top_up.intent_id not in (None, seen.id):
        return f"it names {seen.top_up_id or 'no top-up'}, whose intent is {top_up.intent_id or 'not known'}"
    if seen.currency != top_up.currency:
        return f"it is in {seen.currency}, {top_up.currency} was asked for"
    if seen.amount_minor != top_up.amount_minor:
        return f"it is for {seen.amount_minor} minor units, {top_up.amount_minor} were asked for"
    if is_paid(seen) and seen.received_minor != top_up.amount_minor:
        return f"{seen.received_minor} minor units were received, {top_up.amount_minor} were asked for"
    return None


def is_paid(seen: IntentSeen) -> bool:
    """Whether the provider has the customer's money."""
    return seen.status == "succeeded"


def credit_key(intent_id: str) -> str:
    """The (object, effect) of a top-up's credit."""
    return f"{intent_id}/credited"


def fold_intent(
    snapshot: Snapshot, top_up: TopUp, seen: IntentSeen, now: datetime, transfer_id: TransferId
) -> Step[TopUp]:
    """Take in what the provider says of the intent: credit it once, or note that it was cancelled, or wait on.

    The scope names the account and the receipt of `credit_key(seen.id)`.
    """
    wrong = mismatch(top_up, seen)
    if wrong is not None:
        return _put_aside(top_up, seen, wrong)
    if top_up.state in (TopUpState.SUCCEEDED, TopUpState.QUARANTINED):
        return Step(top_up)
    if is_paid(seen):
        return _credit(snapshot, top_up, seen, now, transfer_id)
    if seen.status == "canceled":
        return Step(replace(top_up, state=TopUpState.CANCELED, intent_id=seen.id, due_at=None))
    return Step(look_again(_awaiting(top_up, seen), now))


def _awaiting(top_up: TopUp, seen: IntentSeen) -> TopUp:
    if top_up.state not in (TopUpState.CREATED, TopUpState.FAILED):  # failed: one call was refused, and another was not
        return top_up
    return replace(top_up, state=TopUpState.AWAITING_PAYMENT, intent_id=seen.id, reason="", looks=0)


def _put_aside(top_up: TopUp, seen: IntentSeen, reason: str) -> Step[TopUp]:
    """Raise the alarm; if it is about this top-up's own intent, stop waiting for it."""
    is_own = top_up.intent_id in (None, seen.id) and seen.top_up_id == top_up.id
    if is_own and top_up.state not in (TopUpState.SUCCEEDED, TopUpState.QUARANTINED):
        top_up = replace(top_up, state=TopUpState.QUARANTINED, intent_id=seen.id, reason=reason, due_at=None)
    return Step(top_up, alarm=Alarm(seen.id, reason, top_up.id))


def _credit(snapshot: Snapshot, top_up: TopUp, seen: IntentSeen, now: datetime, transfer_id: TransferId) -> Step[TopUp]:
    key = credit_key(seen.id)
    if snapshot.receipt(PROVIDER, key) is not None:
        return Step(top_up)
    money = (stripe_account(top_up.currency), top_up.amount_minor, top_up.currency)
    command = MoveExternal(transfer_id, PROVIDER, key, top_up.account_id, *money)
    try:
        changes = deposit(snapshot, command, now)
    except Rejected as error:  # closed meanwhile, or too full: the money is there, so somebody has to send it back
        return _put_aside(top_up, seen, f"it is paid, but cannot be credited: {error.message}")
    after = replace(
        top_up,
        state=TopUpState.SUCCEEDED,
        intent_id=seen.id,
        transfer_id=transfer_id,
        lots=(Lot(transfer_id, top_up.amount_minor),),
        due_at=None,
    )
    return Step(after, changes + Changes(receipts=(effect_receipt(changes.transfers[0], "topUp"),)))


def _plain(claim: Claim) -> dict[str, object]:
    pieces = [[piece.transfer_id, piece.amount_minor, piece.receivable] for piece in claim.pieces]
    return {"id": claim.id, "pieces": pieces, "returned": claim.returned}


def _claim(plain: Mapping[str, Any]) -> Claim:
    pieces = tuple(Piece(TransferId(str(one)), int(amount), bool(owed)) for one, amount, owed in plain["pieces"])
    return Claim(str(plain["id"]), pieces, bool(plain["returned"]))
