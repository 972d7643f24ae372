"""Each mistake with pending credits on Postgres nodes is noticed by a check that the product passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration import test_postgres_old_snapshot as old_snapshot
from tests.integration import test_postgres_pending as pending
from tests.integration._clusters import one_each, store_of
from tests.integration._mistakes import Check, Spoil, notice, run
from tests.integration.test_postgres_pending import home_of
from wallet_gql.backends.kit import group_commit
from wallet_gql.backends.postgres import reading
from wallet_gql.backends.postgres import text as sql
from wallet_gql.backends.postgres.json_text import given, wish
from wallet_gql.backends.postgres.node import Connection
from wallet_gql.backends.postgres.sharded import PgStore
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.backends.relational.statements import Statements
from wallet_gql.domain.changes import Credit, State, Writes
from wallet_gql.domain.errors import InvariantViolated, WalletError
from wallet_gql.domain.model import PendingCredit
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.trial, pytest.mark.backend("postgres-3"), pytest.mark.service("postgres")]


async def a_credit_comes_once(quiet: World) -> None:
    """The header on the payee's node refuses the same credit, while that is pending and after it was received."""
    first, _, third = await one_each(quiet)
    transfer = (await quiet.pay(first, third, 7)).result
    store = store_of(quiet, PostgresStore)
    name = home_of(quiet, third)
    for _ in range(2):
        again = State(name, store.placement.peer_of(name))
        again.pend(Credit(third.account, 7, transfer, home_of(quiet, first)))
        asked = given(again.writes, epoch=store.placement.epochs[name])
        with pytest.raises(InvariantViolated, match="transfers_pkey"):
            await store._nodes[name].rows("SELECT wallet_pend($1)", asked)
        await store.recover(10)


async def two_processes_receive_once(quiet: World, patch: pytest.MonkeyPatch) -> None:
    """A process that comes late to an account sees that another one has received its credits."""
    first, _, third = await one_each(quiet)
    await quiet.pay(first, third, 7)
    (other,) = await quiet.stores(1)
    value, done = Connection.value, [False]

    async def meanwhile(connection: Connection, statement: str, *values: Any) -> Any:
        if values[-1:] == ("skip",) and not done[0]:
            done[0] = True
            await other.recover(10)
        return await value(connection, statement, *values)

    failures: list[str] = []
    nothing = group_commit._nothing_written

    def noted(batch: Any, error: WalletError) -> Any:
        failures.append(str(error))
        return nothing(batch, error)

    patch.setattr(Connection, "value", meanwhile)
    patch.setattr(group_commit, "_nothing_written", noted)
    await quiet.pay(third, first, 1_007)
    assert done[0]
    assert failures == []
    assert await quiet.balance(third) == (0, 0)


# The mistakes


def received_from_an_early_read(patch: pytest.MonkeyPatch) -> None:
    """What is pending is read before the account is locked."""
    ask = "SELECT wallet_pending((SELECT array_agg(id) FROM accounts), 500)"
    load = PgStore._load

    async def early(store: PgStore, homes: Any, connection: Connection, *values: Any, **more: Any) -> Any:
        value = Connection.value
        found = None if values[-1] == "read" else await value(connection, ask)

        async def stale(connection: Connection, statement: str, *values: Any) -> Any:
            text = await value(connection, statement, *values)
            return text.replace('"pending" : null', f'"pending" : {found}') if found else text

        patch.setattr(Connection, "value", stale)
        try:
            return await load(store, homes, connection, *values, **more)
        finally:
            patch.setattr(Connection, "value", value)

    patch.setattr(PgStore, "_load", early)


def received_out_of_order(patch: pytest.MonkeyPatch) -> None:
    """The newest first."""
    receive = State.receive_pending

    def backward(state: State, credits_: Iterable[PendingCredit], *sums: Any) -> None:
        receive(state, [*credits_][::-1], *sums)

    patch.setattr(State, "receive_pending", backward)


def left_out_of_a_balance(patch: pytest.MonkeyPatch) -> None:
    """Reads show what has entries."""
    patch.setattr(State, "seen", lambda _state, account: account)


def left_out_of_the_totals(patch: pytest.MonkeyPatch) -> None:
    """The sums of a node have only what has entries."""
    table = sql.STATEMENTS.dialect.pending
    short = sql.STATEMENTS.totals.replace(f"FROM {table}", f"FROM (SELECT * FROM {table} LIMIT 0)")
    patch.setattr(Statements, "totals", property(lambda _: short))


def left_out_of_the_journal(patch: pytest.MonkeyPatch) -> None:
    """A scan, and so the audit and an export, has only what has entries."""
    patch.setattr(sql.STATEMENTS, "entries_of", sql.STATEMENTS.entries_of.partition(" UNION ALL")[0])


def credited_before_it_is_pending(patch: pytest.MonkeyPatch) -> None:
    """The answer says `credited` as soon as the payer's node has committed."""
    patch.setattr(PostgresStore, "_answer", lambda _store, outcome, *_: replace(outcome, peers=frozenset()))


def credited_when_repeated(patch: pytest.MonkeyPatch) -> None:
    """A repeated command does not ask the payees' nodes."""

    async def hope(*_: object) -> bool:
        return True

    patch.setattr(PgStore, "_have_arrived", hope)


