"""What the modules share: servers of their own, people, and empty ledgers.

A module states its needs by marks. `backend("postgres-3")` sets what `cluster`, `harness` and `world` are;
`serving(...)` has the settings of `server`, `balances(...)` the balances of its `people`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.applications import Starlette

from tests.integration._browser import Browser, running_browser
from tests.integration._clusters import ClusterPool
from tests.integration._mongo import around_a_test
from tests.integration._redis import Bench, bench
from tests.integration._rest import Rest, somebody
from tests.integration._server import Client, Person, Server, run_cli, serving, settle_all
from wallet_gql.backends.kit.store import GroupStore
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.storage import TIMEOUT_SECONDS
from wallet_gql.testing.harness import Harness, harness_for
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.postgres import PostgresCluster, PostgresHarness
from wallet_gql.testing.servers.redis import FORBIDDEN, RedisHarness, RedisServer
from wallet_gql.testing.world import World
from wallet_gql.transports.server.app import create_app

BALANCES: Final = (100_000, 0)
"""A payer with 1000.00 EUR, and a payee."""


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where processes of Python that a test starts keep what they have compiled."""
    return tmp_path_factory.mktemp("compiled")


# Ledgers on servers


def _backend(node: Any) -> tuple[str, int]:
    """The kind of the backend that a test or module belongs to, and how many nodes it has."""
    marker = node.get_closest_marker("backend")
    kind, _, size = (marker.args[0] if marker else "memory").partition("-")
    return kind, int(size or 1)


@pytest.fixture(scope="session")
def clusters() -> Iterator[ClusterPool]:
    """Clusters that one module has at a time; ended with the run."""
    pool = ClusterPool()
    yield pool
    pool.stop()


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, clusters: ClusterPool) -> Iterator[PostgresCluster]:
    """Postgres nodes that this module alone has, for it may kill them; those of Redis leases forbid PREPARE."""
    kind, size = _backend(request.node)
    with clusters.lend(size, FORBIDDEN if kind == "redis" else {}) as lent:
        yield lent


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """A Redis of this module's own, for it is killed."""
    made = RedisServer()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def made() -> Iterator[Bench]:
    """The servers of trials on Redis leases, of this module's own."""
    with bench() as servers:
        yield servers


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> Harness:
    """A fresh ledger of the test's backend."""
    kind, size = _backend(request.node)
    if kind == "postgres":
        return PostgresHarness(size, request.getfixturevalue("cluster"))
    if kind == "redis":
        return RedisHarness(size, request.getfixturevalue("cluster"), request.getfixturevalue("redis_server"))
    return harness_for(kind)


@pytest.fixture
async def world(harness: Harness, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """An empty ledger; at the end its books are checked, and nothing is on its way."""
    async with World(harness, request.getfixturevalue("tmp_path")) as made:
        yield made


@pytest.fixture(autouse=True)
def _around_mongodb(request: pytest.FixtureRequest) -> Iterator[None]:
    """What every test of MongoDB needs around it."""
    if _backend(request.node)[0] != "mongodb":
        yield
        return
    with around_a_test():
        yield


NODES: Final = ("kit.credits.CREDIT_SECONDS", "postgres.node.CONNECT_SECONDS", "postgres.reading._FETCH_SECONDS")
PHASES: Final = ("sharded.CREDIT_SECONDS", "two_phase.FINISH_SECONDS", "moves.FREEZE_MS", "moves.SETTLE_SECONDS")
LIMITS: Final = {
    "postgres": (*NODES, *(f"postgres.{limit}" for limit in PHASES)),
    "redis": (*NODES, "redis.credits.CREDIT_SECONDS", "redis.store._LOOK_SECONDS"),
}
"""How long stores wait for nodes before they say that these do not answer, or that credits come later."""


@pytest.fixture(autouse=True)
def _nodes_may_take_time(request: pytest.FixtureRequest) -> Iterator[None]:
    """On a busy machine stores wait longer, for nodes and for whoever names no deadline.

    Tests tell that a node has answered from that it has not.
    """
    kind = _backend(request.node)[0]
    with pytest.MonkeyPatch.context() as patch:
        for name in LIMITS.get(kind, ()):
            where, _, limit = f"wallet_gql.backends.{name}".rpartition(".")
            module = import_module(where)
            given = getattr(module, limit)
            patch.setattr(module, limit, type(given)(patience(given)))
        for store in (GroupStore, *_below(GroupStore)):
            defaults = getattr(vars(store).get("execute"), "__kwdefaults__", None)
            if defaults is not None:
                patch.setitem(defaults, "timeout_seconds", patience(TIMEOUT_SECONDS))
        yield


def _below(kind: type) -> Iterator[type]:
    derived: type
    for derived in kind.__subclasses__():
        yield derived
        yield from _below(derived)


# Wallets that serve


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A wallet of this module's own, over SQLite; its options and settings are those of the mark `serving`.

    With `proved=True` among them its books are audited at the end, and every answer was a documented one.
    """
    marker = request.node.get_closest_marker("serving")
    options, settings = (marker.args, dict(marker.kwargs)) if marker else ((), {})
    proved = settings.pop("proved", False)
    with serving(tmp_path_factory.mktemp("served"), *options, **settings) as server:
        yield server
        assert not proved or "not documented" not in server.log
    if proved:
        audited = run_cli(server.path.parent, "audit", storage=server.storage)
        assert audited.returncode == 0, audited.stderr


@pytest.fixture(scope="module")
def people(request: pytest.FixtureRequest, server: Server) -> list[Person]:
    """Users with what the mark `balances` says, in minor units of EUR: else a payer with 1000.00, and a payee."""
    marker = request.node.get_closest_marker("balances")
    return settle_all(server.storage, *(marker.args if marker else BALANCES))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests; each has its own pages."""
    with running_browser() as running:
        yield running


@pytest.fixture
def client(server: Server, people: list[Person]) -> Iterator[Client]:
    """The first one's client."""
    with Client(server.url, people[0].token) as client:
        yield client


@pytest.fixture
async def app() -> AsyncIterator[Starlette]:
    """The application over a memory store, in this process."""
    async with open_wallet(load_settings(storage="memory://", mode="test"), sweeps=False) as wallet:
        app = create_app(wallet)
        async with app.router.lifespan_context(app):
            yield app


@pytest.fixture
def ann(server: Server) -> Iterator[Rest]:
    """Somebody with 1000.00 EUR."""
    yield from somebody(server, 100_000)


@pytest.fixture
def bob(server: Server) -> Iterator[Rest]:
    """Somebody with an empty EUR account."""
    yield from somebody(server, 0)
