"""Postgres nodes: refused at the start, down, back again, in doubt, and locked from both sides."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from subprocess import CalledProcessError
from typing import Any

import httpx
import pytest

from tests.integration._clusters import NAMES, an_empty_database, one_each, quieted, store_of, timed
from wallet_gql import failpoints
from wallet_gql.backends import open_store
from wallet_gql.backends.postgres import parameters, vitals
from wallet_gql.backends.postgres import store as postgres
from wallet_gql.backends.postgres import two_phase as _two_phase
from wallet_gql.backends.postgres.commit import Branch
from wallet_gql.backends.postgres.node import Connection
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.backends.postgres.two_phase import Gid, Recovery, commit_across
from wallet_gql.backends.relational.migrations import HEAD
from wallet_gql.books.exchange import export_lines
from wallet_gql.domain.changes import ReadSet
from wallet_gql.domain.errors import ConfigurationError, Contended, InDoubt, Unavailable, WalletError
from wallet_gql.settings import load_settings
from wallet_gql.storage import PageRequest, check_writable
from wallet_gql.testing.nodes import opposite, send
from wallet_gql.testing.patience import insist, patience, wait_until
from wallet_gql.testing.proxy import Proxy
from wallet_gql.testing.servers.postgres import PostgresCluster, PostgresHarness, PostgresServer
from wallet_gql.testing.world import START, World
from wallet_gql.transports.server import app as server

pytestmark = [pytest.mark.backend("postgres-3"), pytest.mark.service("postgres")]

BACK_SECONDS_MAX = 5.0
DEADLINE_SECONDS = 3.0
READ_SECONDS_MAX = 6.0


def urls_of(world: World) -> list[str]:
    """Each node's own URL."""
    return world.harness.url.split(",")


async def seconds_until(seen: Callable[[], bool]) -> float:
    """How long it takes until that is so; fails after `BACK_SECONDS_MAX`."""
    return await asyncio.to_thread(wait_until, seen, BACK_SECONDS_MAX, "not in time")


# Refused at the start


async def refusal(url: str) -> str:
    """What a store says that must not start."""
    with pytest.raises(ConfigurationError) as refused:
        async with open_store(url):
            pass
    return refused.value.message


async def test_a_missing_node_is_refused(world: World) -> None:
    """Nobody listens there: the message names the node and what to do."""
    first, second, _ = urls_of(world)
    said = await refusal(f"{first},{second},postgres://wallet@127.0.0.1:1/ledger?node=n3")
    assert "node n3 does not answer" in said
    assert "start it, or correct its URL" in said


async def test_swapped_nodes_are_refused(world: World) -> None:
    """Two URLs under each other's names."""
    first, second, third = urls_of(world)
    said = await refusal(f"{first.replace('node=n1', 'node=n2')},{second.replace('node=n2', 'node=n1')},{third}")
    assert "given as node n1 is node n2: its URL is swapped or doubled; correct it" in said


async def test_doubled_nodes_are_refused(world: World) -> None:
    """One name twice; or one database under two names, also while it is blank."""
    first, second, third = urls_of(world)
    assert "doubled: n1" in await refusal(f"{first},{first},{third}")
    said = await refusal(f"{first},{second},{second.replace('node=n2', 'node=n3')}")
    assert "given as node n3 is node n2: its URL is swapped or doubled" in said
    fresh = PostgresHarness(3, store_cluster(world))
    await fresh.start(world.folder)
    blank = fresh.url.split(",")[0]
    assert "swapped or doubled" in await refusal(f"{blank},{blank.replace('node=n1', 'node=n2')}")
    await fresh.stop()


def store_cluster(world: World) -> PostgresCluster:
    """The servers below a world."""
    assert isinstance(world.harness, PostgresHarness)
    assert world.harness._cluster is not None
    return world.harness._cluster


async def test_another_list_is_refused(world: World) -> None:
    """With fewer nodes than the ledger has, or one more, the message names the right list."""
    first, second, third = urls_of(world)
    said = await refusal(f"{first},{second}")
    assert "node n1 belongs to the nodes n1, n2, n3; given are n1, n2: name them all" in said
    await world.people(3, 100)
    blank = third.rpartition("/")[0] + "/postgres?node=n3"
    assert "node n3 is blank while others hold data: is its URL right?" in await refusal(f"{first},{second},{blank}")


