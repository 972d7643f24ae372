"""Crash trials: real processes on one ledger, killed at random moments, restarted, and checked.

A *trial* is one ledger with several kills. The victim (`writer`) runs with one failpoint armed, or is killed from
outside at a random moment. It is then restarted on the same history, and repeats the requests that got no answer. In
most trials a second writer runs all the time. At the end both settle, and the books, the audit and the histories must
agree: nothing answered is lost, nothing happened twice.

Everything is drawn from the seed before the trial begins, except the exact moment of kills from outside.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .. import failpoints
from ..books.audit import audit
from ..domain.ids import OPERATOR
from ..domain.model import Account
from .books import faults, read_books, scan_all
from .harness import Harness
from .history import Operations, Recorder, check, read_history
from .patience import patience
from .servers.keeper import keep
from .servers.process import is_stopped
from .world import CURRENCY, World
from .writer import ask

WRITER: Sequence[str] = (sys.executable, "-m", "wallet_gql.testing.writer")
"""The victims' command line up to its arguments; not final, for tests that break the product."""

PEOPLE: Final = 6
MONEY_MINOR: Final = 500
RANDOM: Final = "at random"
"""The window of kills from outside."""
FULL_DISK: Final = "on a full disk"
"""The window of kills after the victim's files reached their size limit (RLIMIT_FSIZE)."""

HIT_MAX: Final = 40
ALIVE_SECONDS_MAX: Final = 0.35
DEATH_WAIT_SECONDS: Final = 20.0
SETTLE_WAIT_SECONDS: Final = 240
STOPPED_SECONDS: Final = 0.4
FULL_SECONDS: Final = 0.1
DISK_STEP_BYTES: Final = 16 * 1024
HISTORY_BYTES: Final = 256 * 1024
"""Room for the victim's history file, which has the same limit."""


@dataclass(frozen=True, slots=True)
class Kill:
    """How one run of the victim ends: at the `hit`-th passing of `point`, or `alive_seconds` after its start.

    On a full disk, the victim's files may grow by a fixed room plus `hit` times 16 KiB; after a failure it is killed.

    With `stop` the process is first stopped there for a while (SIGSTOP), continued, and killed later.
    """

    point: str
    hit: int = 1
    alive_seconds: float = 0.0
    stop: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial, drawn before it begins."""

    seed: int
    kills: tuple[Kill, ...]
    companion: bool


Beside = Callable[[World], AbstractAsyncContextManager[None]]
"""Something that goes on in the trial's ledger beside the writers."""


