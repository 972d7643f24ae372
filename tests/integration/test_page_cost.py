"""A page of history costs the same for any length of the history, by the query plan and by the work counted."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.history import fill
from wallet_gql.backends.sqlite.connection import connect
from wallet_gql.backends.sqlite.store import SqliteStore
from wallet_gql.backends.sqlite.text import STATEMENTS as SQL
from wallet_gql.domain.ids import AccountId
from wallet_gql.storage import PageRequest

SHORT, LONG = 1_000, 20_000
LIMIT = 50
STEPS_APART_MAX = 8
"""A seek into a deeper tree takes a few more steps: the only difference that a long history may make."""

Statement = tuple[str, tuple[str | int, ...]]

STATEMENTS: dict[str, Callable[[str, PageRequest], Statement]] = {
    "history": SQL.history_page,
}
PAGES: dict[str, Callable[[int, int], PageRequest]] = {
    "newest": lambda _size, limit: PageRequest(limit),
    "middle": lambda size, limit: PageRequest(limit, before=size // 2),
    "oldest": lambda _size, limit: PageRequest(limit, before=2 * LIMIT),
    "oldest first": lambda _size, limit: PageRequest(limit, newest_first=False),
    "after the middle": lambda size, limit: PageRequest(limit, after=size // 2, newest_first=False),
    "between": lambda size, limit: PageRequest(limit, before=size // 2, after=size // 2 - 2 * LIMIT),
}

each_statement = pytest.mark.parametrize("statement", STATEMENTS)
each_page = pytest.mark.parametrize("page", PAGES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's two ledgers are."""
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def accounts(folder: Path) -> dict[int, AccountId]:
    """An account with a short history in one ledger and one with a long history in another."""

    async def make(size: int) -> AccountId:
        async with SqliteStore(f"sqlite:///{folder / str(size)}.db") as store:
            return await fill(store, size)

    return {size: asyncio.run(make(size)) for size in (SHORT, LONG)}


@pytest.fixture
def connections(folder: Path, accounts: dict[int, AccountId]) -> Iterator[dict[int, sqlite3.Connection]]:
    """Connections as the backend makes them, by the length of the history."""
    with closing(connect(folder / f"{SHORT}.db")) as short, closing(connect(folder / f"{LONG}.db")) as long:
        assert set(accounts) == {SHORT, LONG}
        yield {SHORT: short, LONG: long}


def steps(connection: sqlite3.Connection, asked: Statement, rows_expected: int) -> int:
    """How often SQLite's machine came round while it answered: a measure of rows read, returned or not."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    connection.set_progress_handler(count, 1)
    rows = connection.execute(*asked).fetchall()
    connection.set_progress_handler(None, 0)

    assert rows_expected == len(rows)
    return counted


@each_statement
@each_page
def test_a_page_is_an_index_seek(
    statement: str, page: str, accounts: dict[int, AccountId], connections: dict[int, sqlite3.Connection]
) -> None:
    """Every table of the query is searched by its primary key: nothing is scanned, nothing sorted."""
    text, values = STATEMENTS[statement](accounts[LONG], PAGES[page](LONG, LIMIT))

    plan = [row[3] for row in connections[LONG].execute(f"EXPLAIN QUERY PLAN {text}", values)]

    assert plan
    assert all(line.startswith("SEARCH") and "USING PRIMARY KEY" in line for line in plan), plan


@each_statement
@each_page
def test_a_page_costs_the_same_in_a_longer_history(
    statement: str, page: str, accounts: dict[int, AccountId], connections: dict[int, sqlite3.Connection]
) -> None:
    """Twenty times the entries, the same number of steps."""
    taken = {
        size: steps(
            connections[size], STATEMENTS[statement](accounts[size], PAGES[page](size, LIMIT)), rows_expected=LIMIT + 1
        )
        for size in (SHORT, LONG)
    }

    assert abs(taken[LONG] - taken[SHORT]) <= STEPS_APART_MAX, taken


@each_statement
@each_page
def test_a_page_reads_one_row_more_than_it_shows(
    statement: str, page: str, accounts: dict[int, AccountId], connections: dict[int, sqlite3.Connection]
) -> None:
    """Each further row of a page costs what one row costs: no row is read that is not returned."""

    def cost(limit: int) -> int:
        asked = STATEMENTS[statement](accounts[LONG], PAGES[page](LONG, limit))
        return steps(connections[LONG], asked, rows_expected=limit + 1)

    per_row = cost(2) - cost(1)
    rest = cost(1) - 2 * per_row

    assert per_row > 0
    assert cost(LIMIT) <= (LIMIT + 1) * per_row + rest
