"""The parts that only MongoDB has: set-up, documents, gate, and transactions that were left open."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from bson.int64 import Int64
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    PyMongoError,
    WriteError,
)

from tests.integration._clusters import store_of
from wallet_gql.backends.mongodb import client
from wallet_gql.backends.mongodb import gate as gates
from wallet_gql.backends.mongodb import read as reading
from wallet_gql.backends.mongodb.batch import named
from wallet_gql.backends.mongodb.client import MongoServer
from wallet_gql.backends.mongodb.documents import text
from wallet_gql.backends.mongodb.schema import COLLECTIONS, INDEXES, VERSION
from wallet_gql.backends.mongodb.store import MongoStore
from wallet_gql.domain.changes import Changes, Decision, ReadSet, Scope, Snapshot
from wallet_gql.domain.errors import (
    ConfigurationError,
    Contended,
    InvariantViolated,
    Unavailable,
)
from wallet_gql.domain.ids import AccountId
from wallet_gql.domain.model import RecordKey
from wallet_gql.storage import Recovered
from wallet_gql.testing.patience import patience, within
from wallet_gql.testing.raw import counter_key, increment, number, receipt_of, written
from wallet_gql.testing.servers.mongo import Mongod, shared_set
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.backend("mongodb")]


def server_of(world: World) -> MongoServer:
    """The connection of the world's store."""
    return store_of(world, MongoStore)._running()


# Set-up


@pytest.fixture
def lone_server() -> Iterator[Mongod]:
    """A server that belongs to no replica set."""
    server = Mongod()
    server.start()
    yield server
    server.stop()


async def refusal(url: str) -> str:
    """Why a store does not open."""
    with pytest.raises(ConfigurationError) as caught:
        async with MongoStore(url):
            pytest.fail("it opened")
    return str(caught.value)


async def test_a_standalone_server_is_refused_with_the_remedy(lone_server: Mongod) -> None:
    """No transactions without a replica set: the refusal names both commands that make one."""
    message = await refusal(f"mongodb://{lone_server.address}/wallet")
    assert "--replSet rs0" in message
    assert "rs.initiate()" in message


async def test_a_server_that_was_not_initiated_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member of a set that does not exist yet gets the one command that is missing."""
    monkeypatch.setattr(client, "OPEN_SECONDS", patience(2))  # it must have answered by then
    server = Mongod("--replSet", "rs0")
    server.start()
    message = await refusal(f"mongodb://{server.address}/wallet")
    server.stop()
    assert "rs.initiate()" in message


async def test_an_absent_server_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong address is named."""
    monkeypatch.setattr(client, "OPEN_SECONDS", 0.5)
    assert "127.0.0.1:1 does not answer" in await refusal("mongodb://127.0.0.1:1/wallet")


@pytest.mark.parametrize("url", ["mongodb://", "mongodb://host:port/x", "mongodb://h/x?w=-1"])
async def test_a_malformed_url_is_refused(url: str) -> None:
    """A URL that the driver cannot read is a configuration error, not a driver's."""
    said = await refusal(url)
    assert "mongodb://host:27017/wallet" in said or "percent-encode" in said


async def test_a_newer_schema_is_refused(world: World) -> None:
    """A database that a later version has migrated is left alone."""
    meta = server_of(world).database["meta"]
    await meta.update_one({"_id": "schema"}, {"$set": {"version": VERSION + 1}})
    message = await refusal(world.harness.url)
    await meta.update_one({"_id": "schema"}, {"$set": {"version": VERSION}})
    assert "upgrade wallet-gql" in message


async def test_somebody_elses_database_is_refused(world: World) -> None:
    """A database with an `accounts` collection of another program is not touched."""
    other = server_of(world).client["somebody_else"]
    await other["accounts"].insert_one({"name": "x"})
    message = await refusal(shared_set(1).url("somebody_else"))
    assert "name another database" in message
    assert await other.list_collection_names() == ["accounts"]
    await server_of(world).client.drop_database("somebody_else")


async def test_many_that_open_at_once_migrate_once() -> None:
    """Any number of stores may meet an empty database; the indexes are all there afterwards."""
    url = shared_set(1).url("opened_at_once")
    stores = [MongoStore(url) for _ in range(4)]
    await asyncio.gather(*(store.__aenter__() for store in stores))
    database = stores[0]._database
    for name in COLLECTIONS:
        expected = {index.document["name"] for index in INDEXES.get(name, ())} | {"_id_"}
        assert set(await database[name].index_information()) == expected
    await database.client.drop_database(database.name)
    for store in stores:
        await store.__aexit__(None, None, None)


# Documents


