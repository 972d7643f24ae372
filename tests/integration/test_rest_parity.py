"""What GraphQL can, REST can: every operation has a route or a reason."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from graphql import get_named_type, is_enum_type

from tests.integration._graphql import wallet_in
from tests.integration._rest import Rest, client_of, code_of
from tests.integration._server import PASSWORD, Person, Server, new_key, new_name, settle, settle_all
from wallet_gql.domain.ids import AccountId, UserId
from wallet_gql.storage import PageRequest
from wallet_gql.testing.patience import patience
from wallet_gql.transports.catalogue.errors import ENUMS, camel
from wallet_gql.transports.graphql.errors import type_of
from wallet_gql.transports.graphql.schema import schema
from wallet_gql.transports.rest.history import COLUMNS
from wallet_gql.transports.rest.routes import OPERATIONS, openapi_text
from wallet_gql.transports.rest.views import View
from wallet_gql.verbs.ledger import To
from wallet_gql.verbs.parties import Direction

pytestmark = pytest.mark.serving(proved=True)

CORE: Final = schema._schema
DOCUMENT: Final[dict[str, Any]] = json.loads(openapi_text())
ROUTES: Final = {operation.name: operation for operation in OPERATIONS}

CALLED: Final = {
    "account": "readAccount",
    "hold": "readHold",
    "merchant": "findMerchant",
    "topUp": "readTopUp",
    "transferByIdempotencyKey": "findTransfer",
    "viewer": "readUser",
    "withdrawal": "readWithdrawal",
}
"""The routes of fields that have another name in REST. `topUp` is a mutation, too: `beginTopUp`."""

LEFT_OUT: Final = {
    "accountEvents": "`viewerEvents` has them all",
    "backend": "is for developers and operators, who have GraphQL and the command line",
    "node": "each kind of thing has a path of its own",
    "nodes": "the same",
    "user": "`payee` says all that is needed to pay the right one",
}
"""The fields of GraphQL's roots that have no route, and why."""

SPAN: Final = {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}


def roots() -> Iterator[str]:
    """Every field of a root of GraphQL."""
    for root in (CORE.query_type, CORE.mutation_type, CORE.subscription_type):
        assert root is not None
        yield from root.fields


def test_every_operation_of_graphql_has_a_route_or_a_reason() -> None:
    """No field is forgotten, and no exception is left when its route is there."""
    missing = {name for name in roots() if CALLED.get(name, name) not in ROUTES}
    assert missing == set(LEFT_OUT)
    assert "beginTopUp" in ROUTES
    assert set(CALLED) <= set(roots())


def enums_of(value: Any) -> Iterator[list[str]]:
    """Every enum below a part of the file; a default must be a member."""
    if isinstance(value, dict):
        if isinstance(value.get("enum"), list):
            assert value.get("default", value["enum"][0]) in value["enum"]
            yield value["enum"]
        for inner in value.values():
            yield from enums_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from enums_of(inner)


def test_enums_are_written_as_in_graphql() -> None:
    """Each enum of the OpenAPI file has the members of one of GraphQL's."""
    known = {frozenset(one.values) for one in CORE.type_map.values() if is_enum_type(one)}
    found = {frozenset(names) for names in enums_of(DOCUMENT) if names[0] != "AED"}
    assert found <= known
    assert len(found) > 10
    for (kind, name), members in ENUMS.items():
        typed = type_of(kind)
        shown = CORE.type_map[typed.__name__] if typed else None
        field = next((f for n, f in getattr(shown, "fields", {}).items() if n == camel(name)), None)
        if field is not None and is_enum_type(get_named_type(field.type)):
            assert set(get_named_type(field.type).values) == set(members.__members__)


