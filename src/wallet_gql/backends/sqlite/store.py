"""`sqlite:///wallet.db`: the embedded default. Durable, several processes on one file, nothing to install.

Flush setting (G3): WAL with `synchronous=FULL`, so every commit's log frames are on disk before the reply: one fsync a
commit, whatever number of commands it carries (plus a checkpoint's, every 4,000 pages). Isolation (G2): one writer at a
time, `BEGIN IMMEDIATE` before anything is read; readers see snapshots and never wait.

Each process has one writer thread and a few reader threads, each with a connection of its own. Statements are plain
text on the standard library's driver: with SQLAlchemy Core a lone transfer took 1.5 to 1.6 times as long, and
1.4 to 1.5 times at 64 in flight (`benchmarks/sqlite_layer.py`). The tables and migrations are SQLAlchemy's.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from ...domain.changes import Outcome, Reads, Snapshot, State, decide_all
from ...domain.codec import to_micros
from ...domain.errors import ConfigurationError, Contended, InDoubt, InvariantViolated, Unavailable
from ...domain.ids import AccountId
from ...domain.model import Account, Entry, Hold, Receipt, Record, SystemEntry
from ...failpoints import FailpointError, reach
from ...storage import (
    PAGE_MAX,
    Capabilities,
    HistoryLine,
    JournalItem,
    NodeTotal,
    Page,
    PageRequest,
    Recovered,
    ScanItem,
    ScanKind,
    ScanPage,
)
from ...urls import parse
from ..kit.group_commit import Command, Wanted
from ..kit.nodes import NodeMap
from ..kit.store import GroupStore, no_ledger, page_of
from ..relational import rows
from ..relational.migrations import HEAD, VERSION_TABLE, upgrade
from . import text as sql
from .errors import code_of, translate, translate_commit

T = TypeVar("T")

READERS: Final = 4
NODE: Final = "local"
"""The one node's name. All slots live on it, so no transfer ever crosses."""

CHECKPOINT_PAGES: Final = 4_000
"""After how many pages (of 4 KiB) in the log they are moved to the file: a tenth faster than at SQLite's 1,000."""

_VERSION_MIN: Final = (3, 38, 0)
_OPEN_WAIT_SECONDS: Final = 30.0
_WRITE_WAIT_SECONDS: Final = 10.0
_READ_WAIT_SECONDS: Final = 5.0
"""Readers wait for nobody, except while another process opens, recovers or closes the log."""


