"""Bad input: a typed error or a 4xx that says what is wrong, nothing written, no traceback."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.integration._server import (
    JSON,
    LOG_IN,
    OPEN_ACCOUNT,
    PASSWORD,
    SIGN_UP,
    TRANSFER,
    VIEWER,
    Client,
    Person,
    Server,
    counted,
    new_key,
    new_name,
    settle_all,
)
from wallet_gql.testing.patience import patience

MONEY = ("transfers", "entries", "system_entries")
ALL = (*MONEY, "receipts", "accounts", "records")
ABSENT = "acc_" + "0193a0000000" + "7abc" + "8" + "0" * 15


MALFORMED_AMOUNTS = [0, "0", -5, "-5", 10**15 + 1, str(2**63 - 1)]
UNREADABLE_AMOUNTS = [1.5, 1e3, "1.5", "1e3", "", True, [5], {"value": 5}, 2**63, 2**64, str(2**63), "NaN"]


@pytest.mark.parametrize("amount", MALFORMED_AMOUNTS, ids=repr)
def test_amounts_that_cannot_be_paid(client: Client, server: Server, people: list[Person], amount: object) -> None:
    """Zero, negative and huge amounts are a problem of the amount; the key is not used up, nothing is written."""
    before = counted(server.path, *ALL)
    answer = client.run(TRANSFER, {"input": people[0].pay(people[1].username, amount)})  # type: ignore[arg-type]
    (problem,) = answer["problems"]
    assert (answer["__typename"], problem["code"]) == ("InvalidInput", "INVALID_AMOUNT")
    assert problem["path"] == ["amount", "minorUnits"]
    assert counted(server.path, *ALL) == before


@pytest.mark.parametrize("amount", UNREADABLE_AMOUNTS, ids=repr)
def test_amounts_that_are_no_whole_number(client: Client, server: Server, people: list[Person], amount: object) -> None:
    """Fractions, floats, bools and numbers beyond 64 bits never reach the ledger: they are problems of the amount."""
    before = counted(server.path, *ALL)
    payment = people[0].pay(people[1].username, amount)  # type: ignore[arg-type]
    (problem,) = client.run(TRANSFER, {"input": payment})["problems"]
    assert (problem["code"], problem["path"]) == ("INVALID_AMOUNT", ["amount", "minorUnits"])
    assert counted(server.path, *ALL) == before


@pytest.mark.parametrize("literal", ["1.5", "1e3", "true", '"1.0"', "null", "9223372036854775808", "FIVE", "[5]"])
def test_inlined_amounts_that_are_no_whole_number(client: Client, people: list[Person], literal: str) -> None:
    """The same holds for literals in the document."""
    payer, payee = people
    document = f"""mutation {{ transfer(input: {{idempotencyKey: "k", fromAccountId: "{payer.account_id}",
      to: {{username: "{payee.username}"}}, amount: {{minorUnits: {literal}, currency: "EUR"}}}}) {{ __typename }} }}"""
    if literal == "null":
        assert client.codes(document) == {"BAD_REQUEST"}
    else:
        assert client.run(document) == {"__typename": "InvalidInput"}


def changed(person: Person, payee: str, /, **fields: Any) -> dict[str, Any]:
    """A good payment with some fields replaced."""
    return {**person.pay(payee, 100), **fields}


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown currency": ({"amount": {"minorUnits": 5, "currency": "XXX"}}, "amount.currency"),
    "small currency": ({"amount": {"minorUnits": 5, "currency": "eur"}}, "amount.currency"),
    "numeric currency": ({"amount": {"minorUnits": 5, "currency": 978}}, "amount.currency"),
    "long currency": ({"amount": {"minorUnits": 5, "currency": "EURO"}}, "amount.currency"),
    "empty key": ({"idempotencyKey": ""}, "idempotencyKey"),
    "long key": ({"idempotencyKey": "k" * 256}, "idempotencyKey"),
    "unprintable key": ({"idempotencyKey": "a\nb"}, "idempotencyKey"),
    "key beyond ASCII": ({"idempotencyKey": "schlüssel"}, "idempotencyKey"),
    "long reference": ({"reference": "x" * 141}, "reference"),
    "unprintable reference": ({"reference": "a\u0000b"}, "reference"),
    "payer is no account id": ({"fromAccountId": "my account"}, "fromAccountId"),
    "payer is a short id": ({"fromAccountId": "acc_"}, "fromAccountId"),
    "payer is a system account": ({"fromAccountId": "sys:cash:EUR"}, "fromAccountId"),
    "payee is no account id": ({"to": {"accountId": "somebody"}}, "to.accountId"),
    "payee is a system account": ({"to": {"accountId": "sys:fees:EUR"}}, "to.accountId"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_payments(client: Client, server: Server, people: list[Person], case: str) -> None:
    """A value of the wrong shape is InvalidInput that names the field; the key is not used up, nothing is written."""
    fields, field = MALFORMED[case]
    before = counted(server.path, *ALL)
    answer = client.transfer(**changed(people[0], people[1].username, **fields))
    assert (answer["__typename"], [one["path"] for one in answer["problems"]]) == ("InvalidInput", [field.split(".")])
    assert counted(server.path, *ALL) == before


UNREADABLE: dict[str, dict[str, Any]] = {
    "null for a number": {"amount": {"minorUnits": None, "currency": "EUR"}},
    "no amount": {"amount": None},
    "two payees": {"to": {"username": "ann", "accountId": ABSENT}},
    "no payee": {"to": {}},
    "null payee": {"to": {"username": None}},
    "unknown field": {"colour": "blue"},
    "list as key": {"idempotencyKey": ["k"]},
    "null key": {"idempotencyKey": None},
    "number as reference": {"reference": 5},
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_payments(client: Client, server: Server, people: list[Person], case: str) -> None:
    """What the schema itself excludes is a bad request, and nothing is written."""
    before = counted(server.path, *ALL)
    variables = {"input": changed(people[0], people[1].username, **UNREADABLE[case])}
    assert client.codes(TRANSFER, variables) == {"BAD_REQUEST"}
    assert counted(server.path, *ALL) == before


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "to nobody": ({"to": {"username": "nobody-of-that-name"}}, "PAYEE_NOT_FOUND"),
    "to an impossible name": ({"to": {"username": "?"}}, "PAYEE_NOT_FOUND"),
    "to an absent account": ({"to": {"accountId": ABSENT}}, "PAYEE_NOT_FOUND"),
    "from an absent account": ({"fromAccountId": ABSENT}, "ACCOUNT_NOT_FOUND"),
    "wrong currency": ({"amount": {"minorUnits": 5, "currency": "USD"}}, "CURRENCY_MISMATCH"),
    "too much": ({"amount": {"minorUnits": 10**15, "currency": "EUR"}}, "INSUFFICIENT_FUNDS"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_payments(client: Client, server: Server, people: list[Person], case: str) -> None:
    """The ledger's refusals are typed, move nothing, and are the same when the key comes again."""
    fields, code = REFUSED[case]
    before = counted(server.path, *MONEY)
    payment = changed(people[0], people[1].username, **fields)
    first, second = client.transfer(**payment), client.transfer(**payment)
    assert first == second
    assert first["code"] == code
    assert counted(server.path, *MONEY) == before


