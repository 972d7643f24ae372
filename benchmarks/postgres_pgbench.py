"""Payments per second on Postgres, beside pgbench running the same work as a one-transaction function.

    python benchmarks/postgres_pgbench.py [--rounds 5] [--seconds 3] [--only NAME …] [--json FILE]

Servers are started for the run, with the default durability (fsync and synchronous_commit on). In every round all loads
take turns, the wallet's and pgbench's one right after the other, so that a disturbance hits both. Ratios are medians of
the ratios of all rounds. pgbench's function (postgres_pay.sql) works on the wallet's own tables: the same rows, indexes
and locks. The wallet's figures include its Python code, in one process.

`client CPU` is the processor time of the wallet or pgbench for one payment, `server CPU` that of the Postgres
processes. On a shared machine these say more than payments per second: one process that mostly waits gets a smaller
share of a busy machine than 64 that do not.

After each run of the wallet the books are audited and counted; after each run of pgbench, the balances and transfers.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.environment import describe
from benchmarks.ledger import DEPOSIT_MINOR, Book, Run, new_loop, open_book, prove
from wallet_gql.backends import open_store
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.domain.ids import AccountId, UserId, slot_of
from wallet_gql.testing.servers.postgres import PostgresCluster, PostgresServer, binaries

ACCOUNTS: Final = 256
IN_FLIGHT: Final = 64
SQL: Final = Path(__file__).with_name("postgres_pay.sql")

Payer = tuple[UserId, AccountId]

_ACCOUNTS: Final = f"""
INSERT INTO accounts SELECT 'acc_' || lpad(n::text, 32, '0'), 'usr_' || lpad(n::text, 32, '0'), 'EUR', 0, 0, 'open',
                            {DEPOSIT_MINOR}, 0, 0 FROM generate_series(1, {ACCOUNTS}) AS n;
ANALYZE accounts;
"""  # noqa: S608 - numbers of our own


@dataclass(frozen=True, slots=True)
class Load:
    """One line of the table: what runs, on how many nodes, how many at once."""

    name: str
    nodes: int
    in_flight: int
    draw: str
    beside: str
    goal: float
    """What the ratio to `beside` should be at least; 0: it is itself what others are beside."""


LOADS: Final = (
    Load("pgbench, 64 in flight", 0, IN_FLIGHT, "uniform", "", 0),
    Load("one node, 64 in flight", 1, IN_FLIGHT, "uniform", "pgbench, 64 in flight", 1.3),
    Load("pgbench, one hot payer", 0, IN_FLIGHT, "one payer", "", 0),
    Load("one node, one hot payer", 1, IN_FLIGHT, "one payer", "pgbench, one hot payer", 5),
    Load("pgbench, alone", 0, 1, "uniform", "", 0),
    Load("one node, alone", 1, 1, "uniform", "pgbench, alone", 0.3),
    Load("two nodes, all across", 2, IN_FLIGHT, "across", "one node, 64 in flight", 0.5),
    Load("two nodes, two accounts both ways", 2, IN_FLIGHT, "opposite", "two nodes, all across", 1 / 3),
)


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
    """What one run gave; `error` instead, if it must not be believed. CPU is in microseconds a payment."""

    per_second: float = 0.0
    batch_mean: float = 1.0
    p50_ms: float = 0.0
    client_us: float = 0.0
    server_us: float = 0.0
    error: str = ""


@dataclass(slots=True)
class Results:
    """Payments per second of each load, round by round; errors make a load INVALID."""

    figures: dict[str, list[Figure]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, figure: Figure) -> None:
        """Keep one round's figure."""
        self.figures.setdefault(name, []).append(figure)
        if figure.error:
            self.errors[name] = figure.error

    def ratios(self, load: Load) -> list[float]:
        """To what it runs beside, in each round."""
        pairs = zip(self.figures[load.name], self.figures.get(load.beside, ()), strict=False)
        return sorted(mine.per_second / other.per_second for mine, other in pairs if other.per_second)

    def median(self, name: str, value: str) -> float:
        """A figure's median over the rounds."""
        values: list[float] = [getattr(figure, value) for figure in self.figures[name]]
        return statistics.median(values)


