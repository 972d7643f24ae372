"""GraphQL over HTTP: media types, status codes, methods, malformed requests, and streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import httpx
import pytest

from tests.integration._server import (
    TRANSFER,
    VIEWER,
    Person,
    Server,
    counted,
    serving,
)
from wallet_gql.testing.patience import patience
from wallet_gql.transports.graphql.failures import Fault
from wallet_gql.transports.graphql.http_spec import (
    EVENT_STREAM,
    JSON,
    RESPONSE_JSON,
    STATUSES,
    Answer,
    Column,
    wanted_by,
)
from wallet_gql.transports.http.problems import Problem

SENT: Final = {"Content-Type": JSON}
BIG: Final = 3 * 1024 * 1024
TYPENAME: Final = "{ __typename }"
LOG_IN: Final = """mutation($login: String!) { logIn(input: {login: $login, password: "plain maroon bicycle"}) {
  ... on LogInSuccess { user { username } } } }"""

URQL: Final = (
    "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed"
)
APOLLO: Final = "application/graphql-response+json,application/json;q=0.9"


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the draft's."""
    with serving(tmp_path_factory.mktemp("draft"), graphql_profile="draft2026") as server:
        yield server


@pytest.fixture
def http(server: Server, people: list[Person]) -> Iterator[httpx.Client]:
    """The payer's client."""
    headers = {"Authorization": f"Bearer {people[0].token}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=patience(30)) as client:
        yield client


def post(http: httpx.Client, body: Any, accept: str = RESPONSE_JSON) -> httpx.Response:
    """Send a body, as it is if it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http.post("/graphql", content=content, headers={**SENT, "Accept": accept})


def events(text: str) -> list[tuple[str, Any]]:
    """The events of a whole stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"]) if fields["data"] else None))
    return found


@pytest.mark.parametrize(
    ("accept", "json_type", "stream_first"),
    [
        (None, JSON, False),
        ("", JSON, False),
        ("*/*", JSON, False),
        ("application/*", JSON, False),
        (JSON, JSON, False),
        (RESPONSE_JSON, RESPONSE_JSON, False),
        (f"{RESPONSE_JSON}; charset=utf-8", RESPONSE_JSON, False),
        (RESPONSE_JSON.upper(), RESPONSE_JSON, False),
        (f"{JSON}, {RESPONSE_JSON}", JSON, False),
        (f"{JSON};q=0.5, {RESPONSE_JSON};q=0.6", RESPONSE_JSON, False),
        (f"{JSON};q=0.5, */*", RESPONSE_JSON, False),
        (f"{JSON};q=0, */*", RESPONSE_JSON, False),
        (f"text/html, {JSON};q=0.1", JSON, False),
        (APOLLO, RESPONSE_JSON, False),
        (URQL, RESPONSE_JSON, False),
        (EVENT_STREAM, None, True),
        (f"{EVENT_STREAM}, {JSON}", JSON, True),
        (f"{JSON}, {EVENT_STREAM}", JSON, False),
        (f"{JSON};q=0.9, {EVENT_STREAM}", JSON, True),
        (f"{EVENT_STREAM};q=0.9, {JSON}", JSON, False),
        (f"{EVENT_STREAM};q=0, {JSON}", JSON, False),
        (f"garbage, ,;;, {JSON}", JSON, False),
    ],
    ids=repr,
)
def test_accept(accept: str | None, json_type: str | None, stream_first: bool) -> None:
    """The best quality wins, then what is named first; a stream only to those who name it, first only if it is."""
    wanted = wanted_by(accept)
    assert (wanted.json, wanted.stream_first) == (json_type, stream_first)
    assert wanted.stream == (EVENT_STREAM in (accept or "") and f"{EVENT_STREAM};q=0," not in (accept or ""))


@pytest.mark.parametrize(
    "accept", ["application/xml", "text/html", "text/plain", "garbage", f"{JSON};q=0", "image/*", "*/*;q=0", "json"]
)
def test_not_acceptable(http: httpx.Client, accept: str) -> None:
    """Who accepts nothing that there is gets 406, and nothing is run."""
    with pytest.raises(Problem, match="can be one of"):
        wanted_by(accept)
    answer = post(http, {"query": LOG_IN, "variables": {"login": "nobody"}}, accept)
    assert (answer.status_code, answer.json()["code"]) == (406, "NOT_ACCEPTABLE")
    assert "set-cookie" not in answer.headers


def test_the_answer_has_the_type_that_was_asked_for(http: httpx.Client) -> None:
    """Each media type is answered as itself, in UTF-8."""
    for accept, shown in ((RESPONSE_JSON, RESPONSE_JSON), (JSON, JSON), ("*/*", JSON), (URQL, RESPONSE_JSON)):
        answer = post(http, {"query": TYPENAME}, accept)
        assert answer.headers["content-type"] == f"{shown}; charset=utf-8"
        assert answer.json()["data"] == {"__typename": "Query"}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("application/json", 200),
        ("Application/JSON", 200),
        ("application/json; charset=utf-8", 200),
        ('application/json;charset="UTF-8"', 200),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=iso-8859-1", 415),
        ("text/application/json", 415),
        ("application/json-patch+json", 415),
        ("application/jsonx", 415),
        ("application/graphql", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
        (None, 415),
    ],
)
def test_exact_media_types(http: httpx.Client, sent: str | None, status: int) -> None:
    """A body is JSON in UTF-8 and says so, exactly."""
    headers = {} if sent is None else {"Content-Type": sent}
    answer = http.post("/graphql", content=json.dumps({"query": TYPENAME}).encode(), headers=headers)
    assert answer.status_code == status
    if status == 415:
        assert answer.headers["accept-post"] == JSON