def test_paying_oneself(client: Client, server: Server, people: list[Person]) -> None:
    """Payer and payee must differ, by name and by account."""
    before = counted(server.path, *MONEY)
    for to in ({"username": people[0].username}, {"accountId": people[0].account_id}):
        assert client.transfer(**changed(people[0], "", to=to))["code"] == "SAME_ACCOUNT"
    assert counted(server.path, *MONEY) == before


def test_other_peoples_accounts_look_absent(client: Client, server: Server, people: list[Person]) -> None:
    """Another user's account id gets the same answer as an id that does not exist."""
    before = counted(server.path, *MONEY)
    account = "query($id: ID!) { account(id: $id) { id } }"
    answers = []
    for id_ in (people[1].account_id, ABSENT):
        assert client.run(account, {"id": id_}) is None
        refused = client.transfer(**changed(people[0], people[1].username, fromAccountId=id_))
        answers.append({name: str(value).replace(id_, "ID") for name, value in refused.items()})
    assert answers[0] == answers[1]
    assert counted(server.path, *MONEY) == before


BAD_SIGN_UPS = [
    ({"username": "ab"}, "username"),
    ({"username": "a b c"}, "username"),
    ({"username": "x" * 33}, "username"),
    ({"username": "ünsal"}, "username"),
    ({"email": "nobody"}, "email"),
    ({"email": f"{'x' * 250}@example.org"}, "email"),
    ({"password": "short"}, "password"),
    ({"password": "x" * 129}, "password"),
]


