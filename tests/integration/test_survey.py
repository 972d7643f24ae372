"""What the survey sees of Postgres nodes: pools, clocks and what is in doubt."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from tests.integration._alarms import fires
from tests.integration._clusters import NAMES, one_each, slow_sums, sums_may_take_long
from tests.integration._metrics import Scrape
from tests.integration.test_postgres_nodes import down, fresh_database
from wallet_gql import metrics
from wallet_gql.backends.postgres import status
from wallet_gql.domain.errors import Unavailable
from wallet_gql.survey import Survey
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.postgres import PostgresCluster
from wallet_gql.testing.world import World
from wallet_gql.transports.cli.nodes import NOT_KNOWN, _table
from wallet_gql.verbs.ledger import utc_now

pytestmark = pytest.mark.backend("postgres-3")


async def test_what_is_in_doubt_and_the_pools_are_seen(
    tmp_path: Path, cluster: PostgresCluster, harness: object
) -> None:
    """A prepared transaction that nobody settles is seen on its node, with its age; connections are counted."""
    with metrics.serving("127.0.0.1", 0) as port:

        async def scraped() -> Scrape:
            metrics.flush()
            async with httpx.AsyncClient() as client:
                return Scrape((await client.get(f"http://127.0.0.1:{port}/metrics")).text)

        async with World(harness, tmp_path) as world:  # type: ignore[arg-type]  # the fixture's own type
            node = cluster.nodes[0]
            database = str(await world.store._nodes["n1"].ask("SELECT current_database()"))  # type: ignore[attr-defined]  # of this backend
            prepare = "BEGIN; CREATE TABLE doubt (); PREPARE TRANSACTION 'wgql:nobody:n9:1'"
            node.run(prepare, f"dbname={database}")
            try:
                survey = Survey(world.store, tmp_path, utc_now, books_seconds=0)
                async with asyncio.timeout(patience(60)):
                    while not (found := await scraped()).sum("wallet_unsettled_seconds", node="n1") > 5:  # or unknown
                        await survey.look()
                assert fires("WalletUnsettled", found)
                survey.close()
            finally:
                node.run("ROLLBACK PREPARED 'wgql:nobody:n9:1'", f"dbname={database}")
        async with asyncio.timeout(patience(60)):
            while (found := await scraped()).sum("wallet_store_connections"):
                pass  # the last one is on its way back
    assert {labels[0][1]: value for labels, value in found.samples["wallet_in_doubt"].items()} == {
        "n1": 1,
        "n2": 0,
        "n3": 0,
    }
    assert found.sum("wallet_unsettled_seconds", node="n1") > 0
    assert all(abs(seconds) < 5 for seconds in found.samples["wallet_store_clock_seconds"].values())
    assert found.sum("wallet_store_connections_max", node="n1", pool="commands") == 16
    assert found.sum("wallet_store_connection_seconds_count", node="n1", pool="aside") > 0


async def test_sums_may_take_long(harness: Harness, tmp_path: Path) -> None:
    """Longer than any statement that a payment waits for."""
    await sums_may_take_long(harness, tmp_path)


async def test_a_node_that_is_down_hides_no_other_ones_sums(
    tmp_path: Path, cluster: PostgresCluster, harness: Harness
) -> None:
    """The books of the nodes that answer are told; they count as summed only once all are."""
    with metrics.serving("127.0.0.1", 0):
        async with World(harness, tmp_path) as world:
            await one_each(world)
            with closing(Survey(world.store, tmp_path, utc_now, books_seconds=1e-9)) as survey:
                async with down(cluster.nodes[2], "kill"):
                    await survey.sum_books()
                    began = metrics.BOOKS_AT._values[()]
                    assert {node for node, _ in metrics.BOOKS_OFF._values} == {"n1", "n2"}
                    with pytest.raises(Unavailable):
                        await world.store.totals()
                async with asyncio.timeout(patience(60)):
                    while metrics.BOOKS_AT._values[()] == began:
                        await survey.sum_books()
                assert {node for node, _ in metrics.BOOKS_OFF._values} == set(NAMES)


async def test_a_node_that_is_slow_to_count_is_well(harness: Harness, tmp_path: Path) -> None:
    """Operators who ask for its state wait no longer than for others; what is not counted is told as not known."""
    async with World(harness, tmp_path) as world:
        await one_each(world)
        with slow_sums(60), pytest.MonkeyPatch.context() as patch:
            patch.setattr(status, "_USERS", "SELECT count(*) FROM records, pg_sleep(60)")
            found = await status.survey(harness.url)
    assert all(node.reachable and node.well for node in found), found
    assert [(node.users, node.sums_minor) for node in found] == [(None, None)] * 3
    told = table_of(found)
    assert told.count(NOT_KNOWN) == 6
    assert "does not answer" not in told


async def test_a_database_without_a_ledger_says_so(cluster: PostgresCluster) -> None:
    """It answers and is not well; no word of tables that an operator has never heard of."""
    found = await status.survey(cluster.url(await asyncio.to_thread(fresh_database, cluster)))
    assert [(node.reachable, node.well) for node in found] == [(True, False)] * 3
    assert all("no ledger here yet" in node.reason for node in found), found
    assert table_of(found).count("no ledger here yet") == 3


def table_of(found: list[status.NodeStatus]) -> str:
    """What `nodes status` prints."""
    console = Console(width=300)
    with console.capture() as captured:
        console.print(_table(found))
    return captured.get()
