"""The guard around any async function: one effect per key, whatever fails between claim and receipt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from wallet_gql.backends import open_store
from wallet_gql.domain.changes import Changes, Decision, ReadSet, Scope, Snapshot
from wallet_gql.domain.errors import Contended, IdempotencyKeyReused, InDoubt, InvalidInput
from wallet_gql.domain.model import Record, RecordKey
from wallet_gql.idempotency import Effects, Guard, Joined, NothingDone, Outcome, Settled, StillRunning, Turn, Unfinished
from wallet_gql.idempotency.turns import Ask
from wallet_gql.storage import Store
from wallet_gql.testing.patience import patience, within
from wallet_gql.testing.world import Clock

COUNTER = RecordKey("counter", "effects", 7)


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Store]:
    """An empty store."""
    async with open_store("memory://") as opened:
        yield opened


def count_up(snapshot: Snapshot) -> Decision[Any]:
    """The effect: one more."""
    before = snapshot.record(COUNTER)
    count = int(str(before.body["count"])) + 1 if before else 1
    after = Record(
        COUNTER.kind, COUNTER.id, COUNTER.slot, "test", before.version + 1 if before else 1, {"count": count}
    )
    return Decision(Changes(records=(after,)), {"count": count})


async def counting(_turn: Turn) -> Joined:
    """Work whose effect is joined."""
    await asyncio.sleep(0)
    return Joined(Scope(COUNTER.slot, records=(COUNTER,)), count_up)


async def effects_of(store: Store) -> int:
    """How often the effect happened."""
    found = (await store.fetch(ReadSet(records=(COUNTER,)))).record(COUNTER)
    return int(str(found.body["count"])) if found else 0


async def count(guard: Guard, key: str = "k", values: dict[str, Any] | None = None, **more: Any) -> Outcome:
    """Ask for the effect."""
    return await guard.run("ann", key, "count", values or {"n": 1}, counting, slot=COUNTER.slot, **more)


async def fifty_duplicates(guard: Guard) -> None:
    """Fifty at once under one key. Raises AssertionError unless there is one effect and one answer."""
    found = await asyncio.gather(*(count(guard, wait_seconds=patience(30)) for _ in range(50)), return_exceptions=True)
    answers = [one.value for one in found if isinstance(one, Outcome)]
    assert answers == [{"count": 1}] * 50
    assert sum(not one.replayed for one in found if isinstance(one, Outcome)) == 1
    assert await effects_of(guard.store) == 1


async def test_one_effect_and_the_same_answer(store: Store) -> None:
    """The second request is answered as the first; another input is refused; another caller has keys of its own."""
    guard = Guard(store)
    first, second = await count(guard), await count(guard)
    assert (first, second) == (Outcome({"count": 1}, replayed=False), Outcome({"count": 1}, replayed=True))
    with pytest.raises(IdempotencyKeyReused):
        await count(guard, values={"n": 2})
    other = await guard.run("bob", "k", "count", {"n": 2}, counting, slot=COUNTER.slot)
    assert other == Outcome({"count": 2}, replayed=False)


async def test_fifty_concurrent_duplicates(store: Store) -> None:
    """One effect, one answer, forty-nine replays."""
    await fifty_duplicates(Guard(store))


class Unclaimed(Guard):
    """A mutant: looks for a receipt, does the work, and then stores the receipt."""

    async def _claim(self, ask: Ask) -> Turn | Outcome:
        before = (await self.store.fetch(ReadSet(records=(ask.name,)))).record(ask.name)
        return Outcome(before.body["value"], replayed=True) if before else Turn(ask, "")

    async def _finish(self, turn: Turn, given: Any, *, kept: bool) -> Outcome | None:
        assert isinstance(given, Joined)
        answer = (await self.store.execute(given.scope, given.decide)).result
        body = {"state": "done", "fingerprint": turn.ask.fingerprint, "value": answer, "kept": kept}

        def decide(snapshot: Snapshot) -> Decision[None]:
            before = snapshot.record(turn.ask.name)
            name = turn.ask.name
            receipt = Record(name.kind, name.id, name.slot, "ann", before.version + 1 if before else 1, body)
            return Decision(Changes(records=(receipt,)), None)

        await self.store.execute(Scope(turn.ask.slot, records=(turn.ask.name,)), decide)
        return Outcome(answer, replayed=False)


async def test_a_receipt_behind_the_effect_is_convicted(store: Store) -> None:
    """The check of fifty duplicates finds the mutant that stores the receipt afterwards, without a claim."""
    with pytest.raises(AssertionError):
        await fifty_duplicates(Unclaimed(store))
    assert await effects_of(store) > 1


async def test_still_running(store: Store) -> None:
    """Who does not wait is told so; who waits gets the answer."""
    guard, begun, gate = Guard(store), asyncio.Event(), asyncio.Event()

    async def slow(turn: Turn) -> Joined:
        begun.set()
        await gate.wait()
        return await counting(turn)

    first = asyncio.create_task(guard.run("ann", "k", "count", {"n": 1}, slow, slot=COUNTER.slot))
    await begun.wait()
    with pytest.raises(StillRunning):
        await count(guard)
    with pytest.raises(StillRunning):
        await count(guard, wait_seconds=0.05)
    waiting = asyncio.create_task(count(guard, wait_seconds=patience(30)))
    await asyncio.sleep(0.02)
    gate.set()
    assert (await first).replayed is False
    assert (await waiting).replayed is True
    assert await effects_of(store) == 1


@pytest.mark.parametrize("pause", [0, 0.01])
async def test_a_cancelled_caller_does_not_stop_the_work(store: Store, pause: float) -> None:
    """The work goes on to its receipt, and the next request finds it; also if the claim was still being written."""
    guard, gate = Guard(store), asyncio.Event()

    async def slow(turn: Turn) -> Joined:
        await gate.wait()
        return await counting(turn)

    first = asyncio.create_task(guard.run("ann", "k", "count", {"n": 1}, slow, slot=COUNTER.slot))
    await asyncio.sleep(pause)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set()
    assert (await count(guard, wait_seconds=patience(30))).replayed is True
    assert await effects_of(store) == 1


async def test_work_that_raises_leaves_a_joined_key_free(store: Store) -> None:
    """Nothing happened, so the next request does the work; that goes for the decision as for the work."""
    guard = Guard(store)

    async def failing(_turn: Turn) -> Joined:
        raise ZeroDivisionError

    async def refusing(_turn: Turn) -> Joined:
        def decide(snapshot: Snapshot) -> Decision[Any]:
            count_up(snapshot)
            raise InvalidInput("n", "no")

        return Joined(Scope(COUNTER.slot, records=(COUNTER,)), decide)

    with pytest.raises(ZeroDivisionError):
        await guard.run("ann", "k", "count", {"n": 1}, failing, slot=COUNTER.slot)
    with pytest.raises(InvalidInput):
        await guard.run("ann", "k", "count", {"n": 1}, refusing, slot=COUNTER.slot)
    assert (await count(guard)) == Outcome({"count": 1}, replayed=False)


async def test_a_slow_worker_cannot_end_what_was_taken_over(store: Store) -> None:
    """After its lease the work is done by another; the first one's commit is refused whole."""
    clock, begun, gate = Clock(), asyncio.Event(), asyncio.Event()
    guard = Guard(store, clock=clock, lease_seconds=60)

    async def slow(turn: Turn) -> Joined:
        begun.set()
        await gate.wait()
        return await counting(turn)

    first = asyncio.create_task(guard.run("ann", "k", "count", {"n": 1}, slow, slot=COUNTER.slot))
    await begun.wait()
    clock.advance(61)
    assert (await count(guard)).replayed is False
    gate.set()
    with pytest.raises(Contended):
        await first
    assert await effects_of(store) == 1
    assert (await count(guard)) == Outcome({"count": 1}, replayed=True)