def test_numbers_that_may_be_large_are_text() -> None:
    """What is a `BigInt` in GraphQL is text in REST: nothing of 64 bits is a JSON number in an answer."""
    output = [kind for name, kind in CORE.type_map.items() if not name.endswith("Input")]
    fields = [item for kind in output for item in getattr(kind, "fields", {}).items()]
    large = {name for name, field in fields if str(getattr(field, "type", "")).startswith("BigInt")}
    assert {"minorUnits", "sequence", "version"} <= large
    for name, model in DOCUMENT["components"]["schemas"].items():
        for member, about in model.get("properties", {}).items():
            if member in large and model.get("additionalProperties") is not False:
                assert about["type"] == "string", (name, member)


def newcomer(**given: str) -> dict[str, str]:
    """The body of a sign-up."""
    name = new_name()
    return {"username": name, "email": f"{name}@example.org", "password": PASSWORD, **given}


@pytest.mark.parametrize("kind", ["", "COOKIE", "BEARER"])
def test_a_newcomer_is_logged_in(server: Server, kind: str) -> None:
    """Signing up begins a session: by default in the cookie, or as a token."""
    body, is_bearer = newcomer(**({"session": kind} if kind else {})), kind == "BEARER"
    with httpx.Client(base_url=server.url, timeout=patience(30)) as http:
        made = http.post("/v1/user", json=body)
        told, cookies = made.json(), made.headers.get_list("set-cookie")
        assert (made.status_code, told["user"]["username"], bool(told["token"])) == (201, body["username"], is_bearer)
        assert (bool(cookies), told["expiresAt"] is None) == (not is_bearer, False)
        http.cookies.clear()
        cookie = cookies[0].partition(";")[0] if cookies else ""
        browser = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
        http.headers.update({"Authorization": f"Bearer {told['token']}"} if is_bearer else browser)
        assert http.get("/v1/user").json() == told["user"]
        events = http.get("/v1/event").json()["events"]
        assert sorted(event["kind"] for event in events) == ["LOGGED_IN", "SIGNED_UP"]
        (session,) = http.get("/v1/session").json()["sessions"]
        assert (session["kind"], session["current"]) == (kind or "COOKIE", True)
        taken = http.post("/v1/user", json=body)
        assert code_of(taken) == (409, "USERNAME_TAKEN")
        assert "set-cookie" not in taken.headers
        assert code_of(http.post("/v1/user", json=newcomer(session="bearer"))) == (400, "INVALID_INPUT")


def log_in(server: Server, rest: Rest, password: str = PASSWORD) -> httpx.Client:
    """Another session of the same user."""
    made = httpx.post(
        f"{server.url}/v1/session",
        json={"login": rest.person.username, "password": password, "session": "BEARER"},
    )
    headers = {"Authorization": f"Bearer {made.json()['token']}"}
    return httpx.Client(base_url=server.url, headers=headers, timeout=patience(30))


def test_sessions(server: Server, ann: Rest) -> None:
    """Sessions are listed page by page, ended one by one or all at once; a new password ends the others."""
    with log_in(server, ann) as second, log_in(server, ann) as third:
        first = ann.get("/v1/session", first=2)
        rest = ann.get("/v1/session", first=2, after=first["next"])
        listed = [*first["sessions"], *rest["sessions"]]
        assert (len(listed), rest["next"], sum(one["current"] for one in listed)) == (3, None, 1)
        newest = listed[0]["id"]
        for _ in range(2):
            assert ann.ask("DELETE", f"/v1/session/{newest}").status_code == 200
        assert third.get("/v1/user").status_code == 401
        assert ann.ask("DELETE", f"/v1/session/{'0' * 64}").json() == {"ended": False}

        wrong = ann.ask("PUT", "/v1/user/password", json={"oldPassword": "x", "newPassword": "a new pass phrase 7"})
        assert code_of(wrong) == (401, "INVALID_CREDENTIALS")
        weak = ann.ask("PUT", "/v1/user/password", json={"oldPassword": PASSWORD, "newPassword": "password1"})
        assert (code_of(weak), weak.json()["field"]) == ((400, "INVALID_INPUT"), "newPassword")
        new = "a new pass phrase 7"
        changed = ann.ask("PUT", "/v1/user/password", json={"oldPassword": PASSWORD, "newPassword": new})
        assert (changed.status_code, changed.json()["username"]) == (200, ann.person.username)
        assert second.get("/v1/user").status_code == 401
        with log_in(server, ann, new) as fourth:
            assert ann.ask("POST", "/v1/session/end-all", json={"keepThis": True}).json() == {"ended": 1}
            assert fourth.get("/v1/user").status_code == 401
        assert ann.ask("POST", "/v1/session/end-all", json={}).json() == {"ended": 1}
        assert ann.ask("GET", "/v1/user").status_code == 401


