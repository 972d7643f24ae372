"""The receiver of pending credits on Postgres nodes: it waits for nobody and starves nobody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest

from tests.integration._clusters import one_each, store_of
from tests.integration.test_postgres_pending import entries_of, home_of, leave_in_doubt, node_of, pending_of, quiet
from wallet_gql.backends.kit.wanted import Wanted
from wallet_gql.backends.postgres import reading, receiving
from wallet_gql.backends.postgres.json_text import wish
from wallet_gql.backends.postgres.node import Connection, literal
from wallet_gql.backends.postgres.placement import Placement
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.domain.errors import Contended, InvariantViolated, Unavailable, WalletError
from wallet_gql.domain.ids import OPERATOR, AccountId
from wallet_gql.domain.model import AccountStatus
from wallet_gql.domain.money import BALANCE_MAX_MINOR
from wallet_gql.storage import JournalItem
from wallet_gql.testing.patience import patience
from wallet_gql.testing.world import Person, World

pytestmark = [pytest.mark.backend("postgres-3"), pytest.mark.service("postgres")]

__all__ = ["quiet"]


@asynccontextmanager
async def locked(world: World, person: Person) -> AsyncIterator[None]:
    """Somebody else has locked the person's account."""
    until = asyncio.get_running_loop().time() + patience(30)
    async with node_of(world, person).connection(until) as connection:
        await connection.do(f"BEGIN; SELECT FROM accounts WHERE id = {literal(person.account)} FOR UPDATE")
        yield
        await connection.do("ROLLBACK")


async def neighbours(world: World, person: Person, count: int) -> list[Person]:
    """So many others of the person's node."""
    found: list[Person] = []
    while len(found) < count:
        found += [one for one in await world.people(8) if home_of(world, one) == home_of(world, person)]
    return found[:count]


