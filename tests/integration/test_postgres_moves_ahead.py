"""What a move copies ahead while the slots serve: nothing that comes meanwhile is lost, and nothing stays staged.

Also mistakes in it that the checks here notice, each in a ledger of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration._clusters import NAMES, one_each, quieted, store_of
from tests.integration._mistakes import Check, Spoil, notice, run
from tests.integration.test_postgres_moves import a_past
from tests.integration.test_postgres_moves_mutants import carry
from wallet_gql import failpoints
from wallet_gql.backends.postgres import ahead, move_rows, moves
from wallet_gql.backends.postgres.ahead import Ahead
from wallet_gql.backends.postgres.membership import Membership
from wallet_gql.backends.postgres.move_rows import SlotRows
from wallet_gql.backends.postgres.moves import Moves
from wallet_gql.backends.postgres.node import Connection
from wallet_gql.backends.postgres.pace import Pace
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.books.audit import audit
from wallet_gql.books.exchange import digest_of
from wallet_gql.domain.errors import Contended, Unavailable
from wallet_gql.storage import PageRequest
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.patience import patience
from wallet_gql.testing.world import World
from wallet_gql.verbs.lookups import hold_of

pytestmark = [pytest.mark.trial, pytest.mark.backend("postgres-3"), pytest.mark.service("postgres")]


def before_the_freeze(patch: pytest.MonkeyPatch, act: Callable[[], Awaitable[object]]) -> None:
    """Do this when all is copied ahead, and the slots still serve."""
    freeze = Moves._freeze

    async def later(self: Moves, *given: Any) -> None:
        await act()
        await freeze(self, *given)

    patch.setattr(Moves, "_freeze", later)


async def staged(world: World) -> list[int]:
    """How many pieces each node has of moves."""
    store = store_of(world, PostgresStore)
    return [await store.node(name).ask("SELECT count(*) FROM staged") for name in NAMES]


@asynccontextmanager
async def failing(step: str) -> AsyncIterator[None]:
    """Moves end at this step."""
    failpoints.arm(f"{step}=fail")
    try:
        yield
    finally:
        failpoints.arm("")


async def end_moves(store: PostgresStore) -> None:
    """As the servers do it when a mover is gone."""
    await store.relearn()
    await store.moves.finish(store.placement)
    await store.relearn()


# The checks


async def what_comes_meanwhile_comes_along(world: World, patch: pytest.MonkeyPatch) -> None:
    """Entries, a receipt, and a hold that is closed after it was copied as an open one."""
    first, second, _ = await one_each(world)
    before = await world.pay(first, second, 7, key="before")
    held = await world.hold(first, second, 5)
    answers = []

    async def act() -> None:
        answers.append(await world.pay(first, second, 3, key="meanwhile"))
        await world.ledger.capture_hold(second.id, "capture", held.id)

    before_the_freeze(patch, act)
    await carry(world, first, "n2")
    page = await world.store.list_transfers(first.account, PageRequest(10))
    assert [item.entry.amount_minor for item in page.items] == [-5, -3, -7, 1_000]
    found = await hold_of(world.store, held.id)
    assert found is not None
    assert found.captured_minor == 5
    assert (await world.pay(first, second, 3, key="meanwhile")).result == answers[0].result
    assert (await world.pay(first, second, 7, key="before")).result == before.result
    assert await world.balance(first) == (985, 0)


async def a_commit_that_ends_late_comes_along(world: World, patch: pytest.MonkeyPatch) -> None:
    """It began before the copy, and a later one has ended before it: neither times nor numbers tell their order."""
    first, second, _ = await one_each(world)
    once = await world.pay(first, second, 7, key="once")
    node = store_of(world, PostgresStore).node("n1")
    (row,) = await node.rows("DELETE FROM receipts WHERE key = 'once' RETURNING *")
    async with node.connection(asyncio.get_running_loop().time() + patience(60)) as late:
        await late.begin("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
        marks = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        await late.rows(f"INSERT INTO receipts ({', '.join(row.keys())}) VALUES ({marks})", *row)
        await world.pay(first, second, 1)

        before_the_freeze(patch, lambda: late.do("COMMIT"))
        await carry(world, first, "n2")
    assert (await world.pay(first, second, 7, key="once")).result == once.result
    assert await world.balance(first) == (992, 0)


async def an_abandoned_copy_is_not_used(world: World) -> None:
    """Its slot is served, and changes; another slot goes where it would have gone."""
    first, second, _ = await one_each(world)
    store = store_of(world, PostgresStore)
    fellow = next(
        p for p in await world.people(30, 500) if store.placement.home(p.slot) == "n1" and p.slot != first.slot
    )
    await world.pay(first, fellow, 7)
    async with failing("moves.ahead"):
        with pytest.raises(Unavailable):
            await carry(world, first, "n2")
    await world.pay(first, second, 1)
    await carry(world, fellow, "n2")
    strange = "SELECT count(*) FROM entries WHERE account_id = $1"
    assert await store.node("n2").ask(strange, first.account) == 0
    assert await staged(world) == [0, 0, 0]
    await carry(world, first, "n2")
    assert (await audit(store)).clean


async def nothing_stays_staged(world: World) -> None:
    """After a move, and after one that others have ended."""
    first, second, _ = await one_each(world)
    await world.pay(first, second, 7)
    async with failing("moves.copied"):
        with pytest.raises(Unavailable):
            await carry(world, first, "n2")
    assert await staged(world) != [0, 0, 0]
    await end_moves(store_of(world, PostgresStore))
    assert await staged(world) == [0, 0, 0]
    await carry(world, first, "n2")
    assert await staged(world) == [0, 0, 0]


async def rows_that_are_gone_are_missed(world: World, patch: pytest.MonkeyPatch) -> None:
    """The table is not logged, so a crash of its node empties it. Nothing moves then, and the next attempt does."""
    first, second, _ = await one_each(world)
    once = await world.pay(first, second, 7, key="once")
    store = store_of(world, PostgresStore)
    with patch.context() as crashing:
        before_the_freeze(crashing, lambda: store.node("n2").rows("DELETE FROM staged"))
        with pytest.raises(Contended, match="are gone; nothing has moved"):
            await carry(world, first, "n2")
    await end_moves(store)
    assert store.placement.home(first.slot) == "n1"
    await carry(world, first, "n2")
    assert (await world.pay(first, second, 7, key="once")).result == once.result


async def another_server_is_noticed(world: World, patch: pytest.MonkeyPatch) -> None:
    """After a fail-over, numbers of transactions and sequences may be those of other rows. Nothing moves then."""
    first, second, _ = await one_each(world)
    once = await world.pay(first, second, 7, key="once")
    store = store_of(world, PostgresStore)
    with patch.context() as promoted:
        promoted.setattr(move_rows, "SERVER", "SELECT '00000002 promoted'")
        with pytest.raises(Contended, match="has failed over; nothing has moved"):
            await carry(world, first, "n2")
    await end_moves(store)
    assert store.placement.home(first.slot) == "n1"
    await carry(world, first, "n2")
    assert (await world.pay(first, second, 7, key="once")).result == once.result


async def a_gap_is_noticed(world: World, patch: pytest.MonkeyPatch) -> None:
    """An import writes an account's entries in no order: what is visible of them need not be the first so many."""
    first, second, _ = await one_each(world)
    store = store_of(world, PostgresStore)
    for _ in range(3):
        await world.pay(first, second, 1)
    with patch.context() as importing:
        importing.setattr(ahead, "ENTRIES", replace(ahead.ENTRIES, only="sequence <> 2"))
        with pytest.raises(Contended, match="has no row 2 yet"):
            await carry(world, first, "n2")
    await end_moves(store)
    await carry(world, first, "n2")
    assert (await world.pay(first, second, 1)).credited


