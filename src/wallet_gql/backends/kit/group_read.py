"""Group reads: questions that arrive while a read of the same place is in flight form the next one.

One round trip then answers all of them, as one commit takes many commands. There is no timer: a single question is sent
at once. A group is read after its members have asked, so each sees every write that was answered before it asked (G7).

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

from ...domain.errors import Unavailable
from .group_commit import Counters

Q = TypeVar("Q")
A = TypeVar("A")

AT_ONCE: Final = 2
"""The most groups of one lane in flight: with more than one, a slow group does not delay the others."""

GROUP_MAX: Final = 64
"""The most questions in one group."""


class GroupRead(Generic[Q, A]):
    """Joins the questions of each lane; a lane is whatever one round trip can answer."""

    def __init__(self, read: Callable[[Hashable, Sequence[Q]], Awaitable[Sequence[A]]]) -> None:
        """`read` answers several questions of a lane, in order. A WalletError that it raises is for all of them."""
        self.counters = Counters()
        self._read = read
        self._waiting: dict[Hashable, deque[tuple[Q, asyncio.Future[A]]]] = {}
        self._running: dict[Hashable, set[asyncio.Task[None]]] = {}

    async def ask(self, lane: Hashable, question: Q) -> A:
        """The answer to one question. Raises what `read` raises for it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[A] = loop.create_future()
        waiting = self._waiting.get(lane)
        if waiting is None:
            waiting = self._waiting[lane] = deque()
        waiting.append((question, answer))
        running = self._running.setdefault(lane, set())
        if len(running) < AT_ONCE:
            running.add(loop.create_task(self._run(lane, waiting, running), context=Context()))
        return await answer

    async def close(self) -> None:
        """Let the reads in flight end."""
        while self._running:
            await asyncio.gather(*(task for tasks in self._running.values() for task in tasks), return_exceptions=True)

    async def _run(
        self, lane: Hashable, waiting: deque[tuple[Q, asyncio.Future[A]]], running: set[asyncio.Task[None]]
    ) -> None:
        """Read one group after another, until no question is waiting."""
        group: list[tuple[Q, asyncio.Future[A]]] = []
        try:
            while waiting:
                while waiting and len(group) < GROUP_MAX:
                    asked = waiting.popleft()
                    if not asked[1].done():
                        group.append(asked)
                await self._answer(lane, group)
                group.clear()
        finally:
            for _, answer in group:  # the loop is closing
                answer.cancel()
            task = asyncio.current_task()
            assert task is not None
            running.discard(task)
            if not running:
                del self._running[lane], self._waiting[lane]

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