def test_before_paying(ann: Rest, bob: Rest) -> None:
    """Currencies, whom a name stands for, and what a payment would do: nothing is moved."""
    listed = ann.get("/v1/currency")["currencies"]
    assert {"code": "KWD", "exponent": 3} in listed
    found = ann.get("/v1/payee", username=bob.person.username.upper())
    assert found == {
        "kind": "USER",
        "name": bob.person.username,
        "username": bob.person.username,
        "currencies": ["EUR"],
    }
    assert code_of(ann.ask("GET", "/v1/payee", params={"username": "nobody-here"})) == (404, "PAYEE_NOT_FOUND")

    given = ann.payment(bob.person.username, "250")
    shown = ann.ask("POST", "/v1/preview", json=given)
    assert shown.status_code == 200
    assert {name: shown.json()[name]["minorUnits"] for name in ("amount", "fee", "received", "remaining")} == {
        "amount": "250",
        "fee": "0",
        "received": "250",
        "remaining": "99750",
    }
    poor = ann.ask("POST", "/v1/preview", json=ann.payment(bob.person.username, 100_001)).json()
    assert (poor["refusal"]["code"], poor["refusal"]["retryable"], poor["amount"]) == (
        "INSUFFICIENT_FUNDS",
        False,
        None,
    )
    assert poor["refusal"]["availableMinor"] == "100000"
    for to in ({}, {"username": "x", "merchant": "y"}, {"accountId": "acc_1"}):
        assert code_of(ann.ask("POST", "/v1/preview", json={**given, "to": to})) == (400, "INVALID_INPUT")
    nobody = ann.ask("POST", "/v1/preview", json={**given, "to": {"merchant": bob.person.username}}).json()
    assert nobody["refusal"]["code"] == "NOT_A_MERCHANT"
    assert ann.balance() == ("100000", "0")


def test_batches(ann: Rest, bob: Rest) -> None:
    """A batch moves all or none, or each by itself; the same batch again is the same answer and moves nothing."""

    def batch(mode: str, *amounts: Any, keys: list[str] | None = None) -> dict[str, Any]:
        named = keys or [new_key() for _ in amounts]
        items = [
            {**ann.payment(bob.person.username, amount), "idempotencyKey": key}
            for amount, key in zip(amounts, named, strict=True)
        ]
        return {"mode": mode, "items": items}

    atomic = batch("ATOMIC", 100, "200")
    first, again = (ann.ask("POST", "/v1/transfer/batch", json=atomic) for _ in range(2))
    assert (first.status_code, first.json()["complete"]) == (200, True)
    assert [one["transfer"]["amount"]["minorUnits"] for one in first.json()["results"]] == ["100", "200"]
    assert [one["replayed"] for one in again.json()["results"]] == [True, True]
    assert ann.balance() == ("99700", "0")
    key = atomic["items"][0]["idempotencyKey"]
    assert ann.get("/v1/transfer", idempotencyKey=key)["transfer"] == first.json()["results"][0]["transfer"]

    aborted = ann.ask("POST", "/v1/transfer/batch", json=batch("ATOMIC", 1, 10**9)).json()
    assert [one["refusal"]["code"] for one in aborted["results"]] == ["BATCH_ABORTED", "INSUFFICIENT_FUNDS"]
    each = ann.ask("POST", "/v1/transfer/batch", json=batch("INDEPENDENT", 10**9, 5)).json()
    assert (each["complete"], [one["transfer"] is None for one in each["results"]]) == (False, [True, False])
    assert ann.balance() == ("99695", "0")

    same = new_key()
    for wrong in (
        {"mode": "ATOMIC", "items": []},
        batch("ATOMIC", 1, 2, keys=[same, same]),
        batch("atomic", 1),
        batch("ATOMIC", *([1] * 101)),
        {"mode": "INDEPENDENT", "items": [{**item, "reference": "x" * 141} for item in batch("ATOMIC", 1)["items"]]},
    ):
        assert code_of(ann.ask("POST", "/v1/transfer/batch", json=wrong)) == (400, "INVALID_INPUT")
    bad_key = ann.ask("POST", "/v1/transfer/batch", json=batch("ATOMIC", 1, 2, keys=["a", "\x07"]))
    assert bad_key.json()["problems"][0]["path"] == ["items", "1", "idempotencyKey"]
    assert ann.balance() == ("99695", "0")


