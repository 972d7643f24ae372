"""A store's messages go to the log, one line per answer, and never to a client: on GraphQL, REST and batches."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, NoReturn

import httpx
import pytest
from starlette.applications import Starlette

from tests.integration._server import LOG_IN, PASSWORD, TRANSFER, VIEWER, Person, settle
from wallet_gql.domain.errors import InDoubt, RateLimited, Unavailable, WalletError, error_classes
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.storage import Store
from wallet_gql.transports.http.logs import RequestIdFilter
from wallet_gql.transports.rest.routes import OPERATIONS
from wallet_gql.transports.server import app as http
from wallet_gql.transports.server.app import create_app

SAID = "Can't connect to MySQL server on '127.0.0.1' (user 'wallet')"
"""What a backend of another package passes on of its driver, without a thought."""

KINDS: list[Any] = [Unavailable, *(kind for kind in error_classes(Unavailable) if kind is not RateLimited), InDoubt]
ASKING = [name for name in dir(Store) if re.match(r"execute|fetch|list_|scan|totals|ping", name)]

BATCH = """mutation($input: TransferBatchInput!) { transferBatch(input: $input) {
  ... on TransferBatchSuccess { results { ... on WalletError { code message retryable } } }
  ... on WalletError { code message retryable } } }"""


@pytest.fixture
async def app() -> AsyncIterator[Starlette]:
    """The application over a memory store, in this process."""
    async with open_wallet(load_settings(storage="memory://", mode="test", rate_limits="off"), sweeps=False) as wallet:
        app = create_app(wallet)
        async with app.router.lifespan_context(app):
            yield app


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log as a server writes it, with the ids of requests."""
    added = RequestIdFilter()
    caplog.handler.addFilter(added)
    yield caplog
    caplog.handler.removeFilter(added)


def payment(person: Person, key: str) -> dict[str, Any]:
    """A transfer's input."""
    return {
        "idempotencyKey": key,
        "fromAccountId": person.account_id,
        "to": {"accountId": person.account_id},
        "amount": {"minorUnits": "1", "currency": "EUR"},
    }


def requests(person: Person) -> list[tuple[str, str, Any]]:
    """Method, path and body of one request for each way in which an error becomes an answer."""
    graphql = [
        (VIEWER, {}),
        (TRANSFER, {"input": payment(person, "key-1")}),
        (LOG_IN, {"input": {"login": person.username, "password": PASSWORD}}),
        (BATCH, {"input": {"mode": "INDEPENDENT", "items": [payment(person, f"item-{n}") for n in range(2)]}}),
    ]
    rest: list[tuple[str, str, Any]] = [
        (one.method, re.sub(r"{\w+}", "x", one.path), {} if one.body else None)
        for one in OPERATIONS
        if one.entry.session
    ]
    return [*(("POST", "/graphql", {"query": query, "variables": given}) for query, given in graphql), *rest]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
async def test_a8_the_words_of_a_store_go_to_the_log_alone(
    kind: type[WalletError], app: Starlette, lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients get the code, our words and the request's id; the log has the store's words under the same id."""
    wallet = app.state.wallet
    person = await settle(wallet, 100)

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise kind(SAID)

    for name in ASKING:
        monkeypatch.setattr(wallet.store, name, fail)
    headers = {"Authorization": f"Bearer {person.token}", "Sec-Fetch-Site": "same-origin"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://wallet.test", headers=headers) as client:
        for method, path, body in requests(person):
            lines.clear()
            answer = await client.request(method, path, json=body)
            assert kind.code in answer.text, (path, answer.text)
            for word in ("MySQL", "127.0.0.1", "connect", "user 'wallet'"):
                assert word not in answer.text, (path, answer.text)
            told = [record for record in lines.records if f"is answered with {kind.code}" in record.getMessage()]
            assert len(told) == 1, (path, lines.text)
            assert SAID in told[0].getMessage()
            assert told[0].__dict__["request_id"] == answer.headers["x-request-id"]
            assert not any(record.exc_info for record in lines.records), lines.text
        monkeypatch.setattr(http, "READY_FOR_SECONDS", 0)
        answer = await client.get("/readyz")
        assert (answer.status_code, "MySQL" in answer.text) == (503, False)


async def test_f3_each_item_of_a_batch_has_its_line(
    app: Starlette, lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where reading works and writing does not, the items fail one by one."""
    wallet = app.state.wallet
    person = await settle(wallet, 100)

    async def fail(*_: Any, **__: Any) -> NoReturn:
        raise InDoubt(SAID)

    monkeypatch.setattr(wallet.store, "execute", fail)
    headers = {"Authorization": f"Bearer {person.token}"}
    given = {"mode": "INDEPENDENT", "items": [payment(person, "item-1"), payment(person, "item-2")]}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://wallet.test", headers=headers
    ) as client:
        answer = await client.post("/graphql", json={"query": BATCH, "variables": {"input": given}})
    assert "MySQL" not in answer.text
    assert [item["code"] for item in answer.json()["data"]["transferBatch"]["results"]] == ["IN_DOUBT"] * 2
    assert sum("transferBatch is answered with IN_DOUBT" in record.getMessage() for record in lines.records) == 2


def test_a8_no_argument_of_such_an_error_is_among_what_clients_see() -> None:
    """Neither in the message nor in the fields, whatever class a backend raises."""
    for kind in KINDS:
        error = kind(SAID)
        assert SAID not in error.message
        assert error.fields == {}
        assert SAID in str(error)
