"""Faults under load: servers are killed and stopped, connections fail, clocks step, writing processes are killed.

All faults are drawn from the seed before anything runs. The clients of `workload` pay, hold and read all the time, over
proxies. After each fault the *clear time* is measured: how long after its end the requests that had no answer then took
to get one. At the end the history is judged as by `check`; a fault excuses no anomaly.

`fail` is an error inside a commit of this process, at one of the backend's failpoints.

`writers` is a kind of its own: real processes that pay are killed at each failpoint, at random, and on a full disk, and
started again (`testing.crash`). It needs no network, so it suits SQLite, too.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from .. import failpoints
from ..domain.changes import ReadSet
from ..domain.errors import ConfigurationError, WalletError
from ..domain.ids import AccountId
from ..storage import Store
from ..testing.crash import Tally, draw_trials, run_trial
from ..testing.harness import Harness
from ..testing.patience import patience, until
from ..testing.proxy import Proxy, behind_proxies
from ..testing.world import World
from ..verbs.ledger import utc_now
from .check import Judgement, Scope, run
from .history import History
from .schedule import KINDS, Kind
from .workload import Around, Size, record

ON_SERVERS: Final = ("kill", "stop")
ON_NETWORK: Final = ("cut", "half-close", "delay", "drop")

SIZE: Final = Size(people=8, attempts=1_000, write_pause=0.1, read_pause=0.2)
"""About a hundred requests a second: long histories take long to judge."""
SECONDS: Final = (0.1, 1.0)
CALM_SECONDS: Final = (0.1, 0.5)
CLEAR_SECONDS_MAX: Final = 60.0
CLOCK_STEPS: Final = (-30.0, 30.0)
READ_SECONDS_MAX: Final = 20.0
"""Within this time a read must say that a server is away."""
READS: Final = 20
READ_PAUSE_SECONDS: Final = 0.1
FAIL_SECONDS: Final = 0.05
"""So often does a failpoint fail."""
HITS_MAX: Final = 5
"""A failpoint fails at the latest when it is passed for this time."""
ANY: Final = b""
"""Every request contains this."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, how long it lasts, and the pause before it. `place` chooses the server or connection, `by` the step."""

    kind: Kind
    place: int
    seconds: float
    calm_seconds: float
    by_seconds: float


def draw_faults(seed: int, count: int, kinds: Sequence[Kind]) -> list[Fault]:
    """So many faults, each kind equally often, in random order."""
    drawn = random.Random(seed)
    planned = [kinds[place % len(kinds)] for place in range(count)]
    drawn.shuffle(planned)
    span = drawn.uniform
    return [
        Fault(kind, drawn.randrange(2**16), span(*SECONDS), span(*CALM_SECONDS), span(*CLOCK_STEPS)) for kind in planned
    ]


def kinds_of(text: str) -> list[Kind]:
    """Kinds with commas between them. Raises ConfigurationError."""
    named = text.split(",")
    found = [kind for kind in KINDS if kind in named]
    if len(found) < len(named):
        raise ConfigurationError(f"kinds of faults are {', '.join(KINDS)}")
    return found


@dataclass(slots=True)
class Suffered:
    """What one backend went through, and what that showed."""

    backend: str
    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    not_tried: list[str] = field(default_factory=list)
    clear_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By kind of fault."""
    silent_seconds: float = 0.0
    """The longest time in which nothing was answered."""
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Anomalies: what no backend may show, and levels below the claims."""
    nemesis: list[Any] = field(default_factory=list)
    crashes: Tally | None = None

    @property
    def clear(self) -> list[float]:
        """The clear times of all kinds, the shortest first."""
        return sorted(took for times in self.clear_seconds.values() for took in times)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        told = {"seed": self.seed, "faults": self.faults, "notTried": self.not_tried, "outcomes": self.outcomes}
        times = {"clearSeconds": self.clear_seconds, "longestSilenceSeconds": self.silent_seconds}
        crashes = None if self.crashes is None else _counts(self.crashes)
        return {**told, **times, "anomalies": self.wrong, "crashes": crashes, "schedule": self.nemesis}


