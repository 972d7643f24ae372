"""The HTTP application around the API: health, ids, headers, other sites, hang-ups, shutdown, several workers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette

from tests.integration._server import (
    JSON,
    STOPS_IN_COMMIT,
    TRANSFER,
    VIEWER,
    Client,
    Person,
    Server,
    during_commit,
    new_key,
    raw_request,
    run_cli,
    serving,
    settle,
    settle_all,
)
from wallet_gql.domain.errors import NodeUnavailable, Unavailable
from wallet_gql.storage import Away
from wallet_gql.testing.patience import patience, turns
from wallet_gql.transports.graphql.view import WalletView
from wallet_gql.transports.server import app as http
from wallet_gql.transports.server.app import create_app

SLOW_COMMIT = {"failpoints": "sqlite.written=sleep:0.5@1", "timeout_seconds": "0.2"}
"""The server's first commit takes longer than there is time for it."""


@pytest.fixture
def browser(server: Server, people: list[Person]) -> Iterator[httpx.Client]:
    """The payer's browser: it has the cookie."""
    headers = {"Cookie": f"__Host-wallet={people[0].token}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=patience(30)) as client:
        yield client


@pytest.mark.smoke
def test_health(server: Server) -> None:
    """The process says that it lives, that it is ready, and how to begin."""
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ready"}
        page = client.get("/start")
        assert f"{server.url}/graphql" in page.text
        assert "<script" not in page.text
        missing = client.get("/wp-login.php")
        assert (missing.status_code, missing.json()["code"]) == (404, "NOT_FOUND")


def test_every_response_has_an_id_and_safe_headers(server: Server) -> None:
    """Success, refusal and absence alike; an id that a proxy gave is kept, an implausible one is not."""
    with httpx.Client(base_url=server.url) as client:
        answers = [
            client.post("/graphql", json={"query": "{ __typename }"}),
            client.post("/graphql", json={"query": VIEWER}),
            client.post("/graphql", content=b"{", headers=JSON),
            client.post("/graphql", content=b"x" * 300_000, headers=JSON),
            client.put("/graphql"),
            client.get("/nowhere"),
            client.get("/healthz"),
        ]
        ids = {answer.headers["x-request-id"] for answer in answers}
        assert len(ids) == len(answers)
        for answer in answers:
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "server" not in answer.headers
        assert answers[4].headers["allow"] in ("GET, POST", "POST, GET")
        for given in ("from-nobody-1", "a b<script>"):
            assert client.get("/healthz", headers={"X-Request-Id": given}).headers["x-request-id"] != given
    assert "from-nobody-1" not in server.log


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, True),
        ({"Origin": "SELF"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
    ],
    ids=str,
)
def test_other_sites_cannot_use_the_cookie(
    server: Server, browser: httpx.Client, people: list[Person], headers: dict[str, str], allowed: bool
) -> None:
    """What a browser sends on behalf of another site is refused with 403, and no money moves."""
    sent = {name: server.url if value == "SELF" else value for name, value in headers.items()}
    payment = people[0].pay(people[1].username, 1)
    answer = browser.post("/graphql", json={"query": TRANSFER, "variables": {"input": payment}}, headers=sent)
    if allowed:
        assert answer.json()["data"]["transfer"]["__typename"] == "TransferSuccess"
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "CROSS_SITE")
        assert answer.headers["content-type"] == "application/problem+json"
        own = {"Sec-Fetch-Site": "same-origin"}
        again = browser.post("/graphql", json={"query": TRANSFER, "variables": {"input": payment}}, headers=own)
        assert again.json()["data"]["transfer"]["replayed"] is False


