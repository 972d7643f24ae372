"""Spending limits of a user in a currency: for one payment, for a UTC day, and for a new payee. Pure.

What counts: money that leaves the user's account by the user's own command, and money that such a command holds. A hold
counts once, when it is placed: its capture does not count again, and neither void nor expiry gives anything back; nor
does a reversal or a refund. So nobody can pass a limit by placing holds and letting them go.

Everything is kept in two kinds of records in the user's slot, so that it is decided and written in the payment's own
commit: `spending` (one for each currency: today's sum and the user's limits) and `payee` (one for each account that was
ever paid: when first, and how much in its first 24 hours).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

from .changes import Changes, Snapshot
from .codec import from_micros, to_micros
from .errors import SpendingLimitExceeded
from .frozen import frozen
from .ids import AccountId, UserId, is_system, slot_of
from .model import Record, RecordKey

RAISE_DELAY: Final = timedelta(hours=24)
"""How long a user waits for a raise of the own limits."""

NEW_PAYEE_LASTS: Final = timedelta(hours=24)
"""How long a payee is new, from the first payment or hold on."""

SPENDING: Final = "spending"
PAYEE: Final = "payee"


class SpendingLimitKind(StrEnum):
    """What a limit is for: each payment, a UTC day, or one new payee."""

    PAYMENT = "payment"
    DAY = "day"
    NEW_PAYEE = "newPayee"


@frozen
class Limits:
    """The most, in minor units: of one payment, of a UTC day, and for one new payee in sum. None: no limit."""

    payment: int | None = None
    day: int | None = None
    new_payee: int | None = None

    def within(self, other: Limits) -> Limits:
        """The lower limit of both, one by one."""
        mine, others = self.values(), other.values()
        return Limits(*(_lower(mine[name], others[name]) for name in NAMES))

    def over(self, other: Limits) -> Limits:
        """These limits where they are set, else the other's."""
        mine, others = self.values(), other.values()
        return Limits(*(others[name] if mine[name] is None else mine[name] for name in NAMES))

    def values(self) -> dict[str, int | None]:
        """By name."""
        return {name: getattr(self, name) for name in NAMES}

    @classmethod
    def of(cls, values: object) -> Limits:
        """From the body of a record."""
        assert isinstance(values, Mapping)
        return cls(*(None if values.get(name) is None else int(str(values[name])) for name in NAMES))


NAMES: Final = tuple(field.name for field in fields(Limits))


def _lower(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)


@frozen
class Spending:
    """What a user has spent in a currency on `day` (UTC), and the user's limits.

    `granted` are the operator's limits for this user, which replace the wallet's. `own` are the user's, which only
    lower them. `raised` becomes `own` at `raised_at`.
    """

    day: date
    spent_minor: int = 0
    granted: Limits = Limits()
    own: Limits = Limits()
    raised: Limits | None = None
    raised_at: datetime | None = None

    @classmethod
    def at(cls, record: Record | None, now: datetime) -> Spending:
        """The state of a record at a time: of a new day nothing is spent, and a raise that is due holds.

        A clock that is behind the record's day counts on that day.
        """
        today = now.astimezone(UTC).date()
        if record is None:
            return cls(today)
        body = record.body
        day = date.fromisoformat(str(body["day"]))
        found = cls(day, int(str(body["spent"])), Limits.of(body["granted"]), Limits.of(body["own"]))
        if day < today:
            found = replace(found, day=today, spent_minor=0)
        if body["raised"] is None:
            return found
        raised, raised_at = Limits.of(body["raised"]), from_micros(int(str(body["raised_at"])))
        if raised_at <= now:
            return replace(found, own=raised)
        return replace(found, raised=raised, raised_at=raised_at)

    def to_record(self, user_id: UserId, currency: str) -> Record:
        """The record, in its first version."""
        key = spending_key(user_id, currency)
        body = {
            "day": self.day.isoformat(),
            "spent": self.spent_minor,
            "granted": self.granted.values(),
            "own": self.own.values(),
            "raised": None if self.raised is None else self.raised.values(),
            "raised_at": None if self.raised_at is None else to_micros(self.raised_at),
        }
        return Record(key.kind, key.id, key.slot, user_id, 1, body)

    def limits(self, wallets: Limits) -> Limits:
        """The limits that hold: the operator's for this user, else the wallet's; lowered by the user's own."""
        return self.granted.over(wallets).within(self.own)

    def choose(self, wanted: Limits, now: datetime) -> Spending:
        """The user's own limits become `wanted`: what is lower at once, the rest after `RAISE_DELAY`.

        The choice replaces a raise that waits, unless it is the same one: then that keeps its time.
        """
        own = self.own.within(wanted)
        if own == wanted:
            return replace(self, own=own, raised=None, raised_at=None)
        if (own, wanted) == (self.own, self.raised):
            return self
        return replace(self, own=own, raised=wanted, raised_at=now + RAISE_DELAY)

    @property
    def ends_at(self) -> datetime:
        """When the next day begins."""
        return datetime.combine(self.day + timedelta(days=1), time(), UTC)