@dataclass(slots=True)
class Tally:
    """The counts of trials. `windows` counts processes killed by SIGKILL, by place; `stops` those stopped."""

    windows: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    """Runs that ended before they reached their failpoint."""
    trials: int = 0
    companions: int = 0
    operations: int = 0
    answered: int = 0
    refused: int = 0
    cut_off: int = 0
    """Operations of which at least one call got no answer."""
    found_done: int = 0
    """Operations that a retry found done although the first call got no answer: proof that kills hit commits."""
    transfers: int = 0

    @property
    def kills(self) -> int:
        """How many processes died of SIGKILL."""
        return self.windows.total()

    def add(self, other: Tally) -> None:
        """Add another tally."""
        self.windows += other.windows
        self.stops += other.stops
        for name in ("missed", "trials", "companions", "operations", "answered", "refused", "cut_off"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.found_done += other.found_done
        self.transfers += other.transfers

    def table(self) -> str:
        """The counts as a table in Markdown."""
        rows = [(f"killed {window}", count) for window, count in sorted(self.windows.items())]
        rows += [(f"stopped {window} and continued", count) for window, count in sorted(self.stops.items())]
        rows += [
            ("kills in all", self.kills),
            ("lives that ended before their window", self.missed),
            ("trials (ledgers)", self.trials),
            ("trials with a second live writer", self.companions),
            ("operations asked", self.operations),
            ("answered as done", self.answered),
            ("answered as refused", self.refused),
            ("operations with a call that got no answer", self.cut_off),
            ("of these, found done when asked again", self.found_done),
            ("transfers in the books", self.transfers),
        ]
        return "\n".join(["| what | count |", "|---|---:|", *(f"| {name} | {count:,} |" for name, count in rows)])


def draw_trials(harness: Harness, seed: int, kills: int, *, per_trial: int = 10) -> list[Trial]:
    """Draw trials with `kills` kills in all, each window equally often: failpoints, random moments, full disks."""
    drawn = random.Random(seed)
    windows = [*harness.failpoints, RANDOM, *([FULL_DISK] if harness.has_files else [])]
    planned = [_draw_kill(drawn, windows[i % len(windows)]) for i in range(kills)]
    drawn.shuffle(planned)
    groups = [planned[i : i + per_trial] for i in range(0, kills, per_trial)]
    return [Trial(drawn.randrange(2**31), tuple(group), i % 3 != 0) for i, group in enumerate(groups)]


def _draw_kill(drawn: random.Random, window: str) -> Kill:
    if window == RANDOM:
        return Kill(RANDOM, alive_seconds=drawn.uniform(0.0, ALIVE_SECONDS_MAX))
    return Kill(window, hit=drawn.randint(1, HIT_MAX), stop=window != FULL_DISK and drawn.random() < 0.1)


@asynccontextmanager
async def _nothing(world: World) -> AsyncIterator[None]:
    del world
    yield


async def run_trial(
    harness: Harness, folder: Path, trial: Trial, *, command: Sequence[str] = (), beside: Beside = _nothing
) -> Tally:
    """Run one trial in an empty folder of its own.

    `command` replaces the victim's command line up to its arguments, for tests of the trial itself. `beside` runs while
    the writers do.

    Raises:
        AssertionError: names the seed and every contradiction found.
    """
    tally = Tally(trials=1, companions=int(trial.companion))
    lives = _Lives(command or WRITER, folder, trial)
    async with World(harness, folder, seed=trial.seed) as world:
        await _prepare(world, lives.setup)
        lives.url = harness.url
        try:
            async with beside(world):
                await _kill_all(lives, trial, tally)
        finally:
            await lives.end()
        operations = read_history([lives.setup, *lives.histories])
        _count(tally, operations)
        found = await _contradictions(world, operations, tally)
        assert not found, f"trial with seed {trial.seed} in {folder}: {'; '.join(found[:10])}"
    return tally


async def _prepare(world: World, history: Path) -> None:
    """Create people with money; their deposits have a history of their own."""
    people = await world.people(PEOPLE)
    with Recorder(history) as recorder:
        accounts = [account for account in await scan_all(world.store, "account") if isinstance(account, Account)]
        for transfer in (await world.books()).transfers.values():  # deposits that found the homes
            asked = {"verb": "deposit", "amount_minor": transfer.amount_minor}
            recorder.write("invoke", transfer.actor, transfer.idempotency_key, **asked)
        for person in people:
            asked = {"verb": "deposit", "account": person.account, "amount_minor": MONEY_MINOR}
            await ask(world.ledger, recorder, OPERATOR, world.key(), asked)
    assert len([account for account in accounts if account.currency == CURRENCY]) >= PEOPLE


class _Lives:
    """The processes of one trial: the victim's runs, one after the other, and the companion."""

    def __init__(self, command: Sequence[str], folder: Path, trial: Trial) -> None:
        self.command = command
        self.folder = folder
        self.url = ""
        self.setup = folder / "setup.jsonl"
        self.histories: list[Path] = []
        self._trial = trial
        self._started = 0
        self._running: list[Process] = []

    async def start(self, name: str, *options: str, point: str = "") -> Process:
        """Start a writer of that name, with a failpoint armed."""
        history = self.folder / f"history-{name}.jsonl"
        if history not in self.histories:
            history.touch()
            self.histories.append(history)
        self._started += 1
        seed = str(self._trial.seed + self._started)
        arguments = [self.url, str(history), "--name", name, "--seed", seed, *options]
        environment = {**os.environ, "WALLET_MODE": "test", failpoints.VARIABLE: point}
        process = await asyncio.create_subprocess_exec(
            *self.command, *arguments, env=environment, stdout=DEVNULL, stderr=PIPE
        )
        keep(process.pid)
        self._running.append(process)
        return process

    async def settle(self, name: str) -> None:
        """Run a writer of that name that only repeats unanswered requests, and ends. Raises AssertionError."""
        process = await self.start(name, "--operations", "0")
        _, said = await asyncio.wait_for(process.communicate(), patience(SETTLE_WAIT_SECONDS))
        assert process.returncode == 0, f"writer {name} could not settle: {said.decode()[-2000:]}"

    async def end(self) -> None:
        """End all processes."""
        for process in self._running:
            if process.returncode is None:
                process.kill()
                await process.communicate()


async def _kill_all(lives: _Lives, trial: Trial, tally: Tally) -> None:
    gentle = ("--timeout-seconds", "0.5", "--concurrency", "3")
    companion = await lives.start("companion", *gentle) if trial.companion else None
    for kill in trial.kills:
        await _one_life(lives, kill, tally)
        if companion is not None and companion.returncode is not None:
            said = await companion.stderr.read() if companion.stderr else b""
            raise AssertionError(f"seed {trial.seed}: the companion died: {said.decode()[-2000:]}")
    if companion is not None:
        await _murder(companion, RANDOM, tally)
        await lives.settle("companion")
    await lives.settle("victim")


async def _one_life(lives: _Lives, kill: Kill, tally: Tally) -> None:
    if kill.point == RANDOM:
        history = lives.folder / "history-victim.jsonl"
        before = _size(history)
        process = await lives.start("victim")
        await _until(lambda: _size(history) > before, process)
        await asyncio.sleep(kill.alive_seconds)
        await _murder(process, RANDOM, tally)
        return
    if kill.point == FULL_DISK:
        await _fill_the_disk(lives, kill, tally)
        return
    action = "stop" if kill.stop else "kill"
    process = await lives.start("victim", point=f"{kill.point}={action}@{kill.hit}")
    if kill.stop:
        try:
            await _until(lambda: is_stopped(process.pid), process)
        except TimeoutError:
            tally.missed += 1
            await _murder(process, RANDOM, tally)
            return
        tally.stops[kill.point] += 1
        await asyncio.sleep(STOPPED_SECONDS)
        process.send_signal(signal.SIGCONT)
        await asyncio.sleep(STOPPED_SECONDS / 4)
        await _murder(process, RANDOM, tally)
        return
    try:
        await asyncio.wait_for(process.wait(), patience(DEATH_WAIT_SECONDS))
    except TimeoutError:
        tally.missed += 1
        await _murder(process, RANDOM, tally)
        return
    await _read_death(process, kill.point, tally)


async def _fill_the_disk(lives: _Lives, kill: Kill, tally: Tally) -> None:
    """Make the victim's writes fail. It must not report success for them; nothing else may be missing afterwards."""
    history = lives.folder / "history-victim.jsonl"
    unknown = _failed(history)
    full = _size(history) + HISTORY_BYTES + kill.hit * DISK_STEP_BYTES
    process = await lives.start("victim", "--file-bytes-max", str(full))
    try:
        await _until(lambda: _failed(history) > unknown, process)
    except TimeoutError:
        tally.missed += 1
        await _murder(process, RANDOM, tally)
    else:
        await asyncio.sleep(FULL_SECONDS)
        await _murder(process, FULL_DISK, tally)


def _failed(history: Path) -> int:
    """How many calls of a history got no answer."""
    return history.read_bytes().count(b'{"event":"unknown"') if history.exists() else 0


async def _murder(process: Process, window: str, tally: Tally) -> None:
    if process.returncode is None:
        process.kill()
    await _read_death(process, window, tally)


async def _read_death(process: Process, window: str, tally: Tally) -> None:
    _, said = await process.communicate()
    lines = said.decode(errors="replace")[-2000:].splitlines() or [""]
    told = "\n".join((lines[-1], *lines))
    assert process.returncode == -signal.SIGKILL, f"a writer ended by itself: {told}"
    tally.windows[window] += 1


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def _until(seen: Callable[[], bool], process: Process) -> None:
    """Poll every few milliseconds until another process has done something; stop when that process ends."""
    async with asyncio.timeout(patience(DEATH_WAIT_SECONDS)):
        while not seen() and process.returncode is None:  # noqa: ASYNC110 - other processes cannot set an event here
            await asyncio.sleep(0.005)


def _count(tally: Tally, operations: Operations) -> None:
    for operation in operations.values():
        tally.operations += 1
        tally.answered += bool(operation.oks)
        tally.refused += bool(operation.refusals)
        cut_off = operation.attempts > len(operation.oks) + len(operation.refusals)
        tally.cut_off += cut_off
        tally.found_done += cut_off and bool(operation.oks) and all(replayed for _, _, replayed in operation.oks)


async def _contradictions(world: World, operations: Operations, tally: Tally) -> list[str]:
    """Everything wrong in the books, in the audit, and between the books and the histories."""
    await world.settle()
    books = await read_books(world.store)
    tally.transfers = len(books.transfers)
    report = await audit(world.store)
    found = faults(books) + check(operations, books)
    return found + [f"audit: {finding.record} {finding.problem}" for finding in report.findings]