async def test_a_node_of_another_cluster_is_refused(world: World) -> None:
    """The third node's URL leads to another ledger."""
    (world.folder / "other").mkdir()
    async with World(PostgresHarness(3, store_cluster(world)), world.folder / "other") as other:
        said = await refusal(",".join([*urls_of(world)[:2], urls_of(other)[2]]))
    assert "node n3 belongs to cluster" in said
    assert "is its URL right?" in said


async def test_a_process_learns_another_epoch(world: World) -> None:
    """The node refuses what it sends by the old one; the process reads the placement again, and goes on by itself."""
    people = await one_each(world)
    store = store_of(world, PostgresStore)
    for payer, payee in ((2, 0), (0, 2)):
        epoch = store.placement.epochs["n3"] + 1
        store_cluster(world).nodes[2].run(f"UPDATE node SET epoch = {epoch}", database_of(world))
        assert (await world.pay(people[payer], people[payee], 1)).credited
        assert store.placement.epochs["n3"] == epoch
    store_cluster(world).nodes[2].run("UPDATE node SET epoch = epoch + 1", database_of(world))
    assert (await world.ledger.account(people[2].id, people[2].account)).id == people[2].account
    store_cluster(world).nodes[2].run("UPDATE node SET epoch = epoch + 1", database_of(world))
    page = await world.store.list_transfers(people[2].account, PageRequest(10))
    assert page.items


async def test_another_epoch_ends_no_session(world: World) -> None:
    """A refused commit and a refused read keep their sessions: a new one would have to plan all statements again."""
    people, database = await one_each(quieted(world)), database_of(world)
    nodes = store_cluster(world).nodes
    others = f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"

    async def use() -> None:
        for payer, payee in ((0, 2), (2, 0), (1, 2)):
            assert (await world.pay(people[payer], people[payee], 1)).credited
            assert (await world.store.list_transfers(people[payee].account, PageRequest(10))).items

    await use()
    before = [set(node.run(others, database).split()) for node in nodes]
    for _ in range(3):
        for node in nodes:
            node.run("UPDATE node SET epoch = epoch + 1", database)
        await use()
    for node, known in zip(nodes, before, strict=True):
        assert known <= set(node.run(others, database).split())
        stuck = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND state LIKE 'idle in%'"
        assert node.run(stuck, database) == "0"


def database_of(world: World) -> str:
    """The name of the ledger's database on every node."""
    return world.harness.url.split("?")[0].rpartition("/")[2]


async def test_a_newer_schema_is_refused(world: World) -> None:
    """An old program does not touch a newer database."""
    version = "UPDATE alembic_version SET version_num = "
    with changed(world, 1, f"{version} '9999'", f"{version} '{HEAD}'"):
        assert "node n2 has schema version 9999" in await refusal(world.harness.url)


@contextmanager
def changed(world: World, node: int, statement: str, back: str) -> Iterator[None]:
    """SQL behind the store's back, and its opposite."""
    server, database = store_cluster(world).nodes[node], world.harness.url.split("?")[0].rpartition("/")[2]
    server.run(statement, database)
    try:
        yield
    finally:
        server.run(back, database)


async def test_unfit_settings_are_refused(world: World) -> None:
    """All of a server's faults at once, each with the line to change; prepared transactions only among several."""
    settings = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    server = await asyncio.to_thread(PostgresServer, "n4", {**settings, "max_prepared_transactions": "0"})
    try:
        said = await refusal(server.url("postgres"))
        assert said.splitlines() == [
            f"node n4 has {name} = off; set {name} = on" for name in sorted(settings, key=order)
        ]
        said = await refusal(f"{server.url('postgres')},{an_empty_database(world)}?node=n5")
        assert "node n4 has max_prepared_transactions = 0; set max_prepared_transactions = 64 and restart it" in said
        async with open_store(f"{world.harness.url},{server.url('postgres')}") as store:  # it is not part of the ledger
            assert await store.ping() == {}
        assert "n1" not in said
    finally:
        server.stop()


def order(name: str) -> int:
    """In which order settings are looked at."""
    return ("fsync", "synchronous_commit", "full_page_writes").index(name)


