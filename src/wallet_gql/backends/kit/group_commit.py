"""Group commit: commands that arrive while a commit is in flight form the next batch.

There is no timer: an idle lane commits at once. Each command keeps its own outcome; a refusal never sinks its
neighbours. A batch that fails in the database is tried once more, then its commands run one by one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from ... import traces
from ...domain.changes import Decide, Done, Failed, Outcome, Scope, Unreceived
from ...domain.errors import Contended, InDoubt, InvariantViolated, Unavailable, WalletError
from ...domain.frozen import frozen
from ...domain.ids import AccountId
from ...domain.model import AccountFacts
from ...metrics import BATCH_COMMANDS, COMMIT_SECONDS

log = logging.getLogger("wallet_gql.group_commit")

BATCH_MAX: Final = 256
QUEUE_MAX: Final = 10_000
_DEADLINE_SHARE: Final = 0.9
_LEAST_SECONDS: Final = 0.02
"""With less time left no commit begins: it could turn a certain "nothing written" into "in doubt"."""
_HURRY_SECONDS: Final = 0.1
"""With less time left a command is refused instead of joining a batch of several."""
_SORT_OUT_SECONDS: Final = 0.05
"""The shortest time between two searches of a full lane for commands whose callers gave up."""
_SWEEP_SECONDS: Final = 0.01
"""The shortest time between two checks for commands whose deadlines have passed."""
_ALONE_MAX: Final = 3
"""How often a command is tried alone after its batch has failed twice."""


@dataclass(slots=True, eq=False)
class Command:
    """One waiting `execute`: `deadline` is on the event loop's clock, in seconds."""

    scope: Scope
    decide: Decide[Any]
    deadline: float
    future: asyncio.Future[Outcome]
    began: float = 0.0
    """When it came, on the same clock."""
    started: bool = False
    """Whether a commit that may write the command has begun. From then on a missed deadline means "in doubt"."""
    lane: Hashable = None
    """The lane in which the command waits or runs."""
    facts: Mapping[AccountId, AccountFacts] | None = None
    """What an earlier lane has read of the accounts that it credits."""
    span: Any = None
    """Whose part its commits are, if that is traced."""


@dataclass(slots=True)
class Counters:
    """How much was batched, for benchmarks and metrics."""

    batches: int = 0
    commands: int = 0


@frozen
class Deferred:
    """Not decided: the command needs a row that another transaction has locked. It moves to another lane."""

    lane: Hashable


Commit = Callable[[Hashable, Sequence[Command], float], Awaitable[Sequence[Outcome | Deferred]]]
"""Commit one batch of a lane. The number says for how many seconds to wait for locks.

Raises Unavailable (nothing written) or InDoubt for the batch as a whole.
"""


@frozen
class LanePolicy:
    """What a backend sets about its lanes; it may depend on the lane."""

    batch_max: Callable[[Hashable], int] = lambda _: BATCH_MAX
    """The most commands of one batch of a lane."""
    turn: Callable[[Hashable], AbstractAsyncContextManager[object]] = lambda _: nullcontext()
    """What a lane waits for before it takes a batch. Commands that arrive during the wait join the batch."""
    only_moves: Callable[[Hashable], bool] = lambda _: False
    """Whether all commands of a lane go on to other lanes: nothing is written then, and nothing counts as a commit."""


