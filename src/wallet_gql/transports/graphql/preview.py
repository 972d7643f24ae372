"""Previews: what a payment would do if it were sent now."""

from __future__ import annotations

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


@strawberry.input(one_of=True, description="Whom a previewed payment is to: exactly one of these.")
class PreviewRecipient:
    """Whom a previewed payment is to: exactly one of these."""

    account_id: strawberry.Maybe[strawberry.ID] = given("An account by its id, as in `transfer`.", parse_account_id)
    username: strawberry.Maybe[str] = about("A user, as in `transfer`.")
    merchant: strawberry.Maybe[str] = about("A merchant by username, as in `payMerchant`.")


@input_type
class PreviewInput:
    """A payment that is not made yet."""

    from_account_id: strawberry.ID = given("Your account that would pay.", parse_account_id)
    to: PreviewRecipient = about("Whom it would pay.")
    amount: MoneyInput = about("How much.")


@object_type
class Preview:
    """What a payment would do if it were sent now. Nothing is reserved: the payment itself may come out otherwise."""

    refusal: WalletError | None = about(
        "Why it would be refused; null if it would go through. Then the amounts are null, else they are not."
    )
    amount: Money | None = about("What would leave your account.")
    fee: Money | None = about("The part of `amount` that the wallet would keep.")
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
    wallet, source, to = context.wallet, AccountId(asked.from_account_id), asked.to
    minor, currency = asked.amount.minor_units, asked.amount.currency
    if to.merchant is not None:
        name = to.merchant.value
        return await wallet.merchants.preview(
            user_id, source=source, merchant=name, amount_minor=minor, currency=currency
        )
    account_id = None if to.account_id is None else AccountId(to.account_id.value)
    payee = To(account_id, None if to.username is None else to.username.value)
    return await wallet.ledger.preview_transfer(user_id, source=source, to=payee, amount_minor=minor, currency=currency)
