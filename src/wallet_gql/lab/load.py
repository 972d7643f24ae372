"""Runs schedules against backends and measures latency from the time at which each operation was *intended*.

An open loop sends every operation at its time, whether or not earlier ones were answered: a store that stalls for a
second delays all that was due in that second, and all of that is counted. A closed loop (`clients`) waits for answers,
measures from the moment of sending, and hides such stalls; it tells how much a store can do.

All backends run the same schedule in every round, one after another in an order that changes with the round.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..testing.harness import Harness
from ..testing.world import Person, World
from .doors import DOORS, Door
from .emptiness import check_empty
from .schedule import Api, Schedule, Shape, digest, draw
from .stats import Interval, Latencies, interval, ratios

OPENING_MINOR: Final = 10**9
ERRORS_MAX: Final = 0.01
"""A round with a larger share of unanswered operations measures something else than the store."""
WARM_UP: Final = 100
_ATTEMPTS_MAX: Final = 40
"""How many times so many people are made at most, until there are enough on two nodes."""


@dataclass(slots=True)
class Round:
    """One run of a schedule. `late_ms` is how late the sender itself was at most."""

    latencies: Latencies = field(default_factory=Latencies)
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    late_ms: float = 0.0

    @property
    def errors(self) -> float:
        """The share of operations without an answer."""
        return self.outcomes["unknown"] / max(1, self.outcomes.total())

    @property
    def per_second(self) -> float:
        """Answered operations a second."""
        return (self.outcomes["ok"] + self.outcomes["refused"]) / self.seconds

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        took = self.latencies
        figures = {"p50Ms": took.ms(50), "p99Ms": took.p99_ms, "maxMs": took.ms(100), "senderLateMs": self.late_ms}
        return {**figures, "outcomes": self.outcomes, "seconds": self.seconds, "perSecond": self.per_second}


@dataclass(slots=True)
class Measured:
    """All rounds of one backend and shape, through one API. `wrong` says what makes the figures invalid."""

    backend: str
    shape: Shape
    digest: str
    clients: int | None
    api: Api
    rounds: list[Round] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What tells it from other cells of its backend."""
        shape = self.shape
        how = f"{shape.rate:g}/s" if self.clients is None else f"{self.clients} clients"
        return f"{shape.mix} theta={shape.theta:g} reads={shape.reads:g} cross={shape.cross:g} {how}, {self.api}"

    def share(self, outcome: str) -> float:
        """The share of operations with this outcome."""
        counts = sum((one.outcomes for one in self.rounds), Counter())
        return counts[outcome] / max(1, counts.total())

    @property
    def medians_ms(self) -> list[float]:
        """Of each round."""
        return [one.latencies.ms(50) for one in self.rounds]

    @property
    def all_latencies(self) -> Latencies:
        """Of all rounds together."""
        together = Latencies()
        for one in self.rounds:
            together.include(one.latencies)
        return together

    @property
    def p50_ms(self) -> Interval:
        """The median of the rounds' medians."""
        return interval(self.medians_ms)

    @property
    def per_second(self) -> Interval:
        """Answered operations a second."""
        return interval([one.per_second for one in self.rounds])

    def against(self, base: Measured) -> Interval:
        """How many times as long as the base's the median latency is."""
        return ratios(self.medians_ms, base.medians_ms)

    def plain(self) -> dict[str, Any]:
        """For JSON. Invalid figures are left out."""
        shape = {name: getattr(self.shape, name) for name in Shape.__slots__}
        how = {"clients": self.clients, "api": self.api}
        facts = {"shape": shape, "schedule": self.digest, **how, "wrong": self.wrong}
        if self.wrong:
            return {**facts, "valid": False}
        rounds = [one.plain() for one in self.rounds]
        p50, done = self.p50_ms, self.per_second
        figures = {"p50Ms": [p50.median, p50.low, p50.high], "perSecond": [done.median, done.low, done.high]}
        return {**facts, "valid": True, **figures, "p99Ms": self.all_latencies.p99_ms, "rounds": rounds}


