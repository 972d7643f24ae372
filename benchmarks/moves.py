"""Payments while slots move to a fourth node, compared with before, and how many entries move a second.

    python benchmarks/moves.py [--entries 1000000] [--accounts 2000] [--share 0.5] [--seconds 20] [--json FILE]

Three Postgres nodes are started for the run, and a fourth, empty one. Accounts get a past: the entries that are to
move, each a deposit with its header, its system entry and its receipt, all of accounts whose slots will go to the new
node. Then payers in this process pay between any two accounts, as fast as they are answered. They pay for some
seconds, then `wallet-gql nodes add` runs in a process of its own, then they pay on for as long as before.

`ratio` is payments per second during the move, compared with before. A payment that is refused because its slot is
moving is repeated under its key, and `longest` is how long one took in all. `entries/s` counts the past alone. At the
end the books are audited and counted; if anything is wrong, no figure is shown.
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
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.environment import as_markdown, describe
from benchmarks.ledger import CURRENCY, Book, new_loop, open_book
from wallet_gql.backends import open_store
from wallet_gql.backends.postgres.membership import misplaced
from wallet_gql.backends.postgres.pace import SHARE
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.books.audit import audit
from wallet_gql.domain.errors import Contended, InDoubt, Unavailable
from wallet_gql.domain.ids import slot_of
from wallet_gql.testing.servers.postgres import PostgresCluster, PostgresServer
from wallet_gql.verbs.ledger import To

PAUSE_SECONDS: Final = 0.01
"""Before a payment is repeated."""

TRIES_MAX: Final = 1_000

_DEPOSITS: Final = "FROM transfers AS t, generate_series(1, $2::int) AS n WHERE t.credit_account_id = ANY ($1)"
_PAST: Final = (
    """
    INSERT INTO entries (account_id, sequence, transfer_id, amount_minor, balance_minor, at)
    SELECT t.credit_account_id, n + 1, NTH, 1, t.amount_minor + n, t.at DEPOSITS
    """,
    """
    INSERT INTO system_entries (transfer_id, account_id, amount_minor, at)
    SELECT NTH, t.debit_account_id, -1, t.at DEPOSITS
    """,
    """
    INSERT INTO receipts (slot, actor, key, operation, fingerprint, at, transfer_id)
    SELECT r.slot, r.actor, r.key || '-' || n, r.operation, r.fingerprint, r.at, NTH
    FROM receipts AS r JOIN (SELECT t.id, n DEPOSITS) AS t ON r.transfer_id = t.id
    """,
    """
    UPDATE accounts SET posted_minor = posted_minor + $2::int, sequence = sequence + $2::int WHERE id = ANY ($1)
    """,
    """
    INSERT INTO transfers (id, kind, debit_account_id, credit_account_id, amount_minor, currency, at, actor,
                           idempotency_key, fee_minor, reference)
    SELECT NTH, t.kind, t.debit_account_id, t.credit_account_id, 1, t.currency, t.at, t.actor,
           t.idempotency_key || '-' || n, 0, '' DEPOSITS
    """,
)
"""Repeats the one deposit of each account. The last statement adds what all begin with."""

_WORDS: Final = {"NTH": "substr(t.id, 1, 24) || lpad(to_hex(n), 12, '0')", "DEPOSITS": _DEPOSITS}
PAST: Final = [re.sub("|".join(_WORDS), lambda found: _WORDS[found[0]], text) for text in _PAST]


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    entries: int
    accounts: int
    in_flight: int
    share: float
    rate: float
    seconds: float
    json: Path | None


@dataclass(frozen=True, slots=True)
class Found:
    """What one run gave."""

    before_per_second: float
    during_per_second: float
    after_per_second: float
    longest_before_seconds: float
    longest_during_seconds: float
    move_seconds: float
    entries: int
    rows: int
    slots: int
    frozen_seconds_max: float
    mover_cpu_seconds: float

    @property
    def ratio(self) -> float:
        """Payments during the move, compared with before."""
        return self.during_per_second / self.before_per_second


class Payers:
    """Pays until it is stopped. `done` has the end of each payment and how long it took."""

    def __init__(self, book: Book, rng: random.Random) -> None:
        self._book = book
        self._rng = rng
        self._keys = map("k{}".format, itertools.count())
        self.done: list[tuple[float, float]] = []
        self.running = True

    async def pay(self) -> None:
        """One payer: the next payment when the last one was answered."""
        while self.running:
            (owner, source), (_, target) = self._rng.sample(self._book.payers, 2)
            key, began = next(self._keys), time.monotonic()
            for _ in range(TRIES_MAX):
                if await self._paid(owner, key, source=source, to=To(account_id=target)):
                    break
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                raise SystemExit(f"INVALID: payment {key} was never answered")
            self.done.append((time.monotonic(), time.monotonic() - began))

    async def _paid(self, owner: Any, key: str, **sides: Any) -> bool:
        try:
            await self._book.ledger.transfer(owner, key, amount_minor=1, currency=CURRENCY, **sides)
        except (Contended, InDoubt, Unavailable):
            return False
        return True

    def between(self, begin: float, end: float) -> tuple[float, float]:
        """Payments per second, and the longest."""
        took = [seconds for ended, seconds in self.done if begin <= ended < end]
        return len(took) / (end - begin), max(took, default=0.0)


async def fill(book: Book, entries: int) -> int:
    """Give a past to the accounts that will move. Returns how many entries that is."""
    store = _store(book)
    parts = misplaced(store.placement, more=("n4",))
    accounts = {part.source: [a for _, a in book.payers if slot_of(a) in set(part.slots)] for part in parts}
    each = max(entries // max(sum(map(len, accounts.values())), 1), 1)
    for name, ids in accounts.items():
        async with store.node(name).connection(asyncio.get_running_loop().time() + 3600.0) as connection:
            await connection.begin("BEGIN; SET LOCAL statement_timeout = 0")
            for statement in PAST:
                await connection.rows(statement, ids, each)
            await connection.do("COMMIT")
    for name in accounts:
        async with store.node(name).connection(asyncio.get_running_loop().time() + 3600.0) as connection:
            await connection.do("SET statement_timeout = 0")
            await connection.do("VACUUM ANALYZE")
            connection.doubtful = True
    return each * sum(map(len, accounts.values()))


async def move(url: str, fourth: str, options: Options) -> dict[str, Any]:
    """Add the fourth node by the command line. Returns what that said, and its processor time as `cpuSeconds`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ("nodes", "add", "n4", fourth, "--json", "--share", str(options.share), "--rate", str(options.rate))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wallet_gql", *words),
        env={**os.environ, "WALLET_STORAGE": url},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"INVALID: wallet-gql nodes add ended with {process.returncode}: {said.decode()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**json.loads(said), "cpuSeconds": cpu_seconds}


