"""Redis leases under kills and stops: of the process between any two steps, and of the Redis below it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration._redis import FAULTS, HELD, LEASE_SECONDS, Bench, draw_stops, run_all
from wallet_gql.testing.crash import draw_trials

pytestmark = [pytest.mark.backend("redis-3"), pytest.mark.service("redis"), pytest.mark.trial]

SEED = 20_261_122
KILLS = 18
STOPS = 8
STORMY_STOPS = 4


async def test_killed_holders_lose_and_double_nothing(tmp_path: Path, made: Bench) -> None:
    """SIGKILL at every named step and at random, mostly beside a live writer; no intent and no lease is left."""
    harness = made.harness()
    tally = await run_all(made, tmp_path, draw_trials(harness, SEED, KILLS))
    await asyncio.sleep(2 * LEASE_SECONDS)

    assert tally.kills >= KILLS
    assert {point for point in harness.failpoints if not tally.windows[point] + tally.stops[point]} == set()
    assert made.leases() == []


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