async def test_recovery_passes_locked_accounts_over(quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for no account while it holds others, and comes to those behind the locked ones, page by page."""
    monkeypatch.setattr(receiving, "RECEIVE_ACCOUNTS_MAX", 2)
    monkeypatch.setattr(reading, "RECEIVE_MAX", 2)
    first, _, third = await one_each(quiet)
    people = sorted([third, *await neighbours(quiet, third, 4)], key=lambda person: person.account)
    for person in people:
        await asyncio.gather(*(quiet.pay(first, person, amount_minor) for amount_minor in (1, 1, 1)))
    async with locked(quiet, people[0]):
        await quiet.store.recover(10)
        assert [await pending_of(quiet, person) for person in people] == [3, 0, 0, 0, 0]
    await quiet.store.recover(10)
    assert await pending_of(quiet, people[0]) == 0


async def test_no_account_keeps_those_behind_it_waiting(quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sweep has time for one page only, and the first account always has something to receive."""
    monkeypatch.setattr(receiving, "RECEIVE_ACCOUNTS_MAX", 1)
    first, _, third = await one_each(quiet)
    store = store_of(quiet, PostgresStore)
    people = sorted([third, *await neighbours(quiet, third, 2)], key=lambda person: person.account)
    await asyncio.gather(*(quiet.pay(first, person, 1) for person in people))
    some, pages = store._receive_some, 0

    async def one_page(homes: Placement, connection: Connection, names: set[AccountId]) -> tuple[set[AccountId], bool]:
        nonlocal pages
        pages += 1
        if pages > 1:
            raise Contended("the sweep's time is over")
        return await some(homes, connection, names)

    monkeypatch.setattr(store, "_receive_some", one_page)
    for _ in people:
        pages = 0
        await store._receive(0)
        await quiet.pay(first, people[0], 1)
    assert [await pending_of(quiet, person) for person in people[1:]] == [0, 0]


async def test_credits_above_64_bits_are_reported(
    quiet: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They stay pending and are counted; those behind them are received, and the payee pays, however many they are."""
    monkeypatch.setattr(reading, "RECEIVE_MAX", 2)
    first, _, third = await one_each(quiet)
    node = node_of(quiet, third)
    for amount_minor in (1, 1, 1, 5):
        await quiet.pay(first, third, amount_minor)
    change = "UPDATE pending_credits SET amount_minor = $1 WHERE amount_minor = $2"
    await node.rows(change, BALANCE_MAX_MINOR, 1)
    await quiet.pay(third, first, 2)
    assert await entries_of(quiet, third) == [1_000, 5, -2]
    with caplog.at_level(logging.WARNING, "wallet_gql.postgres"):
        await quiet.store.recover(10)
    assert f"credits of {third.account} stay pending" in caplog.text
    (vitals,) = [one for one in await store_of(quiet, PostgresStore).vitals() if one.node == node.name]
    assert (vitals.pending_credits, vitals.intents) == (3, 0)
    assert vitals.unsettled_seconds > 0
    await node.rows(change, 1, BALANCE_MAX_MINOR)


async def test_processes_that_know_no_pending_credits_are_refused(quiet: World) -> None:
    """Those of the release before, which still run while the schema is upgraded: they would show too little."""
    _, _, third = await one_each(quiet)
    node = node_of(quiet, third)
    older = wish(Wanted(accounts={third.account}), epoch=1)
    assert "receive" not in older
    for mode in ("read", "skip", "wait"):
        with pytest.raises(Unavailable, match="restart"):
            await node.rows("SELECT wallet_load($1, $2)", older, mode)


async def test_no_transfer_enters_an_account_twice(quiet: World) -> None:
    """The database refuses it, and so does an import."""
    first, _, third = await one_each(quiet)
    await quiet.pay(first, third, 7)
    await quiet.store.recover(10)
    again = (
        "INSERT INTO entries SELECT account_id, sequence + 9, transfer_id, amount_minor, balance_minor, at FROM entries"
    )
    with pytest.raises(InvariantViolated, match="entries_by_transfer"):
        await node_of(quiet, third).rows(f"{again} WHERE account_id = $1", third.account)
    page = await quiet.store.scan("journal", None, 100)
    item = next(item for item in page.items if isinstance(item, JournalItem) and item.entries)
    with pytest.raises(InvariantViolated, match="explain"):
        replace(item, entries=item.entries * 2).check()


async def test_the_gate_outlives_an_idle_session(world: World) -> None:
    """Servers that end idle sessions leave the gate's open."""
    node = node_of(world, (await one_each(world))[0])
    database = await node.ask("SELECT current_database()")
    await node.rows(f"ALTER DATABASE {database} SET idle_session_timeout = '200ms'")
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted"
    (other,) = await world.stores(1)
    async with other.gate():
        await asyncio.sleep(1)
        assert await node.ask(held) >= 1
    await node.rows(f"ALTER DATABASE {database} RESET idle_session_timeout")


async def test_a_refused_closing_harms_no_neighbour(quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a credit is on its way, only the command that closes the account is refused, however often it comes."""
    first, _, third = await one_each(quiet)
    await quiet.pay(third, first, 1_000)
    beside, other = await neighbours(quiet, third, 2)
    await quiet.fund(beside, 10)
    with monkeypatch.context() as patch:
        leave_in_doubt(patch)
        await quiet.pay(first, third, 30)
    hasty = quiet.ledger_on(quiet.store, patience(1.5))
    closing = [hasty.set_account_status(OPERATOR, third.account, AccountStatus.CLOSED) for _ in range(3)]
    outcomes: list[Any] = await quiet.together([*closing, *(quiet.pay(beside, other, 1) for _ in range(3))])
    assert all(isinstance(outcome, Contended) for outcome in outcomes[:3])
    assert not any(isinstance(outcome, WalletError) for outcome in outcomes[3:])


@pytest.mark.parametrize("arrived", [False, True])
async def test_no_release_closes_an_account_past_a_credit(
    quiet: World, monkeypatch: pytest.MonkeyPatch, arrived: bool
) -> None:
    """The database itself sees that an account is closed: an older process, in the middle of a commit, says no more."""
    first, _, third = await one_each(quiet)
    await quiet.pay(third, first, 1_000)
    with monkeypatch.context() as patch:
        if not arrived:
            leave_in_doubt(patch)
        await quiet.pay(first, third, 30)
    node = node_of(quiet, third)
    ((sequence, at),) = await node.rows("SELECT sequence, changed_at FROM accounts WHERE id = $1", third.account)
    older = orjson.dumps({"accounts": [[0, 0, sequence, at, "closed", third.account, sequence]]}).decode()
    with pytest.raises(Contended, match="to an account to be closed"):
        await node.rows("SELECT wallet_write($1)", older)


async def test_a_credit_does_not_wait_for_a_closing(quiet: World) -> None:
    """Whoever closes an account may have stopped before his commit: payments to it are refused and not kept waiting."""
    first, second, third = await one_each(quiet)
    until = asyncio.get_running_loop().time() + patience(30)
    async with node_of(quiet, third).connection(until) as connection:
        await connection.do(f"BEGIN; SELECT pg_advisory_xact_lock(hashtextextended({literal(third.account)}, 0))")
        outcomes = await quiet.together([quiet.pay(first, third, 1), quiet.pay(second, first, 1)])
        assert isinstance(outcomes[0], Contended)
        assert not isinstance(outcomes[1], WalletError)
        await connection.do("ROLLBACK")
    await quiet.pay(first, third, 1)
