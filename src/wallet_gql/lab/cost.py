"""What a transfer costs a backend, in things that do not depend on the machine's speed, and in processor time.

Each cell is measured twice, with clients that wait for each answer. The first run counts: flushes from outside the
store, bytes and round trips by proxies, and whatever the servers count themselves; opening and closing a store without
any transfer is counted before, and subtracted. The second run has neither proxies nor a tracer, and takes processor
time.

A figure that a harness cannot tell is None, which is shown as "not measured".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Final

from ..storage import Store
from ..testing.harness import Harness
from ..testing.proxy import behind_proxies
from ..testing.servers.process import processor_seconds
from ..testing.world import World
from .doors import LedgerDoor
from .emptiness import check_empty
from .load import Target, settled
from .schedule import Schedule, Shape, draw

COMMON: Final = ("syncs", "log bytes", "commits", "requests", "round trips", "wire bytes", "client CPU us")
"""The columns that every backend has, in this order; then those that only some have."""
SERVER_CPU: Final = "server CPU us"
ACCOUNTS: Final = 32
_RECOVER_MAX: Final = 1_000

Figures = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Cost:
    """One cell. `figures` are for each transfer; `why` tells why flushes were not counted."""

    backend: str
    cross: float
    in_flight: int
    transfers: int
    figures: Figures = field(default_factory=dict)
    why: str = ""

    @property
    def name(self) -> str:
        """What tells it from other cells of its backend."""
        return f"cross={self.cross:g} inFlight={self.in_flight}"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"transfers": self.transfers, "perTransfer": self.figures, "why": self.why}


async def cost(
    harness: Harness,
    folder: Path,
    crosses: Sequence[float],
    in_flight: Sequence[int],
    *,
    transfers: int,
    seed: int = 1,
    step: Callable[[], object] = lambda: None,
) -> list[Cost]:
    """Every cell of one backend; without several nodes there is nothing to cross. The books are checked at the end.

    Raises ServerMissing; ConfigurationError if the ledger is not empty; AssertionError if the books are wrong.
    """
    found = []
    async with World(harness, folder, seed=seed) as world:
        await check_empty(world.store)
        target = Target(world, people := await settled(world, ACCOUNTS), LedgerDoor(world, people))
        wanted = crosses if world.store.capabilities.spans_nodes else [0.0]
        for cross, clients in product(wanted, in_flight):
            schedule = draw(Shape(seed=seed, operations=transfers, accounts=ACCOUNTS, cross=cross))
            found.append(await _cell(target, schedule, cross, clients))
            step()
    return found


async def _cell(target: Target, schedule: Schedule, cross: float, clients: int) -> Cost:
    harness, figures, why = target.world.harness, dict.fromkeys(COMMON), ""
    counts: Figures = {}
    if target.world.store.capabilities.durable:  # the ledger survives that its store is opened again
        idle, _ = await _counted(target, schedule[:0], clients)
        counts, why = await _counted(target, schedule, clients)
        counts = {name: _less(count, idle.get(name)) for name, count in counts.items()}
    spent = await _processor(target, schedule, clients)
    each = {name: None if count is None else count / len(schedule) for name, count in (counts | spent).items()}
    return Cost(harness.name, cross, clients, len(schedule), {**figures, **each}, why)


def _less(count: float | None, idle: float | None) -> float | None:
    return None if count is None or idle is None else max(0.0, count - idle)


async def _counted(target: Target, schedule: Schedule, clients: int) -> tuple[Figures, str]:
    """Open a store, run the schedule, and close it. What was counted, and why flushes were not."""
    harness = target.world.harness
    async with target.world.closed():
        await harness.counters()  # waits until earlier sessions have ended, and with that counted what they flushed
        async with behind_proxies(harness) as proxies, harness.flushes(0) as flushed:
            before = await harness.counters()
            async with harness.open() as store:
                await _run(target, schedule, clients, store)
            after = await harness.counters()
        found: Figures = {name: count - before[name] for name, count in after.items()}
        if proxies:
            found["round trips"] = sum(proxy.round_trips for proxy in proxies)
            found["wire bytes"] = sum(proxy.wire_bytes for proxy in proxies)
    if flushed.log_bytes is not None:
        found["log bytes"] = flushed.log_bytes
    return {**found, "syncs": flushed.count}, flushed.why


async def _run(target: Target, schedule: Schedule, clients: int, store: Store) -> None:
    target.door = LedgerDoor(target.world, target.people, store)
    if schedule:
        done = await target.run(schedule, clients)
        assert done.outcomes["ok"] == len(schedule), f"not all transfers were done: {dict(done.outcomes)}"
    while (await store.recover(_RECOVER_MAX)).credited:
        pass


async def _processor(target: Target, schedule: Schedule, clients: int) -> Figures:
    """Microseconds of this process and of the servers, each with its children."""
    pids = target.world.harness.pids()
    servers, own = _seconds(pids), time.process_time()
    await _run(target, schedule, clients, target.world.store)
    spent: Figures = {"client CPU us": (time.process_time() - own) * 1e6}
    later = _seconds(pids)
    return spent | {SERVER_CPU: None if servers is None or later is None else (later - servers) * 1e6}


def _seconds(pids: Sequence[int]) -> float | None:
    """None without servers, and where the system does not tell."""
    with suppress(OSError):
        return sum(map(processor_seconds, pids)) if pids else None
    return None


def columns(cells: Sequence[Mapping[str, float | None]]) -> list[str]:
    """The names of all figures that some cell has: the common ones first."""
    others = [name for figures in cells for name in figures if name not in COMMON]
    return list(dict.fromkeys((*COMMON, SERVER_CPU, *others)))


def shown(figure: float | None, without: str = "not measured") -> str:
    """A figure for people, or the text for none."""
    if figure is None:
        return without
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
