"""Many commands at once for the same money: one wins, and the sum is unchanged (the books are checked after each)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ...domain.errors import WalletError
from ...domain.ids import OPERATOR, slot_of
from ...domain.model import AccountStatus, Hold, HoldState, Record, Transfer
from ...domain.payments import PROVIDER, QUARANTINE, Alarm, StoredAlarm
from ...domain.spending import Limits
from ...integrations.stripe.desk import Desk
from ...verbs.ledger import Ledger
from ..patience import insist, patience, within
from ..world import CURRENCY, Person, World
from .suite import PARALLEL, Suite, hold, kinds, pay

HOLD_SECONDS = 60
DEADLINE_SECONDS = 30
"""Long enough for a busy machine; otherwise some commands would be refused as `Contended`."""

Closer = Callable[[World, Ledger, Hold], Awaitable[object]]
"""One way to close a hold."""


class Races(Suite):
    """The first command wins; all others are refused."""

    async def test_race_opposite_transfers(self, world: World) -> None:
        """Payments in both directions between two people all succeed, without a deadlock."""
        ann, bob = await world.people(2, 10_000)
        ledgers = [world.ledger_on(store) for store in await world.stores(2)]
        outcomes = await within(
            30,
            world.together(
                pay(world, *((ann, bob) if i % 2 else (bob, ann)), 10, ledgers[i // 2 % len(ledgers)])
                for i in range(2 * PARALLEL)
            ),
        )
        assert kinds(outcomes) == ["ok"] * 2 * PARALLEL
        assert (await world.balance(ann), await world.balance(bob)) == ((10_000, 0), (10_000, 0))

    async def test_race_around_a_ring(self, world: World) -> None:
        """Everybody pays the next person at once; the sum is unchanged, and nobody is below zero."""
        people = await world.people(6, 100)
        for _ in range(self.rounds):
            outcomes = await within(
                30,
                world.together(
                    pay(world, people[i % 6], people[(i + 1 + i % 4) % 6], 1 + world.random.randrange(60))
                    for i in range(60)
                ),
            )
            assert set(kinds(outcomes)) <= {"ok", "INSUFFICIENT_FUNDS"}
            assert sum([(await world.balance(person))[0] for person in people]) == 600

    async def test_race_for_the_whole_balance(self, world: World) -> None:
        """Of 50 payments of the whole balance, one is made."""
        ledgers = [world.ledger_on(store) for store in await world.stores(3)]
        for _ in range(self.rounds):
            ann, bob = await world.people(2)
            await world.fund(ann, 500)
            outcomes = await world.together(
                pay(world, ann, bob, 500, ledgers[i % len(ledgers)]) for i in range(PARALLEL)
            )
            assert kinds(outcomes) == ["INSUFFICIENT_FUNDS"] * (PARALLEL - 1) + ["ok"]
            assert (await world.balance(ann), await world.balance(bob)) == ((0, 0), (500, 0))

    async def test_race_of_different_verbs_for_the_whole_balance(self, world: World) -> None:
        """Of payments, withdrawals and holds of the whole balance at once, one is made."""
        ledgers = [world.ledger_on(store) for store in await world.stores(3)]
        for _ in range(self.rounds):
            ann, bob = await world.people(2)
            await world.fund(ann, 500)
            outcomes = await world.together(
                _spend_all(world, ledgers[i % len(ledgers)], i, ann, bob) for i in range(PARALLEL)
            )
            assert kinds(outcomes) == ["INSUFFICIENT_FUNDS"] * (PARALLEL - 1) + ["ok"]

    async def test_race_at_a_spending_limit(self, world: World) -> None:
        """Of 50 payments and holds, as many succeed as fit within the day's limit; and all that is left then fits."""
        stores = await world.stores(3)
        ledgers = [world.ledger_on(store, limits=Limits(day=75)) for store in stores]
        for _ in range(self.rounds):
            ann, bob, cid = await world.people(3)
            await world.fund(ann, 1_000)
            outcomes = await world.together(
                (hold if i % 3 == 2 else pay)(world, ann, cid if i % 2 else bob, 10, ledgers[i % len(ledgers)])
                for i in range(PARALLEL)
            )
            assert kinds(outcomes) == ["SPENDING_LIMIT_EXCEEDED"] * (PARALLEL - 7) + ["ok"] * 7
            posted_minor, held_minor = await world.balance(ann)
            assert posted_minor - held_minor == 1_000 - 70
            await world.pay(ann, bob, 5, ledger=ledgers[0])

    async def test_race_capture_capture(self, world: World) -> None:
        """Of 50 captures under their own keys, one takes the money."""
        await self._close(world, _capture, _capture, {HoldState.CAPTURED})

    async def test_race_void_void(self, world: World) -> None:
        """Of 50 voids under their own keys, one releases the money."""
        await self._close(world, _void, _void, {HoldState.VOIDED})

    async def test_race_capture_void(self, world: World) -> None:
        """A hold is captured or voided, never both."""
        await self._close(world, _capture, _void, {HoldState.CAPTURED, HoldState.VOIDED})

    async def test_race_capture_expiry(self, world: World) -> None:
        """A hold is captured or expired by the sweep of a server whose clock is ahead, never both."""
        await self._close(world, _capture, _expire, {HoldState.CAPTURED, HoldState.EXPIRED})

    async def test_race_void_expiry(self, world: World) -> None:
        """A hold is voided or expired, never both."""
        await self._close(world, _void, _expire, {HoldState.VOIDED, HoldState.EXPIRED})

    async def test_race_expiry_expiry(self, world: World) -> None:
        """Fifty sweeps of servers whose clocks are ahead expire a hold once."""
        await self._close(world, _expire, _expire, {HoldState.EXPIRED})

    async def test_race_capture_spending_after_expiry(self, world: World) -> None:
        """An expired hold's money goes to the captor or to another payee, never to both."""
        states = set()
        ledgers = [world.ledger_on(store) for store in await world.stores(2)]
        late = [world.ledger_on(ledger.store, late_seconds=2 * HOLD_SECONDS) for ledger in ledgers]
        for i in range(self.rounds):
            ann, bob, cem = await world.people(3)
            await world.fund(ann, 100)
            placed = await world.hold(ann, bob, 100, seconds=HOLD_SECONDS)
            commands = [
                pay(world, ann, cem, 100, late[i % len(late)])
                if (i + j) % 2
                else _capture(world, ledgers[i % len(ledgers)], placed)
                for j in range(PARALLEL)
            ]
            outcomes = await world.together(commands)
            assert kinds(outcomes).count("ok") == 1
            state = (await world.ledger.hold(bob.id, placed.id)).state
            states.add(state)
            winner = bob if state is HoldState.CAPTURED else cem
            assert await world.balance(winner) == (100, 0)
        assert states <= {HoldState.CAPTURED, HoldState.EXPIRED}

    async def test_race_hold_capture(self, world: World) -> None:
        """The money that a smaller capture releases can be held once, and not before the capture."""
        for _ in range(self.rounds):
            ann, bob = await world.people(2)
            await world.fund(ann, 100)
            placed = await world.hold(ann, bob, 100)
            commands: list[Awaitable[object]] = []
            for _ in range(PARALLEL // 2):
                commands.append(_capture(world, world.ledger, placed, 40))
                commands.append(hold(world, ann, bob, 60))
            outcomes = await world.together(commands)
            assert kinds(outcomes[::2]) == ["HOLD_NOT_OPEN"] * (PARALLEL // 2 - 1) + ["ok"]
            assert kinds(outcomes[1::2]).count("ok") <= 1
            posted, held = await world.balance(ann)
            assert (posted, held) == (60, 60 * kinds(outcomes[1::2]).count("ok"))

    async def test_race_hold_void(self, world: World) -> None:
        """The money that a void releases can be held once."""
        for _ in range(self.rounds):
            ann, bob = await world.people(2)
            await world.fund(ann, 100)
            placed = await world.hold(ann, bob, 100)
            commands: list[Awaitable[object]] = []
            for _ in range(PARALLEL // 2):
                commands.append(_void(world, world.ledger, placed))
                commands.append(hold(world, ann, bob, 100))
            outcomes = await world.together(commands)
            assert kinds(outcomes[::2]) == ["HOLD_NOT_OPEN"] * (PARALLEL // 2 - 1) + ["ok"]
            assert await world.balance(ann) == (100, 100 * kinds(outcomes[1::2]).count("ok"))

    async def test_race_hold_expiry(self, world: World) -> None:
        """The money of an expired hold can be held once, whether the sweep or the new hold closes the old one."""
        late = world.ledger_on(world.store, late_seconds=2 * HOLD_SECONDS)
        for _ in range(self.rounds):
            ann, bob = await world.people(2)
            await world.fund(ann, 100)
            old = await world.hold(ann, bob, 100, seconds=HOLD_SECONDS)
            outcomes = await world.together(
                late.expire_due_holds() if i % 2 else hold(world, ann, bob, 100, late) for i in range(PARALLEL)
            )
            assert kinds(outcomes[::2]) == ["INSUFFICIENT_FUNDS"] * (PARALLEL // 2 - 1) + ["ok"]
            assert (await world.ledger.hold(bob.id, old.id)).state is HoldState.EXPIRED
            assert await world.balance(ann) == (100, 100)

    async def test_race_reversals(self, world: World) -> None:
        """Reversals of one transfer add up to at most its amount."""
        ann, bob = await world.people(2, 1_000)
        for _ in range(self.rounds):
            paid = await world.paid(ann, bob, 100)
            outcomes = await world.together(_reverse(world, bob, paid, 30) for _ in range(PARALLEL))
            assert kinds(outcomes) == ["REVERSAL_EXCEEDS_ORIGINAL"] * (PARALLEL - 3) + ["ok"] * 3

    async def test_race_freeze_transfer(self, world: World) -> None:
        """After a freeze was answered no payment leaves; payments before it are complete."""
        for _ in range(self.rounds):
            ann, bob = await world.people(2)
            await world.fund(ann, 1_000)
            payments = [asyncio.ensure_future(world.together([pay(world, ann, bob, 1)])) for _ in range(PARALLEL)]
            await asyncio.sleep(world.random.random() * 0.002)
            await world.ledger.set_account_status(OPERATOR, ann.account, AccountStatus.FROZEN)
            sequence = (await world.account(ann)).sequence
            late = await world.together(pay(world, ann, bob, 1) for _ in range(5))
            assert kinds(late) == ["ACCOUNT_FROZEN"] * 5
            outcomes = [outcome for (outcome,) in await asyncio.gather(*payments)]
            assert set(kinds(outcomes)) <= {"ok", "ACCOUNT_FROZEN"}
            assert (await world.account(ann)).sequence == sequence == 1 + kinds(outcomes).count("ok")

    async def test_race_close_credit(self, world: World) -> None:
        """An account that is closed while money is on its way is closed at zero, or receives what was decided."""
        for _ in range(self.rounds):
            ann, bob = await world.people(2)
            await world.fund(ann, 100)
            close = world.ledger.set_account_status(bob.id, bob.account, AccountStatus.CLOSED)
            outcomes = await world.together(
                [pay(world, ann, bob, 1), close, *(pay(world, ann, bob, 1) for _ in range(9))]
            )
            assert set(kinds(outcomes)) <= {"ok", "ACCOUNT_NOT_EMPTY", "PAYEE_CANNOT_RECEIVE"}
            paid = sum(not isinstance(outcome, WalletError) for outcome in (outcomes[0], *outcomes[2:]))
            assert await world.balance(bob) == (paid, 0)

    async def _close(self, world: World, one: Closer, other: Closer, expected: set[HoldState]) -> None:
        """Close the same hold in two ways, 25 times each, all at once; exactly one of them does it."""
        stores = await world.stores(2)
        for i in range(self.rounds):
            ann, bob = await world.people(2)
            await world.fund(ann, 100)
            placed = await world.hold(ann, bob, 100, seconds=HOLD_SECONDS)
            deadline = patience(DEADLINE_SECONDS)
            ledgers = [world.ledger_on(store, deadline) for store in stores]
            late = [world.ledger_on(store, deadline, late_seconds=2 * HOLD_SECONDS) for store in stores]
            closers = [one, other] if i % 2 else [other, one]
            chosen = [closers[j % 2] for j in range(PARALLEL)]
            outcomes = await world.together(
                closer(world, (late if closer is _expire else ledgers)[j // 2 % len(stores)], placed)
                for j, closer in enumerate(chosen)
            )
            state = (await world.ledger.hold(bob.id, placed.id)).state
            assert state in expected
            told = [outcome for closer, outcome in zip(chosen, outcomes, strict=True) if closer is not _expire]
            assert set(kinds(told)) <= {"ok", "HOLD_NOT_OPEN"}
            assert kinds(told).count("ok") == (state is not HoldState.EXPIRED)
            taken = 100 if state is HoldState.CAPTURED else 0
            assert (await world.balance(ann), await world.balance(bob)) == ((100 - taken, 0), (taken, 0))

    async def test_race_an_alarm_is_settled_once(self, world: World) -> None:
        """Of many operators who settle one alarm at once, one does; all learn of it. The list of open ones is short.

        One alarm is new; the other is as releases stored it that knew no settlement.
        """
        desks = [Desk(store, world.clock, world.entropy) for store in await world.stores(2)]
        await desks[0].alarm(Alarm("ch_new", "it has another amount than was asked for"))
        user_id = await world.user()
        old = {"about": "ch_old", "reason": "it is in USD, not EUR", "flow": "", "at": 1_700_000_000_000_000}
        await world.put(Record(QUARANTINE, "0" * 32, slot_of(user_id), PROVIDER, 1, old))
        raised = await desks[0].alarms()
        assert [(one.alarm.about, one.settlement) for one in raised] == [("ch_old", None), ("ch_new", None)]
        for left, one in enumerate(raised, 1 - len(raised)):
            told = await world.together(
                _settle(desks[i % len(desks)], one.id, f"seen to by {i}") for i in range(PARALLEL)
            )
            assert len({stored for stored, _ in told}) == 1
            assert sum(is_new for _, is_new in told) == 1
            assert len(await desks[0].alarms()) == -left
        after = await desks[-1].alarms(with_settled=True)
        assert [(one.id, one.alarm, one.at) for one in after] == [(one.id, one.alarm, one.at) for one in raised]
        assert all(one.settlement is not None and one.settlement.by == OPERATOR for one in after)
        await desks[0].alarm(raised[-1].alarm)
        assert await desks[0].alarms() == []


async def _settle(desk: Desk, alarm_id: str, note: str) -> tuple[StoredAlarm, bool] | None:
    return await insist(lambda: desk.settle(alarm_id, note))


async def _capture(world: World, ledger: Ledger, placed: Hold, amount_minor: int | None = None) -> object:
    key = world.key()
    return await insist(lambda: ledger.capture_hold(placed.closer, key, placed.id, amount_minor=amount_minor))


async def _void(world: World, ledger: Ledger, placed: Hold) -> object:
    key = world.key()
    return await insist(lambda: ledger.void_hold(placed.closer, key, placed.id))


async def _reverse(world: World, payee: Person, paid: Transfer, amount_minor: int) -> object:
    key = world.key()
    return await insist(lambda: world.ledger.reverse_transfer(payee.id, key, paid.id, amount_minor=amount_minor))


async def _expire(world: World, ledger: Ledger, placed: Hold) -> object:
    del world, placed
    return await ledger.expire_due_holds()


async def _spend_all(world: World, ledger: Ledger, turn: int, payer: Person, payee: Person) -> object:
    """Pay, withdraw or hold 500, depending on `turn`."""
    key = world.key()
    ways: list[Callable[[], Awaitable[object]]] = [
        lambda: world.pay(payer, payee, 500, key, ledger),
        lambda: ledger.withdraw(payer.id, key, payer.account, 500, CURRENCY),
        lambda: world.hold(payer, payee, 500, key, ledger=ledger),
    ]
    return await insist(ways[turn % 3])
