"""Long trials on Redis leases: hundreds of holders killed or stopped past their leases, with and without other faults.

`WALLET_SOAK_STOPS`, `WALLET_SOAK_KILLS` and `WALLET_SOAK_SEED` change the trials. The page under `docs/evidence/` is
written after every trial, so that an interrupted run leaves its results.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.integration._evidence import write_evidence
from tests.integration._redis import FAULTS, HELD, LEASE_SECONDS, Bench, draw_stops, run_all
from wallet_gql.testing.crash import Tally, Trial, draw_trials
from wallet_gql.testing.machine import run_machine

pytestmark = [
    *(pytest.mark.backend("redis-3"), pytest.mark.service("redis")),
    *(pytest.mark.soak, pytest.mark.timeout(0)),
]

SEED = int(os.environ.get("WALLET_SOAK_SEED", "5005"))
STOPS = int(os.environ.get("WALLET_SOAK_STOPS", "300"))
KILLS = int(os.environ.get("WALLET_SOAK_KILLS", "300"))

TITLES = {
    "stopped": "Redis leases: holders stopped past their leases",
    "forgets": "Redis leases: holders stopped past their leases, on a Redis that forgets",
    "killed": "Redis leases: holders killed",
}


async def run_and_tell(
    made: Bench, folder: Path, trials: Sequence[Trial], name: str, kinds: Sequence[str] = ()
) -> Tally:
    """Run the trials; after each, write down what has happened so far."""
    tally = Tally()
    for number, trial in enumerate(trials):
        tally.add(await run_all(made, folder / str(number), [trial], kinds))
        held = sum(tally.stops[point] for point in HELD)
        rows = [
            f"| holders stopped for 0.4 s with leases of {LEASE_SECONDS} s in their hands | {held:,} |",
            f"| leases that ended without being released | {made.expired:,} |",
            f"| late writes that the nodes refused | {made.refused:,} |",
            *(f"| Redis: {kind} | {count:,} |" for kind, count in sorted(made.faults.items())),
            "| contradictions between answers, books and audit | 0 |",
        ]
        text = "\n".join([tally.table(), *rows])
        command = f"WALLET_SOAK_SEED={SEED} scripts/soak -k '{name} and redis_soak'"
        write_evidence(f"redis-{name}", TITLES[name], command, text)
    return tally


async def test_stopped_holders(tmp_path: Path, made: Bench) -> None:
    """Between every two steps; then they go on."""
    points = made.harness().failpoints
    trials = draw_stops(points, SEED, STOPS)
    tally = await run_and_tell(made, tmp_path, trials, "stopped")
    assert tally.stops.total() + tally.missed >= STOPS
    assert made.refused > 0


async def test_stopped_holders_and_a_redis_that_forgets(tmp_path: Path, made: Bench) -> None:
    """The same while the Redis is flushed, killed, restarted empty and stopped."""
    trials = draw_stops(made.harness().failpoints, SEED + 1, STOPS)
    tally = await run_and_tell(made, tmp_path, trials, "forgets", FAULTS)
    assert tally.stops.total() + tally.missed >= STOPS
    assert set(made.faults) == set(FAULTS)


async def test_killed_holders(tmp_path: Path, made: Bench) -> None:
    """SIGKILL at every step of the protocol, and at random."""
    trials = draw_trials(made.harness(), SEED, KILLS)
    tally = await run_and_tell(made, tmp_path, trials, "killed")
    await asyncio.sleep(2 * LEASE_SECONDS)
    assert tally.kills >= KILLS
    assert made.leases() == []


@pytest.mark.parametrize("backend", ["redis", "redis-3"])
def test_machine_for_long(backend: str) -> None:
    """Random commands, alone and in crowds, are answered as the model answers them."""
    run_machine(backend, examples=100, steps=50)
