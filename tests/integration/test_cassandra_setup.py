"""Opening a ledger on Cassandra: what is refused, each by one line with the remedy; and the tables themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration._cassandra import need_server
from tests.integration._cli import run_here
from wallet_gql.backends import open_store
from wallet_gql.backends.cassandra import decide
from wallet_gql.backends.cassandra.credits import Intent
from wallet_gql.backends.cassandra.store import CassandraStore
from wallet_gql.backends.cassandra.tables import TABLES, Names
from wallet_gql.backends.kit import credits as kit_credits
from wallet_gql.books.exchange import digest_of, export_lines, import_lines
from wallet_gql.domain.changes import Changes, Scope
from wallet_gql.domain.errors import ConfigurationError
from wallet_gql.domain.model import Record
from wallet_gql.testing.patience import patience
from wallet_gql.testing.raw import counter_key, written
from wallet_gql.testing.servers.cassandra import CassandraCluster, CassandraHarness, shared_cluster
from wallet_gql.testing.world import Person, World

pytestmark = [pytest.mark.backend("cassandra"), pytest.mark.trial]

LOGIN = ("cassandra", "cassandra")
"""The first user of a node that wants a password."""


@pytest.fixture
def cluster() -> CassandraCluster:
    """The one node that tests share."""
    need_server()
    return shared_cluster(1)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An empty ledger of one partition."""
    need_server()
    async with World(CassandraHarness(1), tmp_path) as made:
        yield made


async def refused(url: str, *, migrates: bool = True, production: bool = False) -> str:
    """Why a URL is refused."""
    with pytest.raises(ConfigurationError) as told:
        async with open_store(url, migrates=migrates, production=production):
            pass
    text = str(told.value)
    assert "\n" not in text
    return text


async def test_a_keyspace_that_is_not_there(cluster: CassandraCluster) -> None:
    """The statement that makes it is told."""
    text = await refused(cluster.url("nowhere", 1))
    assert "CREATE KEYSPACE nowhere" in text


async def test_nobody_listens() -> None:
    """The cluster is to be started, or the URL corrected."""
    assert "start it, or correct the URL" in await refused("cassandra://127.0.0.1:1/wallet")


async def test_another_number_of_partitions(world: World) -> None:
    """It was fixed when the ledger was made."""
    url = world.harness.url.replace("partitions=1", "partitions=2")
    assert "partitions=1" in await refused(url)


async def test_too_few_copies_for_production(world: World) -> None:
    """One copy of a row is for trying the wallet out."""
    assert "ALTER KEYSPACE" in await refused(world.harness.url, production=True)


@pytest.mark.parametrize(("mode", "code"), [("production", 2), ("development", 0)])
async def test_a_check_of_the_settings_wants_what_the_server_wants(
    world: World, capsys: pytest.CaptureFixture[str], mode: str, code: int
) -> None:
    """Also what is wanted in production alone."""
    settings = {"WALLET_STORAGE": world.harness.url, "WALLET_MODE": mode, "WALLET_INSECURE_HTTP": "true"}
    assert await asyncio.to_thread(run_here, "config", "check", "--open", **settings) == code
    assert ("ALTER KEYSPACE" in capsys.readouterr().err) == (code == 2)


