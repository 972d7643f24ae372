"""What a server tells its operators: metrics and log lines, with nothing secret in either."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.integration._live import talking
from tests.integration._metrics import SETTINGS, Scrape, scrape, until
from tests.integration._server import LOG_IN, PASSWORD, VIEWER, Client, Person, Server, new_key, serving, settle_all
from tests.integration.test_workers import workers_of
from wallet_gql.testing.patience import patience

ROOT: Final = Path(__file__).resolve().parents[2]
KEYS: Final = tuple(new_key() for _ in range(3))
"""The idempotency keys that were sent."""
COST_MAX: Final = 0.02
"""How much of a request's steps its metrics may take."""


ANSWERS: Final = 11
"""How many of the requests below count; the probe does not."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Person, Person]]:
    """A server with two workers that has served a little of everything, and two people."""
    folder = tmp_path_factory.mktemp("told")
    ann, bob = settle_all(f"sqlite:///{folder / 'wallet.db'}", 1_000, 0)
    with serving(folder, workers="2", log_level="debug", **SETTINGS) as server:
        with Client(server.url, ann.token) as client:
            client.run(VIEWER)
            client.transfer(**ann.pay(bob.username, 100, KEYS[0]))
            client.transfer(**ann.pay(bob.username, 100_000, KEYS[1]))
            client.post("{ nonsense }")
            client.post("{ __typename }")
            client.http.get("/nothing-here")
            client.http.get("/readyz")
            client.http.get("/v1/user")
            client.http.post("/v1/transfer", json={"to": {}}, headers={"Idempotency-Key": KEYS[2]})
        for login, password in ((ann.username, PASSWORD), (f"{ann.username}@example.org", "wrong " + PASSWORD)):
            with Client(server.url) as client:  # one each: the first gets a cookie
                client.run(LOG_IN, {"input": {"login": login, "password": password}})
        with Client(server.url) as client:
            client.post(VIEWER)
        until(server, is_written)
        yield server, ann, bob


def is_written(now: Scrape) -> bool:
    """Whether processes have written what they counted above: they do it a little later, one metric after another."""
    counts = ("wallet_answers_total", "wallet_answer_seconds_count")
    return all(now.sum(name) >= ANSWERS for name in counts) and have_equal_commits(now)


def have_equal_commits(now: Scrape) -> bool:
    """Whether each commit that is counted is so by both of its metrics."""
    return now.sum("wallet_batch_commands_count") == now.sum("wallet_commit_seconds_count") > 0


def test_every_answer_counts_by_operation_and_code(told: tuple[Server, Person, Person]) -> None:
    """Successes, refusals as data, top-level errors, problems of REST and of HTTP itself; the probes do not count."""
    found = scrape(told[0])
    assert {
        tuple(dict(labels)[name] for name in ("api", "verb", "code")): value
        for labels, value in found.samples["wallet_answers_total"].items()
        if value
    } == {
        ("graphql", "viewer", "OK"): 1,
        ("graphql", "viewer", "UNAUTHENTICATED"): 1,
        ("graphql", "transfer", "OK"): 1,
        ("graphql", "transfer", "INSUFFICIENT_FUNDS"): 1,
        ("graphql", "logIn", "OK"): 1,
        ("graphql", "logIn", "INVALID_CREDENTIALS"): 1,
        ("graphql", "-", "BAD_REQUEST"): 1,
        ("graphql", "-", "OK"): 1,
        ("rest", "readUser", "OK"): 1,
        ("rest", "transfer", "INVALID_INPUT"): 1,
        ("http", "-", "NOT_FOUND"): 1,
    }
    assert found.sum("wallet_answer_seconds_count") == ANSWERS
    assert found.sum("wallet_answer_seconds_bucket", verb="transfer", le="+Inf") == 3


def test_the_store_and_its_workers_are_seen(told: tuple[Server, Person, Person]) -> None:
    """Each worker, whether the store writes, batches, sweeps, what is overdue, and the sums of the books."""
    seen_later = {"wallet_books_off_minor", "wallet_swept_timestamp_seconds"}

    def is_seen(now: Scrape) -> bool:
        return now.sum("wallet_workers") == 2 and seen_later <= now.samples.keys() and have_equal_commits(now)

    found = until(told[0], is_seen)
    assert found.sum("wallet_store_writable") == 1
    assert found.samples["wallet_books_off_minor"].keys() == {(("currency", "EUR"), ("node", "local"))}
    assert found.sum("wallet_books_off_minor") == 0
    assert {dict(labels)["sweep"] for labels in found.samples["wallet_swept_timestamp_seconds"]} >= {"recovery"}
    assert found.sum("wallet_overdue_seconds") < patience(60)


async def test_an_operation_on_a_websocket_counts(told: tuple[Server, Person, Person]) -> None:
    """It counts like one over HTTP, without a time."""
    server, ann, _bob = told
    before = scrape(server)
    async with talking(server.url, ann.token) as talk:
        await talk.say("subscribe", id="1", payload={"query": VIEWER})
        assert (await talk.hear())["type"] == "next"
        assert (await talk.hear())["type"] == "complete"

    def seen(now: Scrape) -> bool:
        labels = {"api": "graphql", "verb": "viewer", "code": "OK"}
        return now.sum("wallet_answers_total", **labels) == before.sum("wallet_answers_total", **labels) + 1

    after = until(server, seen)
    assert after.sum("wallet_answer_seconds_count") == before.sum("wallet_answer_seconds_count")


def lines_of(server: Server) -> list[dict[str, Any]]:
    """The log, which is JSON from the line on that says where metrics are."""
    return [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]


def test_a_log_line_says_whose_request_it_was(told: tuple[Server, Person, Person]) -> None:
    """Request, user, verb and outcome are fields; probes have no line; every line is one JSON object."""
    server, ann, _bob = told
    assert len(lines_of(server)) == len(server.log.splitlines())
    refused = [line for line in lines_of(server) if line.get("outcome") == "INSUFFICIENT_FUNDS"]
    assert len(refused) == 1
    assert (refused[0]["userId"], refused[0]["verb"]) == (ann.id, "transfer")
    assert len(refused[0]["requestId"]) >= 8
    assert refused[0]["message"].startswith("POST '/graphql' 200 in ")
    assert not any("readyz" in line["message"] for line in lines_of(server))


def test_neither_log_nor_metrics_hold_a_secret(told: tuple[Server, Person, Person]) -> None:
    """No password, no token, no e-mail address, no idempotency key, not even at the level debug."""
    server, ann, bob = told
    everything = server.log + scrape(server).text
    for secret in (PASSWORD, ann.token, bob.token, "@example.org", "Bearer", "$argon2", *KEYS):
        assert secret not in everything


@pytest.mark.trial
def test_a_worker_that_died_is_counted(tmp_path: Path) -> None:
    """What it counted stays, its levels go, its death is a line of the log, and its successor counts on."""
    (ann,) = settle_all(f"sqlite:///{tmp_path / 'wallet.db'}", 1_000)
    with serving(tmp_path, workers="2", **SETTINGS) as server:
        until(server, lambda now: now.sum("wallet_workers") == 2)
        with Client(server.url, ann.token) as client:
            client.run(VIEWER)
        until(server, lambda now: now.sum("wallet_answers_total", verb="viewer") == 1)
        victims = workers_of(server)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        found = until(server, lambda now: now.sum("wallet_worker_deaths_total") == 2 and now.sum("wallet_workers") == 2)
        assert found.sum("wallet_answers_total", verb="viewer") == 1
        dead = [line["message"] for line in lines_of(server) if "was killed by SIGKILL" in line["message"]]
        assert len(dead) == 2
        assert not workers_of(server) & victims
        until(server, lambda now: now.sum("wallet_store_writable") == 1)  # somebody else looks at the store now


def test_an_address_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    """Before anything is served, with the name of the setting."""
    with serving(tmp_path, **SETTINGS) as server:
        taken = httpx.URL(server.url).netloc.decode()
        done = subprocess.run(
            [sys.executable, "-m", "wallet_gql", "serve", "--port", "0"],
            check=False,
            capture_output=True,
            text=True,
            timeout=patience(60),
            cwd=tmp_path,
            env={**os.environ, "WALLET_STORAGE": server.storage, "WALLET_METRICS_ADDRESS": taken},
        )
        assert (done.returncode, "WALLET_METRICS_ADDRESS" in done.stderr) == (2, True), done.stderr


def test_metrics_cost_little() -> None:
    """Of the steps of a read and of a payment over GraphQL, in a process of its own: at most 2 % more."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "WALLET_"))}
    done = subprocess.run(
        [sys.executable, "benchmarks/request_steps.py"],
        check=False,
        capture_output=True,
        text=True,
        timeout=patience(120),
        cwd=ROOT,
        env={**kept, "PYTHONHASHSEED": "0"},
    )
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)
    for without, measured in zip(before, after, strict=True):
        assert measured <= without * (1 + COST_MAX), (before, after)
