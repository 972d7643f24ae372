"""Long trials on Postgres: hundreds of killed coordinators, all faults of nodes and network, opposite payments.

`WALLET_SOAK_KILLS`, `WALLET_SOAK_FAULTS`, `WALLET_SOAK_SECONDS` and `WALLET_SOAK_SEED` change the trials. The file
named by `WALLET_SOAK_REPORT` is written after every trial, so that an interrupted run leaves its results.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from wallet_gql.testing.crash import Tally, draw_trials, run_trial
from wallet_gql.testing.nodes import FAULTS, NodeTally, draw_faults, run_node_trial
from wallet_gql.testing.servers.postgres import PostgresCluster, PostgresHarness
from wallet_gql.testing.world import World

pytestmark = [
    *(pytest.mark.backend("postgres-3"), pytest.mark.service("postgres")),
    *(pytest.mark.soak, pytest.mark.timeout(0)),
]

SEED = int(os.environ.get("WALLET_SOAK_SEED", "4004"))
KILLS = int(os.environ.get("WALLET_SOAK_KILLS", "500"))
NODE_FAULTS = int(os.environ.get("WALLET_SOAK_FAULTS", "160"))
SECONDS = float(os.environ.get("WALLET_SOAK_SECONDS", "60"))
PROCESSES = 4


def report(text: str) -> None:
    """Tell what was reached so far."""
    if "WALLET_SOAK_REPORT" in os.environ:
        Path(os.environ["WALLET_SOAK_REPORT"]).write_text(f"{text}\n", encoding="utf-8")


async def test_killed_coordinators_for_long(tmp_path: Path, cluster: PostgresCluster) -> None:
    """Every step of the protocol, many times; nothing is lost, doubled or left in doubt."""
    tally = Tally()
    for number, trial in enumerate(draw_trials(PostgresHarness(3, cluster), SEED, KILLS)):
        folder = tmp_path / str(number)
        folder.mkdir()
        tally.add(await run_trial(PostgresHarness(3, cluster), folder, trial))
        report(tally.table())
    assert tally.kills >= KILLS
    assert cluster.prepared() == []


async def test_failing_nodes_for_long(tmp_path: Path, cluster: PostgresCluster) -> None:
    """Nodes killed and stopped, connections cut, halved and held, replies lost; each is clear within seconds."""
    tally, per_trial = NodeTally(), len(FAULTS)
    for number in range(NODE_FAULTS // per_trial):
        folder = tmp_path / str(number)
        folder.mkdir()
        tally.add(await run_node_trial(cluster, folder, SEED + number, draw_faults(SEED + number, per_trial, 3)))
        longest = f"{max(tally.clear_seconds):.2f} s was the longest until all was settled"
        faults = "\n".join(f"| {kind} | {count} |" for kind, count in sorted(tally.faults.items()))
        report(f"{faults}\n{longest}\n{dict(tally.hits)}\n{tally.writers.table()}")
    assert tally.faults.total() >= NODE_FAULTS // per_trial * per_trial


async def opposed(world: World, pairs: list[tuple[str, str]], first: int) -> list[dict[str, Any]]:
    """Processes that pay both ways, each between its pair of accounts; their seeds, which begin keys, from `first`."""
    program = (sys.executable, "-m", "wallet_gql.testing.nodes", world.harness.url)
    started = [
        await asyncio.create_subprocess_exec(
            *(*program, *pair, "--seconds", str(SECONDS), "--seed", str(number)), stdout=asyncio.subprocess.PIPE
        )
        for number, pair in enumerate(pairs, first)
    ]
    ended = await asyncio.gather(*(process.communicate() for process in started))
    return [json.loads(out) for out, _ in ended]


SHAPES = {
    "the same two accounts": [(0, 1)] * PROCESSES,
    "one account and one of its own each": [(0, 1 + n) for n in range(PROCESSES)],
    "a ring": [(n, (n + 1) % PROCESSES) for n in range(PROCESSES)],
}
"""Between which of the accounts each process pays, both ways."""


@pytest.mark.parametrize("size", [1, 3])
async def test_opposite_payments_from_four_processes(tmp_path: Path, cluster: PostgresCluster, size: int) -> None:
    """Among the same accounts: no error, exact totals, at least a third of what four pairs of accounts give."""
    async with World(PostgresHarness(size, cluster), tmp_path) as world:
        people = await world.people(2 * PROCESSES, 1_000_000)

        async def paid(pairs: list[tuple[int, int]], first: int) -> list[dict[str, Any]]:
            return await opposed(world, [(people[one].account, people[two].account) for one, two in pairs], first)

        apart = await paid([(2 * n, 2 * n + 1) for n in range(PROCESSES)], 0)
        free = sum(tally["answered"] for tally in apart)
        said = [f"apart {free / SECONDS:.0f}/s"]
        for number, (shape, pairs) in enumerate(SHAPES.items(), 1):
            before = [(await world.balance(person))[0] for person in people]
            same = await paid(pairs, number * PROCESSES)
            after = [(await world.balance(person))[0] for person in people]
            contended = sum(tally["answered"] for tally in same)
            said.append(f"{shape} {contended / SECONDS:.0f}/s, {contended / free:.2f}")
            print(f"{size} nodes: {'; '.join(said)}")  # noqa: T201 - what a trial has measured
            report(f"{size} nodes: {'; '.join(said)}")
            for (one, two), tally in zip(pairs, same, strict=True):
                before[one] -= tally["net_minor"]
                before[two] += tally["net_minor"]
            assert [tally["errors"] for tally in same] == [{}] * PROCESSES
            assert after == before
            assert contended >= free / 3
