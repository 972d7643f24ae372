"""Which Postgres node is said to be silent, so that for a moment nobody waits for it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from wallet_gql.backends.kit.wanted import Wanted
from wallet_gql.backends.postgres.placement import OtherEpoch
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.domain.errors import NodeUnavailable

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
