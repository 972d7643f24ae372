"""Upgrades of Postgres nodes that the older release has left in the middle of a payment, and of large ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from tests.integration._cli import run_here
from tests.integration._old_ledgers import FOLDER, postgres_nodes, restore
from wallet_gql.backends.postgres.node import Connection, PgNode
from wallet_gql.backends.postgres.status import survey
from wallet_gql.backends.postgres.upgrade import prepare_node
from wallet_gql.books.audit import audit
from wallet_gql.domain.errors import ConfigurationError
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.postgres import PostgresHarness

pytestmark = [pytest.mark.service("postgres")]

OLD: Final = FOLDER / "0.1.0"
LONG_SECONDS: Final = 24 * 3600.0
ATTEMPT: Final = "0" * 32


@asynccontextmanager
async def old_ledger(size: int, folder: Path) -> AsyncIterator[Harness]:
    """A ledger of an earlier release on so many nodes."""
    harness = PostgresHarness(size)
    await harness.start(folder)
    try:
        await restore(OLD / ("postgres" if size == 1 else f"postgres-{size}"), harness.url)
        yield harness
    finally:
        await harness.stop()


@asynccontextmanager
async def session(harness: Harness, place: int) -> AsyncIterator[asyncpg.Connection]:
    """A session of somebody else's on one node."""
    url = [url for _, url in postgres_nodes(harness.url)][place] if "," in harness.url else harness.url.split("?")[0]
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.backend("postgres-3")
@pytest.mark.parametrize("verdict", ["commit", None])
async def test_what_was_left_prepared_is_settled_first(tmp_path: Path, verdict: str | None) -> None:
    """A coordinator of the older release died between the two phases: its credit arrives, if it was decided."""
    async with old_ledger(3, tmp_path) as harness, session(harness, 0) as leader, session(harness, 1) as payee:
        cluster = await leader.fetchval("SELECT cluster_id FROM node")
        account = await payee.fetchval("SELECT id FROM accounts WHERE status = 'open' ORDER BY id")
        before = await payee.fetchval("SELECT posted_minor FROM accounts WHERE id = $1", account)
        await payee.execute("BEGIN")
        await payee.execute("LOCK TABLE entries IN ROW EXCLUSIVE MODE")
        await payee.execute("UPDATE accounts SET posted_minor = posted_minor + 7 WHERE id = $1", account)
        await payee.execute(f"PREPARE TRANSACTION 'wgql:{cluster}:n1:{ATTEMPT}'")
        if verdict is not None:
            await leader.execute("INSERT INTO decisions (attempt, verdict) VALUES ($1, $2)", ATTEMPT, verdict)
        async with harness.open():
            assert await payee.fetch("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()") == []
            after = await payee.fetchval("SELECT posted_minor FROM accounts WHERE id = $1", account)
        assert after - before == (0 if verdict is None else 7)


@pytest.mark.backend("postgres-3")
@pytest.mark.parametrize(
    ("size", "gid"),
    [(1, "somebody's"), (1, f"wgql:{'a' * 16}:n1:{ATTEMPT}"), (3, "somebody's"), (3, f"wgql:{'a' * 16}:n1:{ATTEMPT}")],
)
async def test_what_cannot_be_settled_is_named(tmp_path: Path, size: int, gid: str) -> None:
    """The upgrade would wait for it for ever: it is refused at once, and nothing has changed."""
    async with old_ledger(size, tmp_path) as harness, session(harness, size - 1) as other:
        literal = gid.replace("'", "''")
        await other.execute(f"BEGIN; LOCK TABLE entries IN ROW EXCLUSIVE MODE; PREPARE TRANSACTION '{literal}'")
        with pytest.raises(ConfigurationError, match=f"prepared transaction {gid} "):
            async with harness.open():
                pass
        assert await other.fetchval("SELECT version_num FROM alembic_version") == "0005"
        await other.execute(f"ROLLBACK PREPARED '{literal}'")
        async with harness.open():
            pass


@pytest.mark.backend("postgres-3")
async def test_the_status_of_an_old_node_is_told(tmp_path: Path) -> None:
    """Before the upgrade operators see the same as after it."""
    async with old_ledger(3, tmp_path) as harness:
        before = await survey(harness.url)
        async with harness.open():
            pass
        assert all(node.well for node in before), before
        assert before == await survey(harness.url)
        assert sum(node.users or 0 for node in before) > 0


@pytest.mark.backend("postgres-3")
@pytest.mark.parametrize("upgraded", [(), ("n2",)], ids=["old", "killed in between"])
async def test_no_command_about_nodes_upgrades_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], upgraded: tuple[str, ...]
) -> None:
    """Nor does it where an upgrade was killed between two nodes; whoever may upgrade goes on with that."""
    async with old_ledger(3, tmp_path) as harness, session(harness, 0) as first:
        for name, url in postgres_nodes(harness.url):
            if name in upgraded:
                node = PgNode(name, url)
                await node.open()
                await prepare_node(node, migrates=True)
                await node.close()
        for words in ("add n4 postgres://wallet@127.0.0.1:1/x", "drain n1", "rebalance", "rebalance --dry-run"):
            settings = {"WALLET_STORAGE": harness.url, "WALLET_MODE": "test"}
            assert await asyncio.to_thread(run_here, "nodes", *words.split(), **settings) == 2
            assert "node n1 has schema version 0005" in capsys.readouterr().err
            assert await first.fetchval("SELECT version_num FROM alembic_version") == "0005"
        async with harness.open() as store:
            assert (await audit(store)).clean


@pytest.mark.backend("postgres")
async def test_an_upgrade_takes_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline ends it. While the index of all entries is built, others read: it waits for them only at its end."""
    given: list[float] = []
    do = Connection.do

    async def noted(connection: Connection, statement: str) -> str:
        if "CREATE UNIQUE INDEX" in statement:
            given.append(connection.deadline - asyncio.get_running_loop().time())
        return await do(connection, statement)

    building = "SELECT count(*) FROM pg_locks WHERE relation = 'entries'::regclass AND mode = 'ShareLock' AND granted"
    monkeypatch.setattr(Connection, "do", noted)
    async with old_ledger(1, tmp_path) as harness, session(harness, 0) as reader, session(harness, 0) as watcher:
        await reader.execute("BEGIN; LOCK TABLE entries IN ACCESS SHARE MODE")

        async def open_and_close() -> None:
            async with harness.open():
                pass

        opening = asyncio.create_task(open_and_close())
        async with asyncio.timeout(patience(20)):
            while not await watcher.fetchval(building):
                await watcher.execute("SELECT pg_sleep(0.05)")
        assert not opening.done()
        await reader.execute("COMMIT")
        await opening
    assert len(given) == 1
    assert given[0] > LONG_SECONDS
