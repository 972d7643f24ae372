"""Opening Postgres nodes: find them, check that each is fit, and check its identity.

Every node stores the cluster's id, its own name and the whole list of names. A wrong, missing, doubled or swapped node
is refused with a message that names it.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import tomllib
from pathlib import Path
from typing import Any, Final

from ...domain.errors import ConfigurationError
from ...urls import Url, parse, parse_all
from ..kit.store import no_ledger
from ..relational.migrations import HEAD, VERSION_TABLE, script
from .node import DURABLE, Connection, PgNode
from .parameters import for_driver
from .sessions import check_sessions

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")
ONLY: Final = "n1"
"""The name of a single node if its URL gives none."""

_JOIN: Final = (
    "INSERT INTO node (cluster_id, name, nodes, epoch) SELECT $1, $2, $3, 1 WHERE NOT EXISTS (SELECT 1 FROM node)"
)
_TAKE: Final = "UPDATE node SET protocol = $1 WHERE protocol IS NULL"
_IS_THERE: Final = (  # not to_regclass: it may answer from a cache that is older than the lock
    "SELECT EXISTS (SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE c.relname = $1 AND n.nspname = ANY (current_schemas(false)))"
)
_MIGRATION_LOCK: Final = 7205759403792795
_IDENTITY_LOCK: Final = 7205759403792796
_MIGRATION_SECONDS: Final = 30.0
_PATIENT: Final = "; ".join(
    f"SET LOCAL {name} = 0" for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
)
_VERSION_MIN: Final = 140000


def parse_url(url: str) -> dict[str, str]:
    """Node names and their URLs, from one URL, several joined by commas, or a TOML file. Raises ConfigurationError."""
    parts = parse_all(url)
    if "nodes" in parts[0].parameters:
        return _checked(list(_from_file(_list_of(parts)).items()))
    return _checked([_named(part, ONLY if len(parts) == 1 else None) for part in parts])


def _list_of(parts: tuple[Url, ...]) -> Path:
    """The file that the URL names. Nothing else may be in such a URL."""
    url = parts[0]
    if len(parts) > 1 or url.hosts or url.path or url.user is not None or len(url.query) > 1:
        raise ConfigurationError("nodes=FILE stands alone: write postgres://?nodes=nodes.toml")
    return Path(url.parameters["nodes"])


def _from_file(path: Path) -> dict[str, str]:
    try:
        nodes = tomllib.loads(path.read_text(encoding="utf-8")).get("nodes")
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"cannot read the node list {path}: {error}") from error
    if not isinstance(nodes, dict) or not all(isinstance(value, str) for value in nodes.values()):
        raise ConfigurationError(f'{path}: write [nodes] and below it a line n1 = "postgres://…" for each node')
    return {name: _of_file(name, value, path) for name, value in nodes.items()}


def _of_file(name: str, url: str, path: Path) -> str:
    try:
        said, rest = _named(parse(url), name)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: node {name}: {error.message}") from error
    if said != name:
        raise ConfigurationError(f"{path}: the URL of node {name} says node={said}; leave that out")
    return rest


def _named(url: Url, default: str | None) -> tuple[str, str]:
    """The node's name, and its URL as asyncpg takes it."""
    name = url.parameters.get("node", default)
    if url.scheme not in ("postgres", "postgresql") or name is None:
        raise ConfigurationError("write postgres://user@host/db?node=NAME for each of several nodes")
    return name, for_driver(url)


def _checked(nodes: list[tuple[str, str]]) -> dict[str, str]:
    for name, _ in nodes:
        if NAME.fullmatch(name) is None:
            raise ConfigurationError(f"node name {name!r}: 1 to 63 letters, digits, dashes or underscores")
    doubled = {name for name, _ in nodes if [n for n, _ in nodes].count(name) > 1}
    if doubled:
        raise ConfigurationError(f"node names must differ; doubled: {', '.join(sorted(doubled))}")
    return dict(nodes)


async def prepare_node(node: PgNode, *, two_phase: bool, creates: bool) -> None:
    """Check the server's settings, bring the schema up to date. Raises ConfigurationError with the line to change."""
    await check_sessions(node)
    names = ("server_version_num", *DURABLE, "max_prepared_transactions")
    found = {name: await node.ask("SELECT current_setting($1)", name) for name in names}
    faults = [f"{name} = off; set {name} = on" for name in DURABLE if found[name] == "off"]
    if two_phase and found["max_prepared_transactions"] == "0":
        faults.append("max_prepared_transactions = 0; set max_prepared_transactions = 64 and restart it")
    if int(found["server_version_num"]) < _VERSION_MIN:
        faults.append(f"server version {found['server_version_num']}; use 14 or newer")
    if faults:
        raise ConfigurationError("\n".join(f"node {node.name} has {fault}" for fault in faults))
    await _migrate(node, creates=creates)
    node.is_strict = True


