"""Bringing the schema of Postgres nodes up to date.

An upgrade waits for whatever holds the tables. A transaction that a coordinator of the older release has left prepared
would hold them for ever, so the upgrade settles such ones meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from ...background import run_for_ever
from ...domain.errors import ConfigurationError
from ..kit import versions
from ..relational.migrations import HEAD, VERSION_TABLE, script
from .node import Connection, PgNode, for_long
from .placement import OF_NODE, Told, told_by
from .setup import PATIENT, check_identities, check_node, usable
from .two_phase import Gid, Recovery, prepared_on

log = logging.getLogger("wallet_gql.postgres")

ASK_SECONDS: Final = 30.0
"""How long a node may take to tell its version."""

SETTLE_EVERY_SECONDS: Final = 0.5
_SETTLE_MAX: Final = 1_000
_MIGRATION_LOCK: Final = 7205759403792795
_IS_THERE: Final = (  # not to_regclass: it may answer from a cache that is older than the lock
    "SELECT EXISTS (SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE c.relname = $1 AND n.nspname = ANY (current_schemas(false)))"
)


async def is_due(node: PgNode, *, migrates: bool) -> bool:
    """Whether the schema has to be brought up to date. Raises as `versions.is_due`; Unavailable."""
    async with node.connection(asyncio.get_running_loop().time() + ASK_SECONDS) as connection:
        found = await _version(connection)
    return versions.is_due(f"node {node.name}", found, HEAD, migrates=migrates)


async def are_due(nodes: Sequence[PgNode], *, two_phase: bool, migrates: bool) -> bool:
    """Check all nodes. Returns whether the schema of any has to be brought up to date.

    Whoever must not do that is told so last: what is wrong with any node has to be mended before, as by whoever may.

    Raises:
        NotMigrated: as `versions.is_due`.
        ConfigurationError: a node is not fit, of a newer version, or one of another ledger.
    """
    due: list[PgNode] = []
    for node in nodes:
        with usable(node):
            await check_node(node, two_phase=two_phase)
            if await is_due(node, migrates=True):
                due.append(node)
    if due and not migrates:
        with usable(due[0]):
            await _identities(nodes)
            await is_due(due[0], migrates=False)
    return bool(due)


async def prepare_node(node: PgNode, *, migrates: bool) -> None:
    """Bring the schema up to date, however long that takes. Raises ConfigurationError, Unavailable."""
    if await is_due(node, migrates=migrates):
        async with node.connection(for_long()) as connection:
            await connection.do(f"BEGIN; {PATIENT}; SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            found = await _version(connection)  # another process may have upgraded it first
            if versions.is_due(f"node {node.name}", found, HEAD, migrates=migrates):
                await connection.do(script("postgresql", found))
            await connection.do("COMMIT")
    node.is_strict = True


async def _version(connection: Connection) -> str | None:
    if not await connection.value(_IS_THERE, VERSION_TABLE):
        return None
    found = await connection.value(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a constant
    return None if found is None else str(found)


@asynccontextmanager
async def settling(nodes: Sequence[PgNode], *, two_phase: bool) -> AsyncIterator[None]:
    """Settle meanwhile what is prepared, as recovery does.

    Raises:
        ConfigurationError: something is prepared that this store cannot settle; or the nodes do not belong together:
            a verdict must not be asked of the wrong node.
        Unavailable.
    """
    found = [(node.name, text) for node in nodes for text in await prepared_on(node)]
    known = await _identities(nodes)  # afterwards: whoever has prepared ours had named the nodes before
    cluster = known[nodes[0].name].cluster_id if known else ""
    leaders = {node.name: node for node in nodes} if known and two_phase else {}
    for name, text in found:
        gid = Gid.parse(text)
        if gid is None or gid.cluster != cluster or gid.leader not in leaders:
            raise ConfigurationError(
                f"node {name}: the prepared transaction {text} would block the upgrade; "
                f"let the program that prepared it end it, then start again"
            )
    recovery = Recovery(cluster, leaders)
    step = partial(recovery.run, _SETTLE_MAX)
    task = asyncio.create_task(run_for_ever(log, "recovery", step, every_seconds=SETTLE_EVERY_SECONDS, at_once=True))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def identity_if_any(node: PgNode, seconds: float = ASK_SECONDS) -> Told | None:
    """What a node says of itself; None if it is blank, also if it has no tables yet. Raises Unavailable."""
    async with node.connection(asyncio.get_running_loop().time() + seconds) as connection:
        await connection.do("BEGIN")  # one session, whatever is between: only later checks tell a pooler
        rows = await connection.rows(OF_NODE) if await connection.value(_IS_THERE, "node") else []
        await connection.do("COMMIT")
    return told_by(rows[0]) if rows else None


async def _identities(nodes: Sequence[PgNode]) -> dict[str, Told]:
    """The nodes' identities; none if a node is blank. Raises ConfigurationError if they are of several clusters."""
    found = {node.name: await identity_if_any(node) for node in nodes}
    known = {name: told for name, told in found.items() if told is not None}
    if len(known) < len(found):
        return {}
    check_identities(known)
    return known