async def run(cluster: PostgresCluster, server: PostgresServer, options: Options) -> Found:
    """Pay before, while and after slots move, and prove the books."""
    database = cluster.take()
    server.run(f"CREATE DATABASE {database}")
    url, rng = cluster.url(database), random.Random(4)
    async with open_book(open_store(url), options.accounts, rng) as book:
        entries = await fill(book, options.entries)
        payers = Payers(book, rng)
        tasks = [asyncio.create_task(payers.pay()) for _ in range(options.in_flight)]
        await asyncio.sleep(options.seconds / 5)
        times = [time.monotonic()]
        await asyncio.sleep(options.seconds)
        times.append(time.monotonic())
        said = await move(url, server.url(database).partition("?")[0], options)
        times.append(time.monotonic())
        await asyncio.sleep(options.seconds)
        times.append(time.monotonic())
        payers.running = False
        await asyncio.gather(*tasks)
        while (await book.store.recover(1_000)).credited:
            pass
        await prove(book, entries, len(payers.done))
    before, during, after = itertools.starmap(payers.between, itertools.pairwise(times))
    return Found(
        *(before[0], during[0], after[0], before[1], during[1], times[2] - times[1], entries),
        *(said["rows"], said["slots"], said["frozenSecondsMax"], said["cpuSeconds"]),
    )


async def prove(book: Book, entries: int, answered: int) -> None:
    """Exit unless the books are in order, the past has moved, and nothing is missing."""
    await _store(book).relearn()
    report = await audit(book.store)
    if not report.clean:
        raise SystemExit(f"INVALID: {report.findings[0].record} {report.findings[0].problem}")
    wanted = answered + len(book.payers) + entries
    if report.transfers != wanted:
        raise SystemExit(f"INVALID: {report.transfers} transfers are stored, {wanted} were made")
    if misplaced(_store(book).placement):
        raise SystemExit("INVALID: not all slots have moved")


def _store(book: Book) -> PostgresStore:
    assert isinstance(book.store, PostgresStore)
    return book.store


def show(found: Found, options: Options) -> Table:
    """The table."""
    table = Table(title=f"{options.in_flight} in flight, {options.accounts:,} accounts, share {options.share}")
    for head in ("", "payments/s", "ratio", "longest s"):
        table.add_column(head, justify="left" if not head else "right")
    table.add_row("before", f"{found.before_per_second:,.0f}", "", f"{found.longest_before_seconds:.2f}")
    table.add_row(
        "during", f"{found.during_per_second:,.0f}", f"{found.ratio:.2f}", f"{found.longest_during_seconds:.2f}"
    )
    table.add_row(
        "after", f"{found.after_per_second:,.0f}", f"{found.after_per_second / found.before_per_second:.2f}", ""
    )
    return table


def parse() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Payments while slots move.")
    parser.add_argument("--entries", type=int, default=1_000_000, help="that move, besides those of the payments")
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--share", type=float, default=SHARE, help="of the mover's time")
    parser.add_argument("--rate", type=float, default=0.0, help="rows a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="before the move, and after it")
    parser.add_argument("--json", type=Path, help="write everything there")
    return Options(**vars(parser.parse_args()))


def main() -> None:
    """Measure and tell."""
    options = parse()
    cluster, server = PostgresCluster(3), PostgresServer("n4")
    try:
        with asyncio.Runner(loop_factory=lambda: new_loop("uvloop")) as runner:
            found = runner.run(run(cluster, server, options))
    finally:
        server.stop()
        cluster.stop()
    described = describe(Path(tempfile.gettempdir()))
    Console(width=120).print(show(found, options))
    entries, rows = found.entries / found.move_seconds, found.rows / found.move_seconds
    print(f"{found.entries:,} entries in {found.move_seconds:,.1f} s: {entries:,.0f} entries/s, {rows:,.0f} rows/s")
    print(f"{found.slots:,} slots, none unavailable for longer than {found.frozen_seconds_max:.2f} s")
    print(f"the mover's own processor time: {found.mover_cpu_seconds:,.1f} s")
    print(as_markdown(described))
    if options.json is not None:
        kept = {"environment": described, "found": {**asdict(found), "ratio": found.ratio}}
        options.json.write_text(json.dumps(kept, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
