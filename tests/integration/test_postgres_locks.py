"""Accounts locked by another transaction: commands that need one wait, other commands do not. Answers stay valid."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration._clusters import store_of, sums_may_take_long
from wallet_gql.backends import open_store
from wallet_gql.backends.postgres import node as _pg_node
from wallet_gql.backends.postgres import store as postgres
from wallet_gql.backends.postgres import sums
from wallet_gql.backends.postgres import two_phase as _two_phase
from wallet_gql.backends.postgres.commit import Branch
from wallet_gql.backends.postgres.node import PgNode
from wallet_gql.backends.postgres.sharded import Lane
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.domain.changes import Changes, Decision, Scope
from wallet_gql.domain.errors import Contended, InDoubt, NodeUnavailable, WalletError
from wallet_gql.domain.ids import AccountId
from wallet_gql.domain.spending import Limits, spending_key
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.patience import patience, slowness, turns, until
from wallet_gql.testing.proxy import Proxy
from wallet_gql.testing.world import CURRENCY, Person, World

pytestmark = [pytest.mark.backend("postgres"), pytest.mark.service("postgres")]

PAYERS = 8
TRIAL_SECONDS = 4.0
NEIGHBOURS_SECONDS_MAX = 1.5
"""Below what a batch waits for a lock, and far below what a caller waits for an answer."""


def node_of(world: World) -> PgNode:
    """Its node, for what another process would do."""
    (node,) = store_of(world, PostgresStore)._nodes.values()
    return node


@asynccontextmanager
async def locked(node: PgNode, account_id: AccountId) -> AsyncIterator[None]:
    """Somebody else has the account all the time."""
    async with node.connection(asyncio.get_running_loop().time() + patience(30)) as connection:
        await connection.do("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0")
        await connection.do(f"SELECT FROM accounts WHERE id = '{account_id}' FOR UPDATE")
        yield
        await connection.do("ROLLBACK")


async def busy_neighbour(node: PgNode, account_id: AccountId, until: float) -> float:
    """Another process that pays the same merchant: has the account for 15 of 25 ms; the longest that it waited."""
    longest = 0.0
    while time.monotonic() < until:
        began = time.monotonic()
        async with node.connection(asyncio.get_running_loop().time() + patience(10)) as connection:
            await connection.do(f"BEGIN; SELECT FROM accounts WHERE id = '{account_id}' FOR UPDATE")
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.015)
            await connection.do("COMMIT")
        await asyncio.sleep(0.01)
    return longest


@pytest.mark.trial
@pytest.mark.parametrize("merchant_first", [True, False])
async def test_a_locked_payer_is_no_trouble_of_his_merchant(world: World, merchant_first: bool) -> None:
    """He pays a busy merchant again and again, in vain. Others who pay the merchant are answered all the time.

    A batch that waited for the payer with the merchant's account in its hands would stop them for seconds. The order
    of their accounts decides which of the two is locked first.
    """
    people = sorted(await world.people(PAYERS + 2, 100_000), key=lambda person: person.account)
    merchant, stuck = (people[0], people[-1]) if merchant_first else (people[-1], people[0])
    ledger = world.ledger_on(await world.another())
    lasts_seconds = TRIAL_SECONDS  # of the trial itself, no limit of a wait
    until = time.monotonic() + lasts_seconds
    took: list[float] = []
    done_too_early: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def pays(payer: Person) -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            await world.pay(payer, merchant, 1, ledger=ledger)
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.05)

    async def insists() -> list[object]:
        sent = []
        while time.monotonic() < until - 1:
            sent.append(asyncio.create_task(world.pay(stuck, merchant, 1, ledger=ledger)))
            await asyncio.sleep(0.3)
        done_too_early.set_result(any(task.done() and task.exception() is None for task in sent))
        return await asyncio.gather(*sent, return_exceptions=True)

    async with locked(node_of(world), stuck.account):
        insisting = asyncio.create_task(insists())  # not before the lock is held, or its first payment goes through
        neighbour = asyncio.create_task(busy_neighbour(node_of(world), merchant.account, until))
        await asyncio.gather(*map(pays, people[1:-1]))
        waited = await neighbour
        assert not await done_too_early  # while the lock is still held
    assert max(took) < patience(NEIGHBOURS_SECONDS_MAX)
    assert waited < patience(NEIGHBOURS_SECONDS_MAX)
    assert len(took) > 5 * PAYERS / slowness()
    assert [answer for answer in await insisting if isinstance(answer, Exception)] == []  # for the lock has ended


async def test_a_locked_record_keeps_no_neighbour_waiting(world: World) -> None:
    """Such as what a payer has spent today, while his coordinator has stopped: only his own payments wait for it."""
    payer, payee, other = await world.people(3, 100)
    limits = Limits(payment=50, day=50)
    patient = world.ledger_on(world.store, patience(30), limits=limits)
    hasty = world.ledger_on(world.store, patience(6), limits=limits)  # the lock lasts longer than any deadline
    await world.pay(payer, payee, 1, ledger=patient)
    key = spending_key(payer.id, CURRENCY)
    lock = f"SELECT FROM records WHERE kind = '{key.kind}' AND id = '{key.id}' FOR UPDATE"
    async with node_of(world).connection(asyncio.get_running_loop().time() + patience(30)) as connection:
        await connection.do(f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; {lock}")
        waiting = asyncio.create_task(world.pay(payer, payee, 1, ledger=patient))
        for _ in range(5):  # in the same batches as his
            await asyncio.gather(*(world.pay(other, payee, 1, ledger=hasty) for _ in range(3)))
        assert not waiting.done()
        await connection.do("ROLLBACK")
    await waiting


def lane(store: PostgresStore, leader: str, others: tuple[str, ...] = (), behind: AccountId | None = None) -> Lane:
    """A lane by the placement that the store goes by."""
    return Lane(store.placement, leader, others, behind)


async def test_who_needs_an_account_that_was_found_locked_waits_for_it_first(world: World) -> None:
    """What decisions have met counts."""
    payee, payer, other = await world.people(3, 100)
    store = store_of(world, PostgresStore)

    def where(person: Person) -> object:
        return store._lane(Scope(payer.slot, accounts=(payer.account, person.account)))

    ordinary = lane(store, "n1")
    async with locked(node_of(world), payee.account):
        paying = asyncio.create_task(world.pay(payer, payee, 1))
        await until(lambda: where(payee) == replace(ordinary, behind=payee.account), 10, "commands wait behind it")
        assert where(other) == ordinary
    await paying
    await until(lambda: where(payee) == ordinary, 10, "the lock is forgotten")


async def test_a_closed_gate_is_no_locked_account(world: World) -> None:
    """Payments to a busy merchant wait until it opens, far longer than they wait for an account in order."""
    merchant, *payers = await world.people(4, 100)
    store = await world.another()
    assert isinstance(store, PostgresStore)
    ledger = world.ledger_on(store)
    await world.pay(payers[0], merchant, 1, ledger=ledger)
    async with world.store.gate():
        see(store, merchant.account, merchant.account)
        paying = [asyncio.create_task(world.pay(payer, merchant, 1, ledger=ledger)) for payer in payers]
        await asyncio.sleep(1.5)
        assert not any(task.done() for task in paying)
    await asyncio.gather(*paying)


async def test_the_gate_waits_longer_than_a_statement(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a statement may take by default is no limit of a gate that waits for a commit to end."""
    monkeypatch.setitem(_pg_node.SETTINGS, "statement_timeout", "1s")
    store = await world.another()
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND now() - query_start > '1.5s'"

    async def close() -> None:
        async with store.gate():
            pass

    async with node_of(world).connection(asyncio.get_running_loop().time() + patience(30)) as commit:
        await commit.do("BEGIN; SELECT pg_advisory_xact_lock_shared(7205759403792794)")
        closing = asyncio.create_task(close())
        while not closing.done() and not await node_of(world).ask(waits):
            await commit.value("SELECT 1")  # it is not idle for too long
            await asyncio.sleep(0.05)
        assert not closing.done(), closing.exception()
        await commit.do("COMMIT")
    await closing


