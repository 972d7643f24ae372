"""Nodes come and go while the wallet serves: slots move, and nothing is lost, doubled or seen twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any

import pytest

from tests.integration._clusters import NAMES, addresses, an_empty_database, one_each, quiet, quieted, sharded
from wallet_gql import failpoints
from wallet_gql.backends import open_store
from wallet_gql.backends.postgres import membership, move_rows
from wallet_gql.backends.postgres import moves as moves_module
from wallet_gql.backends.postgres.membership import Membership
from wallet_gql.backends.postgres.mover import indexed
from wallet_gql.backends.postgres.node import PgNode, literal
from wallet_gql.backends.postgres.placement import DRAINING, GONE, SERVING, Leaving, Told
from wallet_gql.backends.postgres.sharded import PgStore
from wallet_gql.backends.postgres.two_phase import Recovery
from wallet_gql.books.audit import audit
from wallet_gql.books.exchange import digest_of
from wallet_gql.domain.errors import ConfigurationError, Contended, InDoubt, NodeUnavailable, Unavailable, WalletError
from wallet_gql.domain.ids import SLOTS
from wallet_gql.testing.patience import insist, within
from wallet_gql.testing.raw import between_systems
from wallet_gql.testing.servers.postgres import PostgresServer
from wallet_gql.testing.world import Person, World

pytestmark = [pytest.mark.backend("postgres-3"), pytest.mark.service("postgres"), pytest.mark.trial]

BEFORE = ("moves.ahead", "moves.frozen", "moves.settled", "moves.copied", "moves.written")
STEPS = (*BEFORE, "moves.activated", "moves.forgotten")


@pytest.fixture
def fourth(world: World) -> str:
    """The URL of an empty database for another node."""
    return an_empty_database(world)


@asynccontextmanager
async def moving(world: World) -> AsyncIterator[Membership]:
    """A mover, with a store of its own, as the command line has one."""
    async with open_store(world.harness.url) as store:
        assert isinstance(store, PgStore)
        yield Membership(store)


def slots_on(store: PgStore, name: str) -> int:
    """How many slots a node has."""
    return sum(store.placement.home(slot) == name for slot in range(4096))


async def a_past(world: World) -> list[Person]:
    """People on all nodes with payments between them, a hold, and a payment that has come back."""
    people = [*await one_each(world), *await world.people(9, 500)]
    for number, payer in enumerate(people):
        await world.pay(payer, people[(number + 1) % len(people)], number + 1)
        await world.pay(payer, people[(number + 5) % len(people)], number + 1)
    await world.hold(people[0], people[1], 5)
    for person in people:
        await between_systems(world, person, 3)
    return people


async def pay_around(world: World, people: list[Person], ended: asyncio.Event) -> int:
    """Pay between all of them, one after the other, each payment repeated until it is answered. Returns how many."""
    count = 0
    while not ended.is_set():
        payer, payee = people[count % len(people)], people[(count * 7 + 1) % len(people)]
        if payer is not payee:
            await insist(partial(world.pay, payer, payee, 1, key=f"around-{count}"))
        count += 1
    return count


@asynccontextmanager
async def paying(world: World, people: list[Person]) -> AsyncIterator[None]:
    """Payments between all of them go on meanwhile, and at the end all have been answered."""
    ended = asyncio.Event()
    payers = [asyncio.create_task(pay_around(world, people[n::3], ended)) for n in range(3)]
    try:
        yield
        ended.set()
        assert min(await asyncio.gather(*payers)) > 0
    finally:
        for payer in payers:
            payer.cancel()
        await asyncio.gather(*payers, return_exceptions=True)


async def test_a_node_comes_and_goes(world: World, fourth: str) -> None:
    """Nothing of the ledger changes; other processes learn it by themselves; what is left on no node is gone."""
    people = await a_past(world)
    await world.settle()
    store = sharded(world)
    before = await digest_of(store)
    async with moving(world) as members:
        await members.add("n4", fourth)
        done = await members.rebalance()
        assert done.moved == done.slots == slots_on(members._store, "n4") > 900
        assert await digest_of(store) == before
        assert slots_on(store, "n4") == done.slots
        assert (await audit(store)).clean
        await world.pay(people[0], people[1], 1)
        await members.drain("n4")
        assert (await members.rebalance(share=1.0)).moved == done.slots
        await world.pay(people[0], people[2], 1)
    assert [name for name, member in members._store.placement.members.items() if member.state == SERVING] == [
        "n1",
        "n2",
        "n3",
    ]
    assert (await audit(store)).clean


async def test_rows_are_written_some_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many a slot has, no statement has more than so many, and all of them arrive."""
    people = await a_past(world)
    await world.settle()
    store = sharded(world)
    before = await digest_of(store)
    written: list[str] = []

    def noted(text: str) -> str:
        written.append(text)
        return literal(text)

    monkeypatch.setattr(move_rows, "WRITE_ROWS", 2)
    monkeypatch.setattr(move_rows, "literal", noted)
    slots = sum(1 << slot for slot in {person.slot for person in people}) & (store.placement.told["n1"].here or 0)
    await store.moves.move(store.placement, "n1", "n2", slots)
    assert max(len(rows) for text in written for rows in json.loads(text).values()) == 2
    await store.relearn()
    assert all(store.placement.home(person.slot) != "n1" for person in people)
    assert await digest_of(store) == before
    assert (await audit(store)).clean