def test_lists_of_holds(ann: Rest, bob: Rest) -> None:
    """Both sides see a hold, newest first, by direction and state."""
    places = []
    for minor in (10, 20, 30):
        body = ann.payment(bob.person.username, minor, expiresInSeconds=600)
        places.append(ann.ask("POST", "/v1/hold", key=new_key(), json=body).json()["hold"]["id"])
    assert bob.ask("POST", f"/v1/hold/{places[0]}/void", key=new_key()).status_code == 200
    for person, way in ((ann, "OUT"), (bob, "IN")):
        first = person.get("/v1/hold", first=2)
        rest = person.get("/v1/hold", first=2, after=first["next"])
        assert [one["id"] for one in first["holds"] + rest["holds"]] == places[::-1]
        assert {one["direction"] for one in first["holds"]} == {way}
        assert {one["closable"] for one in first["holds"]} == {way == "IN"}
        assert [one["id"] for one in person.get("/v1/hold", state="VOIDED")["holds"]] == places[:1]
        assert len(person.get("/v1/hold", state=["VOIDED", "OPEN"], direction=way)["holds"]) == 3
        assert person.get("/v1/hold", direction="IN" if way == "OUT" else "OUT") == {"holds": [], "next": None}
    for wrong in ({"state": "open"}, {"direction": "BOTH"}, {"after": "x"}):
        assert code_of(ann.ask("GET", "/v1/hold", params=wrong)) == (400, "INVALID_INPUT")


def test_closing_an_account(ann: Rest, bob: Rest) -> None:
    """Only an empty account closes, for good; other people's accounts look absent."""
    place = f"/v1/account/{ann.person.account_id}"
    full = ann.ask("POST", f"{place}/close")
    assert code_of(full) == (409, "ACCOUNT_NOT_EMPTY")
    assert code_of(bob.ask("POST", f"{place}/close")) == (404, "ACCOUNT_NOT_FOUND")
    ann.pay(bob.person.username, 100_000)
    closed = ann.ask("POST", f"{place}/close")
    assert (closed.status_code, closed.json()["account"]["state"]) == (200, "CLOSED")
    assert ann.get(place) == closed.json()["account"]
    assert code_of(ann.ask("POST", f"{place}/close")) == (409, "ACCOUNT_CLOSED")


