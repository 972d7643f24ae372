"""What is read while nodes come and slots move: all of it or an error, and nobody waits for the slot of another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import pytest

from tests.integration import test_postgres_moves as moves_tests
from tests.integration._clusters import one_each, quieted, sharded
from wallet_gql.backends.postgres import moves, reading
from wallet_gql.backends.postgres.placement import Leaving
from wallet_gql.domain.changes import ReadSet
from wallet_gql.domain.errors import NodeUnavailable, Unavailable
from wallet_gql.storage import PageRequest, Store
from wallet_gql.testing.patience import insist, patience
from wallet_gql.testing.world import Person, World

pytestmark = [pytest.mark.backend("postgres-3"), pytest.mark.service("postgres"), pytest.mark.trial]

fourth = moves_tests.fourth


Read = Callable[[Store, World], Awaitable[object]]

WHOLE: Final[Mapping[str, Read]] = {
    "list_records": lambda store, _: store.list_records("user", ""),
    "list_due": lambda store, world: store.list_due("hold", world.clock(), 10),
    "totals": lambda store, _: store.totals(),
    "scan": lambda store, _: store.scan("account", None, 100),
}
"""The reads that ask every node."""


@pytest.mark.parametrize("read", WHOLE.values(), ids=WHOLE)
async def test_a_node_that_was_never_reached_is_not_left_out(
    world: World, fourth: str, monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    """A process that cannot reach an added node refuses reads of all nodes, before and after slots have moved there."""
    person = (await one_each(world))[0]
    await world.settle()
    store = sharded(quieted(world))

    async def cannot(name: str, _: Any) -> None:
        raise NodeUnavailable(name)

    async with moves_tests.moving(world) as members:
        with monkeypatch.context() as patch:
            patch.setattr(store._learning, "_meet", cannot)
            patch.setattr(reading, "MOVE_SECONDS", 0.1)
            await members.add("n4", fourth)
            with pytest.raises(Unavailable):
                await read(store, world)
            await members._store.moves.move(members._store.placement, "n1", "n4", 1 << person.slot)
            with pytest.raises(Unavailable):
                await read(store, world)
        assert await insist(partial(read, store, world)) == await read(members._store, world)
    assert "n4" in store.placement.names


ONE: Final[Mapping[str, Callable[[Store, Person], Awaitable[object]]]] = {
    "fetch": lambda store, person: store.fetch(ReadSet(accounts=(person.account,))),
    "list_transfers": lambda store, person: store.list_transfers(person.account, PageRequest(10)),
}
"""The reads of some slots."""


async def neighbours(world: World) -> tuple[Person, Person]:
    """Two people of one node, in different slots."""
    known: dict[str, Person] = {}
    while True:
        for person in await world.people(4, 10):
            other = known.setdefault(sharded(world).placement.home(person.slot), person)
            if other.slot != person.slot:
                return other, person


@pytest.mark.parametrize("knows", [False, True], ids=["in the group of others", "known to be moving"])
@pytest.mark.parametrize("read", ONE.values(), ids=ONE)
async def test_who_waits_for_a_moving_slot_keeps_nobody_waiting(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Store, Person], Awaitable[object]],
    *,
    knows: bool,
) -> None:
    """Others of the same node are answered while the slot is frozen, also those whose group had been formed before."""
    monkeypatch.setattr(reading, "MOVE_SECONDS", patience(90))
    monkeypatch.setattr(moves, "STOPPED_SECONDS", 3_600.0)
    frozen, other = await neighbours(world)
    store = sharded(quieted(world))
    async with moves_tests.moving(world) as members, members._alone():
        mover = members._store
        source = mover.placement.home(frozen.slot)
        target = next(name for name in mover.placement.names if name != source)
        await mover.moves._freeze(mover.placement, source, Leaving("a" * 32, target, 1 << frozen.slot))
        if knows:
            await store.relearn()
        wait = [asyncio.ensure_future(read(store, person)) for person in (frozen, other) * 20]
        async with asyncio.timeout(patience(30)):
            await asyncio.gather(*wait[1::2])
        assert not any(task.done() for task in wait[::2])
        await mover.relearn()
        await mover.moves.finish(mover.placement, is_mover=True)
        async with asyncio.timeout(patience(30)):
            await asyncio.gather(*wait[::2])
