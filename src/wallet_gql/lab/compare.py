"""Two folders of results side by side: what has changed, and what cannot be told.

Figures of two folders were not measured side by side, so rounds cannot be paired. A ratio's bounds come from the bounds
of both figures, which makes them wide rather than wrong. Loads are compared only if both ran the same schedule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cost import shown
from .results import read
from .stats import Interval

Results = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both folders. `verdict` says in a word or two what to make of it."""

    what: str
    before: str
    after: str
    ratio: str
    verdict: str


def compare_folders(before: Path, after: Path) -> list[Change]:
    """Everything that both folders have. Raises FileNotFoundError if they have nothing in common."""
    parts = {"check": _levels, "load": _latencies, "cost": _costs, "fault": _anomalies, "power": _rates}
    found: list[Change] = []
    for name, changes in parts.items():
        one, other = read(before, name), read(after, name)
        for key in one:
            if key in other:
                found += changes(key, one[key], other[key])
    if not found:
        raise FileNotFoundError(f"{before} and {after} have no results of the same backend and cell")
    return found


def _levels(backend: str, before: Results, after: Results) -> Iterator[Change]:
    for scope, verdict in before["scopes"].items():
        other = after["scopes"].get(scope)
        if other is not None:
            one, two = verdict["seen"], other["seen"]
            yield Change(f"{backend}, level, {scope}", one, two, "", "same" if one == two else "differs")


def _latencies(cell: str, before: Results, after: Results) -> Iterator[Change]:
    what = f"{cell}, p50 ms"
    if before["schedule"] != after["schedule"]:
        yield Change(what, "", "", "", "other schedule")
    elif not (before["valid"] and after["valid"]):
        was, now = ("valid" if one["valid"] else "INVALID" for one in (before, after))
        yield Change(what, was, now, "", "invalid")
    else:
        one, other = Interval(*before["p50Ms"]), Interval(*after["p50Ms"])
        ratio = ratio_of(one, other)
        yield Change(what, str(one), str(other), str(ratio), verdict_on(ratio))


def ratio_of(before: Interval, after: Interval) -> Interval:
    """How many times as large it is after; without bounds unless both figures have them."""
    median = after.median / before.median
    if before.low is None or before.high is None or after.low is None or after.high is None:
        return Interval(median)
    return Interval(median, after.low / before.high, after.high / before.low)


def verdict_on(ratio: Interval) -> str:
    """Of a latency: changed only if the bounds leave out 1."""
    if ratio.low is None or ratio.high is None:
        return "too few rounds"
    if ratio.high < 1:
        return "faster"
    return "slower" if ratio.low > 1 else "cannot be told apart"


def _costs(cell: str, before: Results, after: Results) -> Iterator[Change]:
    for name, figure in before["perTransfer"].items():
        other = after["perTransfer"].get(name)
        if figure is not None and other is not None:
            ratio = f"{other / figure:.3g}" if figure else ""
            yield Change(f"{cell}, {name}", shown(figure), shown(other), ratio, "one run each")


def _anomalies(backend: str, before: Results, after: Results) -> Iterator[Change]:
    was, now = (len(one["anomalies"]) for one in (before, after))
    verdict = "anomalies" if was or now else "none"
    yield Change(f"{backend}, anomalies under faults", str(was), str(now), "", verdict)


def _rates(mutant: str, before: Results, after: Results) -> Iterator[Change]:
    (low, high), (other_low, other_high) = before["interval"], after["interval"]
    was, now = (f"{one['convicted']} of {one['trials']}" for one in (before, after))
    apart = high < other_low or other_high < low
    yield Change(f"{mutant}, convicted", was, now, "", "differs" if apart else "cannot be told apart")