Complete = Callable[[Unfinished], Awaitable[Settled | None]]


def outside(store: Store, clock: Clock, complete: Complete) -> Guard:
    """A guard with one completer."""
    return Guard(store, clock=clock, completers={"mail": complete})


async def mail(guard: Guard, work: Any) -> Outcome:
    """Ask for an effect outside."""
    return await guard.run("ann", "k", "mail", {}, work, effects=Effects.OUTSIDE, note={"to": "bob"})


@pytest.mark.parametrize("crash", [True, False])
@pytest.mark.parametrize("happened", [True, False])
async def test_in_doubt_until_the_completer_has_run(store: Store, crash: bool, happened: bool) -> None:
    """Work outside that ended in an error, or not at all, is InDoubt; the completer says what it was."""
    clock, asked = Clock(), []
    known: list[Settled | None] = [None, Settled(happened, {"mailed": 1})]

    async def complete(found: Unfinished) -> Settled | None:
        asked.append(found)
        return known.pop(0)

    async def failing(_turn: Turn) -> None:
        raise OSError

    async def working(_turn: Turn) -> dict[str, int]:
        return {"mailed": 2}

    guard = outside(store, clock, complete)
    if crash:
        await guard.begin(guard.ask("ann", "k", "mail", {}, effects=Effects.OUTSIDE, note={"to": "bob"}))
        with pytest.raises(StillRunning):
            await mail(guard, working)
        clock.advance(61)
    else:
        with pytest.raises(InDoubt):
            await mail(guard, failing)
    with pytest.raises(InDoubt):
        await mail(guard, working)
    assert await guard.sweep() == 0  # the completer does not know yet
    with pytest.raises(InDoubt):
        await mail(guard, working)
    clock.advance(61)
    assert await guard.sweep() == 1
    assert {(one.caller, one.key, one.operation, str(one.note)) for one in asked} == {
        ("ann", "k", "mail", "{'to': 'bob'}")
    }
    assert (await mail(guard, working)).value == ({"mailed": 1} if happened else {"mailed": 2})


