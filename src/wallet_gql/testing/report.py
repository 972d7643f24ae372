"""The results of the suite, without overstating them: how often each was tried, and what was not tried.

`pytest -p wallet_gql.testing.report …` prints a table for each class of tests; `scripts/compare.py` puts backends side
by side. A *trial* is one race, one fault or one repetition: a case in which chance may decide otherwise. Calls within
one race are not independent of one another, so they count as one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

GROUPS: Final = {
    "g1": "G1: all of a command's changes or none",
    "g2": "G2: nothing comes between load and apply",
    "g3": "G3: durable on return",
    "g4": "G4: a receipt key is unique",
    "g5": "G5: `decide` may run several times, one result is kept",
    "g6": "G6: refusals pass through, no driver's exception leaves",
    "g7": "G7: a fetch sees what was answered",
    "g8": "G8: an answer by the deadline, no half commits",
    "i2": "I2: what no decision may do",
    "trap": "the three traps of idempotency",
    "one_key": "one key, one effect, one answer",
    "race": "races",
    "read": "reading, paging, import, watching",
    "data": "what is read is what was written",
    "outage": "servers that are killed or do not answer: a `WalletError` in time",
    "user": "users, names and sessions",
    "capability": "capabilities are honest",
    "crash": "killed processes",
    "machine": "drawn commands, compared with a model",
}
"""The subject of tests, by the beginning of their names."""

OTHER: Final = "everything else"
DOUBT: Final = 0.05
"""A share of failures is ruled out if the result would be less likely than this: 5 %, so with 95 % confidence."""


def zero_of(trials: int) -> str:
    """No failure in `trials` independent trials, with the largest share of failures that remains possible, as text.

    A share p shows none in n trials with probability (1 - p)^n; below 5 % it is ruled out. Source: Hanley and
    Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249(13), 1983.
    """
    share = 1 - DOUBT ** (1 / trials)
    return f"0 of {trials:,} independent, at most {100 * share:.2g} % (95 %)"


@dataclass(slots=True)
class Cell:
    """The tests of one group on one backend."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    trials: int = 0
    not_tried: list[str] = field(default_factory=list)

    def add(self, outcome: str, said: Mapping[str, str]) -> None:
        """Count a test that `passed`, `failed` or was `skipped`, with the properties that it recorded."""
        setattr(self, outcome, getattr(self, outcome) + 1)
        if outcome == "passed":
            self.trials += int(said.get("trials", "1"))
            told = said.get("not_tried", "")
            self.not_tried += [what for what in told.split("; ") if what and what not in self.not_tried]

    @property
    def text(self) -> str:
        """The result in a few words."""
        if self.failed:
            return f"**{self.failed} of {self.passed + self.failed} tests fail**"
        if not self.passed:
            return "not tested" if self.skipped else "-"
        left_out = f"not tried: {', '.join(self.not_tried)}" if self.not_tried else ""
        return "; ".join(filter(None, (zero_of(self.trials) if self.trials else "", left_out))) or "not tried"


def group_of(test: str) -> str:
    """The group of a test, by its name."""
    from .conformance import Idempotency  # noqa: PLC0415 - the suite is imported only after pytest has started

    name = test.partition("[")[0]
    other = "one_key" if hasattr(Idempotency, name) else OTHER
    return next((group for group in GROUPS if name.startswith(f"test_{group}_")), other)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print a table for each class of tests that recorded trials."""
    said: dict[str, dict[str, str]] = defaultdict(dict)
    failed: set[str] = set()
    for reports in terminalreporter.stats.values():
        for report in reports:
            said[getattr(report, "nodeid", "")].update(getattr(report, "user_properties", ()))
            if getattr(report, "failed", False):
                failed.add(report.nodeid)
    classes: dict[str, dict[str, Cell]] = defaultdict(lambda: defaultdict(Cell))
    for name, properties in said.items():
        suite, _, test = name.rpartition("::")
        if "trials" in properties or name in failed:
            told = {key: str(value) for key, value in properties.items()}
            classes[suite][group_of(test)].add("failed" if name in failed else "passed", told)
    for suite, cells in classes.items():
        terminalreporter.section(suite)
        for group in (*GROUPS, OTHER):
            if group in cells:
                terminalreporter.line(f"{GROUPS.get(group, OTHER)}: {cells[group].text}")
