"""Races of a reversal: received money is sent back, or held, captured or released, and is never in two places."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ...domain.model import Hold, HoldState, Transfer
from ...verbs.ledger import Ledger
from ..patience import insist, patience
from ..world import Person, World
from ._races import DEADLINE_SECONDS, HOLD_SECONDS
from .suite import PARALLEL, Suite, kinds

HALF = PARALLEL // 2

BACK = [(100, 0), (0, 0), (0, 0)]
"""Posted and held of payer, player and payee after the money was sent back."""
HELD = [(0, 0), (100, 100), (0, 0)]
FREE = [(0, 0), (100, 0), (0, 0)]
CAPTURED = [(0, 0), (0, 0), (100, 0)]

REFUSALS = {"INSUFFICIENT_FUNDS", "REVERSAL_EXCEEDS_ORIGINAL"}


@dataclass(frozen=True, slots=True)
class Received:
    """The player has received 100 from the payer; if there is a hold, it reserves all of it for the payee."""

    world: World
    payer: Person
    player: Person
    payee: Person
    paid: Transfer
    hold: Hold | None

    async def reverse(self, ledger: Ledger) -> object:
        """Send all of it back."""
        key = self.world.key()
        return await insist(lambda: ledger.reverse_transfer(self.player.id, key, self.paid.id))

    async def place(self, ledger: Ledger) -> object:
        """Hold all of it for the payee."""
        key = self.world.key()
        return await insist(lambda: self.world.hold(self.player, self.payee, 100, key, ledger=ledger))

    async def capture(self, ledger: Ledger) -> object:
        """Capture the hold."""
        assert self.hold is not None
        key, hold_id = self.world.key(), self.hold.id
        return await insist(lambda: ledger.capture_hold(self.payee.id, key, hold_id))

    async def void(self, ledger: Ledger) -> object:
        """Void the hold."""
        assert self.hold is not None
        key, hold_id = self.world.key(), self.hold.id
        return await insist(lambda: ledger.void_hold(self.payee.id, key, hold_id))

    async def expire(self, ledger: Ledger) -> object:
        """Sweep expired holds."""
        return await ledger.expire_due_holds()

    async def race(self, other: Callable[[Ledger], Awaitable[object]], late_seconds: float = 0) -> tuple[Any, Any]:
        """Run 25 reversals and 25 calls of `other` at once. Returns the outcomes of both, sorted."""
        stores = await self.world.stores(2)
        deadline = patience(DEADLINE_SECONDS)
        ledgers = [self.world.ledger_on(store, deadline, late_seconds=late_seconds) for store in stores]
        turns = [ledgers[turn % len(ledgers)] for turn in range(HALF)]
        commands = [command(ledger) for ledger in turns for command in (self.reverse, other)]
        outcomes = await self.world.together(commands)
        return kinds(outcomes[::2]), kinds(outcomes[1::2])

    async def balances(self) -> list[tuple[int, int]]:
        """Posted and held of payer, player and payee."""
        return [await self.world.balance(person) for person in (self.payer, self.player, self.payee)]

    async def state(self) -> HoldState:
        """The state of the hold."""
        assert self.hold is not None
        return (await self.world.ledger.hold(self.payee.id, self.hold.id)).state


async def receive(world: World, *, held: bool) -> Received:
    """New people, and 100 for the player."""
    payer, player, payee = await world.people(3)
    await world.fund(payer, 100)
    paid = await world.paid(payer, player, 100)
    hold = await world.hold(player, payee, 100, seconds=HOLD_SECONDS) if held else None
    return Received(world, payer, player, payee, paid, hold)


class Reversals(Suite):
    """A reversal sends money back at most once."""

    async def test_race_reversal_reversal(self, world: World) -> None:
        """Of 50 reversals of all of a transfer, one sends it back."""
        for _ in range(self.rounds):
            received = await receive(world, held=False)
            some, others = await received.race(received.reverse)
            assert sorted(some + others) == ["REVERSAL_EXCEEDS_ORIGINAL"] * (PARALLEL - 1) + ["ok"]
            assert await received.balances() == BACK

    async def test_race_reversal_hold(self, world: World) -> None:
        """The received money is sent back or held for a payee, never both."""
        for _ in range(self.rounds):
            received = await receive(world, held=False)
            reversals, holds = await received.race(received.place)
            assert set(reversals) | set(holds) <= {"ok", *REFUSALS}
            assert (reversals + holds).count("ok") == 1
            assert await received.balances() == (BACK if "ok" in reversals else HELD)

    async def test_race_reversal_capture(self, world: World) -> None:
        """Money that is held is captured; it cannot be sent back."""
        for _ in range(self.rounds):
            received = await receive(world, held=True)
            reversals, captures = await received.race(received.capture)
            assert reversals == ["INSUFFICIENT_FUNDS"] * HALF
            assert captures == ["HOLD_NOT_OPEN"] * (HALF - 1) + ["ok"]
            assert await received.balances() == CAPTURED

    async def test_race_reversal_void(self, world: World) -> None:
        """The money that a void releases is sent back once, and not before the void."""
        for _ in range(self.rounds):
            received = await receive(world, held=True)
            reversals, voids = await received.race(received.void)
            assert voids == ["HOLD_NOT_OPEN"] * (HALF - 1) + ["ok"]
            assert set(reversals) <= {"ok", *REFUSALS}
            assert reversals.count("ok") <= 1
            assert await received.balances() == (BACK if "ok" in reversals else FREE)

    async def test_race_reversal_expiry(self, world: World) -> None:
        """The money of an expired hold is sent back once, whether the sweep or the reversal closes the hold."""
        for _ in range(self.rounds):
            received = await receive(world, held=True)
            reversals, sweeps = await received.race(received.expire, late_seconds=2 * HOLD_SECONDS)
            assert reversals == ["REVERSAL_EXCEEDS_ORIGINAL"] * (HALF - 1) + ["ok"]
            assert sweeps == ["ok"] * HALF
            assert await received.state() is HoldState.EXPIRED
            assert await received.balances() == BACK
