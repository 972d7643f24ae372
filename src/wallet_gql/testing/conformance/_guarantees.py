"""G1 to G8, as `storage.Store` states them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count

import pytest

from ... import failpoints
from ...domain.changes import Changes, Decide, Decision, Scope, Snapshot
from ...domain.errors import Contended, InDoubt, InvariantViolated, PayeeNotFound, Unavailable, WalletError
from ...domain.ids import OPERATOR, AccountId, system_account
from ...domain.model import CASH, RecordKey, TransferKind
from ...storage import Store
from ..books import read_books
from ..patience import patience, within
from ..raw import counter_key, increment, movement, number, paying, receipt_of, written
from ..world import CURRENCY, Person, World
from ._freshness import BASE_MINOR, Steps
from .suite import PARALLEL, Suite, failpoints_of, kinds, raised


class Guarantees(Suite):
    """At least one test per guarantee, with its name."""

    async def test_g1_all_of_a_commands_changes_or_none(self, world: World) -> None:
        """A command whose last part is wrong writes nothing; the same command without that part writes all."""
        ann, bob = await world.people(2, 1_000)
        scope, changes = paying(world, ann, bob, 100)
        good, bad = counter_key(ann, "good"), counter_key(ann, "bad")
        scope = replace(scope, records=(good, bad))
        changes += Changes(records=(written(good, 1),))
        before = (await world.books()).facts()

        with pytest.raises(InvariantViolated):
            await world.execute(scope, changes + Changes(records=(written(bad, 7),)))
        assert (await world.books()).facts() == before

        await world.execute(scope, changes)
        assert await world.balance(ann) == (900, 0)
        assert await world.balance(bob) == (1_100, 0)
        assert await world.record(good) is not None
        assert await world.record(bad) is None

    async def test_g1_at_every_failpoint_all_or_none(self, world: World) -> None:
        """A fault at any named point of a commit leaves all of the command or none; the same key then completes it."""
        ann, bob = await world.people(2, 1_000)
        paid = 0
        for point in failpoints_of(world):
            for hit in (1, 2, 3):
                key = world.key()
                failpoints.arm(f"{point}=fail@{hit}")
                outcomes = await world.together(world.pay(ann, bob, 10, key) for _ in range(hit))
                failpoints.arm("")
                assert set(kinds(outcomes)) <= {"ok", "UNAVAILABLE", "CONTENDED", "IN_DOUBT"}
                await world.pay(ann, bob, 10, key)
                paid += 10
                assert await world.balance(ann) == (1_000 - paid, 0)
        assert await world.balance(bob) == (1_000 + paid, 0)

    async def test_g1_at_every_failpoint_a_command_without_a_receipt_runs_once(self, world: World) -> None:
        """After a fault at any named point it has run once if it was answered, and not if nothing was written."""
        ann, bob = await world.people(2, BASE_MINOR)
        points = failpoints_of(world)
        places = range(3 * len(points))
        steps = Steps(world, ann, bob, len(places))
        done = {steps.record: 0}
        doubtful = {steps.record: 0}
        for place in places:
            key = counter_key(ann, f"at{place}")
            plain = Scope(ann.slot, records=(key,))
            failpoints.arm(f"{points[place // 3]}=fail@{place % 3 + 1}")
            outcomes = await world.together(
                [steps.take(place, world.store), *(world.store.execute(plain, increment(key)) for _ in range(3))]
            )
            failpoints.arm("")
            assert set(kinds(outcomes)) <= {"ok", "UNAVAILABLE", "CONTENDED", "IN_DOUBT"}
            for record, told in ((steps.record, outcomes[:1]), (key, outcomes[1:])):
                done[record] = done.get(record, 0) + kinds(told).count("ok")
                doubtful[record] = doubtful.get(record, 0) + kinds(told).count("IN_DOUBT")
                assert done[record] <= number(await world.record(record)) <= done[record] + doubtful[record]

    async def test_g1_every_later_command_sees_both_or_neither(self, world: World) -> None:
        """No reader ever sees one of two records that are always written together without the other."""
        ann = await world.person()
        left, right = counter_key(ann, "left"), counter_key(ann, "right")
        scope = Scope(ann.slot, records=(left, right))

        def step(snapshot: Snapshot) -> Decision[tuple[int, int]]:
            seen = number(snapshot.record(left)), number(snapshot.record(right))
            records = (written(left, seen[0] + 1, n=seen[0] + 1), written(right, seen[1] + 1, n=seen[1] + 1))
            return Decision(Changes(records=records), seen)

        stores = await world.stores(3)
        outcomes = await world.together(stores[i % len(stores)].execute(scope, step) for i in range(PARALLEL))
        seen = [outcome.result for outcome in outcomes]
        assert all(one == other for one, other in seen)
        assert sorted(one for one, _ in seen) == list(range(PARALLEL))

    async def test_g2_no_update_is_lost(self, world: World) -> None:
        """Parallel commands that increment a number lose no update, from any number of store objects."""
        ann = await world.person()
        key = counter_key(ann)
        stores = await world.stores(3)
        outcomes = await world.together(
            stores[i % len(stores)].execute(Scope(ann.slot, records=(key,)), increment(key)) for i in range(PARALLEL)
        )
        assert kinds(outcomes) == ["ok"] * PARALLEL
        assert sorted(outcome.result for outcome in outcomes) == list(range(1, PARALLEL + 1))
        assert number(await world.record(key)) == PARALLEL

    async def test_g2_no_write_skew(self, world: World) -> None:
        """Two commands that each read both accounts of an owner and write one of them run as if one after the other."""
        stores = await world.stores(2)
        for _ in range(PARALLEL // 2):
            ann = await world.person(100)
            dollars = (await world.ledger.open_account(ann.id, "USD")).id
            await world.ledger.deposit(OPERATOR, world.key(), dollars, 100, "USD")
            names = [((ann.account, CURRENCY), world.key()), ((dollars, "USD"), world.key())]
            outcomes = await world.together(
                stores[i % len(stores)].execute(*_withdrawing_half(world, ann, *name)) for i, name in enumerate(names)
            )
            assert sorted(outcome.result for outcome in outcomes) == [False, True]

    async def test_g2_holds_of_one_owner_are_read_and_written_as_one(self, world: World) -> None:
        """Parallel holds and payments out of one account never reserve and spend the same money."""
        ann, bob = await world.people(2, 1_000)
        ledgers = [world.ledger_on(store) for store in await world.stores(3)]
        before = await world.balance(bob)
        outcomes = await world.together(
            (world.pay if i % 2 else world.hold)(ann, bob, 100, ledger=ledgers[i // 2 % len(ledgers)])
            for i in range(PARALLEL)
        )
        assert kinds(outcomes) == ["INSUFFICIENT_FUNDS"] * (PARALLEL - 10) + ["ok"] * 10
        posted, held = await world.balance(ann)
        assert posted == held
        assert (await world.balance(bob))[0] - before[0] == 1_000 - posted

    async def test_g2_two_creators_of_an_absent_record(self, world: World) -> None:
        """If many commands find a record absent and create it, one succeeds; the others see it."""
        stores = await world.stores(3)
        for _ in range(5):
            ann = await world.person()
            key = counter_key(ann, "new")

            def create(snapshot: Snapshot, key: RecordKey = key) -> Decision[bool]:
                absent = snapshot.record(key) is None
                return Decision(Changes(records=(written(key, 1),) if absent else ()), absent)

            scope = Scope(ann.slot, records=(key,))
            outcomes = await world.together(stores[i % len(stores)].execute(scope, create) for i in range(20))
            assert sum(outcome.result for outcome in outcomes) == 1

    async def test_g2_two_creators_of_an_absent_account(self, world: World) -> None:
        """If many commands open the one account of a user and currency, one succeeds."""
        ledgers = [world.ledger_on(store) for store in await world.stores(3)]
        for _ in range(5):
            user_id = await world.user()
            outcomes = await world.together(
                ledgers[i % len(ledgers)].open_account(user_id, CURRENCY) for i in range(20)
            )
            assert kinds(outcomes) == ["ACCOUNT_EXISTS"] * 19 + ["ok"]
            assert len(await world.ledger.accounts(user_id)) == 1

    async def test_g2_two_creators_of_an_absent_receipt(self, world: World) -> None:
        """If many commands find a receipt absent and write it, one succeeds; the others see it."""
        ann = await world.person()
        stores = await world.stores(3)
        for _ in range(5):
            key = world.key()

            def create(snapshot: Snapshot, key: str = key) -> Decision[bool]:
                absent = snapshot.receipt(ann.id, key) is None
                return Decision(Changes(receipts=(receipt_of(world, ann, key),) if absent else ()), absent)

            scope = Scope(ann.slot, receipts=((ann.id, key),))
            outcomes = await world.together(stores[i % len(stores)].execute(scope, create) for i in range(20))
            assert sum(outcome.result for outcome in outcomes) == 1

    async def test_g4_a_receipt_key_is_unique(self, world: World) -> None:
        """A second receipt under one (slot, actor, key) is refused, whether loaded or not, alone or in a batch."""
        ann, bob = await world.people(2, 1_000)
        scope, changes = paying(world, ann, bob, 100)
        await world.execute(scope, changes)
        (kept,) = changes.receipts
        again, second = paying(world, ann, bob, 100)
        again = replace(again, receipts=scope.receipts)
        second = replace(second, receipts=(replace(second.receipts[0], key=kept.key),))

        outcomes = await world.together(
            [world.execute(again, second), *(world.pay(ann, bob, 1) for _ in range(3)), world.execute(again, second)]
        )

        assert kinds(outcomes) == ["INTERNAL"] * 2 + ["ok"] * 3
        assert await world.balance(ann) == (897, 0)
        books = await world.books()
        assert books.receipts[kept.slot, kept.actor, kept.key] == kept

    async def test_g5_one_result_of_a_decision_is_kept(self, world: World) -> None:
        """However often a decision ran, its answer belongs to the run that was written."""
        ann = await world.person()
        runs = count(1)
        stores = await world.stores(2)

        def decide(snapshot: Snapshot, key: RecordKey) -> Decision[int]:
            assert snapshot.record(key) is None
            run = next(runs)
            return Decision(Changes(records=(written(key, 1, n=run),)), run)

        async def one(store: Store, key: RecordKey) -> None:
            done = await store.execute(Scope(ann.slot, records=(key,)), lambda snapshot: decide(snapshot, key))
            assert number(await world.record(key, store)) == done.result

        keys = [counter_key(ann, f"run{i}") for i in range(PARALLEL)]
        await world.together(one(stores[i % len(stores)], key) for i, key in enumerate(keys))
        stored = [number(await world.record(key)) for key in keys]
        assert len(set(stored)) == PARALLEL

    async def test_g6_what_decide_raises_passes_through(self, world: World) -> None:
        """`execute` raises exceptions of `decide` unchanged: nothing is written, other commands go on."""
        ann, bob = await world.people(2, 1_000)
        key = counter_key(ann)
        before = (await world.books()).facts()
        errors: list[Exception] = [PayeeNotFound("nobody"), ValueError("a bug"), KeyError("x"), ZeroDivisionError()]

        async def fails(error: Exception) -> None:
            def decide(snapshot: Snapshot) -> Decision[None]:
                assert snapshot.record(key) is None
                raise error

            with pytest.raises(type(error)) as caught:
                await world.store.execute(Scope(ann.slot, records=(key,)), decide)
            assert caught.value is error

        for error in errors:
            await fails(error)
        assert (await world.books()).facts() == before
        await world.together([*map(fails, errors), *(world.pay(ann, bob, 10) for _ in range(10)), *map(fails, errors)])
        assert await world.balance(ann) == (900, 0)

    async def test_g6_no_drivers_exception_leaves(self, world: World) -> None:
        """Whatever fails in the store, the caller gets a WalletError."""
        ann, bob = await world.people(2, 1_000)
        points = failpoints_of(world)
        for point in points:
            failpoints.arm(f"{point}=fail@1")
            outcomes = await asyncio.gather(*(world.pay(ann, bob, 1) for _ in range(5)), return_exceptions=True)
            failpoints.arm("")
            assert all(isinstance(o, WalletError) for o in outcomes if isinstance(o, BaseException))
        await world.harness.pause(world.store)
        scope = Scope(ann.slot, records=(counter_key(ann),))
        error = await raised(world.store.execute(scope, increment(counter_key(ann)), timeout_seconds=0.2))
        await world.harness.resume(world.store)
        assert isinstance(error, Contended | InDoubt)
        world.trials += len(points) + 1

    async def test_g7_a_fetch_after_the_return_sees_the_write(self, world: World) -> None:
        """A fetch of any store object sees the home slot's writes of every `execute` that has returned."""
        ann = await world.person()
        stores = await world.stores(3)

        async def write_then_read(i: int) -> None:
            key = counter_key(ann, f"seen{i}")
            await world.put(written(key, 1, n=i), stores[i % len(stores)])
            assert number(await world.record(key, stores[(i + 1) % len(stores)])) == i

        await world.together(write_then_read(i) for i in range(PARALLEL))

    async def test_g8_returns_by_its_deadline(self, world: World) -> None:
        """While commits are blocked, a command ends by its deadline: Contended (never written) or InDoubt."""
        ann = await world.person()
        keys = [counter_key(ann, f"late{i}") for i in range(10)]
        await world.harness.pause(world.store)
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcomes = await world.together(
            world.store.execute(Scope(ann.slot, records=(key,)), increment(key), timeout_seconds=0.3) for key in keys
        )
        took = loop.time() - began
        await world.harness.resume(world.store)
        assert set(kinds(outcomes)) <= {"CONTENDED", "IN_DOUBT"}
        assert took < patience(2.5)
        await world.execute(Scope(ann.slot), Changes())
        for key, outcome in zip(keys, outcomes, strict=True):
            if isinstance(outcome, Unavailable):
                assert await world.record(key) is None

    async def test_g8_an_unknown_outcome_is_settled_by_the_same_key(self, world: World) -> None:
        """After InDoubt or Contended, retrying with the same key pays exactly once."""
        ann, bob = await world.people(2, 1_000)
        impatient = world.ledger_on(world.store, timeout_seconds=0.2)
        keys = [world.key() for _ in range(10)]
        await world.harness.pause(world.store)
        outcomes = await world.together(world.pay(ann, bob, 10, key, impatient) for key in keys)
        await world.harness.resume(world.store)
        assert set(kinds(outcomes)) <= {"CONTENDED", "IN_DOUBT"}
        outcomes = await world.together(world.pay(ann, bob, 10, key) for key in keys)
        assert kinds(outcomes) == ["ok"] * 10
        assert await world.balance(ann) == (900, 0)

    async def test_g8_a_cancelled_caller_leaves_no_half_commit(self, world: World) -> None:
        """Callers cancelled at any moment leave each command done or undone, and do not affect other commands."""
        ann, bob = await world.people(2, 1_000)
        keys = [world.key() for _ in range(PARALLEL)]
        tasks = [asyncio.ensure_future(world.pay(ann, bob, 10, key)) for key in keys]
        for task in tasks[::2]:
            await asyncio.sleep(world.random.random() * 0.002)
            task.cancel()
        outcomes = await within(10, asyncio.gather(*tasks, return_exceptions=True))
        assert not [o for o in outcomes[1::2] if isinstance(o, BaseException)]
        assert {type(o) for o in outcomes[::2] if isinstance(o, BaseException)} <= {asyncio.CancelledError}
        await world.check()
        again = await world.together(world.pay(ann, bob, 10, key) for key in keys)
        assert kinds(again) == ["ok"] * PARALLEL
        assert await world.balance(ann) == (500, 0)
        assert not (await read_books(world.store)).doubled


def _withdrawing_half(
    world: World, ann: Person, account: tuple[AccountId, str], key: str
) -> tuple[Scope, Decide[bool]]:
    """Take 100 out of one of two accounts if both together have 200: only the first command may succeed."""
    account_id, currency = account
    moved = replace(
        movement(world, ann, ann, 100, key),
        kind=TransferKind.WITHDRAWAL,
        debit_account_id=account_id,
        credit_account_id=system_account(CASH, currency),
        currency=currency,
    )

    def decide(snapshot: Snapshot) -> Decision[bool]:
        if sum(found.posted_minor for found in snapshot.wallet(ann.id)) < 200:
            return Decision(Changes(), result=False)
        receipt = receipt_of(world, ann, key, moved)
        return Decision(Changes(transfers=(moved,), receipts=(receipt,)), result=True)

    return Scope(ann.slot, wallets=(ann.id,), receipts=((ann.id, key),)), decide
