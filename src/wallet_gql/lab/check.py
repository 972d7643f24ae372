"""Judges a history, and compares what many histories have shown with what the backend claims.

*Faults* are what no claim permits: books that are wrong, an effect that was lost or doubled, an answer or a read that
differs from the books, a refusal without a cause. *Levels* come from the cycles of `graph`, for each scope.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from ..domain.errors import InvariantViolated
from ..domain.model import Hold, Transfer
from ..testing.harness import Harness, harness_for
from ..testing.history import check as check_effects
from ..testing.levels import Claims, Level
from ..testing.raw import flushed
from ..testing.world import World
from .emptiness import check_empty
from .formats import write_all
from .graph import Anomaly, gravest, operations_of, pending_at, torn_holds
from .history import Call, History
from .refusals import illegal_refusals
from .workload import Size, record

Recording = Callable[[World, int, Size], Awaitable[History]]
Scope = Literal["account", "node", "across"]
SCOPES: Final[tuple[Scope, ...]] = ("account", "node", "across")
MORE: Final = 5
COMMITS: Final = 10
"""Commands whose flushes are counted."""


@dataclass(slots=True)
class Judgement:
    """What one history shows. A scope that the ledger does not have, such as across nodes, has no level."""

    levels: dict[Scope, Level] = field(default_factory=dict)
    anomalies: dict[Scope, Anomaly] = field(default_factory=dict)
    """The gravest of each scope that has any."""
    faults: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    fractured: int = 0
    """Reads of all accounts whose sum is not the bank's total."""
    whole_reads: int = 0
    not_counted: str = ""
    """Why flushes were not counted, if they were not."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        counts = {"outcomes": self.outcomes, "fractured": self.fractured, "wholeReads": self.whole_reads}
        return {**counts, "faults": self.faults, "flushesNotCounted": self.not_counted}

    @property
    def summary(self) -> str:
        """The counts, in one line."""
        counts = ", ".join(f"{count:,} {what}" for what, count in sorted(self.outcomes.items()))
        unknown = f"; flushes not counted: {self.not_counted}" if self.not_counted else ""
        return f"{counts}; {self.fractured} of {self.whole_reads} reads of all accounts are fractured{unknown}"


@dataclass(slots=True)
class Verdict:
    """One scope of one backend, over all its runs."""

    claim: Level
    seen: Level
    runs: int = 0
    anomaly: Anomaly | None = None
    """The gravest that any run shows."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        levels = {"claim": str(self.claim), "seen": str(self.seen), "verdict": self.text, "runs": self.runs}
        return {**levels, "anomaly": str(self.anomaly) if self.anomaly else None}

    @property
    def text(self) -> str:
        """`holds`, or which way the claim is wrong."""
        if self.seen < self.claim:
            return "below its claim"
        return "holds" if self.seen == self.claim else "above its claim"