def closing_in_between(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks for credits on their way."""
    text = (resources.files("wallet_gql.backends.postgres") / "sql" / "wallet_write.sql").read_text(encoding="utf-8")
    blind = text.replace("wallet_write(", "pg_temp.wallet_write(").replace("cardinality(closing) > 0", "false")
    run = Connection.run

    async def short(connection: Connection, statement: str) -> str:
        own = statement.startswith("SELECT wallet_write(")
        return await run(
            connection, f"{blind}{statement.replace('wallet_', 'pg_temp.wallet_', 1)}" if own else statement
        )

    patch.setattr(Connection, "run", short)


def header_checked_afterwards(patch: pytest.MonkeyPatch) -> None:
    """The header is written only when the credit is received."""
    pend, receive = State.pend, State.receive_pending
    late: dict[str, Any] = {}

    def short(state: State, credit: Credit) -> None:
        pend(state, credit)
        late[credit.transfer.id] = state.writes.transfers.pop()

    def with_header(state: State, credits_: Iterable[PendingCredit], *sums: Any) -> None:
        receive(state, credits_, *sums)
        state.writes.transfers += [late[credit.transfer_id] for credit in state.writes.received]

    patch.setattr(State, "pend", short)
    patch.setattr(State, "receive_pending", with_header)


def _looked_up_from(patch: pytest.MonkeyPatch, begin: str) -> None:
    """Whoever receives says otherwise where to look for pending credits from now on."""
    run = Connection.run
    change = f"UPDATE accounts SET pending_from = {begin} WHERE pending_from > 0"

    async def wrong(connection: Connection, statement: str) -> str:
        text, commits, _ = statement.partition("; COMMIT")
        own = text.startswith("SELECT wallet_write(")
        return await run(connection, f"{text}; {change}{commits}" if own else statement)

    patch.setattr(Connection, "run", wrong)


def looked_up_from_the_beginning(patch: pytest.MonkeyPatch) -> None:
    """A look-up passes all that was ever received."""
    _looked_up_from(patch, "1")


def looked_up_behind_what_is_on_its_way(patch: pytest.MonkeyPatch) -> None:
    """From the newest transaction on, as if none before it could still bring a credit."""
    _looked_up_from(patch, "pg_current_xact_id()::text::bigint")


def looked_up_behind_what_is_left(patch: pytest.MonkeyPatch) -> None:
    """From the oldest transaction under way, as if everything had been received."""
    _looked_up_from(patch, "pg_snapshot_xmin(pg_current_snapshot())::text::bigint")


def put_before_the_beginning(patch: pytest.MonkeyPatch) -> None:
    """A credit goes by its transaction's number alone."""
    do = Connection.do

    async def low(connection: Connection, statement: str) -> str:
        change = "UPDATE pending_credits SET inserted_by = pg_current_xact_id()::text::bigint WHERE inserted_by > 2^60"
        return await do(connection, statement.replace("; PREPARE", f"; {change}; PREPARE"))

    patch.setattr(Connection, "do", low)


def everything_at_once(patch: pytest.MonkeyPatch) -> None:
    """One commit receives the whole backlog."""

    def greedy(wanted: Any, **more: Any) -> str:
        return wish(wanted, **{**more, "receive": more["receive"] and 10**9})

    patch.setattr(reading, "wish", greedy)


def no_header(patch: pytest.MonkeyPatch) -> None:
    """A credit arrives without the header that would refuse it a second time."""
    whole = State.pend

    def short(state: State, credit: Credit) -> None:
        whole(state, credit)
        state.writes = Writes(pending=state.writes.pending, system_entries=state.writes.system_entries)

    patch.setattr(State, "pend", short)


MISTAKES: Final[Mapping[Spoil, tuple[Check, str]]] = {
    received_from_an_early_read: (two_processes_receive_once, "0 of 1 credits were pending"),
    received_out_of_order: (pending.test_what_is_pending_is_money, r"\[1000, 3, 2, 1"),
    left_out_of_a_balance: (pending.test_what_is_pending_is_money, r"\(1000, 1\)"),
    left_out_of_the_totals: (pending.test_what_is_pending_is_money, "all"),
    left_out_of_the_journal: (pending.test_what_is_pending_is_money, "sum to"),
    credited_before_it_is_pending: (pending.test_a_payee_in_doubt_pays_and_is_paid, "credited"),
    credited_when_repeated: (pending.test_replays_say_the_truth, "credited"),
    closing_in_between: (pending.test_no_account_closes_under_a_credit, "DID NOT RAISE"),
    everything_at_once: (pending.test_a_backlog_is_received_in_parts, "== "),
    no_header: (a_credit_comes_once, "transfers_pkey"),
    header_checked_afterwards: (a_credit_comes_once, "transfers_pkey"),
    looked_up_from_the_beginning: (old_snapshot.test_look_ups_pass_over_what_was_received, "== "),
    looked_up_behind_what_is_on_its_way: (pending.test_a_payee_in_doubt_pays_and_is_paid, "== "),
    looked_up_behind_what_is_left: (old_snapshot.test_each_part_of_a_backlog_costs_the_same, "25 == 0"),
    put_before_the_beginning: (old_snapshot.test_credits_come_also_after_transactions_are_counted_anew, "== "),
}
"""Each with the check that notices it, and what that says."""


@pytest.mark.parametrize("check", [a_credit_comes_once, two_processes_receive_once], ids=lambda check: check.__name__)
async def test_the_product_passes(world: World, monkeypatch: pytest.MonkeyPatch, check: Check) -> None:
    """Also the checks that are no tests of their own."""
    await run(check, world, monkeypatch)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
async def test_a_mistake_is_noticed(mistake: Spoil, harness: Harness, tmp_path: Path) -> None:
    """By the check named above, with its words."""
    await notice(mistake, *MISTAKES[mistake], harness, tmp_path)
