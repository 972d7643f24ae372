"""Turns: several processes use one partition in turns, so that they do not spread one another's commits.

Nothing here is needed for safety: a process that does not wait is only slower. A process that has just committed has
the partition's turn. It *releases* the partition by its marker, which says that its last commit is spread. It does so
when it has nothing more to do, and when it has had the turn for a while and others want it. Other processes say so, by
a marker too, and wait for the release, or until they see no commit for as long as their patience: then the process is
dead, or very slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

OTHERS_SECONDS: Final = 5.0
"""How long after a commit of another process this process expects more of them."""

HOLD_SECONDS: Final = 0.3
HOLD_COMMITS: Final = 3
"""How long, and for how many commits at least, a process keeps a partition that others want."""

ALONE_SECONDS: Final = 1.0
"""How often a process that expects no others asks whether one wants the partition."""

LET_SECONDS: Final = 0.1
"""How long the process then leaves the partition to others: they look, read, load and decide in that time. It would
cost more if two processes decided at once."""

IDLE_SECONDS: Final = 0.01
"""The partition is released after this long without another commit."""

LOOK_SECONDS: Final = 0.02
LOOKS: Final = 8
"""How often waiting processes look for the marker, and after how many of these looks also for a new commit."""

TURN_SECONDS: Final = 1.0
TURN_SHARE: Final = 0.3
"""The patience of a commit in seconds, and for how much of the time that its commands have left it waits at most."""

READER_SECONDS: Final = 0.25
"""The patience of a read."""

GATHER_SHARE: Final = 0.8
"""How long a busy partition waits for more commands before the next commit, as a share of the last commit's time."""

GATHER_SECONDS_MAX: Final = 0.25


class Wait:
    """How long to wait for a partition that another process has: for `patience_seconds` after its last commit.

    All in all it is not longer than `most_seconds`. Who `wants` the partition tells the other process.
    """

    def __init__(self, patience_seconds: float, most_seconds: float, *, wants: bool) -> None:
        """Begins now."""
        self.wants = wants
        self._patience_seconds = patience_seconds
        self._end = asyncio.get_running_loop().time() + most_seconds
        self.until = 0.0
        self.prolong()

    @classmethod
    def of_commit(cls, deadline: float) -> Wait:
        """The wait of a commit that must end by `deadline`."""
        left = deadline - asyncio.get_running_loop().time()
        return cls(TURN_SECONDS, max(left, 0.0) * TURN_SHARE, wants=True)

    @classmethod
    def of_read(cls) -> Wait:
        """The wait of a read."""
        return cls(READER_SECONDS, READER_SECONDS, wants=False)

    def prolong(self) -> None:
        """The other process is alive: it has just committed."""
        self.until = min(asyncio.get_running_loop().time() + self._patience_seconds, self._end)

    @property
    def is_over(self) -> bool:
        """Whether to go on without the turn."""
        return asyncio.get_running_loop().time() >= self.until


class Turn:
    """This process's part in taking turns on one partition."""

    def __init__(
        self,
        release: Callable[[int], Awaitable[None]],
        is_wanted: Callable[[int], Awaitable[bool]],
        *,
        gathers: bool,
    ) -> None:
        """`release` marks a version; `is_wanted` asks whether others have wanted the partition since one.

        Neither raises anything. `wait` explains `gathers`.
        """
        self._release = release
        self._is_wanted = is_wanted
        self._gathers = gathers
        self._others_at = -OTHERS_SECONDS
        self._held_at = 0.0
        self._commits = 0
        self._first = 0
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
        expects_others = now - self._others_at < OTHERS_SECONDS
        if self._commits >= HOLD_COMMITS and now - self._held_at > (HOLD_SECONDS if expects_others else ALONE_SECONDS):
            self._held_at = now
            if await self._is_wanted(self._first):
                self._commits = 0
                await self._release(self._version)
                await asyncio.sleep(LET_SECONDS)
                return True
        elif self._gathers and not expects_others and now - self._ended_at < self._took_seconds:
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
            self._held_at, self._first = self._ended_at, version
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
