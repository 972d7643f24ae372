"""A seeded event loop: what is ready runs in a drawn order, and nobody waits, for time jumps to the next timer.

For stores that live in the process (memory): a run is repeatable from its seed, so that an interleaving that breaks a
promise can be found, shrunk and run again. What asyncio promises is kept (a callback runs after what scheduled it);
only the order among those that are ready at the same moment is drawn, which asyncio leaves open to its users.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import deque
from typing import Any, Final

START_SECONDS: Final = 1_000.0


class _Leap(selectors.DefaultSelector):
    """Waits for no timer: if no socket is ready, the clock jumps by the time that was to be waited."""

    jumped_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Look without waiting; with nothing ready and no timer, wait after all (another thread may wake us)."""
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None and timeout > 0:
            self.jumped_seconds += timeout
        return ready


class ShuffledLoop(asyncio.SelectorEventLoop):
    """An event loop of drawn order and jumping time; use it as `asyncio.Runner(loop_factory=…)`."""

    _ready: deque[Any]

    def __init__(self, seed: int) -> None:
        """`seed` decides every order."""
        self._leap = _Leap()
        self._random = random.Random(seed)
        super().__init__(self._leap)

    def time(self) -> float:
        """Seconds on a clock of its own."""
        return START_SECONDS + self._leap.jumped_seconds

    def _run_once(self) -> None:
        if len(self._ready) > 1:
            mixed = list(self._ready)
            self._random.shuffle(mixed)
            self._ready.clear()
            self._ready.extend(mixed)
        super()._run_once()  # type: ignore[misc]  # not in the published interface
