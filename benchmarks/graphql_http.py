"""GraphQL over HTTP: the wallet beside PostGraphile, on the same rows of the same Postgres server, in one run.

    python benchmarks/graphql_http.py [--rounds 3] [--seconds 3] [--connections 1,32] [--json FILE]
    python benchmarks/graphql_http.py --beside ../before/src
    python benchmarks/graphql_http.py --workers
    python benchmarks/graphql_http.py --rate 100                  both at an equal load: look at p99
    python benchmarks/graphql_http.py --batch                     batches of 100, and the ledger's own
    python benchmarks/graphql_http.py --memory 200000 [--most-seconds 600]

Both are served by one process and are durable; runs take turns, so that a disturbance hits both: trust the ratios. The
wallet checks the session and counts all its rate limits (their numbers are raised beyond reach); PostGraphile is asked
without any authentication, and its transfer is one SQL function (`postgraphile/schema.sql`), so it has less to do.
PostGraphile and its Node are put by npm into `--folder`, a temporary one by default.

CPU is of the server's process, the database's apart. `client` is the share of a processor that the load took: above 0.9
the load is the limit, not the server. A wrong answer, or books that are not clean afterwards, make a figure INVALID.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.environment import as_markdown, describe
from benchmarks.graphql_setup import Person, Server, Workload, furnish, install, postgraphile, wallet
from benchmarks.postgres_pgbench import server_cpu_us
from wallet_gql.testing.servers.postgres import PostgresCluster

CLIENT: Final = Path(__file__).with_name("graphql_client.py")
BATCH: Final = Path(__file__).with_name("graphql_batch.py")
REQUESTS: Final = ("transfer", "history", "viewer")
SERVER_SETTINGS: Final = {"shared_buffers": "256MB"}
BUSY: Final = 0.9
"""From this share of a processor on the load itself is the limit."""


@dataclass(slots=True)
class Figure:
    """One run of one request."""

    per_second: float = 0.0
    cpu_us: float = 0.0
    database_us: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    client_share: float = 0.0
    error: str = ""


@dataclass(slots=True)
class Cell:
    """All rounds of one request at one number of connections, by server."""

    request: str
    connections: int
    rounds: list[dict[str, Figure]] = field(default_factory=list)

    def median(self, server: str, name: str) -> float:
        """A figure's median over the rounds."""
        values: list[float] = [getattr(figures[server], name) for figures in self.rounds]
        return statistics.median(values)

    def ratio(self, one: str, other: str, name: str) -> float:
        """One server's figure to another's: the median of the rounds' own ratios."""
        ratios: list[float] = [getattr(found[one], name) / getattr(found[other], name) for found in self.rounds]
        return statistics.median(ratios)

    @property
    def errors(self) -> list[str]:
        """What went wrong."""
        return [figure.error for figures in self.rounds for figure in figures.values() if figure.error]


def load(
    server: Server, work: Workload, connections: int, seconds: float, *, requests: int = 0, rate: float = 0.0
) -> dict[str, Any]:
    """Send a request over and over, by another process; with a rate as many a second."""
    given = {
        "port": server.port,
        "connections": connections,
        "seconds": seconds,
        "requests": requests,
        "rate": rate,
        "bodies": work.bodies,
        "lines": work.lines,
        "marker": work.marker,
    }
    return _told(CLIENT, given)


