"""Transfers per second of the ledger, without HTTP: group commit compared with batches of one.

    python benchmarks/ledger.py [memory | sqlite | URL …] [--json FILE] [--plot FILE.png]

A closed loop: C callers, each sending its next transfer when the last one was answered. Three loads over the same
accounts: `uniform` (payer and payee drawn at random), `one payer` and `one payee` (one account is in every transfer).
In every round each figure is measured with group commit and with batches of one, one right after the other on the same
store, in alternating order. Figures are medians over the rounds; ratios are medians of the ratios of all rounds.

After each round the store is audited, the sum of all balances is compared with the deposits, and the number of
transfers with that of the answers. If anything is wrong, or a transfer failed, the table shows INVALID instead of a
figure.
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
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.environment import describe, quantile
from wallet_gql.backends import open_store
from wallet_gql.backends.kit.group_commit import GroupCommit
from wallet_gql.books.audit import audit
from wallet_gql.domain.errors import WalletError
from wallet_gql.domain.ids import OPERATOR, AccountId, UserId, make_user_id
from wallet_gql.domain.users import User
from wallet_gql.runtime import settled_memory
from wallet_gql.storage import Store
from wallet_gql.urls import redacted
from wallet_gql.verbs.ledger import Ledger, To

CURRENCY: Final = "EUR"
DEPOSIT_MINOR: Final = 10**12
"""Enough on every account for any load: a refusal would cost less than a transfer and falsify the figure."""

STALLS_MAX: Final = 20
"""How many times the measured seconds a run waits when nothing at all is answered, before it counts as failed."""

LOADS: Final = ("uniform", "one payer", "one payee")
MODES: Final = ("grouped", "single")
"""With group commit; with batches of one."""


@dataclass(frozen=True, slots=True)
class Measure:
    """The result of one run of a few seconds; `error` if it is not valid."""

    per_second: float = 0.0
    batch_mean: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    cpu_us: float = 0.0
    error: str = ""


@dataclass(slots=True)
class Cell:
    """All rounds of one store, load and number in flight."""

    store: str
    load: str
    in_flight: int
    rounds: list[dict[str, Measure]] = field(default_factory=list)

    @property
    def error(self) -> str:
        """Why the figure is invalid; empty if it is valid."""
        return next((m.error for measures in self.rounds for m in measures.values() if m.error), "")

    def median(self, mode: str, name: str) -> float:
        """A figure's median over the rounds."""
        values: list[float] = [getattr(measures[mode], name) for measures in self.rounds]
        return statistics.median(values)

    def ratios(self) -> list[float]:
        """Transfers per second with group commit to those with batches of one, round by round."""
        return sorted(m["grouped"].per_second / m["single"].per_second for m in self.rounds)


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    stores: list[str]
    loads: list[str]
    in_flight: list[int]
    accounts: int
    rounds: int
    seconds: float
    warmup: float
    seed: int
    loop: str
    folder: Path
    json: Path | None
    plot: Path | None


@dataclass(frozen=True, slots=True)
class Book:
    """An open ledger with money on its accounts."""

    ledger: Ledger
    store: Store
    groups: GroupCommit
    payers: list[tuple[UserId, AccountId]]


@asynccontextmanager
async def open_book(empty: Store, accounts: int, rng: random.Random) -> AsyncIterator[Book]:
    """A ledger with `accounts` users, one account each, everything by the ledger's own verbs but the users."""
    async with empty as store:
        groups = getattr(store, "groups", None)
        if not isinstance(groups, GroupCommit):
            raise SystemExit(f"{store.name}: this store has no group commit of ours to compare")
        ledger = Ledger(store)
        now = datetime.now(UTC)
        ids = [make_user_id(int(now.timestamp() * 1000), rng.getrandbits(62)) for _ in range(accounts)]
        users = [User(user_id, f"u{n}", f"u{n}@bench.example", "-", now) for n, user_id in enumerate(ids)]
        await store.load_raw([user.to_record() for user in users])
        opened = await asyncio.gather(*(ledger.open_account(user_id, CURRENCY) for user_id in ids))
        deposits = (
            ledger.deposit(OPERATOR, f"deposit-{n}", account.id, DEPOSIT_MINOR, CURRENCY)
            for n, account in enumerate(opened)
        )
        await asyncio.gather(*deposits)
        with settled_memory():  # as servers do
            yield Book(ledger, store, groups, [(account.owner, account.id) for account in opened])


