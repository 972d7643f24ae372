"""Records change by one compare-and-set; a due record that cannot be read or written does not delay the others."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

import wallet_gql
from tests.property._payments import Bench, open_bench
from wallet_gql.domain.changes import Decide, ReadSet, Scope, Snapshot
from wallet_gql.domain.errors import Contended, Unavailable
from wallet_gql.domain.ids import UserId, make_user_id
from wallet_gql.domain.merchants import Delivery
from wallet_gql.domain.model import Record, RecordKey
from wallet_gql.idempotency import Guard
from wallet_gql.integrations.stripe.payments import make_payments
from wallet_gql.integrations.webhooks.deliveries import Webhooks
from wallet_gql.records import Backlog, Due, Sweep, SweepKind, Swept, change, change_seen, read, remove
from wallet_gql.storage import Committed, Store
from wallet_gql.testing.harness import harness_for
from wallet_gql.testing.patience import patience
from wallet_gql.testing.world import Clock, World

COUNT = 5
KINDS: tuple[SweepKind, ...] = get_args(SweepKind)


class Refusing:
    """A store in which some things cannot be had: whatever names one of `bad` is refused."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.bad: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _check(self, scope: ReadSet | Scope) -> None:
        if self.bad & {*scope.accounts, *scope.wallets, *(key.id for key in scope.records)}:
            raise Contended

    async def execute(self, scope: Scope, decide: Decide[Any], **values: Any) -> Committed[Any]:
        """See `Store.execute`."""
        self._check(scope)
        done: Committed[Any] = await self._store.execute(scope, decide, **values)
        return done

    async def fetch(self, reads: ReadSet) -> Snapshot:
        """See `Store.fetch`."""
        self._check(reads)
        found: Snapshot = await self._store.fetch(reads)
        return found


@dataclass
class Case:
    """`COUNT` things that are due, and their sweep."""

    store: Any
    clock: Clock
    sweep: Callable[[], Awaitable[Swept]]


@asynccontextmanager
async def _world(folder: Path) -> AsyncIterator[tuple[World, Any]]:
    async with World(harness_for("memory"), folder) as world:
        yield world, Refusing(world.store)


async def _put(world: World, kind: SweepKind, body: dict[str, object], owner: str = "somebody") -> None:
    for number in range(COUNT):
        record = Record(kind, f"{kind}{number}", 1, owner, 1, body, world.clock() + timedelta(seconds=number))
        await world.put(record)
    world.clock.advance(60)


def _identity_case(kind: SweepKind) -> Callable[[Path], AbstractAsyncContextManager[Case]]:
    @asynccontextmanager
    async def case(folder: Path) -> AsyncIterator[Case]:
        async with _world(folder) as (world, store):
            nobody = make_user_id(1, 1)
            await _put(world, kind, {"user": nobody, "confirmed": False}, nobody)
            yield Case(store, world.clock, world.identity(store).sweep)

    return case


@asynccontextmanager
async def _holds(folder: Path) -> AsyncIterator[Case]:
    async with _world(folder) as (world, store):
        people = await world.people(COUNT, 1_000)
        for number, person in enumerate(people):
            await world.hold(person, people[0] if number else people[1], 10, seconds=number + 1)
        world.clock.advance(60)
        yield Case(store, world.clock, world.ledger_on(store).expire_due_holds)


@asynccontextmanager
async def _keys(folder: Path) -> AsyncIterator[Case]:
    async with _world(folder) as (world, store):
        guard = Guard(store, clock=world.clock, lease_seconds=60)
        for number in range(COUNT):
            await guard.begin(guard.ask("ann", f"key{number}", "count", {}))
            world.clock.advance(1)
        world.clock.advance(60)
        yield Case(store, world.clock, guard._sweep.run)


@asynccontextmanager
async def _deliveries(folder: Path) -> AsyncIterator[Case]:
    async def send(*_: Any, **__: Any) -> int:
        raise AssertionError

    async with _world(folder) as (world, store):
        for number in range(COUNT):
            await world.put(Delivery(make_user_id(number + 1, 7), {}, due_at=world.clock()).to_record())
        webhooks = Webhooks(store, send, clock=world.clock)

        async def sweep() -> Swept:
            await webhooks.sweep()
            return await webhooks.settle()

        yield Case(store, world.clock, sweep)


def _flows(bench: Bench) -> Case:
    """The bench's flows, as another process has them whose store refuses."""
    store: Any = Refusing(bench.payments.desk.store)
    payments = make_payments(replace(bench.payments.desk, store=store), bench.api, ())
    return Case(store, bench.world.clock, payments.sweep)


