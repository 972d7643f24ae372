"""A Redis that refuses while the store serves: nothing is paid, no answer is INTERNAL, and leases work afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import uvloop

from wallet_gql import background
from wallet_gql.backends.redis.store import RedisStore
from wallet_gql.domain.errors import Unavailable
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.patience import patience
from wallet_gql.testing.proxy import Proxy
from wallet_gql.testing.servers.postgres import PostgresCluster
from wallet_gql.testing.servers.redis import RedisServer
from wallet_gql.testing.world import World

LEASES = "lease_seconds=1"  # whoever is kept from running for so long has lost his, and rightly so
AGAIN_SECONDS = 60.0


@pytest.fixture(autouse=True)
def _every_cause_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_logged", {})


@pytest.fixture(scope="module")
def nodes() -> Iterator[PostgresCluster]:
    """One node, shared by this module."""
    made = PostgresCluster(1)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis whose settings may be spoiled."""
    made = RedisServer()
    yield made
    made.stop()


def tell(server: RedisServer, *words: str, password: str | None = None) -> None:
    """One command. `BUSY` and its like are no matter."""
    with redis.Redis(port=server.port, password=password) as client:
        client.execute_command(*words)


@dataclass(frozen=True)
class Trouble:
    """Commands that make the Redis refuse, and those that take it back under the password that it has then."""

    make: tuple[tuple[str, ...], ...]
    back: tuple[tuple[str, ...], ...]
    password: str | None = None


TROUBLES = {
    "requirepass": Trouble(
        (("CONFIG", "SET", "requirepass", "s3cret-w0rd"), ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")),
        (("CONFIG", "SET", "requirepass", ""),),
        "s3cret-w0rd",
    ),
    "no right": Trouble((("ACL", "SETUSER", "default", "-set"),), (("ACL", "SETUSER", "default", "+@all"),)),
    "read-only replica": Trouble((("REPLICAOF", "127.0.0.1", "1"),), (("REPLICAOF", "NO", "ONE"),)),
    "no replica": Trouble(
        (("CONFIG", "SET", "min-replicas-to-write", "1"),), (("CONFIG", "SET", "min-replicas-to-write", "0"),)
    ),
    "out of memory": Trouble(
        (("CONFIG", "SET", "maxmemory-policy", "noeviction"), ("CONFIG", "SET", "maxmemory", "1")),
        (("CONFIG", "SET", "maxmemory", "0"),),
    ),
}


async def refuses_and_goes_on(world: World, make: Callable[[], Any], back: Callable[[], Any]) -> None:
    """Payments and `ping` are Unavailable in between; behind it all payments go through and leases are renewed."""
    store = world.store
    assert isinstance(store, RedisStore)
    ann, bob = await world.people(2, 100)
    await asyncio.to_thread(make)
    try:
        for number in range(4):
            with pytest.raises(Unavailable):
                await world.pay(ann, bob, 10, key=f"pay-{number}")
        with pytest.raises(Unavailable):
            await store.ping()
        async with asyncio.timeout(patience(AGAIN_SECONDS)):  # long enough for the renewal to fail, too
            await asyncio.sleep(0.5)
    finally:
        await asyncio.to_thread(back)
    async with asyncio.timeout(patience(AGAIN_SECONDS)):
        while True:
            try:
                await store.ping()
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                break
    for number in range(4):
        await world.pay(ann, bob, 10, key=f"pay-{number}")
    assert await world.balance(bob) == (140, 0)
    async with store.leases.hold("n1", [["a row"]]) as held:
        async with asyncio.timeout(patience(AGAIN_SECONDS)):
            before = held.renew_at
            while True:
                await asyncio.sleep(0.05)
                if held.renew_at != before:
                    break
        assert not held.lost


@pytest.mark.parametrize("name", TROUBLES)
async def test_a_redis_that_refuses(
    name: str, server: RedisServer, nodes: PostgresCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it answers, and without its password in the log."""
    trouble, database = TROUBLES[name], await asyncio.to_thread(nodes.take)

    def make() -> None:
        with redis.Redis(port=server.port) as client:
            for words in trouble.make:
                client.execute_command(*words)

    def back() -> None:
        for words in trouble.back:
            tell(server, *words, password=trouble.password)

    async with World(Harness(f"{server.url()}?{LEASES},{nodes.url(database)}", "redis"), tmp_path) as world:
        await refuses_and_goes_on(world, make, back)
    assert not [record for record in caplog.records if record.exc_info], caplog.text
    assert "s3cret-w0rd" not in caplog.text


@contextmanager
def runner(loop: str) -> Iterator[asyncio.Runner]:
    """The event loop that servers run on, or Python's own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as made:
        yield made


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_k2_a_redis_behind_a_proxy_that_accepts_and_resets(
    loop: str, server: RedisServer, nodes: PostgresCluster, tmp_path: Path
) -> None:
    """Where uvloop raises `RuntimeError: … the handler is closed` out of the driver: seen as 80 INTERNAL of 11,000."""
    database = nodes.take()

    async def trial() -> None:
        async with Proxy("127.0.0.1", server.port) as proxy:
            url = f"redis+postgres://127.0.0.1:{proxy.port}/0?{LEASES},{nodes.url(database)}"
            async with World(Harness(url, "redis"), tmp_path) as world:
                running = asyncio.get_running_loop()
                await refuses_and_goes_on(
                    world,
                    lambda: running.call_soon_threadsafe(proxy.refuse),
                    lambda: running.call_soon_threadsafe(proxy.accept),
                )
                assert proxy.hits["refused"]

    with runner(loop) as made:
        made.run(trial())


@pytest.mark.parametrize("error", [RuntimeError("the handler is closed"), AttributeError("x"), EOFError(), KeyError(1)])
async def test_k2_whatever_the_driver_raises_leases_are_renewed_and_released(
    error: Exception, server: RedisServer, nodes: PostgresCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One strange error ended the renewal for the life of the process, and came out of the release."""
    database = await asyncio.to_thread(nodes.take)
    async with World(Harness(f"{server.url()}?{LEASES},{nodes.url(database)}", "redis"), tmp_path) as world:
        store = world.store
        assert isinstance(store, RedisStore)
        failed = asyncio.Event()

        async def fail(*_arguments: Any, **_options: Any) -> Any:
            failed.set()
            raise error

        def make() -> None:
            monkeypatch.setattr("redis.commands.core.AsyncScript.__call__", fail)

        async with store.leases.hold("n1", [["row"]]):
            make()
            async with asyncio.timeout(patience(AGAIN_SECONDS)):
                await failed.wait()
        monkeypatch.undo()
        await refuses_and_goes_on(world, make, monkeypatch.undo)
