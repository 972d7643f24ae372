"""A node that is listed before it is added, and one that was added and that a running process cannot reach."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.integration._cli import run_here
from tests.integration._clusters import NAMES, addresses, an_empty_database, one_each, sharded
from wallet_gql import failpoints
from wallet_gql.backends import open_store
from wallet_gql.backends.postgres import sharded as sharded_module
from wallet_gql.backends.postgres.membership import Membership
from wallet_gql.backends.postgres.node import PgNode
from wallet_gql.backends.postgres.sharded import PgStore
from wallet_gql.backends.postgres.status import NOT_ADDED, survey
from wallet_gql.backends.postgres.upgrade import prepare_node
from wallet_gql.books.exchange import UNFINISHED
from wallet_gql.domain.errors import ConfigurationError, Unavailable
from wallet_gql.failpoints import FailpointError
from wallet_gql.storage import check_writable
from wallet_gql.testing.patience import insist, patience
from wallet_gql.testing.servers.postgres import PostgresHarness
from wallet_gql.testing.servers.process import free_port
from wallet_gql.testing.world import World

pytestmark = [pytest.mark.backend("postgres-3"), pytest.mark.service("postgres")]

LISTED = "node n4 is listed and is not part of the ledger yet: wallet-gql nodes add n4"


def listed(file: Path, urls: Mapping[str, str]) -> str:
    """Write a list of nodes; the URL that names it."""
    file.write_text("[nodes]\n" + "".join(f'{name} = "{url}"\n' for name, url in urls.items()))
    return f"postgres://?nodes={file}"


def three(world: World) -> dict[str, str]:
    """The nodes of the world's ledger and their URLs."""
    return dict(zip(NAMES, addresses(world), strict=True))


def secret(url: str) -> str:
    """The URL with a password. The servers of the tests ask for none."""
    return url.replace("wallet@", "wallet:secret@")


async def refusal(url: str, *, migrates: bool = True) -> str:
    """What a store says that must not start."""
    with pytest.raises(ConfigurationError) as refused:
        async with open_store(url, migrates=migrates):
            pass
    return refused.value.message


@pytest.mark.parametrize("has_tables", [False, True], ids=["empty", "with tables"])
async def test_a_listed_node_is_not_yet_part_of_the_ledger(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, has_tables: bool
) -> None:
    """Whatever opens the ledger leaves it out, says so once, and writes nothing there."""
    people = await one_each(world)
    fourth = an_empty_database(world)
    node = PgNode("n4", fourth)
    await node.open()
    if has_tables:  # a release that refused to start with it had made them before
        await prepare_node(node, migrates=True)
    tables = "SELECT count(*) FROM pg_class WHERE relname = 'accounts' AND relkind = 'r'"
    url = listed(tmp_path / "nodes.toml", {"n4": secret(fourth)} | three(world))
    for migrates in (True, False):
        caplog.clear()
        async with open_store(url, migrates=migrates) as store:
            assert isinstance(store, PgStore)
            assert (store.placement.names, await store.ping()) == (NAMES, {})
            ledger = world.ledger_on(store)
            assert (await ledger.account(people[2].id, people[2].account)).id == people[2].account
        assert caplog.text.count(LISTED) == 1
    assert await node.ask(tables) == has_tables
    await node.close()
    assert {one.node: (one.well, one.state == NOT_ADDED) for one in await survey(url)} == {
        **dict.fromkeys(NAMES, (True, False)),
        "n4": (True, True),
    }


