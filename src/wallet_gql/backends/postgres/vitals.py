"""What an operator must know of a node: commits in doubt, credits on their way, its clock, and whether it can write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from ...domain.errors import NodeUnavailable, Unavailable, WalletError
from ...storage import NodeVitals
from .node import Connection, PgNode
from .text import CAN_WRITE

WAIT_SECONDS: Final = 3.0
PING_SECONDS: Final = 2.0

_LOST: Final = "the gate was lost while it was held, so others may have written"
_HOLDS: Final = """
SELECT EXISTS (
  SELECT FROM pg_locks WHERE pid = $1 AND locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted)
"""
_HAS: Final = "SELECT to_regclass($1) IS NOT NULL"
_INTENTS: Final = "SELECT count(*), extract(epoch FROM max(clock_timestamp() - decided_at))::float FROM intents"
_PENDING: Final = "SELECT count(*), extract(epoch FROM clock_timestamp())::float - min(at) / 1e6 FROM pending_credits"
_DOUBT: Final = """
SELECT count(*), extract(epoch FROM max(clock_timestamp() - prepared))::float FROM pg_prepared_xacts
WHERE database = current_database() AND gid LIKE 'wgql:%'
"""
_CLOCK: Final = "SELECT extract(epoch FROM clock_timestamp())::float"


async def vitals(connection: Connection) -> NodeVitals:
    """The state of one node. Raises Unavailable."""
    began = time.time()
    clock = float(await connection.value(_CLOCK))
    ended = time.time()
    ((in_doubt, oldest),) = await connection.rows(_DOUBT)
    intents, open_for = await _counted(connection, "intents", _INTENTS)
    pending, pending_for = await _counted(connection, "pending_credits", _PENDING)
    unsettled_seconds = max(oldest or 0.0, open_for, pending_for)
    off_seconds = clock - (began + ended) / 2
    return NodeVitals(connection.node, off_seconds, int(in_doubt), intents, pending, unsettled_seconds)


async def has(connection: Connection, table: str) -> bool:
    """Whether the node has the table: while releases change, its schema may be older. Raises Unavailable."""
    return bool(await connection.value(_HAS, table))


async def _counted(connection: Connection, table: str, statement: str) -> tuple[int, float]:
    """The number of rows and the age of the oldest; zeros if the schema is too old to have the table."""
    if not await has(connection, table):
        return 0, 0.0
    ((count, seconds),) = await connection.rows(statement)
    return int(count), float(seconds or 0.0)


async def vitals_of(node: PgNode) -> list[NodeVitals]:
    """The state of a node; nothing if it does not answer."""
    try:
        async with node.connection(asyncio.get_running_loop().time() + WAIT_SECONDS, aside=True) as connection:
            return [await vitals(connection)]
    except WalletError:
        return []


async def check_held(sessions: Iterable[tuple[PgNode, Connection]]) -> None:
    """Raise Unavailable unless the server that a node has now says that the session holds its gate.

    The session may have ended, and its lock with it, or be one of a server that was failed over from.
    """
    for node, session in sessions:
        session.deadline = asyncio.get_running_loop().time() + PING_SECONDS
        try:
            holds = await node.ask(_HOLDS, await session.value("SELECT pg_backend_pid()"), seconds=PING_SECONDS)
        except WalletError as error:
            raise Unavailable(_LOST) from error
        if not holds:
            raise Unavailable(_LOST)


async def why_away(node: PgNode) -> Unavailable | None:
    """Why the node cannot write now."""
    try:
        async with asyncio.timeout(PING_SECONDS):
            await node.run(CAN_WRITE, seconds=PING_SECONDS)
            await node.check_settings(PING_SECONDS)
    except Unavailable as error:
        return error
    except TimeoutError:
        return NodeUnavailable(node.name)
    return None