@frozen
class _Payee:
    """When an account was first paid, and how much in the time in which it was new."""

    first_at: datetime
    paid_minor: int = 0

    @classmethod
    def of(cls, record: Record | None, now: datetime) -> _Payee:
        if record is None:
            return cls(now)
        return cls(from_micros(int(str(record.body["first_at"]))), int(str(record.body["paid"])))

    def to_record(self, key: RecordKey, user_id: UserId) -> Record:
        body = {"first_at": to_micros(self.first_at), "paid": self.paid_minor}
        return Record(key.kind, key.id, key.slot, user_id, 1, body)

    @property
    def known_at(self) -> datetime:
        """From when on the payee is not new any more."""
        return self.first_at + NEW_PAYEE_LASTS


def spending_key(user_id: UserId, currency: str) -> RecordKey:
    """The key of what a user has spent in a currency, in the user's slot."""
    return RecordKey(SPENDING, f"{user_id}:{currency}", slot_of(user_id))


def payee_key(user_id: UserId, account_id: AccountId) -> RecordKey:
    """The key of what a user has paid to an account, in the user's slot."""
    return RecordKey(PAYEE, f"{user_id}:{account_id}", slot_of(user_id))


def keys_of(user_id: UserId, currency: str, payees: Iterable[AccountId]) -> tuple[RecordKey, ...]:
    """The records that `spend` reads and writes."""
    return (spending_key(user_id, currency), *(payee_key(user_id, account_id) for account_id in payees))


def spend(  # noqa: PLR0917 - always in this order
    snapshot: Snapshot, user_id: UserId, currency: str, wallets: Limits, changes: Changes, now: datetime
) -> tuple[Record, ...]:
    """The records that count what a user's command spends, to be written with its changes. `wallets` are the defaults.

    Raises:
        SpendingLimitExceeded: a limit would be passed.
    """
    paid = _paid(changes)
    if not paid:
        return ()
    total_minor = sum(minor for _, minor in paid)
    before = snapshot.record(spending_key(user_id, currency))
    spending = Spending.at(before, now)
    limits = spending.limits(wallets)
    _check(SpendingLimitKind.PAYMENT, limits.payment, 0, total_minor, currency)
    _check(SpendingLimitKind.DAY, limits.day, spending.spent_minor, total_minor, currency, spending.ends_at)
    counted = replace(spending, spent_minor=spending.spent_minor + total_minor)
    records = [counted.to_record(user_id, currency).after(before)]
    by_payee: dict[AccountId, int] = {}
    for account_id, minor in paid:
        by_payee[account_id] = by_payee.get(account_id, 0) + minor
    for account_id, minor in by_payee.items():
        if is_system(account_id):  # money that goes to the user's bank has no payee
            continue
        key = payee_key(user_id, account_id)
        known = snapshot.record(key)
        payee = _Payee.of(known, now)
        if payee.known_at > now:
            _check(SpendingLimitKind.NEW_PAYEE, limits.new_payee, payee.paid_minor, minor, currency, payee.known_at)
            records.append(_Payee(payee.first_at, payee.paid_minor + minor).to_record(key, user_id).after(known))
    return tuple(records)


def _paid(changes: Changes) -> list[tuple[AccountId, int]]:
    """To whom how much goes, or is held for."""
    moved = [(one.credit_account_id, one.amount_minor) for one in changes.transfers]
    return moved + [(one.payee_account_id, one.amount_minor) for one in changes.placed]


def _check(  # noqa: PLR0917 - always in this order
    kind: SpendingLimitKind,
    maximum_minor: int | None,
    spent_minor: int,
    minor: int,
    currency: str,
    free_at: datetime | None = None,
) -> None:
    if maximum_minor is not None and spent_minor + minor > maximum_minor:
        remaining_minor = max(maximum_minor - spent_minor, 0)
        at = None if free_at is None else free_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        raise SpendingLimitExceeded(kind.value, maximum_minor, remaining_minor, currency, at)