@pytest.mark.parametrize(("fields", "field"), BAD_SIGN_UPS, ids=range(len(BAD_SIGN_UPS)))
def test_bad_sign_ups(client: Client, server: Server, fields: dict[str, str], field: str) -> None:
    """Names, addresses and passwords of the wrong shape are refused by field; no record is written."""
    before = counted(server.path, *ALL)
    name = new_name()
    given = {"username": name, "email": f"{name}@example.org", "password": PASSWORD, **fields}
    answer = client.run(SIGN_UP, {"input": given})
    assert (answer["__typename"], [one["path"] for one in answer["problems"]]) == ("InvalidInput", [[field]])
    assert "password" not in fields or fields["password"] not in answer["message"]
    assert counted(server.path, *ALL) == before


@pytest.mark.parametrize("login", ["", "?", "@", "x" * 10_000, "' OR 1=1 --", "a@b"])
def test_bad_log_ins(client: Client, login: str) -> None:
    """A login that cannot exist gets the answer of a wrong password."""
    answer = client.run(LOG_IN, {"input": {"login": login, "password": "x" * 10_000}})
    assert answer["code"] == "INVALID_CREDENTIALS"


FORGED = ["", "x", "wgs_", "wgs_" + "0" * 46, "wgs_fff" + "A" * 43, "wgs_zzz" + "A" * 43, "wgs_" + "A" * 5000, "ünï"]


@pytest.mark.parametrize("token", FORGED, ids=range(len(FORGED)))
def test_forged_credentials(server: Server, people: list[Person], token: str) -> None:
    """A forged token, as bearer or cookie, is UNAUTHENTICATED for everything that needs a user."""
    payment = {"input": people[0].pay(people[1].username, 5)}
    before = counted(server.path, *ALL)
    requests = ((VIEWER, None), (TRANSFER, payment), (OPEN_ACCOUNT, {"input": {"currency": "USD"}}))
    for name, value in (("Authorization", f"Bearer {token}".strip()), ("Cookie", f"__Host-wallet={token}")):
        with Client(server.url) as client:
            client.http.headers.update({name.encode(): value.encode(), b"sec-fetch-site": b"same-origin"})
            for query, variables in requests:
                (error,) = client.errors(query, variables)
                assert (error["extensions"]["code"], error["extensions"]["retryable"]) == ("UNAUTHENTICATED", False)
    assert counted(server.path, *ALL) == before


@pytest.mark.parametrize("scheme", ["Basic {}", "{}", "Bearer", "Token {}"])
def test_other_ways_to_authorise(server: Server, people: list[Person], scheme: str) -> None:
    """Only `Bearer TOKEN` counts; a header of another kind is not made up for by a cookie."""
    with Client(server.url) as client:
        client.http.headers["Authorization"] = scheme.format(people[0].token)
        client.http.headers["Cookie"] = f"__Host-wallet={people[0].token}"
        assert client.codes(VIEWER) == {"UNAUTHENTICATED"}


def test_expired_sessions(server: Server) -> None:
    """A session whose time is over is UNAUTHENTICATED, whether or not a sweep removed it."""
    (person,) = settle_all(server.storage, 0)
    digest = hashlib.sha256(person.token.encode()).hexdigest()
    with Client(server.url, person.token) as client:
        assert client.run(VIEWER)["username"] == person.username
        with closing(sqlite3.connect(server.path)) as connection, connection:
            set_back = "UPDATE records SET body = json_set(body, '$.seen_at', 0, '$.created_at', 0) WHERE id = ?"
            assert connection.execute(set_back, (digest,)).rowcount == 1
        deadline = time.monotonic() + patience(30)
        while "errors" not in client.post(VIEWER).json():  # queries trust a session for a second
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert client.codes(VIEWER) == {"UNAUTHENTICATED"}
        with closing(sqlite3.connect(server.path)) as connection, connection:
            connection.execute("UPDATE records SET due_at = 0 WHERE id = ?", (digest,))
        assert client.codes(VIEWER) == {"UNAUTHENTICATED"}
        with closing(sqlite3.connect(server.path)) as connection:  # other tests count records: let the sweep be done
            while connection.execute("SELECT 1 FROM records WHERE id = ?", (digest,)).fetchone():
                time.sleep(0.05)


