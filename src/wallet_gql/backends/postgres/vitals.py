"""What an operator must know of a node: commits in doubt, credits on their way, and its clock."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from ...domain.errors import WalletError
from ...storage import NodeVitals
from .node import Connection, PgNode

WAIT_SECONDS: Final = 3.0

_HAS_INTENTS: Final = "SELECT to_regclass('intents') IS NOT NULL"
_INTENTS: Final = "SELECT count(*), extract(epoch FROM max(clock_timestamp() - decided_at))::float FROM intents"
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
    has_intents = await connection.value(_HAS_INTENTS)
    ((intents, open_for),) = await connection.rows(_INTENTS) if has_intents else [(0, None)]
    unsettled_seconds = max(oldest or 0.0, open_for or 0.0)
    return NodeVitals(connection.node, clock - (began + ended) / 2, int(in_doubt), int(intents), unsettled_seconds)


async def vitals_of(node: PgNode) -> list[NodeVitals]:
    """The state of a node; nothing if it does not answer."""
    try:
        async with node.connection(asyncio.get_running_loop().time() + WAIT_SECONDS, aside=True) as connection:
            return [await vitals(connection)]
    except WalletError:
        return []