def _told(program: Path, given: dict[str, Any]) -> dict[str, Any]:
    """What a program answers that takes and gives one JSON object."""
    command = [sys.executable, str(program)]
    done = subprocess.run(command, input=json.dumps(given), stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(
    server: Server, work: Workload, cluster: PostgresCluster, connections: int, options: argparse.Namespace
) -> Figure:
    """One run."""
    before = server.cpu_us(), server_cpu_us(cluster)
    found = load(server, work, connections, options.seconds, rate=options.rate)
    if "error" in found:
        return Figure(error=f"{server.name}: {found['error']}")
    count = found["requests"]
    took = server.cpu_us() - before[0], server_cpu_us(cluster) - before[1]
    times = found["p50_ms"], found["p99_ms"], found["client_share"]
    return Figure(count / found["seconds"], took[0] / count, took[1] / count, *times)


def compare(options: argparse.Namespace, servers: list[Server], cluster: PostgresCluster) -> list[Cell]:
    """Everything, round by round, after a warm-up that does not count."""
    for server in servers:
        for name in options.requests:
            load(server, server.work[name], max(options.connections), options.warmup / len(options.requests))
    cells = [Cell(name, n) for name in options.requests for n in options.connections]
    for number in range(options.rounds):
        turn = servers[:: 1 if number % 2 else -1]
        for cell in cells:
            found = (measure(server, server.work[cell.request], cluster, cell.connections, options) for server in turn)
            cell.rounds.append(dict(zip((server.name for server in turn), found, strict=True)))
    return cells


def table_of(cells: list[Cell], names: list[str]) -> str:
    """Medians over the rounds in Markdown, and the ratios of the first server to the second."""
    rows = ["| request | connections | server | requests/s | CPU us | database us | p50 ms | p99 ms | client |"]
    rows.append("|---|---:|---|---:|---:|---:|---:|---:|---:|")
    for cell in cells:
        place = f"| {cell.request} | {cell.connections}"
        if cell.errors:
            rows.append(f"{place} | INVALID: {cell.errors[0]} |||||||")
            continue
        for name in names:
            counts = [f"{cell.median(name, each):,.0f}" for each in ("per_second", "cpu_us", "database_us")]
            times = [f"{cell.median(name, each):.2f}" for each in ("p50_ms", "p99_ms", "client_share")]
            rows.append(f"{place} | {name} | {' | '.join([*counts, *times])} |")
        if len(names) > 1:
            rate, cpu, p99 = (cell.ratio(names[0], names[1], each) for each in ("per_second", "cpu_us", "p99_ms"))
            rows.append(f"{place} | *ratio* | **{rate:.2f}** | {cpu:.3f} (1/{1 / cpu:.2f}) | | | {p99:.2f} | |")
    return "\n".join(rows)


def memory(server: Server, requests: int, most_seconds: float) -> str:
    """How much more memory (PSS) the server has after so many requests than after the first thousand."""
    sizes, sent = [], 0
    for count in (1_000, requests):
        sent = 0
        for name in REQUESTS:
            found = load(server, server.work[name], 32, most_seconds / len(REQUESTS), requests=count // len(REQUESTS))
            if "error" in found:
                return f"INVALID: {found['error']}"
            sent += found["requests"]
        sizes.append(server.pss_kb())
    first, last = sizes
    return f"PSS {first:,} kB after 1,000 requests, {last:,} kB after {sent:,} more: {last / first:.3f}"


def batches(server: Server, book: Book, options: argparse.Namespace) -> str:
    """Batches of 100 a second, over GraphQL and by the ledger itself, by turns."""
    people = [(person.user_id, person.account_id) for person in book.people]
    lines, ratios = [], []
    for _ in range(options.rounds):
        for connections in options.connections:
            served = measure(server, server.work["batch"], book.cluster, connections, options)
            if served.error:
                return f"INVALID: {served.error}"
            given = {"url": book.url, "people": people, "connections": connections, "seconds": options.seconds}
            own = _told(BATCH, given)
            ratios.append(served.per_second / own["per_second"])
            lines.append(
                f"{connections} at a time: {served.per_second:.2f} batches/s over GraphQL, {served.cpu_us:,.0f} us; "
                f"{own['per_second']:.2f} by the ledger, {own['cpu_us']:,.0f} us: {ratios[-1]:.2f}"
            )
    return "\n".join([*lines, f"median of the ratios: {statistics.median(ratios):.2f}"])


def audit(url: str) -> str:
    """What `wallet-gql audit` finds; nothing if the books are clean."""
    command = [sys.executable, "-m", "wallet_gql", "audit"]
    environment = {**os.environ, "WALLET_STORAGE": url}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="measured seconds of each run")
    parser.add_argument("--warmup", type=float, default=10.0, help="seconds before the first round, for each server")
    parser.add_argument("--connections", type=lambda text: [int(n) for n in text.split(",")], default=[1, 32])
    parser.add_argument("--requests", type=lambda text: text.split(","), default=list(REQUESTS))
    parser.add_argument("--users", type=int, default=128)
    parser.add_argument("--folder", type=Path, help="where PostGraphile is installed, or is to be")
    parser.add_argument("--alone", action="store_true", help="the wallet without anything beside it")
    parser.add_argument("--beside", type=Path, help="instead of PostGraphile the src folder of another tree")
    parser.add_argument("--memory", type=int, default=0, help="instead: the memory of a server over so many requests")
    parser.add_argument("--most-seconds", type=float, default=3600.0, help="how long that may take, at most")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second that both get, whatever they could")
    parser.add_argument("--batch", action="store_true", help="instead: batches of 100, beside the ledger's own")
    parser.add_argument("--workers", action="store_true", help="instead: reads with two worker processes and with one")
    parser.add_argument("--json", type=Path, help="write everything there")
    return parser.parse_args(arguments)


def rivals(options: argparse.Namespace, stack: ExitStack, book: Book) -> list[Server]:
    """The servers to compare: what is asked about first, and what it is compared with."""
    mine = stack.enter_context(wallet(book.url, book.people, workers=2 if options.workers else 1))
    if options.memory or options.alone or options.batch:
        return [mine]
    if options.workers:
        mine.name = "two workers"
        other = stack.enter_context(wallet(book.url, book.people))
        other.name = "one worker"
    elif options.beside:
        other = stack.enter_context(wallet(book.url, book.people, options.beside.resolve()))
        other.name = "the other tree"
    else:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        install(folder)
        node = book.cluster.nodes[0]
        other = stack.enter_context(postgraphile(folder.resolve(), node, book.database, book.people))
    return [mine, other]


@dataclass(frozen=True)
class Book:
    """A filled database."""

    cluster: PostgresCluster
    database: str
    url: str
    people: list[Person]


@contextmanager
def filled(users: int) -> Iterator[Book]:
    """A database with rows; the server ends afterwards."""
    cluster = PostgresCluster(1, SERVER_SETTINGS)
    try:
        database = cluster.take()
        url = cluster.url(database)
        people = asyncio.run(furnish(url, users))
        cluster.nodes[0].run("VACUUM ANALYZE", database)
        yield Book(cluster, database, url, people)
    finally:
        cluster.stop()


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 if any figure is INVALID."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as name:
        machine = describe(Path(name))
    print(as_markdown(machine), end="\n\n", flush=True)
    cells: list[Cell] = []
    with filled(options.users) as book:
        with ExitStack() as stack:
            servers = rivals(options, stack, book)
            if options.memory:
                found = memory(servers[0], options.memory, options.most_seconds)
            elif options.batch:
                found = batches(servers[0], book, options)
            else:
                cells = compare(options, servers, book.cluster)
                found = table_of(cells, [server.name for server in servers])
            print(found, flush=True)
        wrong = audit(book.url)
    print(f"INVALID: {wrong}" if wrong else "\nThe books are clean.")
    if options.json:
        told = {"machine": machine, "found": found, "wrong": wrong, "cells": [asdict(cell) for cell in cells]}
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    return int(bool(wrong) or "INVALID" in found)


if __name__ == "__main__":
    sys.exit(main())
