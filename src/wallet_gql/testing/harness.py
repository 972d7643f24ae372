"""How the suites start, pause, kill and reopen a backend.

`Harness` works for any store that `open_store` can open from a URL. A backend with servers of its own, or whose commits
can be blocked from outside, subclasses it and registers the class under the entry-point group `wallet_gql.harnesses`
(name -> class). The built-in ones are listed in `HARNESSES`.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, Protocol, Self
from urllib.parse import urlsplit

from ..backends import ENTRY_POINTS as BACKENDS
from ..backends import open_store
from ..backends.kit.versions import NoLedger, NotMigrated
from ..backends.sqlite.connection import begin, connect
from ..domain.errors import ConfigurationError, Unavailable, WalletError
from ..storage import Store
from .flushes import Flushes, traced_flushes
from .levels import Claims, Level
from .patience import patience

ENTRY_POINTS: Final = "wallet_gql.harnesses"

OPEN_SECONDS_MAX: Final = 5.0
"""For how long a ledger is opened again and again."""

PAUSE_SECONDS_MAX: Final = 5.0
"""How long `pause` may wait for a commit in flight to end."""


class Server(Protocol):
    """A server below a ledger, which the suite may kill and pause at any time."""

    def kill(self) -> None:
        """End it as `kill -9` does; return when it is gone."""

    def restart(self) -> None:
        """Start it again on its data; return when it answers."""

    def pause(self) -> None:
        """Stop it (SIGSTOP): it keeps its connections and does not answer."""

    def resume(self) -> None:
        """Continue it (SIGCONT)."""


class Harness:
    """One ledger of one backend under test.

    Calls come in this order: `start`, then any number of `open`, `reopen`, `kill`, `pause` / `resume`, `flushes`, then
    `stop`.
    After `start` the ledger is empty. The caller enters and leaves the stores that `open` returns; those that `reopen`
    and `kill` return are already entered.

    `name` is the column's head in reports. `failpoints` are the names (`wallet_gql.failpoints`) that every money
    commit of the backend passes, in order; empty if it has none. `has_files` says that the writing process itself
    writes the ledger's files, below the folder of `start`: then crash trials fill its disk, too. `claims` are the
    levels of consistency that `wallet-gql lab check` holds the backend to: neither less nor more.
    """

    name: str
    claims = Claims()
    failpoints: Sequence[str] = ()
    has_files = False
    log_suffix: str | None = None
    """How the names of the log's files end, with `has_files`."""

    def __init__(self, url: str, name: str | None = None) -> None:
        """`url` opens the ledger; `{tmp}` in it becomes the folder given to `start`."""
        self.template = url
        self.name = name or urlsplit(url).scheme
        self.url = url
        self.folder = Path()
        self._paused = AsyncExitStack()

    def sibling(self) -> Self:
        """Another harness of the same kind, for a second ledger at the same time."""
        return type(self)(self.template, self.name)

    async def start(self, folder: Path) -> None:
        """Start what the backend needs, with an empty ledger at `self.url`, in the empty folder `folder`.

        Raises NotMigrated: somebody's ledger of an older version is there; to open it would bring it up to date.
        """
        self.folder = folder
        self.url = self.template.replace("{tmp}", str(folder))
        if self.url == self.template:
            await self._leave_older()

    async def _leave_older(self) -> None:
        try:
            async with open_store(self.url, migrates=False):
                pass
        except NoLedger:
            pass
        except NotMigrated:
            raise
        except WalletError:
            pass  # `opened` tries again, and says why

    def servers(self) -> Sequence[Server]:
        """After `start`: the servers below the ledger that may be killed and paused; empty if there are none."""
        return ()

    def pids(self) -> Sequence[int]:
        """After `start`: the main process of each server, for its processor time; empty if they are not known."""
        return ()

    async def counters(self) -> Mapping[str, int]:
        """What the servers have counted so far, of this ledger or of all, while no store is open.

        The names are the harness's own; common ones are `commits`, `requests` and `log bytes`. Empty if nothing is
        counted.
        """
        return {}

    async def about(self) -> Mapping[str, str]:
        """After `start`: the servers' versions and the settings that figures depend on, for the lab's results."""
        return {}

    def as_written(self, url: str) -> str:
        """The URL in a form that keeps the driver to the addresses in it, where it would ask a server for others."""
        return url

    async def restart(self, servers: Sequence[Server]) -> None:
        """Start killed servers again; return when the ledger can be opened."""
        await asyncio.gather(*(asyncio.to_thread(server.restart) for server in servers))

    async def stop(self) -> None:
        """Stop what `start` started."""
        await self._paused.aclose()

    def open(self) -> Store:
        """A new store object on the ledger, to be entered by the caller."""
        return open_store(self.url)

    async def opened(self) -> Store:
        """A new store on the ledger, opened; the caller must leave it.

        Where the machine is busy, a server that runs may not answer in the time that a store gives it: then again.
        """
        until = time.monotonic() + patience(OPEN_SECONDS_MAX)
        while True:
            try:
                return await self.open().__aenter__()
            except (Unavailable, ConfigurationError):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)

    async def reopen(self, store: Store) -> Store:
        """Close the store and open the ledger again; what is not durable is lost."""
        await store.__aexit__(None, None, None)
        return await self.opened()

    @property
    def kills(self) -> bool:
        """Whether `kill` ends what runs the ledger. Otherwise it only opens the ledger again; the report says so."""
        return bool(self.servers())

    async def kill(self, store: Store) -> Store:
        """End what runs the ledger as `kill -9` would, and open what is left.

        `store` is not closed; the caller must still leave it. Without servers this only opens the ledger again; then
        only the crash trials test G3.
        """
        del store
        servers = self.servers()
        await asyncio.gather(*(asyncio.to_thread(server.kill) for server in servers))
        await self.restart(servers)
        return await self.opened()

    @asynccontextmanager
    async def flushes(self, least: int) -> AsyncIterator[Flushes]:
        """Count, from outside the store, how often it flushes its writes within the block.

        `least` is the expected number: servers' counters are late, so wait until they show that many.
        """
        if self.has_files:
            with traced_flushes(self.folder, log_suffix=self.log_suffix) as counted:
                yield counted
        else:
            yield Flushes(why=f"the harness has no counter that would tell {least}")

    async def pause(self, store: Store) -> None:
        """Block all commits on the ledger, of any process, until `resume`; reads may go on."""
        await self._paused.enter_async_context(store.gate())

    async def resume(self, store: Store) -> None:
        """Let commits go on. Does nothing without a `pause`."""
        del store
        await self._paused.aclose()


