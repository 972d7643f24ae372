"""G3: an answered command survives a kill of the process, and was flushed to disk, so it survives a power failure."""

from __future__ import annotations

from typing import Final

from ..raw import flushed
from ..world import World
from .suite import Suite, kinds

COMMITS: Final = 20


class Durability(Suite):
    """A kill does not clear the machine's page cache, so flushes are counted, too."""

    async def test_g3_what_was_answered_survives_the_end(self, world: World) -> None:
        """After a kill, a durable store has everything that it answered; another store says it is not durable."""
        ann, bob = await world.people(2, 1_000)
        outcomes = await world.together(world.pay(ann, bob, 10) for _ in range(20))
        assert kinds(outcomes) == ["ok"] * 20
        placed = await world.hold(ann, bob, 300)
        before = (await world.books()).facts()
        if world.store.capabilities.durable and not world.harness.kills:
            world.not_tried.append("a kill, for the harness only opens the ledger again")

        await world.kill()

        after = (await world.books()).facts()
        assert after == (before if world.store.capabilities.durable else set())
        if world.store.capabilities.durable:
            assert await world.balance(ann) == (800, 300)
            await world.ledger.capture_hold(bob.id, world.key(), placed.id)
            assert await world.balance(bob) == (1_500, 0)

    async def test_g3_every_answer_has_waited_for_a_flush(self, world: World) -> None:
        """Each of several consecutive commands is flushed, as counted from outside the store."""
        flushes = await flushed(world, COMMITS)
        if flushes.count is None:
            world.not_tried.append(f"a loss of power, for flushes cannot be counted: {flushes.why}")
        else:
            assert flushes.count >= COMMITS, f"{COMMITS} commands were answered after {flushes.count} flushes"
            world.trials += COMMITS
