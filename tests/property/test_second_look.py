"""`recover` looks again at what it saw for the first time, also if a sweep of its own process looks meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest

from wallet_gql.backends.cassandra import credits as cassandra
from wallet_gql.backends.cassandra.store import CassandraStore
from wallet_gql.backends.postgres import two_phase
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.backends.redis import credits as redis
from wallet_gql.backends.redis.store import RedisStore
from wallet_gql.domain.errors import Contended
from wallet_gql.testing.patience import turns, within

Look: TypeAlias = Callable[[str], Awaitable[list[str]]]
"""Asks a node for what is open there, which is always the same."""

NODES: Mapping[str, Any] = {name: SimpleNamespace(name=name, is_gone=False) for name in ("n1", "n2")}


def on_postgres(look: Look, patch: pytest.MonkeyPatch) -> tuple[Any, Callable[[], Awaitable[object]]]:
    """A store with a prepared transaction, which cannot be settled now; and what its sweep calls."""
    recovery = two_phase.Recovery("c" * 16, NODES)

    async def prepared(node: Any) -> set[str]:
        return {two_phase.Gid("c" * 16, "n1", name).text for name in await look(node.name)}

    async def settle(*_: object) -> str:
        raise Contended

    patch.setattr(recovery, "_prepared", prepared)
    patch.setattr(recovery, "_settle", settle)
    store = object.__new__(PostgresStore)
    store._recovery, store._nodes = recovery, {}
    return store, lambda: recovery.run(10)


def on_redis(look: Look, patch: pytest.MonkeyPatch) -> tuple[Any, Callable[[], Awaitable[object]]]:
    """The same with an open intent."""
    nodes: Any = {name: SimpleNamespace(rows=lambda *_, name=name, **__: look(name)) for name in NODES}
    learning: Any = SimpleNamespace(known=SimpleNamespace(names=list(NODES), members=NODES))
    credits_ = redis.Credits(nodes, learning)
    patch.setattr(redis, "TRANSFER", SimpleNamespace(from_row=lambda row: SimpleNamespace(id=row)))
    patch.setattr(redis, "_credits", lambda *_: [])
    store = object.__new__(RedisStore)
    store._credits = credits_
    patch.setattr(store, "capabilities", SimpleNamespace(spans_nodes=False), raising=False)
    return store, lambda: credits_.settle(10)


def on_cassandra(look: Look, patch: pytest.MonkeyPatch) -> tuple[Any, Callable[[], Awaitable[object]]]:
    """The same with an open intent."""
    credits_ = cassandra.Credits(SimpleNamespace(), NODES, lambda _: asyncio.sleep(0))  # type: ignore[arg-type]

    async def open_of(partition: Any) -> list[Any]:
        transfers = [SimpleNamespace(id=name) for name in await look(partition.name)]
        return [SimpleNamespace(credit=SimpleNamespace(transfer=transfer)) for transfer in transfers]

    patch.setattr(credits_, "open_of", open_of)
    patch.setattr(credits_, "send", lambda intents: list(intents) and [])
    store = object.__new__(CassandraStore)
    store._credits = credits_
    return store, lambda: credits_.settle(10)


@pytest.mark.parametrize("backend", [on_postgres, on_redis, on_cassandra], ids=lambda backend: backend.__name__)
async def test_a_sweep_meanwhile_takes_no_second_look_away(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second node has nothing and is slow to say so. The sweep sees the first node's for the second time."""
    asked: list[str] = []
    slow = asyncio.Event()

    async def look(name: str) -> list[str]:
        asked.append(name)
        if name == "n2" and asked.count(name) == 1:
            await slow.wait()
        return ["1" * 32] if name == "n1" else []

    store, sweep = backend(look, monkeypatch)
    recovering = asyncio.create_task(store.recover(10))
    await turns()
    assert asked == ["n1", "n2"]
    await sweep()
    slow.set()
    await within(10, recovering)
    assert asked.count("n1") == 3, "it did not look again"