async def test_money_is_a_64_bit_integer_and_nothing_else(world: World) -> None:
    """Amounts are stored as `long`; the server itself refuses doubles, overdrafts and unknown fields."""
    ann, _ = await world.people(2, 1_000)
    accounts = server_of(world).database["accounts"]
    assert await accounts.count_documents({"posted_minor": {"$type": "long"}}) == await accounts.count_documents({})
    bad: list[dict[str, Any]] = [
        {"posted_minor": 1000.0},
        {"posted_minor": 1000},
        {"posted_minor": Int64(-1)},
        {"held_minor": Int64(1_001)},
        {"nickname": "x"},
    ]
    for fields in bad:
        with pytest.raises(WriteError):
            await accounts.update_one({"_id": ann.account}, {"$set": fields})


async def test_scalars_cannot_become_operators(world: World) -> None:
    """What ought to be text, and would match anything, is refused before it gets into a filter."""
    trick: Any = re.compile("")
    with pytest.raises(InvariantViolated):
        text(trick)
    with pytest.raises(InvariantViolated):
        named([trick])
    with pytest.raises(InvariantViolated):
        await world.store.list_records("session", trick)
    with pytest.raises(InvariantViolated):
        await world.store.fetch(ReadSet(accounts=(trick,)))
    with pytest.raises(InvariantViolated):
        await world.store.fetch(ReadSet(receipts=((0, trick, "k"),)))
    with pytest.raises(InvariantViolated):
        await world.store.fetch(ReadSet(records=(RecordKey("session", trick, 0),)))


async def test_operators_in_text_stay_text(world: World) -> None:
    """A key, a reference or a body that looks like an operator is stored and found as it is."""
    ann, bob = await world.people(2, 1_000)
    nasty = '{"$gt": ""}'
    await world.pay(ann, bob, 10, nasty)
    assert (await world.pay(ann, bob, 10, nasty)).replayed
    key = RecordKey("$where", "$ne.$gt", ann.slot)
    await world.put(written(key, 1, **{"$set": {"a.b": 1}}))
    record = await world.record(key)
    assert record is not None
    assert record.body == {"$set": {"a.b": 1}}


# Write skew beyond what the suite asks


async def test_g2_an_absent_receipt_that_is_not_written(world: World) -> None:
    """Of two commands that find each other's receipt absent and write their own, only one goes on unaware."""
    ann = await world.person()
    stores = [world.store, await world.another()]
    for i in range(20):
        keys = [f"left-{i}", f"right-{i}"]

        def decide(snapshot: Snapshot, own: str, other: str) -> Decision[bool]:
            alone = snapshot.receipt(ann.id, other) is None
            return Decision(Changes(receipts=(receipt_of(world, ann, own),) if alone else ()), alone)

        scope = Scope(ann.slot, receipts=((ann.id, keys[0]), (ann.id, keys[1])))
        outcomes = await asyncio.gather(
            stores[0].execute(scope, lambda s: decide(s, keys[0], keys[1])),  # noqa: B023 - awaited in this turn
            stores[1].execute(scope, lambda s: decide(s, keys[1], keys[0])),  # noqa: B023 - awaited in this turn
        )
        assert sorted(outcome.result for outcome in outcomes) == [False, True]


async def test_g2_an_absent_record_that_is_not_written(world: World) -> None:
    """The same with records, whether or not another command creates one of them."""
    ann = await world.person()
    stores = [world.store, await world.another()]
    for i in range(20):
        keys = [counter_key(ann, f"left{i}"), counter_key(ann, f"right{i}")]

        def decide(snapshot: Snapshot, own: RecordKey, other: RecordKey) -> Decision[bool]:
            alone = snapshot.record(other) is None
            return Decision(Changes(records=(written(own, 1),) if alone else ()), alone)

        scope = Scope(ann.slot, records=(keys[0], keys[1]))
        outcomes = await asyncio.gather(
            stores[0].execute(scope, lambda s: decide(s, keys[0], keys[1])),  # noqa: B023 - awaited in this turn
            stores[1].execute(scope, lambda s: decide(s, keys[1], keys[0])),  # noqa: B023 - awaited in this turn
        )
        assert sorted(outcome.result for outcome in outcomes) == [False, True]
    assert len([r for r in (await world.books()).records.values() if r.kind == "test"]) == 20


# The gate


async def test_a_gate_whose_holder_died_opens_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that nobody renews runs out, and writers go on."""
    monkeypatch.setattr(gates, "_UNTIL", {"$add": ["$$NOW", 300]})
    ann, bob = await world.people(2, 1_000)
    began = asyncio.get_running_loop().time()
    await store_of(world, MongoStore)._gate._take("somebody who died")
    await world.pay(ann, bob, 10)  # before its own deadline
    assert asyncio.get_running_loop().time() - began > 0.29


async def test_a_holder_who_lost_the_gate_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export during which others could write does not end as if nothing had happened."""
    monkeypatch.setattr(gates, "_UNTIL", {"$add": ["$$NOW", 100]})
    ann, bob = await world.people(2, 1_000)

    async def export() -> None:
        async with world.store.gate():
            await asyncio.sleep(0.2)
            await world.pay(ann, bob, 10)

    with pytest.raises(Unavailable, match="lost"):
        await export()


