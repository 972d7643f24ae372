"""Setting one's own spending limits."""

from __future__ import annotations

from typing import Annotated

from ....domain.money import check_amount, check_currency
from ....domain.spending import Limits
from ....verbs.spending import choose_limits
from ..context import Info
from ..describe import about, argument, input_type, object_type
from ..given import given
from ..operations import mutation
from ..scalars import BigInt, CurrencyCode
from ..spending import SpendingLimits


@input_type
class SetSpendingLimitsInput:
    """All of your own limits in a currency, in its minor unit. Null or absent: none of your own."""

    currency: CurrencyCode = given("The currency.", check_currency)
    payment: BigInt | None = given("The most of one payment, withdrawal or hold.", check_amount, default=None)
    day: BigInt | None = given("The most of one UTC day.", check_amount, default=None)
    new_payee: BigInt | None = given("The most to a new payee, in sum.", check_amount, default=None)


@object_type
class SetSpendingLimitsSuccess:
    """Your limits are set; a raise waits for 24 hours."""

    spending_limits: SpendingLimits | None = about("Your limits in this currency.")


@object_type
class SpendingMutations:
    """What sets limits."""

    @mutation
    async def set_spending_limits(
        self, info: Info, given: Annotated[SetSpendingLimitsInput, argument("Your own limits.", name="input")]
    ) -> SetSpendingLimitsSuccess:
        """Set your own limits in a currency: what is lower holds at once, what is higher after 24 hours.

        All three are set: one that is left out is lifted after 24 hours. A raise that still waits is dropped. Refused
        with `FRESH_LOG_IN_REQUIRED` unless the password was given in the last 15 minutes. The same again changes
        nothing, so send it again if the answer is lost.
        """
        context = info.context
        wanted = Limits(given.payment, given.day, given.new_payee)
        user_id, visitor = (await context.caller.fresh_session()).user_id, context.caller.visitor
        found = await choose_limits(context.ledger, user_id, given.currency, wanted, visitor)
        return SetSpendingLimitsSuccess(spending_limits=SpendingLimits.of(found))
