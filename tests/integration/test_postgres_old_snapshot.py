"""Look-ups of pending credits beside an old snapshot, for which the index keeps all that was received meanwhile.

What they cost is counted in index entries: these are the same on a busy machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration._clusters import one_each, quieted, store_of
from tests.integration.test_postgres_pending import SMALL, entries_of, node_of, pending_of
from tests.integration.test_postgres_receiving import neighbours
from wallet_gql.backends.kit.wanted import Wanted
from wallet_gql.backends.postgres import reading
from wallet_gql.backends.postgres.node import Connection, PgNode
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.testing.missing import server_or_skip
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.postgres import PostgresCluster, PostgresHarness
from wallet_gql.testing.world import Person, World

pytestmark = [pytest.mark.backend("postgres-3"), pytest.mark.service("postgres")]

MANY: Final = 120
_READ: Final = "SELECT pg_stat_get_xact_tuples_returned('pending_credits_pkey'::regclass)"


@pytest.fixture(scope="module")
def undisturbed() -> Iterator[PostgresCluster]:
    """Nodes on which nothing else is under way: what other tests leave prepared, or a vacuum, keeps look-ups back."""
    with server_or_skip():
        cluster = PostgresCluster(3, {"autovacuum": "off"})
    yield cluster
    cluster.stop()


@pytest.fixture
async def quiet(undisturbed: PostgresCluster, tmp_path: Path) -> AsyncIterator[World]:
    """A ledger there, whose store neither recovers nor receives by itself."""
    async with World(PostgresHarness(3, undisturbed), tmp_path) as world:
        yield quieted(world)


@asynccontextmanager
async def opened(node: PgNode, begin: str) -> AsyncIterator[Connection]:
    """A transaction on the node."""
    async with node.connection(asyncio.get_running_loop().time() + patience(60)) as connection:
        connection.doubtful = True
        await connection.do(f"SET idle_in_transaction_session_timeout = 0; {begin}")
        yield connection


@asynccontextmanager
async def old_snapshot(node: PgNode) -> AsyncIterator[None]:
    """Somebody reads for long, such as a backup."""
    async with opened(node, "BEGIN ISOLATION LEVEL REPEATABLE READ") as connection:
        await connection.value("SELECT count(*) FROM accounts")
        yield


async def entries_read(world: World, person: Person, mode: str) -> int:
    """How many index entries of pending credits a look-up of the person's account passes."""
    store, node = store_of(world, PostgresStore), node_of(world, person)
    asked = store._wish(Wanted(accounts={person.account}), mode, store.placement.epochs[node.name])
    async with opened(node, "BEGIN") as connection:
        before = int(await connection.value(_READ))
        await connection.value("SELECT wallet_load($1, $2)", asked, mode)
        return int(await connection.value(_READ)) - before


async def test_look_ups_pass_over_what_was_received(quiet: World) -> None:
    """They see nothing of it, whether they lock or not; of what comes afterwards, they see all."""
    first, _, third = await one_each(quiet)
    (beside,) = await neighbours(quiet, third, 1)
    async with old_snapshot(node_of(quiet, third)):
        await quiet.together(quiet.pay(first, third, 1) for _ in range(MANY))
        assert await entries_read(quiet, third, "read") >= MANY
        await quiet.pay(third, first, MANY)
        for person in (third, beside):
            assert [await entries_read(quiet, person, mode) for mode in ("read", "skip")] == [0, 0]
        await quiet.pay(first, third, 5)
        assert 0 < await entries_read(quiet, third, "skip") < SMALL
        assert await quiet.balance(third) == (1_005, 0)
        await quiet.pay(third, first, 1_005)


async def test_each_part_of_a_backlog_costs_the_same(quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last part, too, is found without passing those that were received before it."""
    monkeypatch.setattr(reading, "RECEIVE_MAX", SMALL)
    first, _, third = await one_each(quiet)
    load, read = Connection.value, []

    async def counted(connection: Connection, statement: str, *values: Any) -> Any:
        if values[-1:] != ("skip",):
            return await load(connection, statement, *values)
        before = await load(connection, _READ)
        found = await load(connection, statement, *values)
        read.append(int(await load(connection, _READ)) - before)
        return found

    async with old_snapshot(node_of(quiet, third)):
        for _ in range(6 * SMALL):  # not together: of one transaction's credits, look-ups pass all or none
            await quiet.pay(first, third, 1)
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "value", counted)
            await quiet.store.recover(10)
        assert await pending_of(quiet, third) == 0
        await quiet.pay(third, first, 1_000 + 6 * SMALL)
    assert len(read) == 6
    assert max(read) <= SMALL + 3, read


async def test_credits_come_also_after_transactions_are_counted_anew(quiet: World) -> None:
    """On a server that a dump was restored to, accounts begin far ahead of all transactions to come."""
    first, _, third = await one_each(quiet)
    node, far = node_of(quiet, third), 2**61
    await node.rows("UPDATE accounts SET pending_from = $1 WHERE id = $2", far, third.account)
    for amount_minor in (30, 40):
        assert (await quiet.pay(first, third, amount_minor)).credited
    assert await quiet.balance(third) == (1_070, 0)
    await quiet.pay(third, first, 1_070)
    await quiet.pay(first, third, 7)
    await quiet.pay(third, first, 7)
    assert await entries_of(quiet, third) == [1_000, 30, 40, -1_070, 7, -7]
    assert await node.ask("SELECT pending_from FROM accounts WHERE id = $1", third.account) < far