@pytest.mark.parametrize("answers", [0, 1], ids=["never met", "met, and then silent"])
async def test_a_node_that_was_not_reached_is_not_gone(
    world: World, fourth: str, monkeypatch: pytest.MonkeyPatch, answers: int
) -> None:
    """Decisions stay, for credits may be prepared there. Who was met and then does not answer is asked again."""
    store = sharded(quieted(world))
    recovery = Recovery(store._cluster, store._nodes)
    await store.node("n1").rows("INSERT INTO decisions (attempt, verdict) VALUES ($1, 'commit')", "a" * 32)
    ask, met = store._learning._of, bool(answers)

    async def ask_until(node: PgNode) -> Told:
        nonlocal answers
        answers -= node.name == "n4"
        if answers < 0:
            raise NodeUnavailable(node.name)
        return await ask(node)

    monkeypatch.setattr(store._learning, "_of", ask_until)
    async with moving(world) as members:
        await members.add("n4", fourth)
        await store._learning.learn_now()
        if met:
            assert not store.node("n4").is_gone
        else:
            with pytest.raises(Unavailable, match="n4"):
                await recovery.prune(older_than_seconds=-1)
        assert "n4" not in store.placement.told
        answers = 100
        await store._learning.learn_now()
        assert "n4" in store.placement.told
        assert await recovery.prune(older_than_seconds=-1) == 1