async def test_sums_may_take_longer(harness: Harness, tmp_path: Path) -> None:
    """What a statement may take by default is no limit of sums, which read all accounts."""
    await sums_may_take_long(harness, tmp_path)


async def test_the_server_itself_ends_sums_that_take_too_long(world: World) -> None:
    """Not only the process that asks: nobody would wait for the answer, and the node would still work on it."""
    ((limit,),) = await sums.sums_of(node_of(world), "SELECT current_setting('statement_timeout')")
    assert limit == f"{sums.SUMS_SECONDS / 60:.0f}min"


# Behind which row

A, B, C = AccountId("acc_a"), AccountId("acc_b"), AccountId("acc_c")


def behind(store: PostgresStore, *accounts: AccountId, credited: AccountId | None = None, others: str = "") -> object:
    """The row that a new command of these accounts waits for first."""
    return store._behind(Scope(1, accounts=accounts, credits=(credited,) if credited else ()), tuple(others.split()))


def see(store: PostgresStore, account_id: AccountId, row: AccountId, times: int = postgres.SIGHTINGS) -> None:
    """Commands have found the account locked, and have gone behind a row."""
    for _ in range(times):
        store._found_locked({account_id: row})


async def test_a_locked_account_is_known_for_a_moment(closed: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """To commands that lock it: a credit on another node locks nothing. Being found so once or twice does not count."""
    see(closed, A, postgres.ANY, postgres.SIGHTINGS - 1)
    assert behind(closed, A, B) is None
    see(closed, A, postgres.ANY, 1)
    assert behind(closed, A) == behind(closed, B, A) == behind(closed, B, credited=A) == postgres.ANY
    assert behind(closed, B) is behind(closed, B, credited=A, others="n2") is None
    monkeypatch.setattr(postgres, "LOCKED_SECONDS", 0.0)
    see(closed, A, postgres.ANY)
    assert behind(closed, A) is None


async def test_who_waited_in_vain_waits_behind_that_account(closed: PostgresStore) -> None:
    """Until it is found locked no more. Of two such accounts opposite payments wait behind the same."""
    see(closed, A, A)
    see(closed, A, postgres.ANY)
    see(closed, C, postgres.ANY)
    assert behind(closed, A, C) == behind(closed, C, A) == A
    see(closed, B, B)
    assert behind(closed, A, B) == behind(closed, B, A) == B
    assert behind(closed, C) == postgres.ANY


# Whose turn it is


@pytest.fixture
def closed() -> PostgresStore:
    """A store on two nodes that nobody has opened."""
    return PostgresStore("postgres://w@127.0.0.1:1/a?node=n1,postgres://w@127.0.0.1:1/b?node=n2")


async def entered(stack: AsyncExitStack, store: PostgresStore, whose: Lane) -> bool:
    """Whether it is the lane's turn now."""
    entering = asyncio.ensure_future(stack.enter_async_context(store._turn(whose)))
    await turns()  # no I/O is involved: who gets his turn gets it within a few turns of the loop
    if not entering.done():
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
        return False
    await entering
    return True


async def test_opposite_lanes_take_turns(closed: PostgresStore) -> None:
    """Whichever leads. Who waits behind an account has a turn of his own; lanes of one node need none."""
    a, b = AccountId("acc_a"), AccountId("acc_b")
    async with AsyncExitStack() as stack:
        assert await entered(stack, closed, lane(closed, "n1", ("n2",)))
        assert not await entered(stack, closed, lane(closed, "n2", ("n1",)))
        assert await entered(stack, closed, lane(closed, "n2", ("n1",), a))
        assert not await entered(stack, closed, lane(closed, "n1", ("n2",), a))
        assert await entered(stack, closed, lane(closed, "n1", ("n2",), b))
        assert await entered(stack, closed, lane(closed, "n1", ()))
        assert await entered(stack, closed, lane(closed, "n1", ()))
    async with AsyncExitStack() as stack:
        assert await entered(stack, closed, lane(closed, "n2", ("n1",)))


async def test_only_a_few_wait(closed: PostgresStore) -> None:
    """For each node on its own; in the end all turns are given back."""
    most = postgres.waiting_max(closed._nodes["n1"])
    accounts = [AccountId(f"acc_{number}") for number in range(3 * most)]
    for _ in range(2):
        async with AsyncExitStack() as stack:
            came = [await entered(stack, closed, lane(closed, "n1", (), account_id)) for account_id in accounts]
            assert sum(came) == most
            assert await entered(stack, closed, lane(closed, "n2", (), accounts[0]))
            assert await entered(stack, closed, lane(closed, "n1", ()))


async def test_who_needs_two_nodes_has_his_turn_too(closed: PostgresStore) -> None:
    """Although others wait for each of the two all the time."""
    turns = {"n1": 0, "n2": 0, "both": 0}
    until = time.monotonic() + patience(1.0)

    async def one(kind: str, whose: Lane) -> None:
        while time.monotonic() < until:
            async with closed._turn(whose):
                await asyncio.sleep(0.002)
            turns[kind] += 1

    crowd = 3 * postgres.waiting_max(closed._nodes["n1"])
    lanes = [(name, lane(closed, name, (), AccountId(f"acc_{n}"))) for n in range(crowd) for name in ("n1", "n2")]
    await asyncio.gather(*(one(*lane) for lane in lanes), one("both", lane(closed, "n1", ("n2",), AccountId("acc_x"))))
    assert turns["both"] > turns["n1"] / crowd / 4


# What was answered stands


async def test_a_commit_is_no_failure_because_its_connection_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node falls silent after it has confirmed, as the connection is due to be closed: the payment is done."""
    ann, bob = await world.people(2, 1_000)
    where, commit_one = urlsplit(world.harness.url), _two_phase.commit_one
    assert where.hostname is not None
    assert where.port is not None
    monkeypatch.setattr(_pg_node, "QUERIES_MAX", 1)
    async with Proxy(where.hostname, where.port) as proxy:
        url = world.harness.url.replace(f":{where.port}", f":{proxy.port}")
        async with open_store(url) as store:

            async def commit(branch: Branch) -> None:
                await commit_one(branch)
                proxy.hold()

            monkeypatch.setattr(postgres, "commit_one", commit)
            # Not by a ledger, which would look its receipt up after a failure.
            answers: list[object] = []
            execute = store.execute

            async def heard(*values: object, **more: object) -> object:
                try:
                    answers.append(await execute(*values, **more))  # type: ignore[arg-type]
                except WalletError as error:
                    answers.append(error)
                    raise
                return answers[-1]

            monkeypatch.setattr(store, "execute", heard)
            await world.pay(ann, bob, 100, ledger=world.ledger_on(store))
            proxy.release()
    assert [answer for answer in answers if isinstance(answer, WalletError)] == []
    assert await world.balance(bob) == (1_100, 0)


async def test_a_hurry_is_no_silence(world: World) -> None:
    """A node that does not answer within his few milliseconds is not down for everybody; within two seconds it is."""
    ann, bob = await world.people(2, 1_000)
    where = urlsplit(world.harness.url)
    assert where.hostname is not None
    assert where.port is not None
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(where.hostname, where.port))
        url = world.harness.url.replace(f":{where.port}", f":{proxy.port}")
        ledger = world.ledger_on(store := await stack.enter_async_context(open_store(url)))
        await world.pay(ann, bob, 1, ledger=ledger)
        proxy.hold()
        with pytest.raises((Contended, InDoubt)):  # by no ledger, whose look at the receipt has the two seconds
            await store.execute(Scope(ann.slot), lambda _: Decision(Changes(), None), timeout_seconds=0.12)
        proxy.release()
        await world.pay(ann, bob, 1, ledger=ledger)
        proxy.hold()
        with pytest.raises((Contended, NodeUnavailable, InDoubt)):
            await world.pay(ann, bob, 1, ledger=world.ledger_on(store, 2.0))
        began = time.monotonic()
        with pytest.raises(NodeUnavailable):
            await world.pay(ann, bob, 1, ledger=world.ledger_on(store, 2.0))
        assert time.monotonic() - began < patience(1)
        proxy.release()