async def test_synchronous_commit_off_for_one_database_is_refused(world: World) -> None:
    """What counts is the session's own value, wherever it was set."""
    database = world.harness.url.split("?")[0].rpartition("/")[2]
    on, off = (f"ALTER DATABASE {database} {text}" for text in ("RESET ALL", "SET synchronous_commit = off"))
    with changed(world, 1, off, on):
        said = await refusal(world.harness.url)
    assert said == "node n2 has synchronous_commit = off; set synchronous_commit = on"


async def test_node_lists_in_a_file(world: World, tmp_path: Path) -> None:
    """A TOML file means the same as repeated URLs; its faults are reported."""
    path = tmp_path / "nodes.toml"
    plain = [url.partition("?")[0] for url in urls_of(world)]
    path.write_text("[nodes]\n" + "".join(f'{name} = "{url}"\n' for name, url in zip(NAMES, plain, strict=True)))
    async with open_store(f"postgres://?nodes={path}") as store:
        assert [total.node for total in await store.totals()] == []
        assert await store.ping() == {}
    for text, says in (
        ("nodes = 3", "write [nodes]"),
        ("[nodes]", "node names must be given"),
        ("[nodes", "cannot read the node list"),
        (f'[nodes]\nn1 = "{plain[0]}?node=n2"', "the URL of node n1 says node=n2"),
        ('[nodes]\nn1 = "mysql://h/db"', "write postgres://"),
        ('[nodes]\n"n 1" = "postgres://h/db"', "node name 'n 1'"),
    ):
        path.write_text(text)
        assert says in await refusal(f"postgres://?nodes={path}")
    assert "cannot read the node list" in await refusal(f"postgres://?nodes={tmp_path / 'none.toml'}")
    assert "write postgres://user@host/db?node=NAME" in await refusal(",".join(plain))


async def test_processes_that_start_at_once_on_blank_nodes_agree(world: World) -> None:
    """Several stores at once make one cluster, not several halves."""
    names = [await asyncio.to_thread(fresh_database, store_cluster(world)) for _ in range(2)]
    cluster = store_cluster(world)
    for name in names:
        stores = [open_store(cluster.url(name)) for _ in range(4)]
        await asyncio.gather(*(store.__aenter__() for store in stores))
        await asyncio.gather(*(store.__aexit__(None, None, None) for store in stores))
        assert cluster.nodes[0].run("SELECT count(*) FROM node", name) == "1"


def fresh_database(cluster: PostgresCluster) -> str:
    """A database that has never held a ledger, on every node."""
    name = f"blank_{time.monotonic_ns()}"
    for node in cluster.nodes:
        node.run(f"CREATE DATABASE {name}")
    return name


async def test_no_room_for_prepared_transactions(world: World) -> None:
    """With all places taken payments across nodes are Unavailable, and local ones go on."""
    first, second, third = await one_each(world)
    sql_on(world, 2, "; ".join(f"BEGIN; PREPARE TRANSACTION 'stranger-{place}'" for place in range(64)))
    with pytest.raises(Unavailable, match="maximum number of prepared transactions"):
        await world.pay(first, third, 1, "later")
    assert (await world.pay(first, second, 1)).credited
    for place in range(64):
        sql_on(world, 2, f"ROLLBACK PREPARED 'stranger-{place}'")
    assert not (await world.pay(first, third, 1, "later")).replayed


# A node is down


@asynccontextmanager
async def down(server: PostgresServer, kind: str) -> AsyncIterator[None]:
    """Killed or stopped inside the block, up again after it."""
    if kind == "kill":
        await asyncio.to_thread(server.kill)
    else:
        send(server, signal.SIGSTOP)
    try:
        yield
    finally:
        if kind == "kill":
            await asyncio.to_thread(server.restart)
        else:
            send(server, signal.SIGCONT)


