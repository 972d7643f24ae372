"""Each mutation of the Postgres protocol is detected by a fault that the product passes.

A trial's second writer has the mutation, too: recovery runs beside the victim all the time. In CI each mutant has up to
`TRIALS_MAX` trials; under `soak` it must be detected again and again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.postgres_mutants import MUTANTS
from wallet_gql.backends.postgres import store as postgres
from wallet_gql.backends.postgres.commit import Branch
from wallet_gql.backends.postgres.node import Connection
from wallet_gql.backends.postgres.two_phase import Gid, commit_across
from wallet_gql.domain.errors import HoldNotOpen, InvariantViolated, WalletError
from wallet_gql.lab import broken
from wallet_gql.testing.crash import Kill, Trial, run_trial
from wallet_gql.testing.nodes import NodeFault, run_node_trial
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.postgres import PostgresCluster, PostgresHarness
from wallet_gql.testing.world import Person, World

pytestmark = [pytest.mark.trial, pytest.mark.backend("postgres-3"), pytest.mark.service("postgres")]

TRIALS_MAX = 50
MODULE = "tests.integration.postgres_mutants"
FAULTS: dict[str, Kill] = {
    "unfenced_recovery": Kill("postgres.prepared", stop=True),
    "roll_back_by_age": Kill("postgres.prepared", stop=True),
    "decision_after_phase_two": Kill("postgres.finished"),
    "receipt_apart": Kill("postgres.committed"),
}
"""Where the coordinator is killed, or stopped for a moment while others recover."""


def command(name: str) -> tuple[str, ...]:
    """A spoiled writer's command line."""
    return broken.command(MODULE, name)


def draw(seed: int, faults: Sequence[Kill]) -> Trial:
    """A trial of these faults, each at a drawn passing of its point."""
    drawn = random.Random(seed)
    return Trial(seed, tuple(Kill(f.point, drawn.randint(2, 20), stop=f.stop) for f in faults), companion=True)


async def suffer(cluster: PostgresCluster, folder: Path, name: str, trial: Trial) -> str:
    """What the trial found; empty if nothing."""
    folder.mkdir()  # noqa: ASYNC240 - nothing else waits for this loop
    try:
        await run_trial(PostgresHarness(3, cluster), folder, trial, command=command(name))
    except AssertionError as found:
        return str(found)
    return ""


async def convict(cluster: PostgresCluster, folder: Path, name: str, seed: int) -> int:
    """The number of the trial that found the mutant out. Raises AssertionError if none of `TRIALS_MAX` does."""
    for number in range(1, TRIALS_MAX + 1):
        found = await suffer(cluster, folder / f"{seed}-{number}", name, draw(seed * 100 + number, [FAULTS[name]]))
        if found:
            print(f"{name}: {found}")  # noqa: T201 - shown with a failure, or with -s
        # Its writer may hang on what it broke, such as a reversal of a payment that never arrives: no conviction.
        if found.startswith("trial with seed"):
            return number
    raise AssertionError(f"{name} survived {TRIALS_MAX} trials")


@pytest.mark.parametrize("name", FAULTS)
async def test_a_spoiled_protocol_is_found_out(cluster: PostgresCluster, tmp_path: Path, name: str) -> None:
    """The books or the histories contradict what was answered."""
    assert await convict(cluster, tmp_path, name, 1) <= TRIALS_MAX


async def test_the_product_passes_the_same_faults(cluster: PostgresCluster, tmp_path: Path) -> None:
    """Stopped and killed at the same points, beside a writer that recovers, it loses and doubles nothing."""
    assert (
        await suffer(cluster, tmp_path / broken.SOUND, broken.SOUND, draw(1, list(dict.fromkeys(FAULTS.values()))))
        == ""
    )


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", FAULTS)
async def test_spoiled_protocols_are_found_out_again_and_again(
    cluster: PostgresCluster, tmp_path: Path, name: str
) -> None:
    """Ten times each; the product passes ten times as many faults."""
    for seed in range(2, 12):
        number = await convict(cluster, tmp_path, name, seed)
        print(f"{name} with seed {seed}: trial {number}")  # noqa: T201
        assert await suffer(cluster, tmp_path / f"none-{seed}", broken.SOUND, draw(seed, [FAULTS[name]] * 5)) == ""


# Commits that are not on the disk