def pairs(load: str, book: Book, rng: random.Random) -> Callable[[], tuple[tuple[UserId, AccountId], AccountId]]:
    """Draws who pays whom."""
    hot, *others = book.payers

    def uniform() -> tuple[tuple[UserId, AccountId], AccountId]:
        payer, payee = rng.sample(book.payers, 2)
        return payer, payee[1]

    if load == "one payer":
        return lambda: (hot, rng.choice(others)[1])
    if load == "one payee":
        return lambda: (rng.choice(others), hot[1])
    return uniform


class Run:
    """C callers for some seconds. Only what was sent and answered inside the window is counted."""

    def __init__(self, book: Book, load: str, rng: random.Random, keys: Iterator[str]) -> None:
        self.book = book
        self.draw = pairs(load, book, rng)
        self.keys = keys
        self.took: list[float] = []
        self.answered = 0
        self.errors: list[str] = []
        self.counting = False
        self.running = True

    async def caller(self) -> None:
        """Send, wait for the answer, send again."""
        while self.running:
            (owner, source), target = self.draw()
            counted = self.counting
            start = time.perf_counter()
            try:
                await self.book.ledger.transfer(
                    owner, next(self.keys), source=source, to=To(account_id=target), amount_minor=1, currency=CURRENCY
                )
            except WalletError as error:
                self.errors.append(f"{error.code}: {error}")
                return
            self.answered += 1
            if counted and self.counting:
                self.took.append(time.perf_counter() - start)

    async def measure(self, in_flight: int, warmup_seconds: float, seconds: float) -> Measure:
        """Run and count."""
        callers = [asyncio.create_task(self.caller()) for _ in range(in_flight)]
        await asyncio.sleep(warmup_seconds)
        counters = self.book.groups.counters
        before = self.answered, counters.batches, counters.commands, time.process_time(), time.perf_counter()
        self.counting = True
        for _ in range(STALLS_MAX):
            await asyncio.sleep(seconds)
            if self.took:
                break
        self.counting = False
        after = self.answered, counters.batches, counters.commands, time.process_time(), time.perf_counter()
        self.running = False
        await asyncio.gather(*callers)
        answered, batches, commands, cpu, elapsed = (b - a for a, b in zip(before, after, strict=True))
        if self.errors or not self.took or not batches:
            return Measure(error=self.errors[0] if self.errors else "nothing was answered in the time given")
        return Measure(
            per_second=answered / elapsed,
            batch_mean=commands / batches,
            p50_ms=quantile(self.took, 0.5) * 1000,
            p99_ms=quantile(self.took, 0.99) * 1000,
            cpu_us=cpu / answered * 1e6,
        )


async def prove(book: Book, answered: int) -> str:
    """Check the ledger after a round; returns what is wrong, or an empty text."""
    report = await audit(book.store)
    if not report.clean:
        return f"audit: {report.findings[0].record} {report.findings[0].problem}"
    customers = sum(total.customer_minor for total in await book.store.totals())
    if customers != DEPOSIT_MINOR * len(book.payers):
        return f"the balances sum to {customers}, {DEPOSIT_MINOR * len(book.payers)} were deposited"
    if report.transfers != answered + len(book.payers):
        return f"{report.transfers} transfers are stored, {answered + len(book.payers)} were answered"
    return ""


async def one_round(number: int, url: str, load: str, in_flight: int, options: Options) -> dict[str, Measure]:
    """With group commit and with batches of one, on one fresh store; then its proof."""
    rng = random.Random(f"{options.seed} {number} {load} {in_flight}")
    keys = map("k{}".format, itertools.count())
    found: dict[str, Measure] = {}
    answered = 0
    async with open_book(open_store(url), options.accounts, rng) as book:
        largest = book.groups.batch_max
        for mode in MODES if number % 2 == 0 else reversed(MODES):
            book.groups.batch_max = largest if mode == "grouped" else 1
            run = Run(book, load, rng, keys)
            found[mode] = await run.measure(in_flight, options.warmup, options.seconds)
            answered += run.answered
        book.groups.batch_max = largest
        wrong = await prove(book, answered)
    return {mode: Measure(error=wrong) if wrong else measure for mode, measure in found.items()}


def shown(store: str) -> str:
    """The name of a store in tables and files: its URL without secrets."""
    return redacted(store) if ":" in store else store


async def run_all(options: Options, say: Callable[[str], None]) -> list[Cell]:
    """Run all rounds. Stores and loads take turns in each round, so that a disturbance hits all of them."""
    cells = {
        (store, load, in_flight): Cell(shown(store), load, in_flight)
        for store in options.stores
        for load in options.loads
        for in_flight in options.in_flight
    }
    for number in range(options.rounds):
        for (store, load, in_flight), cell in cells.items():
            say(f"round {number + 1} of {options.rounds}: {cell.store}, {load}, {in_flight} in flight")
            with tempfile.TemporaryDirectory(prefix="wallet-bench-", dir=options.folder) as folder:
                url = {"memory": "memory://", "sqlite": f"sqlite:///{folder}/wallet.db"}.get(store, store)
                cell.rounds.append(await one_round(number, url, load, in_flight, options))
    return list(cells.values())


