"""Credits between nodes under Redis leases: the tests of two-phase commit, and what only leases have."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from tests.integration import test_postgres_pending as pending
from tests.integration._clusters import one_each, store_of, timed
from tests.integration._mistakes import Check, Spoil, notice, run
from tests.integration.redis_mutants import spoil_own
from tests.integration.test_postgres_pending import home_of
from tests.integration.test_postgres_pending_mutants import everything_at_once, received_out_of_order
from tests.integration.test_postgres_receiving import neighbours
from wallet_gql.backends.kit.wanted import Wanted
from wallet_gql.backends.postgres import reading
from wallet_gql.backends.postgres.json_text import wish
from wallet_gql.backends.postgres.node import Connection
from wallet_gql.backends.postgres.placement import Placement
from wallet_gql.backends.redis.claim import write
from wallet_gql.backends.redis.leases import account_row
from wallet_gql.backends.redis.store import RedisStore
from wallet_gql.domain.changes import Credit, State
from wallet_gql.domain.errors import Contended, Unavailable
from wallet_gql.domain.ids import AccountId
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.patience import patience, until
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.backend("redis-3"), pytest.mark.service("redis"), pytest.mark.trial]

quiet = pending.quiet

test_what_is_pending_is_money = pending.test_what_is_pending_is_money
test_an_export_receives_first = pending.test_an_export_receives_first
test_a_backlog_is_received_in_parts = pending.test_a_backlog_is_received_in_parts
test_a_backlog_leaves_others_their_share = pending.test_a_backlog_leaves_others_their_share
test_the_receiver_gives_credits_their_entries = pending.test_the_receiver_gives_credits_their_entries
test_credited_money_is_spent_at_once_elsewhere = pending.test_credited_money_is_spent_at_once_elsewhere
test_credited_money_is_spent_at_once_for_long = pending.test_credited_money_is_spent_at_once_for_long


# The checks


async def a_credit_comes_once(quiet: World) -> None:
    """A credit that is sent again is known, while it is pending and after it was received."""
    first, _, third = await one_each(quiet)
    transfer = (await quiet.pay(first, third, 7)).result
    store = store_of(quiet, RedisStore)
    assert store._credits is not None
    for _ in range(2):
        (arrived,) = store._credits.send([Credit(third.account, 7, transfer, home_of(quiet, first))])
        assert await arrived
        assert await quiet.balance(third) == (1_007, 0)
        await store.recover(10)


async def what_was_moved_in_its_table_is_not_received(quiet: World) -> None:
    """The table of pending credits is rewritten between a claim and its write: somebody else's credit is there now."""
    first, _, third = await one_each(quiet)
    early, late = await neighbours(quiet, third, 2)
    store, name = store_of(quiet, RedisStore), home_of(quiet, third)
    node, homes, state = store.node(name), store.placement, State(name, store.placement.peer_of(name))
    await store.recover(10)
    await node.rows("VACUUM FULL pending_credits")  # nobody has anything there, or has had
    for person, amount_minor in ((early, 5), (third, 7), (late, 9)):
        await quiet.pay(first, person, amount_minor)
    await quiet.fund(early, 1)  # and with that receives the first of them, whose place becomes free
    until = asyncio.get_running_loop().time() + patience(30)
    async with (
        store.leases.hold(name, [[account_row(third.account)]]) as held,
        node.connection(until) as connection,
    ):
        claimed = await store._claim(homes, connection, held, state, Wanted(accounts={third.account}))
        assert [credit.amount_minor for credit in state.writes.received] == [7]
        places = "SELECT ctid::text, amount_minor FROM pending_credits ORDER BY ctid"
        before = {row[1]: row[0] for row in await node.rows(places)}
        await node.rows("VACUUM FULL pending_credits")
        after = {row[1]: row[0] for row in await node.rows(places)}
        assert after[9] == before[7]
        with pytest.raises(Contended):
            await write(connection, claimed, epoch=homes.epochs[name])
    await store.recover(10)
    assert [await quiet.balance(person) for person in (third, late)] == [(1_007, 0), (9, 0)]


async def an_export_does_not_wait_for_leases(quiet: World) -> None:
    """Somebody keeps the lease of the payee's row: inside the gate nothing is pending all the same."""
    first, _, third = await one_each(quiet)
    assert (await quiet.pay(first, third, 7)).credited
    store, found = store_of(quiet, RedisStore), None
    async with store.leases.hold(home_of(quiet, third), [[account_row(third.account)]]):
        with suppress(Contended):
            async with store.gate():
                found = await pending.pending_of(quiet, third)
    assert found == 0


