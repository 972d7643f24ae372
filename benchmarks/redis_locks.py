"""Compares Redis leases with two-phase commit: the same nodes and the same transfers, alternately in one run.

    python benchmarks/redis_locks.py [--rounds 5] [--seconds 3] [--only NAME …] [--json FILE]

Two Postgres nodes and a Redis are started for the run. In each round each protocol gets an empty ledger on both nodes.
All loads take turns, and within a load the two protocols, in alternating order, so that a disturbance hits both.
Figures are medians over the rounds; ratios are medians of the ratios of all rounds.

Loads: `local`, `half across`, `all across` (how many transfers have payer and payee on different nodes, uniform over
the accounts), `one payer` and `one payee` (one account is in every transfer, half of the others are on the other node).

`round trips` is the number of messages to Postgres and Redis for one transfer. `waits` is how many of a thousand
transfers left their batch because another one had leased a row. `late` is how many of a thousand were answered before
the payee was credited. After each run the books are audited and counted; if anything is wrong, no figure is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.environment import as_markdown, describe
from benchmarks.ledger import Book, Run, new_loop, open_book, prove
from wallet_gql.backends import open_store
from wallet_gql.backends.kit.group_commit import Deferred
from wallet_gql.backends.postgres import node as _pg_node
from wallet_gql.backends.postgres.sharded import PgStore
from wallet_gql.backends.redis.store import RedisStore
from wallet_gql.domain.ids import AccountId, UserId, slot_of
from wallet_gql.testing.servers.postgres import PostgresCluster
from wallet_gql.testing.servers.redis import RedisServer

ACCOUNTS: Final = 256
IN_FLIGHT: Final = 64
PROTOCOLS: Final = ("two-phase commit", "leases")
LOADS: Final = ("local", "half across", "all across", "one payer", "one payee")

Payer = tuple[UserId, AccountId]


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    rounds: int
    seconds: float
    warmup: float
    only: list[str]
    json: Path | None


@dataclass(frozen=True, slots=True)
class Figure:
    """What one run gave; `error` instead, if it must not be believed."""

    per_second: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    batch_mean: float = 0.0
    postgres_trips: float = 0.0
    redis_trips: float = 0.0
    waits: float = 0.0
    lease_wait_ms: float = 0.0
    late: float = 0.0
    error: str = ""


@dataclass(slots=True)
class Counted:
    """What is counted while a run lasts."""

    postgres: int = 0
    deferred: int = 0
    late: int = 0


@dataclass(slots=True)
class Cell:
    """All rounds of one load."""

    load: str
    rounds: list[dict[str, Figure]] = field(default_factory=list)

    @property
    def error(self) -> str:
        """Why no figure may be shown; empty if all is well."""
        return next((figure.error for both in self.rounds for figure in both.values() if figure.error), "")

    def median(self, protocol: str, name: str) -> float:
        """A figure's median over the rounds."""
        values: list[float] = [getattr(both[protocol], name) for both in self.rounds]
        return statistics.median(values)

    @property
    def ratio(self) -> float:
        """Transfers per second under leases to those under two-phase commit."""
        return statistics.median(
            both["leases"].per_second / both["two-phase commit"].per_second for both in self.rounds
        )


def count_statements(counted: Counted) -> None:
    """Count what goes to any node, from now on."""
    for name in ("run", "value", "rows"):
        whole = getattr(_pg_node.Connection, name)

        async def counting(*values: Any, whole: Callable[..., Any] = whole) -> Any:
            counted.postgres += 1
            return await whole(*values)

        setattr(_pg_node.Connection, name, counting)


def count_waits(book: Book, counted: Counted) -> None:
    """Count the commands that leave their batch, and the answers that come before the credit."""
    commit = book.groups._commit  # noqa: SLF001 - between the two

    async def counting(*values: Any) -> Any:
        outcomes = await commit(*values)
        lanes = [outcome.lane for outcome in outcomes if isinstance(outcome, Deferred)]
        counted.deferred += sum(getattr(lane, "behind", None) is not None for lane in lanes)
        return outcomes

    book.groups._commit = counting  # noqa: SLF001 - as above
    execute = book.store.execute

    async def looking(*values: Any, **more: Any) -> Any:
        done = await execute(*values, **more)
        counted.late += not done.credited
        return done

    book.store.execute = looking  # type: ignore[method-assign]


def draw_pairs(load: str, book: Book, rng: random.Random) -> Callable[[], tuple[Payer, AccountId]]:
    """Draws who pays whom."""
    assert isinstance(book.store, PgStore)
    homes: dict[str, list[Payer]] = {}
    for payer in book.payers:
        homes.setdefault(book.store.placement.home(slot_of(payer[1])), []).append(payer)
    here, there = homes.values()
    hot, *near = here
    turns = itertools.count()

    def pair() -> tuple[Payer, Payer]:
        turn = next(turns) % 2
        if load in ("one payer", "one payee"):
            other = rng.choice(there if turn else near)
            return (hot, other) if load == "one payer" else (other, hot)
        across = load == "all across" or (load == "half across" and turn == 1)
        sides = [here, there] if rng.random() < 0.5 else [there, here]
        if across:
            return rng.choice(sides[0]), rng.choice(sides[1])
        payer, payee = rng.sample(sides[0], 2)
        return payer, payee

    def draw() -> tuple[Payer, AccountId]:
        payer, payee = pair()
        return payer, payee[1]

    return draw


