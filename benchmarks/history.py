"""The cost of a page of history at 1,000 entries and at 1,000,000. It must be the same, or the index is not used.

    python benchmarks/history.py [sqlite | memory …] [--json FILE]

Two fresh stores, each with one account: one short history, one long. A page of 50 lines (`Store.list_transfers`) is
read at the newest end, in the middle, at the oldest end and at random places; the two stores take turns, call by call.
The figures are medians of all calls; the ratio is the median of the ratios of all rounds.
`tests/integration/test_page_cost.py` tests the reason: an index seek reads at most one row more than the page shows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.environment import describe
from wallet_gql.backends import open_store
from wallet_gql.domain.ids import (
    OPERATOR,
    AccountId,
    make_account_id,
    make_transfer_id,
    make_user_id,
    slot_of,
    system_account,
)
from wallet_gql.domain.model import CASH, Account, Entry, Transfer, TransferKind
from wallet_gql.storage import JournalItem, PageRequest, Store

CURRENCY: Final = "EUR"
PAGE: Final = 50
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
LOADED_AT_ONCE: Final = 20_000

PLACES: Final[dict[str, Callable[[int, random.Random], PageRequest]]] = {
    "newest": lambda _size, _rng: PageRequest(PAGE),
    "middle": lambda size, _rng: PageRequest(PAGE, before=size // 2),
    "oldest": lambda _size, _rng: PageRequest(PAGE, before=PAGE + 1),
    "anywhere": lambda size, rng: PageRequest(PAGE, before=rng.randint(PAGE + 1, size)),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One place of the history: median microseconds of a page, short and long, and the ratio round by round."""

    store: str
    place: str
    short_us: float
    long_us: float
    ratios: list[float]


def journal(account: Account) -> Iterator[JournalItem]:
    """One deposit of one minor unit a second, `account.sequence` of them."""
    for number in range(1, account.sequence + 1):
        at = account.created_at + timedelta(seconds=number)
        transfer = Transfer(
            id=make_transfer_id(account.slot, int(at.timestamp() * 1000), number),
            kind=TransferKind.DEPOSIT,
            debit_account_id=system_account(CASH, CURRENCY),
            credit_account_id=account.id,
            amount_minor=1,
            currency=CURRENCY,
            at=at,
            actor=OPERATOR,
            idempotency_key=f"k{number}",
        )
        yield JournalItem("", transfer, (Entry(account.id, number, transfer.id, 1, number, at),), ())


async def fill(store: Store, size: int) -> AccountId:
    """An account with `size` entries, imported."""
    owner = make_user_id(int(START.timestamp() * 1000), size)
    account_id = make_account_id(slot_of(owner), int(START.timestamp() * 1000), size)
    last = START + timedelta(seconds=size)
    account = Account(account_id, owner, CURRENCY, START, last, posted_minor=size, sequence=size)
    await store.load_raw([account])
    lines = journal(account)
    while chunk := list(islice(lines, LOADED_AT_ONCE)):
        await store.load_raw(chunk)
    await prove(store, account_id, size)
    return account_id


async def prove(store: Store, account_id: AccountId, size: int) -> None:
    """Check the import: everything sums to zero, and each place shows the right lines."""
    for total in await store.totals():
        assert (total.customer_minor, total.system_minor) == (size, -size)
    for place, newest in (("newest", size), ("middle", size // 2 - 1), ("oldest", PAGE)):
        page = await store.list_transfers(account_id, PLACES[place](size, random.Random(0)))
        shown = [line.entry.sequence for line in page.items]
        assert shown == list(range(newest, newest - PAGE, -1)), place


async def measure(name: str, options: argparse.Namespace, say: Callable[[str], None]) -> list[Figure]:
    """Both histories of one kind of store."""
    rng = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="wallet-bench-", dir=options.folder) as folder:
        async with AsyncExitStack() as opened:
            both: list[tuple[Store, AccountId, int]] = []
            for size in (options.short, options.long):
                say(f"{name}: loading {size:,} entries")
                url = {"memory": "memory://", "sqlite": f"sqlite:///{folder}/{size}.db"}.get(name, name)
                store = await opened.enter_async_context(open_store(url))
                both.append((store, await fill(store, size), size))
            return [await place_of(name, place, both, options, rng) for place in PLACES]


async def place_of(
    name: str, place: str, both: list[tuple[Store, AccountId, int]], options: argparse.Namespace, rng: random.Random
) -> Figure:
    """One place: rounds of alternating calls."""
    took: tuple[list[float], list[float]] = ([], [])
    ratios: list[float] = []
    for number in range(options.rounds + 1):
        this: tuple[list[float], list[float]] = ([], [])
        for _ in range(options.calls):
            for times, (store, account_id, size) in zip(this, both, strict=True):
                request = PLACES[place](size, rng)
                start = time.perf_counter()
                page = await store.list_transfers(account_id, request)
                times.append((time.perf_counter() - start) * 1e6)
                assert len(page.items) == PAGE
        if number == 0:
            continue  # warm-up
        took[0].extend(this[0])
        took[1].extend(this[1])
        ratios.append(statistics.median(this[1]) / statistics.median(this[0]))
    return Figure(name, place, statistics.median(took[0]), statistics.median(took[1]), sorted(ratios))


async def run_all(options: argparse.Namespace, say: Callable[[str], None]) -> list[Figure]:
    """All stores, one after the other."""
    return [figure for name in options.stores for figure in await measure(name, options, say)]


def table_of(figures: list[Figure], options: argparse.Namespace) -> Table:
    """What was found."""
    table = Table(title=f"a page of {PAGE} lines, medians of {options.rounds} x {options.calls} calls")
    for heading in ("store", "page"):
        table.add_column(heading)
    for heading in (f"us at {options.short:,}", f"us at {options.long:,}", "ratio (range)"):
        table.add_column(heading, justify="right")
    for f in figures:
        ratio = f"{statistics.median(f.ratios):.2f} ({f.ratios[0]:.2f}-{f.ratios[-1]:.2f})"
        table.add_row(f.store, f.place, f"{f.short_us:.0f}", f"{f.long_us:.0f}", ratio)
    return table


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("stores", nargs="*", default=["sqlite"], help="memory, sqlite")
    parser.add_argument("--short", type=int, default=1_000, help="entries of the short history")
    parser.add_argument("--long", type=int, default=1_000_000, help="entries of the long one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=200, help="pages of each history in a round")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where SQLite files are made")
    parser.add_argument("--json", type=Path, help="write everything there")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Load, measure and print."""
    options = parse(arguments)
    console = Console()
    machine = describe(options.folder)
    for name, value in machine.items():
        console.print(f"{name}: {value}", highlight=False)
    with console.status("") as status:
        figures = asyncio.run(run_all(options, status.update))
    Console(width=100).print(table_of(figures, options))
    if options.json:
        found = [{slot: getattr(figure, slot) for slot in Figure.__slots__} for figure in figures]
        options.json.write_text(json.dumps({"machine": machine, "figures": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
