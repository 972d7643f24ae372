"""REST for spending limits: `/v1/spending-limit`."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Final

from pydantic import Field

from ...domain import spending as domain
from ...verbs.spending import Standing, choose_limits, standings
from .routing import Call, Operation, Reply
from .values import CurrencyText, Given, MinorUnits, Money, Told


class SetSpendingLimits(Given):
    """All of your own limits in a currency, in its minor unit. Null or absent: none of your own."""

    currency: CurrencyText = Field(description="The currency.")
    payment: MinorUnits | None = Field(None, description="The most of one payment, withdrawal or hold.")
    day: MinorUnits | None = Field(None, description="The most of one UTC day.")
    new_payee: MinorUnits | None = Field(None, description="The most to a new payee, in sum.")


class Limits(Told):
    """The most that may be spent. Null: no limit."""

    payment: Money | None = Field(description="By one payment, withdrawal or hold.")
    day: Money | None = Field(description="On one UTC day.")
    new_payee: Money | None = Field(description="To one payee in the 24 hours after the first payment or hold.")

    @classmethod
    def of(cls, limits: domain.Limits, currency: str) -> Limits:
        """Limits in a currency."""
        return cls(**{name: _money(minor, currency) for name, minor in limits.values().items()})


class SpendingLimits(Told):
    """What you may spend in a currency."""

    currency: str
    limits: Limits = Field(description="The limits that hold now: the wallet's, lowered by your own.")
    own: Limits = Field(description="Your own limits.")
    raised: Limits | None = Field(description="What `own` becomes at `raisedAt`; null if no raise waits.")
    raised_at: datetime | None = Field(description="When the raise holds.")
    spent: Money = Field(description="What was spent today, UTC.")
    remaining: Money | None = Field(description="What is left of today's limit; null if there is none.")
    day_ends_at: datetime = Field(description="When the next day begins.")

    @classmethod
    def of(cls, standing: Standing) -> SpendingLimits:
        """As the user sees it."""
        currency, found = standing.currency, standing.spending
        return cls(
            currency=currency,
            limits=Limits.of(standing.limits, currency),
            own=Limits.of(found.own, currency),
            raised=None if found.raised is None else Limits.of(found.raised, currency),
            raised_at=found.raised_at,
            spent=Money.of(found.spent_minor, currency),
            remaining=_money(standing.remaining_minor, currency),
            day_ends_at=found.ends_at,
        )


class AllSpendingLimits(Told):
    """What you may spend, in each currency that has limits."""

    spending_limits: list[SpendingLimits]


def _money(minor: int | None, currency: str) -> Money | None:
    return None if minor is None else Money.of(minor, currency)


async def list_spending_limits(call: Call, _: None) -> Reply:
    """What you may spend, in each currency that has limits, by currency."""
    found = await standings(call.ledger, await call.user_id())
    return Reply(AllSpendingLimits(spending_limits=[SpendingLimits.of(one) for one in found]))


async def set_spending_limits(call: Call, given: SetSpendingLimits) -> Reply:
    """Set your own limits: what is lower holds at once, what is higher after 24 hours.

    All three are set: one that is left out is lifted after 24 hours. A raise that still waits is dropped. Refused with
    `FRESH_LOG_IN_REQUIRED` unless the password was given in the last 15 minutes. The same again changes nothing.
    """
    wanted = domain.Limits(given.payment, given.day, given.new_payee)
    user_id = (await call.caller.fresh_session()).user_id
    return Reply(
        SpendingLimits.of(await choose_limits(call.ledger, user_id, given.currency, wanted, call.caller.visitor))
    )


OPERATIONS: Final = (
    Operation("GET", "/v1/spending-limit", list_spending_limits, {HTTPStatus.OK: AllSpendingLimits}),
    Operation("PUT", "/v1/spending-limit", set_spending_limits, {HTTPStatus.OK: SpendingLimits}, SetSpendingLimits),
)
