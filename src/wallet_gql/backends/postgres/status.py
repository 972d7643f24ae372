"""The state of each Postgres node, without opening the store: for operators, while a node may be down."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final

from ...domain.errors import NodeUnavailable, WalletError
from ...urls import parse, parse_all
from ..redis.url import parse_redis_url
from ..relational.statements import Statements
from .node import PgNode
from .parameters import for_driver
from .placement import GONE, OF_NODE, SERVING, Member, Told, all_members, told_by
from .setup import parse_url
from .text import STATEMENTS
from .vitals import WAIT_SECONDS, has, vitals

PLAIN: Final = ("postgres", "postgresql")

DOUBT_SECONDS_MAX: Final = 60.0
"""A transaction in doubt for longer than this is not just a batch between its two phases."""

_OLDER: Final = Statements(replace(STATEMENTS.dialect, pending=""))
"""For a node that is not upgraded yet."""

_USERS: Final = "SELECT count(*) FROM records WHERE kind = 'user'"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node. `reason` says why it is not reachable. The sum of each currency is zero unless the books are damaged.

    `pending_credits` have no entry yet. `intents` counts the credits that other nodes have not confirmed yet.
    `oldest_in_doubt_seconds` covers both, too.
    """

    node: str
    reachable: bool
    reason: str = ""
    users: int = 0
    prepared: int = 0
    oldest_in_doubt_seconds: float | None = None
    sums_minor: dict[str, int] = field(default_factory=dict)
    intents: int = 0
    pending_credits: int = 0
    slots: int = 0
    slots_leaving: int = 0
    """Of a batch that is on its way; for longer than a moment only if its mover has died and nobody goes on with it."""
    state: str = SERVING

    @property
    def well(self) -> bool:
        """Whether the node answers, sums to zero, and has nothing in doubt for long."""
        fresh = (self.oldest_in_doubt_seconds or 0.0) < DOUBT_SECONDS_MAX
        return self.reachable and fresh and not any(self.sums_minor.values())


async def survey(url: str) -> list[NodeStatus]:
    """Ask all nodes at once: those of a storage URL, and those that were added since.

    Returns them in the order of their names. Raises ConfigurationError.
    """
    if parse_all(url)[0].scheme not in PLAIN:
        _, url = parse_redis_url(url)
    told: dict[str, Told] = {}
    asked = {name: PgNode(name, node_url) for name, node_url in parse_url(url).items()}
    found = await asyncio.gather(*(_ask(node, told) for node in asked.values()))
    members = all_members(told.values())
    more = [
        PgNode(name, for_driver(parse(member.address)))
        for name, member in members.items()
        if name not in asked and member.address and member.state != GONE
    ]
    found += await asyncio.gather(*(_ask(node, told) for node in more))
    return [
        replace(one, state=members.get(one.node, Member()).state) for one in sorted(found, key=lambda one: one.node)
    ]


async def _ask(node: PgNode, told: dict[str, Told]) -> NodeStatus:
    try:
        await node.open()
        async with node.connection(asyncio.get_running_loop().time() + WAIT_SECONDS) as connection:
            users = int(await connection.value(_USERS))
            found = await vitals(connection)
            statements = STATEMENTS if await has(connection, "pending_credits") else _OLDER
            totals = await connection.rows(statements.totals)
            rows = await connection.rows(OF_NODE)
    except NodeUnavailable:
        return NodeStatus(node.name, reachable=False, reason=f"node {node.name} does not answer")
    except WalletError as error:  # operators see the detail that clients never see
        return NodeStatus(node.name, reachable=False, reason=getattr(error, "detail", "") or error.message)
    finally:
        await node.close()
    said = told_by(rows[0]) if rows else None
    if said is not None:
        told[node.name] = said
    sums = {str(row[0]): int(row[1]) + int(row[2]) for row in totals}
    oldest = found.unsettled_seconds if found.in_doubt or found.intents or found.pending_credits else None
    return NodeStatus(
        node.name,
        reachable=True,
        users=users,
        prepared=found.in_doubt,
        oldest_in_doubt_seconds=oldest,
        sums_minor=sums,
        intents=found.intents,
        pending_credits=found.pending_credits,
        slots=said.here.bit_count() if said else 0,
        slots_leaving=said.leaving.slots.bit_count() if said and said.leaving else 0,
    )
