"""Looks objects up by id. The answer for another user's object is the same as for one that does not exist."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from ...domain.errors import AccountNotFound, HoldNotFound, TransferNotFound
from ...domain.ids import AccountId, HoldId, TransferId, UserId, is_id
from .accounts import Account, User
from .context import Context
from .failures import OverLimit
from .holds import Hold
from .payments import find_top_up, find_withdrawal
from .types import Node, Transfer

NODES_MAX: Final = 100
"""The most ids in one `nodes`."""


async def find_node(context: Context, user_id: UserId, node_id: str) -> Node | None:
    """The user's own object with that id; None if there is none."""
    if is_id("usr", node_id):
        return await find_viewer(context, user_id) if str(node_id) == user_id else None
    return (
        await find_account(context, user_id, node_id)
        or await find_transfer(context, user_id, node_id)
        or await find_hold(context, user_id, node_id)
        or await find_top_up(context, user_id, node_id)
        or await find_withdrawal(context, user_id, node_id)
    )


async def find_nodes(context: Context, user_id: UserId, node_ids: Sequence[str]) -> list[Node | None]:
    """The user's own objects with these ids; each is looked up once. Raises OverLimit."""
    if len(node_ids) > NODES_MAX:
        raise OverLimit(f"nodes takes {NODES_MAX} ids at most, not {len(node_ids)}")
    different = list(dict.fromkeys(node_ids))
    nodes = await asyncio.gather(*(find_node(context, user_id, node_id) for node_id in different))
    found = dict(zip(different, nodes, strict=True))
    return [found[node_id] for node_id in node_ids]


async def find_viewer(context: Context, user_id: UserId) -> User | None:
    """The user."""
    found = await context.wallet.identity.user(user_id)
    return User.of(found) if found else None


async def find_account(context: Context, user_id: UserId, account_id: str) -> Account | None:
    """One of the user's accounts."""
    if not is_id("acc", account_id):
        return None
    try:
        return Account.of(await context.ledger.account(user_id, AccountId(account_id)))
    except AccountNotFound:
        return None


async def find_transfer(context: Context, user_id: UserId, transfer_id: str) -> Transfer | None:
    """A transfer that the user paid or received."""
    if not is_id("trf", transfer_id):
        return None
    try:
        found = await context.ledger.transfer_by_id(user_id, TransferId(transfer_id))
    except TransferNotFound:
        return None
    return Transfer.of(found, user_id)


async def find_hold(context: Context, user_id: UserId, hold_id: str) -> Hold | None:
    """A hold that the user placed or may close."""
    if not is_id("hld", hold_id):
        return None
    try:
        found = await context.ledger.hold(user_id, HoldId(hold_id))
    except HoldNotFound:
        return None
    return Hold.of(found, user_id, context.ledger.clock())
