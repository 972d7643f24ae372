"""Postgres nodes for modules that kill, stop and cut off nodes, and the checks of a ledger on them."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import CalledProcessError
from typing import TypeVar

import pytest

from wallet_gql import metrics
from wallet_gql.backends.postgres.node import SETTINGS
from wallet_gql.backends.postgres.sharded import PgStore
from wallet_gql.backends.postgres.text import STATEMENTS
from wallet_gql.backends.relational.statements import Statements
from wallet_gql.books.audit import audit
from wallet_gql.domain.errors import WalletError
from wallet_gql.survey import Survey
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.postgres import PostgresCluster, PostgresServer
from wallet_gql.testing.world import CURRENCY, Person, World
from wallet_gql.verbs.ledger import utc_now

S = TypeVar("S")

NAMES = ("n1", "n2", "n3")


class ClusterPool:
    """Clusters for modules one after the other: one that a module has left sound serves the next."""

    def __init__(self) -> None:
        self._idle: dict[tuple[int, frozenset[tuple[str, str]]], list[PostgresCluster]] = {}

    @contextmanager
    def lend(self, size: int, settings: Mapping[str, str]) -> Iterator[PostgresCluster]:
        """A cluster of so many nodes with these settings, which nobody else has meanwhile."""
        idle = self._idle.setdefault((size, frozenset(settings.items())), [])
        cluster = idle.pop() if idle else PostgresCluster(size, dict(settings))
        yield cluster
        if _is_sound(cluster):
            idle.append(cluster)
        else:
            cluster.stop()

    def stop(self) -> None:
        """End all that are not lent."""
        for idle in self._idle.values():
            for cluster in idle:
                cluster.stop()


def _is_sound(cluster: PostgresCluster) -> bool:
    """Whether every node serves and nothing is in doubt."""
    try:
        for node in cluster.nodes:
            node.resume()
        return cluster.prepared() == []
    except (CalledProcessError, OSError):
        return False


def store_of(world: World, kind: type[S]) -> S:
    """The world's store, with its insides."""
    assert isinstance(world.store, kind)
    return world.store


def sharded(world: World) -> PgStore:
    """The world's store on several nodes, whatever protocol writes them."""
    assert isinstance(world.store, PgStore)
    return world.store


def addresses(world: World) -> list[str]:
    """The nodes' URLs, without their names."""
    return [url.partition("?")[0] for url in sharded(world).nodes_url.split(",")]


def an_empty_database(world: World) -> str:
    """The URL of a database for another node. It is not dropped: the world's ledger may be on it until the end."""
    server, first = world.harness.servers()[2], addresses(world)[0]
    assert isinstance(server, PostgresServer)
    name = f"{first.rpartition('/')[2]}_{time.monotonic_ns()}"
    server.run(f"CREATE DATABASE {name}")
    return server.url(name).partition("?")[0]


def quieted(world: World) -> World:
    """The world, whose store neither recovers nor receives by itself: what is in doubt stays so."""
    quiet(sharded(world))
    return world


def quiet(store: PgStore) -> None:
    """Let a store neither recover nor receive by itself, nor end what a mover seems to have left."""
    assert store._recovering is not None
    store._recovering.cancel()


async def one_each(world: World, balance_minor: int = 1_000) -> list[Person]:
    """A person with money at home on each of three nodes, in the order of the nodes."""
    assert isinstance(world.store, PgStore)
    found: dict[str, Person] = {}
    while len(found) < len(NAMES):
        (person,) = await world.people(1)
        home = world.store.placement.home(person.slot)
        if home not in found:
            found[home] = person
            await world.fund(person, balance_minor)
    return [found[name] for name in NAMES]


async def timed(call: Awaitable[object]) -> tuple[object, float]:
    """A call's result or WalletError, and how many seconds it took."""
    began = time.monotonic()
    try:
        return await call, time.monotonic() - began
    except WalletError as error:
        return error, time.monotonic() - began


@contextmanager
def slow_sums(seconds: float) -> Iterator[None]:
    """The sums of a Postgres node that has an account take so long."""
    slow = f"SELECT t.* FROM ({STATEMENTS.totals}) AS t, pg_sleep({seconds})"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Statements, "totals", property(lambda _: slow))
        yield


@contextmanager
def short_statements() -> Iterator[float]:
    """Sessions whose statements may take only a moment; yields the seconds."""
    seconds = math.ceil(patience(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SETTINGS, "statement_timeout", f"{seconds}s")
        yield seconds


async def sums_may_take_long(harness: Harness, folder: Path) -> None:
    """What a statement may take is no limit of sums: totals, audit and survey do their work, and say what is wrong."""
    with short_statements() as seconds:
        async with World(harness, folder) as world:
            await world.people(3, 100)
            with slow_sums(seconds + 0.5), closing(Survey(world.store, folder, utc_now, books_seconds=1)) as survey:
                totals = [total for total in await world.store.totals() if total.currency == CURRENCY]
                assert sum(total.customer_minor for total in totals) == 300
                assert (await audit(world.store)).clean
                with metrics.serving("127.0.0.1", 0):
                    await survey.sum_books()
                    assert metrics.BOOKS_OFF._values
                    assert not any(metrics.BOOKS_OFF._values.values())
