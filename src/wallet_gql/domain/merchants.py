"""Merchants: what they are, how a payment is shared out, and what is agreed on it. Pure.

A payment to a merchant is a transfer of kind `payment`; the fee is kept from the merchant's part. A *split* payment
also pays others in the same commit, by transfers of kind `split`; the merchant of record has the rest. The merchant
refunds up to the total, from the merchant's own account; whoever got a split returns it to the merchant.

What was agreed is a record beside what it is about, written in the same commit and never changed: the *terms*. Kinds of
records: `merchant`, `terms`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from . import rules
from .changes import Changes, Snapshot, Trial
from .codec import from_micros, to_micros
from .commands import CaptureHold, MoveMoney, PayMerchant, SplitPart
from .errors import InvalidInput, NotAMerchant, NotReversible
from .ids import AccountId, HoldId, TransferId, UserId, slot_of
from .model import Record, RecordKey, Transfer, TransferKind

WHOLE_BASIS_POINTS: Final = 10_000
FEE_BASIS_POINTS_MAX: Final = 5_000
"""The highest fee: so at least half of every payment is the merchant's."""

SPLITS_MAX: Final = 10
NAME_MAX: Final = 80
URL_MAX: Final = 2_000
SECRETS_MAX: Final = 2
"""How many webhook secrets are live during a rotation."""

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how every secret begins


def check_name(name: str) -> str:
    """A merchant's name as it is shown. Raises InvalidInput."""
    shown = " ".join(name.split())
    if not 1 <= len(shown) <= NAME_MAX or not shown.isprintable():
        raise InvalidInput("name", f"1 to {NAME_MAX} printable characters")
    return shown


def check_fee(basis_points: int) -> int:
    """A merchant's fee. Raises InvalidInput."""
    if not 0 <= basis_points <= FEE_BASIS_POINTS_MAX:
        raise InvalidInput("feeBasisPoints", f"0 to {FEE_BASIS_POINTS_MAX}")
    return basis_points


def check_splits(basis_points: Sequence[int]) -> None:
    """Raise InvalidInput unless a payment can be split so: shares above 0 that leave the merchant something."""
    if len(basis_points) > SPLITS_MAX:
        raise InvalidInput("splits", f"at most {SPLITS_MAX}")
    if any(share < 1 for share in basis_points) or sum(basis_points) >= WHOLE_BASIS_POINTS:
        raise InvalidInput("splits", f"shares from 1 that sum to less than {WHOLE_BASIS_POINTS} basis points")