def _counts(crashes: Tally) -> dict[str, Any]:
    names = ("trials", "operations", "answered", "refused", "cut_off", "found_done", "transfers")
    return {"windows": crashes.windows, **{name: getattr(crashes, name) for name in names}}


async def suffer(
    harness: Harness, folder: Path, seed: int, count: int, kinds: Sequence[Kind] = KINDS
) -> tuple[Suffered, History | None]:
    """So many faults on an empty ledger of a backend, and the history, if there is a server to reach.

    Raises ServerMissing; ConfigurationError if the ledger is not empty.
    """
    told, history = Suffered(harness.name, seed), None
    possible = await _possible(harness, folder / "look")
    told.not_tried = [kind for kind in kinds if kind not in possible]
    chosen: list[Kind] = [kind for kind in kinds if kind in possible]
    planned = draw_faults(seed, count, chosen) if chosen else []
    during = [fault for fault in planned if fault.kind != "writers"]
    if during:
        history, judgement = await _under_load(harness, folder / "load", during, told)
        _count(told, history, judgement, harness)
    kills = len(planned) - len(during)
    if kills:
        await _crash(harness.sibling(), folder / "writers", kills, told)
    return told, history


async def _possible(harness: Harness, folder: Path) -> set[str]:
    """The kinds that a harness has the means for."""
    await asyncio.to_thread(folder.mkdir, parents=True)
    looked = harness.sibling()
    await looked.start(folder)
    try:
        async with behind_proxies(looked) as proxies:
            networked = {*ON_NETWORK, "clock", "writers"} if proxies else set()
            killable = set(ON_SERVERS) if looked.servers() else set()
            failing = {"fail"} if looked.failpoints else set()
            return networked | killable | failing | ({"writers"} if looked.has_files else set())
    finally:
        await looked.stop()


async def _under_load(
    harness: Harness, folder: Path, planned: Sequence[Fault], told: Suffered
) -> tuple[History, Judgement]:
    async def recording(world: World, seed: int, size: Size) -> History:
        async with behind_proxies(harness) as proxies, AsyncExitStack() as stack:
            stores = [await stack.enter_async_context(harness.open()) for _ in range(2)]
            nemesis = _Nemesis(harness, proxies, planned, told)
            history = await record(world, seed, size, Around(stores, nemesis.clock, nemesis.run))
            history.strange += await _unanswered(harness, stores[0], tuple(map(AccountId, history.accounts)))
            return history

    await asyncio.to_thread(folder.mkdir, parents=True)
    return await run(harness, folder, told.seed, SIZE, recording)


async def _unanswered(harness: Harness, store: Store, accounts: Sequence[AccountId]) -> list[str]:
    """What is wrong with a read while a server is away for as long as the read takes: it must end in time."""
    away = list(harness.servers()[:1])
    await asyncio.gather(*(asyncio.to_thread(server.kill) for server in away))
    try:
        for _ in range(READS):  # a store may notice late, and read what it has open
            async with asyncio.timeout(patience(READ_SECONDS_MAX)):
                await store.fetch(ReadSet(accounts=tuple(accounts)))
            await asyncio.sleep(READ_PAUSE_SECONDS)
    except TimeoutError:
        return [f"a read has no answer after {READ_SECONDS_MAX:.0f} s while a server is away"]
    except WalletError as error:
        return [] if error.retryable else [f"a read was told {error.code} while a server is away: {error}"]
    except Exception as error:  # noqa: BLE001 - whatever a store lets out is a finding
        return [f"{type(error).__name__} left the store: {error}"]
    finally:
        await harness.restart(away)
    return []


