"""Looks objects up by id. The answer for another user's object is the same as for one that does not exist."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from ...domain.ids import UserId, is_id
from .accounts import Account, User
from .context import Context
from .failures import OverLimit
from .holds import Hold
from .payments import TopUp, Withdrawal
from .transfers import Transfer
from .types import Node

NODES_MAX: Final = 100
"""The most ids in one `nodes`."""


async def find_node(context: Context, user_id: UserId, node_id: str) -> Node | None:
    """The user's own object with that id; None if there is none."""
    if is_id("usr", node_id):
        return await find_viewer(context) if str(node_id) == user_id else None
    for kind in (Account, Transfer, Hold, TopUp, Withdrawal):
        node = await kind.find(context, user_id, node_id)
        if node is not None:
            return node
    return None


async def find_nodes(context: Context, user_id: UserId, node_ids: Sequence[str]) -> list[Node | None]:
    """The user's own objects with these ids; each is looked up once. Raises OverLimit."""
    if len(node_ids) > NODES_MAX:
        raise OverLimit(f"nodes takes {NODES_MAX} ids at most, not {len(node_ids)}")
    different = list(dict.fromkeys(node_ids))
    nodes = await asyncio.gather(*(find_node(context, user_id, node_id) for node_id in different))
    found = dict(zip(different, nodes, strict=True))
    return [found[node_id] for node_id in node_ids]


async def find_viewer(context: Context) -> User | None:
    """The user who sent the request. Raises Unauthenticated."""
    found = await context.caller.user()
    return User.of(found) if found else None
