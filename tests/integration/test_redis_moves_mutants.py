"""Mistakes in moving slots under Redis leases that the checks here notice, each in a ledger of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from tests.integration import test_postgres_moves_mutants as shared
from tests.integration._clusters import one_each, store_of
from tests.integration._mistakes import Check, Spoil, notice, run
from tests.integration.redis_mutants import spoil_own
from wallet_gql.backends.kit.wanted import Wanted
from wallet_gql.backends.postgres import json_text, reading
from wallet_gql.backends.postgres.commit import commit_by
from wallet_gql.backends.postgres.moves import Moves
from wallet_gql.backends.postgres.node import Connection
from wallet_gql.backends.postgres.placement import Placement
from wallet_gql.backends.redis import claim as claims
from wallet_gql.backends.redis import store as store_module
from wallet_gql.backends.redis.credits import TAKE_IN, Credits
from wallet_gql.backends.redis.leases import Held
from wallet_gql.backends.redis.moves import CREDITS, LeaseMoves
from wallet_gql.backends.redis.store import RedisStore
from wallet_gql.books.audit import audit
from wallet_gql.domain.changes import Changes, Credit, Decision, Scope, Snapshot, State, Writes
from wallet_gql.domain.errors import Contended, InvariantViolated
from wallet_gql.domain.ids import TransferId
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.patience import insist, patience
from wallet_gql.testing.world import Person, World

pytestmark = [pytest.mark.trial, pytest.mark.backend("redis-3"), pytest.mark.service("redis")]


async def mover_of(world: World) -> RedisStore:
    """Another process, which moves slots and does nothing else."""
    other = await world.another()
    assert isinstance(other, RedisStore)
    assert other._recovering is not None
    other._recovering.cancel()
    return other


async def carry(mover: RedisStore, person: Person, target: str) -> None:
    """Move a person's slot to another node."""
    await mover.relearn()
    await mover.moves.move(mover.placement, mover.placement.home(person.slot), target, 1 << person.slot)
    await mover.relearn()


def keep_credits(world: World, patch: pytest.MonkeyPatch) -> None:
    """The world's process sends no credit any more, as if it had died after its commit."""

    def keep(credits_: Iterable[Credit]) -> list[asyncio.Future[bool]]:
        futures = [asyncio.get_running_loop().create_future() for _ in credits_]
        for future in futures:
            future.set_result(False)
        return futures

    patch.setattr(store_of(world, RedisStore)._credits, "send", keep)


