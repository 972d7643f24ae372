"""Cassandra on a bad day: writers killed, nodes killed, stopped, and all of them at once, under load."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration._cassandra import need_server
from wallet_gql.domain.errors import InDoubt, Unavailable, WalletError
from wallet_gql.domain.model import Transfer
from wallet_gql.testing.crash import Tally, draw_trials, run_trial
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.cassandra import CassandraCluster, CassandraHarness, CassandraNode
from wallet_gql.testing.world import Person, World

pytestmark = [pytest.mark.backend("cassandra"), pytest.mark.trial]

CLIENTS = 12
STORES = 3
PARTITIONS = 4
STOPPED_SECONDS = 6.0
"""Longer than clients wait for an answer."""

DOWN_SECONDS = 3.0
FAULTS = ("kill", "stop")
ALL = "kill all"


@pytest.fixture(scope="module")
def three() -> Iterator[CassandraCluster]:
    """Three nodes with every row on each, for this file alone."""
    need_server()
    cluster = CassandraCluster(3)
    yield cluster
    cluster.stop()


@dataclass(slots=True)
class Load:
    """Clients that pay until told to stop, each asking again with the same key until there is an answer."""

    world: World
    people: list[Person]
    timeout_seconds: float = 4.0
    paid: dict[str, Transfer] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    bad: list[WalletError] = field(default_factory=list)
    running: bool = True

    async def client(self, number: int, store: int) -> None:
        """One client. Whatever is no WalletError fails the test."""
        drawn = random.Random(number)
        ledger = self.world.ledger_on(self.world._opened[store], self.timeout_seconds)
        while self.running:
            (payer, payee), amount_minor = drawn.sample(self.people, 2), drawn.randint(1, 5)
            key = self.world.key()
            while True:
                try:
                    posted = await self.world.pay(payer, payee, amount_minor, key, ledger)
                except WalletError as error:
                    self.errors[error.code] += 1
                    if not isinstance(error, Unavailable | InDoubt):
                        self.bad.append(error)
                        return
                    await asyncio.sleep(0.05)
                else:
                    self.paid[key] = posted.result
                    break

    async def paid_more(self) -> None:
        """Wait until the service is back: some more payments are answered."""
        await self.pay_until(len(self.paid) + CLIENTS)

    async def pay_until(self, wanted: int) -> None:
        """Wait until so many payments are answered. Raises TimeoutError when there is no progress."""
        while len(self.paid) < wanted and not self.bad:
            before = len(self.paid)
            async with asyncio.timeout(patience(60)):
                while len(self.paid) == before and not self.bad:  # noqa: ASYNC110 - clients set no event
                    await asyncio.sleep(0.05)


async def fault(cluster: CassandraCluster, kind: str, node: CassandraNode) -> None:
    """Do it to a node, or to all of them, and take it back."""
    if kind == "stop":
        node.pause()
        await asyncio.sleep(STOPPED_SECONDS)
        node.resume()
        return
    struck = cluster.nodes if kind == ALL else [node]
    for one in struck:
        one.kill()
    await asyncio.sleep(DOWN_SECONDS)
    await asyncio.to_thread(cluster.start if kind == ALL else node.start)


async def trial(
    cluster: CassandraCluster, folder: Path, kinds: list[str], seed: int = 1, keys: int = 2 * CLIENTS
) -> Load:
    """One ledger under load, from three stores, through faults: the books agree with what clients were told."""
    drawn = random.Random(seed)
    async with World(CassandraHarness(PARTITIONS, lambda: cluster), folder, seed=seed) as world:
        await world.stores(STORES)
        load = Load(world, await world.people(6, 10_000))
        clients = [asyncio.create_task(load.client(i, i % STORES)) for i in range(CLIENTS)]
        await load.paid_more()
        for kind in kinds:
            await fault(cluster, kind, drawn.choice(cluster.nodes))
            await load.paid_more()
        await load.pay_until(keys)
        load.running = False
        await asyncio.gather(*clients)
        assert not load.bad, load.bad[:3]
        books = await world.books()
        effects = Counter(transfer.idempotency_key for transfer in books.transfers.values())
        assert {key: effects[key] for key in load.paid if effects[key] != 1} == {}
        for key, transfer in load.paid.items():
            assert books.transfers[transfer.id].idempotency_key == key
    return load


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [pytest.param("kill", marks=pytest.mark.soak), "stop"])
async def test_a_node_is_lost_under_load(three: CassandraCluster, tmp_path: Path, kind: str) -> None:
    """Killed, or stopped for longer than clients wait: nothing is lost or doubled, and the others go on."""
    await trial(three, tmp_path, [kind])


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_all_nodes_are_killed_at_once(three: CassandraCluster, tmp_path: Path) -> None:
    """What was answered is on the disks."""
    await trial(three, tmp_path, [ALL])


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(1, 11))
async def test_nodes_are_lost_for_long(three: CassandraCluster, tmp_path: Path, seed: int) -> None:
    """Eight faults to a ledger, two of them to all nodes; a thousand keys."""
    kinds = [*FAULTS * 3, ALL, ALL]
    random.Random(seed).shuffle(kinds)
    load = await trial(three, tmp_path, kinds, seed, keys=1_000)
    print(f"seed {seed}: {len(load.paid)} paid through {Counter(kinds)}; errors {dict(load.errors)}")  # noqa: T201


# Processes killed


def harness() -> CassandraHarness:
    """A ledger of four partitions, on one node."""
    return CassandraHarness(PARTITIONS)


@pytest.mark.timeout(300)
async def test_writers_killed_at_every_step(tmp_path: Path) -> None:
    """Real processes killed at each failpoint and at random, beside a live one: the books and histories agree."""
    need_server()
    for number_of, drawn in enumerate(draw_trials(harness(), seed=7, kills=8, per_trial=4)):
        folder = tmp_path / str(number_of)
        folder.mkdir()
        tally = await run_trial(harness(), folder, drawn)
        assert tally.kills


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_writers_killed_for_long(tmp_path: Path) -> None:
    """Hundreds of kills, several thousand keys."""
    total = Tally()
    for number_of, drawn in enumerate(draw_trials(harness(), seed=11, kills=300)):
        folder = tmp_path / str(number_of)
        folder.mkdir()
        total.add(await run_trial(harness(), folder, drawn))
    print(total.table())  # noqa: T201
    assert total.kills >= 300
