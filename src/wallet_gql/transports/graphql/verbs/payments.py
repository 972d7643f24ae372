"""Bringing money in, and taking it out."""

from __future__ import annotations

from typing import Annotated

import strawberry

from ....domain.ids import AccountId, UserId, parse_account_id
from ....verbs.attempts import check_reference
from ..accounts import Account, own_account
from ..context import Info
from ..describe import about, argument, input_type, object_type
from ..given import KEY_CHECK, given
from ..operations import mutation
from ..payments import TopUp, Withdrawal
from .inputs import KEY, MoneyInput


@input_type
class TopUpInput:
    """Money to bring in."""

    idempotency_key: strawberry.ID = given(KEY, KEY_CHECK)
    to_account_id: strawberry.ID = given("Your account that gets it.", parse_account_id)
    amount: MoneyInput = about("How much.")


@input_type
class WithdrawInput:
    """Money to take out."""

    idempotency_key: strawberry.ID = given(KEY, KEY_CHECK)
    from_account_id: strawberry.ID = given("Your account that it leaves.", parse_account_id)
    amount: MoneyInput = about("How much.")
    reference: str | None = given(
        "What it is for, at most 140 characters; only you see it.", check_reference, default=""
    )


@object_type
class TopUpSuccess:
    """The top-up is noted, now or when this key was first sent. The account has nothing yet: pay it."""

    top_up: TopUp | None = about("The top-up as it is now; ask `topUp(id:)` how it goes on.")
    client_secret: str | None = about(
        "What the provider's library in the browser pays it with; null if the provider does not answer now: send the "
        "same again, or ask `topUp(id:)`. Keep it out of logs, URLs and storage."
    )
    replayed: bool = about("Whether the key was used before: then nothing was done now.")


@object_type
class WithdrawSuccess:
    """The money is held for the withdrawal, now or when this key was first sent."""

    withdrawal: Withdrawal | None = about("The withdrawal as it is now; ask `withdrawal(id:)` how it goes on.")
    replayed: bool = about("Whether the key was used before: then nothing was done now.")
    account_id: strawberry.Private[AccountId]
    viewer_id: strawberry.Private[UserId]

    @strawberry.field
    async def from_account(self, info: Info) -> Account | None:
        """Your account as it is now. Null if it could not be read: the withdrawal stands all the same."""
        return await own_account(info, self.viewer_id, self.account_id)


@object_type
class PaymentMutations:
    """What brings money in and takes it out."""

    @mutation
    async def top_up(
        self, info: Info, given: Annotated[TopUpInput, argument("What to bring in.", name="input")]
    ) -> TopUpSuccess:
        """Begin to bring money in. The account gets it when the payment provider says that it was paid, and not before.

        Safe to repeat with the same idempotency key.
        """
        user_id = await info.context.user_id()
        started = await info.context.wallet.payments.top_ups.request(
            user_id,
            await info.context.key(given.idempotency_key),
            AccountId(given.to_account_id),
            given.amount.minor_units,
            given.amount.currency,
        )
        return TopUpSuccess(
            top_up=TopUp.of(started.top_up), client_secret=started.client_secret, replayed=started.replayed
        )

    @mutation
    async def withdraw(
        self, info: Info, given: Annotated[WithdrawInput, argument("What to take out.", name="input")]
    ) -> WithdrawSuccess:
        """Take money out, to your bank. It is held at once, and leaves when the bank has it, some days later.

        Refused with `FRESH_LOG_IN_REQUIRED` unless the password was given in the last 15 minutes. Safe to repeat with
        the same idempotency key.
        """
        user_id = (await info.context.caller.fresh_session()).user_id
        asked = await info.context.wallet.payments.withdrawals.request(
            user_id,
            await info.context.key(given.idempotency_key),
            AccountId(given.from_account_id),
            given.amount.minor_units,
            given.amount.currency,
            reference=given.reference or "",
        )
        return WithdrawSuccess(
            withdrawal=Withdrawal.of(asked.withdrawal),
            replayed=asked.replayed,
            account_id=asked.withdrawal.account_id,
            viewer_id=user_id,
        )