async def test_a_listed_node_that_does_not_answer(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One of which the ledger does not know keeps no server from starting; every other one does, and is named."""
    file, nowhere = tmp_path / "nodes.toml", f"postgres://wallet:secret@127.0.0.1:{free_port()}/wallet"
    people = await one_each(world)
    async with open_store(listed(file, three(world) | {"n4": nowhere})) as store:
        assert isinstance(store, PgStore)
        assert (store.placement.names, await store.ping()) == (NAMES, {})
        ledger = world.ledger_on(store)
        assert (await ledger.account(people[0].id, people[0].account)).id == people[0].account
    assert caplog.text.count(f"{LISTED}; node n4 does not answer") == 1
    assert "secret" not in caplog.text
    blank = an_empty_database(world)
    for name, urls in (
        ("n3", three(world) | {"n3": nowhere}),
        ("n3", three(world) | {"n3": nowhere, "n4": nowhere}),
        ("n5", {"n4": blank, "n5": nowhere}),
    ):
        assert f"node {name} does not answer" in await refusal(listed(file, urls))


async def test_only_a_blank_node_of_no_ledger_is_left_out(world: World, tmp_path: Path) -> None:
    """A mistake in a URL is refused: a blank member, a node of another ledger, too few nodes, one of one node."""
    await one_each(world)
    fourth, file = an_empty_database(world), tmp_path / "nodes.toml"
    said = await refusal(listed(file, three(world) | {"n3": fourth}), migrates=True)
    assert "node n3 is blank while others hold data" in said
    for name, says in (("n4", "node n4 belongs to cluster"), ("n5", "given as node n4 is node n5")):
        theirs = an_empty_database(world)
        async with open_store(f"{theirs}?node={name}"):
            pass
        assert says in await refusal(listed(file, three(world) | {"n4": theirs}))
    first, second, _ = addresses(world)
    said = await refusal(listed(file, {"n1": first, "n2": second, "n4": an_empty_database(world)}))
    assert "given are n1, n2: name them all" in said
    alone = an_empty_database(world)
    async with open_store(alone):
        pass
    said = await refusal(listed(file, {"n1": alone, "n2": an_empty_database(world)}))
    assert "node n2 is blank while others hold data" in said


async def test_blank_nodes_alone_are_a_new_ledger(world: World, tmp_path: Path) -> None:
    """None of them is left out."""
    url = listed(tmp_path / "nodes.toml", {name: an_empty_database(world) for name in ("n1", "n2", "n4")})
    for _ in range(2):
        async with open_store(url) as store:
            assert isinstance(store, PgStore)
            assert store.placement.names == ("n1", "n2", "n4")


NEWER: Final = "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('9999')"


@pytest.mark.parametrize(
    ("done", "says"),
    [
        ("ALTER DATABASE {} SET synchronous_commit = off", "node n3 has synchronous_commit = off"),
        (NEWER, "node n3 has schema version 9999"),
        ("SELECT 1", "there is no ledger at node n1"),
    ],
    ids=["unsafe", "newer", "well"],
)
async def test_who_only_looks_is_told_what_is_wrong_with_any_node(
    world: World, tmp_path: Path, done: str, says: str
) -> None:
    """Also where there is no ledger yet: whoever makes one would be refused, and `config check` must say so."""
    urls = {name: an_empty_database(world) for name in NAMES}
    node = PgNode("n3", urls["n3"])
    await node.open()
    await node.run(done.format(urls["n3"].rpartition("/")[2]), seconds=10)
    await node.close()
    assert says in await refusal(listed(tmp_path / "nodes.toml", urls), migrates=False)


@pytest.mark.parametrize("named", [0, 2])
async def test_tables_alone_are_no_ledger(world: World, tmp_path: Path, named: int) -> None:
    """Whoever made it ended before all nodes had their names: only who may make one goes on."""
    urls = {name: an_empty_database(world) for name in NAMES}
    url = listed(tmp_path / "nodes.toml", urls)
    async with open_store(url):
        pass
    nodes = [PgNode(name, urls[name]) for name in NAMES]
    for node in nodes[named:]:
        await node.open()
        await node.rows("DELETE FROM node")
    assert "there is no ledger at node" in await refusal(url, migrates=False)
    for node in nodes[named:]:
        assert await node.rows("SELECT * FROM node") == []
        await node.close()
    for migrates in (True, False):
        async with open_store(url, migrates=migrates) as store:
            assert await store.ping() == {}


class ByFile(PostgresHarness):
    """Three nodes that a file lists."""

    file: Path
    urls: Mapping[str, str]

    async def start(self, folder: Path) -> None:
        """See `PostgresHarness.start`."""
        await super().start(folder)
        self.file = folder / "nodes.toml"
        self.urls = dict(zip(NAMES, (url.partition("?")[0] for url in self.url.split(",")), strict=True))
        self.url = listed(self.file, self.urls)


@asynccontextmanager
async def a_world_by_file(world: World) -> AsyncIterator[tuple[World, ByFile, Mapping[str, str]]]:
    """A ledger whose nodes a file lists, the harness, and the list that has a fourth one with a password."""
    harness = ByFile(3)
    (world.folder / "by_file").mkdir()
    async with World(harness, world.folder / "by_file") as made:
        yield made, harness, {**harness.urls, "n4": secret(an_empty_database(world))}


async def test_a_listed_node_is_added_with_its_password(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """As the page says: into the file first, then `nodes add`. A server that runs meanwhile, and a new one, use it."""
    async with a_world_by_file(world) as (made, harness, with_fourth):
        people = await one_each(made)
        listed(harness.file, with_fourth)

        async def run(words: str, code: int = 0) -> str:
            capsys.readouterr()
            done = await asyncio.to_thread(run_here, *words.split(), WALLET_STORAGE=harness.url, WALLET_MODE="test")
            said = capsys.readouterr()
            assert done == code, said.err
            return said.err if code else said.out

        assert NOT_ADDED in await run("nodes status --json")
        said = await run(f"nodes add n5 {harness.urls['n1']}_none --dry-run", code=2)
        assert "node n5 cannot be used" in said
        assert {part["target"] for part in json.loads(await run("nodes add n4 --dry-run --json"))["parts"]} == {"n4"}
        assert NOT_ADDED in await run("nodes status --json")
        assert json.loads(await run("nodes add n4 --share 1 --json"))["slots"] > 0
        assert NOT_ADDED not in await run("nodes status --json")
        for payer, payee in ((0, 1), (1, 2), (2, 0)):
            await insist(partial(made.pay, people[payer], people[payee], 1, key=f"from {payer}"))
        store = sharded(made)
        assert (store.placement.names, await store.ping()) == ((*NAMES, "n4"), {})
        assert "secret" not in await store.node("n1").ask("SELECT members FROM node")
        async with open_store(harness.url, migrates=False) as later:
            assert await later.ping() == {}


@pytest.mark.parametrize("killed_at", ["moves.joined", "moves.told"])
async def test_who_goes_on_after_a_killed_add_tells_all_of_the_node(world: World, killed_at: str) -> None:
    """Before any slot moves: a process that has not heard of the node would find nobody who has its slots."""
    async with a_world_by_file(world) as (made, harness, with_fourth):
        people = await one_each(made)
        async with open_store(listed(harness.file, with_fourth)) as store:
            assert isinstance(store, PgStore)
            with pytest.raises(FailpointError), armed(f"{killed_at}=fail"):
                await Membership(store).add("n4", "")
        async with open_store(harness.url, migrates=False) as store:
            assert isinstance(store, PgStore)
            assert (await Membership(store).rebalance(share=1.0)).moved > 0
            for name in store.placement.names:
                assert '"n4"' in await store.node(name).ask("SELECT members FROM node")
        assert await away_until(sharded(made), [])
        for payer, payee in ((0, 1), (1, 2), (2, 0)):
            await insist(partial(made.pay, people[payer], people[payee], 1, key=f"from {payer}"))
        assert sharded(made).placement.names == (*NAMES, "n4")


@contextmanager
def armed(point: str) -> Iterator[None]:
    """Failpoints of this process."""
    failpoints.arm(point)
    try:
        yield
    finally:
        failpoints.arm("")


async def test_a_half_imported_ledger_gets_no_node(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused here, too, as by all commands that open it."""
    await sharded(world).load_raw([UNFINISHED])
    for words in ("add n4", "rebalance", "drain n1"):
        settings = {"WALLET_STORAGE": world.harness.url, "WALLET_MODE": "test"}
        assert await asyncio.to_thread(run_here, "nodes", *words.split(), **settings) == 2
        assert "an import of this ledger was not finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("query", "is_secret"), [("passfile=/etc/wallet/pgpass", False), ("password=secret", True), ("sslpassword=x", True)]
)
async def test_what_is_stored_of_a_url(world: World, query: str, *, is_secret: bool) -> None:
    """Where the password is, but no password."""
    fourth = an_empty_database(world)
    members = Membership(sharded(world))
    for asked in (members.check_add, members.add):
        if is_secret:
            with pytest.raises(ConfigurationError, match="a password is never stored"):
                await asked("n4", f"{fourth}?{query}")
        else:
            await asked("n4", f"{fourth}?{query}")
    assert ("n4" in sharded(world).placement.names) is not is_secret
    assert (query in await sharded(world).node("n1").ask("SELECT members FROM node")) is not is_secret


