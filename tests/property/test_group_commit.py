"""Group commit: batching, deadlines, failure and cancellation, with a commit that the test controls."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from contextlib import nullcontext
from inspect import signature
from typing import Any

import pytest

from wallet_gql.backends.kit.group_commit import Command, Deferred, GroupCommit, LanePolicy
from wallet_gql.domain.changes import Changes, Decision, Done, Failed, Outcome, Scope, Snapshot
from wallet_gql.domain.errors import Contended, InDoubt, InvariantViolated, PayeeNotFound, Unavailable
from wallet_gql.testing.loop import ShuffledLoop
from wallet_gql.testing.patience import turns

SCOPE = Scope(0)


def nothing(_: Snapshot) -> Decision[None]:
    """A decision; the fake commit never calls it."""
    return Decision(Changes(), None)


class FakeCommit:
    """Waits for the gate, then answers each batch with what `script` says, or success."""

    def __init__(self, policy: LanePolicy | None = None) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.sizes: list[int] = []
        self.script: list[Exception | None] = []
        self.poison: Command | None = None
        self.groups = GroupCommit(self, policy)

    async def __call__(self, lane: Hashable, batch: Sequence[Command], wait_seconds: float) -> list[Outcome]:
        """Commit one batch."""
        assert wait_seconds > 0
        self.sizes.append(len(batch))
        await self.gate.wait()
        error = self.script.pop(0) if self.script else None
        if error is not None:
            raise error
        return [Done(lane) for _ in batch]

    async def submit(self, seconds: float = 5.0) -> Done[object]:
        """One command on the lane `a`."""
        return await self.groups.submit("a", SCOPE, nothing, seconds)


@pytest.fixture
def commit() -> FakeCommit:
    """An open gate and no script."""
    return FakeCommit()


def on_a_jumping_clock(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """The test, on a clock that no load slows: it goes on only when nothing else is left to be done."""

    def run() -> None:
        async def work() -> None:
            await test(*(FakeCommit() for _ in signature(test).parameters))

        with asyncio.Runner(loop_factory=lambda: ShuffledLoop(1)) as runner:
            runner.run(work())

    run.__doc__ = test.__doc__
    return run


async def test_what_arrives_during_a_commit_forms_the_next_batch(commit: FakeCommit) -> None:
    """One alone, then all that waited, at most `batch_max` at once; other lanes do not wait."""
    commit.groups.batch_max = 4
    commit.gate.clear()
    first = asyncio.create_task(commit.submit())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = [asyncio.create_task(commit.submit()) for _ in range(6)]
    other = asyncio.create_task(commit.groups.submit("b", SCOPE, nothing, 5.0))
    await turns()
    commit.gate.set()

    assert Done("b") == await other
    assert [Done("a")] * 7 == await asyncio.gather(first, *rest)
    assert commit.sizes == [1, 1, 4, 2]
    assert (commit.groups.counters.batches, commit.groups.counters.commands) == (4, 8)


async def test_a_failed_batch_is_tried_once_more_and_then_one_by_one(commit: FakeCommit) -> None:
    """Only the command that fails alone gets the error."""
    commit.script = [Unavailable(), Unavailable(), None, *[Unavailable("disk")] * 3, None]
    tasks = [asyncio.create_task(commit.submit()) for _ in range(3)]

    done = await asyncio.gather(*tasks, return_exceptions=True)

    assert commit.sizes == [3, 3, 1, 1, 1, 1, 1]
    assert [Done, Unavailable, Done] == [type(outcome) for outcome in done]


async def test_doubt_is_told_to_all_and_never_retried(commit: FakeCommit) -> None:
    """A second attempt might double what the first did."""
    commit.script = [InDoubt()]
    done = await asyncio.gather(*(commit.submit() for _ in range(3)), return_exceptions=True)

    assert [InDoubt] * 3 == [type(outcome) for outcome in done]
    assert commit.sizes == [3]


async def test_a_drivers_exception_never_leaves(commit: FakeCommit) -> None:
    """Nobody knows what became of the commit, so it is in doubt and not tried again; the log has what was raised."""
    commit.script = [OSError("x")] * 5
    with pytest.raises(InDoubt, match="OSError"):
        await commit.submit()

    assert commit.sizes == [1]


@on_a_jumping_clock
async def test_not_begun_by_the_deadline_is_contended_and_begun_is_doubt(commit: FakeCommit) -> None:
    """The first waits in its commit, the second in the queue; the queued one is never run."""
    commit.gate.clear()
    first = asyncio.create_task(commit.submit(0.05))
    await turns()
    second = asyncio.create_task(commit.submit(0.05))
    done = await asyncio.gather(first, second, return_exceptions=True)
    commit.gate.set()
    await commit.groups.close()

    assert [InDoubt, Contended] == [type(outcome) for outcome in done]
    assert commit.sizes == [1]


@on_a_jumping_clock
async def test_who_has_given_up_is_not_tried_again(commit: FakeCommit) -> None:
    """The first attempt wrote nothing, but it ended after the caller's deadline; his neighbour goes on without him."""
    commit.script = [Unavailable()]
    commit.gate.clear()
    hasty, patient = (asyncio.create_task(commit.submit(seconds)) for seconds in (0.15, 5.0))
    with pytest.raises(InDoubt):
        await hasty
    commit.gate.set()
    await patient

    assert commit.sizes == [2, 1]