async def test_a_mover_that_was_stopped_for_long_decides_nothing(
    world: World, fourth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have taken its batch back, and the record of that may have been removed since."""
    people = await a_past(world)
    store = sharded(world)
    async with moving(world) as members:
        await members.add("n4", fourth)
        await members._store.relearn()
        homes, moves = members._store.placement, members._store.moves
        slots = 1 << people[0].slot
        source = homes.home(people[0].slot)
        activate = moves._activate

        async def after_days(*given: Any) -> int:
            await members._store.relearn()
            await moves.finish(members._store.placement, is_mover=True)
            await members._store.node("n4").rows("DELETE FROM decisions")
            return await activate(*given)

        monkeypatch.setattr(moves, "_activate", after_days)
        monkeypatch.setattr(moves_module, "ACTIVATE_SECONDS", 0.0)
        with pytest.raises(Contended):
            await moves.move(homes, source, "n4", slots)
        await world.pay(people[0], people[1], 1)
        await store.relearn()
        assert store.placement.home(people[0].slot) == source
    assert (await audit(store)).clean


async def test_a_mover_that_others_have_overtaken_changes_nothing(
    world: World, fourth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new node is being drained by the time, or the lock is lost, or the slots are elsewhere: nothing moves."""
    people = await a_past(world)
    store = sharded(world)
    async with moving(world) as members, moving(world) as others:
        for one in (store, members._store, others._store):
            quiet(one)  # this mover holds no lock
        await members.add("n4", fourth)
        await members._store.relearn()
        homes, moves = members._store.placement, members._store.moves
        source = homes.home(people[0].slot)
        activate = moves._activate

        async def drained(*given: Any) -> int:
            await others.drain("n4")
            return await activate(*given)

        monkeypatch.setattr(moves, "_activate", drained)
        with pytest.raises(Contended, match="n4 is draining by now"):
            await moves.move(homes, source, "n4", 1 << people[0].slot)
        monkeypatch.undo()
        await members._store.relearn()
        await moves.finish(members._store.placement, is_mover=True)
        await members._store.relearn()
        elsewhere = next(name for name in NAMES if name != source)
        with pytest.raises(Contended, match="has not all of the slots"):
            await moves.move(members._store.placement, elsewhere, source, 1 << people[0].slot)
        async with members._alone():
            await members._store.node(elsewhere).rows(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'"
            )
            with pytest.raises(WalletError):
                await members._tell(dict(homes.members))
        await store.relearn()
        assert store.placement.members["n4"].state == DRAINING
        assert store.placement.home(people[0].slot) == source
        await world.pay(people[0], people[1], 1)
    assert (await audit(store)).clean


async def test_a_mover_that_has_stopped_does_not_keep_its_slots(
    world: World, fourth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although its sessions, and so its locks, live on."""
    monkeypatch.setattr(moves_module, "STOPPED_SECONDS", 0.2)
    people = await a_past(world)
    store = sharded(world)
    async with moving(world) as members:
        await members.add("n4", fourth)
        async with members._alone():
            source = store.placement.home(people[0].slot)
            leaving = Leaving("a" * 32, "n4", 1 << people[0].slot)
            await members._store.moves._freeze(members._store.placement, source, leaving)
            await insist(partial(world.pay, people[0], people[1], 1, key="after"))


async def test_a_mover_that_is_interrupted_leaves_no_index(world: World) -> None:
    """Each would cost every payment of the node something until the next move."""
    node = sharded(world).node("n1")
    count = "SELECT count(*) FROM pg_class WHERE relname = ANY ($1)"
    made = asyncio.Event()

    async def move() -> None:
        async with indexed(node):
            made.set()
            await asyncio.Event().wait()

    moving_ = asyncio.create_task(move())
    await within(60, made.wait())
    assert await node.ask(count, list(move_rows.INDEXES)) == len(move_rows.INDEXES)
    moving_.cancel()  # as Ctrl-C does
    with pytest.raises(asyncio.CancelledError):
        await moving_
    assert await node.ask(count, list(move_rows.INDEXES)) == 0


async def test_a_third_node_that_is_down_keeps_no_batch_from_its_node(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mover of a batch between two others has died; their servers end it."""
    first, second, _ = await one_each(world)
    store = sharded(quieted(world))  # the one sweep below is what counts
    answers = store._learning._of

    async def but_n3(node: PgNode) -> Told:
        if node.name == "n3":
            raise Unavailable("n3 is down")
        return await answers(node)

    monkeypatch.setattr(store._learning, "_of", but_n3)
    await store.moves._freeze(store.placement, "n1", Leaving("a" * 32, "n2", 1 << first.slot))
    await store._learning.learn_now()
    assert store.placement.is_moving([first.slot])
    await store._sweep_moves()
    assert (await world.pay(first, second, 1)).credited


@pytest.mark.parametrize("step", STEPS)
async def test_any_process_ends_what_a_mover_has_left(world: World, fourth: str, step: str) -> None:
    """The mover stops at a step; the servers go on with it or take it back. They need no more than their sweeps."""
    people = await a_past(world)
    store = sharded(world)
    async with moving(world) as members:
        await members.add("n4", fourth)
        await members._store.relearn()
        slots = sum(1 << person.slot for person in {person.slot: person for person in people}.values())
        slots &= members._store.placement.told["n1"].here or 0
        failpoints.arm(f"{step}=fail")
        try:
            with pytest.raises((InDoubt, NodeUnavailable, Unavailable)):
                await members._store.moves.move(members._store.placement, "n1", "n4", slots)
        finally:
            failpoints.arm("")
    for payer in people:
        await insist(partial(world.pay, payer, people[0 if payer is not people[0] else 1], 1, key=f"after {payer.id}"))
    assert (await audit(store)).clean
    await store.relearn()
    moved = step in STEPS[STEPS.index("moves.activated") :]
    homes = {store.placement.home(person.slot) for person in people if slots >> person.slot & 1}
    assert homes == {"n4" if moved else "n1"}
    assert store.placement.told["n1"].leaving is None


async def test_payments_go_on_meanwhile(world: World, fourth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever pays while slots move is answered, and a key that was used before still has its one effect."""
    monkeypatch.setattr(membership, "FROZEN_SECONDS", 60.0)  # large batches, however busy the machine is
    people = await a_past(world)
    first = await world.pay(people[0], people[3], 2, key="before")
    async with moving(world) as members, paying(world, people):
        await members.add("n4", fourth)
        await members.rebalance(share=1.0)
        again = await world.pay(people[0], people[3], 2, key="before")
    assert again.result == first.result


async def test_what_is_refused(world: World, fourth: str) -> None:
    """Each with its remedy, and nothing has moved."""
    store = sharded(world)
    await a_past(world)
    before = dict(store.placement.epochs)
    first, second, _ = addresses(world)
    foreign = an_empty_database(world)
    server = world.harness.servers()[2]
    assert isinstance(server, PostgresServer)
    server.run("CREATE TABLE theirs ()", foreign.rpartition("/")[2])
    async with moving(world) as members, moving(world) as others:
        for name, url, says in (
            ("n4", "", "n4 is not listed in WALLET_STORAGE"),
            ("n4", "postgres://wallet@127.0.0.1:1/ledger", "node n4 does not answer"),
            ("n4", f"{fourth}_none", "node n4 cannot be used"),
            ("n4", foreign, "the database is not empty"),
            ("n4", "mysql://h/db", "write postgres://user@host/db"),
            ("n 4", fourth, "letters, digits, dashes or underscores"),
            ("n4", fourth.replace("wallet@", "wallet:secret@"), "a password is never stored in the ledger"),
            ("n4", first, "another node of this one; give it an empty one"),
            ("n3", second, "another node of this one; give it an empty one"),
        ):
            for asked in (members.check_add, members.add):
                with pytest.raises(ConfigurationError) as refused:
                    await asked(name, url)
                assert says in refused.value.message
                assert "secret" not in refused.value.message
        with pytest.raises(ConfigurationError, match="there is no node n9"):
            await members.drain("n9")
        async with others._alone():
            with pytest.raises(ConfigurationError, match="another mover is at work"):
                await members.add("n4", fourth)
        assert store.placement.epochs == before
        await members.drain("n3")
        with pytest.raises(ConfigurationError, match="would not have several nodes"):
            await members.drain("n1")
        await members.rebalance()
        with pytest.raises(ConfigurationError, match="the name n3 was used by a node that is gone"):
            await members.add("n3", fourth)


# The command line, in processes of its own

PROGRAM = (
    "import os, typer; from wallet_gql import failpoints; from wallet_gql.transports.cli import nodes as cli_nodes;"
    "failpoints.arm(os.environ.pop('KILLED_AT', '')); failpoints.arm = print;"  # the check of settings would disarm it
    "app = typer.Typer(); app.add_typer(cli_nodes.app, name='nodes'); app()"
)


def ran(world: World, *words: str, killed_at: str = "") -> tuple[int, str]:
    """A command of `wallet-gql nodes`: its exit code and what it printed."""
    environment = {**os.environ, "WALLET_STORAGE": world.harness.url, "WALLET_MODE": "test", "KILLED_AT": killed_at}
    command = [sys.executable, "-c", PROGRAM, "nodes", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout or done.stderr


KILLS = (
    ("add n4 URL", "moves.joined=kill"),
    ("add n4 URL", "moves.told=kill@2"),
    ("add n4 URL", "moves.frozen=kill@2"),
    ("rebalance", "moves.ahead=kill@3"),
    ("rebalance", "moves.written=kill@3"),
    ("rebalance", "moves.activated=kill@4"),
    ("rebalance", "moves.forgotten=kill@4"),
    ("drain n2", "moves.copied=kill@5"),
    ("rebalance", "moves.drained=kill"),
)


async def suffer(world: World, fourth: str, kills: Sequence[tuple[str, str]]) -> Counter[int]:
    """3 -> 4 -> 3 nodes under payments, by commands that are killed, and repeated. Returns the exit codes."""
    codes: Counter[int] = Counter()
    people = await a_past(world)
    first = await world.pay(people[0], people[3], 2, key="before")
    async with paying(world, people):
        for words, killed_at in kills:
            asked = f"{words.replace('URL', fourth)} --share 1".split()
            code, said = await asyncio.to_thread(ran, world, *asked, killed_at=killed_at)
            assert code in (0, -signal.SIGKILL), (words, killed_at, said)
            codes[code] += 1
            again = await insist(partial(world.pay, people[0], people[3], 2, key="before"))
            assert again.result == first.result
        store, said = sharded(world), ""
        for words in (f"add n4 {fourth} --share 1", "drain n2 --share 1", "rebalance --json"):
            await store.relearn()
            if "drain" not in words or "n2" in store.placement.names:
                code, said = await asyncio.to_thread(ran, world, *words.split())
                assert code == 0, (words, said)
        assert json.loads(said)["slots"] == 0
    code, said = await asyncio.to_thread(ran, world, "status", "--json")
    rows = {row["node"]: row for row in json.loads(said)["nodes"]}
    assert (rows["n2"]["slots"], rows["n2"]["state"], rows["n4"]["state"]) == (0, GONE, SERVING)
    assert sum(row["slots"] for row in rows.values()) == SLOTS
    assert code == 0, said
    return codes


@pytest.mark.soak  # `test_moves_over_http` does the same over HTTP, and kills servers and nodes as well
async def test_movers_are_killed_at_every_step(world: World, fourth: str) -> None:
    """In the end nothing is missing, and each command was killed where it was meant to be."""
    assert await suffer(world, fourth, KILLS) == {-signal.SIGKILL: len(KILLS)}


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(12))
async def test_movers_are_killed_anywhere(world: World, fourth: str, seed: int) -> None:
    """At steps drawn from the seed, eight kills each; most of them come before the command has ended."""
    drawn = Random(seed)
    kills = [("add n4 URL", f"{drawn.choice(STEPS)}=kill@{drawn.randint(1, 6)}") for _ in range(4)]
    kills += [("drain n2", f"{drawn.choice(STEPS)}=kill@{drawn.randint(1, 6)}")]
    kills += [("rebalance", f"{drawn.choice(STEPS)}=kill@{drawn.randint(1, 6)}") for _ in range(3)]
    assert (await suffer(world, fourth, kills))[-signal.SIGKILL] >= 2


async def test_a_plan_comes_first(world: World, fourth: str) -> None:
    """`--dry-run` says what would move, and changes nothing."""
    await a_past(world)
    epochs = dict(sharded(world).placement.epochs)
    code, said = await asyncio.to_thread(ran, world, "add", "n4", fourth, "--dry-run", "--json")
    parts = json.loads(said)["parts"]
    assert (code, {part["target"] for part in parts}, len(parts)) == (0, {"n4"}, 3)
    assert sum(part["accounts"] for part in parts) < SLOTS / 5 < sum(part["slots"] for part in parts)
    await sharded(world).relearn()
    assert sharded(world).placement.epochs == epochs
