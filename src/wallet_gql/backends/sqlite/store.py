"""`sqlite:///wallet.db`: the embedded default. Durable, several processes on one file, nothing to install.

Flush setting (G3): WAL with `synchronous=FULL`, so every commit's log frames are on disk before the reply. A commit
takes one fsync for any number of commands (plus a checkpoint's, every 4,000 pages). Isolation (G2): one writer at a
time, `BEGIN IMMEDIATE` before anything is read; readers see snapshots and never wait.

Each process has one writer thread and a few reader threads, each with a connection of its own. Statements are plain
text on the standard library's driver: with SQLAlchemy Core a single transfer took 1.5 to 1.6 times as long, and 1.4 to
1.5 times with 64 in flight (`benchmarks/sqlite_layer.py`). The tables and migrations use SQLAlchemy.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple

from ...background import attempt
from ...domain.changes import Outcome, State, Writes, decide_all
from ...domain.errors import ConfigurationError, Contended, Unavailable, WalletError
from ...failpoints import after_decision, before_decision
from ...storage import Away, Capabilities, Recovered
from ...urls import parse
from ..kit.group_commit import Command
from ..kit.imports import completed, unknown_accounts
from ..kit.kinds import TRANSFER, Row
from ..kit.nodes import NodeMap
from ..kit.store import PageAsked
from ..kit.wanted import Wanted
from ..relational.store import RelationalStore
from . import batch as batches
from . import connection as driver
from .errors import WHERE, translate, translate_commit
from .file import CAN_LOCK, WATCH_SECONDS, LedgerFile
from .setup import migrate
from .text import STATEMENTS

T = TypeVar("T")
A = TypeVarTuple("A")

log = logging.getLogger("wallet_gql.sqlite")

READERS: Final = 4
NODE: Final = "local"
"""The only node's name. All slots live on it, so no transfer crosses nodes."""

STUCK_SECONDS: Final = 5.0
"""A COMMIT that takes longer than this means that the disk does not answer."""

_VERSION_MIN: Final = (3, 38, 0)
_WRITE_WAIT_SECONDS: Final = 10.0
_READ_WAIT_SECONDS: Final = 5.0
"""Readers wait only while another process opens, recovers or closes the log."""


