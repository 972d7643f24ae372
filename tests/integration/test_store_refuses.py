"""A command that a store cannot execute now is Unavailable, on every backend, with real servers that really refuse.

Each trouble is caused while the store serves, then ended. Meanwhile a payment, a read and `ping` each raise
Unavailable, and nothing moves; afterwards the same payment succeeds under the same key.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from wallet_gql import background
from wallet_gql.backends.sqlite import connection as sqlite
from wallet_gql.backends.sqlite.store import SqliteStore
from wallet_gql.domain.errors import InDoubt, Unavailable, WalletError
from wallet_gql.storage import Store, check_writable
from wallet_gql.testing.harness import HARNESSES, Harness
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.postgres import USER, PostgresCluster, PostgresServer
from wallet_gql.testing.world import Person, World
from wallet_gql.transports.server.app import READY_SECONDS

BOSS = "boss"
"""The role of those who make trouble; the wallet's own is `USER`."""

PAGE = 4_096
"""A file of this size holds no frame of SQLite's log."""

AGAIN_SECONDS = 60.0
"""How long a store is given to notice that it can write again. Tests end as soon as it does."""


@pytest.fixture(autouse=True)
def _every_cause_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_logged", {})


@pytest.fixture(scope="module", params=[1, 3], ids=["postgres", "postgres-3"])
def cluster(request: pytest.FixtureRequest) -> Any:
    """Servers of this module's own, whose roles, files and settings may be spoiled."""
    made = PostgresCluster(request.param)
    for node in made.nodes:
        node.run(f"CREATE ROLE {BOSS} SUPERUSER LOGIN")
        node.run("CREATE ROLE clerk LOGIN PASSWORD 'old'")
    yield made
    made.stop()


def as_boss(node: PostgresServer, statement: str, database: str = "postgres") -> None:
    """Run SQL whatever the wallet's own role may do."""
    node.run(statement, f"user={BOSS} dbname={database}")


def disconnect(node: PostgresServer, database: str) -> None:
    """End the wallet's connections, as a restart or the pool's own turnover would."""
    as_boss(
        node,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{database}' AND pid <> pg_backend_pid()",
    )


@dataclass(frozen=True)
class Trouble:
    """One way in which a node refuses: `make` it, and take it `back`."""

    make: Callable[[PostgresServer, str], None]
    back: Callable[[PostgresServer, str], None]


def hba(node: PostgresServer, rule: str) -> None:
    """Let the role `clerk` in by this rule alone, everybody else as before."""
    file = node.folder / "data" / "pg_hba.conf"
    kept = [line for line in file.read_text().splitlines() if "clerk" not in line]
    file.write_text("\n".join([f"host all clerk 127.0.0.1/32 {rule}", *kept]) + "\n")
    as_boss(node, "SELECT pg_reload_conf()")
    wanted = "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = '{}' AND 'clerk' = ANY (user_name)"
    assert node.run(wanted.format(rule), f"user={BOSS} dbname=postgres") == "1"


def new_password(node: PostgresServer, database: str) -> None:
    """`ALTER ROLE … PASSWORD`, and the old connections end."""
    as_boss(node, "ALTER ROLE clerk PASSWORD 'new'")
    disconnect(node, database)


def no_entry(node: PostgresServer, database: str) -> None:
    """Its pg_hba entry says reject."""
    hba(node, "reject")
    disconnect(node, database)