@pytest.mark.trial
@pytest.mark.parametrize("kind", ["kill", "stop"])
async def test_a_node_down_stops_only_what_needs_it(world: World, kind: str) -> None:
    """Others go on, also for a payer who waits for it; the rest is Unavailable in time; then all is as before."""
    first, second, third = await one_each(world)
    deadline_seconds = patience(DEADLINE_SECONDS)
    patient = world.ledger_on(world.store, deadline_seconds)
    async with down(store_cluster(world).nodes[2], kind):
        needing = [
            asyncio.create_task(timed(call))
            for call in (
                world.pay(first, third, 1, ledger=patient),
                world.pay(third, first, 1, ledger=patient),
                world.ledger.account(third.id, third.account),
                world.store.list_transfers(third.account, PageRequest(10)),
            )
        ]
        await asyncio.sleep(0.2)
        assert (await world.pay(first, second, 10, ledger=patient)).credited
        assert (await world.pay(second, first, 5, ledger=patient)).credited
        assert (await world.ledger.account(first.id, first.account)).posted_minor == 995
        due = await world.store.list_due("hold", START, 10)
        away = await world.store.ping()
        outcomes = await asyncio.gather(*needing)
    assert list(due) == []
    assert away.keys() == {NAMES[2]}
    assert isinstance(away[NAMES[2]], Unavailable)
    for outcome, _ in outcomes:
        assert isinstance(outcome, Unavailable), outcome
    assert max(took for _, took in outcomes) < patience(READ_SECONDS_MAX)
    assert max(took for _, took in outcomes[:2]) < deadline_seconds + patience(0.5)
    await insist(lambda: world.pay(first, third, 7, "again", ledger=patient), BACK_SECONDS_MAX)
    assert (await world.account(third)).posted_minor == 1_007


