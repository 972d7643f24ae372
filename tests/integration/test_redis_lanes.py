"""Under Redis leases all commands of a leader commit together; the facts of payees elsewhere are read before that."""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration._clusters import one_each, store_of, timed
from tests.integration._mistakes import Check, Spoil, notice, run
from tests.integration.test_postgres_pending import home_of
from tests.integration.test_postgres_receiving import neighbours
from wallet_gql.backends.kit.group_commit import Command, Deferred
from wallet_gql.backends.postgres import node as _pg_node
from wallet_gql.backends.postgres.node import Connection
from wallet_gql.backends.postgres.sharded import Lane
from wallet_gql.backends.redis import store as _redis
from wallet_gql.backends.redis.leases import Held
from wallet_gql.backends.redis.store import RedisStore
from wallet_gql.domain.changes import Changes, Decision, Scope, Snapshot
from wallet_gql.domain.errors import Contended, NodeUnavailable
from wallet_gql.domain.ids import AccountId
from wallet_gql.domain.model import AccountFacts, AccountStatus
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
        return sum(sizes) + sum(len(queue) for lane, queue in lanes if lane == Lane(store.placement, leader))

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
        await asyncio.gather(*payments, return_exceptions=True)


async def facts_follow_the_placement(world: World, patch: pytest.MonkeyPatch) -> None:
    """There is a newer placement once the facts are read: they are read again, from where the payee may be by now."""
    first, _, third = await one_each(world)
    facts, times = RedisStore._facts_elsewhere, 0

    async def moved(store: RedisStore, *values: Any) -> Any:
        nonlocal times
        times += 1
        found = await facts(store, *values)
        if times == 1:
            store._learning.known = copy.copy(store.placement)
        return found

    patch.setattr(RedisStore, "_facts_elsewhere", moved)
    assert (await world.pay(first, third, 1)).credited
    assert times == 2
    assert await world.balance(third) == (1_001, 0)


async def each_knows_what_it_has_read(world: World, patch: pytest.MonkeyPatch) -> None:
    """Two commands of one commit have read the same payee at different times; the later reading came first."""
    first, _, third = await one_each(world)
    store, lead, facts = store_of(world, RedisStore), RedisStore._lead, RedisStore._facts_elsewhere
    free, begun, status = asyncio.Event(), asyncio.Event(), AccountStatus.OPEN
    seen: dict[str, AccountStatus | None] = {}

    async def slowly(store: RedisStore, lane: Lane, held: Held, batch: Sequence[Command], deadline: float) -> Any:
        begun.set()
        await free.wait()
        return await lead(store, lane, held, batch, deadline)

    async def as_told(*values: Any) -> dict[AccountId, AccountFacts]:
        return {name: replace(known, status=status) for name, known in (await facts(*values)).items()}

    def look(name: str) -> asyncio.Task[Any]:
        def decide(snapshot: Snapshot) -> Decision[None]:
            known = snapshot.facts(third.account)
            seen[name] = known.status if known else None
            return Decision(Changes(), None)

        scope = Scope(first.slot, credits=(third.account,))
        return asyncio.create_task(store.execute(scope, decide, timeout_seconds=patience(60)))

    def waiting() -> int:
        return len(store.groups._queues.get(Lane(store.placement, home_of(world, first)), ()))

    patch.setattr(RedisStore, "_lead", slowly)
    patch.setattr(RedisStore, "_facts_elsewhere", as_told)
    looks = [look("in the way")]
    await until(begun.is_set, 30, "nothing begins")
    for place, status in enumerate((AccountStatus.CLOSED, AccountStatus.OPEN), start=1):
        looks.append(look(status))
        await until(lambda: waiting() == place, 30, "a command does not come")  # noqa: B023 - awaited in this turn
    free.set()
    await asyncio.gather(*looks)
    assert seen == {"in the way": "open", "closed": "closed", "open": "open"}


async def who_has_hardly_any_time_is_refused(world: World, patch: pytest.MonkeyPatch) -> None:
    """The payee's node was slow: the leader does not hurry for such a command, since others would have to, too."""
    first, _, third = await one_each(world)
    read, seconds = RedisStore._facts, patience(2)

    async def slow(store: RedisStore, *values: Any) -> Any:
        found = await read(store, *values)
        await asyncio.sleep(0.8 * seconds)
        return found

    patch.setattr(RedisStore, "_facts", slow)
    with pytest.raises(Contended, match="slow to answer"):
        await world.pay(first, third, 1, ledger=world.ledger_on(world.store, seconds))
    assert await world.balance(third) == (1_000, 0)


