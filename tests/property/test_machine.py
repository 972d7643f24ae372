"""The state machine on the stores without servers: memory, in drawn interleavings behind a flaky network, and SQLite.

All of them must answer like the same small model, so they answer like one another.
"""

import asyncio
import random
import time

import pytest

from tests.integration._evidence import write_evidence
from wallet_gql.testing.conformance import MachineConformance
from wallet_gql.testing.loop import START_SECONDS, ShuffledLoop
from wallet_gql.testing.machine import run_machine

SOAK_EXAMPLES = 3_000
SOAK_STEPS = 60


class TestMemory(MachineConformance):
    """Random commands, alone and in crowds, in drawn order, with lost replies: the model agrees at every step."""

    backend = "memory"
    shuffled = True
    examples = 80
    steps = 40


@pytest.mark.trial
class TestMemoryOfThreeNodes(MachineConformance):
    """The same where credits cross between nodes and keys are claimed at the actor's home."""

    backend = "memory-3"
    shuffled = True
    examples = 70
    steps = 40


class TestMemoryOfThreeNodesLate(MachineConformance):
    """The same where credits arrive late and stay pending for a while."""

    backend = "memory-3-late"
    shuffled = True
    examples = 40
    steps = 40


class TestMemoryInPlainOrder(MachineConformance):
    """Without lost replies every answer is foretold exactly, replays included."""

    backend = "memory"
    examples = 30
    steps = 30


@pytest.mark.trial
class TestSqlite(MachineConformance):
    """The same on SQLite, with restarts, polite ones and others."""

    backend = "sqlite"
    examples = 25
    steps = 30


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_machine_for_long() -> None:
    """Thousands of random examples a backend; fewer where each commit waits for a disk. The counts are evidence."""
    rows = ["| backend | examples | steps each, at most | minutes |", "|---|---:|---:|---:|"]
    for backend, examples in (("memory", SOAK_EXAMPLES), ("memory-3", SOAK_EXAMPLES), ("sqlite", SOAK_EXAMPLES // 10)):
        began = time.monotonic()
        shuffled = backend.startswith("memory")
        run_machine(backend, shuffled=shuffled, examples=examples, steps=SOAK_STEPS, profile="soak")
        rows.append(f"| `{backend}` | {examples:,} | {SOAK_STEPS} | {(time.monotonic() - began) / 60:.0f} |")
    text = (
        "Random commands, alone and in crowds, against the model ledger; memory in drawn interleavings behind a\n"
        "network that loses requests and replies, SQLite with restarts. No example found a contradiction.\n\n"
    )
    write_evidence("machine", "The state machine, at random", "make soak ARGS='-k machine'", text + "\n".join(rows))


def _order(seed: int) -> list[int]:
    """In which order ten tasks with sleeps of drawn length end."""

    async def work() -> list[int]:
        ended: list[int] = []

        async def one(number: int) -> None:
            for _ in range(number % 3):
                await asyncio.sleep(0)
            await asyncio.sleep(100 * (number % 2))
            ended.append(number)

        await asyncio.gather(*map(one, range(10)))
        return ended

    with asyncio.Runner(loop_factory=lambda: ShuffledLoop(seed)) as runner:
        return runner.run(work())


def test_the_shuffled_loop_repeats_itself_and_varies() -> None:
    """One seed gives one order, many seeds give many; timers keep theirs."""
    orders = {tuple(_order(seed)) for seed in range(20)}
    assert len(orders) > 10
    assert all(_order(seed) == _order(seed) for seed in range(5))
    assert all({number % 2 for number in order[:5]} == {0} for order in orders)


def test_the_shuffled_loop_waits_for_nothing_but_threads() -> None:
    """An hour passes at once; a thread's result is waited for."""

    async def work() -> tuple[float, int]:
        await asyncio.sleep(3_600)
        found = await asyncio.to_thread(random.Random(7).randrange, 100)
        return asyncio.get_running_loop().time(), found

    with asyncio.Runner(loop_factory=lambda: ShuffledLoop(1)) as runner:
        now, found = runner.run(work())
    assert now >= START_SECONDS + 3_600
    assert found == random.Random(7).randrange(100)
