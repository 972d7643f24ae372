"""Postgres nodes under kills: of the coordinator between any two steps, and of the nodes and their network."""

from pathlib import Path

import pytest

from wallet_gql.testing.crash import Tally, draw_trials, run_trial
from wallet_gql.testing.nodes import FAULTS, draw_faults, run_node_trial
from wallet_gql.testing.servers.postgres import PostgresCluster, PostgresHarness, shared_cluster

pytestmark = [pytest.mark.backend("postgres-3"), pytest.mark.service("postgres"), pytest.mark.trial]

SEED = 20_261_122
KILLS = 30


async def test_killed_coordinators_lose_and_double_nothing(tmp_path: Path) -> None:
    """SIGKILL at every named step and at random, mostly beside a live writer; afterwards nothing is in doubt."""
    harness = PostgresHarness(3)
    tally = Tally()
    for number, trial in enumerate(draw_trials(harness, SEED, KILLS)):
        folder = tmp_path / str(number)
        folder.mkdir()
        tally.add(await run_trial(harness.sibling(), folder, trial))

    assert tally.kills >= KILLS
    assert {point for point in harness.failpoints if not tally.windows[point] + tally.stops[point]} == set()
    assert shared_cluster(3).prepared() == []


async def test_killed_stopped_and_cut_off_nodes_lose_and_double_nothing(
    tmp_path: Path, cluster: PostgresCluster
) -> None:
    """Every kind of fault twice under two writers; all is clear within five seconds."""
    tally = await run_node_trial(cluster, tmp_path, SEED, draw_faults(SEED, 2 * len(FAULTS), 3))

    assert dict.fromkeys(FAULTS, 2) == dict(tally.faults)
    assert tally.writers.answered > 0
