"""Figures of repeated rounds, with the interval in which they lie; and those of single calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Final

import numpy as np
from hdrh.histogram import HdrHistogram

CONFIDENCE: Final = 0.95
P99_SAMPLES_MIN: Final = 1_000
"""With fewer calls, less than ten of them would decide about the 99th percentile."""
LATENCY_MAX_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """The median of the rounds, and the bounds of its 95 % interval; fewer than six rounds have no bounds."""

    median: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        bounds = "" if self.low is None or self.high is None else f" ({self.low:.3g} to {self.high:.3g})"
        return f"{self.median:.3g}{bounds}"


def interval(values: Sequence[float]) -> Interval:
    """The median of the values and its interval, from the binomial distribution of how many lie below the true median.

    It covers the true median in at least 95 of 100 cases, whatever the distribution. The bootstrap does not: of the
    median of 15 rounds it covers 88.
    """
    from scipy.stats import quantile_test  # noqa: PLC0415 - it takes a second and a half

    middle = float(np.median(values))
    found = quantile_test(values, p=0.5).confidence_interval(CONFIDENCE)
    return Interval(middle) if isnan(found.low) else Interval(middle, float(found.low), float(found.high))


def ratios(values: Sequence[float], base: Sequence[float]) -> Interval:
    """How many times as large as the base: each round is compared with the base's round beside it."""
    return interval([value / under for value, under in zip(values, base, strict=True)])


class Latencies:
    """A histogram of times, in microseconds, with three significant digits (HdrHistogram)."""

    def __init__(self) -> None:
        self._kept = HdrHistogram(1, LATENCY_MAX_US, 3)

    def add(self, microseconds: float) -> None:
        """Count one call."""
        self._kept.record_value(max(1, min(int(microseconds), LATENCY_MAX_US)))

    def include(self, other: Latencies) -> None:
        """Count all calls of another one, too."""
        self._kept.add(other._kept)

    @property
    def count(self) -> int:
        """How many calls."""
        return int(self._kept.get_total_count())

    def ms(self, percentile: float) -> float:
        """The latency in milliseconds that so many per cent of the calls do not exceed."""
        return float(self._kept.get_value_at_percentile(percentile)) / 1_000

    @property
    def p99_ms(self) -> float | None:
        """The 99th percentile; None where there are too few calls to tell it."""
        return self.ms(99) if self.count >= P99_SAMPLES_MIN else None