async def test_no_ledger_is_made_unasked(cluster: CassandraCluster) -> None:
    """Unless it may be made, an empty keyspace stays empty."""
    await asyncio.to_thread(
        cluster.ask,
        "CREATE KEYSPACE IF NOT EXISTS empty WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    )
    assert "migrate" in await refused(cluster.url("empty", 1), migrates=False)
    await asyncio.to_thread(cluster.ask, "CREATE TABLE IF NOT EXISTS empty.songs (k text PRIMARY KEY)")
    assert "songs" in await refused(cluster.url("empty", 1))


@pytest.mark.parametrize("last", ["DELETE FROM {}.meta WHERE k = 'version'", "TRUNCATE {}.register"])
async def test_a_ledger_that_is_half_made(world: World, cluster: CassandraCluster, last: str) -> None:
    """Whoever made it ended before its last steps: whoever may make one makes the rest, and only he."""
    keyspace = urlsplit(world.harness.url).path.strip("/")
    await asyncio.to_thread(cluster.ask, last.format(keyspace))
    for _ in range(2):
        assert "there is no ledger" in await refused(world.harness.url, migrates=False)
    for migrates in (True, False):
        async with open_store(world.harness.url, migrates=migrates) as store:
            assert await store.ping() == {}


async def test_a_keyspace_beside_the_commit_log(cluster: CassandraCluster) -> None:
    """What is written there would be lost with the node's memory, whatever the node's own settings say."""
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    await asyncio.to_thread(
        cluster.ask,
        f"CREATE KEYSPACE IF NOT EXISTS fleeting WITH replication = {replication} AND durable_writes = false",
    )
    assert "ALTER KEYSPACE fleeting WITH durable_writes = true" in await refused(cluster.url("fleeting", 1))


async def test_a_newer_schema(world: World) -> None:
    """A ledger of a newer version is not touched."""
    keyspace = world.harness.url.rpartition("/")[2].partition("?")[0]
    cluster = shared_cluster(1)
    await asyncio.to_thread(cluster.ask, f"UPDATE {keyspace}.meta SET value = '99' WHERE k = 'version' IF EXISTS")
    assert "upgrade wallet-gql" in await refused(world.harness.url)
    await asyncio.to_thread(cluster.ask, f"UPDATE {keyspace}.meta SET value = '1' WHERE k = 'version' IF EXISTS")


@pytest.fixture(scope="module")
def strict() -> Iterator[CassandraCluster]:
    """A node that wants a password, and has Cassandra's default for its commit log."""
    need_server()
    settings = {"commitlog_sync": "periodic", "commitlog_sync_period": "10000ms"}
    made = CassandraCluster(1, {**settings, "authenticator": "PasswordAuthenticator"}, LOGIN)
    yield made
    made.stop()


@pytest.mark.timeout(300)
async def test_a_commit_log_that_answers_before_it_writes(strict: CassandraCluster) -> None:
    """`periodic` is refused with the line to change."""
    keyspace = await asyncio.to_thread(strict.take, 1)
    assert "`commitlog_sync: batch`" in await refused(strict.url(keyspace, 1))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("login", ["", "cassandra:wrong@", "nobody:cassandra@"])
async def test_wrong_credentials(strict: CassandraCluster, login: str) -> None:
    """None at all, a wrong password, an unknown user: correct the URL, whose password is not shown."""
    right = f"{':'.join(LOGIN)}@"
    await asyncio.to_thread(strict.ask, "SELECT key FROM system.local")  # its first user is there
    text = await refused(strict.url("wallet", 1).replace(right, login))
    assert "refuses the user or the password, or wants some; correct the URL" in text
    assert "wrong" not in text


# Commits


async def test_a_batch_is_split_by_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that would write more than a commit takes go into several; each is done once."""
    ann = await world.person()
    monkeypatch.setattr(decide, "TAIL_BYTES_MAX", 2_000)
    keys = [counter_key(ann, f"large{i}") for i in range(20)]
    store = world.store
    assert isinstance(store, CassandraStore)
    before = await store._partitions["p0000"].newest()
    bodies = [world.random.randbytes(600).hex() for _ in keys]
    await asyncio.gather(
        *(
            world.execute(Scope(ann.slot, records=(key,)), Changes(records=(written(key, 1, text=text),)))
            for key, text in zip(keys, bodies, strict=True)
        )
    )
    after = await store._partitions["p0000"].newest()
    assert after[0] - before[0] >= 10
    for key, text in zip(keys, bodies, strict=True):
        found = await world.record(key)
        assert found is not None
        assert found.body == {"text": text}


async def test_a_duplicate_in_the_same_batch_says_whether_the_credit_is_there(
    cluster: CassandraCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds the receipt of the first one, which no table has yet."""
    del cluster
    monkeypatch.setattr(kit_credits, "CREDIT_SECONDS", 0.2)
    async with World(CassandraHarness(16), tmp_path) as world:
        store, (ann, bob) = world.store, await world.people(2, 1_000)
        assert isinstance(store, CassandraStore)
        may_arrive, real = asyncio.Event(), store._credits._send

        async def held_back(intent: Intent) -> bool:
            await may_arrive.wait()
            return await real(intent)

        monkeypatch.setattr(store._credits, "_send", held_back)
        key = world.key()
        answers = await asyncio.gather(*(world.pay(ann, bob, 5, key) for _ in range(8)))
        assert {posted.replayed for posted in answers} == {False, True}
        assert {posted.credited for posted in answers} == {False}
        may_arrive.set()
        assert await asyncio.wait_for(_until_credited(world, ann, bob, key), patience(20))


async def _until_credited(world: World, ann: Person, bob: Person, key: str) -> bool:
    while not (await world.pay(ann, bob, 5, key)).credited:  # noqa: ASYNC110 - credits set no event
        await asyncio.sleep(0.05)
    return await world.balance(bob) == (1_005, 0)


async def test_the_register_does_not_grow_with_history(world: World) -> None:
    """After hundreds of payments the register holds the newest commit and the sums, and nothing else."""
    ann, bob = await world.people(2, 10_000)
    store = world.store
    assert isinstance(store, CassandraStore)

    async def size() -> int:
        await world.pay(ann, bob, 1)
        ((_, attempt, tail, sums, *_),) = await store._client.ask("register", "p0000")
        return len(attempt) + len(tail) + len(sums)

    early = await size()
    await asyncio.gather(*(world.pay(ann, bob, 1) for _ in range(300)))
    assert await size() < early + 100


def test_every_table_is_written_or_read() -> None:
    """The schema has no table that nobody uses, and names lead from a record to itself."""
    record = Record("kind", "id", 1, "owner", 1)
    assert {name for name, _ in Names.of_record(record, "p0000").rows} <= TABLES.keys()


# Moving


async def test_to_sqlite_and_to_other_partitions(world: World, tmp_path: Path) -> None:
    """Exported to SQLite, and from there into four partitions: each is the same ledger, and an old key replays."""
    ann, bob = await world.people(2, 1_000)
    paid = await world.pay(ann, bob, 10, "first")
    await world.hold(ann, bob, 5)
    await world.ledger.reverse_transfer(bob.id, world.key(), paid.result.id, amount_minor=3)
    lines = [line async for line in export_lines(world.store)]
    digest = await digest_of(world.store)
    async with open_store(f"sqlite:///{tmp_path / 'copy.db'}") as copy:
        await import_lines(copy, lambda: lines)
        assert await digest_of(copy) == digest
        back = [line async for line in export_lines(copy)]
    (tmp_path / "four").mkdir()
    async with World(CassandraHarness(4), tmp_path / "four") as four:
        await import_lines(four.store, lambda: back)
        assert await digest_of(four.store) == digest
        assert (await four.pay(ann, bob, 10, "first")).replayed
        await four.pay(bob, ann, 4)
