"""Who waits when a payment between two Postgres nodes stops half way: its payer, for a few seconds, and nobody else.

A coordinator is stopped at each step of the protocol, or one of the two nodes is. Meanwhile everybody else's commands
are counted by kind: none may fail, and what is in doubt is still in doubt when the last of them is answered.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import pytest

from tests.integration._clusters import NAMES, quieted, store_of, timed
from wallet_gql import failpoints
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.domain.errors import WalletError
from wallet_gql.domain.spending import Limits
from wallet_gql.testing.nodes import send
from wallet_gql.testing.patience import patience, wait_until
from wallet_gql.testing.servers.postgres import PostgresHarness, PostgresServer
from wallet_gql.testing.servers.process import is_stopped
from wallet_gql.testing.world import CURRENCY, Person, World

pytestmark = [pytest.mark.trial, pytest.mark.backend("postgres-3"), pytest.mark.service("postgres")]

EACH: Final = 20
"""Commands of each kind."""
LATE_SECONDS: Final = 0.25
"""Above this a command is counted as late in what is printed; only on an idle machine does that say something."""
DEADLINE_SECONDS: Final = 4.0
"""Less than what a payment in doubt lasts here, for nobody recovers."""

LIMITS: Final = Limits(day=10**6)
"""With limits, a payment also locks what its payer has spent today."""

_VICTIM: Final = """
import asyncio, os, sys
from wallet_gql import failpoints
from wallet_gql.backends import open_store
from wallet_gql.domain.ids import parse_account_id
from wallet_gql.domain.spending import Limits
from wallet_gql.verbs.ledger import Ledger, To
url, point, action, owner, source, target, currency = sys.argv[1:]
async def main():
    async with open_store(url) as store:
        failpoints.arm(f"{point}={action}")
        to = To(parse_account_id(target))
        money = {"amount_minor": 7, "currency": currency}
        ledger = Ledger(store, spending_limits={currency: Limits(day=10**6)})
        await ledger.transfer(owner, f"victim-{os.getpid()}", source=parse_account_id(source), to=to, **money)
