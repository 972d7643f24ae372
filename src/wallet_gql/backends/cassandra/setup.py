"""Opening a ledger: the requirements on the cluster, and the tables."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import cassandra

from ...domain.errors import ConfigurationError
from ..kit.versions import is_due
from .client import Client
from .errors import Failure
from .tables import TABLES, VERSION, definition

log = logging.getLogger("wallet_gql.cassandra")

COPIES_LEAST: Final = 3
"""The fewest copies of every row in production: with one node down, a majority remains."""

_WANTED: Final = {"commitlog_sync": ("batch", "group"), "paxos_variant": ("v2",)}
"""Required settings of every node. `periodic` would answer before a commit is on disk."""


async def connect(client: Client) -> None:
    """Find the cluster. Raises ConfigurationError with the remedy."""
    shown = client.address.shown
    try:
        await client.connect()
    except Failure as error:
        raise ConfigurationError(f"Cassandra at {shown} {_trouble(error.cause)}") from error


def _trouble(error: Exception) -> str:
    """Why the driver finds no cluster, and what to do about it."""
    causes = [cause for cause in getattr(error, "errors", {}).values() if isinstance(cause, Exception)] or [error]
    if any(isinstance(cause, cassandra.AuthenticationFailed) for cause in causes):
        return "refuses the user or the password, or wants some; correct the URL"
    if any("protocol version" in str(cause).lower() for cause in causes):
        return "is too old: 4.1 or newer is needed"
    told = "; ".join(sorted({str(cause) for cause in causes}))
    return f"does not answer ({told}); start it, or correct the URL"


async def check_cluster(client: Client, *, production: bool) -> None:
    """Check the keyspace, and the settings of every node that answers. Raises ConfigurationError."""
    await _check_keyspace(client, production=production)
    for host in client.hosts:
        try:
            listed = await client.run("SELECT name, value FROM system_views.settings", host=host)
        except Failure:
            log.warning("Cassandra's node %s does not answer, so its settings are not checked", host.address)
            continue
        found: dict[str, str] = {name: value for name, value in listed if value is not None}
        for name, allowed in _WANTED.items():
            if found.get(name) not in allowed:
                raise ConfigurationError(
                    f"Cassandra's node {host.address} has {name}: {found.get(name)}; "
                    f"write `{name}: {allowed[0]}` into its cassandra.yaml and restart it"
                )


async def _check_keyspace(client: Client, *, production: bool) -> None:
    keyspace = client.address.keyspace
    wanted = "replication, durable_writes"
    find = f"SELECT {wanted} FROM system_schema.keyspaces WHERE keyspace_name = '{keyspace}'"  # noqa: S608 - checked
    listed = await client.run(find)
    if not listed:
        copies = _copies(min(len(client.hosts), COPIES_LEAST))
        raise ConfigurationError(
            f"Cassandra has no keyspace {keyspace}; make it: CREATE KEYSPACE {keyspace} WITH replication = {copies};"
        )
    if not listed[0][1]:
        raise ConfigurationError(
            f"keyspace {keyspace} has durable_writes = false, so a node that is killed forgets what it answered: "
            f"ALTER KEYSPACE {keyspace} WITH durable_writes = true; then run `nodetool flush {keyspace}` on each node"
        )
    options = dict(listed[0][0])
    places = [int(str(value)) for name, value in options.items() if name != "class" and str(value).isdecimal()]
    least = min(places, default=0)
    if production and least < COPIES_LEAST:
        copies = _copies(COPIES_LEAST)
        raise ConfigurationError(
            f"keyspace {keyspace} keeps {least} copies of a row, WALLET_MODE=production wants {COPIES_LEAST}: "
            f"ALTER KEYSPACE {keyspace} WITH replication = {copies}; then run `nodetool repair --full` on each node"
        )
    if len(places) > 1:
        raise ConfigurationError(f"keyspace {keyspace} is in several data centres; the wallet's must be in one")


def _copies(count: int) -> str:
    return f"{{'class': 'NetworkTopologyStrategy', 'replication_factor': {count}}}"


async def migrate(client: Client, partitions: Sequence[str], *, migrates: bool) -> None:
    """Create the ledger if there is none; else check that it is the one that the URL describes.

    Raises:
        NotMigrated: there is none, or an older one, and `migrates` says not to change that.
        ConfigurationError: a newer version, another number of partitions, or tables of another program.
    """
    meta = await _meta(client)
    version = meta.get("version")
    found = None if version is None else int(version)
    where = f"keyspace {client.address.keyspace}"
    if is_due(where, found, VERSION, migrates=migrates):
        await _make(client, len(partitions))
        meta = await _meta(client)
    count = int(meta.get("partitions", 0))
    if count != len(partitions):
        raise ConfigurationError(
            f"this ledger has {count} partitions, which cannot be changed; write ?partitions={count} in the URL"
        )
    await client.prepare()
    missing = [name for name in partitions if not await client.ask("version", name)]
    if missing:
        is_due(where, None, VERSION, migrates=migrates)
    await asyncio.gather(*(client.ask("make", name) for name in missing))


async def _meta(client: Client) -> dict[str, str]:
    """The values of `meta`; none if the keyspace has no ledger. Raises ConfigurationError: it has other tables."""
    keyspace = client.address.keyspace
    find = f"SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}'"  # noqa: S608 - checked
    listed = await client.run(find)
    tables = {name for (name,) in listed}
    if "meta" not in tables:
        strange = sorted(tables - TABLES.keys())
        if strange:
            raise ConfigurationError(f"keyspace {keyspace} has a table {strange[0]} that is not ours; name another one")
        return {}
    rows = await client.run(f"SELECT k, value FROM {keyspace}.meta")  # noqa: S608 - a checked name
    return {str(name): str(value) for name, value in rows}


async def _make(client: Client, partitions: int) -> None:
    """Create the tables, `meta` last; set the values that can never be changed."""
    keyspace = client.address.keyspace
    for table in sorted(TABLES, key=lambda name: name == "meta"):
        await client.run(definition(keyspace, table))
    for name, value in (("partitions", str(partitions)), ("version", str(VERSION))):
        insert = f"INSERT INTO {keyspace}.meta (k, value) VALUES ('{name}', '{value}') IF NOT EXISTS"  # noqa: S608 - ours
        await client.run(insert)