async def test_the_gate_is_had_by_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second holder gets Contended, and the first one keeps it."""
    async with world.store.gate():
        monkeypatch.setattr(gates, "CLOSE_SECONDS", 0.3)
        with pytest.raises(Contended):
            async with (await world.another()).gate():
                pytest.fail("two hold the gate")


async def test_a_forgotten_fence_is_made_anew(world: World) -> None:
    """A process whose fence was dropped while it was quiet writes again."""
    ann, bob = await world.people(2, 1_000)
    await server_of(world).database["locks"].delete_many({})
    await world.pay(ann, bob, 10)
    assert (
        await server_of(world).database["locks"].count_documents({"_id": store_of(world, MongoStore)._gate.fence_id})
        == 1
    )


# Nothing in doubt


async def test_recover_has_nothing_to_do(world: World) -> None:
    """A process killed in the middle of a commit leaves nothing that recovery would have to settle."""
    ann, bob = await world.people(2, 1_000)
    for point in ("mongodb.loaded", "mongodb.decided", "mongodb.written", "mongodb.committed"):
        await _die_at(world, point)
    before = (await world.books()).facts()
    assert await world.store.recover(100) == Recovered()
    assert (await world.books()).facts() == before
    await within(8, world.pay(ann, bob, 10))
    await world.check()


async def _die_at(world: World, point: str) -> None:
    command = [sys.executable, "-m", "wallet_gql.testing.writer", world.harness.url, str(world.folder / point)]
    process = await asyncio.create_subprocess_exec(
        *command,
        "--operations",
        "200",
        env={"WALLET_MODE": "test", "WALLET_FAILPOINTS": f"{point}=kill@3", "PATH": "/usr/bin:/bin"},
        stderr=subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == -9, said.decode()[-2000:]


async def test_a_transaction_that_nobody_finishes_is_aborted(world: World) -> None:
    """A dead process's open transaction blocks its records for about three seconds, not for the server's minute."""
    ann, bob = await world.people(2, 1_000)
    dead = MongoServer(world.harness.url)
    session = dead.client.start_session()
    await session.start_transaction()
    bump = {"$inc": {"guard": Int64(1)}}
    await dead.database["accounts"].update_one({"_id": ann.account}, bump, session=session)
    began = asyncio.get_running_loop().time()
    await world.pay(ann, bob, 10)
    assert asyncio.get_running_loop().time() - began < patience(8)
    with pytest.raises(PyMongoError):
        await session.commit_transaction()
    await dead.close()
    assert await world.balance(ann) == (990, 0)


# Others


async def test_a_watcher_hears_of_other_processes_soon(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change stream wakes a watcher long before it would have polled."""
    monkeypatch.setattr("wallet_gql.backends.kit.store.WATCH_POLL_SECONDS", 30.0)
    ann, bob = await world.people(2, 1_000)
    other = world.ledger_on(await world.another())
    account: AccountId = bob.account
    lines = world.store.watch(account, 1)
    opened, watch = asyncio.Event(), AsyncCollection.watch

    async def noted(entries: Any, *given: Any, **more: Any) -> Any:
        stream = await watch(entries, *given, **more)
        opened.set()
        return stream

    monkeypatch.setattr(AsyncCollection, "watch", noted)
    waiting = asyncio.ensure_future(anext(lines))
    await within(10, opened.wait())  # it tells what comes from now on
    await world.pay(ann, bob, 10, ledger=other)
    line = await within(5, waiting)
    assert line.entry.amount_minor == 10
    await lines.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_counters_of_other_processes_are_never_lost(world: World) -> None:
    """Five stores on one record: conflicts are retried until each has had its turn."""
    ann = await world.person()
    key = counter_key(ann)
    stores = [world.store, *[await world.another() for _ in range(4)]]
    commands = (stores[i % 5].execute(Scope(ann.slot, records=(key,)), increment(key)) for i in range(100))
    await asyncio.gather(*commands)
    assert number(await world.record(key)) == 100


async def test_sums_may_take_longer_than_other_reads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """They read all accounts."""
    await world.people(2, 100)
    seconds = patience(1)
    monkeypatch.setattr(client, "READ_SECONDS", seconds)
    totals = reading.totals

    async def slow(*given: Any) -> Any:
        await asyncio.sleep(seconds + 0.1)
        return await totals(*given)

    monkeypatch.setattr(reading, "totals", slow)
    assert sum(total.customer_minor for total in await world.store.totals()) == 200


async def test_sums_that_take_too_long_are_no_server_that_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cause that operators look for is another one."""
    monkeypatch.setattr(client, "SUMS_SECONDS", 0.01)
    monkeypatch.setattr(reading, "totals", lambda *_: asyncio.Event().wait())
    with pytest.raises(Contended, match="reading took longer"):
        await world.store.totals()
