"""Redis leases: refusals at the start, a Redis that is down or loses data, late holders, nodes down, TLS and users."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration._clusters import one_each, store_of, sums_may_take_long, timed
from tests.property._splits import batch_again
from wallet_gql.backends import open_store
from wallet_gql.backends.kit.wanted import Wanted
from wallet_gql.backends.postgres.status import survey
from wallet_gql.backends.redis.claim import Claimed, write
from wallet_gql.backends.redis.leases import Held, Leases, account_row
from wallet_gql.backends.redis.store import RedisStore
from wallet_gql.backends.redis.url import parse_redis_url
from wallet_gql.domain.changes import Changes, Credit, Decision, Scope, Snapshot, State
from wallet_gql.domain.errors import ConfigurationError, Contended, NodeUnavailable, Unavailable, WalletError
from wallet_gql.domain.model import RecordKey
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.patience import patience
from wallet_gql.testing.proxy import Proxy
from wallet_gql.testing.servers.postgres import PostgresCluster, PostgresHarness, PostgresServer
from wallet_gql.testing.servers.redis import RedisHarness, RedisServer
from wallet_gql.testing.world import Person, World

pytestmark = [pytest.mark.backend("redis-3"), pytest.mark.service("redis")]

ANSWER_SECONDS_MAX = 3.0
BACK_SECONDS_MAX = 2.0


async def refusal(url: str) -> str:
    """What a store says that must not start."""
    with pytest.raises(ConfigurationError) as refused:
        async with open_store(url):
            pass
    return refused.value.message


# Refused at the start


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+postgres://localhost:6379/0", "a Redis and the nodes are needed"),
        ("redis+postgres:///0,postgres://w@h/db", "the Redis has no host"),
        ("redis+postgres://h:x/0,postgres://w@h/db", "percent-encode"),
        ("redis+postgres://h/zero,postgres://w@h/db", "its database is a number"),
        ("redis+postgres://h?lease_seconds=0,postgres://w@h/db", "lease_seconds=0: give"),
        ("redis+postgres://h?lease_seconds=nan,postgres://w@h/db", "lease_seconds=nan: give"),
        ("redis+postgres://h?lease=1,postgres://w@h/db", "the parameter lease cannot"),
        ("redis+postgres://h?ssl_ca_certs=/x,postgres://w@h/db", "only with rediss"),
        ("rediss+postgres://h?ssl_ca_certs=/x,postgres://w@h/db", "there is no such file"),
        ("redis+postgres://h,mysql://h/db", "write postgres://"),
        ("redis+postgres://h,postgres://w@h/a?node=n1,postgres://w@h/b?node=n1", "doubled: n1"),
    ],
)
async def test_malformed_urls_are_refused(url: str, says: str) -> None:
    """Each with what to write instead."""
    assert says in await refusal(url)


def test_urls_are_read() -> None:
    """User, password, port, database and the length of leases; the password is never shown."""
    address, nodes = parse_redis_url("redis+postgres://me:p%2Cw@host:7000/3?lease_seconds=0.5,postgres://w@h/db")
    assert (address.username, address.password) == ("me", "p,w")
    assert (address.host, address.port, address.db, address.lease_seconds) == ("host", 7000, 3, 0.5)
    assert nodes == "postgres://w@h/db"
    assert "p,w" not in repr(address)


async def test_a_missing_redis_is_refused(world: World) -> None:
    """An address where nothing listens is reported within seconds, with a remedy."""
    nodes = world.harness.url.partition(",")[2]
    said = await refusal(f"redis+postgres://127.0.0.1:1/0,{nodes}")
    assert "redis://127.0.0.1:1/0" in said
    assert "start it, or correct the URL" in said


async def test_the_two_protocols_do_not_meet(world: World, cluster: PostgresCluster, tmp_path: Path) -> None:
    """Nodes that are written with leases are refused to two-phase commit, and the other way round."""
    nodes = world.harness.url.partition(",")[2]
    first = nodes.split(",")[0]
    (tmp_path / "other").mkdir()
    single = PostgresHarness(1, PostgresCluster(1))
    await single.start(tmp_path / "other")
    async with open_store(single.url):
        pass
    said = await refusal(f"{world.harness.url.partition(',')[0]},{single.url}")
    assert "is written with two-phase commit" in said
    await single.stop()
    single_cluster(single).stop()
    assert "belongs to the nodes n1, n2, n3" in await refusal(first)
    database = store_database(world)
    members = cluster.nodes[0].run("SELECT members FROM node", database)
    cluster.nodes[0].run("""UPDATE node SET members = '{"n1": ["", "serving"]}'""", database)
    assert "is written with leases" in await refusal(first)
    cluster.nodes[0].run(f"UPDATE node SET members = '{members}'", database)


def single_cluster(harness: PostgresHarness) -> PostgresCluster:
    """The servers below a harness."""
    return harness.cluster


def store_database(world: World) -> str:
    """The name of the world's database on every node."""
    assert isinstance(world.harness, RedisHarness)
    assert world.harness.database is not None
    return world.harness.database


