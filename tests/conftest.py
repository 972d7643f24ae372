"""Which backend to test, how thoroughly, and how patiently.

`--backend NAME` (or `make test BACKEND=NAME`) keeps the suites of one backend and the tests that belong to none. NAME
is a harness's name, such as `sqlite`, or any storage URL whose scheme is installed, such as `toy://{tmp}/ledger`.

Tests come in tiers: `make test` runs the tests without a tier's marker, `make trials` those marked `trial`, and `make
soak` those marked `soak`. `_is_long_conformance` says which part of the conformance suite is a trial.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings

os.environ["WALLET_TEST_FROZEN"] = "1"  # before any record's class is made; servers of the tests inherit it
# No test needs the public authorities, which every HTTP client would parse anew for 50 ms. The folder has none.
# `_installing` needs the machine's own.
os.environ.setdefault("WALLET_TEST_SSL_CERT_FILE", os.environ.pop("SSL_CERT_FILE", ""))
os.environ.setdefault("WALLET_TEST_SSL_CERT_DIR", os.environ.get("SSL_CERT_DIR", ""))
os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)
os.environ["PGSSLMODE"] = "disable"  # the servers of the tests have no TLS; asking each time takes a connection more

from tests import leaks
from wallet_gql.testing.conformance import Durability, Guarantees, Idempotency, Outages, StoreConformance
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.keeper import keep

IN_PROCESS: Final = ("memory", "memory-3", "sqlite", "any")
"""Backends without servers: the whole conformance suite is quick there, but for `Outages`."""

SHORT_CONFORMANCE: Final = (Guarantees, Durability, Idempotency)
"""The parts of the suite that `make test` runs on servers too: G1 to G8, and what a key promises."""

SHORTER: Final = ("cassandra",)
"""Of these, `make test` runs G1 to G8 alone: every ledger costs a node a second of processor time."""

SHORT_IN_CI: Final = ("postgres", "redis")
"""Of these, on one node, the short part is a trial and the rest is for `make soak`: on three nodes all of it runs."""

ANSWER_SECONDS: Final = 30
"""How long a test waits for a server's answer if it does not say."""

# Under CI Hypothesis would derandomise by itself; here every plain run does, and `soak` alone is random.
settings.register_profile(
    "ci",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
    report_multiple_bugs=False,
)
settings.register_profile(
    "soak", deadline=None, max_examples=2_000, print_blob=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--backend` and `--compile-after`."""
    parser.addoption("--backend", metavar="NAME", help="test one backend: a harness's name or a storage URL")
    parser.addoption(
        "--compile-after",
        metavar="TIMES",
        default="1",
        help="from which time on GraphQL documents run compiled: 1, so that tests reach it; 0 is never",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marker that ties a test to a backend; choose the way GraphQL runs, here and in servers."""
    os.environ["WALLET_GRAPHQL_COMPILE_AFTER"] = config.getoption("--compile-after")
    config.addinivalue_line("markers", "backend(name): belongs to that backend alone")
    with ExitStack() as stack:
        stack.enter_context(leaks.watching())
        stack.enter_context(patient_clients())
        config.add_cleanup(stack.pop_all().close)


@contextmanager
def patient_clients() -> Iterator[None]:
    """Let HTTP clients that are given no time limit be patient: a busy machine takes more than httpx's five seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in (httpx.Client, httpx.AsyncClient):
            _lend_patience(patch, kind)
        yield


def _lend_patience(patch: pytest.MonkeyPatch, kind: type) -> None:
    begin = kind.__init__  # type: ignore[misc]  # of a class that is not extended
    unasked = signature(begin).parameters["timeout"].default

    @wraps(begin)
    def patient(self: object, *, timeout: Any = unasked, **more: Any) -> None:
        begin(self, timeout=patience(ANSWER_SECONDS) if timeout is unasked else timeout, **more)

    patch.setattr(kind, "__init__", patient)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark trials, and keep what the chosen backend needs.

    A backend that has no suite of its own gets the one of `test_conformance_outside`.
    """
    for item in items:
        if _is_long_conformance(item):
            item.add_marker(pytest.mark.soak if backend_of(item) in SHORT_IN_CI else pytest.mark.trial)
    chosen: str | None = config.getoption("--backend")
    of_its_own = any(backend_of(item) == chosen for item in items)
    wanted = [_is_wanted(item, chosen, of_its_own=of_its_own) for item in items]
    config.hook.pytest_deselected(items=[item for item, keep in zip(items, wanted, strict=True) if not keep])
    items[:] = [item for item, keep in zip(items, wanted, strict=True) if keep]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Any:
    """Collect without the garbage collector: nothing becomes garbage, and looking for some is a tenth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what was collected and lasts as long as the run: 5 % of its time."""
    gc.collect()
    gc.freeze()


def _is_long_conformance(item: pytest.Item) -> bool:
    """Whether it is a test of the conformance suite beyond the short part, on servers, or one that waits for long."""
    suite = getattr(item, "cls", None)
    name = item.name.partition("[")[0]
    if suite is None or not issubclass(suite, StoreConformance):
        return False
    if suite.backend in IN_PROCESS:
        return hasattr(Outages, name)
    short = (Guarantees,) if suite.backend in SHORTER else SHORT_CONFORMANCE
    return not any(hasattr(part, name) for part in short)


def _is_wanted(item: pytest.Item, chosen: str | None, *, of_its_own: bool) -> bool:
    backend = backend_of(item)
    if backend == ANY:
        return chosen is not None and not of_its_own
    return backend is None or chosen is None or backend == chosen


ANY = "any"
"""The backend of suites that take whatever `--backend` names."""


def backend_of(item: pytest.Item) -> str | None:
    """The backend that a test belongs to: by its class's attribute or by its marker; None if it belongs to none."""
    marker = item.get_closest_marker("backend")
    named: Sequence[object] = marker.args if marker else (getattr(getattr(item, "cls", None), "backend", None),)
    return None if named[0] is None else str(named[0])


@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Any:
    """Stretch the test's time limit by how busy the machine is as it begins; let Cassandra rest beside other tests."""
    marker = item.get_closest_marker("timeout")
    given = marker.args[0] if marker else float(item.config.getini("timeout"))
    item.add_marker(pytest.mark.timeout(patience(given)), append=False)
    done = yield
    if _is_cassandras(item) and not (nextitem and _is_cassandras(nextitem)):
        from wallet_gql.testing.servers import cassandra  # noqa: PLC0415 - other tests need no such driver

        cassandra.rest()
    return done


def _is_cassandras(item: pytest.Item) -> bool:
    return (backend_of(item) or "").startswith("cassandra")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Any:
    """After a test and the end of its servers: fail if a log or a metric tells a secret."""
    result = yield
    leaks.check()
    return result


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_testnodeready(node: Any) -> None:
    """Let a worker die with the run: else it would test on after a SIGTERM to the run."""
    keep(node.gateway._io.popen.pid)