@pytest.fixture
def lazy_node() -> Iterator[PostgresCluster]:
    """One node that writes unflushed commits out late: what a crash may lose, it loses."""
    made = PostgresCluster(1, {"wal_writer_delay": "10s"})
    yield made
    made.stop()


async def test_answers_before_the_disk_are_found_out(lazy_node: PostgresCluster, tmp_path: Path) -> None:
    """A killed node forgets what was answered under synchronous_commit = off, and nothing of the product's."""
    faults = [NodeFault("kill", 0, 0.1, 0.6)] * 2
    for name in ("synchronous_commit_off", broken.SOUND):
        (tmp_path / name).mkdir()
    with pytest.raises(AssertionError, match="node trial with seed 1"):
        await run_node_trial(
            lazy_node, tmp_path / "synchronous_commit_off", 1, faults, command=command("synchronous_commit_off")
        )
    await run_node_trial(lazy_node, tmp_path / broken.SOUND, 1, faults, command=command(broken.SOUND))


# Reading before the wait


@asynccontextmanager
async def locked(world: World, person: Person) -> AsyncIterator[None]:
    """Somebody else has the account for a while."""
    assert isinstance(world.store, postgres.PostgresStore)
    node = world.store._nodes[world.store.placement.home(person.slot)]
    async with node.connection(asyncio.get_running_loop().time() + patience(10)) as connection:
        await connection.do(f"BEGIN; SELECT 1 FROM accounts WHERE id = '{person.account}' FOR UPDATE")
        yield
        await connection.do("COMMIT")


async def until_all_wait(world: World, person: Person, count: int) -> None:
    """Wait until so many commands wait for a lock on the person's node. Each waits for a moment, and then again."""
    assert isinstance(world.store, postgres.PostgresStore)
    node = world.store._nodes[world.store.placement.home(person.slot)]
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(patience(30)):
        while await node.ask(waits) < count:  # noqa: ASYNC110 - other sessions make it so
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("name", "heard"), [("read_in_the_locking_statement", InvariantViolated), (broken.SOUND, HoldNotOpen)]
)
async def test_stale_reads_are_found_out(
    cluster: PostgresCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, heard: type[WalletError]
) -> None:
    """Three stores close one hold after a wait: who read before it would close it again, but for a last guard."""
    if name != broken.SOUND:
        MUTANTS[name](monkeypatch)
    async with World(PostgresHarness(3, cluster), tmp_path) as world:
        ann, bob = await world.people(2, 10_000)
        ledgers = [world.ledger_on(store) for store in await world.stores(3)]
        hold = await world.hold(ann, bob, 10)
        async with locked(world, ann):
            voids = (ledger.void_hold(bob.id, world.key(), hold.id) for ledger in ledgers)
            closing = asyncio.ensure_future(world.together(voids))
            await until_all_wait(world, ann, len(ledgers))
        failures = [found for found in await closing if isinstance(found, WalletError)]
    assert [type(failure) for failure in failures] == [heard] * 2


# The tag of PREPARE


class Untrue(Connection):
    """A connection whose server answers ROLLBACK to PREPARE, as it does in a failed transaction."""

    def __init__(self, node: str) -> None:
        super().__init__(node, None, 0.0)
        self.told: list[str] = []

    async def run(self, statement: str) -> str:
        """Answer with the tag."""
        self.told.append(statement)
        return "ROLLBACK" if "PREPARE TRANSACTION" in statement else statement.rpartition("; ")[2]


async def payment(leader: Untrue) -> frozenset[str]:
    """A commit across two nodes, the other of which has silently rolled back."""
    return await commit_across(Gid.new("0" * 16, "n1"), Branch(leader, "{}"), [Branch(Untrue("n2"), "{}")])


async def test_a_prepare_that_answers_rollback_stops_the_commit() -> None:
    """The leader never gets the commit."""
    leader = Untrue("n1")
    with pytest.raises(InvariantViolated, match="answered ROLLBACK to PREPARE TRANSACTION"):
        await payment(leader)
    assert not [statement for statement in leader.told if "COMMIT" in statement]


async def test_an_unchecked_tag_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the check the payer is debited and nobody credited."""
    MUTANTS["prepare_tag_unchecked"](monkeypatch)
    leader = Untrue("n1")
    await payment(leader)
    assert [statement.rpartition("; ")[2] for statement in leader.told[1:]] == ["COMMIT"]
