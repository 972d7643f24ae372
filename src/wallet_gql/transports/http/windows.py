"""Sliding windows in memory, as the library `limits` counts them, for the limits of one process.

Each key has the number of hits in the present window of fixed length, and in the one before. The one before counts by
the share of it that lies within one length before now. The library's own counters in memory take four times as long:
they build a text for each key and await each look.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from limits import RateLimitItem

_SWEEP_SECONDS: Final = 30.0

Window = tuple[int, float, int, float]
"""Hits in the window before, the seconds for which they count, hits in the present one, the seconds for which they do:
what the library calls a sliding window, too."""


class Windows:
    """The counters of one process. Nothing is awaited between looking and counting, so a race gains nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds and never goes back."""
        self._clock = clock
        self._swept_at = clock()
        self._counts: dict[tuple[str, ...], tuple[float, float, int, int]] = {}
        """Key -> when the present window began, its length, its hits, and those of the window before."""

    def __len__(self) -> int:
        """The number of keys in memory."""
        return len(self._counts)

    def add(self, item: RateLimitItem, *key: str, times: int = 1) -> bool:
        """Count so many hits, unless there would be more than the limit; returns whether there are not."""
        span = item.get_expiry()
        now = self._clock()
        began, current, before = self._look(key, span, now)
        if int(current + before * (1 - (now - began) / span)) + times > item.amount:
            return False
        self._counts[key] = began, span, current + times, before
        return True

    def window(self, item: RateLimitItem, *key: str) -> Window:
        """What is counted now."""
        span = item.get_expiry()
        now = self._clock()
        began, current, before = self._look(key, span, now)
        ends = began + span - now
        return before, ends if before else 0.0, current, ends + span

    def _look(self, key: tuple[str, ...], span: int, now: float) -> tuple[float, int, int]:
        """When the present window began, its hits, and those of the window before."""
        if now - self._swept_at > _SWEEP_SECONDS:
            self._sweep(now)
        start = now - now % span
        began, _, current, before = self._counts.get(key, (start, span, 0, 0))
        if began == start:
            return start, current, before
        return start, 0, current if began == start - span else 0

    def _sweep(self, now: float) -> None:
        """Forget what no longer counts."""
        self._swept_at = now
        for key in [key for key, (began, span, _, _) in self._counts.items() if began + 2 * span <= now]:
            del self._counts[key]
