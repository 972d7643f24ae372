"""Every server of every backend is killed under load and comes back; and connections run out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.integration._evidence import write_evidence
from tests.integration._failover import BACK_SECONDS, BALANCE, RETRYABLE, Load, ready
from tests.integration._mongo import need_server
from wallet_gql.backends.postgres import parameters
from wallet_gql.backends.redis import leases
from wallet_gql.domain.changes import ReadSet
from wallet_gql.domain.errors import WalletError
from wallet_gql.testing.harness import HARNESSES, Harness
from wallet_gql.testing.missing import server_or_skip
from wallet_gql.testing.patience import insist, patience, until
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0), pytest.mark.service("postgres"), pytest.mark.service("redis")]

BACKENDS: Final = ("postgres", "postgres-3", "redis", "redis-3", "mongodb")
CALLS: Final = 300
UNNOTICED: Final = 200
ROWS: Final[list[str]] = []
"""Of the page of evidence, which is written anew after each backend."""


async def outage(world: World, load: Load, number: int) -> float:
    """Kill one server until clients have noticed, and start it again; the seconds until all is served again.

    Where two people's accounts are not on the server, nobody notices; then many payments are awaited.
    """
    server = world.harness.servers()[number]
    await load.progress()
    await asyncio.to_thread(server.kill)
    errors, answered = load.errors.total(), load.answered
    await until(lambda: load.errors.total() > errors or load.answered > answered + UNNOTICED, 60, "nothing happens")
    await world.harness.restart([server])
    began = time.monotonic()
    await insist(world.store.ping, BACK_SECONDS)
    await load.progress()
    return time.monotonic() - began


@pytest.mark.parametrize("backend", BACKENDS)
async def test_every_server_comes_back_under_load(backend: str, tmp_path: Path) -> None:
    """No answer is unexpected, what was answered is in the books, and service is back by itself within 5 s."""
    need_server()
    with server_or_skip():
        harness = HARNESSES[backend]()
    rows = []
    async with World(harness, tmp_path) as world:
        load = Load(world, *await world.people(2, BALANCE))
        async with load.running():
            for number, server in enumerate(harness.servers()):
                took = await outage(world, load, number)
                rows.append(f"| {backend} | {type(server).__name__} | {took:.2f} |")
                assert took < patience(BACK_SECONDS), rows
        assert load.errors.keys() <= RETRYABLE
        assert await ready(world)
        await load.check()
    codes = ", ".join(f"{code} {count}" for code, count in sorted(load.errors.items()))
    rows[:] = [f"{row} {load.answered:,} | {codes} |" for row in rows]
    ROWS.extend(rows)
    head = "| backend | killed | s until served again | payments, each once in the books | answers meanwhile |"
    text = "\n".join([head, "|---|---|---|---|---|", *ROWS])
    write_evidence("failover", "Servers killed under load", "make soak ARGS='-k comes_back_under_load'", text)


def postgres_pool(harness: Harness, patch: pytest.MonkeyPatch) -> None:
    """Two connections to each node."""
    del harness
    patch.setattr(parameters, "POOL_DEFAULT", 2)


def redis_pool(harness: Harness, patch: pytest.MonkeyPatch) -> None:
    """The same, and two to the Redis."""
    postgres_pool(harness, patch)
    patch.setattr(leases, "CONNECTIONS_MAX", 2)


def mongodb_pool(harness: Harness, patch: pytest.MonkeyPatch) -> None:
    """Two connections to each member."""
    del patch
    harness.url += "&maxPoolSize=2"


POOLS: Final[dict[str, Callable[[Harness, pytest.MonkeyPatch], None]]] = {
    "postgres": postgres_pool,
    "postgres-3": postgres_pool,
    "redis": redis_pool,
    "redis-3": redis_pool,
    "mongodb": mongodb_pool,
}


@pytest.mark.parametrize("backend", BACKENDS)
async def test_connections_run_out(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of callers share two connections: they wait, and whoever is told to come again is then served."""
    need_server()
    with server_or_skip():
        harness = HARNESSES[backend]()
    async with World(harness, tmp_path) as world:
        people = await world.people(6, BALANCE)
        POOLS[backend](harness, monkeypatch)
        store = await world.another()
        ledger = world.ledger_on(store)
        pays = [
            insist(partial(world.pay, people[n % 6], people[(n + 1) % 6], 1, world.key(), ledger)) for n in range(CALLS)
        ]
        reads = [insist(partial(store.fetch, ReadSet(accounts=(people[n % 6].account,)))) for n in range(CALLS)]
        outcomes = await world.together([*pays, *reads])
        assert [outcome for outcome in outcomes if isinstance(outcome, WalletError)] == []
        for person in people:
            assert await world.balance(person) == (BALANCE, 0)