@dataclass(slots=True)
class Report:
    """All runs of one backend."""

    backend: str
    verdicts: dict[Scope, Verdict] = field(default_factory=dict)
    runs: dict[int, Judgement] = field(default_factory=dict)
    """By seed."""

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong and each claim is met exactly."""
        return not self._faults and all(verdict.text == "holds" for verdict in self.verdicts.values())

    @property
    def claims_too_little(self) -> bool:
        """Whether nothing else is wrong than that no run has shown what a claim permits."""
        texts = {verdict.text for verdict in self.verdicts.values()}
        return "above its claim" in texts and "below its claim" not in texts and not self._faults

    @property
    def _faults(self) -> bool:
        return any(run.faults for run in self.runs.values())

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        scopes = {scope: verdict.plain() for scope, verdict in self.verdicts.items()}
        runs = {str(seed): run.plain() for seed, run in self.runs.items()}
        return {"holds": self.holds, "scopes": scopes, "runs": runs}

    def add(self, seed: int, judgement: Judgement, claims: Claims) -> None:
        """Count one more run."""
        self.runs[seed] = judgement
        for scope, level in judgement.levels.items():
            verdict = self.verdicts.setdefault(scope, Verdict(getattr(claims, scope), Level.PL_SS))
            verdict.runs += 1
            if level < verdict.seen:
                verdict.seen, verdict.anomaly = level, judgement.anomalies[scope]


async def check(
    backend: str, seeds: Iterable[int], size: Size, out: Path | None = None, step: Callable[[], object] = lambda: None
) -> Report:
    """One history for each seed, each on an empty ledger; files go into `out`, and `step` is called after each.

    It is chance which history shows what a claim permits. So while nothing is wrong but that no history has yet,
    further seeds follow, in all up to `MORE` times as many.

    Raises LookupError for an unknown backend, ServerMissing if its server cannot be started here.
    """
    report, given = Report(backend), list(seeds)
    further = range(given[-1] + 1, given[-1] + 1 + (MORE - 1) * len(given))
    for place, seed in enumerate([*given, *further]):
        if place >= len(given) and not report.claims_too_little:
            break
        harness = harness_for(backend)
        with tempfile.TemporaryDirectory() as folder:
            history, judgement = await run(harness, Path(folder), seed, size)
        report.add(seed, judgement, harness.claims)
        if out is not None:
            write_all(history, out)
        if place < len(given):
            step()
    return report


async def run(
    harness: Harness, folder: Path, seed: int, size: Size, recording: Recording = record
) -> tuple[History, Judgement]:
    """Record a history on an empty ledger in an empty folder, and judge it.

    Raises ServerMissing; ConfigurationError if the ledger is not empty.
    """
    world = World(harness, folder, seed=seed)
    history, wrong, not_counted = None, "", ""
    try:
        async with world:
            await check_empty(world.store)
            history = await recording(world, seed, size)
            not_counted = await _unflushed(world, history)
    except (AssertionError, InvariantViolated) as error:  # the books, which the world checks at its end
        wrong = str(error) or repr(error)
        if history is None:
            raise
    judgement = judge(history)
    judgement.faults += [wrong] if wrong else []
    judgement.not_counted = not_counted
    return history, judgement


async def _unflushed(world: World, history: History) -> str:
    """Whether answers have waited for the disk: if not it is a fault. Returns why flushes were not counted, if so."""
    flushes = await flushed(world, COMMITS)
    if flushes.count is not None and flushes.count < COMMITS:
        history.strange.append(f"{COMMITS} commands, one after another, were answered after {flushes.count} flushes")
    return flushes.why


def judge(history: History) -> Judgement:
    """All checks of one history but those of the books, which `World` makes at its end."""
    found = Judgement(faults=list(history.strange))
    found.outcomes.update(f"{call.verb} {call.outcome}" for call in history.calls)
    found.faults += _faults(history)
    by_node: dict[str, list[str]] = defaultdict(list)
    for account, node in history.homes.items():
        by_node[node].append(account)
    groups: dict[Scope, list[list[str]]] = {
        "account": [[account] for account in history.accounts],
        "node": list(by_node.values()),
        "across": [list(history.accounts)] if len(by_node) > 1 else [],
    }
    if not found.faults:  # wrong versions would make up cycles
        for scope, some in groups.items():
            _levels(found, history, scope, some)
    totals = [sum(s.posted_minor for s in c.seen.values()) for c in history.calls if set(c.seen) == set(history.homes)]
    total = sum(map(history.opening_minor, history.accounts))
    found.whole_reads, found.fractured = len(totals), sum(each != total for each in totals)
    return found


def _faults(history: History) -> Iterator[str]:
    for check in (_effects, _answers, _reads, illegal_refusals):
        try:
            yield from check(history)
        except (LookupError, ValueError) as error:
            yield f"the books contradict themselves or the answers: {error!r}"


def _levels(found: Judgement, history: History, scope: Scope, groups: Sequence[Sequence[str]]) -> None:
    for accounts in groups:
        found.levels.setdefault(scope, Level.PL_SS)
        for seen in (torn_holds(history, accounts), gravest(operations_of(history, accounts))):
            if seen is not None and seen.permitted_by < found.levels[scope]:
                found.levels[scope], found.anomalies[scope] = seen.permitted_by, seen


def _effects(history: History) -> Iterator[str]:
    """Each key has its one effect, and the entries of an account are in the order of real time."""
    yield from check_effects(history.operations(), history.books)


def _answers(history: History) -> Iterator[str]:
    """What was answered is what the books have, in every field that cannot change later."""
    for call in history.calls:
        answered = call.result
        if isinstance(answered, Transfer):
            kept: object = history.books.transfers.get(answered.id)
            if answered != kept:
                yield f"{call.verb} {call.key}: {answered} was answered, the books have {kept}"
        elif isinstance(answered, Hold):
            hold = history.books.holds.get(answered.id)
            if hold is None or _fixed(answered) != _fixed(hold):
                yield f"{call.verb} {call.key}: {answered} was answered, the books have {hold}"


def _fixed(hold: Hold) -> tuple[Any, ...]:
    return (hold.account_id, hold.payee_account_id, hold.amount_minor, hold.created_at, hold.expires_at, hold.reference)


def _reads(history: History) -> Iterator[str]:
    """Every read tells a balance that its account had, and every page the entries of its account (G1a)."""
    for number, call in enumerate(history.calls):
        if call.is_read and call.outcome == "ok":
            for name in call.asked["accounts"]:
                yield from (f"{call.verb} #{number} of {name}: {fault}" for fault in _read(history, call, name))


def _read(history: History, call: Call, account: str) -> Iterator[str]:
    seen, entries = call.seen.get(account), history.books.entries[account]
    if seen is None:
        yield "found nothing"
        return
    if not history.opening[account] <= seen.sequence <= len(entries):
        yield f"told {seen.sequence} entries, there were {history.opening[account]} to {len(entries)}"
        return
    balance_minor = entries[seen.sequence - 1].balance_minor
    if pending_at(history, account, seen) is None or (call.page and balance_minor != seen.posted_minor):
        yield f"told {seen.posted_minor} after {seen.sequence} entries, the books have {balance_minor}"
    if call.page:
        oldest = call.page[-1][0]
        kept = entries[max(oldest - 1, 0) : seen.sequence]
        lines = tuple((e.sequence, e.transfer_id, e.amount_minor, e.balance_minor) for e in reversed(kept))
        if lines != call.page:
            yield f"told the lines {oldest} to {seen.sequence} otherwise than the books have them"