@dataclass(slots=True)
class Side:
    """One protocol's open ledger."""

    book: Book
    counted: Counted
    keys: itertools.count[int]
    answered: int = 0

    async def figure(self, load: str, rng: random.Random, options: Options) -> Figure:
        """Run a load and prove the books."""
        run = Run(self.book, "uniform", rng, map("k{}".format, self.keys))
        run.draw = draw_pairs(load, self.book, rng)
        before = self._counts()
        measure = await run.measure(IN_FLIGHT, options.warmup, options.seconds)
        postgres, redis, deferred, late, waited = (b - a for a, b in zip(before, self._counts(), strict=True))
        self.answered += run.answered
        await self._settle()
        wrong = measure.error or await prove(self.book, self.answered)
        if wrong:
            return Figure(error=wrong)
        n = run.answered
        return Figure(
            measure.per_second,
            measure.p50_ms,
            measure.p99_ms,
            measure.batch_mean,
            postgres / n,
            redis / n,
            deferred / n * 1000,
            waited / n * 1000,
            late / n * 1000,
        )

    def _counts(self) -> tuple[float, ...]:
        leases = self.book.store.leases.counters if isinstance(self.book.store, RedisStore) else None
        own = self.counted.postgres, leases.calls if leases else 0, self.counted.deferred, self.counted.late
        return (*own, leases.waited_seconds if leases else 0.0)

    async def _settle(self) -> None:
        while (await self.book.store.recover(1_000)).credited:
            pass


async def run_all(options: Options, say: Callable[[str], None]) -> list[Cell]:
    """All rounds of all loads, on fresh servers."""
    cluster, server = PostgresCluster(2), RedisServer()
    cells = [Cell(load) for load in LOADS if not options.only or load in options.only]
    counted = Counted()
    count_statements(counted)
    try:
        for number in range(options.rounds):
            async with AsyncExitStack() as stack:  # fresh ledgers, for the audit after each run reads all of the books
                sides = [await _open(stack, protocol, cluster, server, counted) for protocol in PROTOCOLS]
                for cell in cells:
                    both: dict[str, Figure] = {}
                    for place in (0, 1) if number % 2 == 0 else (1, 0):
                        rng = random.Random(f"{number} {cell.load}")
                        both[PROTOCOLS[place]] = await sides[place].figure(cell.load, rng, options)
                    cell.rounds.append(both)
                    say(f"round {number + 1} of {options.rounds}: {cell.load}")
    finally:
        server.stop()
        cluster.stop()
    return cells


async def _open(
    stack: AsyncExitStack, protocol: str, cluster: PostgresCluster, server: RedisServer, counted: Counted
) -> Side:
    nodes = cluster.url(cluster.take())
    url = nodes if protocol == "two-phase commit" else f"{server.url()},{nodes}"
    book = await stack.enter_async_context(open_book(open_store(url), ACCOUNTS, random.Random(protocol)))
    count_waits(book, counted)
    return Side(book, counted, itertools.count())


def show(cells: Sequence[Cell]) -> Table:
    """The table."""
    table = Table(title=f"{IN_FLIGHT} in flight, {ACCOUNTS} accounts, two nodes")
    heads = ("load", "protocol", "transfers/s", "ratio", "p50 ms", "p99 ms", "a batch")
    for head in (*heads, "trips: Postgres", "Redis", "waits ‰", "lease wait ms", "late ‰"):
        table.add_column(head, justify="left" if head in ("load", "protocol") else "right")
    for cell in cells:
        for protocol in PROTOCOLS:
            if cell.error:
                table.add_row(cell.load, protocol, "INVALID", cell.error)
                continue
            median = [cell.median(protocol, name) for name in Figure.__dataclass_fields__ if name != "error"]
            per_second, p50, p99, batch, postgres, redis, waits, lease, late = median
            ratio = f"{cell.ratio:.2f}" if protocol == "leases" else ""
            speed = (f"{per_second:,.0f}", ratio, f"{p50:.1f}", f"{p99:.1f}", f"{batch:.1f}")
            trips = (f"{postgres:.2f}", f"{redis:.2f}", f"{waits:.0f}", f"{lease:.2f}", f"{late:.1f}")
            table.add_row(cell.load, protocol, *speed, *trips)
    return table


def parse() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Redis leases beside two-phase commit.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before each measurement")
    parser.add_argument("--only", nargs="*", default=[], choices=LOADS, help="some of the loads")
    parser.add_argument("--json", type=Path, help="write everything there")
    return Options(**vars(parser.parse_args()))


def main() -> None:
    """Measure and tell; exit 1 if a figure must not be shown."""
    options = parse()
    with asyncio.Runner(loop_factory=lambda: new_loop("uvloop")) as runner:
        cells = runner.run(run_all(options, lambda text: print(text, file=sys.stderr)))
    described = describe(Path(tempfile.gettempdir()))
    console = Console(width=180)
    console.print(show(cells))
    print(as_markdown(described))
    if options.json is not None:
        found = [
            {"load": cell.load, "rounds": [{k: asdict(v) for k, v in both.items()} for both in cell.rounds]}
            for cell in cells
        ]
        options.json.write_text(json.dumps({"environment": described, "cells": found}, indent=1), encoding="utf-8")
    if any(cell.error for cell in cells):
        sys.exit(1)


if __name__ == "__main__":
    main()
