"""The tests detect wrong backends: each mistake that is easy to make with MongoDB is made here, and detected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.mongodb_mutants import MUTANTS
from wallet_gql.backends.mongodb.store import MongoStore
from wallet_gql.domain.changes import Scope
from wallet_gql.domain.errors import InDoubt, Rejected, Unavailable, WalletError
from wallet_gql.testing.books import faults, read_books
from wallet_gql.testing.conformance import Guarantees, Protocol
from wallet_gql.testing.patience import patience
from wallet_gql.testing.proxy import Proxy
from wallet_gql.testing.raw import counter_key, increment, number
from wallet_gql.testing.servers.mongo import MongoHarness, ReplicaSet, shared_set
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.trial, pytest.mark.backend("mongodb"), pytest.mark.timeout(180)]

TRIALS = 50


Test = Callable[[World], Coroutine[Any, Any, None]]


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An empty ledger that nobody audits: it will be wrong."""
    world = World(MongoHarness(), tmp_path)
    await world.__aenter__()
    yield world
    await world.__aexit__(AssertionError, None, None)


async def convicted_after(world: World, test: Test) -> int:
    """How many trials it took until a test failed; fails itself if none did in `TRIALS`."""
    for trial in range(1, TRIALS + 1):
        try:
            await test(world)
        except (AssertionError, pytest.fail.Exception):
            return trial
    pytest.fail(f"not convicted in {TRIALS} trials")


async def test_innocent_without_a_mutant(world: World) -> None:
    """The same tests acquit the backend as it is."""
    for test in (_pay_through_lost_replies, _count_through_lost_replies, _one_key_at_once):
        await test(world)


# A commit error taken for an abort


async def _behind(world: World, run: Callable[[Proxy, MongoStore], Coroutine[Any, Any, None]]) -> None:
    member = shared_set(1).members[0]
    async with Proxy("127.0.0.1", member.port) as proxy:
        url = world.harness.url.replace(member.address, f"127.0.0.1:{proxy.port}")
        async with MongoStore(url.replace("replicaSet=rs0", "directConnection=true")) as store:
            await run(proxy, store)


async def _pay_through_lost_replies(world: World) -> None:
    """An answer of "nothing changed" must be true: then, and only then, a client may go away."""
    ann, bob = await world.people(2, 1_000)

    async def run(proxy: Proxy, store: MongoStore) -> None:
        proxy.drop_reply(b"commitTransaction", 1_000)
        try:
            await world.pay(ann, bob, 10, world.key(), world.ledger_on(store, patience(1.0)))
        except Unavailable:
            account = await world.ledger.account(ann.id, ann.account)
            assert account.posted_minor == 1_000, "it said that nothing changed"
        except InDoubt:
            return

    await _behind(world, run)


async def _count_through_lost_replies(world: World) -> None:
    """A command without a key is done at most once, however often its commit has to be asked for."""
    ann = await world.person()
    key = counter_key(ann)

    async def run(proxy: Proxy, store: MongoStore) -> None:
        proxy.drop_reply(b"commitTransaction", 2)
        await store.execute(Scope(ann.slot, records=(key,)), increment(key), timeout_seconds=5)
        assert number(await world.record(key)) == 1

    await _behind(world, run)


@pytest.mark.parametrize("mistake", ["a_commit_error_denied", "a_commit_error_begun_again"])
async def test_a_commit_error_taken_for_an_abort(world: World, monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    """A lost reply read as "not committed" doubles what was committed and has no key."""
    MUTANTS[mistake](monkeypatch)
    await convicted_after(world, _count_through_lost_replies)


# A duplicate key swallowed


async def test_a_duplicate_key_swallowed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it answers is wrong, or it never does."""
    MUTANTS["a_duplicate_key_swallowed"](monkeypatch)
    monkeypatch.setattr("wallet_gql.testing.world.TIMEOUT_SECONDS", 1.0)

    async def impatient(world: World) -> None:
        async with asyncio.timeout(patience(8)):
            await Protocol().test_i2_a_transfer_posted_twice(world)

    try:
        await convicted_after(world, impatient)
    except (WalletError, TimeoutError):
        return  # CONTENDED for ever instead of an answer


# Majority write concern dropped


@pytest.fixture
def three() -> Iterator[ReplicaSet]:
    """Three members."""
    members = ReplicaSet(3)
    yield members
    members.stop()


async def _answered_without_a_majority(members: ReplicaSet, database: str) -> bool:
    """Whether a payment is answered while both other members are down, and is gone once they have elected one.

    They are killed: what the primary sends to a paused member waits in its socket and is applied when it goes on.
    """
    world = World(MongoHarness(), Path())
    url = members.url(database)
    async with MongoStore(url) as store:
        world.store, world.ledger = store, world.ledger_on(store, patience(20))
        ann, bob = await world.people(2, 1_000)
        world.ledger = world.ledger_on(store, 1.0)
        await asyncio.to_thread(members.replicate)  # reads wait for a majority to have what they read
        primary = await asyncio.to_thread(members.primary)
        others = [member for member in members.members if member is not primary]
        for member in others:
            member.kill()
        try:
            await world.pay(ann, bob, 10, "alone")
        except WalletError:
            answered = False
        else:
            answered = True
        primary.kill()
        for member in others:
            await asyncio.to_thread(member.start)
        await asyncio.to_thread(members.primary)
        books = await read_books(store)
        assert not faults(books)
        await asyncio.to_thread(primary.start)
        await asyncio.to_thread(members.settle)
        kept = any(transfer.idempotency_key == "alone" for transfer in books.transfers.values())
    return answered and not kept


async def test_no_answer_without_a_majority(three: ReplicaSet) -> None:
    """What only the primary has is not answered."""
    assert not await _answered_without_a_majority(three, "lonely")


async def test_majority_write_concern_dropped(three: ReplicaSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answered payment is lost."""
    MUTANTS["no_majority"](monkeypatch)
    assert await _answered_without_a_majority(three, "lonely")


# A receipt outside the transaction


async def _one_key_at_once(world: World) -> None:
    """One key, many processes, one payment."""
    ann, bob = await world.people(2, 1_000)
    key = world.key()
    ledgers = [world.ledger_on(store) for store in await world.stores(3)]
    outcomes = await asyncio.gather(
        *(world.pay(ann, bob, 10, key, ledgers[i % 3]) for i in range(12)), return_exceptions=True
    )
    assert all(isinstance(o, Rejected) or not isinstance(o, BaseException) for o in outcomes)
    books = await read_books(world.store)
    assert sum(transfer.idempotency_key == key for transfer in books.transfers.values()) == 1
    assert not [fault for fault in faults(books) if key in fault]


async def test_a_receipt_outside_the_transaction(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One key pays twice."""
    MUTANTS["a_receipt_outside_the_transaction"](monkeypatch)
    await convicted_after(world, _one_key_at_once)


# Versions not bumped


async def test_guards_not_bumped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands spend the same money."""
    MUTANTS["guards_not_bumped"](monkeypatch)
    await convicted_after(world, Guarantees().test_g2_no_write_skew)
