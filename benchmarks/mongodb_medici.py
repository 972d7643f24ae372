"""Transfers per second on MongoDB: this ledger beside medici (npm), on the same mongod, in the same run.

    python benchmarks/mongodb_medici.py [--seconds S] [--rounds N] [--in-flight 1,16,64] [--json FILE]

Both move money between 256 accounts, durably (majority, journaled, snapshot), each with N callers in a closed loop and
a database of its own, one after the other in alternating order. Medici does what its README recommends for balances
that must not become negative: entry, balance and lock of the payer in one transaction. It stores no idempotency keys
and no sequences, so it has less to do. After each round both books are checked; if anything is wrong, no figure is
shown. If node or npm is missing, medici is left out, and the table says why.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.environment import describe
from benchmarks.ledger import LOADS, Measure, Run, new_loop, open_book, prove
from wallet_gql.backends import open_store
from wallet_gql.testing.servers.mongo import ReplicaSet, program

ACCOUNTS: Final = 256
SOURCE: Final = Path(__file__).parent / "medici"


@dataclass(slots=True)
class Cell:
    """All rounds of one load and number in flight."""

    load: str
    in_flight: int
    ours: list[Measure] = field(default_factory=list)
    medici: list[Measure] = field(default_factory=list)

    def ratio(self) -> float:
        """Ours to medici's, the median of the rounds' own ratios."""
        both = zip(self.ours, self.medici, strict=True)
        return statistics.median(a.per_second / b.per_second for a, b in both)


def install(folder: Path) -> str:
    """Put medici, exactly as locked, into a folder; why not, if it cannot be had."""
    for needed in ("node", "npm"):
        if shutil.which(needed) is None:
            return f"{needed} is missing"
    shutil.copytree(SOURCE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    command = [shutil.which("npm") or "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return f"npm ci failed: {done.stderr.strip()[-200:]}" if done.returncode else ""


def medici(folder: Path, url: str, cell: Cell, warmup: float, seconds: float) -> Measure:
    """One run of the script."""
    numbers = [str(value) for value in (ACCOUNTS, cell.in_flight, warmup, seconds)]
    command = [shutil.which("node") or "node", "transfers.mjs", url, *numbers, cell.load]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        return Measure(error=done.stderr.strip()[-200:])
    told = json.loads(done.stdout)
    if told["total"] or told["failed"]:
        return Measure(error=f"its books are off by {told['total']}, {told['failed']} transfers failed")
    return Measure(told["answered"] / told["seconds"], 1.0, told["p50_ms"], told["p99_ms"])


async def ours(url: str, cell: Cell, warmup: float, seconds: float, seed: int) -> Measure:
    """One run of the ledger in this process."""
    rng = random.Random(seed)
    async with open_book(open_store(url), ACCOUNTS, rng) as book:
        run = Run(book, cell.load, rng, map("k{}".format, itertools.count()))
        measured = await run.measure(cell.in_flight, warmup, seconds)
        wrong = await prove(book, run.answered)
        return Measure(error=wrong) if wrong else measured


def measure(options: argparse.Namespace, servers: ReplicaSet, folder: Path, without: str, say: Console) -> list[Cell]:
    """Everything, round by round."""
    cells = [Cell(load, n) for load in options.loads for n in options.in_flight]
    for number, cell in itertools.product(range(options.rounds), cells):
        say.print(f"round {number + 1}: {cell.load}, {cell.in_flight} in flight", style="dim")
        for which in ("ours", "medici") if number % 2 == 0 else ("medici", "ours"):
            if which == "ours":
                with asyncio.Runner(loop_factory=lambda: new_loop(options.loop)) as runner:
                    url = servers.url(servers.take())
                    cell.ours.append(runner.run(ours(url, cell, options.warmup, options.seconds, number)))
            elif not without:
                url = servers.url(f"medici_{number}_{cell.load.replace(' ', '_')}_{cell.in_flight}")
                cell.medici.append(medici(folder, url, cell, options.warmup, options.seconds))
    return cells


def table_of(cells: list[Cell], without: str) -> Table:
    """Medians over the rounds."""
    title = "transfers per second on MongoDB" + (f" (medici left out: {without})" if without else "")
    table = Table(
        "load", "in flight", "ours /s", "p50 ms", "p99 ms", "medici /s", "p50 ms", "p99 ms", "ratio", title=title
    )
    for cell in cells:
        errors = [measured.error for measured in (*cell.ours, *cell.medici) if measured.error]
        if errors:
            table.add_row(cell.load, str(cell.in_flight), f"INVALID: {errors[0]}")
            continue
        row = [cell.load, str(cell.in_flight), *_figures(cell.ours)]
        row += [*_figures(cell.medici), f"{cell.ratio():.1f}"] if cell.medici else ["-", "-", "-", "-"]
        table.add_row(*row)
    return table


def _figures(rounds: list[Measure]) -> list[str]:
    return [
        f"{statistics.median(getattr(m, name) for m in rounds):,.0f}" for name in ("per_second", "p50_ms", "p99_ms")
    ]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="measured seconds of each run")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before each run that do not count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=lambda text: [int(n) for n in text.split(",")], default=[1, 16, 64])
    parser.add_argument("--loads", type=lambda text: text.split(","), default=list(LOADS), help="comma-separated")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--json", type=Path, help="write everything there")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 if any figure is INVALID."""
    options = parse(arguments)
    console = Console(width=140)
    version = subprocess.run([str(program()), "--version"], capture_output=True, text=True, check=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        machine = describe(folder) | {"MongoDB": version.stdout.partition("\n")[0], "members": "1"}
        for key, value in machine.items():
            console.print(f"{key}: {value}", highlight=False)
        without = install(folder)
        servers = ReplicaSet()
        try:
            cells = measure(options, servers, folder, without, console)
        finally:
            servers.stop()
    console.print(table_of(cells, without))
    if options.json:
        text = json.dumps({"machine": machine, "without": without, "cells": [asdict(c) for c in cells]}, indent=2)
        options.json.write_text(text + "\n")
    return int(any(m.error for cell in cells for m in (*cell.ours, *cell.medici)))


if __name__ == "__main__":
    sys.exit(main())
