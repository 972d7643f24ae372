"""Postgres nodes for modules that kill, stop and cut off nodes, and the checks of a ledger on them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from subprocess import CalledProcessError
from typing import TypeVar

from wallet_gql.backends.postgres.sharded import PgStore
from wallet_gql.domain.errors import WalletError
from wallet_gql.testing.servers.postgres import PostgresCluster
from wallet_gql.testing.world import Person, World

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