def read_only(node: PostgresServer, database: str) -> None:
    """What a fail-over to a standby looks like, too: sessions cannot write."""
    as_boss(node, f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    disconnect(node, database)


def writable_again(node: PostgresServer, database: str) -> None:
    """They can."""
    as_boss(node, f"ALTER DATABASE {database} RESET default_transaction_read_only")
    disconnect(node, database)


def no_rights(node: PostgresServer, database: str) -> None:
    """The right to write accounts is taken away."""
    as_boss(node, "REVOKE INSERT, UPDATE ON accounts FROM clerk", database)


def no_database(node: PostgresServer, database: str) -> None:
    """It was dropped; here it has another name, so that it can come back."""
    as_boss(node, f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
    disconnect(node, database)
    as_boss(node, f"ALTER DATABASE {database} RENAME TO {database}_away")


def database_again(node: PostgresServer, database: str) -> None:
    """The name comes back."""
    as_boss(node, f"ALTER DATABASE {database}_away RENAME TO {database}")
    as_boss(node, f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")


def no_table(node: PostgresServer, database: str) -> None:
    """Somebody restores a dump while the wallet serves."""
    as_boss(node, "ALTER TABLE entries RENAME TO entries_away", database)


TROUBLES = {
    "password": Trouble(new_password, lambda node, _: as_boss(node, "ALTER ROLE clerk PASSWORD 'old'")),
    "pg_hba": Trouble(no_entry, lambda node, _: hba(node, "scram-sha-256")),
    "read-only": Trouble(read_only, writable_again),
    "rights": Trouble(
        no_rights, lambda node, database: as_boss(node, "GRANT INSERT, UPDATE ON accounts TO clerk", database)
    ),
    "database": Trouble(no_database, database_again),
    "table": Trouble(
        no_table, lambda node, database: as_boss(node, "ALTER TABLE entries_away RENAME TO entries", database)
    ),
}


async def refused(work: Callable[[], Awaitable[object]]) -> WalletError:
    """What the work raises: nothing was done, or it is unknown. An internal error is neither."""
    with pytest.raises((Unavailable, InDoubt)) as found:
        await work()
    assert isinstance(found.value, WalletError)
    return found.value


async def while_refused(world: World, ann: Person, bob: Person, trouble: AbstractContextManager[None]) -> None:
    """Some payments and `ping` are refused inside of the trouble; behind it all payments go through, once."""
    payments = [partial(world.pay, ann, bob, 10, key=f"pay-{number}") for number in range(4)]
    with trouble:
        found = [await refused(payment) for payment in payments]
        assert sum(isinstance(error, InDoubt) for error in found) <= 1, found  # one may have been on its way
        assert isinstance(await refused(world.store.ping), Unavailable)
    await until_it_writes(world.store)
    for payment in payments:
        await payment()
    assert await world.balance(bob) == (140, 0)


def few_lines(caplog: pytest.LogCaptureFixture, most: int) -> None:
    """At least one warning, not one for each request, and no traceback: every such trouble is an expected one."""
    loud = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert 1 <= len(loud) <= most, [record.getMessage() for record in loud]
    assert not any(record.exc_info for record in loud), caplog.text


async def until_it_writes(store: Store) -> None:
    """Wait until `ping` says so."""
    async with asyncio.timeout(patience(AGAIN_SECONDS)):
        while True:
            try:
                await check_writable(store)
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def until_it_does_not_write(store: Store) -> None:
    """Wait until `ping` says so."""
    async with asyncio.timeout(patience(AGAIN_SECONDS)):
        while True:
            try:
                await check_writable(store)
            except Unavailable:
                return
            await asyncio.sleep(0.05)


@pytest.mark.trial
@pytest.mark.parametrize("name", TROUBLES)
async def test_f1_postgres_that_refuses(
    name: str, cluster: PostgresCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever node refuses, the payment is a certain no with few log lines, and `ping` says it, too."""
    trouble = TROUBLES[name]
    database = await asyncio.to_thread(cluster.take)
    for node in cluster.nodes:
        as_boss(node, f"ALTER DATABASE {database} OWNER TO clerk")
        hba(node, "scram-sha-256")
    harness = Harness(cluster.url(database).replace(f"{USER}@", "clerk:old@"), "postgres")

    @contextmanager
    def everywhere() -> Iterator[None]:
        for node in cluster.nodes:
            trouble.make(node, database)
        try:
            yield
        finally:
            for node in cluster.nodes:
                trouble.back(node, database)

    async with World(harness, tmp_path) as world:
        ann, bob = await world.people(2, 100)
        for node in cluster.nodes:
            as_boss(node, f"ALTER TABLE accounts OWNER TO {BOSS}; GRANT ALL ON accounts TO clerk", database)
        caplog.clear()
        await while_refused(world, ann, bob, everywhere())
        few_lines(caplog, 4 * len(cluster.nodes))


async def reconnect(world: World) -> SqliteStore:
    """Let the writer's thread open its connection anew, as it does after an error."""
    store = world.store
    assert isinstance(store, SqliteStore)
    await store._on(store._writer, lambda: store._discard(store._connection()))
    return store


async def test_f2_sqlite_that_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a file system that was mounted again without the right to write."""
    async with World(HARNESSES["sqlite"](), tmp_path) as world:
        ann, bob = await world.people(2, 100)
        connect = sqlite.connect

        def read_only(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.execute("PRAGMA query_only = 1")
            return connection

        @contextmanager
        def trouble() -> Iterator[None]:
            with monkeypatch.context() as patch:
                patch.setattr(sqlite, "connect", read_only)
                yield

        await reconnect(world)
        with trouble():
            assert isinstance(await refused(partial(world.pay, ann, bob, 10, key="pay-0")), Unavailable)
            assert isinstance(await refused(world.store.ping), Unavailable)
        few_lines(caplog, 1)
        await reconnect(world)
        await world.store.ping()
        await world.pay(ann, bob, 10, key="pay-0")
        assert await world.balance(bob) == (110, 0)


async def test_b5_sqlite_that_cannot_grow(tmp_path: Path) -> None:
    """Files that may not become larger, as on a full disk: a payment and `ping` are refused, and then go through."""
    async with World(HARNESSES["sqlite"](), tmp_path) as world:
        ann, bob = await world.people(2, 100)
        await world.pay(ann, bob, 10)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE, hard))
        try:
            await refused(partial(world.pay, ann, bob, 10, key="pay-0"))
            assert isinstance(await refused(world.store.ping), Unavailable)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await world.store.ping()
        await world.pay(ann, bob, 10, key="pay-0")
        assert await world.balance(bob) == (120, 0)


async def test_b5_sqlite_whose_file_is_missing(tmp_path: Path) -> None:
    """`ping` says so, and makes no empty file in its place; a new start serves what was put back."""
    file = tmp_path / "wallet.db"
    async with SqliteStore(f"sqlite:///{file}") as store:
        file.rename(tmp_path / "away")
        assert isinstance(await refused(store.ping), Unavailable)
        assert not file.exists()
        (tmp_path / "away").rename(file)
    async with SqliteStore(f"sqlite:///{file}") as store:
        await store.ping()


async def test_sqlite_is_ready_while_somebody_else_writes(tmp_path: Path) -> None:
    """An export that holds the writers back is no reason to take the server out of service."""
    async with World(HARNESSES["sqlite"](), tmp_path) as world:
        await world.harness.pause(world.store)
        async with asyncio.timeout(patience(READY_SECONDS)):
            await world.store.ping()
        await world.harness.resume(world.store)


@pytest.mark.parametrize("first", ["pay", "ping"])
async def test_sqlite_whose_disk_hangs(first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A COMMIT that hangs locks the file: the lock does not prove that writing works. Reads go on."""
    connect, breaks = sqlite3.connect, threading.Event()
    waits, answers = threading.Event(), threading.Event()

    class Hanging(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement == "COMMIT" and breaks.is_set():
                waits.set()
                answers.wait()
            return super().execute(statement, *values)

    monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=Hanging))
    monkeypatch.setattr("wallet_gql.backends.sqlite.store.STUCK_SECONDS", 0.05)
    async with World(HARNESSES["sqlite"](), tmp_path) as world:
        ann, bob = await world.people(2, 100)
        breaks.set()
        hanging = asyncio.ensure_future(world.store.ping() if first == "ping" else world.pay(ann, bob, 10))
        try:
            await asyncio.to_thread(waits.wait)
            await until_it_does_not_write(world.store)
            assert await world.balance(ann) == (100, 0)
        finally:
            answers.set()
        await hanging
        await world.store.ping()
