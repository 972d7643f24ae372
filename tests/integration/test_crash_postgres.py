"""Postgres nodes under kills: of the coordinator between any two steps, and of the nodes and their network."""

from pathlib import Path

import pytest

from wallet_gql.testing.conformance import CrashConformance
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.nodes import FAULTS, draw_faults, run_node_trial
from wallet_gql.testing.servers.postgres import PostgresCluster, PostgresHarness

pytestmark = [pytest.mark.backend("postgres-3"), pytest.mark.service("postgres"), pytest.mark.trial]

SEED = 20_261_122


class TestPostgresKilled(CrashConformance):
    """Coordinators of two-phase commits, mostly beside a live writer; afterwards nothing is in doubt."""

    backend = "postgres-3"
    kills = 12
    seed = SEED

    def after_trial(self, harness: Harness) -> None:
        """Nothing is prepared any more."""
        assert isinstance(harness, PostgresHarness)
        assert harness.cluster.prepared() == []


async def test_killed_stopped_and_cut_off_nodes_lose_and_double_nothing(
    tmp_path: Path, cluster: PostgresCluster
) -> None:
    """Every kind of fault under two writers; all is clear within five seconds."""
    tally = await run_node_trial(cluster, tmp_path, SEED, draw_faults(SEED, len(FAULTS), 3))

    assert dict.fromkeys(FAULTS, 1) == dict(tally.faults)
    assert tally.writers.answered > 0