# The mistakes


def what_was_not_committed_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Rows count as copied that a transaction wrote which had begun before, and had not ended."""
    patch.setattr(ahead, "_HORIZON", ahead._HORIZON.replace("snapshot_xmin", "snapshot_xmax"))


def entries_left_behind(patch: pytest.MonkeyPatch) -> None:
    """Nothing is read after those that are staged."""

    async def none(*_: Any) -> list[Any]:
        return []

    patch.setattr(move_rows, "_entries_left", none)


def closed_holds_left_behind(patch: pytest.MonkeyPatch) -> None:
    """A hold that was closed after the copy is neither staged nor open."""
    kind, rest = move_rows._TAKEN_BY["placed"]
    short = f"{rest.partition('(state')[0]} state = 'open' AND $2::text IS NOT NULL"
    patch.setattr(move_rows, "_TAKEN_BY", {**move_rows._TAKEN_BY, "placed": (kind, short)})


def another_attempts_rows(patch: pytest.MonkeyPatch) -> None:
    """What an abandoned attempt has staged is used again."""

    async def all_of_them(connection: Connection, copied: Ahead) -> None:
        for statement in ahead.UNSTAGE[:-1]:
            await connection.rows(statement.replace("s.attempt = $1", "$1::text <> ''"), copied.attempt)

    patch.setattr(moves, "unstage", all_of_them)
    patch.setattr(moves, "DROP_ALL", "SELECT")


def rows_left_by_others(patch: pytest.MonkeyPatch) -> None:
    """What an attempt has staged that ended before its freeze stays for ever."""
    patch.setattr(moves, "DROP_ALL", "SELECT")


def rows_left_by_the_fence(patch: pytest.MonkeyPatch) -> None:
    """Who ends an attempt leaves what it has staged."""
    patch.setattr(moves, "DROP", "SELECT $1::text")


def rows_left_by_the_move(patch: pytest.MonkeyPatch) -> None:
    """What was inserted stays staged, too."""
    patch.setattr(ahead, "UNSTAGE", ahead.UNSTAGE[:-1])


def missing_rows_are_not_missed(patch: pytest.MonkeyPatch) -> None:
    """Nobody counts what is staged."""

    async def uncounted(connection: Connection, copied: Ahead) -> None:
        for statement in ahead.UNSTAGE:
            await connection.rows(statement, copied.attempt)

    patch.setattr(moves, "unstage", uncounted)


MISTAKES: Final[Mapping[Spoil, tuple[Check, str]]] = {
    what_was_not_committed_is_forgotten: (a_commit_that_ends_late_comes_along, "assert"),
    entries_left_behind: (what_comes_meanwhile_comes_along, "assert"),
    closed_holds_left_behind: (what_comes_meanwhile_comes_along, "assert"),
    another_attempts_rows: (an_abandoned_copy_is_not_used, "assert"),
    rows_left_by_others: (an_abandoned_copy_is_not_used, "assert"),
    rows_left_by_the_fence: (nothing_stays_staged, "assert"),
    rows_left_by_the_move: (nothing_stays_staged, "assert"),
    missing_rows_are_not_missed: (rows_that_are_gone_are_missed, "DID NOT RAISE"),
}
"""Each with the check that notices it, and what that says."""


@pytest.mark.parametrize("check", {check: 0 for check, _ in MISTAKES.values()}, ids=lambda check: check.__name__)
async def test_the_product_passes(world: World, monkeypatch: pytest.MonkeyPatch, check: Check) -> None:
    """The checks hold without a mistake."""
    with monkeypatch.context() as patch:
        await run(check, world, patch)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
async def test_a_mistake_is_noticed(mistake: Spoil, harness: Harness, tmp_path: Path) -> None:
    """By the check named above, with its words."""
    await notice(mistake, *MISTAKES[mistake], harness, tmp_path)


# What is copied when


async def test_what_was_copied_ahead_is_not_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While slots are frozen, only what changes or has come since is read: no entry, receipt or closed hold else."""
    people = await a_past(world)
    await world.settle()
    store = store_of(quieted(world), PostgresStore)
    before = await digest_of(store)
    monkeypatch.setattr(ahead, "PIECE_ROWS", 5)
    monkeypatch.setattr(ahead, "_GROUPS_MAX", 3)
    frozen: list[SlotRows] = []
    pieces: list[int] = []
    read, rest = move_rows.read_slots, Pace.rest

    async def noted(connection: Connection, copied: Ahead) -> SlotRows:
        frozen.append(await read(connection, copied))
        return frozen[-1]

    async def rested(self: Pace, rows: int) -> None:
        pieces.append(rows)
        await rest(self, rows)

    monkeypatch.setattr(moves, "read_slots", noted)
    monkeypatch.setattr(Pace, "rest", rested)
    slots = sum(1 << slot for slot in {person.slot for person in people}) & (store.placement.told["n1"].here or 0)
    done = await store.moves.move(store.placement, "n1", "n2", slots)
    await store.relearn()
    assert await digest_of(store) == before
    assert (await audit(store)).clean
    ((left,), sizes) = frozen, pieces[:-1]
    assert not left.rows["entries"]
    assert not left.rows["transfers"]
    assert left.count < sum(sizes) / 2
    assert done.rows == left.count + sum(sizes)
    assert max(sizes) <= 5 * 3  # an entry with its header and its system entry
    assert len(sizes) > 3