class _Nemesis:
    """Carries out the faults, one after another, and measures how long each one's effect lasts."""

    def __init__(self, harness: Harness, proxies: Sequence[Proxy], planned: Sequence[Fault], told: Suffered) -> None:
        self._harness = harness
        self._proxies = proxies
        self._planned = planned
        self._told = told
        self._by = timedelta()

    def clock(self) -> datetime:
        """The time, for those whose clock steps."""
        return utc_now() + self._by

    async def run(self, history: History) -> None:
        """All faults. Each one waits until the effect of the one before is over."""
        for fault in self._planned:
            await asyncio.sleep(fault.calm_seconds)
            began = time.monotonic_ns()
            await self._apply(fault)
            ended, waiting = time.monotonic_ns(), set(history.asking)
            history.nemesis.append({**asdict(fault), "beganAt": began, "endedAt": ended})
            self._told.faults[fault.kind] += 1
            try:
                took = await until(lambda: not waiting & history.asking, CLEAR_SECONDS_MAX, str(fault), 0.005)  # noqa: B023 - called at once
                self._told.clear_seconds[fault.kind].append(took)
            except TimeoutError:
                history.strange.append(f"requests have no answer {CLEAR_SECONDS_MAX:.0f} s after {fault}")

    async def _apply(self, fault: Fault) -> None:
        if fault.kind in ON_SERVERS:
            await self._on_server(fault)
        elif fault.kind in ON_NETWORK:
            await self._on_network(fault)
        elif fault.kind == "fail":
            await self._fail(fault)
        else:
            self._by = timedelta(seconds=fault.by_seconds)
            await asyncio.sleep(fault.seconds)
            self._by = timedelta()

    async def _fail(self, fault: Fault) -> None:
        points = self._harness.failpoints
        point, hit = points[fault.place % len(points)], fault.place // len(points) % HITS_MAX + 1
        for _ in range(math.ceil(fault.seconds / FAIL_SECONDS)):
            failpoints.arm(f"{point}=fail@{hit}")
            await asyncio.sleep(FAIL_SECONDS)
        failpoints.arm("")

    async def _on_network(self, fault: Fault) -> None:
        proxy = self._proxies[fault.place % len(self._proxies)]
        if fault.kind == "cut":
            proxy.cut()
        elif fault.kind == "half-close":
            proxy.half_close()
        elif fault.kind == "drop":
            proxy.drop_reply(ANY)
        else:
            proxy.hold()
            await asyncio.sleep(fault.seconds)
            proxy.release()

    async def _on_server(self, fault: Fault) -> None:
        servers = self._harness.servers()
        server = servers[fault.place % len(servers)]
        stop, go_on = (server.kill, None) if fault.kind == "kill" else (server.pause, server.resume)
        await asyncio.to_thread(stop)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            await (self._harness.restart([server]) if go_on is None else asyncio.to_thread(go_on))


def _count(told: Suffered, history: History, judgement: Judgement, harness: Harness) -> None:
    told.outcomes, told.nemesis = judgement.outcomes, history.nemesis
    told.wrong += judgement.faults
    claims: dict[Scope, Any] = {scope: getattr(harness.claims, scope) for scope in judgement.levels}
    told.wrong += [
        f"{scope}: {judgement.anomalies[scope]}, below the claim {claims[scope]}"
        for scope, level in judgement.levels.items()
        if level < claims[scope]
    ]
    answers = sorted(call.ended_at for call in history.calls if call.outcome in ("ok", "refused"))
    gaps = (later - earlier for earlier, later in pairwise(answers))
    told.silent_seconds = max(gaps, default=0) / 1e9


async def _crash(harness: Harness, folder: Path, kills: int, told: Suffered) -> None:
    """Kills of writing processes; each contradiction is an anomaly."""
    told.crashes = Tally()
    for number, trial in enumerate(draw_trials(harness, told.seed, kills)):
        place = folder / str(number)
        await asyncio.to_thread(place.mkdir, parents=True)
        try:
            told.crashes.add(await run_trial(harness.sibling(), place, trial))
        except AssertionError as error:
            told.wrong.append(str(error))
    told.faults["writers"] += told.crashes.kills
