"""Mistakes in moving slots that the checks here notice, each in a ledger of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration._clusters import one_each, sharded
from tests.integration._mistakes import Check, Spoil, notice, run
from wallet_gql import failpoints
from wallet_gql.backends.kit.wanted import Wanted
from wallet_gql.backends.postgres import ahead, move_rows, moves
from wallet_gql.backends.postgres import text as sql
from wallet_gql.backends.postgres.moves import Moves
from wallet_gql.backends.postgres.placement import Leaving
from wallet_gql.backends.postgres.sharded import PgStore
from wallet_gql.domain.changes import State
from wallet_gql.domain.errors import Contended, Unavailable
from wallet_gql.storage import PageRequest
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.patience import patience
from wallet_gql.testing.world import Person, World

pytestmark = [pytest.mark.trial, pytest.mark.backend("postgres-3"), pytest.mark.service("postgres")]


async def carry(world: World, person: Person, target: str) -> None:
    """Move a person's slot to another node."""
    store = sharded(world)
    await store.relearn()
    await store.moves.move(store.placement, store.placement.home(person.slot), target, 1 << person.slot)
    await store.relearn()


# The checks


async def a_key_has_one_effect(world: World) -> None:
    """Also when it is used again after its slot has moved."""
    first, second, _ = await one_each(world)
    before = await world.pay(first, second, 7, key="once")
    await carry(world, first, "n2")
    assert (await world.pay(first, second, 7, key="once")).result == before.result
    assert await world.balance(first) == (993, 0)


async def what_is_pending_comes_along(world: World) -> None:
    """And is received where the slot is then, once."""
    first, _, third = await one_each(world)
    await world.pay(first, third, 7)
    await carry(world, third, "n2")
    assert await world.balance(third) == (1_007, 0)
    await world.store.recover(100)
    assert await world.balance(third) == (1_007, 0)


async def another_process_reads_where_the_slot_is(world: World) -> None:
    """Although it has heard of no move."""
    first, second, _ = await one_each(world)
    await world.pay(first, second, 7)
    other = await world.another()
    assert isinstance(other, PgStore)
    assert other._recovering is not None
    other._recovering.cancel()  # its sweep would hear of it
    page = PageRequest(10)
    whole = await other.list_transfers(first.account, page)
    assert len(whole.items) == 2
    await carry(world, first, "n2")
    assert await other.list_transfers(first.account, page) == whole


async def what_fails_before_its_commit_has_not_happened(world: World) -> None:
    """The source serves the slot again, with all that it had."""
    first, second, _ = await one_each(world)
    failpoints.arm("moves.written=fail")
    try:
        with pytest.raises(Unavailable):
            await carry(world, first, "n2")
    finally:
        failpoints.arm("")
    store = sharded(world)
    await store.relearn()
    await store.moves.finish(store.placement)
    await store.relearn()
    assert store.placement.home(first.slot) == "n1"
    assert (await world.pay(first, second, 1)).credited


async def a_freeze_waits_for_open_commits(world: World) -> None:
    """Whoever has seen the old epoch may still write. If he does not end in time, nothing moves."""
    first, _, _ = await one_each(world)
    store = sharded(world)
    node = store.node("n1")
    async with node.connection(asyncio.get_running_loop().time() + patience(60)) as connection:
        await connection.begin("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
        state = State("n1", store.placement.peer_of("n1"))
        await store._load(store.placement, connection, state, Wanted(), "skip")
        with pytest.raises(Contended):
            await carry(world, first, "n2")
        await connection.do("ROLLBACK")


async def an_old_placement_moves_nothing(world: World) -> None:
    """What a payment leaves on a node follows from where its other side is, and that has changed."""
    first, _, _ = await one_each(world)
    store = sharded(world)
    old = store.placement
    many = await world.people(30, 500)
    fellow = next(one for one in many if old.home(one.slot) == "n1" and one.slot != first.slot)
    await world.pay(fellow, first, 7)
    await store.moves.move(old, "n1", "n2", 1 << first.slot)
    with pytest.raises(Contended):
        await store.moves.move(old, "n1", "n2", 1 << fellow.slot)
    await store.relearn()


# The mistakes


def receipts_left_behind(patch: pytest.MonkeyPatch) -> None:
    """The keys that guard against doing a thing twice stay where the slot was."""
    kind, rest = move_rows._TAKEN_BY["receipts"]
    patch.setitem(move_rows._TAKEN_BY, "receipts", (kind, f"{rest} AND false"))
    patch.setattr(ahead, "UNSTAGE", tuple(text for text in ahead.UNSTAGE if "INTO receipts" not in text))


def pending_left_behind(patch: pytest.MonkeyPatch) -> None:
    """Credits that have no entry yet are forgotten."""
    patch.setattr(move_rows, "_PENDING", move_rows._PENDING.replace("WHERE", "WHERE false AND"))


def reads_without_an_epoch(patch: pytest.MonkeyPatch) -> None:
    """A source still answers for slots that have left it."""

    def blind(statement: str, count: int) -> str:
        return f"SELECT q.* FROM ({statement}) AS q WHERE ${count + 1}::bigint IS NOT NULL"

    patch.setattr(sql, "at_epoch", blind)


def activated_before_the_copy(patch: pytest.MonkeyPatch) -> None:
    """The target has the slots in one commit, and their rows in the next."""
    activate = Moves._activate

    async def early(self: Moves, source: str, leaving: Leaving, after: Any, until: float) -> int:
        async with self._step(leaving.peer) as connection:
            told = await moves._locked(connection)
            here = f"{(told.here or 0) | leaving.slots:x}"
            await connection.rows("UPDATE node SET epoch = epoch + 1, here = $1", here)
        return await activate(self, source, leaving, after, until)

    patch.setattr(Moves, "_activate", early)
    moved_by_an_old_placement(patch)


def frozen_without_the_gate(patch: pytest.MonkeyPatch) -> None:
    """Commits that have seen the old epoch may still end after the freeze: as if it were checked outside of them."""
    patch.setattr(moves, "GATE", 1)


def moved_by_an_old_placement(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks the two nodes whether they still have the slots that the mover believes."""
    patch.setattr(moves, "_check_here", lambda *_, **__: None)


MISTAKES: Final[Mapping[Spoil, tuple[Check, str]]] = {
    receipts_left_behind: (a_key_has_one_effect, "assert"),
    pending_left_behind: (
        what_is_pending_comes_along,
        "assert",
    ),
    reads_without_an_epoch: (another_process_reads_where_the_slot_is, "assert"),
    activated_before_the_copy: (what_fails_before_its_commit_has_not_happened, "assert"),
    moved_by_an_old_placement: (an_old_placement_moves_nothing, "DID NOT RAISE"),
    frozen_without_the_gate: (a_freeze_waits_for_open_commits, "DID NOT RAISE"),
}
"""Each with the check that notices it, and what that says."""


@pytest.mark.parametrize("check", [check for check, _ in MISTAKES.values()], ids=lambda check: check.__name__)
async def test_the_product_passes(world: World, monkeypatch: pytest.MonkeyPatch, check: Check) -> None:
    """The checks hold without a mistake."""
    with monkeypatch.context() as patch:
        await run(check, world, patch)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
async def test_a_mistake_is_noticed(mistake: Spoil, harness: Harness, tmp_path: Path) -> None:
    """By the check named above, with its words."""
    await notice(mistake, *MISTAKES[mistake], harness, tmp_path)
