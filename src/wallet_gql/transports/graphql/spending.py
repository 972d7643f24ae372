"""Spending limits: what a user may still spend, and the user's own limits."""

from __future__ import annotations

from datetime import datetime

from ...domain import spending as domain
from ...domain.ids import UserId
from ...verbs.spending import Standing, standings
from .context import Info
from .describe import about, object_type
from .scalars import CurrencyCode
from .types import Money


@object_type
class Limits:
    """The most that may be spent. Null: no limit."""

    payment: Money | None = about("By one payment, withdrawal or hold.")
    day: Money | None = about("On one UTC day.")
    new_payee: Money | None = about("To one payee in the 24 hours after the first payment or hold, in sum.")

    @classmethod
    def of(cls, limits: domain.Limits, currency: str) -> Limits:
        """Limits in a currency."""
        return cls(**{name: _money(minor, currency) for name, minor in limits.values().items()})


@object_type
class SpendingLimits:
    """What the user may spend in a currency."""

    currency: CurrencyCode = about("The currency.")
    limits: Limits = about("The limits that hold now: the wallet's, lowered by the user's own.")
    own: Limits = about("The user's own limits.")
    raised: Limits | None = about("What `own` becomes at `raisedAt`; null if no raise waits.")
    raised_at: datetime | None = about("When the raise holds, UTC.")
    spent: Money = about("What was spent today, UTC.")
    remaining: Money | None = about("What is left of today's limit; null if there is none.")
    day_ends_at: datetime = about("When the next day begins, UTC.")

    @classmethod
    def of(cls, standing: Standing) -> SpendingLimits:
        """As the user sees it."""
        currency, found = standing.currency, standing.spending
        return cls(
            currency=CurrencyCode(currency),
            limits=Limits.of(standing.limits, currency),
            own=Limits.of(found.own, currency),
            raised=None if found.raised is None else Limits.of(found.raised, currency),
            raised_at=found.raised_at,
            spent=Money.of(found.spent_minor, currency),
            remaining=_money(standing.remaining_minor, currency),
            day_ends_at=found.ends_at,
        )


def _money(minor: int | None, currency: str) -> Money | None:
    return None if minor is None else Money.of(minor, currency)


async def spending_limits_of(info: Info, user_id: UserId) -> list[SpendingLimits]:
    """The user's limits in all currencies that have any."""
    found = await standings(info.context.ledger, user_id)
    await info.context.count_list("User.spendingLimits", len(found))
    return [SpendingLimits.of(one) for one in found]
