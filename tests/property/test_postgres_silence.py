"""Which Postgres node is said to be silent, so that for a moment nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from wallet_gql.backends.kit.group_read import AT_ONCE
from wallet_gql.backends.kit.wanted import Wanted
from wallet_gql.backends.postgres import node as _pg_node
from wallet_gql.backends.postgres import reading
from wallet_gql.backends.postgres.node import PgNode
from wallet_gql.backends.postgres.placement import OtherEpoch
from wallet_gql.backends.postgres.pool import Pool
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.domain.changes import ReadSet
from wallet_gql.domain.errors import Contended, NodeUnavailable
from wallet_gql.domain.ids import make_account_id
from wallet_gql.storage import PageRequest
from wallet_gql.testing.patience import within

NODES = ",".join(f"postgres://w@127.0.0.1:1/{name}?node={name}" for name in ("n1", "n2", "n3"))


@pytest.fixture
def store() -> PostgresStore:
    """A store on three nodes that nobody has opened."""
    return PostgresStore(NODES)


async def test_a_node_that_hangs_is_marked_although_another_one_refuses(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch hears of the first error, and the next one does not wait for the node that hangs."""

    async def facts(_: object, connection: Any, __: object) -> None:
        if connection.node == "n2":
            raise OtherEpoch("n2 has other slots")
        raise NodeUnavailable(connection.node) from TimeoutError()

    monkeypatch.setattr(store, "_facts", facts)
    leader: Any = SimpleNamespace(node="n1", patience_ms=lambda: 1, begin=lambda _: asyncio.sleep(0))
    others: Any = {name: SimpleNamespace(node=name) for name in ("n2", "n3")}
    state: Any = SimpleNamespace(facts={})
    with pytest.raises(OtherEpoch):
        await store._begin(store.placement, leader, others, state, Wanted())
    now = asyncio.get_running_loop().time()
    assert [name for name in ("n1", "n2", "n3") if store.node(name)._silent_until > now] == ["n3"]


class Hanging:
    """A driver's pool with so many connections, whose server answers nothing."""

    def __init__(self, size: int, *, connects: bool = True) -> None:
        self.asked = 0
        self._places, self._size, self._connects = asyncio.Semaphore(size), size, connects

    def get_max_size(self) -> int:
        """The number of places, as the driver says it."""
        return self._size

    async def acquire(self, timeout: float) -> Any:  # noqa: ASYNC109 - the driver's
        """A connection, if there is one in time."""
        async with asyncio.timeout(timeout):
            await self._places.acquire()
            if not self._connects:
                self.asked += 1
                await asyncio.Event().wait()
            raw = Mock(is_closed=lambda: False, is_in_transaction=lambda: False)
            raw.fetchval = raw.fetch = self._ask
            return raw

    async def release(self, _: Any, timeout: float | None = None) -> None:  # noqa: ASYNC109 - same
        """Given back."""
        assert timeout is None or timeout > 0
        self._places.release()

    async def _ask(self, *_: object) -> None:
        self.asked += 1
        await asyncio.Event().wait()


ACCOUNT = make_account_id(1, 1, 1)


def hanging(size: int, *, connects: bool = True) -> tuple[PostgresStore, PgNode, Hanging]:
    """A store whose only node has stopped."""
    driver = Hanging(size, connects=connects)
    store = PostgresStore("postgres://w@127.0.0.1:1/a?node=n1")
    store.node("n1")._pools["reads"] = Pool(driver)  # type: ignore[arg-type]
    return store, store.node("n1"), driver


@pytest.mark.parametrize("connects", [True, False], ids=["asked", "connecting"])
@pytest.mark.parametrize("what", ["fetch", "list_transfers"])
async def test_who_reads_from_a_silent_node_waits_for_no_others(
    monkeypatch: pytest.MonkeyPatch, what: str, *, connects: bool
) -> None:
    """Two reads wait for it. The hundreds behind them hear at once that it does not answer."""
    monkeypatch.setattr(reading, "_FETCH_SECONDS", 1.0)
    monkeypatch.setattr(_pg_node, "CONNECT_SECONDS", 1.0)
    store, _, driver = hanging(4, connects=connects)
    asks: dict[str, Callable[[], Awaitable[object]]] = {
        "fetch": lambda: store.fetch(ReadSet(accounts=(ACCOUNT,))),
        "list_transfers": lambda: store.list_transfers(ACCOUNT, PageRequest(10)),
    }
    found = await within(30, asyncio.gather(*(asks[what]() for _ in range(600)), return_exceptions=True))
    assert {type(error) for error in found} == {NodeUnavailable}
    assert driver.asked <= 2 * AT_ONCE


async def test_a_pool_whose_connections_are_in_use_proves_nothing() -> None:
    """Others use them all: the node may answer these."""
    _, node, _ = hanging(1)
    await node._pools["reads"].acquire(1.0)
    with pytest.raises(Contended):
        await node.ask("SELECT 1", seconds=2.0, soon=True)
    assert node._silent_until == 0.0


@pytest.mark.parametrize(("seconds", "soon"), [(0.1, True), (0.6, False)], ids=["hasty", "long"])
async def test_a_hasty_read_and_a_long_one_prove_nothing(seconds: float, *, soon: bool) -> None:
    """A few milliseconds are too short for the node, and a sum of all accounts may take longer than its reader has."""
    _, node, driver = hanging(4)
    with pytest.raises(Contended):
        await node.ask("SELECT 1", seconds=seconds, soon=soon)
    assert (driver.asked, node._silent_until) == (1, 0.0)
