"""Merchants, their webhook deliveries, and the terms of payments.

The *terms* are what was agreed on a payment, split or hold: a record written in the same commit and never changed.
Kinds of records: `merchant`, `terms`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime, timedelta
from typing import Final

from .codec import from_micros, to_micros
from .errors import InvalidInput, NotReversible, reasons
from .frozen import frozen
from .ids import AccountId, HoldId, TransferId, UserId, slot_of
from .model import Record, RecordKey, Transfer, TransferKind
from .reserved import refuse_reserved
from .text import check_text

WHOLE_BASIS_POINTS: Final = 10_000

FEE_BASIS_POINTS_MAX: Final = 5_000
"""The highest fee: at least half of every payment goes to the merchant."""

REPEATS_MAX: Final = 60
REPEATS_SPAN: Final = timedelta(minutes=1)
"""In this time at most `REPEATS_MAX` events are sent again to one webhook."""

SPLITS_MAX: Final = 10

NAME_MAX: Final = 80

URL_MAX: Final = 2_000

SECRETS_MAX: Final = 2
"""How many webhook secrets are valid during a rotation."""

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix of every secret


TERMS: Final = "terms"
"""The kind of the records of `Terms`."""


def check_name(name: str) -> str:
    """A merchant's name as it is shown. Raises InvalidInput."""
    return refuse_reserved(check_text(" ".join(name.split()), "name", length_min=1, length_max=NAME_MAX), "name")


def check_fee(basis_points: int) -> int:
    """A merchant's fee. Raises InvalidInput."""
    if not 0 <= basis_points <= FEE_BASIS_POINTS_MAX:
        raise InvalidInput("feeBasisPoints", reasons.RANGE(least=0, most=FEE_BASIS_POINTS_MAX))
    return basis_points


def check_share(basis_points: int) -> None:
    """Raise InvalidInput unless a split may have this share of a payment."""
    if not 1 <= basis_points < WHOLE_BASIS_POINTS:
        raise InvalidInput("basisPoints", reasons.RANGE(least=1, most=WHOLE_BASIS_POINTS - 1))


def check_splits(basis_points: Sequence[int]) -> None:
    """Raise InvalidInput unless all shares are above 0 and leave something for the merchant."""
    if len(basis_points) > SPLITS_MAX:
        raise InvalidInput("splits", reasons.AT_MOST(most=SPLITS_MAX))
    if any(share < 1 for share in basis_points) or sum(basis_points) >= WHOLE_BASIS_POINTS:
        raise InvalidInput("splits", reasons.SPLITS_SUM(whole=WHOLE_BASIS_POINTS))


@frozen
class Terms:
    """The terms of a hold (the fee of its capture), a split payment (its total) or a split (its merchant)."""

    fee_basis_points: int | None = None
    total_minor: int | None = None
    merchant_account_id: AccountId | None = None
    payment_id: TransferId | None = None
    split_ids: tuple[TransferId, ...] = ()

    @classmethod
    def from_record(cls, record: Record | None) -> Terms:
        """The terms of a record; empty terms if there is none."""
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
    """The key of the terms of a payment, a split or a hold, in its own slot, which is the payer's."""
    return RecordKey(TERMS, identifier, slot_of(identifier))


def hold_terms(hold_id: HoldId, fee_basis_points: int) -> Record:
    """The fee of a hold's capture, agreed when the hold was placed."""
    return terms_record(terms_key(hold_id), {"fee_basis_points": fee_basis_points})


def terms_record(key: RecordKey, body: Mapping[str, object]) -> Record:
    """The record of the terms. It is written once."""
    return Record(key.kind, key.id, key.slot, key.id, 1, body)


def returned_to(original: Transfer, terms: Terms) -> AccountId:
    """Where a reversal sends the money: to the payer; a split's, to the merchant, who refunds. Raises NotReversible."""
    if original.kind is not TransferKind.SPLIT:
        return original.debit_account_id
    if terms.merchant_account_id is None:
        raise NotReversible(original.id, original.kind)
    return terms.merchant_account_id


def refundable_minor(original: Transfer, terms: Terms) -> int:
    """How much of a transfer may be sent back in all: for the merchant of record of a split payment, the total."""
    return original.amount_minor if terms.total_minor is None else terms.total_minor


@frozen
class Secret:
    """A webhook's secret: `text` begins with `whsec_`. It signs until `until`; None means until it is replaced."""

    text: str = field(repr=False)
    until: datetime | None = None


