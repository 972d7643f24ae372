"""Read and set the spending limits of a user. `keyed.planned` keeps them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from ..domain.changes import Changes, Decision, ReadSet, Scope, Snapshot
from ..domain.errors import InvalidInput, reasons
from ..domain.frozen import frozen
from ..domain.ids import UserId
from ..domain.money import check_amount, check_currency
from ..domain.security_events import EventKind, SecurityEvent, Visitor, make_event_id
from ..domain.spending import Limits, Spending, spending_key
from .attempts import Means

log: Final = logging.getLogger("wallet_gql.security")


@frozen
class Standing:
    """What a user may spend in a currency. `limits` are those that hold now."""

    currency: str
    limits: Limits
    spending: Spending

    @property
    def remaining_minor(self) -> int | None:
        """What is left of the day's limit; None if there is none."""
        day = self.limits.day
        return None if day is None else max(day - self.spending.spent_minor, 0)


async def standings(means: Means, user_id: UserId) -> tuple[Standing, ...]:
    """The user's limits in all currencies that have any, by currency. Raises Unavailable."""
    currencies = sorted(means.spending_limits)
    if not currencies:
        return ()
    keys = {currency: spending_key(user_id, currency) for currency in currencies}
    found = await means.store.fetch(ReadSet(records=tuple(keys.values())))
    now = means.clock()
    return tuple(_standing(means, one, Spending.at(found.record(keys[one]), now)) for one in currencies)


async def choose_limits(
    means: Means, user_id: UserId, currency: str, wanted: Limits, visitor: Visitor | None = None
) -> Standing:
    """Set the user's own limits: what is lower holds at once, what is higher after a day. The same again does nothing.

    Raises:
        InvalidInput: the wallet has no limits in this currency. InvalidAmount: a limit is no amount.
        Unavailable, InDoubt: send it again.
    """
    check_limits(wanted)
    return await _change(means, user_id, currency, lambda found, now: found.choose(wanted, now), visitor)


async def grant_limits(
    means: Means, user_id: UserId, currency: str, granted: Mapping[str, int | None], *, lifts_own: bool = False
) -> Standing:
    """Set limits of one user, by the names of `Limits`, in place of the wallet's and at once. None: the wallet's again.

    With `lifts_own` the user's own limits are lifted, too. For operators. Raises as `choose_limits`.
    """
    check_limits(Limits(**granted))

    def change(found: Spending, _: datetime) -> Spending:
        changed = replace(found, granted=replace(found.granted, **granted))
        return replace(changed, own=Limits(), raised=None, raised_at=None) if lifts_own else changed

    return await _change(means, user_id, currency, change, None)


def check_limits(limits: Limits) -> None:
    """Raise InvalidAmount unless each limit is an amount that a payment may have."""
    for minor in limits.values().values():
        if minor is not None:
            check_amount(minor)


def _standing(means: Means, currency: str, spending: Spending) -> Standing:
    return Standing(currency, spending.limits(means.spending_limits[currency]), spending)


async def _change(
    means: Means,
    user_id: UserId,
    currency: str,
    change: Callable[[Spending, datetime], Spending],
    visitor: Visitor | None,
) -> Standing:
    check_currency(currency)
    if currency not in means.spending_limits:
        raise InvalidInput("currency", reasons.CURRENCY_WITHOUT_LIMITS(currency=currency))
    now = means.clock()
    event = SecurityEvent(make_event_id(now, means.entropy()), EventKind.SPENDING_LIMITS_CHANGED, now, visitor)
    key, told = spending_key(user_id, currency), event.to_record(user_id)

    def decide(snapshot: Snapshot) -> Decision[tuple[Spending, bool]]:
        before = snapshot.record(key)
        found = Spending.at(before, now)
        after = change(found, now)
        if after == found:
            return Decision(Changes(), (found, False))
        record = after.to_record(user_id, currency).after(before)
        return Decision(Changes(records=(record, told)), (after, True))

    scope = Scope(key.slot, records=(key, told.key))
    done = await means.store.execute(scope, decide, timeout_seconds=means.timeout_seconds)
    after, is_new = done.result
    if is_new:
        log.info("%s of %s in %s", event.kind.value, user_id, currency)
    return _standing(means, currency, after)