async def in_doubt(guard: Guard, count: int, operation: str) -> None:
    """Claims of workers that died."""
    for n in range(count):
        await guard.begin(guard.ask("ann", f"{operation}{n}", operation, {}, effects=Effects.OUTSIDE))


async def test_claims_that_nobody_completes_hold_up_no_others(store: Store) -> None:
    """They stay in doubt and are looked at ever later; another process that has their completer settles them."""
    clock, asked = Clock(), []

    async def complete(found: Unfinished) -> Settled:
        asked.append(found.key)
        return Settled(happened=True, value=found.key)

    guard = outside(store, clock, complete)
    await in_doubt(guard, 20, "fax")
    clock.advance(1)
    await in_doubt(guard, 1, "mail")
    clock.advance(61)
    assert [await guard.sweep(limit=10) for _ in range(3)] == [0, 0, 1]
    assert asked == ["mail0"]
    with pytest.raises(InDoubt):
        await guard.begin(guard.ask("ann", "fax0", "fax", {}, effects=Effects.OUTSIDE))
    assert await store.list_due("idempotency", clock(), 10) == []
    clock.advance(3_600)
    await guard.sweep()
    clock.advance(3_500)
    assert await store.list_due("idempotency", clock(), 10) == []
    clock.advance(200)
    other = Guard(store, clock=clock, completers={"fax": complete})
    assert await other.sweep() == 20
    replayed = await other.begin(other.ask("ann", "fax0", "fax", {}, effects=Effects.OUTSIDE))
    assert replayed == Outcome("fax0", replayed=True)


async def test_a_late_worker_ends_what_nobody_completes(store: Store) -> None:
    """The sweep that cannot settle a claim does not take it from its worker."""
    clock = Clock()
    guard = Guard(store, clock=clock)
    turn = await guard.begin(guard.ask("ann", "k", "fax", {}, effects=Effects.OUTSIDE))
    assert isinstance(turn, Turn)
    clock.advance(61)
    assert await guard.sweep() == 0
    assert (await guard.finish(turn, "sent")).value == "sent"