async def an_export_does_not_wait_for_payers(world: World) -> None:
    """They have leased the account, wait at the gate, and try again: inside it nothing is pending all the same."""
    first, _, third = await one_each(world)
    store = store_of(world, RedisStore)
    ledgers = [world.ledger_on(other, patience(10)) for other in await world.stores(2)]
    over, paid = asyncio.Event(), 0

    async def pay_for_long(number: int) -> None:
        nonlocal paid
        pair = (first, third) if number % 3 else (third, first)
        while not over.is_set():
            with suppress(Contended):
                await world.pay(*pair, 1, ledger=ledgers[number % 2])
                paid += 1

    payers = [asyncio.create_task(pay_for_long(number)) for number in range(12)]
    try:
        for _ in range(3):
            before = paid
            await until(lambda: paid > before + 20, 60, "nobody pays")  # noqa: B023 - it is awaited here
            found = None
            with suppress(Contended):
                async with store.gate():
                    found = [await pending.pending_of(world, person) for person in (first, third)]
            assert found == [0, 0]
    finally:
        over.set()
        await asyncio.gather(*payers)


async def who_does_not_receive_is_refused(quiet: World, patch: pytest.MonkeyPatch) -> None:
    """An older process would not see money that was acknowledged. It goes on once nothing is pending."""
    first, _, third = await one_each(quiet)
    store = store_of(quiet, RedisStore)
    assert (await quiet.pay(first, third, 7)).credited
    ledger = quiet.ledger_on(store, patience(1))
    with patch.context() as older:
        older.setattr(reading, "wish", lambda wanted, **more: wish(wanted, **{**more, "receive": None}))
        outcome, _ = await timed(quiet.pay(third, first, 1_007, "once", ledger=ledger))
        assert isinstance(outcome, Unavailable), outcome
    await quiet.pay(third, first, 1_007, "once")
    assert await quiet.balance(third) == (0, 0)


# The mistakes


def any_credit_of_that_place(patch: pytest.MonkeyPatch) -> None:
    """A write does not look again at what it receives."""
    spoil_own(patch, "wallet_write_fenced", ("given ? 'received'", "false"))


def sent_twice_taken_twice(patch: pytest.MonkeyPatch) -> None:
    """Credits that are here are not left out: the transfers' key refuses them, and they never count as arrived."""
    spoil_own(patch, "wallet_credit", ("known OR NOT has_payee", "NOT has_payee"))


def a_lease_for_each_account_inside_the_gate(patch: pytest.MonkeyPatch) -> None:
    """An export wants the leases that others have."""
    receive = RedisStore._receive_some

    async def leased(store: RedisStore, homes: Placement, connection: Connection, names: set[AccountId]) -> object:
        connection.holds_gate = False
        return await receive(store, homes, connection, names)

    patch.setattr(RedisStore, "_receive_some", leased)


def old_processes_claim(patch: pytest.MonkeyPatch) -> None:
    """Whoever does not receive is served."""
    spoil_own(patch, "wallet_claim", ("want ->> 'receive' IS NULL", "false"))


MISTAKES: Final[Mapping[Spoil, tuple[Check, str]]] = {
    any_credit_of_that_place: (what_was_moved_in_its_table_is_not_received, "DID NOT RAISE"),
    sent_twice_taken_twice: (a_credit_comes_once, "assert"),
    a_lease_for_each_account_inside_the_gate: (an_export_does_not_wait_for_leases, "None"),
    old_processes_claim: (who_does_not_receive_is_refused, "InsufficientFunds|this account"),
    received_out_of_order: (pending.test_what_is_pending_is_money, r"\[1000, 3, 2, 1"),
    everything_at_once: (pending.test_a_backlog_is_received_in_parts, "== "),
}
"""Each with the check that notices it, and what that says."""


@pytest.mark.parametrize(
    "check",
    [
        a_credit_comes_once,
        what_was_moved_in_its_table_is_not_received,
        an_export_does_not_wait_for_leases,
        an_export_does_not_wait_for_payers,
        who_does_not_receive_is_refused,
    ],
    ids=lambda check: check.__name__,
)
async def test_the_product_passes(world: World, monkeypatch: pytest.MonkeyPatch, check: Check) -> None:
    """Also the checks that are no tests of their own."""
    await run(check, world, monkeypatch)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
async def test_a_mistake_is_noticed(mistake: Spoil, harness: Harness, tmp_path: Path) -> None:
    """By the check named above, with its words."""
    await notice(mistake, *MISTAKES[mistake], harness, tmp_path)