@asynccontextmanager
async def writing(patch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """The next write waits at its last moment. Yields what lets it go on, and waits until it has ended."""
    come, go, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def late(*given: Any) -> None:
        if come.is_set():
            await commit_by(*given)
            return
        come.set()
        await go.wait()
        try:
            await commit_by(*given)
        finally:
            gone.set()

    async def on() -> None:
        async with asyncio.timeout(patience(30)):
            await come.wait()
            go.set()
            await gone.wait()

    with patch.context() as inner:
        inner.setattr(claims, "commit_by", late)
        yield on


def meanwhile(mover: RedisStore, patch: pytest.MonkeyPatch, step: str, on: Callable[[], Awaitable[None]]) -> None:
    """Something happens just before a step of the mover."""
    former = getattr(mover.moves, step)

    async def then(*given: Any) -> Any:
        await on()
        return await former(*given)

    patch.setattr(mover.moves, step, then)


async def pays_slowly(
    world: World, patch: pytest.MonkeyPatch, people: Sequence[Person], moves: tuple[Person, str], before: str
) -> None:
    """A payment that was loaded before a move is written just before one of its steps; it has its effect once."""
    payer, payee = people
    mover = await mover_of(world)
    async with writing(patch) as on:
        meanwhile(mover, patch, before, on)
        paying = asyncio.create_task(insist(lambda: world.pay(payer, payee, 7, key="slow")))
        await carry(mover, *moves)
        await paying
    await mover.recover(100)
    await store_of(world, RedisStore).relearn()
    assert [await world.balance(person) for person in people] == [(993, 0), (1_007, 0)]


# The checks


async def an_open_credit_arrives_before_its_payee_moves(world: World, patch: pytest.MonkeyPatch) -> None:
    """To the node of the payer, which has the header already."""
    payer, payee, _ = await one_each(world)
    mover = await mover_of(world)
    keep_credits(world, patch)
    assert not (await world.pay(payer, payee, 7)).credited
    await carry(mover, payee, "n1")
    await mover.recover(100)
    await mover.recover(100)
    await store_of(world, RedisStore).relearn()
    assert await world.balance(payee) == (1_007, 0)


async def who_has_not_heard_of_the_freeze_decides_nothing(world: World, patch: pytest.MonkeyPatch) -> None:
    """The payee goes to the payer's node. The payment is decided there after all open credits were settled."""
    payer, payee, _ = await one_each(world)
    keep_credits(world, patch)
    await pays_slowly(world, patch, (payer, payee), (payee, "n1"), "_activate")


async def what_was_copied_is_not_written_any_more(world: World, patch: pytest.MonkeyPatch) -> None:
    """The payer moves; the payment is written at the source after the copy."""
    payer, payee, _ = await one_each(world)
    await pays_slowly(world, patch, (payer, payee), (payer, "n3"), "_carry")


async def a_token_that_a_row_has_refused_stays_refused(world: World) -> None:
    """Also on the node to which the row has moved, whose own count of tokens is lower."""
    first, _, third = await one_each(world)
    store = store_of(world, RedisStore)
    for _ in range(5):
        await world.pay(first, third, 1)
    token = await store.node("n1").ask("SELECT fence FROM accounts WHERE id = $1", first.account)
    await carry(store, first, "n2")
    state = State("n2", store.placement.peer_of("n2"))
    async with store.node("n2").connection(asyncio.get_running_loop().time() + patience(30)) as connection:
        late, wanted = Held("n2", "somebody", token), Wanted(accounts={first.account})
        with pytest.raises(Contended):
            await store._claim(store.placement, connection, late, state, wanted)
    behind = store.leases.counters.behind
    assert (await world.pay(first, third, 1)).credited
    assert store.leases.counters.behind == behind


async def nobody_is_told_that_there_is_no_account(world: World) -> None:
    """By a process that has heard of no move, and whose command writes nothing that its node could refuse."""
    person, _, _ = await one_each(world)
    await carry(await mover_of(world), person, "n2")

    def look(snapshot: Snapshot) -> Decision[bool]:
        return Decision(Changes(), snapshot.account(person.account) is not None)

    assert (await world.store.execute(Scope(person.slot, accounts=(person.account,)), look)).result


async def a_credit_waits_until_its_node_is_known(world: World, patch: pytest.MonkeyPatch) -> None:
    """A process that has never reached the payee's node takes no other one for it, such as the payer's."""
    payer, payee, _ = await one_each(world)
    store = store_of(world, RedisStore)
    assert store._credits is not None
    with patch.context() as inner:
        keep_credits(world, inner)
        await world.pay(payer, payee, 7)
    whole = store.placement
    # whoever guessed would take the first, which is the payer's and has the header
    with patch.context() as inner:
        known = Placement({name: whole.told[name] for name in ("n1", "n3")}, {"n2"})
        inner.setattr(store._credits, "_learning", SimpleNamespace(known=known))
        assert await store._credits.settle(100, at_once=True) == (0, False)
    assert await store._credits.settle(100, at_once=True) == (1, False)
    assert await world.balance(payee) == (1_007, 0)


async def a_credit_under_way_ends_before_its_slot_is_forgotten(world: World) -> None:
    """A process sends a credit that is there already, and is slow: it has not found it, and writes after the move."""
    payer, payee, _ = await one_each(world)
    transfer = (await world.pay(payer, payee, 7)).result
    mover = await mover_of(world)
    await mover.recover(100)
    node, state = mover.node("n2"), State("n2", mover.placement.peer_of("n2"))
    state.pend(Credit(payee.account, 7, transfer, "n1"))
    waits = f"SELECT count(*) FROM pg_locks WHERE objid = {CREDITS & 0xFFFFFFFF} AND NOT granted"
    async with node.connection(asyncio.get_running_loop().time() + patience(60)) as slow:
        await slow.do("BEGIN")
        known = json_text.given(state.writes, epoch=mover.placement.epochs["n2"], patience_ms="1000")
        assert await slow.value(TAKE_IN, known) == []
        moving = asyncio.create_task(insist(lambda: carry(mover, payee, "n3")))
        while not moving.done() and not await node.ask(waits):  # noqa: ASYNC110 - another session makes it so
            await asyncio.sleep(0.01)
        with suppress(InvariantViolated):  # the transfer is still there
            await slow.value("SELECT wallet_write($1)", json_text.given(state.writes))
        await slow.do("COMMIT")
    await moving
    report = await audit(mover)
    assert report.clean, report.findings


# The mistakes


def open_intents_left_behind(patch: pytest.MonkeyPatch) -> None:
    """Credits that are on their way are not waited for."""

    async def nothing(self: Credits, slots: Sequence[int]) -> None:
        del self, slots

    patch.setattr(Credits, "settle_slots", nothing)


def announced_to_nobody(patch: pytest.MonkeyPatch) -> None:
    """Only the source knows of the freeze."""

    async def nothing(self: LeaseMoves, name: str) -> None:
        del self, name

    patch.setattr(LeaseMoves, "_announce", nothing)


def epoch_checked_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """In a transaction of its own."""
    write = claims.write

    async def in_two(connection: Connection, *written: Any, epoch: int) -> None:
        await connection.value("SELECT wallet_at($1)", epoch)
        await write(connection, *written, epoch=epoch)

    def without(writes: Writes, **more: Any) -> str:
        return json_text.given(writes, **{name: value for name, value in more.items() if name != "epoch"})

    patch.setattr(store_module, "write", in_two)
    patch.setattr(claims, "given", without)


def tokens_left_behind(patch: pytest.MonkeyPatch) -> None:
    """Rows take any token on their new node."""
    patch.setattr(LeaseMoves, "_carry", Moves._carry)


def claimed_without_an_epoch(patch: pytest.MonkeyPatch) -> None:
    """Who claims rows is not asked which slots he believes the node to have."""

    def blind(wanted: Wanted, **more: Any) -> str:
        return json_text.wish(wanted, **{name: value for name, value in more.items() if name != "epoch"})

    patch.setattr(reading, "wish", blind)


def any_node_has_the_account(patch: pytest.MonkeyPatch) -> None:
    """A credit goes wherever the placement has a name, and counts as taken in."""
    take_in = Credits._take_in

    async def believing(self: Credits, homes: Placement, peer: str, batch: Sequence[Any]) -> set[TransferId]:
        await take_in(self, homes, peer, batch)
        return {sending.credit.transfer.id for sending in batch}

    patch.setattr(Credits, "_take_in", believing)
    patch.setattr(Placement, "unowned", property(lambda _: 0, lambda *_: None), raising=False)


def a_credit_shares_no_lock(patch: pytest.MonkeyPatch) -> None:
    """So nobody can wait for it."""
    spoil_own(patch, "wallet_credit", (f"PERFORM pg_advisory_xact_lock_shared({CREDITS});", ""))


def forgotten_under_a_credit(patch: pytest.MonkeyPatch) -> None:
    """A node forgets a slot while credits are being taken in."""
    patch.setattr(LeaseMoves, "_forget", Moves._forget)


MISTAKES: Final[Mapping[Spoil, tuple[Check, str]]] = {
    open_intents_left_behind: (an_open_credit_arrives_before_its_payee_moves, "assert"),
    announced_to_nobody: (who_has_not_heard_of_the_freeze_decides_nothing, "assert"),
    epoch_checked_before_the_commit: (what_was_copied_is_not_written_any_more, "assert"),
    tokens_left_behind: (a_token_that_a_row_has_refused_stays_refused, "DID NOT RAISE"),
    claimed_without_an_epoch: (nobody_is_told_that_there_is_no_account, "assert"),
    any_node_has_the_account: (a_credit_waits_until_its_node_is_known, "assert"),
    a_credit_shares_no_lock: (a_credit_under_way_ends_before_its_slot_is_forgotten, "assert"),
    forgotten_under_a_credit: (a_credit_under_way_ends_before_its_slot_is_forgotten, "assert"),
    **shared.MISTAKES,
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