async def test_a_completer_that_fails_stops_no_sweep(store: Store) -> None:
    """What it raises, and what it gives that cannot be stored, is left for later; the others are settled."""
    clock = Clock()

    async def complete(found: Unfinished) -> Settled:
        if found.key == "mail0":
            raise OSError
        return Settled(happened=True, value=object() if found.key == "mail1" else found.key)

    guard = outside(store, clock, complete)
    await in_doubt(guard, 4, "mail")
    clock.advance(61)
    assert await guard.sweep() == 2
    assert await guard.sweep() == 0
    with pytest.raises(InDoubt):
        await guard.begin(guard.ask("ann", "mail1", "mail", {}, effects=Effects.OUTSIDE))


async def test_a_completer_that_hangs_stops_no_sweep(store: Store) -> None:
    """It is cancelled after the time of a lease; the others are settled, and its key is looked at again later."""
    clock, hangs, cancelled = Clock(), [True], []

    async def complete(found: Unfinished) -> Settled:
        if found.key == "mail0" and hangs[0]:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(found.key)
        return Settled(happened=True, value=found.key)

    guard = Guard(store, clock=clock, lease_seconds=0.05, completers={"mail": complete})
    for n in range(3):
        await guard.begin(guard.ask("ann", f"mail{n}", "mail", {}, effects=Effects.OUTSIDE))
        clock.advance(1)
    assert await within(30, guard.sweep()) == 2
    assert cancelled == ["mail0"]
    with pytest.raises(InDoubt):
        await guard.begin(guard.ask("ann", "mail0", "mail", {}, effects=Effects.OUTSIDE))
    hangs[0] = False
    clock.advance(61)
    assert await guard.sweep() == 1
    assert isinstance(await guard.begin(guard.ask("ann", "mail0", "mail", {}, effects=Effects.OUTSIDE)), Outcome)


