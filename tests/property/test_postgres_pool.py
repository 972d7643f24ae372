"""Connections at hand: which are taken again, and which the driver gets back. The driver's pool is played."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import asyncpg
import pytest

from wallet_gql.backends.postgres.node import Connection
from wallet_gql.backends.postgres.pool import AT_HAND_MAX, IDLE_SECONDS, USES_MAX, Pool
from wallet_gql.domain.errors import NodeUnavailable
from wallet_gql.testing.patience import patience


class Raw:
    """A connection."""

    def __init__(self) -> None:
        self.is_ended = False
        self.has_left = False

    def is_closed(self) -> bool:
        """As the driver's proxy: it does not answer once the connection has left the pool."""
        if self.has_left:
            raise asyncpg.InterfaceError("released")
        return self.is_ended

    def terminate(self) -> None:
        """It is of no use any more."""
        self.is_ended = True


class Driver:
    """The driver's pool."""

    def __init__(self) -> None:
        self.made: list[Raw] = []
        self.free: list[Raw] = []
        self.expired = 0
        self.is_closed = False

    async def acquire(self, timeout: float) -> Raw:  # noqa: ASYNC109 - the driver's
        """A free connection, or a new one."""
        assert timeout > 0
        if not self.free:
            self.free.append(Raw())
            self.made.append(self.free[-1])
        return self.free.pop()

    async def release(self, raw: Raw, timeout: float | None = None) -> None:  # noqa: ASYNC109 - same
        """Given back, unless it was ended."""
        assert timeout is None or timeout > 0
        if not raw.is_ended:
            self.free.append(raw)

    async def expire_connections(self) -> None:
        """The free ones are forgotten."""
        self.expired += 1
        self.free.clear()

    async def close(self) -> None:
        """All must be back."""
        self.is_closed = True


class Yard:
    """A pool over a played driver, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.driver = Driver()
        self.pool = Pool(cast("asyncpg.Pool", self.driver), lambda: self.now)

    async def back(self, raw: Any, *, doubtful: bool = False) -> None:
        """Give one back."""
        await self.pool.give_back(raw, doubtful=doubtful, seconds=1.0)


@pytest.fixture
def yard() -> Yard:
    """A fresh one."""
    return Yard()


async def test_the_last_one_is_taken_again(yard: Yard) -> None:
    """As many as may be stay at hand; more go back to the driver."""
    taken = [await yard.pool.acquire(1.0) for _ in range(AT_HAND_MAX + 1)]
    for raw in taken:
        await yard.back(raw)
    assert yard.driver.free == taken[AT_HAND_MAX:]
    assert yard.pool.take() is taken[AT_HAND_MAX - 1]


@pytest.mark.parametrize("how", ["ended", "left", "doubtful"])
async def test_what_is_lost_is_not_taken(yard: Yard, how: str) -> None:
    """Whether the server ended it, it has left the driver's pool, or its user had an error."""
    raw = await yard.pool.acquire(1.0)
    await yard.back(raw, doubtful=how == "doubtful")
    raw.is_ended, raw.has_left = raw.is_ended or how == "ended", how == "left"
    assert yard.pool.take() is None
    assert await yard.pool.acquire(1.0) is not raw


async def test_what_was_idle_is_ended(yard: Yard) -> None:
    """A firewall may have forgotten it: nobody finds out at the cost of a deadline."""
    raw = await yard.pool.acquire(1.0)
    await yard.back(raw)
    yard.now += IDLE_SECONDS + 1
    assert yard.pool.take() is None
    assert await yard.pool.acquire(1.0) is not raw
    assert raw.is_ended


async def test_each_passes_the_driver_now_and_then(yard: Yard) -> None:
    """The driver replaces connections after a number of queries, and must see them for that."""
    for _ in range(USES_MAX):
        await yard.back(await yard.pool.acquire(1.0))
    assert len(yard.driver.free) == 1


async def test_connections_in_use_expire_too(yard: Yard) -> None:
    """Those that were taken before are not at hand afterwards."""
    raw = await yard.pool.acquire(1.0)
    await yard.pool.expire()
    await yard.back(raw)
    assert (yard.pool.take(), yard.driver.expired) == (None, 1)


async def test_who_waits_gets_what_is_given_back(yard: Yard) -> None:
    """By way of the driver, which knows who waits."""
    raw = await yard.pool.acquire(1.0)
    yard.pool._waiting = 1
    await yard.back(raw)
    assert yard.driver.free == [raw]


async def test_closing_keeps_nothing_at_hand(yard: Yard) -> None:
    """Neither what is there nor what comes back later."""
    first, second = await yard.pool.acquire(1.0), await yard.pool.acquire(1.0)
    await yard.back(first)
    await yard.pool.close()
    await yard.back(second)
    assert yard.driver.free == [first, second]
    assert yard.driver.is_closed


class Released:
    """The driver's proxy of a connection that has left the pool: each call raises, before anything is awaited."""

    def __getattr__(self, name: str) -> Any:
        def call(*given: object, **more: object) -> None:
            raise asyncpg.InterfaceError(f"cannot call Connection.{name}(): {given} {more}")

        return call


@pytest.mark.parametrize("ask", ["do", "begin", "rows_soon", "value", "rows"])
async def test_a_lost_connection_is_a_node_that_is_away(ask: str) -> None:
    """However it is asked: never an error of the driver."""
    connection = Connection("n1", Released(), asyncio.get_running_loop().time() + patience(10))
    with pytest.raises(NodeUnavailable, match="n1"):
        await getattr(connection, ask)("SELECT 1")


class Silent:
    """A connection in a transaction, to a node that does not answer."""

    def is_in_transaction(self) -> bool:
        """It is."""
        return True

    async def execute(self, _statement: str) -> None:
        """No answer."""
        await asyncio.Event().wait()


async def test_rolling_back_ends_with_the_deadline() -> None:
    """Whoever was refused has no more time than before; the connection is of no use any more."""
    loop = asyncio.get_running_loop()
    connection = Connection("n1", Silent(), loop.time())
    before = connection.deadline
    await connection.roll_back()
    assert (connection.deadline, connection.doubtful) == (before, True)