asyncio.run(main())
"""

Kinds = Mapping[str, tuple[Person, Person]]


@pytest.fixture
async def quiet(world: World) -> World:
    """The world, whose store does not recover by itself: what is in doubt stays so."""
    return quieted(world)


async def homes_of(world: World) -> dict[str, list[Person]]:
    """At least two people with money at home on each node."""
    homes: dict[str, list[Person]] = {name: [] for name in NAMES}
    while min(map(len, homes.values())) < 2:
        for person in await world.people(4, 1_000):
            homes[store_of(world, PostgresStore).placement.home(person.slot)].append(person)
    return homes


def kinds_of(homes: Mapping[str, Sequence[Person]]) -> Kinds:
    """Everything but what the payer, the first person of n1, takes part in. The payee is the first person of n3."""
    payee, beside_payee = homes["n3"][:2]
    return {
        "the payee pays a neighbour": (payee, beside_payee),
        "a neighbour pays the payee": (beside_payee, payee),
        "the payer's neighbour pays the payee": (homes["n1"][1], payee),
        "the payee pays the payer's neighbour": (payee, homes["n1"][1]),
        "another node pays the payee": (homes["n2"][0], payee),
        "others pay each other": (homes["n2"][0], homes["n2"][1]),
    }


def both_ways(one: Person, other: Person) -> list[tuple[Person, Person]]:
    """Each of two as the payer of the other."""
    return [(one, other), (other, one)]


async def failures(world: World, kinds: Kinds) -> Counter[str]:
    """How many commands of each kind were not answered in time; the kinds run beside one another."""
    ledger = world.ledger_on(world.store, patience(DEADLINE_SECONDS), limits=LIMITS)
    failed: Counter[str] = Counter()
    late: Counter[str] = Counter()

    async def run(kind: str, payer: Person, payee: Person) -> None:
        for _ in range(EACH):
            outcome, seconds = await timed(world.pay(payer, payee, 1, ledger=ledger))
            failed[kind] += isinstance(outcome, WalletError)
            late[kind] += seconds > LATE_SECONDS

    await asyncio.gather(*(run(kind, *pair) for kind, pair in kinds.items()))
    for kind in kinds:
        print(f"{kind}: {late[kind]} of {EACH} took over {LATE_SECONDS} s, {failed[kind]} failed")  # noqa: T201
    return failed


def coordinator(world: World, point: str, action: str, payer: Person, payee: Person) -> list[str]:
    """The command line of a process that makes one payment of 7 and does not get past the point."""
    values = (world.harness.url, point, action, payer.id, payer.account, payee.account, CURRENCY)
    return [sys.executable, "-c", _VICTIM, *values]


@contextmanager
def stopped_coordinator(world: World, point: str, payer: Person, payee: Person) -> Iterator[None]:
    """Another process that was stopped at the point of a payment; it dies in the end."""
    victim = subprocess.Popen(coordinator(world, point, "stop", payer, payee))
    try:
        wait_until(lambda: is_stopped(victim.pid), 30, "the coordinator did not stop")
        yield
    finally:
        victim.kill()
        victim.wait()


@pytest.mark.parametrize("point", ["postgres.loaded", "postgres.prepared", "postgres.committed"])
async def test_a_stopped_coordinator_blocks_only_its_payer(quiet: World, point: str) -> None:
    """After loading, after PREPARE, and after the decision. The payer waits until his session ends.

    His next commands are in the same batches as those of the others.
    """
    homes = await homes_of(quiet)
    payer, payee = homes["n1"][0], homes["n3"][0]
    assert isinstance(quiet.harness, PostgresHarness)
    expected = 0 if point == "postgres.loaded" else 1
    patient = quiet.ledger_on(quiet.store, patience(15), limits=LIMITS)
    both = both_ways(payer, homes["n1"][1])
    for pair in both:
        await quiet.pay(*pair, 1, ledger=patient)
    with stopped_coordinator(quiet, point, payer, payee):
        paying = [asyncio.create_task(timed(quiet.pay(*pair, 1, ledger=patient))) for pair in both]
        found = await failures(quiet, kinds_of(homes))
        assert +found == Counter()
        assert len(quiet.harness.cluster.prepared()) == expected
        took = await asyncio.gather(*paying)
        print(f"the payer, both ways: {[round(seconds, 2) for _, seconds in took]} s")  # noqa: T201
        assert not any(isinstance(outcome, WalletError) for outcome, _ in took)
    await quiet.settle()
    moved = 7 if point == "postgres.committed" else 0
    assert await quiet.balance(payer) == (1_000 - moved, 0)
    assert quiet.harness.cluster.prepared() == []


@asynccontextmanager
async def stopped_node(world: World, number: int, patch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """A node that is stopped as soon as something is prepared; then the event is set."""
    assert isinstance(world.harness, PostgresHarness)
    server: PostgresServer = world.harness.cluster.nodes[number]
    fired = asyncio.Event()

    def reach(name: str) -> None:
        if name == "postgres.prepared" and not fired.is_set():
            send(server, signal.SIGSTOP)
            fired.set()

    patch.setattr(failpoints, "reach", reach)
    try:
        yield fired
    finally:
        send(server, signal.SIGCONT)


@pytest.mark.parametrize(("stopped", "number"), [("n1", 0), ("n3", 2)])
async def test_a_stopped_node_blocks_only_who_needs_it(
    quiet: World, monkeypatch: pytest.MonkeyPatch, stopped: str, number: int
) -> None:
    """The leader's node or the payee's: people of the other nodes pay one another all the time."""
    homes = await homes_of(quiet)
    payer, payee = homes["n1"][0], homes["n3"][0]
    gone = {person.id for person in homes[stopped]} | {payer.id}
    kinds = {kind: pair for kind, pair in kinds_of(homes).items() if not gone & {person.id for person in pair}}
    kinds["the payer's neighbours pay"] = (homes["n2"][1], homes["n2"][0] if stopped == "n1" else homes["n1"][1])
    async with stopped_node(quiet, number, monkeypatch) as fired:
        paying = asyncio.create_task(timed(quiet.pay(payer, payee, 7, "doubt")))
        await fired.wait()
        found = await failures(quiet, kinds)
    assert +found == Counter()
    await paying
    assert (await quiet.pay(payer, payee, 7, "doubt")).result.amount_minor == 7
    await quiet.settle()
    assert await quiet.balance(payer) == (993, 0)
