"""What can be asked."""

from __future__ import annotations

from typing import Annotated

import strawberry

from ...domain.errors import AccountNotFound, TransferNotFound
from ...domain.ids import AccountId, TransferId, UserId, is_id
from .accounts import Account, User
from .context import Context, Info
from .describe import argument, object_type
from .types import Node, Transfer


@object_type
class Query:
    """Everything that reads. All of it needs a session."""

    @strawberry.field
    async def viewer(self, info: Info) -> User | None:
        """Who is logged in. Null, with the error `UNAUTHENTICATED`, if nobody is."""
        return await _user(info.context, await info.context.user_id())

    @strawberry.field
    async def account(
        self,
        info: Info,
        id: Annotated[strawberry.ID, argument("The account's id.")],  # noqa: A002 - the API's word
    ) -> Account | None:
        """One of your accounts; null if you have none with this id."""
        return await _account(info.context, await info.context.user_id(), id)

    @strawberry.field
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, argument("The id of anything that has one.")],  # noqa: A002 - same
    ) -> Node | None:
        """Anything of yours by its id: your user, an account, a transfer. Null if there is none that you may see."""
        user_id = await info.context.user_id()
        if is_id("usr", id):
            return await _user(info.context, user_id) if str(id) == user_id else None
        return await _account(info.context, user_id, id) or await _transfer(info.context, user_id, id)


async def _user(context: Context, user_id: UserId) -> User | None:
    found = await context.wallet.identity.user(user_id)
    return User.of(found) if found else None


async def _account(context: Context, user_id: UserId, account_id: str) -> Account | None:
    if not is_id("acc", account_id):
        return None
    try:
        return Account.of(await context.ledger.account(user_id, AccountId(account_id)))
    except AccountNotFound:
        return None


async def _transfer(context: Context, user_id: UserId, transfer_id: str) -> Transfer | None:
    if not is_id("trf", transfer_id):
        return None
    try:
        found = await context.ledger.transfer_by_id(user_id, TransferId(transfer_id))
    except TransferNotFound:
        return None
    return Transfer.of(found, user_id)
