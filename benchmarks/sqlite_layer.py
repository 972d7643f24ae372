"""The cost of SQLAlchemy's execution layer on SQLite's hot path, which is why the backend's statements are plain text.

    python benchmarks/sqlite_layer.py [--json FILE]

The same ledger runs on three stores, which differ only in how the statements of a commit are executed:

- `plain`: `backends/sqlite/store.py` as it is, text on the standard library's driver;
- `text`: the same text through SQLAlchemy (`exec_driver_sql`), which adds its connection and its rows;
- `core`: the same statements built with SQLAlchemy Core from the same tables, compiled once and cached.

Transaction, connection settings and threads are the same. Measured are whole `Ledger.transfer` calls, one at a time
and 64 in flight; the stores take turns, and the ratios are medians of the rounds' own.
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
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.environment import describe
from benchmarks.ledger import CURRENCY, Book, new_loop, open_book, prove
from wallet_gql.backends.kit import kinds
from wallet_gql.backends.kit.group_commit import Command
from wallet_gql.backends.kit.wanted import Wanted
from wallet_gql.backends.relational import tables
from wallet_gql.backends.sqlite import batch
from wallet_gql.backends.sqlite import store as sqlite
from wallet_gql.domain.changes import Outcome, State, decide_all
from wallet_gql.domain.codec import to_micros
from wallet_gql.verbs.ledger import To

ACCOUNTS: Final = 64
STEPS: Final = {"alone": 1, "64 in flight": 64}

_ACCOUNTS: Final = sa.select(tables.accounts).where(tables.accounts.c.id.in_(sa.bindparam("ids", expanding=True)))
_KEY: Final = sa.tuple_(tables.receipts.c.slot, tables.receipts.c.actor, tables.receipts.c.key)
_RECEIPTS: Final = sa.select(tables.receipts).where(_KEY.in_(sa.bindparam("keys", expanding=True)))
_UPDATE: Final = (
    sa.update(tables.accounts)
    .where(tables.accounts.c.id == sa.bindparam("own"), tables.accounts.c.sequence == sa.bindparam("loaded"))
    .values(
        posted_minor=tables.accounts.c.posted_minor + sa.bindparam("posted"),
        held_minor=tables.accounts.c.held_minor + sa.bindparam("held"),
        sequence=sa.bindparam("next"),
        changed_at=sa.bindparam("at"),
        status=sa.bindparam("now"),
    )
)
_INSERTS: Final = {table.name: (sa.insert(table), [c.name for c in table.columns]) for table in tables.ALL}


class Layered(sqlite.SqliteStore):
    """The SQLite store with SQLAlchemy's connection on its writer thread."""

    name = "text"

    def _layer(self) -> sa.Connection:
        layer: sa.Connection | None = getattr(self._connections, "layer", None)
        if layer is None:
            plain = self._connection()
            engine = sa.create_engine("sqlite://", creator=lambda: plain, poolclass=sa.StaticPool)
            sa.event.listen(engine, "begin", lambda bound: bound.exec_driver_sql("BEGIN IMMEDIATE"))
            layer = self._connections.layer = engine.connect()
        return layer

    async def _commit(self, _lane: Hashable, batch: Sequence[Command], _wait_seconds: float) -> list[Outcome]:
        wanted = Wanted.of(command.scope for command in batch)
        pairs = [(command.scope, command.decide) for command in batch]
        state = State(sqlite.NODE, self._nodes.peer_of(sqlite.NODE))

        def work() -> list[Outcome]:
            layer = self._layer()
            with layer.begin():
                self._load(layer, state, wanted)
                outcomes = decide_all(state, pairs)
                self._write(layer, state)
            return outcomes

        return await self._on(self._writer, work)

    def _load(self, layer: sa.Connection, state: State, wanted: Wanted) -> None:
        batch.load(cast("Any", _AsDriver(layer)), state, wanted)

    def _write(self, layer: sa.Connection, state: State) -> None:
        batch.write(cast("Any", _AsDriver(layer)), state.writes)


class _AsDriver:
    """SQLAlchemy's connection, looking like the driver's."""

    def __init__(self, layer: sa.Connection) -> None:
        self._layer = layer

    def execute(self, text: str, values: tuple[Any, ...] = ()) -> sa.CursorResult[Any]:
        return self._layer.exec_driver_sql(text, values)

    def executemany(self, text: str, many: Sequence[tuple[Any, ...]]) -> None:
        if many:
            self._layer.exec_driver_sql(text, list(many))