def test_history_of_all_accounts(ann: Rest, bob: Rest) -> None:
    """A walk over all accounts sees every entry once, newest first; filters narrow it."""
    for number in range(5):
        ann.pay(bob.person.username, 100 + number, reference=f"Lunch {number}")
    assert ann.ask("POST", "/v1/account", json={"currency": "JPY"}).status_code == 201
    seen, after = [], None
    while True:
        page = ann.get("/v1/entry", first=2, **({} if after is None else {"after": after}))
        seen += [int(one["sequence"]) for one in page["entries"]]
        after = page["next"]
        if after is None:
            break
    assert seen == [6, 5, 4, 3, 2, 1]
    for given, count in (
        ({"kind": "DEPOSIT"}, 1),
        ({"counterparty": bob.person.username}, 5),
        ({"counterparty": "nobody-here"}, 0),
        ({"reference": "lunch 3"}, 1),
        ({"minMinorUnits": "102", "maxMinorUnits": "103"}, 2),
    ):
        assert len(ann.get("/v1/entry", **given)["entries"]) == count, given
        own = f"/v1/account/{ann.person.account_id}/entry"
        assert len(ann.get(own, **given)["entries"]) == count, given
    for wrong in ({"after": "1"}, {"after": "x~"}, {"reference": "x" * 141}, {"minMinorUnits": "-1"}):
        assert code_of(ann.ask("GET", "/v1/entry", params=wrong)) == (400, "INVALID_INPUT")
    foreign = bob.get("/v1/entry", first=2)
    assert {one["transfer"]["accountId"] for one in foreign["entries"]} == {bob.person.account_id}
    stolen = ann.get("/v1/entry", after=foreign["next"])
    assert stolen == {"entries": [], "next": None}