class Deadlines:
    """One timer for all waiting commands, set to the earliest deadline: one per command would cost more than commits.

    The timer is not cancelled when no command waits any more; it then finds none.
    """

    def __init__(self) -> None:
        self.waiting: set[Command] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf
        """When the timer fires, on the loop's clock."""

    def add(self, command: Command, loop: asyncio.AbstractEventLoop) -> None:
        """Answer the command at its deadline. `submit` removes it from `waiting`."""
        self.waiting.add(command)
        if command.deadline < self._next:
            self._set(command.deadline, loop)

    def _set(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        self.stop()
        self._timer, self._next = loop.call_at(when, self._sweep, loop), when

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer the commands whose deadlines have passed, and set the timer to the next deadline."""
        self._timer, self._next = None, math.inf
        now = loop.time()
        still = [command for command in self.waiting if not command.future.done()]
        for command in still:
            if command.deadline <= now:
                _expire(command)
        later = min((command.deadline for command in still if command.deadline > now), default=None)
        if later is not None:
            self._set(max(later, now + _SWEEP_SECONDS), loop)

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._next = None, math.inf


class GroupCommit:
    """Batches the commands of each lane; a lane is whatever commits together (a leader and its participants)."""

    def __init__(
        self,
        commit: Commit,
        policy: LanePolicy | None = None,
        *,
        batch_max: int = BATCH_MAX,
        queue_max: int = QUEUE_MAX,
    ) -> None:
        """A commit has at most `batch_max` commands. If `queue_max` wait in a lane, more are refused as Contended."""
        self.batch_max = batch_max
        self._policy = policy or LanePolicy()
        self.counters = Counters()
        self._commit = commit
        self._queue_max = queue_max
        self._queues: dict[Hashable, deque[Command]] = {}
        self._running: dict[Hashable, asyncio.Task[None]] = {}
        self._deadlines = Deadlines()
        self._sorted_out: dict[Hashable, float] = {}
        """When commands whose callers gave up were last removed from a full lane."""
        self._closed = False

    async def submit(self, lane: Hashable, scope: Scope, decide: Decide[Any], timeout_seconds: float) -> Done[Any]:
        """Run one command in some batch.

        Raises:
            Contended: not begun by the deadline, or the queue is full. InDoubt: begun, but not confirmed by the
                deadline.
            WalletError: the command's own refusal or the commit's failure.
        """
        if self._closed:
            raise Unavailable("the store is closing")
        loop = asyncio.get_running_loop()
        if self._is_full(lane):
            raise Contended("too many commands are waiting")
        now = loop.time()
        command = Command(scope, decide, now + timeout_seconds, loop.create_future(), now)
        if traces.tracer is not None:
            command.span = traces.current()
        self._enqueue(lane, command)
        self._deadlines.add(command, loop)
        try:
            outcome = await command.future
        finally:
            self._deadlines.waiting.discard(command)
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome

    def _is_full(self, lane: Hashable) -> bool:
        """Whether the lane takes no more commands. From time to time, first removes commands whose callers gave up."""
        queue = self._queues.get(lane)
        if queue is None or len(queue) < self._queue_max:
            return False
        now = asyncio.get_running_loop().time()
        if self._sorted_out.get(lane, 0.0) + _SORT_OUT_SECONDS <= now:
            self._sorted_out[lane] = now
            alive = [command for command in queue if not command.future.done()]
            queue.clear()
            queue.extend(alive)
        return len(queue) >= self._queue_max

    def _enqueue(self, lane: Hashable, command: Command) -> None:
        command.lane = lane
        queue = self._queues.get(lane)
        if queue is not None:
            queue.append(command)
            return
        self._queues[lane] = queue = deque((command,))
        self._running[lane] = asyncio.get_running_loop().create_task(self._run(lane, queue))

    async def close(self) -> None:
        """Take no more commands and let those in flight end."""
        self._closed = True
        while self._running:
            await asyncio.gather(*self._running.values())
        self._deadlines.stop()

    async def _run(self, lane: Hashable, queue: deque[Command]) -> None:
        """Take one batch after another and settle it. Every command gets an outcome, even if this file has a bug."""
        batch: list[Command] = []
        try:
            while queue:
                async with self._policy.turn(lane):
                    now = asyncio.get_running_loop().time()
                    batch = _take(queue, min(self.batch_max, self._policy.batch_max(lane)), now)
                    if batch and not self._policy.only_moves(lane):
                        self.counters.batches += 1
                        self.counters.commands += len(batch)
                        BATCH_COMMANDS.note(len(batch))
                    left = await self._try(lane, batch)
                if left:
                    await self._try_again(lane, left)
        except Exception as error:
            for command in batch:
                if command.lane == lane and not command.future.done():
                    failure = InDoubt() if command.started else InvariantViolated(f"group commit failed: {error!r}")
                    command.future.set_result(Failed(failure))
            raise
        finally:
            del self._running[lane], self._queues[lane]
            self._sorted_out.pop(lane, None)

    async def _try_again(self, lane: Hashable, batch: list[Command]) -> None:
        """Try the batch once more, then its commands one by one. Each attempt waits for the lane's turn."""
        async with self._policy.turn(lane):
            batch = await self._try(lane, batch)
        for command in batch:
            for left in reversed(range(_ALONE_MAX)):
                async with self._policy.turn(lane):
                    if not await self._try(lane, [command], final=left == 0):
                        break

    async def _try(self, lane: Hashable, batch: list[Command], *, final: bool = False) -> list[Command]:
        """One commit. Returns the commands that have no outcome yet and may be tried again.

        A caller that gave up was told that nothing is written, so its command is not tried again. An exception that is
        not one of our errors does not say whether the commit took effect: another attempt could run a command without a
        key twice.
        """
        batch = [command for command in batch if not command.future.done()]
        if not batch:
            return []
        remaining = min(command.deadline for command in batch) - asyncio.get_running_loop().time()
        outcomes: Sequence[Outcome | Deferred]
        if remaining <= _LEAST_SECONDS:
            outcomes = [_Again(Contended()) for _ in batch]
        else:
            commits = not self._policy.only_moves(lane)
            for command in batch:
                command.started = commits
            began = time.perf_counter()
            try:
                outcomes = await self._commit(lane, batch, remaining * _DEADLINE_SHARE)
            except InDoubt as error:
                outcomes = [Failed(error) for _ in batch]
            except WalletError as error:
                outcomes = _nothing_written(batch, error)
            except Exception as error:
                log.exception("a backend raised what is no error of ours")
                failure = InDoubt if commits else InvariantViolated
                outcomes = [Failed(failure(f"{type(error).__name__}: {error}")) for _ in batch]
            took = time.perf_counter() - began
            if commits:
                COMMIT_SECONDS.note(took)
            if commits and traces.tracer is not None:
                told = zip((command.span for command in batch), map(_code, outcomes), strict=True)
                traces.committed(told, took, len(batch))
        outcomes = [Deferred(lane) if isinstance(o, Unreceived) else o for o in outcomes]
        self._forward(batch, outcomes)
        left = [c for c, o in zip(batch, outcomes, strict=True) if not _answer(c, o, final=final)]
        return [command for command in left if not command.future.done()]

    def _forward(self, batch: Sequence[Command], outcomes: Sequence[Outcome | Deferred]) -> None:
        """Move deferred commands to their lanes."""
        for command, outcome in zip(batch, outcomes, strict=True):
            if not isinstance(outcome, Deferred) or command.future.done():
                continue
            command.started = False
            if self._is_full(outcome.lane):
                command.future.set_result(Failed(Contended("too many commands are waiting")))
            else:
                self._enqueue(outcome.lane, command)


class _Again(Failed):
    """The commit failed with nothing written: the command may be tried again."""


def _code(outcome: Outcome | Deferred) -> str:
    """What traces say of an outcome."""
    if isinstance(outcome, Failed):
        return outcome.error.code if isinstance(outcome.error, WalletError) else "INTERNAL"
    return "OK" if isinstance(outcome, Done) else "AGAIN"


def _nothing_written(batch: Sequence[Command], error: WalletError) -> list[Outcome | Deferred]:
    for command in batch:
        command.started = False
    return [_Again(error) for _ in batch]


def _expire(command: Command) -> None:
    """Answer a caller whose deadline has passed with what is known now."""
    if not command.future.done():
        command.future.set_result(Failed(InDoubt() if command.started else Contended()))


def _take(queue: deque[Command], most: int, now: float) -> list[Command]:
    """The next commands whose callers still wait.

    A batch runs under its earliest deadline, so nearly expired commands are refused now.
    """
    batch: list[Command] = []
    while queue and len(batch) < most:
        command = queue.popleft()
        if not command.future.done():
            batch.append(command)
    if len(batch) > 1:
        for command in batch:
            if command.deadline - now < _HURRY_SECONDS:
                command.future.set_result(Failed(Contended()))
        batch = [command for command in batch if not command.future.done()]
    return batch


def _answer(command: Command, outcome: Outcome | Deferred, *, final: bool) -> bool:
    """Give the command its outcome unless another attempt may succeed. Returns whether this lane is done with it."""
    if isinstance(outcome, Deferred):
        return True
    if isinstance(outcome, _Again) and not final and not command.future.done():
        return False
    if not command.future.done():
        command.future.set_result(outcome)
    return True