def test_compressed_bodies_are_refused(http: httpx.Client) -> None:
    """A body in an encoding is 415, not a puzzle: nothing small becomes large in here."""
    headers = {**SENT, "Content-Encoding": "gzip"}
    assert http.post("/graphql", content=b"\x1f\x8b", headers=headers).status_code == 415


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "TRACE"])
def test_methods(http: httpx.Client, method: str) -> None:
    """Any method but GET and POST gets 405, with the allowed methods."""
    answer = http.request(method, "/graphql")
    assert answer.status_code == 405
    assert {name.strip() for name in answer.headers["allow"].split(",")} >= {"GET", "POST"}


REFUSED: Final[dict[str, tuple[Any, Fault]]] = {
    "no json": (b'{"query": ', Fault.JSON),
    "no body": (b"", Fault.JSON),
    "not utf-8": (b'{"query": "\xff"}', Fault.JSON),
    "NaN": (b'{"query": "{ __typename }", "variables": {"a": NaN}}', Fault.JSON),
    "nested too deep": (b'{"variables": {"a": ' + b"[" * 5_000 + b"]" * 5_000 + b"}}", Fault.JSON),
    "a string": ("query", Fault.REQUEST),
    "a number": (7, Fault.REQUEST),
    "null": (None, Fault.REQUEST),
    "true": (True, Fault.REQUEST),
    "a batch": ([{"query": TYPENAME}], Fault.REQUEST),
    "no query": ({}, Fault.REQUEST),
    "an empty query": ({"query": ""}, Fault.REQUEST),
    "a query that is no text": ({"query": ["{ __typename }"]}, Fault.REQUEST),
    "variables that are no object": ({"query": TYPENAME, "variables": "a"}, Fault.REQUEST),
    "a document id that is no text": ({"documentId": 7}, Fault.REQUEST),
    "a document id that is not known": ({"documentId": "sha256:" + "0" * 64}, Fault.DOCUMENT),
    "a syntax error": ({"query": "{ viewer { id"}, Fault.PARSE),
    "nothing but a comment": ({"query": "# nothing"}, Fault.PARSE),
    "no operation": ({"query": "fragment F on Query { __typename }"}, Fault.OPERATION),
    "several operations": ({"query": "query A { __typename } query B { __typename }"}, Fault.OPERATION),
    "an unknown operation": ({"query": "query A { __typename }", "operationName": "B"}, Fault.OPERATION),
    "an operation without the name": ({"query": "{ __typename }", "operationName": ""}, Fault.OPERATION),
    "an unknown field": ({"query": "{ viewer { password } }"}, Fault.VALIDATION),
    "a missing argument": ({"query": "{ account { id } }"}, Fault.VALIDATION),
    "a wrong literal": ({"query": "{ account(id: {}) { id } }"}, Fault.VALIDATION),
    "a fragment that does not fit": ({"query": "{ viewer { ... on Account { id } } }"}, Fault.VALIDATION),
    "too deep": ({"query": "{ viewer " * 13 + "{ id }" + "}" * 13}, Fault.VALIDATION),
    "a variable of the wrong type": (
        {"query": "query($id: ID!) { account(id: $id) { id } }", "variables": {"id": {"a": 1}}},
        Fault.VARIABLES,
    ),
    "a variable that is missing": ({"query": "query($id: ID!) { account(id: $id) { id } }"}, Fault.VARIABLES),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(server: Server, http: httpx.Client, name: str) -> None:
    """What is not executed has errors with a code, no data, and the status of the table; nothing is written."""
    body, fault = REFUSED[name]
    before = counted(server.path, "transfers", "receipts")
    for accept, column in ((RESPONSE_JSON, Column.RESPONSE), (JSON, Column.LEGACY)):
        answer = post(http, body, accept)
        assert answer.status_code == STATUSES[fault][column], answer.text
        assert set(answer.json()) - {"extensions"} == {"errors"}
        assert answer.headers["content-type"] == f"{accept}; charset=utf-8"
        for error in answer.json()["errors"]:
            assert set(error["extensions"]) == {"code", "requestId", "retryable"}
            assert error["extensions"]["code"] != "INTERNAL"
    assert counted(server.path, "transfers", "receipts") == before


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_the_draft(draft: Server, name: str) -> None:
    """The profile of the draft: 400 for JSON and syntax, 422 for everything else, whatever is accepted."""
    body, fault = REFUSED[name]
    with httpx.Client(base_url=draft.url) as http:
        for accept in (RESPONSE_JSON, JSON):
            answer = post(http, body, accept)
            assert answer.status_code == (400 if fault in (Fault.JSON, Fault.PARSE) else 422)
            assert set(answer.json()) - {"extensions"} == {"errors"}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_over_a_stream(http: httpx.Client, name: str) -> None:
    """Who wants a stream gets the errors as its only event, without data."""
    answer = post(http, REFUSED[name][0], EVENT_STREAM)
    assert answer.status_code == 200
    (kind, body), last = events(answer.text)
    assert (kind, last) == ("next", ("complete", None))
    assert set(body) - {"extensions"} == {"errors"}


def test_the_table_is_whole() -> None:
    """Every answer and every fault has a code in every column; success is 2xx, a fault never is, but to old clients."""
    assert set(STATUSES) == {*Answer, *Fault}
    for of, row in STATUSES.items():
        assert set(row) == set(Column)
        for column, code in row.items():
            if isinstance(of, Answer):
                assert 200 <= code < 300
            elif column is not Column.LEGACY:
                assert 400 <= code < 600


def test_partial_data(server: Server, draft: Server) -> None:
    """A field that fails is null beside the others: 200, or 294 by the draft."""
    query = "{ viewer { id } currencies { code } }"
    for url, status in ((server.url, 200), (draft.url, 294)):
        with httpx.Client(base_url=url) as http:
            answer = post(http, {"query": query})
            assert answer.status_code == status
            assert answer.json()["data"]["viewer"] is None
            assert len(answer.json()["data"]["currencies"]) > 100
            (error,) = answer.json()["errors"]
            assert (error["path"], error["extensions"]["code"]) == (["viewer"], "UNAUTHENTICATED")
            assert post(http, {"query": TYPENAME}).status_code == 200


def test_get(http: httpx.Client, people: list[Person]) -> None:
    """GET runs a query with its variables, and refuses what is wrong with them as POST does."""
    query = "query Mine($id: ID!) { account(id: $id) { id } }"
    given = {"query": query, "variables": json.dumps({"id": people[0].account_id}), "operationName": "Mine"}
    assert http.get("/graphql", params=given).json()["data"]["account"]["id"] == people[0].account_id
    accept = {"Accept": RESPONSE_JSON}
    for wrong in (
        {"variables": "{"},
        {"variables": "[1]"},
        {"extensions": "7"},
        {"operationName": "Other"},
        {"query": ""},
    ):
        answer = http.get("/graphql", params={**given, **wrong}, headers=accept)
        assert (answer.status_code, next(iter(answer.json()))) == (400, "errors"), wrong
    assert http.get("/graphql", headers=accept).status_code == 400


def test_get_and_mutations(server: Server, http: httpx.Client, people: list[Person]) -> None:
    """A mutation by GET is 405 over JSON and over streams, and moves nothing."""
    before = counted(server.path, "transfers", "receipts")
    payment = json.dumps({"input": people[0].pay(people[1].username, 1)})
    for accept in (JSON, RESPONSE_JSON, EVENT_STREAM):
        answer = http.get("/graphql", params={"query": TRANSFER, "variables": payment}, headers={"Accept": accept})
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert counted(server.path, "transfers", "receipts") == before


@pytest.mark.parametrize("size", [256 * 1024 + 1, BIG])
def test_large_documents_are_refused(server: Server, http: httpx.Client, size: int) -> None:
    """Beyond 256 KiB a body is 413, with a length or without, and is not in the log."""
    body = b'{"query": "{ __typename } #' + b"zyx" * (size // 3) + b'"}'
    assert http.post("/graphql", content=body, headers=SENT).status_code == 413

    def parts() -> Iterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    with suppress(httpx.WriteError):  # the server may close before all of it was sent
        assert http.post("/graphql", content=parts(), headers=SENT).status_code == 413
    assert len(server.log) < 2_000_000
    assert "zyxzyx" not in server.log


def test_one_answer_over_a_stream(http: httpx.Client, people: list[Person]) -> None:
    """Queries and mutations have one event over a stream; a cookie comes with it."""
    answer = post(http, {"query": VIEWER}, EVENT_STREAM)
    assert answer.headers["content-type"] == f"{EVENT_STREAM}; charset=utf-8"
    assert "no-store" in answer.headers["cache-control"]
    (kind, body), last = events(answer.text)
    assert (kind, body["data"]["viewer"]["username"], last) == ("next", people[0].username, ("complete", None))
    answer = post(http, {"query": LOG_IN, "variables": {"login": people[0].username}}, EVENT_STREAM)
    assert answer.headers["set-cookie"].startswith("__Host-wallet=")
    assert events(answer.text)[0][1]["data"]["logIn"]["user"]["username"] == people[0].username


def test_a_subscription_needs_a_stream(http: httpx.Client, people: list[Person]) -> None:
    """Without one it is 406 that says what to accept; with one among other types it gets it."""
    query = "subscription($id: ID!) { accountEvents(accountId: $id) { sequence } }"
    body = {"query": query, "variables": {"id": people[0].account_id}}
    for accept in (JSON, RESPONSE_JSON, "*/*"):
        answer = post(http, body, accept)
        assert (answer.status_code, EVENT_STREAM in answer.json()["detail"]) == (406, True)
    history = "query($id: ID!) { account(id: $id) { history(first: 1) { edges { node { sequence } } } } }"
    (edge,) = post(http, {**body, "query": history}).json()["data"]["account"]["history"]["edges"]
    newest = edge["node"]["sequence"]
    headers = {**SENT, "Accept": URQL}
    with http.stream("POST", "/graphql", json=body, headers=headers) as stream:
        assert stream.headers["content-type"].startswith(EVENT_STREAM)
        data = next(line for line in stream.iter_lines() if line.startswith("data: {"))
        assert json.loads(data[6:])["data"]["accountEvents"]["sequence"] == newest


def test_two_transfers_without_a_name_move_nothing(server: Server, http: httpx.Client, people: list[Person]) -> None:
    """The ambiguous document of two payments is refused as JSON and as a stream."""
    first, second = (people[0].pay(people[1].username, 1) for _ in range(2))
    body = {
        "query": f"{TRANSFER.replace('mutation', 'mutation A')} {TRANSFER.replace('mutation', 'mutation B')}",
        "variables": {"input": first},
    }
    before = counted(server.path, "transfers", "receipts")
    assert post(http, body).status_code == 400
    assert "errors" in events(post(http, body, EVENT_STREAM).text)[0][1]
    assert counted(server.path, "transfers", "receipts") == before
    chosen = post(http, {**body, "operationName": "B", "variables": {"input": second}})
    assert chosen.json()["data"]["transfer"]["__typename"] == "TransferSuccess"