def test_statements(ann: Rest, bob: Rest) -> None:
    """Opening and all entries make closing, as data and as CSV, which no spreadsheet runs; a summary adds them up."""
    for reference in ("=1+1", 'a "quote", and more', "plain"):
        ann.pay(bob.person.username, 100, reference=reference)
    place = f"/v1/account/{ann.person.account_id}"
    page = ann.get(f"{place}/statement", **SPAN, first=3)
    rest = ann.get(f"{place}/statement", **SPAN, first=3, after=page["next"])
    assert (page["opening"]["minorUnits"], page["closing"]["minorUnits"], rest["next"]) == ("0", "99700", None)
    entries = page["entries"] + rest["entries"]
    assert sum(int(one["amount"]["minorUnits"]) for one in entries) == 99_700

    file = ann.ask("GET", f"{place}/statement.csv", params=SPAN)
    assert (file.status_code, file.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert file.headers["content-disposition"] == 'attachment; filename="statement-EUR-2020-01-01-2100-01-01.csv"'
    head, *rows = csv.reader(io.StringIO(file.text, newline=""))
    assert head == list(COLUMNS)
    assert [row[COLUMNS.index("transferId")] for row in rows] == [one["transfer"]["id"] for one in entries[::-1]]
    assert [row[4] for row in rows] == ["", "'=1+1", 'a "quote", and more', "plain"]
    assert [row[5:8] for row in rows][-1] == ["-1.00", "EUR", "997.00"]

    by_kind = ann.get(f"{place}/summary", **SPAN, by="KIND")
    assert (by_kind["complete"], [one["kind"] for one in by_kind["groups"]]) == (True, ["DEPOSIT", "TRANSFER"])
    by_other = ann.get(f"{place}/summary", **SPAN, by="COUNTERPARTY")["groups"]
    assert {one["counterparty"]["name"] for one in by_other} == {"system", bob.person.username}
    assert ann.get(f"{place}/summary", **SPAN, by="MONTH")["groups"][0]["spent"]["minorUnits"] == "300"
    backwards = {"since": SPAN["until"], "until": SPAN["since"]}
    for path in ("statement", "statement.csv", "summary?by=KIND"):
        where, _, query = path.partition("?")
        params = dict([query.split("=")]) if query else {}
        answer = ann.ask("GET", f"{place}/{where}", params={**backwards, **params})
        assert code_of(answer) == (400, "INVALID_INPUT")
        assert code_of(ann.ask("GET", f"{place}/{where}", params=params)) == (400, "INVALID_INPUT")
        assert code_of(bob.ask("GET", f"{place}/{where}", params={**SPAN, **params})) == (404, "ACCOUNT_NOT_FOUND")


async def test_an_entry_is_of_its_account(tmp_path: Path) -> None:
    """Which side it is on does not depend on whether the parties could be read."""
    async with wallet_in(tmp_path) as wallet:
        payer, payee = await settle(wallet, 1_000), await settle(wallet)
        to, source = To(username=payee.username), AccountId(payer.account_id)
        await wallet.ledger.transfer(
            UserId(payer.id), new_key(), source=source, to=to, amount_minor=10, currency="EUR", reference=""
        )
        for person, direction in ((payer, Direction.OUT), (payee, Direction.IN)):
            (line, *_) = (await wallet.store.list_transfers(AccountId(person.account_id), PageRequest(1))).items
            shown = View(UserId(person.id), wallet.ledger.clock(), {}).entry(line).transfer
            assert (shown.direction, shown.account_id) == (direction, person.account_id)


@asynccontextmanager
async def stream(server: Server, person: Person, **headers: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The events of somebody's stream, each with its name and its id."""
    given = {"Authorization": f"Bearer {person.token}", **headers}
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=patience(30)) as http,
        http.stream("GET", "/v1/viewer/events", headers=given) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield _events(answer.aiter_lines())


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    event: dict[str, Any] = {"event": "message"}
    async for line in lines:
        name, _, value = line.partition(": ")
        if line and name:
            event[name] = value
        elif "data" in event:
            yield {**event, "data": json.loads(event["data"])}
            event = {"event": "message"}


async def test_the_live_stream(server: Server) -> None:
    """The first event has all; what comes later comes once; a stream that was lost goes on where it was."""
    payer, payee = await asyncio.to_thread(settle_all, server.storage, 1_000, 0)

    def pay(minor: int) -> None:
        with client_of(server, payer) as http:
            assert Rest(http, payer).pay(payee.username, minor).status_code == 201

    async with asyncio.timeout(patience(60)), stream(server, payee) as events:
        first = await anext(events)
        assert (first["data"]["snapshot"], first["data"]["entries"]) == (True, [])
        assert [one["id"] for one in first["data"]["accounts"]] == [payee.account_id]
        assert first["id"] == first["data"]["cursor"]
        await asyncio.to_thread(pay, 10)
        event = await anext(events)
        assert [one["amount"]["minorUnits"] for one in event["data"]["entries"]] == ["10"]
        assert event["data"]["accounts"][0]["posted"]["minorUnits"] == "10"
    await asyncio.to_thread(pay, 20)
    async with asyncio.timeout(patience(60)), stream(server, payee, **{"Last-Event-ID": event["id"]}) as events:
        resumed = await anext(events)
        assert [one["amount"]["minorUnits"] for one in resumed["data"]["entries"]] == ["20"]
        with client_of(server, payee) as http:
            assert (await asyncio.to_thread(http.delete, "/v1/session")).status_code == 204
        ended = await anext(events)
        while ended["event"] != "problem":
            ended = await anext(events)
        assert (ended["data"]["status"], ended["data"]["code"]) == (401, "UNAUTHENTICATED")
        with pytest.raises(StopAsyncIteration):
            await anext(events)


def test_streams_that_are_refused(ann: Rest) -> None:
    """What is wrong is told before a stream begins: no session, no cursor, or a cursor of the future."""
    assert code_of(ann.ask("GET", "/v1/viewer/events", params={"after": "x"})) == (400, "INVALID_INPUT")
    assert code_of(httpx.get(f"{ann.http.base_url}/v1/viewer/events")) == (401, "UNAUTHENTICATED")


def test_spans_are_of_the_past(ann: Rest) -> None:
    """A span that ends in the future ends now."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    place = f"/v1/account/{ann.person.account_id}/statement"
    found = ann.get(place, since=tomorrow, until=tomorrow)
    assert (found["opening"], found["entries"]) == (found["closing"], [])
