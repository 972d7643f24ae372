"""Opening Postgres nodes: find them, check that each is fit, and check its identity.

Every node stores the cluster's id, its own name and the whole list of names. A wrong, missing, doubled or swapped node
is refused with a message that names it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ...domain.errors import ConfigurationError, Contended, NodeUnavailable, Unavailable
from ...urls import Url, parse, parse_all
from ..kit.versions import is_due
from ..relational.migrations import HEAD
from .node import CURRENT, DURABLE, PgNode
from .parameters import for_driver
from .placement import GONE, OF_NODE, Member, Told, all_members, members_text, told_by
from .sessions import check_sessions

log = logging.getLogger("wallet_gql.postgres")

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")
ONLY: Final = "n1"
"""The name of a single node if its URL gives none."""

_JOIN: Final = (
    "INSERT INTO node (cluster_id, name, nodes, epoch) SELECT $1, $2, $3, 1 WHERE NOT EXISTS (SELECT 1 FROM node)"
)
_PLACE: Final = "UPDATE node SET here = $1, members = $2 WHERE here IS NULL"
_TAKE: Final = "UPDATE node SET protocol = $1 WHERE protocol IS NULL"
ALONE: Final = (
    "SELECT current_setting('synchronous_standby_names') = '' OR current_setting('synchronous_commit') = 'local'"
)
"""Whether commits wait for no standby."""
_IDENTITY_LOCK: Final = 7205759403792796
_IDENTITY_SECONDS: Final = 30.0
PATIENT: Final = "; ".join(
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


@contextmanager
def usable(node: PgNode) -> Iterator[None]:
    """Raises ConfigurationError if the node turns out to be unusable while it is opened."""
    try:
        yield
    except Contended:
        raise
    except Unavailable as error:
        fault = "does not answer" if isinstance(error, NodeUnavailable) else "cannot be used"
        remedy = "start it, or correct its URL"
        raise ConfigurationError(f"node {node.name} {fault} ({error.__cause__!r}); {remedy}") from error


async def check_node(node: PgNode, *, two_phase: bool) -> None:
    """Check the server's settings. Raises ConfigurationError with the line to change, Unavailable."""
    await check_sessions(node)
    names = ("server_version_num", *DURABLE, "max_prepared_transactions")
    found = dict(zip(names, await node.ask(CURRENT, list(names)), strict=True))
    faults = [f"{name} = off; set {name} = on" for name in DURABLE if found[name] == "off"]
    if two_phase and found["max_prepared_transactions"] == "0":
        faults.append("max_prepared_transactions = 0; set max_prepared_transactions = 64 and restart it")
    if int(found["server_version_num"]) < _VERSION_MIN:
        faults.append(f"server version {found['server_version_num']}; use 14 or newer")
    if faults:
        raise ConfigurationError("\n".join(f"node {node.name} has {fault}" for fault in faults))
    if node.hosts is not None and await node.ask(ALONE):
        log.warning("node %s: commits do not wait for a standby, so a fail-over may lose payments", node.name)


async def identify(nodes: list[PgNode], protocol: str, *, migrates: bool) -> dict[str, Told]:
    """What the nodes say of themselves. If all nodes are blank, they become a new cluster if `migrates` allows it.

    The first store that opens a ledger's nodes sets the `protocol` that writes them from then on. The first one of a
    release that stores the slots of each node stores those that the nodes have by the hash of their names.

    Raises:
        NotMigrated: there are only tables, and no ledger yet: whoever made them ended before.
        ConfigurationError: a node belongs to another cluster, has another name, knows another list, or is written by
            another protocol.
    """
    deadline = asyncio.get_running_loop().time() + _IDENTITY_SECONDS
    # of processes that start at once on blank nodes, one names them
    async with nodes[0].connection(deadline) as connection:
        await connection.do(f"BEGIN; {PATIENT}; SELECT pg_advisory_xact_lock({_IDENTITY_LOCK})")
        found = await _identify(nodes, protocol, migrates=migrates)
        await connection.do("COMMIT")
    return found


async def _identify(nodes: list[PgNode], protocol: str, *, migrates: bool) -> dict[str, Told]:
    names = [node.name for node in nodes]
    known = {node.name: await identity_of(node) for node in nodes}
    blank = [name for name, told in known.items() if told is None]
    first = next((told for told in known.values() if told is not None), None)
    if first is None or (blank and set(first.members) == set(names) and not await _has_users(nodes)):
        is_due(f"node {blank[0]}", None, HEAD, migrates=migrates)
        cluster = first.cluster_id if first is not None else secrets.token_hex(8)
        for node in nodes:
            await node.rows(_JOIN, cluster, node.name, json.dumps(names))
        known = {node.name: await identity_of(node) for node in nodes}
        blank = []
    if blank:
        raise ConfigurationError(f"node {blank[0]} is blank while others hold data: is its URL right?")
    check_identities(known)
    for node in nodes:
        await node.rows(_TAKE, protocol)
        written_by = await node.ask("SELECT protocol FROM node")
        if written_by != protocol:
            raise ConfigurationError(
                f"node {node.name} is written with {written_by}, this store would write it with {protocol}: "
                f"the two must not meet; to change over, see docs/backends/redis.md"
            )
    return {node.name: await _placed(node) for node in nodes}


async def _placed(node: PgNode) -> Told:
    """What the node says; its slots and members are stored if no release before has done so."""
    told = await identity_of(node)
    assert told is not None
    await node.rows(_PLACE, f"{told.here:x}", members_text(told.members))
    return told


async def identity_of(node: PgNode) -> Told | None:
    """What a node says of itself; None if it is blank. Raises Unavailable."""
    found = await node.rows(OF_NODE)
    return told_by(found[0]) if found else None


async def _has_users(nodes: list[PgNode]) -> bool:
    return any([await node.ask("SELECT EXISTS (SELECT 1 FROM records)") for node in nodes])


def check_identities(known: Mapping[str, Told | None]) -> None:
    """Raises ConfigurationError if a node is not the one of that name, or the nodes do not make one ledger."""
    told = {name: one for name, one in known.items() if one is not None}
    first = next(iter(told.values()))
    for name, one in told.items():
        if one.name != name:
            raise ConfigurationError(
                f"the database given as node {name} is node {one.name}: its URL is swapped or doubled; correct it"
            )
        if one.cluster_id != first.cluster_id:
            belongs = f"node {name} belongs to cluster {one.cluster_id}, not to {first.cluster_id}"
            raise ConfigurationError(f"{belongs}: is its URL right?")
    members = all_members(told.values())
    serving = sorted(name for name, member in members.items() if member.state != GONE)
    if not _suffices(list(known), members, serving):
        raise ConfigurationError(
            f"node {first.name} belongs to the nodes {', '.join(serving)}; given are {', '.join(known)}: name them all"
        )


def _suffices(names: list[str], members: Mapping[str, Member], serving: list[str]) -> bool:
    """Whether nodes are given from which all others can be found."""
    missing = [name for name in serving if name not in names]
    few = len(names) == 1 and len(serving) > 1
    return not few and all(name in members for name in names) and all(members[name].address for name in missing)
