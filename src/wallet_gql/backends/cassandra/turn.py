"""Turns: several processes on one partition, one at a time for a while each, so that they do not help one another.

Nothing here is needed for safety: whoever does not wait is only slower. A process that has just committed has the
partition's turn. It *releases* the partition by its marker, which says that its last commit is spread: when it has
nothing more to do, and when it has had the turn for a while and others were seen lately. Others wait for that, or until
their patience ends: then the process is gone, or very slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

OTHERS_SECONDS: Final = 5.0
"""How long after a commit of another process this one takes turns with it."""

HOLD_SECONDS: Final = 0.3
HOLD_COMMITS: Final = 3
"""How long, and for how many commits at least, a process keeps a partition that others may want."""

LET_SECONDS: Final = 0.03
"""How long it then leaves the partition alone."""

IDLE_SECONDS: Final = 0.01
"""After so long without another commit the partition is released."""

LOOK_SECONDS: Final = 0.015
"""How often those who wait look."""

TURN_SECONDS: Final = 1.0
TURN_SHARE: Final = 0.3
"""The patience of a commit: seconds, and of the time that its commands have left."""

READER_SECONDS: Final = 0.25
"""The patience of a read."""

GATHER_SHARE: Final = 0.8
"""Of the time that the last commit took: how long a busy partition waits for more to join the next."""

GATHER_SECONDS_MAX: Final = 0.25


def patience(deadline: float) -> float:
    """How many seconds a commit that must end by then waits for its turn."""
    left = deadline - asyncio.get_running_loop().time()
    return max(min(TURN_SECONDS, left * TURN_SHARE), 0.0)


class Turn:
    """This process's part in taking turns on one partition."""

    def __init__(self, release: Callable[[int], Awaitable[None]], *, gathers: bool) -> None:
        """`release` writes the marker of a version, and raises nothing. With `gathers`, see `wait`."""
        self._release = release
        self._gathers = gathers
        self._others_at = -OTHERS_SECONDS
        self._held_at = 0.0
        self._commits = 0
        self._version = 0
        self._ended_at = 0.0
        self._took_seconds = 0.0
        self._ending: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    async def wait(self) -> bool:
        """Wait before a batch is taken; commands on their way here join it. Whether others were let in meanwhile.

        A partition that was idle does not wait. Each commit costs the same however much it carries, and a payment
        between partitions comes to two of them: so with several partitions (`gathers`) fewer and larger ones are worth
        more than the moment.
        """
        now = asyncio.get_running_loop().time()
        self._stay()
        if self._commits and now - self._others_at < OTHERS_SECONDS:
            if now - self._held_at > HOLD_SECONDS and self._commits >= HOLD_COMMITS:
                self._commits = 0
                await self._release(self._version)
                await asyncio.sleep(LET_SECONDS)
                return True
        elif self._gathers and now - self._ended_at < self._took_seconds:
            await asyncio.sleep(min(self._took_seconds * GATHER_SHARE, GATHER_SECONDS_MAX))
        return False

    def _stay(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None

    def committed(self, version: int, began: float) -> None:
        """Note a commit of this process; the partition is released unless another one follows at once."""
        loop = asyncio.get_running_loop()
        self._ended_at = loop.time()
        self._took_seconds = self._ended_at - began
        if not self._commits:
            self._held_at = self._ended_at
        self._commits += 1
        self._version = version
        self._stay()
        self._ending = loop.call_later(IDLE_SECONDS, self._end)

    def _end(self) -> None:
        self._ending, self._commits = None, 0
        task = asyncio.ensure_future(self._release(self._version))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def lost(self) -> None:
        """Note a commit of another process."""
        self._others_at = asyncio.get_running_loop().time()
        self._commits = 0

    async def close(self) -> None:
        """Release the partition now, if that is still to be done."""
        if self._ending is not None:
            self._stay()
            self._end()
        if self._writing:
            await asyncio.wait(self._writing)