class SqliteStore(RelationalStore):
    """The ledger in one SQLite file."""

    name = "sqlite"
    statements = STATEMENTS
    capabilities = Capabilities(durable=True, multi_process=True, spans_nodes=False, snapshot_reads=True)

    def __init__(self, url: str) -> None:
        """`sqlite:///relative.db` or `sqlite:////absolute.db`. Raises ConfigurationError."""
        super().__init__()
        self.path = _path_of(url)
        self._nodes = NodeMap([NODE])
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="wallet-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="wallet-reader")
        self._connections = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._commits: dict[int, float] = {}
        """For each thread in a COMMIT: when the COMMIT began."""
        self._closed = False
        self._file = LedgerFile(self.path)
        self._watching: asyncio.Task[None] | None = None

    # Opening and closing

    async def _open(self) -> None:
        if sqlite3.sqlite_version_info < _VERSION_MIN:
            needed = ".".join(map(str, _VERSION_MIN))
            raise ConfigurationError(f"SQLite {sqlite3.sqlite_version} is too old; {needed} or newer is needed")
        if not CAN_LOCK:
            remedy = "use Linux or macOS (on Windows: WSL or a container), or another storage"
            raise ConfigurationError(f"sqlite:// needs file locks that this system does not have; {remedy}")
        await self._on(self._writer, self._prepare)
        self._watching = asyncio.create_task(self._watch_file())

    def _prepare(self) -> None:
        try:
            migrate(self.path, migrates=self.migrates)
            anchor = driver.connect(self.path, mode="rw")  # while it is open SQLite never removes the log
            anchor.execute("SELECT 1 FROM accounts LIMIT 1").fetchall()
            self._opened.append(anchor)
            connection = self._connection()
            self._file.take(connection, lambda: driver.begin(connection, time.monotonic() + _WRITE_WAIT_SECONDS))
        except (sqlite3.Error, OSError) as error:
            remedy = "check that the folder exists, can be written to, and lies on a local disk"
            raise ConfigurationError(f"cannot open {self.path}: {error}; {remedy}") from error

    async def _close(self) -> None:
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
        self._writer.shutdown()
        self._readers.shutdown()
        for connection in self._opened:
            connection.close()

    async def _watch_file(self) -> None:
        """Look at the file every moment, so that a server that only reads notices, too."""
        while not self._file.is_final:
            await asyncio.sleep(WATCH_SECONDS)
            if self._file.lost or self._file.changed():
                await attempt(log, "the look at the file", self._inspect)

    async def _inspect(self) -> None:
        """Compare the file under the write lock. What is found is in `_file.lost`."""
        try:
            await self._on(self._writer, self._transact, lambda _: None, 1.0)
        except WalletError:
            if not self._file.lost:
                raise

    def _connection(self, *, patience_seconds: float = 0) -> sqlite3.Connection:
        """This thread's connection."""
        connection: sqlite3.Connection | None = getattr(self._connections, "value", None)
        if connection is None:
            connection = self._connections.value = driver.connect(self.path, patience_seconds, mode="rw")
            self._opened.append(connection)
        return connection

    def _discard(self, connection: sqlite3.Connection) -> None:
        """Close this thread's connection, which is in a doubtful state; the next use opens a new one."""
        self._connections.value = None
        self._opened.remove(connection)
        connection.close()

    def _on(self, pool: ThreadPoolExecutor, work: Callable[[*A], T], *given: *A) -> asyncio.Future[T]:
        """Run work on a thread of the pool. Raises Unavailable once the store is closed."""
        if self._closed:
            raise Unavailable("the store is closed")
        return asyncio.get_running_loop().run_in_executor(pool, work, *given)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a read in one snapshot, on a reader thread."""

        def snapshot() -> T:
            self._file.raise_if_lost()
            try:
                connection = self._connection(patience_seconds=_READ_WAIT_SECONDS)
                connection.execute("BEGIN")
                try:
                    return work(connection)
                finally:
                    driver.roll_back(connection)
            except sqlite3.Error as error:
                raise translate(error) from error

        return await self._on(self._readers, snapshot)

    # Writing

    async def _commit(self, lane: Hashable, batch: Sequence[Command], wait_seconds: float) -> list[Outcome]:
        wanted = Wanted.of(command.scope for command in batch)
        pairs = [(command.scope, command.decide) for command in batch]
        state = State(NODE, self._nodes.peer_of(NODE))
        outcomes: list[Outcome] = []

        def decide(connection: sqlite3.Connection) -> None:
            batches.load(connection, state, wanted)
            before_decision("sqlite.loaded")
            outcomes.extend(decide_all(state, pairs))
            before_decision("sqlite.decided")
            batches.write(connection, state.writes)

        await self._on(self._writer, self._transact, decide, wait_seconds)
        self._hint(state.writes.accounts)
        return outcomes

    def _transact(self, work: Callable[[sqlite3.Connection], None], wait_seconds: float) -> None:
        """BEGIN IMMEDIATE, `work`, COMMIT: all or nothing.

        Raises:
            Contended: another process kept the write lock too long. Unavailable: it failed before the commit.
            InDoubt: COMMIT itself failed; its frames may be on disk nevertheless.
        """
        connection = self._writing()
        try:
            driver.begin(connection, time.monotonic() + wait_seconds)
            work(connection)
            self._file.check(connection)
            before_decision("sqlite.written")
        except BaseException as error:
            self._give_up(connection)
            if isinstance(error, sqlite3.Error):
                raise translate(error) from error
            raise
        try:
            self._confirm(connection)
        except Exception as error:
            self._discard(connection)
            raise translate_commit(error) from error
        after_decision("sqlite.committed")
        self._file.committed(connection, lambda: driver.begin(connection, time.monotonic() + _WRITE_WAIT_SECONDS))

    def _confirm(self, connection: sqlite3.Connection) -> None:
        """COMMIT, and note when it began, for `ping`. Raises the driver's errors."""
        self._commits[threading.get_ident()] = time.monotonic()
        try:
            connection.execute("COMMIT")
        finally:
            del self._commits[threading.get_ident()]

    def _writing(self) -> sqlite3.Connection:
        """The writer's connection. Raises Unavailable."""
        try:
            return self._connection()
        except sqlite3.Error as error:
            raise translate(error) from error

    def _give_up(self, connection: sqlite3.Connection) -> None:
        """Roll back. If that fails, close the connection, which also rolls back."""
        try:
            driver.roll_back(connection)
        except sqlite3.Error:
            self._discard(connection)

    # Reading

    async def _fetch(self, wanted: Wanted) -> State:
        """See `GroupStore._fetch`."""
        state = State(NODE, self._nodes.peer_of(NODE))
        await self._read(lambda connection: batches.load(connection, state, wanted))
        return state

    async def _ask_pages(self, asked: Sequence[PageAsked]) -> list[list[Row]]:
        """See `RelationalStore._ask_pages`: one after the other, in one snapshot."""
        statements = [self.statements.history_page(*one) for one in asked]
        return await self._read(lambda connection: [connection.execute(*one).fetchall() for one in statements])

    def _homes(self) -> NodeMap:
        return self._nodes

    async def _ask(self, _node: str, statement: str, *values: Any) -> Sequence[Row]:
        return await self._read(lambda connection: connection.execute(statement, values).fetchall())

    # Maintenance

    @asynccontextmanager
    async def gate(self) -> AsyncIterator[None]:
        """See `Store.gate`: the file's write lock, held by a connection of its own."""
        connection = await asyncio.to_thread(self._lock_out_writers)
        try:
            yield
        finally:
            connection.close()

    def _lock_out_writers(self) -> sqlite3.Connection:
        try:
            connection = driver.connect(self.path, mode="rw")
            try:
                driver.begin(connection, time.monotonic() + _WRITE_WAIT_SECONDS)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise translate(error) from error
        return connection

    async def _import(self, node: str, writes: Writes, homes: NodeMap) -> None:
        def work(connection: sqlite3.Connection) -> None:
            def rows(statement: str, names: Sequence[str]) -> list[Any]:
                return connection.execute(statement, (json.dumps(names),)).fetchall()

            headers = rows(self.statements.transfers, [transfer.id for transfer in writes.transfers])
            known = {transfer.id: transfer for transfer in map(TRANSFER.from_row, headers)}
            currencies = dict(rows(self.statements.currencies, unknown_accounts(writes)))
            batches.write(connection, completed(writes, known, currencies, node, self._nodes))

        await self._on(self._writer, lambda: self._transact(work, _WRITE_WAIT_SECONDS))

    async def recover(self, limit: int) -> Recovered:
        """Return at once: nothing is in doubt, as SQLite rolls back an unfinished commit when it opens the file."""
        return Recovered()

    async def ping(self) -> Away:
        """Open the file again and commit a write that changes nothing. Raises Unavailable.

        Only a commit detects a full disk.

        While another connection writes, a read is enough: that writer shows that writing works. The exception is a
        COMMIT of this process that does not end.
        """
        if time.monotonic() - min(list(self._commits.values()), default=math.inf) > STUCK_SECONDS:
            raise Unavailable(f"{WHERE}: a commit has taken more than {STUCK_SECONDS:.0f} s; does the disk answer?")
        if self._file.lost or self._file.changed():
            await self._inspect()
        self._file.raise_if_lost()
        await self._on(self._readers, self._rehearse)
        return {}

    def _rehearse(self) -> None:
        try:
            with closing(driver.connect(self.path, mode="rw")) as connection:
                connection.execute("SELECT 1 FROM accounts LIMIT 1").fetchall()
                with suppress(Contended):
                    driver.begin(connection, deadline=0.0)
                    (stamp,) = connection.execute("PRAGMA user_version").fetchone()
                    connection.execute(f"PRAGMA user_version = {stamp}")  # as it is; it is written all the same
                    self._confirm(connection)
        except sqlite3.Error as error:
            raise translate(error) from error


def _path_of(url: str) -> Path:
    where = parse(url)
    if where.hosts or where.user is not None or where.query or not where.file:
        raise ConfigurationError("write sqlite:///wallet.db, or sqlite:////absolute/path/wallet.db")
    return Path(where.file)
