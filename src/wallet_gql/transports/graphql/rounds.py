"""Reads that come round after round, for all who wait: one read for each key, the reads of all keys together.

So a user's subscriptions share one read, and those of all users travel to the store in groups. If nobody waits, nothing
is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextvars import Context
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
W = TypeVar("W", bound=Hashable)
V = TypeVar("V")

Read = Callable[[frozenset[W]], Awaitable[V]]
"""Reads a value, given what anybody who waits has watched."""

AT_ONCE: Final = 32
"""How many keys are read at the same time, so that a round leaves the store to other requests, too."""


class Rounds(Generic[K, W, V]):
    """The rounds of one process; belongs to the process's event loop."""

    def __init__(self, seconds: float) -> None:
        """A round begins after so many seconds."""
        self.count = 0
        """How many reads there were."""
        self._seconds = seconds
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting: dict[K, list[tuple[frozenset[W], Read[W, V], asyncio.Future[V]]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def next(self, key: K, watched: frozenset[W], read: Read[W, V]) -> V:
        """What the next round reads for the key, with `watched` and what others watch. Raises what the read raises."""
        answer: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append((watched, read, answer))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())
        return await answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(self._seconds)
                asked, self._waiting = self._waiting, {}
                await asyncio.gather(*map(self._round, asked.values()))
        finally:
            self._task = None

    async def _round(self, asked: list[tuple[frozenset[W], Read[W, V], asyncio.Future[V]]]) -> None:
        waiting = [one for one in asked if not one[2].done()]
        if not waiting:
            return
        self.count += 1
        try:
            async with self._places:
                found = await waiting[0][1](frozenset().union(*(watched for watched, _, _ in waiting)))
        except Exception as error:  # noqa: BLE001 - every error is passed to those who wait
            for _, _, answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
            return
        for _, _, answer in waiting:
            if not answer.done():
                answer.set_result(found)
