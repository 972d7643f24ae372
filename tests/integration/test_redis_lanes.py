"""Under Redis leases all commands of a leader commit together; the facts of payees elsewhere are read before that."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration._clusters import one_each, store_of
from tests.integration._mistakes import Check, Spoil, notice, run
from tests.integration.test_postgres_pending import home_of
from tests.integration.test_postgres_receiving import neighbours
from wallet_gql.backends.kit.group_commit import Command, Deferred
from wallet_gql.backends.postgres.node import Connection
from wallet_gql.backends.postgres.sharded import Lane
from wallet_gql.backends.redis.leases import Held
from wallet_gql.backends.redis.store import RedisStore
from wallet_gql.domain.changes import Scope
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.patience import patience, until
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.backend("redis-3"), pytest.mark.service("redis")]


# The checks


async def they_commit_together(world: World, patch: pytest.MonkeyPatch) -> None:
    """Payments within a node and to two others wait for one commit, and are the next one."""
    first, second, third = await one_each(world)
    leader = home_of(world, first)
    payers = await neighbours(world, first, 9)
    for payer in payers:
        await world.fund(payer, 10)
    payees = [*await neighbours(world, first, 3), *[second, third] * 3]
    store, lead = store_of(world, RedisStore), RedisStore._lead
    free, sizes = asyncio.Event(), list[int]()

    async def slowly(store: RedisStore, lane: Lane, held: Held, batch: Sequence[Command], deadline: float) -> Any:
        if lane.leader == leader:
            sizes.append(len(batch))
            await free.wait()
        return await lead(store, lane, held, batch, deadline)

    def come() -> int:
        lanes = store.groups._queues.items()
        return sum(sizes) + sum(len(queue) for lane, queue in lanes if lane == Lane(store._map, leader))

    patch.setattr(RedisStore, "_lead", slowly)
    ledger = world.ledger_on(world.store, patience(60))
    payments = [asyncio.create_task(world.pay(first, second, 1, ledger=ledger))]
    await until(lambda: come() == 1 and bool(sizes), 30, "the first payment does not begin")
    for payer, payee in zip(payers, payees, strict=True):
        payments.append(asyncio.create_task(world.pay(payer, payee, 1, ledger=ledger)))
    await until(lambda: come() == 10 or len(sizes) > 1, 30, "not all payments come")
    free.set()
    assert all(posted.credited for posted in await asyncio.gather(*payments))
    assert sizes == [1, 9]


async def who_pays_elsewhere_delays_nobody(world: World, patch: pytest.MonkeyPatch) -> None:
    """The payee's node does not say what it knows of him: payments within the payer's node go on."""
    first, _, third = await one_each(world)
    near = (await neighbours(world, first, 1))[0]
    read, answers, asked = RedisStore._facts, asyncio.Event(), asyncio.Event()

    async def hanging(store: RedisStore, homes: Any, connection: Connection, names: Any) -> Any:
        if connection.node == home_of(world, third):
            asked.set()
            await answers.wait()
        return await read(store, homes, connection, names)

    patch.setattr(RedisStore, "_facts", hanging)
    ledger = world.ledger_on(world.store, patience(60))
    payments = [stuck := asyncio.create_task(world.pay(first, third, 1, ledger=ledger))]
    try:
        await until(asked.is_set, 30, "the payee's node is not asked")
        payments.append(asyncio.create_task(world.pay(first, near, 1, ledger=ledger)))
        paid, _ = await asyncio.wait(payments[1:], timeout=patience(5))
        assert paid, "who pays within the node waits for another one"
        assert not stuck.done()
    finally:
        answers.set()
        await asyncio.gather(*payments)


async def facts_follow_the_placement(world: World, patch: pytest.MonkeyPatch) -> None:
    """There is a newer placement once the facts are read: they are read again, from where the payee may be by now."""
    first, _, third = await one_each(world)
    facts, times = RedisStore._facts_elsewhere, 0

    async def moved(store: RedisStore, *values: Any) -> Any:
        nonlocal times
        times += 1
        found = await facts(store, *values)
        if times == 1:
            store._place(copy.copy(store._map))
        return found

    patch.setattr(RedisStore, "_facts_elsewhere", moved)
    assert (await world.pay(first, third, 1)).credited
    assert times == 2
    assert await world.balance(third) == (1_001, 0)


# The mistakes


def a_lane_for_each_payees_node(patch: pytest.MonkeyPatch) -> None:
    """What crosses commits apart from what does not."""
    commit = RedisStore._commit_lane

    async def apart(store: RedisStore, lane: Lane, batch: Sequence[Command], seconds: float) -> Any:
        if lane.others:
            await commit(store, lane, batch, seconds)
            return await commit(store, replace(lane, others=()), batch, seconds)
        return await commit(store, lane, batch, seconds)

    patch.setattr(RedisStore, "_commit_lane", apart)


def facts_are_read_where_all_commit(patch: pytest.MonkeyPatch) -> None:
    """One lane for all, which asks the payees' nodes."""
    commit, lane_of = RedisStore._commit_lane, RedisStore._lane

    async def together(store: RedisStore, lane: Lane, batch: Sequence[Command], seconds: float) -> Any:
        others = {name for command in batch for name in lane.homes.participants(command.scope)}
        if others:
            await commit(store, replace(lane, others=tuple(sorted(others))), batch, seconds)
        return await commit(store, lane, batch, seconds)

    def one(store: RedisStore, scope: Scope) -> Any:
        lane = lane_of(store, scope)
        return replace(lane, others=()) if isinstance(lane, Lane) else lane

    patch.setattr(RedisStore, "_commit_lane", together)
    patch.setattr(RedisStore, "_lane", one)


def facts_are_kept(patch: pytest.MonkeyPatch) -> None:
    """Commands of an older placement go on with what they know."""
    again = RedisStore._again

    def known(store: RedisStore, batch: Sequence[Command]) -> list[Deferred]:
        lanes: list[Any] = [moved.lane for moved in again(store, batch)]
        return [Deferred(replace(lane, others=())) for lane in lanes]

    patch.setattr(RedisStore, "_again", known)


MISTAKES: Final[dict[Spoil, tuple[Check, str]]] = {
    a_lane_for_each_payees_node: (they_commit_together, r"== \[1, 9"),
    facts_are_read_where_all_commit: (who_pays_elsewhere_delays_nobody, "who pays within"),
    facts_are_kept: (facts_follow_the_placement, "== 2"),
}
"""Each with the check that notices it, and what that says."""


@pytest.mark.parametrize("check", [check for check, _ in MISTAKES.values()], ids=lambda check: check.__name__)
async def test_the_product_passes(world: World, monkeypatch: pytest.MonkeyPatch, check: Check) -> None:
    """Each check is passed by the product."""
    await run(check, world, monkeypatch)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
async def test_a_mistake_is_noticed(mistake: Spoil, harness: Harness, tmp_path: Path) -> None:
    """By the check named above, with its words."""
    await notice(mistake, *MISTAKES[mistake], harness, tmp_path)
