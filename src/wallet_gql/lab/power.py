"""How much a clean `lab check` is worth: it is run on backends that were broken on purpose, under several seeds.

A trial is one history of `check`, and with `faults` so many faults of `fault` after a history that finds nothing.

A *mutant* is one mistake: a function that takes a `pytest.MonkeyPatch` and breaks the product with it. They are told by
the name of a module with a mapping `MUTANTS`, name to function, such as `tests.integration.mutants`. Each mutant runs
in processes of its own, which nothing of another mutant can disturb and which can be ended; a process makes a few
trials one after the other on the same servers, for starting those would take most of the time. The sound backend is
tried, too: whoever convicts that one convicts wrongly.

As a program it is some trials, and prints the verdict of each as a line of JSON:

```
python -m wallet_gql.lab.power MODULE MUTANT BACKEND FAULTS SEED …
```
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, Final, Self

from ..domain.errors import ConfigurationError
from ..testing import crash
from ..testing.harness import harness_for
from ..testing.patience import patience
from ..testing.servers.keeper import keep
from ..testing.servers.process import ServerMissing
from .broken import SOUND, command, load, spoil
from .check import Report, run
from .environment import DIRTY, commit
from .fault import suffer
from .results import read
from .stats import CONFIDENCE
from .workload import Size

ENOUGH: Final = 0.95
"""The share of seeds below which a mutant is named as weakly convicted."""

TRIAL_SECONDS_MAX: Final = 120.0
"""For a history; each fault has as many seconds more as `FAULT_SECONDS_MAX` says."""
FAULT_SECONDS_MAX: Final = 20.0
TRIAL_SIZE: Final = Size(writes=200)
TOGETHER: Final = 5
"""How many trials a process makes."""
ENDLESS: Final = "the trial does not end"
_FOLDERS: Final = re.compile(r"(?<![\w./:])(?:/[\w.-]+)+/(?=[\w.-])")


@dataclass(slots=True)
class Power:
    """All trials of one mutant. `found` is what the first conviction says."""

    mutant: str
    seeds: list[int] = field(default_factory=list)
    """Of each trial."""
    seconds: list[float] = field(default_factory=list)
    """Of each conviction: from the start of the recording."""
    found: str = ""

    @classmethod
    def of(cls, mutant: str, plain: Mapping[str, Any]) -> Self:
        """What `plain` has made of it."""
        return cls(mutant, plain["seeds"], plain["seconds"], plain["found"])

    @property
    def trials(self) -> int:
        """How many there were."""
        return len(self.seeds)

    @property
    def convicted(self) -> int:
        """How many trials have convicted it."""
        return len(self.seconds)

    @property
    def rate(self) -> float:
        """The share of trials that have."""
        return self.convicted / self.trials

    @property
    def bounds(self) -> tuple[float, float]:
        """The exact 95 % interval of the rate (Clopper and Pearson)."""
        from scipy.stats import binomtest  # noqa: PLC0415 - it takes a second and a half

        found = binomtest(self.convicted, self.trials).proportion_ci(CONFIDENCE, method="exact")
        return float(found.low), float(found.high)

    @property
    def median_seconds(self) -> float | None:
        """The median time to a conviction; None without any."""
        return median(self.seconds) if self.seconds else None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        counts = {"trials": self.trials, "convicted": self.convicted, "interval": list(self.bounds)}
        return {**counts, "seeds": self.seeds, "seconds": self.seconds, "found": self.found}


def mutants_of(module: str) -> Collection[str]:
    """The names of a module's mutants. Raises ConfigurationError."""
    try:
        return load(module).keys()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"{module} has no MUTANTS: {error}") from error


def parts(backend: str, faults: int, found: Iterable[Power]) -> dict[str, Any]:
    """What `power.json` has of these trials."""
    under = {"faults": faults, "commit": commit()}
    return {f"{backend} {one.mutant}": {**one.plain(), **under} for one in found}