# Late holders


async def held(leases: Leases, node: str, person: Person) -> Held:
    """A lease on a person's row, never released here."""
    return await leases._take(node, [[account_row(person.account)]], "")


@asynccontextmanager
async def claiming(world: World, person: Person, holder: Held) -> AsyncIterator[tuple[Any, Claimed]]:
    """A connection and a claim on the person's row."""
    store = store_of(world, RedisStore)
    node = store._nodes[holder.node]
    state = State(holder.node, store.placement.peer_of(holder.node))
    async with node.connection(asyncio.get_running_loop().time() + patience(5)) as connection:
        wanted = Wanted(accounts={person.account})
        yield connection, await store._claim(store.placement, connection, holder, state, wanted)


async def freeze(claimed: Claimed, person: Person) -> None:
    """Change the row as it was read, in a way that no balance and no sequence shows."""
    account = claimed.state.accounts[person.account]
    claimed.state.store_account(replace(account, changed_at=account.changed_at + timedelta(seconds=1)))


async def lose(world: World, redis_server: RedisServer, holder: Held) -> None:
    """The lease is gone, as if its time were over."""
    del world
    for key in holder.keys:
        await asyncio.to_thread(redis_server.tell, "DEL", key)


async def test_a_late_write_is_refused(world: World, redis_server: RedisServer) -> None:
    """A row that another process has claimed meanwhile is not written, even if balance and sequence are unchanged."""
    (ann, *_), store = await one_each(world), store_of(world, RedisStore)
    first = await held(store.leases, "n1", ann)
    async with claiming(world, ann, first) as (late, stale):
        await lose(world, redis_server, first)
        second = await held(store.leases, "n1", ann)
        assert second.token > first.token
        await freeze(stale, ann)
        async with claiming(world, ann, second) as (lease, claimed):
            epoch = store.placement.epochs["n1"]
            with pytest.raises(Contended):
                await write(late, stale, epoch=epoch)
            await freeze(claimed, ann)
            await write(lease, claimed, epoch=epoch)
    await lose(world, redis_server, second)


async def test_a_late_claim_is_refused(world: World, redis_server: RedisServer) -> None:
    """Who comes to claim after a later holder does not even read."""
    (ann, *_), store = await one_each(world), store_of(world, RedisStore)
    first = await held(store.leases, "n1", ann)
    await lose(world, redis_server, first)
    second = await held(store.leases, "n1", ann)
    async with claiming(world, ann, second):
        with pytest.raises(Contended, match=f"token {first.token} of node n1 comes after {second.token}"):
            async with claiming(world, ann, first):
                pass
    await lose(world, redis_server, second)