@pytest.mark.trial
@pytest.mark.parametrize("kind", ["kill", "stop"])
async def test_a_node_down_takes_no_server_out_of_service(
    world: World, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/readyz` says 200 while any node can write, for all servers share the nodes; the check and the alarm say no."""
    monkeypatch.setattr(server, "READY_FOR_SECONDS", 0)
    nodes = store_cluster(world).nodes
    app = server.create_app(load_settings(storage=world.harness.url, mode="test"))
    transport = httpx.ASGITransport(app)
    local = httpx.AsyncClient(transport=transport, base_url="http://wallet.test")
    async with app.router.lifespan_context(app), local as client:

        async def told() -> tuple[int, str]:
            answer = await client.get("/readyz")
            return answer.status_code, answer.json().get("status", "")

        assert await told() == (200, "ready")
        async with down(nodes[2], kind):
            assert await told() == (200, "partly ready")
            with pytest.raises(Unavailable):
                await check_writable(app.state.wallet.store)
            async with down(nodes[0], kind), down(nodes[1], kind):
                assert (await told())[0] == 503
        async with asyncio.timeout(patience(BACK_SECONDS_MAX)):
            while True:
                if await told() == (200, "ready"):
                    break
                await asyncio.sleep(0.05)


async def test_the_books_are_checked_once_a_node_is_no_longer_taken_for_silent(world: World) -> None:
    """A store that has just found a node silent asks it nothing for a moment; what checks the books waits."""
    await one_each(world)
    nodes = [store_of(world, PostgresStore).node(name) for name in NAMES]
    for node in nodes:
        node._silent_until = math.inf  # a busy machine may take longer than the moment to ask
    with pytest.raises(Unavailable):
        await world.store.totals()
    for node in nodes:
        node.silent()
    await world.check()


@pytest.mark.trial
async def test_an_export_that_has_lost_its_gate_is_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends sessions has let commits pass, and so has another one: an error comes before the digest."""
    await one_each(world)
    lines: list[str] = []

    async def export() -> None:
        async for line in export_lines(world.store):
            if len(lines) == 1:
                gates = "pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'"
                store_cluster(world).nodes[1].run(f"SELECT pg_terminate_backend(pid) FROM {gates}")
            lines.append(line)

    with pytest.raises(Unavailable, match="the gate was lost"):
        await export()
    assert len(lines) > 1
    assert '"digest"' not in lines[-1]
    assert [line async for line in export_lines(world.store)][:2] == lines[:2]
    monkeypatch.setattr(vitals, "_HOLDS", "SELECT $1 < 0")  # as a server says that the session is not one of
    with pytest.raises(Unavailable, match="the gate was lost"):
        await export()


@pytest.mark.trial
async def test_a_payees_node_that_dies_after_the_decision(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The payment is valid and reported as not credited; the credit arrives soon after the node is back."""
    first, _, third = await one_each(world)
    server = store_cluster(world).nodes[2]
    died: list[str] = []

    def reach(name: str) -> None:
        if name == "postgres.committed" and not died:
            died.append(name)
            server.kill()

    monkeypatch.setattr(failpoints, "reach", reach)
    try:
        posted = await world.pay(first, third, 30, "late")
        again = await world.pay(first, third, 30, "late")
    finally:
        await asyncio.to_thread(server.restart)
    assert (died, posted.credited, posted.replayed) == (["postgres.committed"], False, False)
    assert (again.credited, again.replayed) == (False, True)
    assert (await world.ledger.account(first.id, first.account)).posted_minor == 970
    await seconds_until(lambda: not store_cluster(world).prepared())
    assert (await world.ledger.account(third.id, third.account)).posted_minor == 1_030
    again = await world.pay(first, third, 30, "late")
    assert (again.credited, again.replayed) == (True, True)


async def test_a_replay_knows_a_credit_in_doubt(world: World, quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The payee's node answers, but the credit on it is only prepared: a replay does not say that it is there."""
    first, _, third = await one_each(world)
    left: list[Branch] = []

    async def finish(branch: Branch, gid: Gid) -> bool:
        del gid
        left.append(branch)
        return False

    with monkeypatch.context() as patch:
        patch.setattr(_two_phase, "_finish", finish)
        assert not (await world.pay(first, third, 30, "doubt")).credited
    patient = world.ledger_on(world.store, patience(6))
    again = await world.pay(first, third, 30, "doubt", ledger=patient)
    assert (len(left), again.credited, again.replayed) == (1, False, True)
    await quiet.store.recover(10)
    again = await world.pay(first, third, 30, "doubt")
    assert (again.credited, again.replayed) == (True, True)


@pytest.mark.trial
async def test_a_lost_reply_of_the_decision_is_doubt(world: World) -> None:
    """InDoubt once; a retry with the same key then shows that it happened, once."""
    first, _, third = await one_each(world)
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy("127.0.0.1", n.port)) for n in store_cluster(world).nodes]
        moved = [
            f"postgres://wallet@127.0.0.1:{p.port}/{_tail(u)}" for p, u in zip(proxies, urls_of(world), strict=True)
        ]
        store = await stack.enter_async_context(open_store(",".join(moved)))
        ledger = world.ledger_on(store)
        proxies[0].drop_reply(b"; COMMIT")
        with pytest.raises(InDoubt):
            await world.pay(first, third, 30, "doubt", ledger=ledger)
        posted = await world.pay(first, third, 30, "doubt", ledger=ledger)
        assert posted.replayed
    assert await world.balance(first) == (970, 0)
    assert await world.balance(third) == (1_030, 0)


def _tail(url: str) -> str:
    return url.rpartition("/")[2]


# Recovery


@pytest.fixture
async def quiet(world: World) -> World:
    """The same world, whose store does not recover by itself."""
    return quieted(world)


def orphan(world: World, node: int, leader: str = "n1", *, cluster: str | None = None) -> Gid:
    """A prepared transaction with one record, as a coordinator leaves it that died before its decision."""
    gid = Gid.new(cluster or store_of(world, PostgresStore)._cluster, leader)
    leave(world, node, gid.text, f"INSERT INTO records VALUES ('orphan', '{gid.attempt}', 0, 'o', 1, '{{}}', NULL)")
    return gid


def leave(world: World, node: int, name: str, statement: str) -> None:
    """Prepare a statement and leave it there."""
    server = store_cluster(world).nodes[node]
    server.run(f"BEGIN; {statement}; PREPARE TRANSACTION '{name}'", _tail(urls_of(world)[0]).partition("?")[0])


def sql_on(world: World, node: int, statement: str) -> str:
    """Ask a node of the world's ledger."""
    return store_cluster(world).nodes[node].run(statement, _tail(urls_of(world)[0]).partition("?")[0])


def recovery_of(store: PostgresStore) -> Recovery:
    """A recoverer of one's own, as another process has it."""
    return Recovery(store._cluster, store._nodes)


async def test_an_orphan_is_fenced_and_rolled_back(quiet: World) -> None:
    """The fence is a row on the leader, and its late coordinator cannot decide any more."""
    gid = orphan(quiet, 1)
    done, _ = await recovery_of(store_of(quiet, PostgresStore)).run(10, at_once=True)
    assert (done.committed, done.rolled_back) == (0, 1)
    assert sql_on(quiet, 0, f"SELECT verdict FROM decisions WHERE attempt = '{gid.attempt}'") == "abort"
    with pytest.raises(CalledProcessError):
        sql_on(quiet, 0, f"INSERT INTO decisions VALUES ('{gid.attempt}', 'commit')")
    assert (sql_on(quiet, 1, "SELECT count(*) FROM records WHERE kind = 'orphan'"), prepared(quiet)) == ("0", [])


def prepared(world: World) -> list[str]:
    """What is in doubt on any node."""
    return store_cluster(world).prepared()


async def test_a_decided_one_is_committed(quiet: World) -> None:
    """The decision on the leader is carried out elsewhere."""
    gid = orphan(quiet, 2)
    sql_on(quiet, 0, f"INSERT INTO decisions VALUES ('{gid.attempt}', 'commit')")
    done, _ = await recovery_of(store_of(quiet, PostgresStore)).run(10, at_once=True)
    assert (done.committed, done.rolled_back) == (1, 0)
    assert (sql_on(quiet, 2, "SELECT count(*) FROM records WHERE kind = 'orphan'"), prepared(quiet)) == ("1", [])


async def test_an_undecided_leader_is_waited_for(quiet: World) -> None:
    """A leader's transaction that has written its decision and not committed yet holds the fence back."""
    gid = orphan(quiet, 1)
    node = store_of(quiet, PostgresStore)._nodes["n1"]
    async with node.connection(asyncio.get_running_loop().time() + patience(10)) as connection:
        await connection.do(f"BEGIN; INSERT INTO decisions VALUES ('{gid.attempt}', 'commit')")
        running = asyncio.create_task(recovery_of(store_of(quiet, PostgresStore)).run(10, at_once=True))
        await asyncio.sleep(0.3)
        assert not running.done()
        await connection.do("COMMIT")
    assert (await running)[0].committed == 1


async def test_strangers_are_left_alone(quiet: World, caplog: pytest.LogCaptureFixture) -> None:
    """Other programs' names, other clusters' and unknown leaders' transactions are not ours; one line says so."""
    names = [
        "other:1",
        Gid("0" * 16, "n1", "0" * 32).text,
        Gid(store_of(quiet, PostgresStore)._cluster, "n9", "0" * 32).text,
    ]
    for name in names:
        leave(quiet, 1, name, "SELECT 1")
    recovery = recovery_of(store_of(quiet, PostgresStore))
    for _ in range(3):
        done, _ = await recovery.run(10, at_once=True)
        assert (done.committed, done.rolled_back) == (0, 0)
    assert caplog.text.count("names no leader") == 1
    assert sorted(prepared(quiet)) == sorted(names)
    for name in names:
        sql_on(quiet, 1, f"ROLLBACK PREPARED '{name}'")


async def test_two_recoverers_at_once(quiet: World) -> None:
    """Each orphan gets the leader's verdict, whichever process settles it first; no process fails."""
    gids = [orphan(quiet, 1 + number % 2) for number in range(12)]
    for gid in gids[::3]:
        sql_on(quiet, 0, f"INSERT INTO decisions VALUES ('{gid.attempt}', 'commit')")
    other = await quiet.another()
    assert isinstance(other, PostgresStore)
    recoverers = [
        recovery_of(store) for store in (store_of(quiet, PostgresStore), other, store_of(quiet, PostgresStore))
    ]
    await asyncio.gather(*(recovery.run(100, at_once=True) for recovery in recoverers))
    assert prepared(quiet) == []
    kept = [int(sql_on(quiet, node, "SELECT count(*) FROM records WHERE kind = 'orphan'")) for node in (1, 2)]
    assert sum(kept) == len(gids[::3])


async def test_a_first_sighting_is_left_to_its_coordinator(quiet: World) -> None:
    """A background run passes over what it sees for the first time; one call of `recover` looks twice."""
    orphan(quiet, 1)
    recovery = recovery_of(store_of(quiet, PostgresStore))
    assert (await recovery.run(10))[0].rolled_back == 0
    assert (await recovery.run(10))[0].rolled_back == 1
    orphan(quiet, 1)
    assert (await quiet.store.recover(10)).rolled_back == 1


@pytest.mark.trial
async def test_an_unreachable_leader_leaves_it_in_doubt(quiet: World) -> None:
    """No verdict without the leader; with it, soon."""
    gid = orphan(quiet, 1)
    async with down(store_cluster(quiet).nodes[0], "kill"):
        done, _ = await recovery_of(store_of(quiet, PostgresStore)).run(10, at_once=True)
        assert (done.committed, done.rolled_back) == (0, 0)
        assert store_cluster(quiet).nodes[1].run("SELECT gid FROM pg_prepared_xacts") == gid.text
    await recovery_of(store_of(quiet, PostgresStore)).run(10, at_once=True)
    assert prepared(quiet) == []


class FakeConnection(Connection):
    """A connection that notes what it is told, and fails or answers as it is bidden."""

    def __init__(self, node: str, **answers: BaseException | str) -> None:
        """`answers` by the last word of what is run: an error to raise or a tag to answer."""
        super().__init__(node, None, 0.0)
        self.told: list[str] = []
        self._answers = answers

    async def run(self, statement: str) -> str:
        """Answer."""
        self.told.append(statement)
        last = statement.rpartition("; ")[2].partition(" '")[0]
        answer = self._answers.get(last.replace(" ", "_"), last)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.mark.parametrize("failure", [asyncio.CancelledError(), ConnectionResetError(), RuntimeError("driver's own")])
async def test_only_a_certain_no_rolls_back(failure: BaseException) -> None:
    """Cut off while the leader commits, the coordinator leaves what is prepared to recovery."""
    leader, other = FakeConnection("n1", COMMIT=failure), FakeConnection("n2")
    with pytest.raises((asyncio.CancelledError, InDoubt)):
        await commit_across(Gid.new("0" * 16, "n1"), Branch(leader, "{}"), [Branch(other, "{}")])
    assert [statement for statement in other.told if "PREPARED" in statement] == []


# Many at once


async def test_locked_accounts_leave_room_for_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers of twice as many locked accounts as there are connections wait; all other callers go on."""
    monkeypatch.setattr(parameters, "POOL_DEFAULT", 4)
    people = [
        person
        for person in await world.people(48, 100)
        if store_of(world, PostgresStore).placement.home(person.slot) == "n1"
    ]
    locked, free, payee = people[:8], people[8:10], people[10]
    assert len(people) > 10
    ledger = world.ledger_on(await world.another(), patience(DEADLINE_SECONDS))
    names = ", ".join(f"'{person.account}'" for person in locked)
    node = store_of(world, PostgresStore)._nodes["n1"]
    async with node.connection(asyncio.get_running_loop().time() + patience(10)) as connection:
        await connection.do(f"BEGIN; SELECT 1 FROM accounts WHERE id IN ({names}) FOR UPDATE")
        stuck = [asyncio.create_task(timed(world.pay(person, payee, 1, ledger=ledger))) for person in locked * 3]
        await asyncio.sleep(0.5)
        answers = [await timed(world.pay(free[0], free[1], 1, ledger=ledger)) for _ in range(20)]
        assert [outcome for outcome, _ in answers if isinstance(outcome, WalletError)] == []
        assert median(took for _, took in answers) < patience(1)  # one of them may meet a pause of the machine
        await ledger.account(locked[0].id, locked[0].account)
        assert not any(task.done() for task in stuck)
        await connection.do("ROLLBACK")
    failures = [outcome for outcome, _ in await asyncio.gather(*stuck) if isinstance(outcome, WalletError)]
    assert failures == []


async def test_old_decisions_are_forgotten(quiet: World) -> None:
    """All but those that a prepared transaction waits for, and none while a node does not say what it waits for."""
    ann, bob = (await one_each(quiet))[:2]
    await quiet.pay(ann, bob, 1)
    waiting = orphan(quiet, 1)
    sql_on(quiet, 0, f"INSERT INTO decisions VALUES ('{waiting.attempt}', 'commit'), ('{'0' * 32}', 'abort')")
    recovery = recovery_of(store_of(quiet, PostgresStore))
    assert await recovery.prune() == 0
    async with down(store_cluster(quiet).nodes[2], "kill"):
        with pytest.raises(Unavailable):
            await recovery.prune(older_than_seconds=-1)
    assert await recovery.prune(older_than_seconds=-1) == 2
    assert sql_on(quiet, 0, "SELECT attempt FROM decisions") == waiting.attempt
    assert (await recovery.run(10, at_once=True))[0].committed == 1


async def test_two_connections_serve_hundreds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool far too small makes callers wait, and fails nobody."""
    monkeypatch.setattr(parameters, "POOL_DEFAULT", 2)
    people = await one_each(world)
    store = await world.another()
    ledger = world.ledger_on(store)
    calls = [world.pay(people[n % 3], people[(n + 1) % 3], 1, ledger=ledger) for n in range(120)]
    reads = [store.fetch(ReadSet(accounts=(person.account,))) for person in people * 20]
    outcomes = await world.together([*calls, *reads])
    assert [outcome for outcome in outcomes if isinstance(outcome, WalletError)] == []


@pytest.mark.trial
async def test_opposite_transfers_across_nodes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four stores pay both ways between two accounts: no error at all, and not a unit is lost.

    They wait for each other as long as they may. So on a busy machine, too, no wait is given up that would end.
    """
    monkeypatch.setattr(postgres, "BRIEF_MS", 60_000)  # more than their deadline
    first, _, third = await one_each(world, 100_000)
    stores, before = await world.stores(4), _timeouts(store_cluster(world).nodes)
    tallies = await asyncio.gather(
        *(opposite(store, first, third, seconds=3, seed=n) for n, store in enumerate(stores))
    )
    assert [tally.errors for tally in tallies] == [{}] * 4
    moved = sum(tally.net_minor for tally in tallies)
    assert await world.balance(first) == (100_000 - moved, 0)
    assert await world.balance(third) == (100_000 + moved, 0)
    assert min(tally.answered for tally in tallies) > 0
    assert _timeouts(store_cluster(world).nodes) == before


def _timeouts(servers: Sequence[PostgresServer]) -> int:
    """How many lock waits the servers have given up, or broken as deadlocks, as their logs tell."""
    texts = [(server.folder / "log").read_text(errors="replace") for server in servers]
    return sum(text.count("due to lock timeout") + text.count("deadlock detected") for text in texts)


async def test_contended_is_never_called_insufficient(world: World) -> None:
    """A lock that is not given in time is Contended, retryable under the same key."""
    first, _, third = await one_each(world)
    gid = "stranger"
    leave(world, 0, gid, f"UPDATE accounts SET status = status WHERE id = '{first.account}'")
    hasty = world.ledger_on(world.store, patience(1))
    with pytest.raises(Contended):
        await world.pay(first, third, 10, "later", ledger=hasty)
    sql_on(world, 0, f"ROLLBACK PREPARED '{gid}'")
    assert not (await world.pay(first, third, 10, "later")).replayed


# For operators


def show(url: str) -> tuple[int, list[dict[str, Any]]]:
    """`nodes status --json` in a process of its own, as an operator runs it: exit code and rows."""
    program = (
        "import typer; from wallet_gql.transports.cli import nodes as cli_nodes;"
        "app = typer.Typer(); app.add_typer(cli_nodes.app, name='nodes'); app()"
    )
    environment = {**os.environ, "WALLET_STORAGE": url, "WALLET_MODE": "test"}
    command = [sys.executable, "-c", program, "nodes", "status", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["nodes"]


@pytest.mark.trial
async def test_nodes_status(quiet: World) -> None:
    """Who answers, who is in doubt and since when; one node that is down hides no other."""
    await one_each(quiet)
    orphan(quiet, 1)
    code, rows = await asyncio.to_thread(show, quiet.harness.url)
    assert (code, [row["reachable"] for row in rows]) == (0, [True] * 3)
    assert [row["prepared"] for row in rows] == [0, 1, 0]
    assert rows[1]["oldest_in_doubt_seconds"] >= 0
    assert sum(row["users"] for row in rows) >= 3
    assert {minor for row in rows for minor in row["sums_minor"].values()} == {0}
    async with down(store_cluster(quiet).nodes[2], "kill"):
        code, rows = await asyncio.to_thread(show, quiet.harness.url)
    assert (code, [row["reachable"] for row in rows]) == (1, [True, True, False])
    assert "node n3 does not answer" in rows[2]["reason"]
    await quiet.store.recover(10)
