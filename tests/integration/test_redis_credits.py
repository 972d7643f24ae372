"""Credits between nodes under Redis leases: the tests of two-phase commit, and what only leases have."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

import pytest

from tests.integration import test_postgres_pending as pending
from tests.integration._clusters import one_each, store_of
from tests.integration._mistakes import Check, Spoil, notice, run
from tests.integration.test_postgres_pending import home_of
from tests.integration.test_postgres_pending_mutants import everything_at_once, received_out_of_order
from tests.integration.test_postgres_receiving import neighbours
from wallet_gql.backends.kit.wanted import Wanted
from wallet_gql.backends.postgres.node import Connection
from wallet_gql.backends.redis.claim import write
from wallet_gql.backends.redis.leases import account_row
from wallet_gql.backends.redis.store import RedisStore
from wallet_gql.domain.changes import Credit, State
from wallet_gql.domain.errors import Contended
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.patience import patience
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


# The mistakes


def _changed(patch: pytest.MonkeyPatch, function: str, old: str, new: str) -> None:
    """Have another function than the one of that name, with this change."""
    text = (resources.files("wallet_gql.backends.redis") / "sql" / f"{function}.sql").read_text(encoding="utf-8")
    assert old in text
    other = text.replace(f"{function}(", f"pg_temp.{function}(").replace(old, new)
    run, value = Connection.run, Connection.value

    async def running(connection: Connection, statement: str) -> str:
        if not statement.startswith(f"SELECT {function}("):
            return await run(connection, statement)
        return await run(connection, other + statement.replace(function, f"pg_temp.{function}", 1))

    async def asking(connection: Connection, statement: str, *values: object) -> object:
        if not statement.startswith(f"SELECT {function}("):
            return await value(connection, statement, *values)
        await run(connection, other)
        return await value(connection, statement.replace(function, f"pg_temp.{function}", 1), *values)

    patch.setattr(Connection, "run", running)
    patch.setattr(Connection, "value", asking)


def any_credit_of_that_place(patch: pytest.MonkeyPatch) -> None:
    """A write does not look again at what it receives."""
    _changed(patch, "wallet_write_fenced", "given ? 'received'", "false")


def sent_twice_taken_twice(patch: pytest.MonkeyPatch) -> None:
    """Credits that are here are not left out: the transfers' key refuses them, and they never count as arrived."""
    _changed(patch, "wallet_credit", "t.id = ANY (sent)", "false")


MISTAKES: Final[Mapping[Spoil, tuple[Check, str]]] = {
    any_credit_of_that_place: (what_was_moved_in_its_table_is_not_received, "DID NOT RAISE"),
    sent_twice_taken_twice: (a_credit_comes_once, "assert"),
    received_out_of_order: (pending.test_what_is_pending_is_money, r"\[1000, 3, 2, 1"),
    everything_at_once: (pending.test_a_backlog_is_received_in_parts, "== "),
}
"""Each with the check that notices it, and what that says."""


@pytest.mark.parametrize(
    "check",
    [a_credit_comes_once, what_was_moved_in_its_table_is_not_received],
    ids=lambda check: check.__name__,
)
async def test_the_product_passes(world: World, monkeypatch: pytest.MonkeyPatch, check: Check) -> None:
    """Also the checks that are no tests of their own."""
    await run(check, world, monkeypatch)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
async def test_a_mistake_is_noticed(mistake: Spoil, harness: Harness, tmp_path: Path) -> None:
    """By the check named above, with its words."""
    await notice(mistake, *MISTAKES[mistake], harness, tmp_path)