class Target:
    """One backend with people and money; several schedules may run on it, one after another."""

    def __init__(self, world: World, people: Sequence[Person], door: Door) -> None:
        """People with an even index are on one node, the others on another, where there are several."""
        self.world = world
        self.people = people
        self.door = door
        self._runs = 0

    async def run(self, schedule: Schedule, clients: int | None = None) -> Round:
        """Run it once, under fresh keys: at the planned times, or by so many clients as fast as they can."""
        self._runs += 1
        done = Round()
        began = time.monotonic()
        if clients is None:
            await self._open_loop(schedule, done, began)
        else:
            places = iter(range(len(schedule)))  # shared: each takes the next
            await asyncio.gather(*(self._client(schedule, places, done) for _ in range(clients)))
        done.seconds = time.monotonic() - began
        return done

    async def _open_loop(self, schedule: Schedule, done: Round, began: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            for place, planned in enumerate(schedule):
                intended = began + planned.at_us / 1e6
                await asyncio.sleep(max(0.0, intended - time.monotonic()))
                done.late_ms = max(done.late_ms, (time.monotonic() - intended) * 1e3)
                tasks.create_task(self._one(schedule, place, done, intended))

    async def _client(self, schedule: Schedule, places: Iterator[int], done: Round) -> None:
        for place in places:
            await self._one(schedule, place, done, time.monotonic())

    async def _one(self, schedule: Schedule, place: int, done: Round, since: float) -> None:
        planned = schedule[place]
        key = f"load-{self._runs}-{place if planned.again < 0 else planned.again}"
        outcome = await self.door.perform(planned, key)
        done.latencies.add((time.monotonic() - since) * 1e6)
        done.outcomes[outcome] += 1


@asynccontextmanager
async def prepared(world: World, accounts: int, api: Api = "ledger") -> AsyncIterator[Target]:
    """People with money, on two nodes where there are several, and the way in to the ledger."""
    people = await settled(world, accounts)
    async with DOORS[api](world, people) as door:
        yield Target(world, people, door)


async def settled(world: World, accounts: int) -> list[Person]:
    """So many people with money: every second one on one node, the others on another, where there are several."""
    by_node: dict[str | None, list[Person]] = defaultdict(list)
    sides = 2 if world.store.capabilities.spans_nodes else 1
    for _ in range(_ATTEMPTS_MAX):
        people = await world.people(accounts, OPENING_MINOR)
        books = await world.books()
        for person in people:
            by_node[books.node_of(person.account)].append(person)
        largest = sorted(by_node.values(), key=len, reverse=True)[:sides]
        if len(largest) == sides and len(largest[-1]) * sides >= accounts:
            return [largest[place % sides][place // sides] for place in range(accounts)]
    raise RuntimeError("too few people have their homes on two nodes")


async def compare(
    harnesses: Sequence[Harness],
    folder: Path,
    shapes: Sequence[Shape],
    *,
    rounds: int,
    clients: int | None = None,
    api: Api = "ledger",
) -> list[Measured]:
    """Every shape on every backend in interleaved rounds; the books are checked at the end.

    Raises ServerMissing; ValueError if `api` does not have what a shape asks for.
    """
    for shape in shapes:
        if api == "graphql" and shape.mix == "smallbank":
            raise ValueError("smallbank deposits and withdraws, which GraphQL does through a provider only")
    results: list[Measured] = []
    wrong: dict[str, list[str]] = {harness.name: [] for harness in harnesses}
    async with AsyncExitStack() as stack:
        targets: list[Target] = []
        for harness in harnesses:
            place = folder / str(len(targets))
            await asyncio.to_thread(place.mkdir)
            ledger = _ledger(World(harness, place, seed=shapes[0].seed), wrong[harness.name])
            world = await stack.enter_async_context(ledger)
            targets.append(await stack.enter_async_context(prepared(world, shapes[0].accounts, api)))
        for shape in shapes:
            results += await _interleaved(targets, shape, rounds, clients, api)
    for one in results:
        one.wrong += wrong[one.backend]
    return results


@asynccontextmanager
async def _ledger(world: World, wrong: list[str]) -> AsyncIterator[World]:
    """An open world; what its check of the books finds at the end is added to `wrong`."""
    try:
        async with world:
            await check_empty(world.store)
            yield world
    except AssertionError as error:
        wrong.append(str(error))


async def _interleaved(
    targets: Sequence[Target], shape: Shape, rounds: int, clients: int | None, api: Api
) -> list[Measured]:
    schedule = draw(shape)
    name = digest(schedule)
    measured = {target: Measured(target.world.harness.name, shape, name, clients, api) for target in targets}
    for target in targets:
        await target.run(schedule[:WARM_UP], clients)
    for number in range(rounds):
        for target in random.Random(number).sample(list(targets), len(targets)):
            done = await target.run(schedule, clients)
            measured[target].rounds.append(done)
            if done.errors > ERRORS_MAX:
                measured[target].wrong.append(f"round {number + 1}: {100 * done.errors:.1f} % without an answer")
    return list(measured.values())
