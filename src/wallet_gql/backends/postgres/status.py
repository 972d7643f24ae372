"""The state of each Postgres node, without opening the store: for operators, while a node may be down."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from ...domain.errors import NodeUnavailable, WalletError
from ...urls import parse_all
from ..redis.url import parse_redis_url
from ..relational.statements import TOTALS
from .node import PgNode
from .setup import parse_url
from .vitals import WAIT_SECONDS, vitals

PLAIN: Final = ("postgres", "postgresql")

DOUBT_SECONDS_MAX: Final = 60.0
"""A transaction in doubt for longer than this is not just a batch between its two phases."""

_USERS: Final = "SELECT count(*) FROM records WHERE kind = 'user'"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node. `reason` says why it is not reachable. The sum of each currency is zero unless the books are damaged.

    `intents` counts the credits that other nodes have not confirmed yet; `oldest_in_doubt_seconds` covers them, too.
    """

    node: str
    reachable: bool
    reason: str = ""
    users: int = 0
    prepared: int = 0
    oldest_in_doubt_seconds: float | None = None
    sums_minor: dict[str, int] = field(default_factory=dict)
    intents: int = 0

    @property
    def well(self) -> bool:
        """Whether the node answers, sums to zero, and has nothing in doubt for long."""
        fresh = (self.oldest_in_doubt_seconds or 0.0) < DOUBT_SECONDS_MAX
        return self.reachable and fresh and not any(self.sums_minor.values())


async def survey(url: str) -> list[NodeStatus]:
    """Ask all nodes of a storage URL at once. Returns them in the order of their names. Raises ConfigurationError."""
    if parse_all(url)[0].scheme not in PLAIN:
        _, url = parse_redis_url(url)
    nodes = [PgNode(name, node_url) for name, node_url in sorted(parse_url(url).items())]
    return await asyncio.gather(*(_ask(node) for node in nodes))


async def _ask(node: PgNode) -> NodeStatus:
    try:
        await node.open()
        async with node.connection(asyncio.get_running_loop().time() + WAIT_SECONDS) as connection:
            users = int(await connection.value(_USERS))
            found = await vitals(connection)
            totals = await connection.rows(TOTALS)
    except NodeUnavailable:
        return NodeStatus(node.name, reachable=False, reason=f"node {node.name} does not answer")
    except WalletError as error:  # operators see the detail that clients never see
        return NodeStatus(node.name, reachable=False, reason=getattr(error, "detail", "") or error.message)
    finally:
        await node.close()
    sums = {str(row[0]): int(row[1]) + int(row[2]) for row in totals}
    oldest = found.unsettled_seconds if found.in_doubt or found.pending_credits else None
    return NodeStatus(
        node.name,
        reachable=True,
        users=users,
        prepared=found.in_doubt,
        oldest_in_doubt_seconds=oldest,
        sums_minor=sums,
        intents=found.pending_credits,
    )
