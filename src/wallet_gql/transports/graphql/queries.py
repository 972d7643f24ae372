"""What can be asked."""

from __future__ import annotations

from typing import Annotated

import strawberry

from ...domain.money import EXPONENTS
from .accounts import Account, Payee, PublicUser, User
from .backend import Backend
from .context import Info
from .describe import about, argument, object_type
from .holds import Hold
from .keys import KeyOutcome
from .merchants import find_merchant
from .nodes import NODES_MAX, find_node, find_nodes, find_viewer
from .payments import TopUp, Withdrawal
from .preview import Preview, PreviewInput
from .scalars import CurrencyCode
from .transfers import Transfer
from .types import Node, PublicMerchant


@object_type
class Currency:
    """A currency that an account may hold."""

    code: CurrencyCode = about("Its ISO 4217 code.")
    exponent: int = about("How many decimal digits its minor unit has: EUR 2, JPY 0, KWD 3.")


@object_type
class Query:
    """Everything that reads. All of it but `currencies` and `backend` needs a session."""

    @strawberry.field
    async def viewer(self, info: Info) -> User | None:
        """Who is logged in. Null, with the error `UNAUTHENTICATED`, if nobody is."""
        return await find_viewer(info.context)

    @strawberry.field
    async def account(
        self,
        info: Info,
        id: Annotated[strawberry.ID, argument("The account's id.")],  # noqa: A002 - the API's word
    ) -> Account | None:
        """One of your accounts; null if you have none with this id."""
        return await Account.find(info.context, await info.context.user_id(), id)

    @strawberry.field
    async def transfer(
        self,
        info: Info,
        id: Annotated[strawberry.ID, argument("The transfer's id.")],  # noqa: A002 - same
    ) -> Transfer | None:
        """A transfer that you paid or received; null if there is none with this id."""
        return await Transfer.find(info.context, await info.context.user_id(), id)

    @strawberry.field
    async def transfer_by_idempotency_key(
        self, info: Info, key: Annotated[strawberry.ID, argument("A key that you sent.")]
    ) -> KeyOutcome | None:
        """What is known of one of your own keys.

        Null proves nothing: the request that brought the key may be on its way, and may still commit. To learn the
        outcome for certain send the same mutation with the same key again. A text that cannot be a key is an error.
        """
        user_id = await info.context.user_id()
        known = await info.context.ledger.outcome(user_id, await info.context.key(key))
        return await KeyOutcome.of(info.context, known, user_id) if known else None

    @strawberry.field
    async def hold(
        self,
        info: Info,
        id: Annotated[strawberry.ID, argument("The hold's id.")],  # noqa: A002 - same
    ) -> Hold | None:
        """A hold that you placed or may close; null if there is none with this id."""
        return await Hold.find(info.context, await info.context.user_id(), id)

    @strawberry.field
    async def top_up(
        self,
        info: Info,
        id: Annotated[strawberry.ID, argument("The top-up's id.")],  # noqa: A002 - same
    ) -> TopUp | None:
        """One of your top-ups; null if there is none with this id."""
        return await TopUp.find(info.context, await info.context.user_id(), id)

    @strawberry.field
    async def withdrawal(
        self,
        info: Info,
        id: Annotated[strawberry.ID, argument("The withdrawal's id.")],  # noqa: A002 - same
    ) -> Withdrawal | None:
        """One of your withdrawals; null if there is none with this id."""
        return await Withdrawal.find(info.context, await info.context.user_id(), id)

    @strawberry.field
    async def user(
        self, info: Info, username: Annotated[str, argument("The username, in any case; no e-mail address.")]
    ) -> PublicUser | None:
        """What everybody may know of a user; null if there is none of that name."""
        await info.context.user_id()
        found = await info.context.wallet.identity.called(username)
        return PublicUser.of(found) if found else None

    @strawberry.field
    async def payee(
        self, info: Info, username: Annotated[str, argument("The username, in any case; no e-mail address.")]
    ) -> Payee | None:
        """Whom a payment to this name would pay, and in which currencies; null if there is nobody of that name."""
        await info.context.user_id()
        return await Payee.find(info.context, username)

    @strawberry.field
    async def preview(
        self, info: Info, given: Annotated[PreviewInput, argument("The payment.", name="input")]
    ) -> Preview:
        """What a payment would do if it were sent now: the fee, what remains, or why it would be refused.

        The payment's own rule decides. What is malformed is told as `InvalidInput`, as the payment tells it.
        """
        return await Preview.of(info.context, given)

    @strawberry.field
    async def merchant(
        self, info: Info, username: Annotated[str, argument("The merchant's username, in any case.")]
    ) -> PublicMerchant | None:
        """What everybody may know of a merchant; null if there is none of that name."""
        await info.context.user_id()
        return await find_merchant(info, username)

    @strawberry.field
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, argument("The id of anything that has one.")],  # noqa: A002 - same
    ) -> Node | None:
        """Anything of yours by its id: user, account, transfer, hold, top-up or withdrawal.

        Null if there is none that you may see.
        """
        return await find_node(info.context, await info.context.user_id(), id)

    @strawberry.field
    async def nodes(
        self, info: Info, ids: Annotated[list[strawberry.ID], argument(f"The ids, {NODES_MAX} at most.")]
    ) -> list[Node | None]:
        """Several things of yours by their ids, in that order; null in the place of each that you may not see."""
        return await find_nodes(info.context, await info.context.user_id(), ids)

    @strawberry.field
    async def currencies(self) -> list[Currency]:
        """All currencies that an account may hold, by code. Needs no session."""
        return [Currency(code=CurrencyCode(code), exponent=EXPONENTS[code]) for code in sorted(EXPONENTS)]

    @strawberry.field
    async def backend(self, info: Info) -> Backend:
        """The store in use: its name, what it can do, and what it promises. Needs no session."""
        return Backend.of(info.context.wallet.store)
