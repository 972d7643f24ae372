"""Slots move under Redis leases while holders are stopped, killed and go on.

A holder is stopped between any two steps, its rows move meanwhile, and it goes on. Writers are killed and stopped while
slots move all the time.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.integration._clusters import one_each, sharded
from tests.integration._redis import FAULTS, Bench, draw_stops, run_all
from wallet_gql.backends.postgres.sharded import PgStore
from wallet_gql.domain.errors import Contended, InDoubt, Unavailable
from wallet_gql.domain.ids import slot_of
from wallet_gql.testing.crash import Kill, Trial
from wallet_gql.testing.patience import insist, patience, until
from wallet_gql.testing.servers.keeper import keep
from wallet_gql.testing.servers.redis import RedisHarness
from wallet_gql.testing.world import CURRENCY, Person, World

pytestmark = [pytest.mark.backend("redis-3"), pytest.mark.service("redis"), pytest.mark.trial]


@pytest.fixture
def harness(made: Bench) -> RedisHarness:
    """A ledger with short leases."""
    return made.harness()


# Holders that are stopped across a move

PAY = """
import asyncio, json, sys
from wallet_gql import failpoints
from wallet_gql.backends import open_store
from wallet_gql.testing.patience import insist
from wallet_gql.verbs.ledger import Ledger, To

async def pay(url, point, user, source, payee, currency):
    async with open_store(url) as store:
        failpoints.arm(f"{point}=stop")
        ledger, money = Ledger(store), {"amount_minor": 7, "currency": currency}
        done = await insist(lambda: ledger.transfer(user, "once", source=source, to=To(payee), **money))
        print(json.dumps(done.result.id))

asyncio.run(pay(*sys.argv[1:]))
"""
"""One payment, whose process is stopped at a point."""

POINTS: Final = (
    *("redis.leased", "redis.claimed", "redis.decided", "redis.committed"),
    *("redis.crediting", "redis.credited"),
)
MOVES: Final = {
    "the payee to the payer": ("payee", ("n1",)),
    "the payer to the payee": ("payer", ("n2",)),
    "the payee away": ("payee", ("n3",)),
    "the payer away": ("payer", ("n3",)),
    "the payee away and back": ("payee", ("n3", "n2")),
    "the payer away and back": ("payer", ("n3", "n1")),
}


async def carry(mover: PgStore, slots: int, source: str, target: str) -> None:
    """Move slots, as often as it takes."""

    async def move() -> None:
        await mover.relearn()
        await mover.moves.finish(mover.placement, is_mover=True)
        await mover.relearn()
        if (mover.placement.told[source].here or 0) & slots:
            await mover.moves.move(mover.placement, source, target, slots)

    await insist(move)
    await mover.relearn()


def is_stopped(process: Process) -> bool:
    """Whether it was stopped by a signal."""
    with suppress(OSError):
        return Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"
    return False


@asynccontextmanager
async def stopped_at(point: str, world: World, payer: Person, payee: Person) -> AsyncIterator[Process]:
    """A process that pays, and is stopped at a point."""
    words = (world.harness.url, point, payer.id, payer.account, payee.account, CURRENCY)
    environment = {**os.environ, "WALLET_MODE": "test"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PAY, *words, env=environment, stdout=PIPE)
    keep(process.pid)
    try:
        await until(lambda: is_stopped(process), 30, f"{point} is not reached")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def in_ci(point: str, move: str) -> bool:
    """Before the decision it matters most that the payer moves, and after it the payee; the rest is for `make soak`."""
    decided = POINTS.index(point) >= POINTS.index("redis.committed")
    return move == ("the payee to the payer" if decided else "the payer to the payee")


@pytest.mark.parametrize(
    ("point", "move"),
    [
        pytest.param(point, move, marks=() if in_ci(point, move) else pytest.mark.soak, id=f"{point}, {move}")
        for point in POINTS
        for move in MOVES
    ],
)
async def test_a_holder_that_was_stopped_across_a_move_does_no_harm(world: World, point: str, move: str) -> None:
    """A side of its payment moves, others pay the same rows, and it goes on: its payment is made once."""
    payer, payee, third = await one_each(world)
    mover = await world.another()
    assert isinstance(mover, PgStore)
    who, targets = MOVES[move]
    person = payer if who == "payer" else payee
    async with stopped_at(point, world, payer, payee) as process:
        for target in targets:
            await carry(mover, 1 << person.slot, mover.placement.home(person.slot), target)
            await insist(partial(world.pay, payer, third, 1, key=f"from {target}"))
            await insist(partial(world.pay, third, payee, 1, key=f"to {target}"))
        process.send_signal(signal.SIGCONT)
        said, _ = await asyncio.wait_for(process.communicate(), patience(60))
    again = await insist(partial(world.pay, payer, payee, 7, key="once"))
    assert again.result.id == json.loads(said)
    await world.settle()
    paid = len(targets)
    assert [(await world.balance(one))[0] for one in (payer, payee, third)] == [993 - paid, 1_007 + paid, 1_000]


# Writers that are killed and stopped while slots move


class Mover:
    """Moves the slots of all people from node to node, one after the other, for ever."""

    def __init__(self, seed: int) -> None:
        self.moved = 0
        self._drawn = Random(seed)

    @asynccontextmanager
    async def beside(self, world: World) -> AsyncIterator[None]:
        """In this world."""
        moving = asyncio.create_task(self._move(world))
        try:
            yield
        finally:
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)
            await self._end(sharded(world))

    async def _move(self, world: World) -> None:
        store = sharded(world)
        nodes = [store.node(name) for name in store.placement.names]
        rows = [row for node in nodes for row in await node.rows("SELECT id FROM accounts")]
        for slot in cycle(sorted({slot_of(row["id"]) for row in rows})):
            source = store.placement.home(slot)
            target = self._drawn.choice([name for name in store.placement.names if name != source])
            with suppress(Contended, InDoubt, Unavailable):
                await store.relearn()
                await store.moves.finish(store.placement, is_mover=True)
                await store.relearn()
                await store.moves.move(store.placement, source, target, 1 << slot)
                self.moved += 1
            await asyncio.sleep(self._drawn.uniform(0.0, 0.1))

    async def _end(self, store: PgStore) -> None:
        """Nothing is on its way any more."""

        async def finish() -> None:
            await store.relearn()
            await store.moves.finish(store.placement, is_mover=True)
            await store.relearn()

        await insist(finish)


async def storm(made: Bench, folder: Path, trials: Sequence[Trial], kinds: Sequence[str] = ()) -> Mover:
    """The trials, while slots move. Returns the mover."""
    mover = Mover(trials[0].seed)
    await run_all(made, folder, trials, kinds, beside=mover.beside)
    return mover


@pytest.mark.soak
async def test_writers_are_stopped_and_killed_while_slots_move(made: Bench, tmp_path: Path) -> None:
    """At every step of theirs; the books agree with all answers."""
    points = made.harness().failpoints
    stops = draw_stops(points, 19, 6)
    kills = Trial(20, tuple(Kill(point, 3) for point in points[::2]), companion=True)
    mover = await storm(made, tmp_path, [*stops, kills])
    assert mover.moved > len(points)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(100))
async def test_writers_are_stopped_while_slots_move_for_long(made: Bench, tmp_path: Path, seed: int) -> None:
    """Every second time on a Redis that forgets."""
    points = made.harness().failpoints
    kinds = FAULTS if seed % 2 else ()
    mover = await storm(made, tmp_path, draw_stops(points, 1_900 + seed, 6), kinds)
    assert mover.moved > 0
