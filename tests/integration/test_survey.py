"""What the survey sees of Postgres nodes: pools, clocks and what is in doubt."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.integration._alarms import fires
from tests.integration._metrics import Scrape
from wallet_gql import metrics
from wallet_gql.survey import Survey
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.postgres import PostgresCluster
from wallet_gql.testing.world import World
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