def test_no_cross_origin_access_is_ever_granted(browser: httpx.Client) -> None:
    """A preflight is refused and no response carries CORS headers."""
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = browser.options("/graphql", headers=preflight)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_client_that_hangs_up_cancels_nothing(tmp_path: Path) -> None:
    """A payment whose sender disconnects before the commit is committed nevertheless; its key shows so later."""
    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    payer, payee = settle_all(storage, 1000, 0)
    payment = payer.pay(payee.username, 100, new_key())
    with serving(tmp_path, storage=storage, **STOPS_IN_COMMIT) as server:
        parts = urlsplit(server.url)
        with socket.create_connection((parts.hostname or "", parts.port or 0)) as raw:
            raw.sendall(raw_request(server.url, payer.token, TRANSFER, {"input": payment}))
            with during_commit(server):
                raw.close()
        with Client(server.url, payer.token) as client:
            answer = client.transfer(**payment)
            assert (answer["__typename"], answer["replayed"]) == ("TransferSuccess", True)
            assert answer["fromAccount"]["posted"]["minorUnits"] == "900"


def test_an_unknown_outcome_is_data(tmp_path: Path) -> None:
    """A commit that outlasts the time given is InDoubt, retryable; the same key then tells what became of it."""
    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    payer, payee = settle_all(storage, 1000, 0)
    payment = payer.pay(payee.username, 100, new_key())
    with serving(tmp_path, storage=storage, **SLOW_COMMIT) as server, Client(server.url, payer.token) as client:
        while (answer := client.transfer(**payment)).get("code") == "CONTENDED":
            pass  # on a busy machine the time may be over before the commit has begun
        assert (answer["__typename"], answer["code"], answer["retryable"]) == ("InDoubt", "IN_DOUBT", True)
        while (answer := client.transfer(**payment))["__typename"] != "TransferSuccess":
            assert answer["retryable"]
        assert (answer["replayed"], answer["fromAccount"]["posted"]["minorUnits"]) == (True, "900")


def test_a_client_that_hangs_up_while_sending(server: Server, people: list[Person]) -> None:
    """Half a request is nothing: no traceback, no answer, and the server goes on."""
    parts = urlsplit(server.url)
    whole = raw_request(server.url, people[0].token, VIEWER)
    for part in (whole[:30], whole[:-5]):
        with socket.create_connection((parts.hostname or "", parts.port or 0)) as raw:
            raw.sendall(part)
    with Client(server.url, people[0].token) as client:
        assert client.run(VIEWER)["username"] == people[0].username
    assert "Traceback" not in server.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_finishes_what_was_begun(tmp_path: Path, number: signal.Signals) -> None:
    """A server asked to stop while a payment commits answers the payment first, and ends with 0."""
    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    payer, payee = settle_all(storage, 1000, 0)
    answers: list[Any] = []
    with serving(tmp_path, storage=storage, **STOPS_IN_COMMIT) as server, Client(server.url, payer.token) as client:
        paying = threading.Thread(target=lambda: answers.append(client.transfer(**payer.pay(payee.username, 100))))
        paying.start()
        with during_commit(server):
            server.process.send_signal(number)
        assert server.process.wait(timeout=patience(30)) == 0
        paying.join()
    assert answers[0]["__typename"] == "TransferSuccess"


def test_several_workers(tmp_path: Path) -> None:
    """Several processes accept on one port; all of them stop together."""
    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    payer, payee = settle_all(storage, 1000, 0)
    with serving(tmp_path, "--workers", "2", storage=storage) as server:
        for _ in range(6):
            with Client(server.url, payer.token) as client:
                assert client.transfer(**payer.pay(payee.username, 100))["__typename"] == "TransferSuccess"
        assert server.stop() == 0


def test_several_workers_need_a_shared_store(tmp_path: Path) -> None:
    """memory:// lives in one process; more workers are refused with the reason."""
    done = run_cli(tmp_path, "serve", "--workers", "2", "--port", "0", storage="memory://")
    assert done.returncode == 2
    assert "WALLET_WORKERS" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
