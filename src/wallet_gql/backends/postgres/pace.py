"""How fast slots move: a mover works for a share of the time only, so that whoever pays keeps most of the nodes."""

from __future__ import annotations

import asyncio
import time
from typing import Final

SHARE: Final = 0.5
"""The share of the time in which a mover works, unless it is told otherwise.

Where all nodes and the payers share two cores, a mover without rests leaves about half of the payments, and one that
rests for half of the time about two thirds (`benchmarks/moves.py`).
"""


class Pace:
    """Makes a mover rest after each of its steps."""

    def __init__(self, share: float = 1.0, rate: float = 0.0) -> None:
        """`share` is above 0 and at most 1. `rate` is the most rows a second, if it is not 0."""
        self._share = share
        self._rate = rate
        self._rows = 0
        self._began = self._since = time.monotonic()

    def begin(self) -> None:
        """A step begins now."""
        self._since = time.monotonic()

    async def rest(self, rows: int) -> None:
        """The step has ended, and has copied so many rows: pause in proportion to the time that it took."""
        self._rows += rows
        now = time.monotonic()
        pause = (now - self._since) * (1.0 / self._share - 1.0)
        if self._rate:
            pause = max(pause, self._rows / self._rate - (now - self._began))
        if pause > 0:
            await asyncio.sleep(pause)
        self.begin()