class Bench:
    """The servers, and each load on them."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.clusters = {size: PostgresCluster(size, {"shared_buffers": "256MB"}) for size in (1, 2)}

    def close(self) -> None:
        """End the servers."""
        for cluster in self.clusters.values():
            cluster.stop()

    async def run(self, load: Load, seed: int) -> Figure:
        """One run on an empty ledger."""
        cluster = self.clusters[load.nodes or 1]
        database = cluster.take()
        try:
            if load.nodes:
                return await self._wallet(cluster, cluster.url(database), load, seed)
            return await self._pgbench(cluster, database, load)
        finally:
            cluster.give_back(database)

    async def _wallet(self, cluster: PostgresCluster, url: str, load: Load, seed: int) -> Figure:
        rng = random.Random(seed)
        async with open_book(open_store(url), ACCOUNTS, rng) as book:
            run = Run(book, load.draw, rng, map("k{}".format, itertools.count()))
            if load.nodes > 1:
                run.draw = across(book, rng, 1 if load.draw == "opposite" else ACCOUNTS)
            before = server_cpu_us(cluster)
            found = await run.measure(load.in_flight, self.options.warmup, self.options.seconds)
            server_us = (server_cpu_us(cluster) - before) / max(run.answered, 1)
            wrong = found.error or await prove(book, run.answered)
        if wrong:
            return Figure(error=wrong)
        return Figure(found.per_second, found.batch_mean, found.p50_ms, found.cpu_us, server_us)

    async def _pgbench(self, cluster: PostgresCluster, database: str, load: Load) -> Figure:
        async with open_store(cluster.url(database)):
            pass  # the tables
        (server,) = cluster.nodes
        server.run("DROP FUNCTION IF EXISTS bench_pay; " + SQL.read_text(encoding="utf-8"), database)
        server.run(_ACCOUNTS, database)
        command = (
            *(str(binaries() / "pgbench"), "-h", "127.0.0.1", "-p", str(server.port), "-U", "wallet", "-n"),
            *("-M", "prepared", "-c", str(load.in_flight), "-j", str(min(load.in_flight, 2))),
            *("-T", str(max(int(self.options.seconds), 1)), "-f", str(script(load)), database),
        )
        before = server_cpu_us(cluster), children_cpu_us()
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out, _ = await process.communicate()
        took = server_cpu_us(cluster) - before[0], children_cpu_us() - before[1]
        return read_pgbench(out.decode(), server, database, took)


def server_cpu_us(cluster: PostgresCluster) -> float:
    """What the servers' processes have taken so far, those that have ended too."""
    ticks = 0
    for node in cluster.nodes:
        first, *others = node._pids()  # noqa: SLF001 - the postmaster and its children
        ticks += sum(_ticks(first)) + sum(sum(_ticks(pid)[:2]) for pid in others)
    return ticks / os.sysconf("SC_CLK_TCK") * 1e6


def _ticks(pid: int) -> list[int]:
    """A process's user and system time, and those of its children that have ended (`man 5 proc`)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return [0, 0, 0, 0]
    return [int(value) for value in text.rpartition(")")[2].split()[11:15]]


def children_cpu_us() -> float:
    """What this process's children that have ended took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1e6


def across(book: Book, rng: random.Random, most: int) -> Callable[[], tuple[Payer, AccountId]]:
    """Draws pairs whose homes differ, among at most so many accounts of each node."""
    assert isinstance(book.store, PostgresStore)
    homes: dict[str, list[Payer]] = {}
    for payer in book.payers:
        homes.setdefault(book.store.placement.home(slot_of(payer[1])), []).append(payer)
    sides = [payers[:most] for payers in homes.values()]

    def draw() -> tuple[Payer, AccountId]:
        here, there = rng.sample(sides, 2)
        return rng.choice(here), rng.choice(there)[1]

    return draw


_STORED: Final = "SELECT count(*) FROM transfers; SELECT sum(posted_minor) FROM accounts"