BODIES = {
    "cut off": b'{"query": "{ __typename',
    "no JSON": b"query { viewer { id } }",
    "invalid UTF-8": b'{"query": "\xff\xfe"}',
    "lone surrogate": b'{"query": "{ __typename }", "variables": {"x": "\\ud800"}}',
    "NaN": b'{"query": "{ __typename }", "variables": {"x": NaN}}',
    "nested beyond reason": b"[" * 100_000,
    "empty": b"",
    "text": b'"{ __typename }"',
    "number": b"123",
    "null": b"null",
    "true": b"true",
    "list": b'[{"query": "{ __typename }"}]',
    "empty object": b"{}",
    "query is a number": b'{"query": 5}',
    "query is empty": b'{"query": ""}',
    "variables are a list": b'{"query": "{ __typename }", "variables": [1]}',
    "variables are text": b'{"query": "{ __typename }", "variables": "{}"}',
    "extensions are a list": b'{"query": "{ __typename }", "extensions": []}',
    "operationName is a number": b'{"query": "{ __typename }", "operationName": 3}',
    "operationName is an object": b'{"query": "{ __typename }", "operationName": {}}',
}


@pytest.mark.parametrize("case", BODIES)
def test_bodies_that_are_no_request(client: Client, server: Server, case: str) -> None:
    """Broken JSON and JSON that is no GraphQL request are a 400 with a JSON error that says what is wrong."""
    before = counted(server.path, *ALL)
    response = client.http.post("/graphql", content=BODIES[case], headers=JSON)
    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert error["extensions"]["code"] == "BAD_REQUEST"
    assert len(error["message"]) > 10
    assert "Traceback" not in response.text
    assert counted(server.path, *ALL) == before


MEDIA_TYPES = [
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/application/json",
    "application/json+x",
    "application/graphql",
    "application",
    "",
]


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_other_media_types(client: Client, media_type: str) -> None:
    """A body is JSON and says so, else 415; a charset may follow."""
    body = b'{"query": "{ __typename }"}'
    refused = client.http.post("/graphql", content=body, headers={"Content-Type": media_type})
    assert (refused.status_code, refused.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    for fine in ("application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"):
        assert client.http.post("/graphql", content=body, headers={"Content-Type": fine}).status_code == 200


@pytest.mark.parametrize("size", [256 * 1024 + 1, 10_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_large_bodies(client: Client, server: Server, size: int, chunked: bool) -> None:
    """A body over 256 KiB is a 413 that says so, whether its length is declared or not; the server goes on."""
    start, end = b'{"query": "{ __typename } #', b'"}'
    body = start + b"x" * (size - len(start) - len(end)) + end
    parts = (body[n : n + 65_536] for n in range(0, len(body), 65_536))
    response = client.http.post("/graphql", content=parts if chunked else body, headers=JSON)
    assert (response.status_code, response.json()["code"]) == (413, "REQUEST_ENTITY_TOO_LARGE")
    assert "262144" in response.json()["detail"]
    assert response.headers["x-request-id"] == response.json()["requestId"]
    assert client.run("{ __typename }") == "Query"
    assert "Traceback" not in server.log


def test_the_largest_body_passes(client: Client) -> None:
    """A body of exactly 256 KiB is answered."""
    start, end = b'{"query": "{ __typename }", "extensions": {"x": "', b'"}}'
    body = start + b"x" * (256 * 1024 - len(start) - len(end)) + end
    assert client.http.post("/graphql", content=body, headers=JSON).json()["data"] == {"__typename": "Query"}


def test_all_at_once(server: Server, people: list[Person]) -> None:
    """A crowd of bad requests at once is refused one by one, and good ones among them pass."""
    good = {"query": TRANSFER, "variables": {"input": people[0].pay(people[1].username, 1, new_key())}}
    bad = {"query": TRANSFER, "variables": {"input": people[0].pay(people[1].username, 0, new_key())}}

    async def work() -> list[httpx.Response]:
        headers = {"Authorization": f"Bearer {people[0].token}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=patience(30)) as client:
            requests = [client.post("/graphql", json=body) for _ in range(20) for body in (good, bad)]
            requests += [client.post("/graphql", content=b"{", headers=JSON) for _ in range(20)]
            return await asyncio.gather(*requests)

    before = counted(server.path, *MONEY)
    answers = asyncio.run(work())
    assert sorted(answer.status_code for answer in answers) == [200] * 40 + [400] * 20
    assert counted(server.path, *MONEY)["transfers"] == before["transfers"] + 1
