"""The wallet on Cassandra as its users meet it: GraphQL from two workers, the command line, and a wrong URL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.integration._cassandra import need_server
from tests.integration._server import Client, Person, Server, new_key, run_cli, serving, settle_all
from tests.integration.test_export import through_a_pipe
from wallet_gql.testing.patience import wait_until
from wallet_gql.testing.servers.cassandra import shared_cluster

pytestmark = [pytest.mark.backend("cassandra"), pytest.mark.trial, pytest.mark.timeout(300)]

PARTITIONS = 4
MONEY_MINOR = 10_000
PAYMENTS = 6


@pytest.fixture(scope="module")
def keyspaces() -> Iterator[list[str]]:
    """The storage URLs of two empty ledgers."""
    need_server()
    cluster = shared_cluster(1)
    names = [cluster.take(PARTITIONS) for _ in range(2)]
    yield [cluster.url(name, PARTITIONS) for name in names]
    for name in names:
        cluster.give_back(name, PARTITIONS)


@pytest.fixture(scope="module")
def people(keyspaces: list[str]) -> list[Person]:
    """Two users with money in the first ledger."""
    return settle_all(keyspaces[0], MONEY_MINOR, MONEY_MINOR)


@pytest.fixture(scope="module")
def server(keyspaces: list[str], people: list[Person], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers over the first ledger."""
    assert people
    with serving(tmp_path_factory.mktemp("served"), workers="2", storage=keyspaces[0]) as server:
        wait_until(lambda: server.log.count("the wallet is open now") == 2, 120, "not both workers serve")
        yield server
        assert server.log.count("the wallet is open now") == 2


def pay(server: Server, payer: Person, payee: Person, key: str) -> Any:
    """Pay over a connection of its own, which any worker may get; ask again while the answer is to be asked again."""
    with Client(server.url, payer.token) as client:
        while (told := client.transfer(**payer.pay(payee.username, 1, key))).get("retryable"):
            pass
    return told


def test_two_workers_pay(server: Server, people: list[Person]) -> None:
    """Both ways at once, each key twice: one effect a key, whichever worker is asked."""
    ann, bob = people
    asked = [(*pair, new_key()) for pair in ((ann, bob), (ann, bob), (bob, ann)) for _ in range(PAYMENTS)] * 2
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda one: (one[2], pay(server, *one)), asked))
    assert {answer["__typename"] for _, answer in told} == {"TransferSuccess"}
    ids = {(key, answer["transfer"]["id"]) for key, answer in told}
    assert len(ids) == len({key for key, _ in ids}) == len({transfer for _, transfer in ids}) == 3 * PAYMENTS
    with Client(server.url, ann.token) as client:
        (account,) = client.run("{ viewer { accounts { posted { minorUnits } } } }")["accounts"]
    assert int(account["posted"]["minorUnits"]) == MONEY_MINOR - PAYMENTS


def test_a_node_that_does_not_answer(server: Server, people: list[Person]) -> None:
    """A payment is refused with a code that says so; the same key pays when the node is back."""
    ann, bob = people
    key = new_key()
    (node,) = shared_cluster(1).nodes
    node.pause()
    try:
        with Client(server.url, ann.token) as client:
            told = client.transfer(**ann.pay(bob.username, 1, key))
    finally:
        node.resume()
    assert told["code"] in {"NODE_UNAVAILABLE", "UNAVAILABLE", "IN_DOUBT"}
    assert told["retryable"]
    assert pay(server, ann, bob, key)["__typename"] == "TransferSuccess"


def test_the_command_line(server: Server, keyspaces: list[str], tmp_path: Path) -> None:
    """Beside the workers: a clean audit; to SQLite and from there into another keyspace, with one digest."""
    source, target = keyspaces
    audited = run_cli(tmp_path, "audit", storage=server.storage)
    assert audited.returncode == 0, audited.stderr
    copy = f"sqlite:///{tmp_path / 'copy.db'}"
    exported, imported = through_a_pipe(tmp_path, source, copy)
    assert "digest" in exported
    assert {imported, *through_a_pipe(tmp_path, copy, target)} == {exported}


def test_nobody_listens(tmp_path: Path) -> None:
    """One line, and the status of a wrong setting."""
    done = run_cli(tmp_path, "audit", storage="cassandra://127.0.0.1:1/wallet")
    assert (done.returncode, done.stdout) == (2, "")
    assert "start it, or correct the URL" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
