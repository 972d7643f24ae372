"""Sliding windows in memory, as the library `limits` counts them, for the limits of one process.

Each key has the number of hits in the present window of fixed length, and in the one before. The one before counts by
the share of it that lies within one length before now. The library's own counters in memory take four times as long:
they build a text for each key and await each look.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from limits import RateLimitItemPerSecond

_SWEEP_SECONDS: Final = 30.0

Window = tuple[int, float, int, float]
"""Hits in the window before, the seconds for which they count, hits in the present one, the seconds for which they do:
what the library calls a sliding window, too."""


class Limit:
    """At most `most` hits in `span` seconds; `item` is what the library calls it."""

    __slots__ = ("item", "most", "span")

    def __init__(self, most: int, span: int, namespace: str) -> None:
        self.most = most
        self.span = span
        self.item = RateLimitItemPerSecond(most, span, namespace=namespace)


class _Counter:
    """What is counted under one key."""

    __slots__ = ("before", "began", "hits", "span")

    def __init__(self, began: float, span: int) -> None:
        self.began = began
        self.span = span
        self.hits = 0
        self.before = 0

    def turn(self, start: float) -> None:
        """Begin the window that starts then."""
        self.before = self.hits if self.began == start - self.span else 0
        self.began, self.hits = start, 0


class Windows:
    """The counters of one process. Nothing is awaited between looking and counting, so a race gains nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds and never goes back."""
        self._clock = clock
        self._swept_at = clock()
        self._counters: dict[tuple[str, ...], _Counter] = {}

    def __len__(self) -> int:
        """The number of keys in memory."""
        return len(self._counters)

    def add(self, limit: Limit, key: tuple[str, ...], times: int = 1) -> bool:
        """Count so many hits, unless there would be more than the limit; returns whether there are not."""
        now = self._clock()
        start = now - now % limit.span
        counter = self._counters.get(key)
        if counter is None or counter.began != start:
            counter = self._turned(limit, key, now, start)
        hits = counter.hits + times
        if counter.before:
            if int(counter.hits + counter.before * (1 - (now - start) / limit.span)) + times > limit.most:
                return False
        elif hits > limit.most:
            return False
        counter.hits = hits
        return True

    def window(self, limit: Limit, key: tuple[str, ...]) -> Window:
        """What is counted now."""
        now = self._clock()
        start = now - now % limit.span
        counter = self._counters.get(key)
        if counter is None or counter.began < start - limit.span:
            before, hits = 0, 0
        elif counter.began == start:
            before, hits = counter.before, counter.hits
        else:
            before, hits = counter.hits, 0
        ends = start + limit.span - now
        return before, ends if before else 0.0, hits, ends + limit.span

    def _turned(self, limit: Limit, key: tuple[str, ...], now: float, start: float) -> _Counter:
        """The key's counter in the window that starts then."""
        if now - self._swept_at > _SWEEP_SECONDS:
            self._sweep(now)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = _Counter(start, limit.span)
        else:
            counter.turn(start)
        return counter

    def _sweep(self, now: float) -> None:
        """Forget what no longer counts."""
        self._swept_at = now
        for key in [key for key, its in self._counters.items() if its.began + 2 * its.span <= now]:
            del self._counters[key]
