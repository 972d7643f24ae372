"""Turns: several processes use one partition in turns, so that they do not spread one another's commits.

Nothing here is needed for safety: a process that does not wait is only slower. A process that has just committed has
the partition's turn. It *releases* the partition by its marker, which says that its last commit is spread. It does so
when it has nothing more to do, and when it has had the turn for a while and other processes were seen lately. Other
processes wait for the release, or until their patience ends: then the process is dead, or very slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

OTHERS_SECONDS: Final = 5.0
"""How long after a commit of another process this process takes turns with it."""

HOLD_SECONDS: Final = 0.3
HOLD_COMMITS: Final = 3
"""How long, and for how many commits at least, a process keeps a partition that others may want."""

LET_SECONDS: Final = 0.03
"""How long the process then leaves the partition to others."""

IDLE_SECONDS: Final = 0.01
"""The partition is released after this long without another commit."""

LOOK_SECONDS: Final = 0.015
"""How often waiting processes check."""

TURN_SECONDS: Final = 1.0
TURN_SHARE: Final = 0.3
"""The patience of a commit: in seconds, and as a share of the time that its commands have left."""

READER_SECONDS: Final = 0.25
"""The patience of a read."""

GATHER_SHARE: Final = 0.8
"""How long a busy partition waits for more commands before the next commit, as a share of the last commit's time."""

GATHER_SECONDS_MAX: Final = 0.25


def patience(deadline: float) -> float:
    """How many seconds a commit that must end by `deadline` waits for its turn."""
    left = deadline - asyncio.get_running_loop().time()
    return max(min(TURN_SECONDS, left * TURN_SHARE), 0.0)


class Turn:
    """This process's part in taking turns on one partition."""

    def __init__(self, release: Callable[[int], Awaitable[None]], *, gathers: bool) -> None:
        """`release` writes the marker of a version, and raises nothing. `wait` explains `gathers`."""
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
        """Wait before a batch is taken; commands that arrive meanwhile join it. Returns whether others had a turn.

        A partition that was idle does not wait. Each commit costs the same for any number of commands, and a payment
        between partitions takes two commits. So with several partitions (`gathers`) fewer and larger commits are worth
        the wait.
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
        """Note a commit of this process. The partition is released unless another commit follows at once."""
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
        """Release the partition now, if that has not been done."""
        if self._ending is not None:
            self._stay()
            self._end()
        if self._writing:
            await asyncio.wait(self._writing)