class Between:
    """A store in which something happens between the list of what is due and the settling of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.then: Callable[[], Awaitable[None]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def list_due(self, *given: Any) -> Any:
        """See `Store.list_due`."""
        found = await self._store.list_due(*given)
        if self.then is not None:
            await self.then()
        return found


@pytest.mark.parametrize("freed", ["released", "completed"])
@pytest.mark.parametrize("branch", ["joined", "completer", "no completer"])
async def test_a_sweep_leaves_a_fresh_claim_alone(store: Store, branch: str, freed: str) -> None:
    """A key is freed and claimed again after it was listed. That claim has the version of the old one, and a worker."""
    clock = Clock()

    async def complete(_found: Unfinished) -> Settled:
        return Settled(happened=False)

    between: Any = Between(store)
    guard = Guard(between, clock=clock, completers={"mail": complete} if branch == "completer" else {})
    other = Guard(store, clock=clock, completers={"mail": complete})
    effects = Effects.JOINED if branch == "joined" else Effects.OUTSIDE
    ask = guard.ask("ann", "k", "mail", {}, effects=effects)
    old = await guard.begin(ask)
    assert isinstance(old, Turn)
    clock.advance(61)
    fresh: list[Turn | Outcome] = []

    async def freed_and_claimed() -> None:
        if freed == "completed":
            assert await other.sweep() == 1
        else:
            await other.release(old)
        fresh.append(await other.begin(ask))

    between.then = freed_and_claimed
    assert await guard.sweep() == 0
    with pytest.raises(StillRunning):
        await other.begin(ask)
    (turn,) = fresh
    assert isinstance(turn, Turn)
    assert await other.finish(turn, "sent") == Outcome("sent", replayed=False)


async def test_one_mail_although_two_sweeps_and_a_retry_overlap(store: Store) -> None:
    """A sweep waits for the completer of one key while another key is settled, asked for again, and worked on."""
    clock, waits, go_on, working, mail_it = Clock(), *(asyncio.Event() for _ in range(4))
    sent: list[str] = []

    async def slow(found: Unfinished) -> Settled:
        if found.key == "slow":
            waits.set()
            await go_on.wait()
        return Settled(found.key_outside in sent)

    async def complete(found: Unfinished) -> Settled:
        return Settled(found.key_outside in sent)

    async def work(turn: Turn) -> str:
        working.set()
        await mail_it.wait()
        sent.append(turn.key_outside)
        return "sent"

    one, two = outside(store, clock, slow), outside(store, clock, complete)
    for key in ("slow", "k"):
        await two.begin(two.ask("ann", key, "mail", {}, effects=Effects.OUTSIDE))
        clock.advance(1)
    clock.advance(61)
    sweep = asyncio.create_task(one.sweep())
    await waits.wait()
    assert await two.sweep() == 1
    first = asyncio.create_task(mail(two, work))
    await working.wait()
    go_on.set()
    assert await sweep == 1
    mail_it.set()
    assert (await first).value == "sent"
    assert (await mail(two, work)) == Outcome("sent", replayed=True)
    assert len(sent) == 1


async def test_nothing_done_frees_the_key(store: Store) -> None:
    """Work outside that knows that nothing happened says so, and its own error comes out."""
    guard = Guard(store)

    async def refused(_turn: Turn) -> None:
        raise NothingDone from ZeroDivisionError()

    async def working(turn: Turn) -> str:
        return turn.key_outside

    with pytest.raises(ZeroDivisionError):
        await mail(guard, refused)
    first = await mail(guard, working)
    assert len(first.value) == 64
    assert (await mail(guard, working)) == Outcome(first.value, replayed=True)


async def test_answers_are_bounded_and_forgotten_keys_are_not(store: Store) -> None:
    """A large answer is given once; an old one is pruned; in both cases the key stays used."""
    clock = Clock()
    guard = Guard(store, clock=clock, outcome_max=20, keep_seconds=3600)

    async def large(_turn: Turn) -> str:
        return "x" * 100

    assert (await guard.run("ann", "large", "op", {}, large)).value == "x" * 100
    assert (await guard.run("ann", "large", "op", {}, large)) == Outcome(None, replayed=True, kept=False)
    await count(guard)
    assert await guard.sweep() == 0
    clock.advance(3601)
    assert await guard.sweep() == 1
    assert (await count(guard)) == Outcome(None, replayed=True, kept=False)
    with pytest.raises(IdempotencyKeyReused):
        await count(guard, values={"n": 2})
    assert await effects_of(store) == 1


async def test_shapes(store: Store) -> None:
    """Keys, callers and notes are checked before anything is written."""
    guard = Guard(store)
    sound: dict[str, Any] = {"caller": "ann", "key": "k", "operation": "op", "values": {}}
    for bad in ({"key": ""}, {"key": "é"}, {"key": "x" * 256}, {"caller": ""}, {"note": {"x": "y" * 20_000}}):
        with pytest.raises(InvalidInput):
            guard.ask(**(sound | bad))
    with pytest.raises(TypeError):
        await guard.run("ann", "k", "op", {}, not_json)
    assert (await count(guard)).replayed is False


async def not_json(_turn: Turn) -> Any:
    """Work that gives what is no JSON."""
    return object()


steps = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(("whole", "whole", "dies", "fails", "late", "sweep"))),
    max_size=25,
)


@given(steps)
def test_any_schedule_has_one_effect_a_key(schedule: list[tuple[str, str]]) -> None:
    """Workers that die with the claim, fail, or come back after their lease: each answered key counts once."""

    async def play() -> None:
        clock = Clock()
        async with open_store("memory://") as store:
            guard = Guard(store, clock=clock)
            answers: dict[str, Any] = {}
            late: list[Turn] = []
            for key, what in schedule:
                clock.advance(61 if what != "whole" else 0)
                if what == "sweep":
                    await guard.sweep()
                elif what == "whole":
                    try:
                        found = await count(guard, key)
                    except StillRunning:
                        continue
                    assert answers.setdefault(key, found.value) == found.value
                else:
                    ask = guard.ask("ann", key, "count", {"n": 1}, slot=COUNTER.slot)
                    turn = await guard.begin(ask)
                    if isinstance(turn, Turn) and what == "fails":
                        await guard.give_up(turn)
                    elif isinstance(turn, Turn) and what == "late":
                        late.append(turn)
            for turn in late:
                try:
                    found = await guard.finish(turn, await counting(turn))
                except Contended:
                    continue
                assert answers.setdefault(turn.ask.key, found.value) == found.value
            assert await effects_of(store) == len(answers)

    asyncio.run(play())