def share_out(amount_minor: int, splits: Sequence[int]) -> tuple[int, ...]:
    """The parts of a split payment in minor units: the merchant's first, then one for each split.

    Each share is rounded down; the units that are left over go one each to the largest shares, the first of equals
    first. So the parts sum to the amount, none is off by a whole unit, and the same input gives the same parts.
    """
    shares = [WHOLE_BASIS_POINTS - sum(splits), *splits]
    parts = [amount_minor * share // WHOLE_BASIS_POINTS for share in shares]
    left_over = amount_minor - sum(parts)
    for place in sorted(range(len(shares)), key=lambda place: -shares[place])[:left_over]:
        parts[place] += 1
    return tuple(parts)


def pay_merchant(snapshot: Snapshot, command: PayMerchant, now: datetime) -> Changes:
    """Pay a merchant, and whoever shares in the payment, in one commit: first the merchant's transfer, then the splits.

    Raises:
        NotAMerchant: the payee is none.
        InvalidInput: a part would be nothing, the fee would take the merchant's part, or the merchant is in the splits.
        Rejected: what `rules.transfer` says of the whole amount, and of each payee.
    """
    if command.payee.known and not command.is_merchant:
        raise NotAMerchant(command.payee.name)
    parts = share_out(command.amount_minor, [split.basis_points for split in command.splits])
    fee_minor = rules.fee_minor(command.amount_minor, command.fee_basis_points)
    rules.transfer(snapshot, _whole(command), now)
    if fee_minor >= parts[0] or not all(parts):
        raise InvalidInput("splits", "each part must be at least one minor unit, the merchant's more than the fee")
    if any(split.payee.account_id == command.payee.account_id for split in command.splits):
        raise InvalidInput("splits", "the merchant has what the splits leave, and is not one of them")
    trial = Trial(snapshot)
    first = rules.transfer(trial.snapshot, replace(_whole(command), amount_minor=parts[0], fee_minor=fee_minor), now)
    changes = _as(first, TransferKind.PAYMENT)
    trial.post(changes)
    for split, part_minor in zip(command.splits, parts[1:], strict=True):
        changed = _as(rules.transfer(trial.snapshot, _split(command, split, part_minor), now), TransferKind.SPLIT)
        trial.post(changed)
        changes += changed
    return changes + Changes(records=_terms(command)) if command.splits else changes


def capture_hold(snapshot: Snapshot, command: CaptureHold, now: datetime) -> Changes:
    """Capture a hold, with the fee that was agreed when it was placed. Raises what `rules.capture_hold` does."""
    agreed = Terms.from_record(snapshot.record(terms_key(command.hold_id))).fee_basis_points
    return rules.capture_hold(snapshot, command if agreed is None else replace(command, fee_basis_points=agreed), now)


def _whole(command: PayMerchant) -> MoveMoney:
    return MoveMoney(
        command.transfer_id,
        command.actor,
        command.key,
        command.source,
        command.payee,
        command.amount_minor,
        command.currency,
        reference=command.reference,
    )


def _split(command: PayMerchant, split: SplitPart, part_minor: int) -> MoveMoney:
    whole = _whole(command)
    return replace(whole, transfer_id=split.transfer_id, key=split.key, payee=split.payee, amount_minor=part_minor)


def _as(changes: Changes, kind: TransferKind) -> Changes:
    return replace(changes, transfers=tuple(replace(moved, kind=kind) for moved in changes.transfers))


# What was agreed


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed on a hold (the fee of its capture), a split payment (its total) or a split (whose it is)."""

    fee_basis_points: int | None = None
    total_minor: int | None = None
    merchant_account_id: AccountId | None = None
    payment_id: TransferId | None = None
    split_ids: tuple[TransferId, ...] = ()

    @classmethod
    def from_record(cls, record: Record | None) -> Terms:
        """The terms of a record; none agreed if there is none."""
        body: Mapping[str, object] = {} if record is None else record.body
        fee, total = body.get("fee_basis_points"), body.get("total_minor")
        account, payment = body.get("merchant_account_id"), body.get("payment_id")
        return cls(
            None if fee is None else int(str(fee)),
            None if total is None else int(str(total)),
            None if account is None else AccountId(str(account)),
            None if payment is None else TransferId(str(payment)),
            tuple(TransferId(one) for one in str(body.get("split_ids", "")).split()),
        )


def terms_key(identifier: TransferId | HoldId) -> RecordKey:
    """Where the terms of a payment, a split or a hold are: in its own slot, the payer's."""
    return RecordKey("terms", identifier, slot_of(identifier))


def hold_terms(hold_id: HoldId, fee_basis_points: int) -> Record:
    """The fee of a hold's capture, agreed when the hold was placed."""
    return _record(terms_key(hold_id), {"fee_basis_points": fee_basis_points})


def _terms(command: PayMerchant) -> tuple[Record, ...]:
    assert command.payee.account_id is not None
    account = command.payee.account_id
    split_ids = " ".join(split.transfer_id for split in command.splits)
    total = _record(terms_key(command.transfer_id), {"total_minor": command.amount_minor, "split_ids": split_ids})
    linked = {"payment_id": command.transfer_id, "merchant_account_id": account}
    return (total, *(_record(terms_key(split.transfer_id), linked) for split in command.splits))


def _record(key: RecordKey, body: Mapping[str, object]) -> Record:
    return Record(key.kind, key.id, key.slot, key.id, 1, body)


def returned_to(original: Transfer, terms: Terms) -> AccountId:
    """Whom a reversal pays: the payer; what came by a split goes to the merchant, who refunds. Raises NotReversible."""
    if original.kind is not TransferKind.SPLIT:
        return original.debit_account_id
    if terms.merchant_account_id is None:
        raise NotReversible(original.id, original.kind)
    return terms.merchant_account_id


def refundable_minor(original: Transfer, terms: Terms) -> int:
    """How much may be sent back of a transfer in all: of a split payment the total, from the merchant of record."""
    return original.amount_minor if terms.total_minor is None else terms.total_minor


# Who is a merchant


@dataclass(frozen=True, slots=True)
class Secret:
    """A webhook's secret: `text` begins with `whsec_`. It signs until `until`; None is: until it is replaced."""

    text: str = field(repr=False)
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Merchant:
    """A user who takes payments. `secrets` sign the events, the newest first; nobody is told them a second time."""

    id: UserId
    name: str
    fee_basis_points: int
    created_at: datetime
    webhook_url: str | None = None
    secrets: tuple[Secret, ...] = field(default=(), repr=False)

    def live_secrets(self, now: datetime) -> tuple[str, ...]:
        """What signs now."""
        return tuple(one.text for one in self.secrets if one.until is None or one.until > now)

    def with_secret(self, text: str, old_until: datetime) -> Merchant:
        """With a new secret; the one before stays live until then, older ones end."""
        before = tuple(replace(one, until=old_until) for one in self.secrets[: SECRETS_MAX - 1])
        return replace(self, secrets=(Secret(text), *before))

    def to_record(self, version: int) -> Record:
        """As it is stored."""
        body: dict[str, object] = {
            "name": self.name,
            "fee_basis_points": self.fee_basis_points,
            "created_at": to_micros(self.created_at),
            "webhook_url": self.webhook_url,
            "secrets": [[one.text, None if one.until is None else to_micros(one.until)] for one in self.secrets],
        }
        key = merchant_key(self.id)
        return Record(key.kind, key.id, key.slot, self.id, version, body)

    @classmethod
    def from_record(cls, record: Record | None) -> Merchant | None:
        """The merchant of a record; None if there is none."""
        if record is None:
            return None
        body = record.body
        stored = body["secrets"]
        assert isinstance(stored, Sequence)
        secrets = tuple(Secret(str(text), None if until is None else from_micros(until)) for text, until in stored)
        url = body["webhook_url"]
        fee, created_at = int(str(body["fee_basis_points"])), from_micros(int(str(body["created_at"])))
        shown = None if url is None else str(url)
        return cls(UserId(record.id), str(body["name"]), fee, created_at, shown, secrets)


def merchant_key(user_id: UserId) -> RecordKey:
    """Where a merchant's record is: with the user."""
    return RecordKey("merchant", user_id, slot_of(user_id))


def make_secret(entropy: bytes) -> str:
    """A webhook secret of 24 to 64 random bytes, in the form of Standard Webhooks."""
    return f"{SECRET_PREFIX}{base64.b64encode(entropy).decode()}"


# How far the events have been told


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far a merchant has been told of the entries of its accounts: `positions` by account, the last told sequence.

    `lease` names who is telling now; `due_at` is when somebody shall look next (None: never, there is no webhook, or
    it said that it is gone). `attempts` counts failures of the next event in a row.
    """

    merchant_id: UserId
    positions: Mapping[AccountId, int]
    attempts: int = 0
    lease: str = ""
    last_error: str = ""
    dead: int = 0
    due_at: datetime | None = None

    def told(self, account_id: AccountId, sequence: int) -> Delivery:
        """One event further."""
        return replace(self, positions={**self.positions, account_id: sequence}, attempts=0, last_error="")

    def to_record(self, version: int) -> Record:
        """As it is stored."""
        body = {
            "positions": dict(self.positions),
            "attempts": self.attempts,
            "lease": self.lease,
            "last_error": self.last_error,
            "dead": self.dead,
        }
        key = delivery_key(self.merchant_id)
        return Record(key.kind, key.id, key.slot, self.merchant_id, version, body, self.due_at)

    @classmethod
    def from_record(cls, record: Record) -> Delivery:
        """The delivery of a record."""
        body = record.body
        positions = body["positions"]
        assert isinstance(positions, Mapping)
        counts = int(str(body["attempts"])), str(body["lease"]), str(body["last_error"]), int(str(body["dead"]))
        told = {AccountId(account): int(sequence) for account, sequence in positions.items()}
        return cls(UserId(record.id), told, *counts, due_at=record.due_at)


def delivery_key(user_id: UserId) -> RecordKey:
    """Where a merchant's delivery is: with the user."""
    return RecordKey("delivery", user_id, slot_of(user_id))
