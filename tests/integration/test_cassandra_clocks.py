"""Processes whose clocks are an hour apart write one ledger on Cassandra: what orders its rows is no clock.

The driver gives each write the time of its process's clock unless the statement says another one, and of two values of
a row Cassandra keeps the one with the later time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration._cassandra import need_server
from wallet_gql.backends.cassandra.client import Client
from wallet_gql.backends.cassandra.store import CassandraStore
from wallet_gql.domain.changes import Changes, Scope
from wallet_gql.domain.errors import WalletError
from wallet_gql.testing.raw import counter_key, increment
from wallet_gql.testing.servers.cassandra import CassandraHarness
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.backend("cassandra"), pytest.mark.trial]

PARTITIONS = 4
ROUNDS = 2
AHEAD_SECONDS = (0, 3_600, -3_600)


def clock(seconds: int) -> Callable[[], int]:
    """A clock that is ahead, in microseconds, as the driver wants it."""
    return lambda: int((time.time() + seconds) * 1_000_000)


async def write_in_turns(world: World) -> None:
    """Pay, hold, capture, count and drop through one process after the other; each sees what the one before did."""
    stores = await world.stores(len(AHEAD_SECONDS))
    ledgers = []
    for store, seconds in zip(stores, AHEAD_SECONDS, strict=True):
        assert isinstance(store, CassandraStore)
        store._client._open_session().cluster.timestamp_generator = clock(seconds)
        ledgers.append(world.ledger_on(store, late_seconds=seconds))
    ann, bob = await world.people(2, 1_000)
    key, scope = counter_key(ann), Scope(ann.slot, records=(counter_key(ann),))
    for number in range(1, 3 * ROUNDS + 1):
        store, ledger = stores[number % 3], ledgers[number % 3]
        others = stores[(number + 1) % 3], ledgers[(number + 1) % 3]
        await world.pay(ann, bob, 1, ledger=ledger)
        placed = await world.hold(bob, ann, 1, seconds=2 * 86_400, ledger=ledger)
        await others[1].capture_hold(ann.id, world.key(), placed.id)
        assert await world.balance(ann) == (1_000, 0)
        assert (await store.execute(scope, increment(key))).result == 1
        assert (await others[0].execute(scope, increment(key))).result == 2
        await world.execute(scope, Changes(removed=(key,)), store)
        assert await world.record(key, others[0]) is None


async def test_clocks_an_hour_apart(tmp_path: Path) -> None:
    """The books are right, and so is every answer."""
    need_server()
    async with World(CassandraHarness(PARTITIONS), tmp_path) as world:
        await write_in_turns(world)


async def test_stamps_of_the_drivers_clock_are_convicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If rows were stamped with it, the process that is behind would write in vain."""
    need_server()
    write = Client.write

    async def stamped(self: Client, ops: Any, stamp: int) -> None:
        del stamp
        await write(self, ops, self._open_session().cluster.timestamp_generator())

    monkeypatch.setattr(Client, "write", stamped)
    world = World(CassandraHarness(PARTITIONS), tmp_path)
    await world.__aenter__()
    try:
        with pytest.raises((AssertionError, WalletError)):
            await write_in_turns(world)
    finally:
        await world.__aexit__(AssertionError, None, None)
