"""Real Cassandra clusters for tests: one node or three, each of which can be killed, stopped and started again.

Nodes listen on 127.0.0.1, 127.0.0.2 and so on, all on the same ports, and run as a plain user. What they are made of is
told in `cassandra_jars`. A ledger's keyspace is made once, given back, emptied by TRUNCATE and used again: making its
tables takes ten times as long. (A DELETE would hide rows written later, for their time stamps are small.)
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from string import Template
from typing import Any, Final, Self

from cassandra import DriverException
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, ExecutionProfile, NoHostAvailable
from cassandra.cluster import Cluster as DriverCluster
from cassandra.policies import FallthroughRetryPolicy, RoundRobinPolicy

from ..flushes import Flushes, traced_flushes
from ..harness import Harness, Server
from ..levels import Claims, Level
from ..patience import patience, wait_until
from .cassandra_jars import RECIPE, archive, class_path, java
from .process import OwnServer, ServerProcess, free_ports, own_folder

START_SECONDS_MAX: Final = 90.0
ADMIN_SECONDS: Final = 60.0
ALONE_MS: Final = 1_000
PATIENT_MS: Final = 60_000
"""How long a node looks for its first neighbour before it gives up. It goes on as soon as it has found one."""

HEAP: Final = "384M"
META: Final = "meta"
"""The one table that is not emptied: it says how many partitions a ledger has."""

_OPENED: Final = (
    *("java.base/jdk.internal.misc", "java.base/jdk.internal.ref", "java.base/sun.nio.ch", "java.base/java.io"),
    *("java.base/java.lang", "java.base/java.lang.module", "java.base/java.lang.reflect", "java.base/java.util"),
    *("java.base/java.util.concurrent", "java.base/java.util.concurrent.atomic", "java.base/java.nio"),
    *("java.base/jdk.internal.loader", "java.base/jdk.internal.reflect", "java.base/jdk.internal.math"),
    *("java.base/jdk.internal.module", "java.base/jdk.internal.util.jar"),
    *("jdk.management/com.sun.management.internal", "java.rmi/sun.rmi.transport.tcp"),
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
)
_EXPORTED: Final = (
    *("java.base/jdk.internal.misc", "java.base/jdk.internal.ref", "java.base/sun.nio.ch"),
    *("java.management.rmi/com.sun.jmx.remote.internal.rmi", "java.rmi/sun.rmi.registry", "java.rmi/sun.rmi.server"),
    *("java.rmi/sun.rmi.transport.tcp", "java.sql/java.sql", "jdk.attach/sun.tools.attach"),
    "jdk.compiler/com.sun.tools.javac.file",
)
_JVM: Final = (
    *(f"-Xms{HEAP}", f"-Xmx{HEAP}", "-XX:+UseSerialGC", "-XX:MaxDirectMemorySize=256M", "-Xss512k"),
    *("-XX:ReservedCodeCacheSize=128M", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"),
    "-Djdk.attach.allowAttachSelf=true",
    *(part for name in _OPENED for part in ("--add-opens", f"{name}=ALL-UNNAMED")),
    *(part for name in _EXPORTED for part in ("--add-exports", f"{name}=ALL-UNNAMED")),
    *("-Dcassandra-foreground=yes", "-Dcassandra.skip_wait_for_gossip_to_settle=0"),
    "-Djava.net.preferIPv4Stack=true",
)
"""A small heap, what Java's modules must give away, and no waiting for neighbours that a test does not have."""

_MAIN: Final = "org.apache.cassandra.service.CassandraDaemon"
_OPTIONS_REQUEST: Final = bytes([4, 0, 0, 0, 5, 0, 0, 0, 0])
_SUPPORTED: Final = 6
_FAILPOINTS: Final = ("cassandra.loaded", "cassandra.decided", "cassandra.committed", "cassandra.spread")
_AT_ONCE: Final = 8
_REQUESTS: Final = "SELECT completed_tasks FROM system_views.thread_pools WHERE name = 'Native-Transport-Requests'"
_WRITES: Final = (
    "SELECT table_name, count FROM system_views.local_write_latency WHERE keyspace_name = '{}' ALLOW FILTERING"
)
_keyspaces = count(1)