async def _migrate(node: PgNode, *, creates: bool) -> None:
    async with node.connection(asyncio.get_running_loop().time() + _MIGRATION_SECONDS) as connection:
        found = await _version(connection)
    if found == HEAD:
        return
    if found is None and not creates:
        raise no_ledger(f"node {node.name}")
    if found is not None and found > HEAD:
        raise ConfigurationError(f"node {node.name} has schema version {found}, this program knows {HEAD}; upgrade it")
    async with node.connection(asyncio.get_running_loop().time() + _MIGRATION_SECONDS) as connection:
        await connection.do(f"BEGIN; {_PATIENT}; SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        found = await _version(connection)  # another process may have upgraded it first
        if found != HEAD:
            await connection.do(script("postgresql", found))
        await connection.do("COMMIT")


async def _version(connection: Connection) -> str | None:
    if not await connection.value(_IS_THERE, VERSION_TABLE):
        return None
    found = await connection.value(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a constant
    return None if found is None else str(found)


async def identify(nodes: list[PgNode], protocol: str) -> tuple[str, int]:
    """The cluster's id and the epoch of its node list. If all nodes are blank, they become a new cluster.

    The first store that opens a ledger's nodes sets the `protocol` that writes them from then on.

    Raises:
        ConfigurationError: a node belongs to another cluster, has another name, knows another list, or is written by
            another protocol.
    """
    deadline = asyncio.get_running_loop().time() + _MIGRATION_SECONDS
    # of processes that start at once on blank nodes, one names them
    async with nodes[0].connection(deadline) as connection:
        await connection.do(f"BEGIN; {_PATIENT}; SELECT pg_advisory_xact_lock({_IDENTITY_LOCK})")
        found = await _identify(nodes, protocol)
        await connection.do("COMMIT")
    return found


async def _identify(nodes: list[PgNode], protocol: str) -> tuple[str, int]:
    names = [node.name for node in nodes]
    known = {node.name: await _identity(node) for node in nodes}
    blank = [name for name, row in known.items() if row is None]
    told = next((row for row in known.values() if row is not None), None)
    if told is None or (blank and not await _has_users(nodes)):
        cluster = str(told["cluster_id"]) if told is not None else secrets.token_hex(8)
        for node in nodes:
            await node.rows(_JOIN, cluster, node.name, json.dumps(names))
        known = {node.name: await _identity(node) for node in nodes}
        blank = []
    if blank:
        raise ConfigurationError(f"node {blank[0]} is blank while others hold data: is its URL right?")
    first = next(iter(known.values()))
    for name, row in known.items():
        _check_identity(name, row, first, names)
    for node in nodes:
        await node.rows(_TAKE, protocol)
        written_by = await node.ask("SELECT protocol FROM node")
        if written_by != protocol:
            raise ConfigurationError(
                f"node {node.name} is written with {written_by}, this store would write it with {protocol}: "
                f"the two must not meet; to change over, see docs/backends/redis.md"
            )
    return str(first["cluster_id"]), int(first["epoch"])


async def _identity(node: PgNode) -> Any:
    found = await node.rows("SELECT cluster_id, name, nodes, epoch FROM node")
    return found[0] if found else None


async def _has_users(nodes: list[PgNode]) -> bool:
    return any([await node.ask("SELECT EXISTS (SELECT 1 FROM records)") for node in nodes])


def _check_identity(name: str, row: Any, first: Any, names: list[str]) -> None:
    if row["name"] != name:
        raise ConfigurationError(
            f"the database given as node {name} is node {row['name']}: its URL is swapped or doubled; correct it"
        )
    if row["cluster_id"] != first["cluster_id"]:
        belongs = f"node {name} belongs to cluster {row['cluster_id']}, not to {first['cluster_id']}"
        raise ConfigurationError(f"{belongs}: is its URL right?")
    if json.loads(row["nodes"]) != names:
        listed = ", ".join(json.loads(row["nodes"]))
        raise ConfigurationError(
            f"node {name} belongs to the nodes {listed}; given are {', '.join(names)}: name them all"
        )
    if row["epoch"] != first["epoch"]:
        epochs = f"node {name} is at epoch {row['epoch']} of the node list, others at {first['epoch']}"
        raise ConfigurationError(f"{epochs}: finish changing the list first")
