"""The state of each Postgres node, without opening the store: for operators, while a node may be down."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ...domain.errors import Contended, NodeUnavailable, WalletError
from ...urls import parse, parse_all
from ..redis.url import parse_redis_url
from ..relational.statements import Statements
from .node import PgNode
from .parameters import for_driver
from .placement import GONE, SERVING, Member, Told, all_members, not_yet
from .setup import parse_url
from .text import STATEMENTS
from .upgrade import identity_if_any
from .vitals import WAIT_SECONDS, has, vitals

PLAIN: Final = ("postgres", "postgresql")

DOUBT_SECONDS_MAX: Final = 60.0
"""A transaction in doubt for longer than this is not just a batch between its two phases."""

_OLDER: Final = Statements(replace(STATEMENTS.dialect, pending=""))
"""For a node that is not upgraded yet."""

BLANK: Final = "there is no ledger here yet; `wallet-gql migrate` makes one"

NOT_ADDED: Final = "not added"
"""The state of a blank node that is listed, and that `nodes add` has not made part of the ledger yet."""

_USERS: Final = "SELECT count(*) FROM records WHERE kind = 'user'"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node. `reason` says why it is not reachable, or that it has no ledger.

    The sum of each currency is zero unless the books are damaged. A large node may take longer to count than anybody
    waits here: its `sums_minor` and `users` are then None, not known.

    `pending_credits` have no entry yet. `intents` counts the credits that other nodes have not confirmed yet.
    `oldest_in_doubt_seconds` covers both, too.
    """

    node: str
    reachable: bool
    reason: str = ""
    users: int | None = 0
    prepared: int = 0
    oldest_in_doubt_seconds: float | None = None
    sums_minor: dict[str, int] | None = field(default_factory=dict)
    intents: int = 0
    pending_credits: int = 0
    slots: int = 0
    slots_leaving: int = 0
    """Of a batch that is on its way; for longer than a moment only if its mover has died and nobody goes on with it."""
    state: str = SERVING

    @property
    def well(self) -> bool:
        """Whether it answers, has a ledger and nothing in doubt for long, and no sum is known that is not zero."""
        fresh = (self.oldest_in_doubt_seconds or 0.0) < DOUBT_SECONDS_MAX
        return self.reachable and not self.reason and fresh and not any((self.sums_minor or {}).values())


async def survey(url: str) -> list[NodeStatus]:
    """Ask all nodes at once: those of a storage URL, and those that were added since.

    Returns them in the order of their names. Raises ConfigurationError.
    """
    if parse_all(url)[0].scheme not in PLAIN:
        _, url = parse_redis_url(url)
    known: dict[str, Told | None] = {}
    asked = {name: PgNode(name, node_url) for name, node_url in parse_url(url).items()}
    found = await asyncio.gather(*(_ask(node, known) for node in asked.values()))
    members = all_members(one for one in known.values() if one is not None)
    more = [
        PgNode(name, for_driver(parse(member.address)))
        for name, member in members.items()
        if name not in asked and member.address and member.state != GONE
    ]
    found += await asyncio.gather(*(_ask(node, known) for node in more))
    found = [replace(one, state=members.get(one.node, Member()).state) for one in found]
    found += [NodeStatus(name, reachable=True, state=NOT_ADDED) for name in not_yet(known)]
    return sorted({one.node: one for one in found}.values(), key=lambda one: one.node)


async def _ask(node: PgNode, known: dict[str, Told | None]) -> NodeStatus:
    try:
        await node.open()
        known[node.name] = said = await identity_if_any(node, WAIT_SECONDS)
        if said is None:
            return NodeStatus(node.name, reachable=True, reason=BLANK)
        async with node.connection(asyncio.get_running_loop().time() + WAIT_SECONDS) as connection:
            found = await vitals(connection)
            statements = STATEMENTS if await has(connection, "pending_credits") else _OLDER
        users, totals = await asyncio.gather(_soon(node, _USERS), _soon(node, statements.totals))
    except NodeUnavailable:
        return NodeStatus(node.name, reachable=False, reason=f"node {node.name} does not answer")
    except WalletError as error:  # operators see the detail that clients never see
        return NodeStatus(node.name, reachable=False, reason=getattr(error, "detail", "") or error.message)
    finally:
        await node.close()
    sums = None if totals is None else {str(row[0]): int(row[1]) + int(row[2]) for row in totals}
    oldest = found.unsettled_seconds if found.in_doubt or found.intents or found.pending_credits else None
    return NodeStatus(
        node.name,
        reachable=True,
        users=None if users is None else int(users[0][0]),
        prepared=found.in_doubt,
        oldest_in_doubt_seconds=oldest,
        sums_minor=sums,
        intents=found.intents,
        pending_credits=found.pending_credits,
        slots=said.here.bit_count(),
        slots_leaving=said.leaving.slots.bit_count() if said.leaving else 0,
    )


async def _soon(node: PgNode, statement: str) -> list[Any] | None:
    """The rows of a statement that reads the whole node; None if it takes too long for somebody who waits."""
    try:
        return await node.rows(statement, seconds=WAIT_SECONDS)
    except Contended:
        return None