async def test_a_long_past_takes_no_more_steps_frozen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the freeze to the activation a slot with many entries costs as many round trips as one with few."""
    first, second, _ = await one_each(world)
    quieted(world)
    trips, steps = 0, dict[str, int]()

    def counted(name: str) -> None:
        whole = getattr(Connection, name)

        async def counting(*given: Any) -> Any:
            nonlocal trips
            trips += 1
            return await whole(*given)

        monkeypatch.setattr(Connection, name, counting)

    for name in ("run", "rows", "value"):
        counted(name)
    for name in ("before_decision", "after_decision"):
        monkeypatch.setattr(moves, name, lambda step: steps.update({step: trips}))
    frozen: list[int] = []
    for target, count in (("n2", 3), ("n1", 60)):
        for _ in range(count):
            await world.paid(first, second, 1)
        await carry(world, first, target)
        frozen.append(steps["moves.activated"] - steps["moves.frozen"])
    assert frozen[0] == frozen[1]
    assert frozen[0] <= 32


async def test_what_comes_during_a_round_is_copied_in_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """So however long the first one takes, little is left for the freeze."""
    first, second, _ = await one_each(world)
    held = await world.hold(first, second, 5)
    quieted(world)
    monkeypatch.setattr(ahead, "CATCH_UP_ROWS", 0)
    whole, copied, frozen = Ahead._round, list[int](), list[SlotRows]()
    read = move_rows.read_slots

    async def noted(self: Ahead, *given: Any) -> None:
        if len(copied) == 1:
            await world.paid(first, second, 3)
            await world.pay(first, second, 7, key="meanwhile")
            await world.ledger.capture_hold(second.id, "capture", held.id)
        await whole(self, *given)
        copied.append(self.rows)

    async def kept(connection: Connection, done: Ahead) -> SlotRows:
        frozen.append(await read(connection, done))
        return frozen[-1]

    monkeypatch.setattr(Ahead, "_round", noted)
    monkeypatch.setattr(moves, "read_slots", kept)
    await carry(world, first, "n2")
    assert len(copied) >= 3
    assert copied[0] < copied[1]
    assert [frozen[0].rows[name] for name in ("entries", "receipts", "placed")] == [[], [], []]
    found = await hold_of(world.store, held.id)
    assert found is not None
    assert found.captured_minor == 5
    assert (await world.pay(first, second, 7, key="meanwhile")).replayed
    assert await world.balance(first) == (985, 0)


@pytest.mark.parametrize("check", [another_server_is_noticed, a_gap_is_noticed])
async def test_what_cannot_be_copied_ahead(world: World, monkeypatch: pytest.MonkeyPatch, check: Check) -> None:
    """Nothing moves, and the next attempt does."""
    await check(world, monkeypatch)


async def test_a_busy_gate_does_not_undo_the_copy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A freeze that others do not let is tried again with the rows that are staged already."""
    first, second, _ = await one_each(world)
    await world.pay(first, second, 7)
    quieted(world)
    copies: list[str] = []
    copy, left = Ahead.copy, 2

    async def noted(self: Ahead, *given: Any) -> None:
        copies.append(self.attempt)
        await copy(self, *given)

    async def act() -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise Contended("commits are in flight")

    monkeypatch.setattr(Ahead, "copy", noted)
    monkeypatch.setattr(moves, "_FREEZE_PAUSE", 0.0)
    before_the_freeze(monkeypatch, act)
    await carry(world, first, "n2")
    assert (len(copies), left) == (1, -1)
    assert (await world.pay(first, second, 1)).credited


async def test_a_new_mover_drops_what_others_have_left(world: World) -> None:
    """On every node: the last one may have been killed on its way to any of them."""
    store = store_of(world, PostgresStore)
    for name in NAMES:
        await store.node(name).rows("INSERT INTO staged VALUES ('left', 1, '{}')")
    await Membership(store).rebalance()
    assert await staged(world) == [0, 0, 0]


async def test_what_is_staged_is_nobodys(world: World) -> None:
    """No total, scan or digest sees it, and no audit."""
    people = await a_past(world)
    await world.settle()
    store = store_of(quieted(world), PostgresStore)
    before = await digest_of(store)
    async with failing("moves.ahead"):
        with pytest.raises(Unavailable):
            await carry(world, people[0], "n2")
    assert sum(await staged(world)) == 1
    assert await digest_of(store) == before
    assert (await audit(store)).clean
