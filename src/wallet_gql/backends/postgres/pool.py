"""A driver's pool with a few connections at hand: taking one of these takes a tenth of the driver's steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import asyncpg

AT_HAND_MAX: Final = 2
"""How many connections of a pool stay at hand."""

IDLE_SECONDS: Final = 60.0
"""What was idle for so long is ended before anything uses it: a firewall may have forgotten the connection."""

USES_MAX: Final = 1_000
"""After so many uses one passes the driver's pool, which replaces a connection after a certain number of queries."""


class Pool:
    """The connections to one node for one purpose."""

    def __init__(self, pool: asyncpg.Pool, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds and never goes back."""
        self.pool = pool
        self._clock = clock
        self._at_hand: list[tuple[Any, float]] = []
        """Connections, and when each was given back; the latest is the last."""
        self._taken: dict[Any, int] = {}
        """Connections in use, and the generation that each is of."""
        self._generation = 0
        self._waiting = 0
        self._uses = 0
        self._is_closing = False

    def take(self) -> Any:
        """A connection that is at hand; None if there is none that is open and was used lately."""
        while self._at_hand and self._clock() - self._at_hand[-1][1] <= IDLE_SECONDS:
            raw, _ = self._at_hand.pop()
            if _is_open(raw):
                self._taken[raw] = self._generation
                return raw
        return None

    async def acquire(self, seconds: float) -> Any:
        """A connection. Raises what the driver raises if there is none in time."""
        raw = self.take()
        if raw is None:
            await self._release(ends=True)
            self._waiting += 1
            try:
                raw = await self.pool.acquire(timeout=seconds)
            finally:
                self._waiting -= 1
            self._taken[raw] = self._generation
        return raw

    async def give_back(self, raw: Any, *, doubtful: bool, seconds: float) -> None:
        """Return a connection; a doubtful one is ended. Raises what the driver raises."""
        is_current = self._taken.pop(raw, None) == self._generation
        self._uses += 1
        if doubtful:
            raw.terminate()
        elif is_current and self._may_keep():
            self._at_hand.append((raw, self._clock()))
            return
        await self.pool.release(raw, timeout=seconds)

    def _may_keep(self) -> bool:
        """Whether one more connection may stay at hand: nobody waits for it, and the driver need not see it now."""
        is_wanted_back = self._is_closing or self._waiting or self._uses % USES_MAX == 0
        return not is_wanted_back and len(self._at_hand) < AT_HAND_MAX

    @property
    def is_used_up(self) -> bool:
        """Whether all its connections are in use. If not, who waits for one waits for the server."""
        return len(self._taken) >= self.pool.get_max_size()

    async def expire(self) -> None:
        """Make every connection anew before it is used again, also those in use.

        Those at hand are ended: their server may not answer a farewell any more.
        """
        self._generation += 1
        await self.pool.expire_connections()
        await self._release(ends=True)

    async def close(self) -> None:
        """Wait for connections in use, and close all."""
        self._is_closing = True
        await self._release()
        await self.pool.close()

    async def _release(self, *, ends: bool = False) -> None:
        """Give the driver what is at hand, or end it first."""
        while self._at_hand:
            raw, _ = self._at_hand.pop()
            if _is_open(raw):
                if ends:
                    raw.terminate()
                await self.pool.release(raw)


def _is_open(raw: Any) -> bool:
    """Whether a connection is still there. A lost one has left the pool by itself, and answers nothing any more."""
    try:
        return not raw.is_closed()
    except asyncpg.InterfaceError:
        return False
