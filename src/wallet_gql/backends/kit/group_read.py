"""Group reads: questions that arrive while a read of the same place is in flight form the next one.

One round trip then answers all of them, as one commit takes many commands. Nothing waits for more to come: a single
question is sent at once. A group is read after its members have asked, so each sees every write that was answered
before it asked (G7).

A bad question does not fail other members: if a group fails, its members are read one by one, unless the store is
`Unavailable`, which concerns all of them. If a member is cancelled, the group goes on for the others. The group runs
without any member's context variables.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

from ...domain.errors import Contended, Unavailable
from ...storage import TIMEOUT_SECONDS
from .group_commit import Counters

Q = TypeVar("Q")
A = TypeVar("A")

AT_ONCE: Final = 2
"""The most groups of one lane in flight."""

SLOW_SECONDS: Final = 0.002
"""A question that has waited so long for the group in flight is asked beside it: a slow group must not delay others."""

GROUP_MAX: Final = 64
"""The most questions in one group."""

WAIT_SECONDS: Final = TIMEOUT_SECONDS
"""How long a question may wait for groups in flight: as long as a command. Then its caller has mostly given up."""


class _Lane(Generic[Q, A]):
    """The questions of one lane that wait, and the groups in flight."""

    __slots__ = ("hurry", "key", "running", "waiting")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.waiting: deque[tuple[Q, asyncio.Future[A], float]] = deque()
        """Each with the time until when it may wait, on the event loop's clock."""
        self.running: set[asyncio.Task[None]] = set()
        self.hurry: asyncio.TimerHandle | None = None
        """What begins another group if the one in flight is slow."""

    def calm(self) -> None:
        """Forget the timer: what waited is being read."""
        if self.hurry is not None:
            self.hurry.cancel()
            self.hurry = None


class GroupRead(Generic[Q, A]):
    """Joins the questions of each lane; a lane is whatever one round trip can answer."""

    def __init__(self, read: Callable[[Hashable, Sequence[Q]], Awaitable[Sequence[A]]]) -> None:
        """`read` answers several questions of a lane, in order. A WalletError that it raises is for all of them."""
        self.counters = Counters()
        self._read = read
        self._lanes: dict[Hashable, _Lane[Q, A]] = {}

    async def ask(self, lane: Hashable, question: Q) -> A:
        """The answer to one question.

        Raises:
            Contended: it has waited for `WAIT_SECONDS`, and was not asked. Also what `read` raises for it.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[A] = loop.create_future()
        found = self._lanes.get(lane)
        if found is None:
            found = self._lanes[lane] = _Lane(lane)
        found.waiting.append((question, answer, loop.time() + WAIT_SECONDS))
        if found.running:
            self._hurry(found)
        else:
            self._start(found)
        return await answer

    def _hurry(self, lane: _Lane[Q, A]) -> None:
        """See to it that what waits is not delayed by a slow group."""
        if lane.hurry is None and len(lane.running) < AT_ONCE:
            lane.hurry = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._start, lane, context=Context())

    def _start(self, lane: _Lane[Q, A]) -> None:
        """Begin to read what is waiting."""
        lane.calm()
        task = asyncio.get_running_loop().create_task(self._run(lane), context=Context())
        lane.running.add(task)

    async def close(self) -> None:
        """Let the reads in flight end."""
        while self._lanes:
            tasks = [task for lane in self._lanes.values() for task in lane.running]
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, lane: _Lane[Q, A]) -> None:
        """Read one group after another, until no question is waiting."""
        group: list[tuple[Q, asyncio.Future[A]]] = []
        waiting = lane.waiting
        try:
            while waiting:
                lane.calm()
                now = asyncio.get_running_loop().time()
                while waiting and len(group) < GROUP_MAX:
                    question, answer, until = waiting.popleft()
                    if answer.done():
                        continue
                    if until < now:
                        answer.set_exception(Contended("the reads before this one took all the time given"))
                    else:
                        group.append((question, answer))
                if waiting:
                    self._hurry(lane)
                await self._answer(lane.key, group)
                group.clear()
        finally:
            for _, answer in group:  # the loop is closing
                answer.cancel()
            task = asyncio.current_task()
            assert task is not None
            lane.running.discard(task)
            if not lane.running:
                lane.calm()
                del self._lanes[lane.key]

    async def _answer(self, lane: Hashable, group: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        """Read the whole group at once; if that fails because of a single member, read each member separately."""
        if not group:
            return
        self.counters.batches += 1
        self.counters.commands += len(group)
        try:
            found = await self._read(lane, [question for question, _ in group])
            answered = list(zip(group, found, strict=True))
        except Exception as error:  # noqa: BLE001 - every error is passed to the members
            if len(group) > 1 and not isinstance(error, Unavailable):
                for asked in group:
                    await self._answer(lane, [asked])
                return
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for (_, answer), said in answered:
                if not answer.done():
                    answer.set_result(said)