def script(load: Load) -> Path:
    """The script of pgbench: who pays whom, under a fresh key."""
    payer = "1" if load.draw == "one payer" else f"random(1, {ACCOUNTS})"
    text = (
        f"\\set payer {payer}\n\\set step random(1, {ACCOUNTS - 1})\n"
        f"\\set payee 1 + (:payer - 1 + :step) % {ACCOUNTS}\n\\set key random(1, 4000000000000000000)\n"
        "SELECT bench_pay('acc_' || lpad((:payer)::text, 32, '0'), 'acc_' || lpad((:payee)::text, 32, '0'), 1,"
        " 'key-' || (:key)::text);\n"
    )
    path = Path(tempfile.mkdtemp(prefix="wallet-bench-")) / "pay.sql"
    path.write_text(text, encoding="utf-8")
    return path


def read_pgbench(out: str, server: PostgresServer, database: str, took: tuple[float, float]) -> Figure:
    """Its figure, if nothing failed and the books agree."""
    rate, done, latency, failed = (
        re.search(pattern, out)
        for pattern in (
            *(r"tps = ([\d.]+)", r"actually processed: (\d+)", r"latency average = ([\d.]+) ms"),
            r"failed transactions: ([1-9]\d*)",
        )
    )
    if rate is None or done is None or latency is None or failed is not None:
        return Figure(error=f"pgbench: {out[-500:]}")
    stored, total = map(int, server.run(_STORED, database).split())
    if stored != int(done[1]) or total != DEPOSIT_MINOR * ACCOUNTS:
        return Figure(error=f"pgbench: {stored} transfers stored, {done[1]} done; balances sum to {total}")
    server_us, client_us = (microseconds / stored for microseconds in took)
    return Figure(float(rate[1]), 1.0, float(latency[1]), client_us, server_us)


def table_of(results: Results, loads: Sequence[Load], rounds: int) -> Table:
    """The figures, or INVALID."""
    table = Table(title=f"payments on Postgres, durable, medians of {rounds} rounds")
    for name in ("load", "payments/s", "beside", "ratio (range)", "goal", "batch", "client CPU", "server CPU"):
        table.add_column(name, justify="left" if name in ("load", "beside") else "right")
    for load in loads:
        table.add_row(load.name, *figures(results, load))
    return table


def figures(results: Results, load: Load) -> list[str]:
    """A row's cells."""
    if load.name in results.errors:
        return ["INVALID", results.errors[load.name]]
    rate, batch, client, server = (
        f"{results.median(load.name, name):,.{digits}f}"
        for name, digits in (("per_second", 0), ("batch_mean", 1), ("client_us", 0), ("server_us", 0))
    )
    ratios = results.ratios(load)
    if not ratios:
        return [rate, "", "", "", batch, f"{client} us", f"{server} us"]
    ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
    return [rate, load.beside, ratio, f"{load.goal:.2f}", batch, f"{client} us", f"{server} us"]


async def run_all(options: Options, loads: Sequence[Load], say: Callable[[str], None]) -> Results:
    """All rounds."""
    results, bench = Results(), Bench(options)
    try:
        for number in range(options.rounds):
            for load in loads:
                say(f"round {number + 1} of {options.rounds}: {load.name}")
                results.add(load.name, await bench.run(load, number))
    finally:
        bench.close()
    return results


def parse(arguments: Sequence[str] | None) -> Options:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="measured seconds of each run")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before each of the wallet's runs")
    parser.add_argument("--only", action="append", default=[], help="loads whose names contain this; may be repeated")
    parser.add_argument("--json", type=Path, help="write everything there")
    return Options(**vars(parser.parse_args(arguments)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if any figure is INVALID."""
    options = parse(arguments)
    loads = [load for load in LOADS if not options.only or any(part in load.name for part in options.only)]
    machine = describe(Path(tempfile.gettempdir()))
    console = Console(width=150)
    for name, value in machine.items():
        console.print(f"{name}: {value}", highlight=False)
    with asyncio.Runner(loop_factory=lambda: new_loop("uvloop")) as runner:
        results = runner.run(run_all(options, loads, lambda text: print(text, file=sys.stderr)))
    console.print(table_of(results, loads, options.rounds))
    if options.json:
        found = {name: [asdict(figure) for figure in figures] for name, figures in results.figures.items()}
        options.json.write_text(json.dumps({"machine": machine, "loads": found}, indent=1) + "\n", encoding="utf-8")
    return int(bool(results.errors))


if __name__ == "__main__":
    sys.exit(main())
