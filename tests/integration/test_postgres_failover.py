"""A node with a standby: the primary dies under load, the standby is promoted, and the former primary comes back."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.integration._failover import BACK_SECONDS, RETRYABLE, Load, ready
from wallet_gql.backends import open_store
from wallet_gql.backends.postgres import membership
from wallet_gql.backends.postgres.membership import Membership
from wallet_gql.backends.postgres.sharded import PgStore
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.domain.errors import ConfigurationError
from wallet_gql.testing.patience import insist, patience, until
from wallet_gql.testing.servers.postgres import PostgresCluster, PostgresHarness, PostgresServer
from wallet_gql.testing.servers.redis import FORBIDDEN, RedisHarness
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.service("postgres"), pytest.mark.service("redis"), pytest.mark.trial]

HARNESSES: dict[str, tuple[type[PostgresHarness | RedisHarness], dict[str, str]]] = {
    "postgres": (PostgresHarness, {}),
    "redis": (RedisHarness, FORBIDDEN),
}


async def serving_port(world: World) -> int:
    """Of the server that a new connection to the first node goes to."""
    assert isinstance(world.store, PgStore)
    node = world.store._nodes["n1"]
    await node._expire()
    return int(await node.ask("SELECT inet_server_port()", seconds=patience(5)))


async def fail_over(primary: PostgresServer, standby: PostgresServer, world: World, load: Load) -> None:
    """Kill the primary under load, and promote the standby; until then nobody is told that the wallet is ready."""
    await load.progress()
    await asyncio.to_thread(primary.kill)
    before = load.errors.total()
    await until(lambda: load.errors.total() > before, 30, "no client has noticed")
    assert not await ready(world)  # the standby answers, and cannot write
    await asyncio.to_thread(standby.promote)
    began = time.monotonic()
    await insist(world.store.ping, BACK_SECONDS)
    await load.progress()
    took = time.monotonic() - began
    assert took < patience(BACK_SECONDS), f"payments came back after {took:.1f} s"


@pytest.mark.parametrize("kind", ["postgres", pytest.param("redis", marks=pytest.mark.soak)])
async def test_a_standby_is_promoted_under_load(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No answer is unexpected, what was answered is in the books, and the former primary is never used again."""
    made, settings = HARNESSES[kind]
    with ExitStack() as stack:
        cluster = PostgresCluster(2, settings)
        stack.callback(cluster.stop)
        primary = cluster.nodes[0]
        # It accepts connections, says nothing, and must hide no other host.
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        primary.standbys.append(silent.getsockname()[1])
        standby = await asyncio.to_thread(primary.add_standby)
        stack.callback(standby.stop)
        async with World(made(2, cluster), tmp_path) as world:
            left, right = await world.people(2, 100_000)
            load = Load(world, left, right)
            async with load.running():
                await fail_over(primary, standby, world, load)
            assert load.errors.keys() <= RETRYABLE
            await asyncio.to_thread(primary.restart)
            while f"127.0.0.1:{primary.port} is a former primary and can still be written" not in caplog.text:
                assert await insist(partial(serving_port, world)) == standby.port
            await load.check()


async def test_no_slot_moves_beside_a_standby_that_may_lag(tmp_path: Path) -> None:
    """If it was promoted it could undo one half of a move. A role of few rights sees that there is one, too."""
    cluster = PostgresCluster(2, {})
    primary = cluster.nodes[0]
    standby = await asyncio.to_thread(primary.add_standby)
    async with World(PostgresHarness(2, cluster), tmp_path) as world:
        async with open_store(world.harness.url) as store:
            assert isinstance(store, PostgresStore)
            members = Membership(store)
            await members.rebalance()
            primary.run("ALTER SYSTEM SET synchronous_standby_names = ''")
            primary.run("SELECT pg_reload_conf()")
            await until(lambda: primary.run("SHOW synchronous_standby_names") == "", 30, "the setting is not read")
            with pytest.raises(ConfigurationError, match="n1 has a standby"):
                await members.rebalance()
        primary.run("CREATE ROLE plain")
        assert primary.run(f"SET ROLE plain; {membership._HAS_STANDBY}").endswith("t")
    cluster.stop()
    standby.stop()