@frozen
class Merchant:
    """A user who takes payments. `secrets` sign the events, newest first; each is shown only once."""

    id: UserId
    name: str
    fee_basis_points: int
    created_at: datetime
    webhook_url: str | None = None
    secrets: tuple[Secret, ...] = field(default=(), repr=False)

    def live_secrets(self, now: datetime) -> tuple[str, ...]:
        """The secrets that sign now."""
        return tuple(one.text for one in self.secrets if one.until is None or one.until > now)

    def with_secret(self, text: str, old_until: datetime) -> Merchant:
        """The merchant with a new secret. The previous one is valid until `old_until`; older ones end."""
        before = tuple(replace(one, until=old_until) for one in self.secrets[: SECRETS_MAX - 1])
        return replace(self, secrets=(Secret(text), *before))

    def to_record(self) -> Record:
        """The record, in its first version."""
        body: dict[str, object] = {
            "name": self.name,
            "fee_basis_points": self.fee_basis_points,
            "created_at": to_micros(self.created_at),
            "webhook_url": self.webhook_url,
            "secrets": [[one.text, None if one.until is None else to_micros(one.until)] for one in self.secrets],
        }
        key = merchant_key(self.id)
        return Record(key.kind, key.id, key.slot, self.id, 1, body)

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
    """The key of a merchant's record, in the user's slot."""
    return RecordKey("merchant", user_id, slot_of(user_id))


def make_secret(entropy: bytes) -> str:
    """A webhook secret of 24 to 64 random bytes, in the form of Standard Webhooks."""
    return f"{SECRET_PREFIX}{base64.b64encode(entropy).decode()}"


@frozen
class Delivery:
    """How far events were sent to a merchant: `positions` maps accounts to the last sequence sent.

    `lease` names the current sender; `due_at` is when to look for events next (None: never, there is no webhook, or it
    answered that it is gone). `attempts` counts failures of the next event in a row.

    `furthest` maps accounts to the last sequence that was ever sent: what is sent below it, after a replay, is sent
    again. `repeats` counts such events since `repeats_since`.
    """

    merchant_id: UserId
    positions: Mapping[AccountId, int]
    attempts: int = 0
    lease: str = ""
    last_error: str = ""
    dead: int = 0
    due_at: datetime | None = None
    furthest: Mapping[AccountId, int] = field(default_factory=dict)
    repeats: int = 0
    repeats_since: datetime | None = None

    def told(self, account_id: AccountId, sequence: int) -> Delivery:
        """The delivery after one more event of an account; for a replay, back at an earlier one."""
        furthest = max(self._furthest(account_id), sequence)
        return replace(
            self,
            positions={**self.positions, account_id: sequence},
            furthest={**self.furthest, account_id: furthest},
            attempts=0,
            last_error="",
        )

    def is_repeat(self, account_id: AccountId, sequence: int) -> bool:
        """Whether an event was told before."""
        return sequence <= self._furthest(account_id)

    def repeated(self, now: datetime) -> Delivery:
        """One more event was told again."""
        if self.repeats_since is None or now >= self.repeats_since + REPEATS_SPAN:
            return replace(self, repeats=1, repeats_since=now)
        return replace(self, repeats=self.repeats + 1)

    def pause_seconds(self, now: datetime) -> float:
        """How long nothing may be told again; zero if something may."""
        if self.repeats < REPEATS_MAX or self.repeats_since is None:
            return 0.0
        ends_at: datetime = self.repeats_since + REPEATS_SPAN
        return max(0.0, (ends_at - now).total_seconds())

    def _furthest(self, account_id: AccountId) -> int:
        return max(self.furthest.get(account_id, 0), self.positions.get(account_id, 0))

    def to_record(self) -> Record:
        """The record, in its first version."""
        body = {
            "positions": dict(self.positions),
            "attempts": self.attempts,
            "lease": self.lease,
            "last_error": self.last_error,
            "dead": self.dead,
            "furthest": dict(self.furthest),
            "repeats": self.repeats,
            "repeats_since": None if self.repeats_since is None else to_micros(self.repeats_since),
        }
        key = delivery_key(self.merchant_id)
        return Record(key.kind, key.id, key.slot, self.merchant_id, 1, body, self.due_at)

    @classmethod
    def from_record(cls, record: Record) -> Delivery:
        """The delivery of a record."""
        body = record.body
        positions = body["positions"]
        assert isinstance(positions, Mapping)
        counts = int(str(body["attempts"])), str(body["lease"]), str(body["last_error"]), int(str(body["dead"]))
        told = {AccountId(account): int(sequence) for account, sequence in positions.items()}
        furthest = body.get("furthest", {})  # absent in records of before
        assert isinstance(furthest, Mapping)
        since = body.get("repeats_since")
        return cls(
            UserId(record.id),
            told,
            *counts,
            due_at=record.due_at,
            furthest={AccountId(account): int(sequence) for account, sequence in furthest.items()},
            repeats=int(str(body.get("repeats", 0))),
            repeats_since=None if since is None else from_micros(int(str(since))),
        )


def delivery_key(user_id: UserId) -> RecordKey:
    """The key of a merchant's delivery, in the user's slot."""
    return RecordKey("delivery", user_id, slot_of(user_id))
