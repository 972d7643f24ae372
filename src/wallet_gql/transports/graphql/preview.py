"""Previews: what a payment or a hold would do if it were sent now."""

from __future__ import annotations

from typing import Any

import strawberry

from ...domain.errors import InvalidAmount, InvalidInput, Rejected
from ...domain.ids import AccountId, UserId, parse_account_id
from ...verbs import preview as domain
from ...verbs.ledger import To
from .context import Context
from .describe import about, input_type, object_type
from .errors import WalletError, as_data
from .given import as_placed, check_given, given
from .types import Money
from .verbs.inputs import MoneyInput
from .verbs.merchants import HoldInput


@strawberry.input(one_of=True, description="Whom a previewed payment is to: exactly one of these.")
class PreviewRecipient:
    """Whom a previewed payment is to: exactly one of these."""

    account_id: strawberry.Maybe[strawberry.ID] = given("An account by its id, as in `transfer`.", parse_account_id)
    username: strawberry.Maybe[str] = about("A user, as in `transfer`.")
    merchant: strawberry.Maybe[str] = about("A merchant by username, as in `payMerchant`.")


@input_type
class PreviewInput:
    """A payment that is not made yet, or a hold that is not placed."""

    from_account_id: strawberry.ID = given("Your account that would pay.", parse_account_id)
    to: PreviewRecipient = about("Whom it would pay.")
    amount: MoneyInput = about("How much.")
    hold: HoldInput | None = strawberry.field(
        description="If given: what the hold would do, as in `placeHold` or `payMerchant`.",
        default=None,
    )


@object_type
class Preview:
    """What a payment or a hold would do if it were sent now. Nothing is reserved: it may come out otherwise."""

    refusal: WalletError | None = about(
        "Why it would be refused; null if it would go through. Then the amounts are null, else they are not."
    )
    amount: Money | None = about("What would leave your account, or be reserved.")
    fee: Money | None = about("The part of `amount` that the wallet would keep; of a hold if all of it is taken.")
    received: Money | None = about("What the payee would get.")
    remaining: Money | None = about("What you could still spend.")

    @classmethod
    async def of(cls, context: Context, asked: PreviewInput) -> Preview:
        """The preview of a payment. Raises RateLimited, Unavailable."""
        user_id = await context.user_id()
        try:
            await check_given(context, asked)
        except InvalidInput as error:
            return cls.refused(error)
        found = await _preview(context, user_id, asked)
        if isinstance(found, InvalidInput | InvalidAmount):
            return cls.refused(as_placed(found, asked))
        if isinstance(found, Rejected):
            return cls.refused(found)
        amounts = found.amount_minor, found.fee_minor, found.amount_minor - found.fee_minor, found.remaining_minor
        amount, fee, received, remaining = (Money.of(minor, found.currency) for minor in amounts)
        return cls(refusal=None, amount=amount, fee=fee, received=received, remaining=remaining)

    @classmethod
    def refused(cls, error: Rejected) -> Preview:
        """The preview of a payment that would be refused."""
        return cls(refusal=as_data(error), amount=None, fee=None, received=None, remaining=None)


async def _preview(context: Context, user_id: UserId, asked: PreviewInput) -> domain.Preview | Rejected:
    to, merchants, ledger = asked.to, context.wallet.merchants, context.wallet.ledger
    paid: dict[str, Any] = {
        "source": AccountId(asked.from_account_id),
        "amount_minor": asked.amount.minor_units,
        "currency": asked.amount.currency,
    }
    held: dict[str, Any] = {} if asked.hold is None else {"expires_in_seconds": asked.hold.expires_in_seconds}
    if to.merchant is not None and held:
        return await merchants.preview_hold(user_id, merchant=to.merchant.value, **paid, **held)
    if to.merchant is not None:
        return await merchants.preview(user_id, merchant=to.merchant.value, **paid)
    account_id = None if to.account_id is None else AccountId(to.account_id.value)
    payee = To(account_id, None if to.username is None else to.username.value)
    if held:
        return await ledger.preview_hold(user_id, to=payee, **paid, **held)
    return await ledger.preview_transfer(user_id, to=payee, **paid)