class Core(Layered):
    """Statements of SQLAlchemy Core, as far as opening accounts, deposits and transfers need them."""

    name = "core"

    def _load(self, layer: sa.Connection, state: State, wanted: Wanted) -> None:
        if wanted.wallets or wanted.records or wanted.holds or wanted.transfers:
            super()._load(layer, state, wanted)  # setting up, auditing: not measured
            return
        for row in layer.execute(_ACCOUNTS, {"ids": list(wanted.accounts | wanted.credits)}):
            state.load_account(kinds.ACCOUNT.from_row(row))
        for row in layer.execute(_RECEIPTS, {"keys": list(wanted.receipts)}):
            state.load_receipt(kinds.RECEIPT.from_row(row))

    def _write(self, layer: sa.Connection, state: State) -> None:
        writes = state.writes
        if writes.opened or writes.records or writes.placed or writes.closed:
            super()._write(layer, state)
            return
        for before, after in writes.accounts.values():
            values = {
                "own": after.id,
                "loaded": before.sequence,
                "posted": after.posted_minor - before.posted_minor,
                "held": after.held_minor - before.held_minor,
                "next": after.sequence,
                "at": to_micros(after.changed_at),
                "now": after.status.value,
            }
            assert layer.execute(_UPDATE, values).rowcount == 1
        _insert(layer, "transfers", map(kinds.TRANSFER.to_row, writes.transfers))
        _insert(layer, "entries", map(kinds.ENTRY.to_row, writes.entries))
        _insert(layer, "system_entries", map(kinds.SYSTEM_ENTRY.to_row, writes.system_entries))
        _insert(layer, "receipts", map(kinds.RECEIPT.to_row, writes.receipts))


def _insert(layer: sa.Connection, table: str, many: Iterable[kinds.Row]) -> None:
    statement, columns = _INSERTS[table]
    values = [dict(zip(columns, row, strict=True)) for row in many]
    if values:
        layer.execute(statement, values)


STORES: Final = {"plain": sqlite.SqliteStore, "text": Layered, "core": Core}


@dataclass(slots=True)
class Series:
    """One way at one step: wall and CPU microseconds a transfer, round by round."""

    way: str
    step: str
    wall_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


async def chunk(book: Book, in_flight: int, count: int, keys: map[str], rng: random.Random) -> tuple[float, float]:
    """`count` transfers, `in_flight` at a time; wall and CPU microseconds of each."""
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            (owner, source), (_, target) = rng.sample(book.payers, 2)
            to = To(account_id=target)
            await book.ledger.transfer(owner, next(keys), source=source, to=to, amount_minor=1, currency=CURRENCY)

    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return (time.perf_counter() - start) / count * 1e6, (time.process_time() - cpu) / count * 1e6


async def run_all(options: argparse.Namespace, say: Callable[[str], None]) -> list[Series]:
    """All rounds of all stores, in turns; then each store's proof."""
    rng = random.Random(1)
    series = {(way, step): Series(way, step) for step in STEPS for way in STORES}
    keys = map("k{}".format, itertools.count())
    with tempfile.TemporaryDirectory(prefix="wallet-bench-", dir=options.folder) as folder:
        async with AsyncExitStack() as opened:
            books = {
                way: await opened.enter_async_context(
                    open_book(kind(f"sqlite:///{folder}/{way}.db"), ACCOUNTS, random.Random(1))
                )
                for way, kind in STORES.items()
            }
            for number in range(options.rounds + 1):
                say(f"round {number} of {options.rounds}")
                for step, in_flight in STEPS.items():
                    for way in rng.sample(list(books), len(books)):
                        count = options.transfers * (1 if in_flight == 1 else 4)
                        wall, cpu = await chunk(books[way], in_flight, count, keys, rng)
                        if number:  # the first round warms up
                            series[way, step].wall_us.append(wall)
                            series[way, step].cpu_us.append(cpu)
            done = options.transfers * 5 * (options.rounds + 1)
            for way, book in books.items():
                if wrong := await prove(book, done):
                    raise SystemExit(f"INVALID: {way}: {wrong}")
    return list(series.values())


def table_of(series: list[Series], options: argparse.Namespace) -> Table:
    """What was found."""
    table = Table(title=f"Ledger.transfer on SQLite, medians of {options.rounds} rounds")
    for heading in ("transfers", "statements"):
        table.add_column(heading)
    for heading in ("wall us", "to plain (range)", "CPU us", "to plain"):
        table.add_column(heading, justify="right")
    plain = {s.step: s for s in series if s.way == "plain"}
    for s in series:
        walls = sorted(mine / base for mine, base in zip(s.wall_us, plain[s.step].wall_us, strict=True))
        cpus = [mine / base for mine, base in zip(s.cpu_us, plain[s.step].cpu_us, strict=True)]
        table.add_row(
            s.step,
            s.way,
            f"{statistics.median(s.wall_us):.0f}",
            f"{statistics.median(walls):.2f} ({walls[0]:.2f}-{walls[-1]:.2f})",
            f"{statistics.median(s.cpu_us):.0f}",
            f"{statistics.median(cpus):.2f}",
        )
    return table


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--transfers", type=int, default=200, help="lone transfers of each store in a round")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop", help="the server runs on uvloop")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where SQLite files are made")
    parser.add_argument("--json", type=Path, help="write everything there")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parse(arguments)
    console = Console()
    machine = {**describe(options.folder), "SQLAlchemy": sa.__version__}
    for name, value in machine.items():
        console.print(f"{name}: {value}", highlight=False)
    with console.status("") as status, asyncio.Runner(loop_factory=lambda: new_loop(options.loop)) as runner:
        series = runner.run(run_all(options, status.update))
    Console(width=110).print(table_of(series, options))
    if options.json:
        found = [asdict(one) for one in series]
        options.json.write_text(json.dumps({"machine": machine, "series": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