class SqliteStore(GroupStore):
    """The ledger in one SQLite file."""

    name = "sqlite"
    capabilities = Capabilities(durable=True, multi_process=True, spans_nodes=False, snapshot_reads=True)

    def __init__(self, url: str) -> None:
        """`sqlite:///relative.db` or `sqlite:////absolute.db`. Raises ConfigurationError."""
        super().__init__()
        self.path = _path_of(url)
        self._map = NodeMap([NODE])
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="wallet-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="wallet-reader")
        self._connections = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._closed = False

    # Opening and closing

    async def _open(self) -> None:
        if sqlite3.sqlite_version_info < _VERSION_MIN:
            needed = ".".join(map(str, _VERSION_MIN))
            raise ConfigurationError(f"SQLite {sqlite3.sqlite_version} is too old; {needed} or newer is needed")
        await self._on(self._writer, self._prepare)

    def _prepare(self) -> None:
        try:
            if not self.creates and not (self.path.is_file() and self.path.stat().st_size):
                raise no_ledger(self.path)
            migrate(self.path)
        except (sqlite3.Error, OSError) as error:
            remedy = "check that the folder exists, can be written to, and lies on a local disk"
            raise ConfigurationError(f"cannot open {self.path}: {error}; {remedy}") from error

    async def _close(self) -> None:
        self._closed = True
        self._writer.shutdown()
        self._readers.shutdown()
        for connection in self._opened:
            connection.close()

    def _connection(self, *, patience_seconds: float = 0) -> sqlite3.Connection:
        """This thread's connection."""
        connection: sqlite3.Connection | None = getattr(self._connections, "value", None)
        if connection is None:
            connection = self._connections.value = connect(self.path, patience_seconds)
            self._opened.append(connection)
        return connection

    def _discard(self, connection: sqlite3.Connection) -> None:
        """Close this thread's connection, whose state is doubtful; the next use opens a new one."""
        self._connections.value = None
        self._opened.remove(connection)
        connection.close()

    async def _on(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._closed:
            raise Unavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a read in one snapshot, on a reader thread."""

        def snapshot() -> T:
            try:
                connection = self._connection(patience_seconds=_READ_WAIT_SECONDS)
                connection.execute("BEGIN")
                try:
                    return work(connection)
                finally:
                    _roll_back(connection)
            except sqlite3.Error as error:
                raise translate(error) from error

        return await self._on(self._readers, snapshot)

    # Writing

    async def _commit(self, lane: Hashable, batch: Sequence[Command], wait_seconds: float) -> list[Outcome]:
        wanted = Wanted.of(command.scope for command in batch)
        pairs = [(command.scope, command.decide) for command in batch]
        state = State(NODE, self._map.peer_of(NODE))
        outcomes: list[Outcome] = []

        def decide(connection: sqlite3.Connection) -> None:
            load(connection, state, wanted)
            reach("sqlite.loaded")
            outcomes.extend(decide_all(state, pairs))
            reach("sqlite.decided")
            write(connection, state)

        await self._on(self._writer, lambda: self._transact(decide, wait_seconds))
        self._hint(state.writes.accounts)
        return outcomes

    def _transact(self, work: Callable[[sqlite3.Connection], None], wait_seconds: float) -> None:
        """BEGIN IMMEDIATE, work, COMMIT; all of it or nothing.

        Raises:
            Contended: another process kept the write lock too long. Unavailable: it failed before the commit.
            InDoubt: the COMMIT itself failed: its frames may be on disk all the same.
        """
        connection = self._until_commit(work, wait_seconds)
        try:
            connection.execute("COMMIT")
            reach("sqlite.committed")
        except Exception as error:
            self._discard(connection)
            if isinstance(error, FailpointError):
                raise InDoubt(f"SQLite: {error}") from error
            raise translate_commit(error) from error

    def _until_commit(self, work: Callable[[sqlite3.Connection], None], wait_seconds: float) -> sqlite3.Connection:
        """Everything before COMMIT. Raises as `_transact` does, with nothing written."""
        try:
            connection = self._connection()
        except sqlite3.Error as error:
            raise translate(error) from error
        try:
            _begin(connection, time.monotonic() + wait_seconds)
            work(connection)
            reach("sqlite.written")
        except BaseException as error:
            self._give_up(connection)
            if isinstance(error, FailpointError):
                raise Unavailable(f"SQLite: {error}") from error
            if isinstance(error, sqlite3.Error):
                raise translate(error) from error
            raise
        return connection

    def _give_up(self, connection: sqlite3.Connection) -> None:
        """Roll back; a connection that cannot do even that is closed, which rolls back, too."""
        try:
            _roll_back(connection)
        except sqlite3.Error:
            self._discard(connection)

    # Reading

    async def fetch(self, reads: Reads) -> Snapshot:
        """See `Store.fetch`."""
        state = State(NODE, self._map.peer_of(NODE))
        await self._read(lambda connection: load(connection, state, Wanted.of([reads])))
        return Snapshot(state, reads)

    async def list_transfers(self, account_id: AccountId, page: PageRequest) -> Page[HistoryLine]:
        """See `Store.list_transfers`."""
        text, values = sql.history_page(account_id, page)
        found = await self._read(lambda connection: connection.execute(text, values).fetchall())
        split = len(sql.ENTRY)
        lines = [HistoryLine(rows.to_entry(row[:split]), rows.to_transfer(row[split:])) for row in found]
        return page_of(lines, page.limit)

    async def list_records(self, kind: str, owner: str, *, after: str = "", limit: int = PAGE_MAX) -> Page[Record]:
        """See `Store.list_records`."""
        values = (kind, owner, after, limit + 1)
        found = await self._read(lambda connection: connection.execute(sql.LIST_RECORDS, values).fetchall())
        return page_of([rows.to_record(row) for row in found], limit)

    async def list_due(self, kind: str, before: datetime, limit: int) -> Sequence[Hold | Record]:
        """See `Store.list_due`."""
        micros = to_micros(before)
        if kind == "hold":
            found = await self._read(lambda c: c.execute(sql.DUE_HOLDS, (micros, limit)).fetchall())
            return [rows.to_hold(row) for row in found]
        found = await self._read(lambda c: c.execute(sql.DUE_RECORDS, (kind, micros, limit)).fetchall())
        return [rows.to_record(row) for row in found]

    async def scan(self, kind: ScanKind, after: str | None, limit: int) -> ScanPage:
        """See `Store.scan`: by primary key, which the cursor repeats as JSON."""
        statement, start, parse = _SCANS[kind]
        cursor, width = json.loads(after) if after else start, len(start)

        def work(connection: sqlite3.Connection) -> tuple[list[ScanItem], str | None]:
            found = connection.execute(statement, (*cursor, limit)).fetchall()
            items = _journal(connection, found) if kind == "journal" else [parse(row[width:]) for row in found]
            return items, json.dumps(found[-1][:width]) if len(found) == limit else None

        items, next_cursor = await self._read(work)
        return ScanPage(tuple(items), next_cursor)

    async def totals(self) -> Sequence[NodeTotal]:
        """See `Store.totals`."""
        found = await self._read(lambda connection: connection.execute(sql.TOTALS).fetchall())
        return [NodeTotal(NODE, *row) for row in found]

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
            connection = connect(self.path)
            try:
                _begin(connection, time.monotonic() + _WRITE_WAIT_SECONDS)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise translate(error) from error
        return connection

    async def load_raw(self, items: Sequence[ScanItem]) -> None:
        """See `Store.load_raw`."""
        await self._on(self._writer, lambda: self._transact(lambda c: self._import(c, items), _WRITE_WAIT_SECONDS))

    def _import(self, connection: sqlite3.Connection, items: Sequence[ScanItem]) -> None:
        try:
            for item in items:
                if isinstance(item, JournalItem):
                    self._import_journal(connection, item)
                else:
                    statement, to_row = _IMPORTS[type(item)]
                    connection.execute(statement, to_row(item))
        except sqlite3.IntegrityError as error:
            raise InvariantViolated(f"an item cannot be imported: {error}") from error

    def _import_journal(self, connection: sqlite3.Connection, item: JournalItem) -> None:
        item.check()
        names = [entry.account_id for entry in item.entries]
        if connection.execute(sql.COUNT_ACCOUNTS, (json.dumps(names),)).fetchone()[0] != len(set(names)):
            raise InvariantViolated(f"transfer {item.transfer.id} has an entry of an unknown account")
        new = connection.execute(sql.INSERT_TRANSFER_ONCE, rows.transfer_row(item.transfer)).rowcount
        connection.executemany(sql.INSERT_ENTRY, [rows.entry_row(entry) for entry in item.entries])
        if new:
            lines = self._map.system_lines(item.transfer, NODE)
            connection.executemany(sql.INSERT_SYSTEM_ENTRY, [rows.system_entry_row(line) for line in lines])

    async def recover(self, limit: int) -> Recovered:
        """A crash leaves nothing in doubt: SQLite itself rolls an unfinished commit back when the file is opened."""
        return Recovered()

    async def ping(self) -> None:
        """Open the file anew and commit something of no meaning: only that finds a full disk. Raises Unavailable.

        While somebody else writes it is enough to read: whoever writes shows that it can be done.
        """
        await self._on(self._readers, self._rehearse)

    def _rehearse(self) -> None:
        try:
            with closing(connect(self.path, mode="rw")) as connection:
                connection.execute("SELECT 1 FROM accounts LIMIT 1").fetchall()
                with suppress(Contended):
                    _begin(connection, deadline=0.0)
                    connection.execute("PRAGMA user_version = 0")  # which it is; it is written all the same
                    connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise translate(error) from error


def _path_of(url: str) -> Path:
    where = parse(url)
    if where.hosts or where.user is not None or where.query or not where.file:
        raise ConfigurationError("write sqlite:///wallet.db, or sqlite:////absolute/path/wallet.db")
    return Path(where.file)


def connect(path: Path, patience_seconds: float = 0, *, mode: str = "rwc") -> sqlite3.Connection:
    """A connection with the settings that durability rests on, in explicit-transaction mode.

    `patience_seconds` is SQLite's own waiting for locks; writers wait by `_patiently` instead. With the mode `rw` a
    file that is missing is not made.
    """
    name = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute(f"PRAGMA busy_timeout={int(patience_seconds * 1000)}")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA cache_size=-32000")
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    return connection


def migrate(path: Path) -> bool:
    """Create or upgrade the file under its write lock; True if there was anything to do.

    Raises:
        ConfigurationError: the file comes from a newer version, or is no ledger.
        Contended: another process kept the file locked.
    """
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # hashes of passwords are nobody else's to read
    with closing(connect(path)) as connection:
        deadline = time.monotonic() + _OPEN_WAIT_SECONDS
        _patiently(lambda: connection.execute("PRAGMA journal_mode=WAL"), deadline)
        return version_of(connection) != HEAD and _upgrade(connection, path, deadline)


def _upgrade(connection: sqlite3.Connection, path: Path, deadline: float) -> bool:
    from sqlalchemy import StaticPool, create_engine, event  # noqa: PLC0415 - only migrations need it; it loads slowly

    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    event.listen(engine, "begin", lambda _: _begin(connection, deadline))
    with engine.begin() as bound:
        found = version_of(connection)
        if found is not None and found > HEAD:
            raise ConfigurationError(
                f"{path} has schema version {found}, this program knows {HEAD}; upgrade wallet-gql"
            )
        if found != HEAD:  # another process may have been first
            upgrade(bound)
    return found != HEAD


def version_of(connection: sqlite3.Connection) -> str | None:
    """The schema version of a file; None if it has none yet. Raises ConfigurationError if it is no ledger."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if VERSION_TABLE not in tables:
        if tables:
            raise ConfigurationError(
                f"the file holds other tables ({', '.join(sorted(tables)[:3])} …); name a new file"
            )
        return None
    row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()  # noqa: S608 - a constant
    return None if row is None else str(row[0])


def _begin(connection: sqlite3.Connection, deadline: float) -> None:
    _patiently(lambda: connection.execute("BEGIN IMMEDIATE"), deadline)


def _patiently(statement: Callable[[], object], deadline: float) -> None:
    """Wait for the write lock in short, jittered steps: SQLite's own steps of up to 100 ms starve a busy process."""
    pause = 0.0005
    while True:
        try:
            statement()
        except sqlite3.OperationalError as error:
            if code_of(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if time.monotonic() >= deadline:
                raise Contended("another process keeps the database locked") from error
        else:
            return
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, 0.01)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def load(connection: sqlite3.Connection, state: State, wanted: Wanted) -> None:
    """Bring what a batch needs into its state."""

    def found(statement: str, names: Iterable[object], *more: object) -> Iterable[rows.Row]:
        names = list(names)
        return connection.execute(statement, (json.dumps(names), *more)) if names else ()

    for row in found(sql.ACCOUNTS, wanted.accounts | wanted.credits):
        state.load_account(rows.to_account(row))
    if wanted.wallets:
        owned: dict[str, list[Account]] = {owner: [] for owner in wanted.wallets}
        for row in found(sql.WALLETS, wanted.wallets):
            account = rows.to_account(row)
            owned[account.owner].append(account)
        for owner in wanted.wallets:
            state.load_wallet(owner, owned[owner])
    if wanted.due_at is not None or wanted.open_holds:
        holding = [i for i in wanted.accounts if i in state.accounts and state.accounts[i].held_minor]
        until = () if wanted.open_holds or wanted.due_at is None else (to_micros(wanted.due_at),)
        for row in found(sql.HOLDS_DUE if until else sql.OPEN_HOLDS, holding, *until):
            state.load_hold(rows.to_hold(row))
    for row in found(sql.HOLDS, wanted.holds):
        state.load_hold(rows.to_hold(row))
    for row in found(sql.TRANSFERS, wanted.transfers):
        state.load_transfer(rows.to_transfer(row[:-1]), row[-1])
    for row in found(sql.RECEIPTS, wanted.receipts):
        state.load_receipt(rows.to_receipt(row))
    for row in found(sql.RECORDS, [(key.kind, key.id, key.slot) for key in wanted.records]):
        record = rows.to_record(row)
        state.records[record.key] = record


def write(connection: sqlite3.Connection, state: State) -> None:
    """Write a batch. Raises InvariantViolated if a row is not what was loaded: then a rule or this file is wrong."""
    writes = state.writes
    try:
        connection.executemany(sql.INSERT_ACCOUNT, [rows.account_row(account) for account in writes.opened])
        for before, after in writes.accounts.values():
            _exactly_one(connection.execute(sql.UPDATE_ACCOUNT, rows.account_update(before, after)).rowcount, after.id)
        connection.executemany(sql.INSERT_TRANSFER, [rows.transfer_row(transfer) for transfer in writes.transfers])
        connection.executemany(sql.INSERT_ENTRY, [rows.entry_row(entry) for entry in writes.entries])
        lines = [rows.system_entry_row(line) for line in writes.system_entries]
        connection.executemany(sql.INSERT_SYSTEM_ENTRY, lines)
        connection.executemany(sql.INSERT_HOLD, [rows.hold_row(hold) for hold in writes.placed])
        for hold in writes.closed:
            row = rows.hold_row(hold)
            _exactly_one(connection.execute(sql.CLOSE_HOLD, (*row[8:12], hold.id)).rowcount, hold.id)
        connection.executemany(sql.INSERT_RECEIPT, [rows.receipt_row(receipt) for receipt in writes.receipts])
        for key, (record_before, record) in writes.records.items():
            if record is not None:
                version = record_before.version if record_before else 0
                row = (*rows.record_row(record), version)
                _exactly_one(connection.execute(sql.PUT_RECORD, row).rowcount, key.id)
            elif record_before is not None:
                connection.execute(sql.DELETE_RECORD, (key.kind, key.id, key.slot))
    except sqlite3.IntegrityError as error:
        raise InvariantViolated(f"SQLite refused a write: {error}") from error


def _exactly_one(count: int, identity: str) -> None:
    if count != 1:
        raise InvariantViolated(f"{count} rows of {identity} were as loaded, expected 1")


def _journal(connection: sqlite3.Connection, found: Sequence[rows.Row]) -> list[ScanItem]:
    transfers = [rows.to_transfer(row[1:]) for row in found]
    names = (json.dumps([transfer.id for transfer in transfers]),)
    entries: dict[str, list[Entry]] = {}
    for row in connection.execute(sql.ENTRIES_OF, names):
        entries.setdefault(row[2], []).append(rows.to_entry(row))
    system: dict[str, list[SystemEntry]] = {}
    for row in connection.execute(sql.SYSTEM_ENTRIES_OF, names):
        system.setdefault(row[0], []).append(rows.to_system_entry(row))
    return [JournalItem(NODE, t, tuple(entries.get(t.id, ())), tuple(system.get(t.id, ()))) for t in transfers]


_SCANS: Final[dict[ScanKind, tuple[str, tuple[str | int, ...], Callable[[rows.Row], ScanItem]]]] = {
    "account": (sql.SCAN_ACCOUNTS, ("",), rows.to_account),
    "journal": (sql.SCAN_TRANSFERS, ("",), rows.to_account),
    "hold": (sql.SCAN_HOLDS, ("",), rows.to_hold),
    "receipt": (sql.SCAN_RECEIPTS, (-1, "", ""), rows.to_receipt),
    "record": (sql.SCAN_RECORDS, ("", "", -1), rows.to_record),
}
"""Statement, the key below all others, and how to read a row."""
_IMPORTS: Final[dict[type, tuple[str, Callable[..., rows.Row]]]] = {
    Account: (sql.INSERT_ACCOUNT, rows.account_row),
    Hold: (sql.INSERT_HOLD, rows.hold_row),
    Receipt: (sql.INSERT_RECEIPT, rows.receipt_row),
    Record: (sql.INSERT_RECORD, rows.record_row),
}
