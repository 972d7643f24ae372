"""A seeded event loop: ready callbacks run in random order, and time jumps to the next timer instead of waiting.

For stores inside the process (memory). A run can be repeated from its seed, so that an interleaving that breaks a
promise can be found, shrunk and run again. A callback still runs after the one that scheduled it, as asyncio promises;
only the order of callbacks that are ready at the same moment is random, about which asyncio promises nothing.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import deque
from typing import Any, Final

START_SECONDS: Final = 1_000.0


class _Leap(selectors.DefaultSelector):
    """Never waits for a timer: if no socket is ready, the clock jumps by the time to wait."""

    jumped_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Select without waiting, unless nothing is ready and there is no timer: another thread may wake the loop."""
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None and timeout > 0:
            self.jumped_seconds += timeout
        return ready


class ShuffledLoop(asyncio.SelectorEventLoop):
    """An event loop with random order and jumping time, for `asyncio.Runner(loop_factory=…)`."""

    _ready: deque[Any]

    def __init__(self, seed: int) -> None:
        """`seed` determines the order."""
        self._leap = _Leap()
        self._random = random.Random(seed)
        super().__init__(self._leap)

    def time(self) -> float:
        """Seconds on the loop's own clock."""
        return START_SECONDS + self._leap.jumped_seconds

    def _run_once(self) -> None:
        if len(self._ready) > 1:
            mixed = list(self._ready)
            self._random.shuffle(mixed)
            self._ready.clear()
            self._ready.extend(mixed)
        super()._run_once()  # type: ignore[misc]  # not in the published interface
