"""Redis leases under kills and stops: of the process between any two steps, and of the Redis below it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration._redis import FAULTS, HELD, Bench, draw_stops, run_all
from wallet_gql.testing.conformance import CrashConformance
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.patience import wait_until
from wallet_gql.testing.servers.redis import RedisHarness

pytestmark = [pytest.mark.backend("redis-3"), pytest.mark.service("redis"), pytest.mark.trial]

SEED = 20_261_122
STOPS = 8
STORMY_STOPS = 4


class TestRedisKilled(CrashConformance):
    """Holders of leases, mostly beside a live writer; no intent is left open, and no lease outlives its time."""

    backend = "redis-3"
    kills = 12
    seed = SEED

    @pytest.fixture(autouse=True)
    def _servers(self, made: Bench) -> Iterator[None]:
        """Servers with short leases."""
        self.made = made
        yield
        wait_until(lambda: made.leases() == [], 10, "leases outlive their holders")

    def harness(self) -> RedisHarness:
        """A fresh ledger on them."""
        return self.made.harness()

    def after_trial(self, harness: Harness) -> None:
        """No credit waits."""
        assert isinstance(harness, RedisHarness)
        assert harness.database is not None
        assert self.made.open_intents(harness.database) == 0


async def test_stopped_holders_do_no_harm_when_they_go_on(tmp_path: Path, made: Bench) -> None:
    """SIGSTOP past the lease while others work on the same rows: what comes late is refused or changes nothing."""
    expired = made.expired
    points = made.harness().failpoints
    tally = await run_all(made, tmp_path, draw_stops(points, SEED, STOPS))

    assert tally.stops.total() + tally.missed == STOPS
    assert made.expired - expired >= sum(tally.stops[point] for point in HELD)
    assert made.refused > 0


async def test_a_redis_that_forgets_harms_no_money(tmp_path: Path, made: Bench) -> None:
    """Flushed, killed, restarted empty and stopped, all the time, under stopped and continued holders."""
    made.faults.clear()
    tally = await run_all(made, tmp_path, draw_stops(made.harness().failpoints, SEED + 1, STORMY_STOPS), FAULTS)

    assert tally.stops.total() + tally.missed == STORMY_STOPS
    assert set(made.faults) == set(FAULTS)
    assert tally.answered > 0
