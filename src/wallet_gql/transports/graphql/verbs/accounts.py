"""Opening and closing accounts."""

from __future__ import annotations

from typing import Annotated

import strawberry

from ....domain.ids import AccountId, parse_account_id
from ....domain.model import AccountStatus
from ....domain.money import check_currency
from ..accounts import Account, own_account
from ..context import Info
from ..describe import about, argument, input_type, object_type
from ..given import given
from ..operations import mutation
from ..scalars import CurrencyCode


@input_type
class OpenAccountInput:
    """Which account to open."""

    currency: CurrencyCode = given("The currency it shall hold.", check_currency)


@input_type
class CloseAccountInput:
    """Which account to close."""

    account_id: strawberry.ID = given("Your account, at zero and without open holds.", parse_account_id)


@object_type
class OpenAccountSuccess:
    """The account is open."""

    account: Account | None = about("The account, at zero.")


@object_type
class CloseAccountSuccess:
    """The account is closed for good."""

    account: Account | None = about("The account. Null if it could not be read: it is closed all the same.")


@object_type
class AccountMutations:
    """What opens and closes accounts."""

    @mutation
    async def open_account(
        self, info: Info, given: Annotated[OpenAccountInput, argument("Which account to open.", name="input")]
    ) -> OpenAccountSuccess:
        """Open an account of yours: one per currency, besides closed ones."""
        context = info.context
        return OpenAccountSuccess(
            account=Account.of(await context.ledger.open_account(await context.user_id(), given.currency))
        )

    @mutation
    async def close_account(
        self, info: Info, given: Annotated[CloseAccountInput, argument("Which account to close.", name="input")]
    ) -> CloseAccountSuccess:
        """Close an account of yours for good. Moves no money, so it needs no idempotency key.

        If the answer is lost send it again: `ACCOUNT_CLOSED` then says that it is done.
        """
        user_id = await info.context.user_id()
        account_id = AccountId(given.account_id)
        await info.context.ledger.set_account_status(user_id, account_id, AccountStatus.CLOSED)
        return CloseAccountSuccess(account=await own_account(info, user_id, account_id))