async def local(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that application with a session."""
    person = await settle(app.state.wallet)
    headers = {"Authorization": f"Bearer {person.token}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://wallet.test", headers=headers) as client:
        yield client


async def test_a_rest_command_is_finished_without_its_client(
    app: Starlette, local: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that the server cancels half-way is completed, and waited for at the end; its key shows the outcome."""
    store = app.state.wallet.store
    begun, go_on, execute = asyncio.Event(), asyncio.Event(), store.execute

    async def slowly(*given: Any, **more: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await execute(*given, **more)

    monkeypatch.setattr(store, "execute", slowly)
    opening = asyncio.ensure_future(local.post("/v1/account", json={"currency": "CHF"}))
    await begun.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    go_on.set()
    await app.state.finishing.finish()
    found = (await local.get("/v1/account")).json()["accounts"]
    assert "CHF" in {account["currency"] for account in found}


async def test_not_ready_while_draining(app: Starlette, local: httpx.AsyncClient) -> None:
    """A stop signal makes /readyz answer 503, while /healthz still answers 200; the earlier handler runs too."""
    seen = []
    signal.signal(signal.SIGTERM, lambda *_: seen.append("before"))
    try:
        async with create_app(app.state.wallet).router.lifespan_context(app):
            os.kill(os.getpid(), signal.SIGTERM)
            answer = await local.get("/readyz")
            assert (answer.status_code, answer.json()["code"]) == (503, "DRAINING")
            assert (await local.get("/healthz")).status_code == 200
            assert seen == ["before"]
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


async def test_not_ready_without_the_store(
    app: Starlette, local: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that does not answer makes /readyz a 503, and a read a retryable UNAVAILABLE."""

    async def fail(*_: object) -> None:
        raise Unavailable

    assert (await local.get("/readyz")).status_code == 200
    monkeypatch.setattr(http, "READY_FOR_SECONDS", 0)
    monkeypatch.setattr(app.state.wallet.store, "ping", fail)
    assert (await local.get("/readyz")).status_code == 503
    monkeypatch.setattr(app.state.wallet.store, "ping", AsyncMock(return_value={"n2": NodeUnavailable("n2")}))
    assert (await local.get("/readyz")).json() == {"status": "partly ready"}
    monkeypatch.setattr(app.state.wallet.ledger, "accounts", fail)
    body = (await local.post("/graphql", json={"query": VIEWER})).json()
    assert body["data"] == {"viewer": None}
    extensions = body["errors"][0]["extensions"]
    assert (extensions["code"], extensions["retryable"]) == ("UNAVAILABLE", True)


async def test_asking_whether_it_is_ready_costs_the_store_nothing(
    app: Starlette, local: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred at once and one after the other are one question a second; that it drains is told at once."""
    asked = 0

    async def ping() -> Away:
        nonlocal asked
        asked += 1
        await turns()
        return {}

    monkeypatch.setattr(app.state.wallet.store, "ping", ping)
    now = 0.0
    monkeypatch.setattr(http, "time", SimpleNamespace(monotonic=lambda: now))
    answers = await asyncio.gather(*(local.get("/readyz") for _ in range(100)))
    assert {answer.status_code for answer in answers} == {(await local.get("/readyz")).status_code} == {200}
    now += http.READY_FOR_SECONDS - 0.01
    await local.get("/readyz")
    assert asked == 1
    now += 0.02
    await local.get("/readyz")
    assert asked == 2
    app.state.draining = True
    assert (await local.get("/readyz")).json()["code"] == "DRAINING"


async def test_our_own_bugs_are_masked(
    app: Starlette,
    local: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An unexpected exception reaches the log with its traceback, and the client only as INTERNAL with the id."""

    async def fail(*_: object) -> None:
        raise RuntimeError("the secret")

    monkeypatch.setattr(app.state.wallet.ledger, "accounts", fail)
    with caplog.at_level(logging.ERROR):
        answer = await local.post("/graphql", json={"query": VIEWER})
    assert "secret" not in answer.text
    (error,) = answer.json()["errors"]
    assert error["extensions"]["code"] == "INTERNAL"
    assert error["extensions"]["requestId"] == answer.headers["x-request-id"]
    assert "the secret" in caplog.text
    for way in ("run", "run_prepared"):
        monkeypatch.setattr(WalletView, way, fail)
    answer = await local.post("/graphql", json={"query": VIEWER})
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL")
    assert "secret" not in answer.text


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """A port in use is one clear line and exit code 2."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        done = run_cli(tmp_path, "serve", "--port", port, storage="memory://")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert port in done.stderr