async def a_node_slow_to_tell_serves_its_own(world: World, patch: pytest.MonkeyPatch) -> None:
    """Who pays there from elsewhere is refused, and for a moment at once. Its own payments go on meanwhile."""
    first, _, third = await one_each(world)
    near, asked = (await neighbours(world, third, 1))[0], 0

    async def slow(*given: Any) -> Any:
        nonlocal asked
        connection: Connection = given[2]
        asked += 1
        raise NodeUnavailable(connection.node) from TimeoutError()

    patch.setattr(RedisStore, "_facts", slow)
    store, name = store_of(world, RedisStore), home_of(world, third)
    outcome, _ = await timed(world.pay(first, third, 1))
    assert isinstance(outcome, NodeUnavailable)
    outcome, _ = await timed(world.pay(third, near, 1))
    assert not isinstance(outcome, Exception), "payments of its own are refused"
    assert store._silent.keys() == {name}
    store._silent[name], before = math.inf, asked
    outcome, _ = await timed(world.pay(first, third, 1))
    assert (type(outcome), asked) == (NodeUnavailable, before)


async def a_leader_that_hangs_is_away(world: World) -> None:
    """Before a commit the store looks at the wallets of its commands: certainly nothing was written."""
    _, _, third = await one_each(world)
    node = world.harness.servers()[int(home_of(world, third).removeprefix("n")) - 1]
    scope = Scope(third.slot, wallets=(third.id,))
    node.pause()
    try:
        looking = world.store.execute(scope, lambda _: Decision(Changes(), None), timeout_seconds=patience(10))
        outcome, _ = await timed(looking)
    finally:
        node.resume()
    assert isinstance(outcome, NodeUnavailable), f"it is not said to be away: {outcome!r}"


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


def facts_are_everybodys(patch: pytest.MonkeyPatch) -> None:
    """A batch decides with what its last command has read."""
    lead = RedisStore._lead

    async def joined(store: RedisStore, lane: Lane, held: Held, batch: Sequence[Command], deadline: float) -> Any:
        known = {name: facts for command in batch for name, facts in (command.facts or {}).items()}
        for command in batch:
            command.facts = known
        return await lead(store, lane, held, batch, deadline)

    patch.setattr(RedisStore, "_lead", joined)


def nobody_is_late(patch: pytest.MonkeyPatch) -> None:
    """A command joins the leader's others however little time it has left."""
    patch.setattr(_redis, "_late", lambda _: None)


def silent_for_everybody(patch: pytest.MonkeyPatch) -> None:
    """A node that was slow to tell facts is asked nothing for a moment."""
    look = RedisStore._look

    async def strict(store: RedisStore, node: str, *values: Any) -> Any:
        try:
            return await look(store, node, *values)
        except NodeUnavailable:
            store.node(node).silent()
            raise

    patch.setattr(RedisStore, "_look", strict)
    patch.setattr(_pg_node, "SILENT_SECONDS", patience(60))


def a_leader_that_hangs_is_busy(patch: pytest.MonkeyPatch) -> None:
    """Who does not say in time which accounts a wallet has is taken for one whose rows are locked."""
    look = RedisStore._accounts_of

    async def accounts_of(store: RedisStore, *values: Any) -> Any:
        try:
            return await look(store, *values)
        except NodeUnavailable as error:
            raise Contended from error

    patch.setattr(RedisStore, "_accounts_of", accounts_of)


MISTAKES: Final[dict[Spoil, tuple[Check, str]]] = {
    a_lane_for_each_payees_node: (they_commit_together, r"== \[1, 9"),
    facts_are_read_where_all_commit: (who_pays_elsewhere_delays_nobody, "who pays within"),
    facts_are_kept: (facts_follow_the_placement, "== 2"),
    facts_are_everybodys: (each_knows_what_it_has_read, "'open'"),
    nobody_is_late: (who_has_hardly_any_time_is_refused, "DID NOT RAISE"),
    silent_for_everybody: (a_node_slow_to_tell_serves_its_own, "payments of its own"),
    a_leader_that_hangs_is_busy: (a_leader_that_hangs_is_away, "not said to be away"),
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