async def test_tokens_never_go_back(world: World, redis_server: RedisServer) -> None:
    """A Redis that has lost its counter gets it back; the next token is higher than all that a row has seen."""
    (ann, *_), store = await one_each(world), store_of(world, RedisStore)
    for _ in range(20):
        await world.fund(ann, 1)
    before = await held(store.leases, "n1", ann)
    await asyncio.to_thread(redis_server.tell, "FLUSHALL")
    again = await held(store.leases, "n1", ann)
    assert again.token == 1
    with pytest.raises(Contended):
        async with claiming(world, ann, again):
            pass
    await lose(world, redis_server, again)
    after = await held(store.leases, "n1", ann)
    assert after.token >= before.token
    async with claiming(world, ann, after):
        assert store.leases.counters.behind == 1
    await lose(world, redis_server, after)
    assert (await world.pay(ann, (await world.people(1))[0], 1)).result.amount_minor == 1


async def test_only_the_owner_releases_and_renews(world: World, redis_server: RedisServer) -> None:
    """A holder whose lease another process has cannot take the lease back, and notices the loss."""
    (ann, *_), store = await one_each(world), store_of(world, RedisStore)
    first = await held(store.leases, "n1", ann)
    await lose(world, redis_server, first)
    second = await held(store.leases, "n1", ann)
    store.leases._held.add(first)
    await store.leases._renew(first)
    assert first.lost
    await store.leases._release(first)
    third = await held(store.leases, "n1", ann)
    assert third.busy == [account_row(ann.account)]
    await store.leases._release(second)
    fourth = await held(store.leases, "n1", ann)
    assert fourth.busy == [None]
    await store.leases._release(fourth)


async def test_leases_are_renewed_while_work_goes_on(world: World) -> None:
    """A holder who takes three times as long as a lease lasts still has it."""
    (ann, *_) = await one_each(world)
    lease_seconds = patience(1)  # whoever is kept from running for so long has lost it, and rightly so
    url = world.harness.url.replace("/0,", f"/0?lease_seconds={lease_seconds:.1f},")
    async with open_store(url) as store:
        assert isinstance(store, RedisStore)
        async with store.leases.hold("n1", [[account_row(ann.account)]]) as holder:
            await asyncio.sleep(3 * lease_seconds)
            other = await held(store.leases, "n1", ann)
            assert other.busy == [account_row(ann.account)]
            assert not holder.lost
        assert (await held(store.leases, "n1", ann)).busy == [None]


async def test_rows_of_others_delay_only_their_own_commands(world: World) -> None:
    """A row that is held for long stops neither its neighbours in a batch nor those behind it, nor credits to it."""
    ann, bob, cem = await one_each(world)
    dora = (await world.people(1, 100))[0]
    store = store_of(world, RedisStore)
    home = store.placement.home(ann.slot)
    async with store.leases.hold(home, [[account_row(ann.account)]]):
        stuck = asyncio.ensure_future(world.pay(ann, bob, 1))
        assert (await asyncio.wait_for(world.pay(bob, ann, 1), patience(5))).credited
        others = [world.pay(bob, cem, 1), world.pay(cem, bob, 1), world.pay(dora, cem, 1)]
        began = time.monotonic()
        assert all(posted.credited for posted in await asyncio.gather(*others))
        assert time.monotonic() - began < patience(1.0)
        assert not stuck.done()
    assert (await stuck).result.amount_minor == 1
    assert await world.balance(ann) == (1_000, 0)