class CassandraNode(OwnServer):
    """One server process with its data. Not started yet."""

    def __init__(
        self,
        number: int,
        of: int,
        ports: Sequence[int],
        settings: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        """The `number`-th of `of` nodes; `ports` are CQL's and the nodes' own. Raises ServerMissing.

        `settings` are set in its cassandra.yaml, in place of what stands there.
        """
        self.address = f"127.0.0.{number}"
        self.port = ports[0]
        super().__init__(own_folder("wallet-cassandra-"))
        values = {
            "TOKEN": str(-(2**63) + (2**64 // of) * (number - 1)),
            "ADDRESS": self.address,
            "PORT": str(ports[0]),
            "STORAGE_PORT": str(ports[1]),
            "FOLDER": str(self.folder),
        }
        for name in ("cassandra.yaml", "logback.xml"):
            text = Template((RECIPE / name).read_text(encoding="utf-8")).safe_substitute(values)
            if name.endswith("yaml"):
                kept = [line for line in text.splitlines() if line.partition(":")[0] not in (settings or {})]
                text = "\n".join([*kept, *(f"{key}: {value}" for key, value in (settings or {}).items()), ""])
            (self.folder / name).write_text(text, encoding="utf-8")
        own = [
            f"-Dcassandra.ring_delay_ms={ALONE_MS if of == 1 else PATIENT_MS}",
            *(f"-Dcassandra.config=file://{self.folder}/cassandra.yaml", f"-Dcassandra.storagedir={self.folder}"),
            *(f"-Dcassandra.logdir={self.folder}", f"-Dlogback.configurationFile=file://{self.folder}/logback.xml"),
        ]
        self._command = [java(), *flags, *_JVM, *own, "-cp", class_path(), _MAIN]

    @property
    def pid(self) -> int:
        """Its process's id."""
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Start it, on what data it has, without waiting for it."""
        self._process = ServerProcess(self._command, self.folder / "out", {"JAVA_TOOL_OPTIONS": ""})
        self.paused = False

    def wait(self) -> None:
        """Return once it answers. Raises RuntimeError."""
        assert self._process is not None
        self._process.wait_for_start(self.answers, START_SECONDS_MAX, self.folder / "out")

    def start(self) -> None:
        """Start it and wait for it."""
        self.launch()
        self.wait()

    def restart(self) -> None:
        """Start it again on what it left."""
        self.start()

    def answers(self) -> bool:
        """Whether it takes CQL."""
        with suppress(OSError), socket.create_connection((self.address, self.port), 0.5) as connection:
            connection.settimeout(2)
            connection.sendall(_OPTIONS_REQUEST)
            answer = connection.recv(9)
            return len(answer) > 4 and answer[4] == _SUPPORTED
        return False

    def leave(self) -> None:
        """SIGTERM, and wait for its end."""
        assert self._process is not None
        self._process.signal(signal.SIGTERM)
        wait_until(lambda: not self.running, 30, f"node {self.address} does not end")


def _write_archive(target: Path) -> None:
    """Start a node once, with order to write down the classes that it loads."""
    draft = own_folder("wallet-cassandra-classes-") / "classes.jsa"
    node = CassandraNode(1, 1, free_ports(2, 1), flags=(f"-XX:ArchiveClassesAtExit={draft}",))
    try:
        node.start()
        node.leave()
        shutil.copyfile(draft, target)
    finally:
        node.stop()


@cache
def _sharing() -> tuple[str, ...]:
    path = archive(_write_archive)
    return () if path is None else (f"-XX:SharedArchiveFile={path}",)


class CassandraCluster:
    """Nodes that hold every row on up to three of them, and empty keyspaces on them."""

    def __init__(
        self, nodes: int = 1, settings: Mapping[str, str] | None = None, login: tuple[str, str] | None = None
    ) -> None:
        """Start the nodes and wait for them; `settings` are set in each one's cassandra.yaml. Raises ServerMissing.

        `login` is the user and the password of those that want some.
        """
        ports = free_ports(2, nodes)
        flags = _sharing()
        self.nodes = [CassandraNode(i, nodes, ports, settings or {}, flags) for i in range(1, nodes + 1)]
        self._free: dict[int, list[str]] = {}
        self._taken: dict[str, int] = {}
        """Each keyspace in use, and how many faults there had been when it was taken."""
        self._emptied: dict[str, dict[str, tuple[int, int]]] = {}
        """What `_writes` said when a keyspace was emptied last."""
        self._login = login
        self._admin: Any = None
        self.start()

    def start(self) -> None:
        """Start all nodes, on what data they have, and wait for them."""
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait()

    def url(self, keyspace: str, partitions: int) -> str:
        """The storage URL of a keyspace."""
        hosts = ",".join(f"{node.address}:{node.port}" for node in self.nodes)
        login = "" if self._login is None else f"{':'.join(self._login)}@"
        return f"cassandra://{login}{hosts}/{keyspace}?partitions={partitions}"

    def ask(self, statement: str) -> list[Any]:
        """Run a statement of the launcher's own, again while nodes are still finding one another.

        Raises:
            DriverException: the driver's, or NoHostAvailable, after a while.
        """
        until = time.monotonic() + patience(ADMIN_SECONDS)
        while True:
            try:
                return list(self._session().execute(statement, timeout=patience(ADMIN_SECONDS)))
            except (DriverException, NoHostAvailable):
                if time.monotonic() > until:
                    raise
                self.forget()
                time.sleep(0.2)

    def _session(self) -> Any:
        if self._admin is None:
            profile = ExecutionProfile(RoundRobinPolicy(), FallthroughRetryPolicy(), request_timeout=ADMIN_SECONDS)
            driver = DriverCluster(
                [node.address for node in self.nodes],
                port=self.nodes[0].port,
                protocol_version=5,
                auth_provider=None if self._login is None else PlainTextAuthProvider(*self._login),
                execution_profiles={EXEC_PROFILE_DEFAULT: profile},
                schema_metadata_enabled=False,
            )
            self._admin = driver.connect()
        return self._admin

    def forget(self) -> None:
        """Close the launcher's own connection; the next statement makes another."""
        if self._admin is not None:
            self._admin.cluster.shutdown()
            self._admin = None

    def take(self, partitions: int) -> str:
        """The name of a keyspace whose ledger of so many partitions is empty."""
        free = self._free.setdefault(partitions, [])
        if free:
            keyspace = free.pop()
            self._empty(keyspace)
        else:
            keyspace = f"ledger_{os.getpid()}_{next(_keyspaces)}"
            copies = {"class": "SimpleStrategy", "replication_factor": min(len(self.nodes), 3)}
            self.ask(f"CREATE KEYSPACE {keyspace} WITH replication = {copies}")
            self._until_all_know(keyspace)
        self._taken[keyspace] = self._faults
        return keyspace

    def _until_all_know(self, keyspace: str) -> None:
        """Wait until each node has heard of a keyspace: the session asks them in turn."""
        asked = f"SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = '{keyspace}'"  # noqa: S608 - its own
        wait_until(lambda: all(self.ask(asked) for _ in self.nodes), 60, "the nodes do not agree on the schema", 0.1)

    @property
    def _faults(self) -> int:
        return sum(node.faults for node in self.nodes)

    def _empty(self, keyspace: str) -> None:
        """Empty all tables but `META`, some at a time: most of it is waiting for the disk.

        Those that were not written since they were emptied last are left out: each costs a node 30 ms.
        """
        writes = self._writes(keyspace)
        before = self._emptied.get(keyspace, {})
        tables = [table for table, seen in writes.items() if len(self.nodes) > 1 or before.get(table) != seen]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda table: self.ask(f"TRUNCATE {keyspace}.{table}"), tables))
        self._emptied[keyspace] = writes

    def _writes(self, keyspace: str) -> dict[str, tuple[int, int]]:
        """How often a node has written each table since it was started, and how often it was killed."""
        asked = _WRITES.format(keyspace)
        return {table: (count, self._faults) for table, count in self.ask(asked) if table != META}

    def give_back(self, keyspace: str, partitions: int) -> None:
        """The keyspace may be emptied and used by somebody else.

        That is not done if one of several nodes was away meanwhile: the others keep its writes for it, and would send
        them into the next ledger.
        """
        if len(self.nodes) == 1 or self._taken.pop(keyspace) == self._faults:
            self._free.setdefault(partitions, []).append(keyspace)

    def stop(self) -> None:
        """End all nodes."""
        self.forget()
        for node in self.nodes:
            node.stop()


@cache
def _made(nodes: int) -> CassandraCluster:
    made = CassandraCluster(nodes)
    atexit.register(made.stop)
    return made


def shared_cluster(nodes: int) -> CassandraCluster:
    """One cluster of that size for this process, ended with it. None of its nodes is paused. Raises ServerMissing."""
    made = _made(nodes)
    for node in made.nodes:
        if node.paused:
            node.resume()
    return made


def rest() -> None:
    """Pause the one node that tests share, if it runs, until it is wanted again: idle it takes 3 % of a processor."""
    if _made.cache_info().currsize:
        _made(1).forget()
        _made(1).nodes[0].pause()


class CassandraHarness(Harness):
    """`cassandra`: one node. Paused by the gate; killed by killing the nodes, which start again on what they left."""

    def __init__(
        self, partitions: int = 1, cluster: Callable[[], CassandraCluster] = lambda: shared_cluster(1)
    ) -> None:
        """A ledger of so many partitions, on a cluster that tests share. ServerMissing at `start`."""
        super().__init__("cassandra://", "cassandra" if partitions == 1 else f"cassandra-{partitions}")
        self.failpoints = _FAILPOINTS if partitions == 1 else (*_FAILPOINTS, "cassandra.credited")
        # A fetch asks table after table; each partition applies its credits in an order of its own.
        self.claims = Claims(account=Level.PL_2, node=Level.PL_2, across=Level.PL_0)
        self._partitions = partitions
        self._choose = cluster
        self._keyspace: str | None = None

    def sibling(self) -> Self:
        """Another ledger on the same nodes."""
        return type(self)(self._partitions, self._choose)

    async def start(self, folder: Path) -> None:
        """Take an empty keyspace."""
        del folder
        self.cluster = await asyncio.to_thread(self._choose)
        self._keyspace = await asyncio.to_thread(self.cluster.take, self._partitions)
        self.url = self.cluster.url(self._keyspace, self._partitions)

    async def stop(self) -> None:
        """Give the keyspace back."""
        await super().stop()
        if self._keyspace is not None:
            self.cluster.give_back(self._keyspace, self._partitions)

    def servers(self) -> Sequence[Server]:
        """The nodes."""
        return self.cluster.nodes

    def pids(self) -> Sequence[int]:
        """The nodes."""
        return [node.pid for node in self.cluster.nodes]

    async def counters(self) -> Mapping[str, int]:
        """The requests of all drivers to the first node; the two that ask count, too."""
        ((requests,),) = await asyncio.to_thread(self.cluster.ask, _REQUESTS)
        return {"requests": requests}

    async def about(self) -> Mapping[str, str]:
        """The version, and the settings that durability depends on."""
        asked = "SELECT name, value FROM system_views.settings"
        wanted = ("commitlog_sync", "commitlog_sync_group_window", "memtable", "num_tokens", "disk_access_mode")
        ((version,),) = await asyncio.to_thread(self.cluster.ask, "SELECT release_version FROM system.local")
        rows = await asyncio.to_thread(self.cluster.ask, asked)
        told = {name: str(value) for name, value in rows if name in wanted}
        return {"version": version, "nodes": str(len(self.cluster.nodes)), **told}

    async def restart(self, servers: Sequence[Server]) -> None:
        """Start them again; returns when they take CQL."""
        self.cluster.forget()
        await super().restart(servers)

    @asynccontextmanager
    async def flushes(self, least: int) -> AsyncIterator[Flushes]:
        """See `Harness.flushes`: a node maps the segments of its commit log into memory, and flushes them by msync."""
        del least
        node = self.cluster.nodes[0]
        with traced_flushes(node.folder / "commitlog", node.pid) as counted:
            yield counted