@pytest.mark.parametrize("has_slots", [False, True], ids=["added", "with slots"])
async def test_a_process_says_that_it_cannot_reach_an_added_node(
    world: World, monkeypatch: pytest.MonkeyPatch, *, has_slots: bool
) -> None:
    """Also one that nobody uses: it is not writable until its own list has the node, and needs no restart then."""
    monkeypatch.setattr(sharded_module, "LEARN_EVERY_SECONDS", 0.0)
    async with a_world_by_file(world) as (made, harness, with_fourth):
        people = await one_each(made)
        async with open_store(listed(harness.file.with_name("movers.toml"), with_fourth)) as store:
            assert isinstance(store, PgStore)
            members = Membership(store)
            await members.add("n4", "")
            if has_slots:
                await members.rebalance(share=1.0)
        running = sharded(made)
        assert await away_until(running, ["n4"])
        with pytest.raises(Unavailable) as said:
            await check_writable(running)
        assert "node n4 was added to the ledger, and this process has not reached it" in said.value.detail
        listed(harness.file, with_fourth)
        assert await away_until(running, [])
        for payer, payee in ((0, 1), (1, 2), (2, 0)):
            await insist(partial(made.pay, people[payer], people[payee], 1, key=f"from {payer}"))


async def away_until(store: PgStore, names: list[str]) -> bool:
    """Ping until these nodes are away. Raises TimeoutError."""
    async with asyncio.timeout(patience(30)):
        while True:
            if list(await store.ping()) == names:
                return True
            await asyncio.sleep(0.02)
