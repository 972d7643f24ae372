"""Tests that a store's capabilities are true."""

from __future__ import annotations

import asyncio
import sys

import pytest

from ...domain.changes import Changes, Decision, Scope
from ...domain.errors import Unavailable
from ..books import Books
from ..raw import counter_key, increment, number, written
from ..world import World
from .suite import PARALLEL, Suite, kinds, pay


class Capabilities(Suite):
    """Compares each flag with what the store does."""

    async def test_capability_durable(self, world: World) -> None:
        """A durable store that was closed and opened again has everything; another store has nothing."""
        ann, bob = await world.people(2, 1_000)
        await world.together(world.pay(ann, bob, 10) for _ in range(20))
        await world.hold(ann, bob, 100)
        await world.identity().sign_up("ann", "ann@example.org", "a good password")
        before = await world.books()
        await world.reopen()
        after = await world.books()
        assert after.facts() == (before if world.store.capabilities.durable else Books()).facts()
        assert (after.accounts != {}) == world.store.capabilities.durable

    async def test_capability_multi_process(self, world: World) -> None:
        """Stores that may share a ledger see and exclude one another; other stores are separate ledgers."""
        ann = await world.person()
        key = counter_key(ann)
        await world.put(written(key, 1, n=1))
        other = await world.another()
        shared = await world.record(key, other) is not None
        assert shared == world.store.capabilities.multi_process
        if shared:
            scope = Scope(ann.slot, records=(key,))
            stores = [world.store, other, await world.another()]
            outcomes = await world.together(stores[i % 3].execute(scope, increment(key)) for i in range(PARALLEL))
            assert kinds(outcomes) == ["ok"] * PARALLEL
            assert number(await world.record(key)) == PARALLEL + 1

    async def test_capability_multi_process_for_real(self, world: World) -> None:
        """Several operating-system processes write to one ledger at once, and the books are in order."""
        people = await world.people(4, 10_000)
        if not world.store.capabilities.multi_process:
            return
        command = [sys.executable, "-m", "wallet_gql.testing.writer", world.harness.url]
        options = ["--operations", "40", "--concurrency", "8"]
        writers = [
            await asyncio.create_subprocess_exec(
                *command, str(world.folder / f"history-{i}.jsonl"), *options, "--seed", str(i)
            )
            for i in range(2)
        ]
        outcomes = await world.together(world.pay(people[i % 4], people[(i + 1) % 4], 1) for i in range(PARALLEL))
        assert set(kinds(outcomes)) <= {"ok", "INSUFFICIENT_FUNDS"}
        assert [await writer.wait() for writer in writers] == [0, 0]

    async def test_capability_spans_nodes(self, world: World) -> None:
        """A store of several nodes has users on more than one node; any other store names only one node."""
        people = await world.people(4, 1_000)
        books = await world.books()
        homes = {books.node_of(person.account) for person in people}
        assert (len(homes) > 1) == world.store.capabilities.spans_nodes
        assert homes <= {total.node for total in await world.store.totals()}

    async def test_capability_remote_credit(self, world: World) -> None:
        """With atomic credits the payee has the money before the reply; else the reply says so, and it comes later."""
        ann, bob = await world.people(2, 1_000)
        credited = 0
        for _ in range(20):
            posted = await world.pay(ann, bob, 10)
            if world.store.capabilities.remote_credit == "atomic":
                assert posted.credited
            credited += posted.credited
            account = await world.ledger.account(bob.id, bob.account)
            assert account.posted_minor >= 1_000 + 10 * credited
        assert await world.balance(bob) == (1_200, 0)

    async def test_capability_recover_is_safe_at_any_time(self, world: World) -> None:
        """Recovery beside writers, several times at once and repeatedly, neither creates nor loses money."""
        ann, bob = await world.people(2, 1_000)
        stores = await world.stores(2)
        commands = [pay(world, *((ann, bob) if i % 2 else (bob, ann)), 10) for i in range(60)]
        recovering = [stores[i % len(stores)].recover(10) for i in range(20)]
        outcomes = await world.together([*commands[:30], *recovering, *commands[30:]])
        assert kinds(outcomes) == ["ok"] * 80
        assert (await world.balance(ann))[0] + (await world.balance(bob))[0] == 2_000

    async def test_capability_a_closed_store_refuses(self, world: World) -> None:
        """A store answers pings while it is open. Once closed it refuses commands with Unavailable."""
        await world.store.ping()
        assert world.store.name
        sibling = world.sibling("closed")
        await sibling.harness.start(sibling.folder)
        store = await sibling.harness.opened()
        await store.__aexit__(None, None, None)
        with pytest.raises(Unavailable):
            await store.execute(Scope(1), lambda _: Decision(Changes(), None))
        await sibling.harness.stop()