@asynccontextmanager
async def _top_ups(folder: Path) -> AsyncIterator[Case]:
    async with open_bench(folder) as bench:
        for number in range(COUNT):
            await bench.top_up(f"in{number}")
        bench.world.clock.advance(4_000)
        yield _flows(bench)


@asynccontextmanager
async def _withdrawals(folder: Path) -> AsyncIterator[Case]:
    async with open_bench(folder) as bench:
        for number in range(COUNT):
            await bench.withdraw(f"out{number}", 10)
        bench.world.clock.advance(4_000)
        yield _flows(bench)


CASES: dict[SweepKind, Callable[[Path], AbstractAsyncContextManager[Case]]] = {
    "claim": _identity_case("claim"),
    "delivery": _deliveries,
    "event": _identity_case("event"),
    "hold": _holds,
    "idempotency": _keys,
    "session": _identity_case("session"),
    "throttle": _identity_case("throttle"),
    "topup": _top_ups,
    "withdrawal": _withdrawals,
}


def _name(item: Due) -> str:
    return item.id if isinstance(item, Record) else item.account_id


async def _due(case: Case, kind: SweepKind) -> list[str]:
    return [_name(item) for item in await case.store.list_due(kind, case.clock(), 100)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0, COUNT // 2])
async def test_one_bad_record_keeps_no_other_waiting(
    kind: SweepKind, place: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of five that are due four are settled; the fifth is counted, logged, put off, and tried again later."""
    async with CASES[kind](tmp_path) as case:
        due = await _due(case, kind)
        assert len(due) == COUNT
        bad = due[place]
        case.store.bad = {bad}
        with caplog.at_level(logging.WARNING, "wallet_gql.sweeps"):
            assert await case.sweep() == Swept(done=COUNT - 1, failed=1)
        assert [message for message in caplog.messages if bad in message]
        assert await _due(case, kind) == [bad]

        assert (await case.sweep()).failed == 0  # it is not its turn
        case.clock.advance(61)
        assert (await case.sweep()).failed == 1
        case.store.bad = set()
        case.clock.advance(61)
        assert (await case.sweep()).failed == 0  # the second time it waits for longer
        assert bad in await _due(case, kind)
        case.clock.advance(61)
        assert (await case.sweep()).done >= 1
        assert bad not in await _due(case, kind)


@pytest.mark.parametrize(
    "error", [Unavailable("not now"), KeyError("what a newer version wrote")], ids=["away", "unreadable"]
)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_list_that_cannot_be_had_is_a_failure_and_no_error(
    kind: SweepKind, error: Exception, tmp_path: Path
) -> None:
    """Other kinds are swept all the same, and the next sweep asks again."""
    async with CASES[kind](tmp_path) as case:
        listed, store = case.store._store.list_due, case.store

        async def list_due(asked: str, *rest: Any) -> Any:
            if asked == kind:
                raise error
            return await listed(asked, *rest)

        case.store.list_due = list_due
        assert (await case.sweep()).done == 0
        del store.list_due
        assert (await case.sweep()).done == COUNT


def test_nothing_is_swept_in_another_way() -> None:
    """What asks for what is due is `records`, so that every sweep is in `SweepKind`; dead letters are only shown.

    The survey counts what is due for the metrics.
    """
    root = Path(wallet_gql.__file__).parent
    callers: set[tuple[str, str]] = set()
    for path in root.rglob("*.py"):
        name = path.relative_to(root).as_posix()
        if name.startswith(("backends/", "testing/", "storage.py")):
            continue
        callers |= {(name, kind) for kind in re.findall(r"\blist_due\(([^,]+),", path.read_text())}
    counted = {("survey.py", "kind"), ("survey.py", "DEAD")}
    assert callers == {("records.py", "self.kind"), ("integrations/webhooks/deliveries.py", "DEAD"), *counted}


class TestBacklog:
    """What is put off does not fill the list."""

    async def test_many_bad_ones_do_not_hide_a_good_one(self, tmp_path: Path) -> None:
        """Not even if a sweep looks at one only."""
        async with _world(tmp_path) as (world, store):
            await _put(world, "event", {})
            due = [f"event{number}" for number in range(COUNT)]
            store.bad = set(due[:-1])
            sweep = next(one for one in world.identity(store).sweeps if one.backlog.kind == "event")
            assert [await sweep.run(limit=1) for _ in due] == [Swept(failed=1)] * (COUNT - 1) + [Swept(done=1)]

    async def test_one_account_with_many_things_hides_no_other(self, tmp_path: Path) -> None:
        """They are settled together, and put off together."""
        async with _world(tmp_path) as (world, store):
            ann, bob = await world.people(2, 1_000)
            for number in range(9):
                await world.hold(ann, bob, 1, seconds=number + 1)
            await world.hold(bob, ann, 1, seconds=10)
            world.clock.advance(20)
            store.bad = {ann.account}
            ledger = world.ledger_on(store)
            swept = [await ledger.expire_due_holds(limit=2) for _ in range(5)]
            assert sum(one.done for one in swept) == 1
            assert await world.balance(bob) == (1_000, 0)

    async def test_as_many_at_once_as_allowed(self, tmp_path: Path) -> None:
        """Who waits outside does not keep the next one waiting."""
        async with _world(tmp_path) as (world, store):
            await _put(world, "event", {})
            all_wait = asyncio.Barrier(COUNT)

            async def settle(_: Due) -> bool:
                await asyncio.wait_for(all_wait.wait(), patience(30))
                return True

            sweep = Sweep(Backlog(store, "event", world.clock), settle, at_once=COUNT)
            assert await sweep.run() == Swept(done=COUNT)

    async def test_what_is_remembered_is_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The oldest is forgotten, and so tried again sooner."""
        monkeypatch.setattr("wallet_gql.records._PUT_OFF_COUNT_MAX", 2)
        async with _world(tmp_path) as (world, store):
            await _put(world, "event", {})
            store.bad = {f"event{number}" for number in range(COUNT)}
            (sweep,) = (one for one in world.identity(store).sweeps if one.backlog.kind == "event")
            assert await sweep.run() == Swept(failed=COUNT)
            assert [sweep.backlog.is_put_off(f"event{number}") for number in range(COUNT)] == [False] * 3 + [True] * 2


KEY = RecordKey("counter", "here", 7)


@pytest.fixture(params=["memory", "sqlite"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Store]]:
    """Two store objects on one ledger, as two processes have them; for memory, one twice."""
    async with World(harness_for(request.param), tmp_path) as world:
        yield await world.stores(2)


def _one_more(before: Record | None) -> Record:
    count = int(str(before.body["count"])) if before else 0
    return Record(KEY.kind, KEY.id, KEY.slot, "somebody", 1, {"count": count + 1})


class TestChange:
    """Two writers at once."""

    async def test_none_is_lost(self, stores: list[Store]) -> None:
        """Each decides on what was written before it, and answers the version that it has written."""
        written = await asyncio.gather(*(change(stores[i % len(stores)], KEY, _one_more) for i in range(20)))
        assert sorted(one.version for one in written if one) == list(range(1, 21))
        found = await read(stores[0], KEY)
        assert found is not None
        assert (found.version, found.body["count"]) == (20, 20)

    async def test_of_two_who_have_seen_the_same_one_loses_and_may_look_again(self, stores: list[Store]) -> None:
        """The loser has written nothing; on what it sees then it succeeds."""
        first = await change(stores[0], KEY, _one_more)
        assert first is not None
        outcomes = await asyncio.gather(*(change_seen(store, first, _one_more) for store in (stores[0], stores[-1])))
        assert sorted(outcomes) == [False, True]
        second = await read(stores[-1], KEY)
        assert second is not None
        assert second.version == 2
        assert await change_seen(stores[-1], second, _one_more)

    async def test_removed_once(self, stores: list[Store]) -> None:
        """What was removed meanwhile is neither removed nor changed again; a new one begins with version 1."""
        first = await change(stores[0], KEY, _one_more)
        assert first is not None
        outcomes = await asyncio.gather(*(remove(store, KEY, lambda _: True) for store in (stores[0], stores[-1])))
        assert sorted(outcomes) == [False, True]
        assert not await change_seen(stores[0], first, _one_more)
        again = await change(stores[0], KEY, _one_more)
        assert again is not None
        assert again.version == 1

    async def test_a_new_record_under_the_key_is_not_the_one_that_was_seen(self, stores: list[Store]) -> None:
        """Although it has the same version: it stays as it is."""
        first = await change(stores[0], KEY, _one_more)
        assert first is not None
        assert await remove(stores[-1], KEY, lambda _: True)
        others = {"count": 100}
        second = await change(stores[-1], KEY, lambda _: replace(first, body=others))
        assert second is not None
        assert second.version == first.version
        assert not await change_seen(stores[0], first, _one_more)
        assert await read(stores[0], KEY) == second
        assert await change_seen(stores[0], second, _one_more)

    async def test_left_as_it_is(self, stores: list[Store]) -> None:
        """None is: write nothing. What `make` raises passes through."""

        def refuse(_: Record | None) -> Record:
            raise Contended

        assert await change(stores[0], KEY, lambda _: None) is None
        with pytest.raises(Contended):
            await change(stores[0], KEY, refuse)
        assert await read(stores[0], KEY) is None


def test_user_ids_name_deliveries() -> None:
    """The sweep takes a delivery's id for its merchant's."""
    merchant = UserId(make_user_id(1, 1))
    assert Delivery(merchant, {}).to_record().id == merchant