@pytest.mark.parametrize("seed", range(5))
def test_too_little_time_left_begins_no_commit(seed: int) -> None:
    """Attempts that wrote nothing until the deadline say so: Contended, not in doubt. On a clock that no load slows."""

    async def wait_for_a_lock(_: Hashable, __: Sequence[Command], wait_seconds: float) -> list[Outcome]:
        await asyncio.sleep(wait_seconds)
        raise Contended

    async def outcomes() -> list[object]:
        groups = GroupCommit(wait_for_a_lock)
        calls = (groups.submit("a", SCOPE, nothing, 0.3 + 0.01 * i) for i in range(5))
        return list(await asyncio.gather(*calls, return_exceptions=True))

    with asyncio.Runner(loop_factory=lambda: ShuffledLoop(seed)) as runner:
        assert [type(outcome) for outcome in runner.run(outcomes())] == [Contended] * 5


async def test_a_full_queue_refuses_at_once(commit: FakeCommit) -> None:
    """Bounded waiting, never unbounded latency."""
    commit.groups = GroupCommit(commit, queue_max=2)
    commit.gate.clear()
    first = asyncio.create_task(commit.submit())
    await turns()
    waiting = [asyncio.create_task(commit.submit()) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(Contended, match="waiting"):
        await commit.submit()
    commit.gate.set()
    await asyncio.gather(first, *waiting)


async def test_a_cancelled_caller_neither_stops_nor_joins_a_commit(commit: FakeCommit) -> None:
    """Begun, it goes on without him; queued, it is dropped."""
    commit.gate.clear()
    begun = asyncio.create_task(commit.submit())
    await turns()
    queued = asyncio.create_task(commit.submit())
    stays = asyncio.create_task(commit.submit())
    await asyncio.sleep(0)
    begun.cancel()
    queued.cancel()
    await asyncio.sleep(0)
    commit.gate.set()

    assert Done("a") == await stays
    assert commit.sizes == [1, 1]


async def test_closing_finishes_what_is_in_flight_and_takes_no_more(commit: FakeCommit) -> None:
    """Close waits; afterwards the store is unavailable."""
    commit.gate.clear()
    task = asyncio.create_task(commit.submit())
    await turns()
    closing = asyncio.create_task(commit.groups.close())
    await turns()
    assert not closing.done()
    commit.gate.set()
    await closing

    assert Done("a") == await task
    with pytest.raises(Unavailable, match="closing"):
        await commit.submit()


async def test_a_refusal_is_raised_to_its_own_caller() -> None:
    """And to nobody else."""

    async def refuse(_lane: Hashable, batch: Sequence[Command], _wait: float) -> list[Outcome]:
        return [Failed(PayeeNotFound("x")) if n == 0 else Done(n) for n, _ in enumerate(batch)]

    groups = GroupCommit(refuse)
    done = await asyncio.gather(*(groups.submit("a", SCOPE, nothing, 5) for _ in range(2)), return_exceptions=True)

    assert [PayeeNotFound, Done] == [type(outcome) for outcome in done]


async def test_a_batch_is_taken_when_the_turn_comes() -> None:
    """Who arrives while the lane waits for its turn is in the batch."""
    turn = asyncio.Lock()
    commit = FakeCommit(LanePolicy(turn=lambda _: turn))
    await turn.acquire()
    first = asyncio.create_task(commit.submit())
    await turns()
    rest = [asyncio.create_task(commit.submit()) for _ in range(5)]
    await turns()
    assert commit.sizes == []
    turn.release()
    assert [Done("a")] * 6 == await asyncio.gather(first, *rest)
    assert commit.sizes == [6]


async def test_each_attempt_waits_for_a_turn_of_its_own() -> None:
    """Between the attempts of one lane another lane has its turn."""
    turn = asyncio.Lock()
    order: list[Hashable] = []
    waiting = asyncio.Semaphore(0)

    async def fail(lane: Hashable, batch: Sequence[Command], _: float) -> list[Outcome]:
        order.append(lane)
        if lane == "a":
            if order.count("a") <= 3:
                await waiting.acquire()  # until a command of the other lane waits for its turn
            raise Contended
        return [Done(lane) for _ in batch]

    groups = GroupCommit(fail, LanePolicy(turn=lambda _: turn))
    failing = asyncio.create_task(groups.submit("a", SCOPE, nothing, 5.0))
    for _ in range(3):
        other = asyncio.create_task(groups.submit("b", SCOPE, nothing, 5.0))
        await turns()
        waiting.release()
        await other
    with pytest.raises(Contended):
        await failing
    assert order[:6] == ["a", "b", "a", "b", "a", "b"]
    assert order.count("a") == 5


@on_a_jumping_clock
async def test_a_turn_that_never_comes_ends_with_the_deadline() -> None:
    """Nothing was begun, and the lane goes on afterwards."""
    turn = asyncio.Lock()
    commit = FakeCommit(LanePolicy(turn=lambda _: turn))
    await turn.acquire()
    with pytest.raises(Contended):
        await commit.submit(0.05)
    turn.release()
    await commit.submit()
    assert commit.sizes == [1]


@on_a_jumping_clock
async def test_one_in_a_hurry_does_not_hurry_the_others(commit: FakeCommit) -> None:
    """A nearly expired command is refused; the others form one batch with all of their time."""
    commit.gate.clear()
    first = asyncio.create_task(commit.submit())
    await turns()
    hurried = asyncio.create_task(commit.submit(0.09))
    rest = [asyncio.create_task(commit.submit()) for _ in range(8)]
    await turns()
    commit.gate.set()
    assert [Done("a")] * 9 == await asyncio.gather(first, *rest)
    with pytest.raises(Contended):
        await hurried
    assert commit.sizes == [1, 8]


@on_a_jumping_clock
async def test_deferred_commands_find_no_more_room_than_others() -> None:
    """A lane that is full refuses them too; those whose callers have given up take no room."""
    stuck = asyncio.Lock()
    policy = LanePolicy(turn=lambda lane: stuck if lane == "b" else nullcontext())
    groups = GroupCommit(_defer_to_b, policy, queue_max=10)
    await stuck.acquire()
    for _ in range(5):
        answers = await asyncio.gather(
            *(groups.submit("a", SCOPE, nothing, 0.3) for _ in range(8)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {Contended}
    assert len(groups._queues["b"]) <= 10
    waiting = [asyncio.create_task(groups.submit("a", SCOPE, nothing, 5.0)) for _ in range(14)]
    await turns()
    assert [isinstance(task.exception(), Contended) for task in waiting if task.done()] == [True] * 4
    stuck.release()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [answer for answer in done if not isinstance(answer, Contended)] == [Done("b")] * 10


@on_a_jumping_clock
async def test_a_lane_that_only_moves_its_commands_writes_nothing() -> None:
    """Whoever runs out of time there is told so for certain, an error is no doubt, and nothing counts as a commit."""
    answers, said = asyncio.Event(), [None, RuntimeError("a bug"), None]

    async def commit(lane: Hashable, batch: Sequence[Command], wait: float) -> list[Outcome | Deferred]:
        if lane == "a":
            await answers.wait()
            error = said.pop(0)
            if error is not None:
                raise error
        return await _defer_to_b(lane, batch, wait)

    groups = GroupCommit(commit, LanePolicy(only_moves=lambda lane: lane == "a"))
    with pytest.raises(Contended):
        await groups.submit("a", SCOPE, nothing, 0.5)
    failing = asyncio.ensure_future(groups.submit("a", SCOPE, nothing, 5.0))
    answers.set()
    with pytest.raises(InvariantViolated, match="a bug"):
        await failing
    assert (groups.counters.batches, groups.counters.commands) == (0, 0)
    assert await groups.submit("a", SCOPE, nothing, 5.0) == Done("b")
    assert (groups.counters.batches, groups.counters.commands) == (1, 1)
    await groups.close()


async def _defer_to_b(lane: Hashable, batch: Sequence[Command], _wait: float) -> list[Outcome | Deferred]:
    return [Deferred("b") if lane == "a" else Done(lane) for _ in batch]


@pytest.mark.parametrize("seed", range(5))
def test_every_command_is_told_at_its_own_deadline(seed: int) -> None:
    """G8 with one timer: whatever the order of deadlines, each is told within a moment of its own, and none before.

    The commit never ends. Commands with early deadlines come after those with late ones, and some when the timer has
    already told others.
    """

    async def run() -> None:
        commit = FakeCommit()
        commit.gate.clear()
        loop = asyncio.get_running_loop()
        told: list[tuple[float, float]] = []

        async def one(seconds: float) -> None:
            due = loop.time() + seconds
            with pytest.raises((InDoubt, Contended)):
                await commit.submit(seconds)
            told.append((due, loop.time()))

        waits = [9.0, 1.0, 5.0, 1.0, 0.3, 0.301, 2.0, 7.0]
        first = [asyncio.create_task(one(seconds)) for seconds in waits]
        await asyncio.sleep(3)
        assert len(told) == sum(seconds < 3 for seconds in waits)
        second = [asyncio.create_task(one(seconds)) for seconds in (0.5, 20.0, 0.1)]
        await asyncio.gather(*first, *second)
        assert all(due <= at <= due + 0.011 for due, at in told), told
        commit.gate.set()
        await commit.groups.close()

    with asyncio.Runner(loop_factory=lambda: ShuffledLoop(seed)) as runner:
        runner.run(run())


async def test_a_store_that_is_closed_leaves_no_timer(commit: FakeCommit) -> None:
    """The timer of the last command's deadline ends with the store."""
    await commit.submit(60)
    timer = commit.groups._deadlines._timer
    assert timer is not None
    await commit.groups.close()
    assert timer.cancelled()