def table_of(cells: list[Cell], rounds: int) -> Table:
    """The figures, or INVALID."""
    table = Table(title=f"ledger transfers, medians of {rounds} rounds; after the stroke: with batches of one")
    for name in ("store", "load"):
        table.add_column(name)
    for name in ("in flight", "transfers/s", "ratio (range)", "mean batch", "p50 ms", "p99 ms", "CPU us"):
        table.add_column(name, justify="right")
    for cell in cells:
        table.add_row(cell.store, cell.load, str(cell.in_flight), *figures(cell))
    return table


def figures(cell: Cell) -> list[str]:
    """A row's cells."""
    if cell.error:
        return ["INVALID", cell.error]
    ratios = cell.ratios()

    def both(name: str, digits: str) -> str:
        return " / ".join(format(cell.median(mode, name), digits) for mode in MODES)

    return [
        both("per_second", ",.0f"),
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})",
        f"{cell.median('grouped', 'batch_mean'):.1f}",
        both("p50_ms", ".2f"),
        both("p99_ms", ".2f"),
        both("cpu_us", ".0f"),
    ]


def write_json(path: Path, machine: dict[str, str], options: Options, cells: list[Cell]) -> None:
    """Everything, round by round."""
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    settings["stores"] = [shown(store) for store in options.stores]
    found = [{**asdict(cell), "error": cell.error} for cell in cells]
    path.write_text(json.dumps({"machine": machine, "settings": settings, "cells": found}, indent=1) + "\n")


def draw(path: Path, cells: list[Cell]) -> None:
    """Throughput against callers in flight: a panel for each load, a solid line grouped, a dashed one single."""
    import matplotlib as mpl  # noqa: PLC0415 - loads slowly, rarely needed

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of the engine

    loads = list(dict.fromkeys(cell.load for cell in cells))
    stores = list(dict.fromkeys(cell.store for cell in cells))
    figure, panels = plt.subplots(1, len(loads), figsize=(4.5 * len(loads), 4), sharey=True, squeeze=False)
    for panel, load in zip(panels[0], loads, strict=True):
        for number, store in enumerate(stores):
            shown = [c for c in cells if (c.store, c.load) == (store, load) and not c.error]
            for mode, line in zip(MODES, ("-o", "--o"), strict=True):
                rates = [c.median(mode, "per_second") for c in shown]
                label = f"{store}, {'group commit' if mode == 'grouped' else 'batches of one'}"
                panel.plot([c.in_flight for c in shown], rates, line, color=f"C{number}", label=label)
        ticks = sorted({cell.in_flight for cell in cells})
        panel.set_xscale("log", base=2)
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.set(title=load, xlabel="transfers in flight")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylim(bottom=0)
    panels[0][0].set_ylabel("transfers per second")
    panels[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def parse(arguments: list[str] | None) -> Options:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "stores", nargs="*", default=["memory", "sqlite"], help="memory, sqlite or a URL, fresh and empty"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="measured seconds of each run")
    parser.add_argument("--warmup", type=float, default=0.2, help="seconds before each run that do not count")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accounts", type=int, default=256)
    parser.add_argument("--in-flight", type=_numbers, default=[1, 16, 64, 256], help="such as 1,16,64,256")
    parser.add_argument("--loads", type=_loads, default=list(LOADS), help=f"some of: {','.join(LOADS)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop", help="the server runs on uvloop")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where SQLite files are made")
    parser.add_argument("--json", type=Path, help="write everything there")
    parser.add_argument("--plot", type=Path, help="draw throughput against in flight there (PNG)")
    return Options(**vars(parser.parse_args(arguments)))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _loads(text: str) -> list[str]:
    loads = text.split(",")
    if not set(loads) <= set(LOADS):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(LOADS)}")
    return loads


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """The event loop of that name."""
    if name == "asyncio":
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - not everywhere

    return uvloop.new_event_loop()


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 if any figure is INVALID."""
    options = parse(arguments)
    console = Console()
    machine = describe(options.folder)
    for name, value in machine.items():
        console.print(f"{name}: {value}", highlight=False)
    with console.status("") as status, asyncio.Runner(loop_factory=lambda: new_loop(options.loop)) as runner:
        cells = runner.run(run_all(options, status.update))
    Console(width=150).print(table_of(cells, options.rounds))
    if options.json:
        write_json(options.json, machine, options, cells)
    if options.plot:
        draw(options.plot, cells)
    return int(any(cell.error for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