async def test_a_batch_partly_replayed_says_the_truth(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says `credited` only when the replayed part has arrived, too."""
    first, second, third = await one_each(world)
    credits_ = store_of(world, RedisStore)._credits
    assert credits_ is not None
    loop, send = asyncio.get_running_loop(), credits_.send

    def old_ones_wait(found: Iterable[Credit]) -> list[asyncio.Future[bool]]:
        return [loop.create_future() if one.transfer.idempotency_key == "old" else send([one])[0] for one in found]

    payees = {"old": third, "new": second}
    with monkeypatch.context() as patch:
        patch.setattr(credits_, "send", old_ones_wait)
        patch.setattr(credits_, "_open_on", nothing_is_open)
        assert await batch_again(world, first, {"old": third}) == [(False, False)]
        assert await batch_again(world, first, payees) == [(True, False), (False, False)]
    await world.settle()
    assert await batch_again(world, first, payees) == [(True, True)] * 2


async def test_a_reversal_before_the_credit_has_arrived(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The payer's node has the payment, the payee's does not yet: asked again with the same key, it is reversed."""
    ann, bob, _ = await one_each(world)
    credits_ = store_of(world, RedisStore)._credits
    assert credits_ is not None
    loop = asyncio.get_running_loop()
    with monkeypatch.context() as patch:
        patch.setattr(credits_, "send", lambda found: [loop.create_future() for _ in found])
        patch.setattr(credits_, "_open_on", nothing_is_open)
        posted = await world.pay(ann, bob, 100)
        assert not posted.credited
        with pytest.raises(Contended):
            await world.ledger.reverse_transfer(bob.id, "early", posted.result.id)
    await world.store.recover(100)
    done = await world.ledger.reverse_transfer(bob.id, "early", posted.result.id)
    assert (done.replayed, done.result.amount_minor) == (False, 100)
    assert await world.balance(ann) == (1_000, 0)


async def nothing_is_open(*_: object, **__: object) -> tuple[list[object], bool]:
    """What a look at the intents finds while the credits of a test shall wait."""
    return [], False


# A Redis that is down


@pytest.mark.trial
@pytest.mark.parametrize("kind", ["kill", "stop"])
async def test_a_redis_down_is_unavailable_in_time_and_back_soon(
    world: World, redis_server: RedisServer, kind: str
) -> None:
    """Payments are Unavailable within bounds, reads go on, and service returns by itself."""
    ann, bob, _ = await one_each(world)
    key = world.key()
    if kind == "kill":
        redis_server.kill()
    else:
        redis_server.pause()
    try:
        outcomes = await asyncio.gather(*(timed(world.pay(ann, bob, 1, key if i == 0 else None)) for i in range(10)))
        assert all(isinstance(outcome, Unavailable) for outcome, _ in outcomes)
        assert max(took for _, took in outcomes) < patience(ANSWER_SECONDS_MAX)
        assert (await world.ledger.account(ann.id, ann.account)).posted_minor == 1_000
        with pytest.raises(Unavailable):
            await store_of(world, RedisStore).ping()
    finally:
        if kind == "kill":
            await asyncio.to_thread(redis_server.restart)
        else:
            redis_server.resume()
    began = time.monotonic()
    while isinstance((await timed(world.pay(ann, bob, 1, key)))[0], WalletError):
        assert time.monotonic() - began < patience(BACK_SECONDS_MAX)
        await asyncio.sleep(0.02)
    assert await world.balance(ann) == (999, 0)


async def test_a_redis_that_forgets_everything_all_the_time(world: World, redis_server: RedisServer) -> None:
    """Flushed fifty times a second under opposite payments: slower, and right to the cent."""
    ann, bob, cem = await one_each(world)

    async def flush() -> None:
        while True:
            await asyncio.to_thread(redis_server.tell, "FLUSHALL")
            await asyncio.sleep(0.02)

    flushing = asyncio.create_task(flush())
    ledgers = [world.ledger_on(store) for store in await world.stores(2)]
    pairs = [(ann, bob), (bob, ann), (bob, cem), (cem, ann)]
    outcomes = await world.together(world.pay(*pairs[i % 4], 1, ledger=ledgers[i % 2]) for i in range(60))
    flushing.cancel()
    with suppress(asyncio.CancelledError):
        await flushing
    paid = [outcome for outcome in outcomes if not isinstance(outcome, WalletError)]
    assert len(paid) >= 30
    assert all(outcome.retryable for outcome in outcomes if isinstance(outcome, WalletError))
    assert sum([(await world.balance(person))[0] for person in (ann, bob, cem)]) == 3_000


async def test_a_lost_reply_of_the_redis(world: World, redis_server: RedisServer) -> None:
    """Leases whose taking was not heard of are given back; the command is asked again and done once."""
    ann, bob, _ = await one_each(world)
    async with Proxy("127.0.0.1", redis_server.port) as proxy:
        url = world.harness.url.replace(f":{redis_server.port}/", f":{proxy.port}/")
        async with open_store(url) as store:
            ledger = world.ledger_on(store)
            await world.pay(ann, bob, 1, ledger=ledger)
            for _ in range(3):
                proxy.drop_reply(b"EVALSHA")
                await world.pay(ann, bob, 1, ledger=ledger)
            assert proxy.hits["dropped the reply to EVALSHA"] == 3
    assert await world.balance(ann) == (996, 0)


# A node is down


@pytest.mark.trial
async def test_a_credit_whose_node_goes_away_arrives_when_it_is_back(
    world: World, cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decided is decided: the reply says not credited; a replay says so too; the sweep of any process delivers."""
    first, _, third = await one_each(world)
    node: PostgresServer = cluster.nodes[2]
    store = store_of(world, RedisStore)
    assert store._credits is not None
    sent = store._credits.send

    def gone(credits_: Any) -> Any:
        node.kill()
        monkeypatch.undo()
        return sent(credits_)

    monkeypatch.setattr(store._credits, "send", gone)
    key = world.key()
    posted = await world.pay(first, third, 7, key)
    assert not posted.credited
    outcome, took = await timed(world.pay(first, third, 1))
    assert isinstance(outcome, NodeUnavailable)
    assert took < patience(ANSWER_SECONDS_MAX)
    again = await world.pay(first, third, 7, key)
    assert (again.replayed, again.credited) == (True, False)
    await asyncio.to_thread(node.restart)
    began = time.monotonic()
    while not (await world.pay(first, third, 7, key)).credited:
        assert time.monotonic() - began < patience(5.0)
        await asyncio.sleep(0.05)
    assert await world.balance(third) == (1_007, 0)


async def test_any_process_finishes_what_another_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intents of a dead process are applied and closed by any recovery; many recoveries at once do it once."""
    first, second, _ = await one_each(world)
    store = store_of(world, RedisStore)
    assert store._credits is not None
    assert store._recovering is not None
    store._recovering.cancel()
    monkeypatch.setattr(store._credits, "send", lambda _: [])  # this process forgets what it decided
    others = [await world.another() for _ in range(3)]
    for other in others:  # their own sweeps must not be first
        assert isinstance(other, RedisStore)
        assert other._recovering is not None
        other._recovering.cancel()
    for _ in range(10):
        await world.pay(first, second, 1)
    assert (await world.ledger.account(second.id, second.account)).posted_minor < 1_010
    done = await asyncio.gather(*(other.recover(100) for other in others))
    assert any(one.credited for one in done)
    assert await store._credits.open_intents() == 0
    assert (await world.ledger.account(second.id, second.account)).posted_minor == 1_010


async def test_an_export_holds_back_decisions_until_nothing_is_on_its_way(world: World) -> None:
    """Inside the gate no credit is open and no command commits; afterwards they go on."""
    first, second, _ = await one_each(world)
    store = store_of(world, RedisStore)
    assert store._credits is not None
    paying = [asyncio.ensure_future(world.pay(first, second, 1)) for _ in range(20)]
    await asyncio.sleep(0.02)
    async with store.gate():
        assert await store._credits.open_intents() == 0
        sums = {total.currency: 0 for total in await store.totals()}
        for total in await store.totals():
            sums[total.currency] += total.clearing_minor
        assert set(sums.values()) == {0}
    await asyncio.gather(*paying)
    assert await world.balance(second) == (1_020, 0)


async def test_a_command_without_rows_asks_no_redis(world: World, redis_server: RedisServer) -> None:
    """What locks nothing needs no lease: reading in a command works while the Redis is down."""
    (ann, *_) = await one_each(world)
    redis_server.kill()
    try:
        key = RecordKey("test", "nothing", ann.slot)

        def decide(snapshot: Snapshot) -> Decision[bool]:
            return Decision(Changes(), snapshot.receipt(ann.id, "none") is None)

        done = await world.store.execute(Scope(ann.slot, receipts=((ann.id, "none"),)), decide)
        assert done.result
        assert await world.record(key) is None
    finally:
        await asyncio.to_thread(redis_server.restart)


# TLS and users


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "redis.crt", folder / "redis.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return paths


@asynccontextmanager
async def tls_before(redis_server: RedisServer, crt: Path, key: Path) -> AsyncIterator[int]:
    """A port that speaks TLS and passes everything on to the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ssl.SSLError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", redis_server.port)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        for one in (writer, far_writer):
            with suppress(OSError, ssl.SSLError):
                await one.wait_closed()

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
        listening.close()


async def test_tls_and_a_user_of_few_rights(world: World, redis_server: RedisServer, tmp_path: Path) -> None:
    """The URL brings the certificate and the user; a stranger, a wrong password and an unknown issuer are refused."""
    ann, bob, _ = await one_each(world)
    rights = ("~wgql:*", "+ping", "+evalsha", "+script|load", "+get", "+mget", "+set", "+incr", "+del", "+pexpire")
    assert redis_server.tell("ACL", "SETUSER", "wallet", "on", ">se,cret", *rights).startswith("+OK")
    crt, key = certificate(tmp_path)
    nodes = world.harness.url.partition(",")[2]
    async with tls_before(redis_server, crt, key) as port:
        first = f"rediss+postgres://wallet:se%2Ccret@127.0.0.1:{port}/0"
        async with open_store(f"{first}?ssl_ca_certs={crt},{nodes}") as store:
            ledger = world.ledger_on(store)
            assert (await world.pay(ann, bob, 5, ledger=ledger)).credited
        said = await refusal(f"{first},{nodes}")
        assert "certificate" in said
        wrong = f"rediss+postgres://wallet:wrong@127.0.0.1:{port}/0?ssl_ca_certs={crt}"
        said = await refusal(f"{wrong},{nodes}")
        assert "invalid username-password" in said
        assert "wrong" not in said.replace("WRONGPASS", "")
    redis_server.tell("ACL", "SETUSER", "wallet", "-evalsha")
    said = await refusal(f"redis+postgres://wallet:se%2Ccret@127.0.0.1:{redis_server.port}/0,{nodes}")
    assert "evalsha" in said


# For operators


async def test_the_status_of_the_nodes_counts_intents(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credit that nobody sends shows on its leader, with its age; the sum of each node is zero all the same."""
    first, second, _ = await one_each(world)
    store = store_of(world, RedisStore)
    assert store._credits is not None
    assert store._recovering is not None
    store._recovering.cancel()
    monkeypatch.setattr(store._credits, "send", lambda _: [])
    await world.pay(first, second, 1)
    rows = await survey(world.harness.url)
    monkeypatch.undo()
    assert [(row.node, row.reachable, row.intents, row.prepared) for row in rows] == [
        ("n1", True, 1, 0),
        ("n2", True, 0, 0),
        ("n3", True, 0, 0),
    ]
    assert rows[0].oldest_in_doubt_seconds is not None
    assert all(row.well and row.sums_minor and not any(row.sums_minor.values()) for row in rows)


async def test_sums_may_take_long(harness: Harness, tmp_path: Path) -> None:
    """Longer than any statement that a payment waits for."""
    await sums_may_take_long(harness, tmp_path)