class SqliteDisk:
    """Stands in for the server of a SQLite file: killed, its folder is away; stopped, somebody keeps it locked."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._away = file.parent.with_name(f"{file.parent.name}-away")
        self._locked = ExitStack()

    def kill(self) -> None:
        """Take the folder away, as an unmounted disk."""
        self._file.parent.rename(self._away)

    def restart(self) -> None:
        """Bring it back."""
        self._away.rename(self._file.parent)

    def pause(self) -> None:
        """Take the write lock, as a process does that is then stopped."""
        with ExitStack() as opened:
            connection = opened.enter_context(closing(connect(self._file)))
            begin(connection, time.monotonic() + patience(PAUSE_SECONDS_MAX))
            self._locked = opened.pop_all()

    def resume(self) -> None:
        """Let it go."""
        self._locked.close()


class SqliteHarness(Harness):
    """`sqlite://`: paused by taking the file's write lock, killed by copying the open files."""

    failpoints: Sequence[str] = ("sqlite.loaded", "sqlite.decided", "sqlite.written", "sqlite.committed")
    has_files = True
    log_suffix = "-wal"

    kills = True

    async def start(self, folder: Path) -> None:
        """The ledger has a folder of its own, which can be taken away."""
        disk = folder / "disk"
        disk.mkdir()
        await super().start(disk)
        self.folder = folder

    async def about(self) -> Mapping[str, str]:
        """What SQLite says of itself and of the connections that write."""
        with closing(await asyncio.to_thread(connect, self._file)) as connection:
            asked = {name: f"PRAGMA {name}" for name in ("journal_mode", "synchronous", "page_size", "cache_size")}
            told = {"version": "SELECT sqlite_version()", **asked}
            return {name: str(connection.execute(statement).fetchone()[0]) for name, statement in told.items()}

    def servers(self) -> Sequence[Server]:
        """The disk, for a file has no other server."""
        return [SqliteDisk(self._file)] if self._file.is_relative_to(self.folder) else []

    @property
    def _file(self) -> Path:
        return Path(urlsplit(self.url).path[1:])

    async def kill(self, store: Store) -> Store:
        """Copy the open database and its log, which is what a killed process leaves; continue with the copy."""
        del store
        copy = self.folder / f"killed-{len(list(self.folder.iterdir()))}"
        copy.mkdir()
        for suffix in ("", "-wal"):
            part = self._file.with_name(self._file.name + suffix)
            if part.exists():
                shutil.copy(part, copy / part.name)
        self.url = f"sqlite:///{copy / self._file.name}"
        return await self.opened()

    async def pause(self, store: Store) -> None:
        """Take the file's write lock, as another process may."""
        del store
        disk = SqliteDisk(self._file)
        await asyncio.to_thread(disk.pause)
        self._paused.callback(disk.resume)