def weak(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """By backend, the mutants of a `power.json` that less than `ENOUGH` of the trials convict."""
    found: dict[str, list[str]] = {}
    for name, told in results.items():
        backend, _, mutant = name.partition(" ")
        rare = mutant != SOUND and told["convicted"] < ENOUGH * told["trials"]
        found.setdefault(backend, []).extend([mutant] if rare else [])
    return found


def earlier(out: Path | None, backend: str, faults: int) -> dict[str, Power]:
    """What a folder has of trials of this commit, each with as many faults, by mutant; nothing if that is changed."""
    now = commit() or DIRTY
    found = {} if out is None or now.endswith(DIRTY) else read(out, "power")
    under = {"faults": faults, "commit": now}
    named = {name.removeprefix(f"{backend} "): told for name, told in found.items() if name.startswith(f"{backend} ")}
    return {name: Power.of(name, told) for name, told in named.items() if told.items() >= under.items()}


async def power(
    backend: str,
    module: str,
    mutants: Iterable[str],
    seeds: Iterable[int],
    *,
    faults: int = 0,
    at_once: int = 1,
    step: Callable[[], object] = lambda: None,
    before: Mapping[str, Power] = MappingProxyType({}),
    told: Callable[[Sequence[Power]], object] = lambda _: None,
) -> list[Power]:
    """Every mutant and the sound backend under every seed.

    Args:
        at_once: how many processes make trials side by side.
        step: called after the trials of each seed and mutant.
        before: earlier trials, by mutant. Their seeds are not tried again.
        told: gets all there is after every few trials.

    Raises:
        ConfigurationError: a trial cannot be run.
    """
    tallies = [before.get(name, Power(name)) for name in (SOUND, *mutants)]
    turns, drawn = asyncio.Semaphore(at_once), list(seeds)

    async def tried(tally: Power, some: Sequence[int]) -> None:
        left = [seed for seed in some if seed not in tally.seeds]
        async with turns, aclosing(_trials(module, tally.mutant, backend, left, faults)) as trials:
            async for seed, said, seconds in trials:
                tally.seeds.append(seed)
                if said:
                    tally.seconds.append(seconds)
                    tally.found = tally.found or said
        for _ in some:
            step()
        told([one for one in tallies if one.trials])

    try:
        async with asyncio.TaskGroup() as all_trials:
            for some in (drawn[start : start + TOGETHER] for start in range(0, len(drawn), TOGETHER)):
                for tally in tallies:
                    all_trials.create_task(tried(tally, some))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return tallies


async def _trials(
    module: str, mutant: str, backend: str, seeds: Sequence[int], faults: int
) -> AsyncGenerator[tuple[int, str, float]]:
    """Of each seed what convicts the mutant, empty if nothing does, and after how many seconds.

    Raises ConfigurationError: a trial cannot be run.
    """
    left = list(seeds)
    while left:
        given = (module, mutant, backend, str(faults), *map(str, left))
        with tempfile.TemporaryFile() as complaints:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", __name__, *given), stdout=PIPE, stderr=complaints, stdin=DEVNULL
            )
            keep(process.pid)
            try:
                while left:
                    verdict = await _verdict(process, faults)
                    if verdict is None:
                        complaints.seek(0)
                        complaint = complaints.read()[-500:].decode(errors="replace")
                        raise ConfigurationError(f"{' '.join(given)}: {complaint}")
                    yield left.pop(0), *verdict
                    if verdict[0] == ENDLESS:
                        break
            finally:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


async def _verdict(process: Process, faults: int) -> tuple[str, float] | None:
    """What the next trial of a process says, and how long it took; None if it has ended."""
    assert process.stdout is not None
    began = time.monotonic()
    try:
        async with asyncio.timeout(patience(TRIAL_SECONDS_MAX + faults * FAULT_SECONDS_MAX)):
            line = await process.stdout.readline()
    except TimeoutError:
        return ENDLESS, time.monotonic() - began
    if not line:
        return None
    verdict = json.loads(line)
    return verdict["found"], verdict["seconds"]


async def judged(backend: str, seed: int, faults: int = 0) -> str:
    """What a history says against this process's own product, then what faults say; also an error that ends them.

    Raises ServerMissing: nothing was tried.
    """
    with tempfile.TemporaryDirectory() as folder:
        history, under_faults = Path(folder) / "history", Path(folder) / "faults"
        history.mkdir()
        under_faults.mkdir()
        try:
            return await _history(backend, history, seed) or await _faults(backend, under_faults, seed, faults)
        except ServerMissing:
            raise
        except Exception as error:  # noqa: BLE001 - a mutant may break anything
            return f"{type(error).__name__}: {error}"


async def _history(backend: str, folder: Path, seed: int) -> str:
    harness, report = harness_for(backend), Report(backend)
    _, judgement = await run(harness, folder, seed, TRIAL_SIZE)
    report.add(seed, judgement, harness.claims)
    below = [str(one.anomaly) for one in report.verdicts.values() if one.seen < one.claim]
    return "; ".join([*judgement.faults, *below][:3])


async def _faults(backend: str, folder: Path, seed: int, faults: int) -> str:
    if not faults:
        return ""
    told, _ = await suffer(harness_for(backend), folder, seed, faults)
    return "; ".join(told.wrong[:3])


def without_folders(text: str) -> str:
    """The text with absolute paths cut down to their last parts: a published result names no folder of a machine."""
    return _FOLDERS.sub("", text)


def main(arguments: Sequence[str]) -> None:
    """The trials."""
    module, mutant, backend, faults, *seeds = arguments
    spoil(module, mutant)
    crash.WRITER = command(module, mutant)
    for seed in seeds:
        began = time.monotonic()
        found = asyncio.run(judged(backend, int(seed), int(faults)))
        seconds = time.monotonic() - began
        print(json.dumps({"found": without_folders(found)[:500], "seconds": seconds}), flush=True)  # noqa: T201 - its output


if __name__ == "__main__":
    main(sys.argv[1:])