def _with_servers(module: str, name: str, size: int) -> Callable[[], Harness]:
    """A harness whose module needs a driver, and so is imported only when it is asked for."""

    def make() -> Harness:
        made: Harness = getattr(import_module(f".servers.{module}", __package__), name)(size)
        return made

    return make


def _late() -> Harness:
    """The reference backend, on which some credits of other nodes arrive late."""
    made = Harness("memory://?nodes=3&late=7", "memory-3-late")
    # A page of an account has what has arrived late a moment after its balance has it.
    made.claims = Claims(account=Level.PL_3, node=Level.PL_3, across=Level.PL_0, keeps_pending=True)
    return made


HARNESSES: Final[dict[str, Callable[[], Harness]]] = {
    "memory": lambda: Harness("memory://"),
    "memory-3": lambda: Harness("memory://?nodes=3", "memory-3"),
    "memory-3-late": _late,
    "sqlite": lambda: SqliteHarness("sqlite:///{tmp}/wallet.db"),
    "postgres": _with_servers("postgres", "PostgresHarness", 1),
    "postgres-3": _with_servers("postgres", "PostgresHarness", 3),
    "redis": _with_servers("redis", "RedisHarness", 1),
    "redis-3": _with_servers("redis", "RedisHarness", 3),
    "mongodb": _with_servers("mongo", "MongoHarness", 1),
    "cassandra": _with_servers("cassandra", "CassandraHarness", 1),
    "cassandra-16": _with_servers("cassandra", "CassandraHarness", 16),
}
"""The built-in ones by name."""

_BY_SCHEME: Final[dict[str, Callable[[str], Harness]]] = {"sqlite": SqliteHarness}


def harness_names() -> tuple[str, ...]:
    """The names of all harnesses: the built-in ones, then those registered by other packages.

    A registered backend without a harness is listed as `scheme://`.
    """
    announced = sorted(point.name for point in entry_points(group=ENTRY_POINTS))
    outside = sorted(point.name for point in entry_points(group=BACKENDS))
    bare = [f"{name}://" for name in outside if name not in announced]
    return (*HARNESSES, *announced, *bare)


def harness_for(backend: str) -> Harness:
    """The harness of a name (`sqlite`), or of a storage URL whose `{tmp}` stands for an empty folder.

    Raises:
        LookupError: no such name, and not a URL.
    """
    if backend in HARNESSES:
        return HARNESSES[backend]()
    scheme = urlsplit(backend).scheme or backend
    for point in entry_points(group=ENTRY_POINTS, name=scheme):
        made: Harness = point.load()(backend) if backend != scheme else point.load()()
        return made
    if backend == scheme:
        raise LookupError(f"no backend {backend!r}; known are {', '.join(harness_names())}, or give a storage URL")
    return _BY_SCHEME.get(scheme, Harness)(backend)
