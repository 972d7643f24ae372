"""REST through a real server: the whole flow, keys, bad input, other users' objects, paging, sessions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration._rest import Rest, client_of, code_of
from tests.integration._server import (
    PASSWORD,
    Client,
    Person,
    Server,
    counted,
    new_key,
    new_name,
    run_cli,
    serving,
    settle_all,
)
from wallet_gql.testing.patience import patience

pytestmark = pytest.mark.serving(proved=True)

TABLES = ("transfers", "entries", "receipts", "holds")
UNSEEN = "acc_01a20402c78872e2b9cb9e25e6844824"
"""An account id that nobody has."""


@pytest.fixture(scope="module")
def payer(server: Server, people: list[Person]) -> Iterator[Rest]:
    """The payer of all the tests that are refused."""
    with client_of(server, people[0]) as http:
        yield Rest(http, people[0])


@pytest.fixture
def payee(people: list[Person]) -> str:
    """The payee's username."""
    return people[1].username


@pytest.mark.smoke
def test_from_sign_up_to_the_history(server: Server, bob: Rest) -> None:
    """A newcomer signs up, logs in, opens an account, is given money, pays, and sees it; every 201 names a place."""
    name = new_name()
    with httpx.Client(base_url=server.url) as http:
        given = {"username": name, "email": f"{name}@example.org", "password": PASSWORD, "session": "NONE"}
        made = http.post("/v1/user", json=given)
        user = made.json()["user"]
        assert (made.status_code, user["username"], made.json()["token"]) == (201, name, None)
        assert "set-cookie" not in made.headers
        assert made.headers["location"] == "/v1/user"
        session = http.post("/v1/session", json={"login": name, "password": PASSWORD, "session": "BEARER"})
        assert session.status_code == 201
        http.headers["Authorization"] = f"Bearer {session.json()['token']}"
        assert http.get("/v1/user").json() == user

        opened = http.post("/v1/account", json={"currency": "EUR"})
        assert (opened.status_code, opened.json()["available"]["decimal"]) == (201, "0.00")
        account_id = opened.json()["id"]
        assert http.get(opened.headers["location"]).json() == opened.json()
        deposit = run_cli(server.path.parent, "deposit", name, "10.00", "EUR", storage=server.storage)
        assert deposit.returncode == 0

        ann = Rest(http, Person(user["id"], name, session.json()["token"], account_id))
        paid = ann.pay(bob.person.username, "250", reference="lunch")
        assert (paid.status_code, paid.json()["replayed"], paid.json()["credited"]) == (201, False, True)
        transfer = paid.json()["transfer"]
        assert transfer["amount"] == {"minorUnits": "250", "currency": "EUR", "decimal": "2.50"}
        assert (transfer["direction"], transfer["counterparty"]["username"]) == ("OUT", bob.person.username)
        assert http.get(paid.headers["location"]).json() == transfer
        assert bob.get(f"/v1/transfer/{transfer['id']}")["direction"] == "IN"

        listed = ann.get("/v1/account")
        assert listed["next"] is None
        assert [account["id"] for account in listed["accounts"]] == [account_id]
        first = listed["accounts"][0]
        assert first["posted"]["minorUnits"] == "750"
        assert [entry["amount"]["minorUnits"] for entry in first["entries"]] == ["-250", "1000"]
        assert first["entries"][0]["transfer"] == transfer
        assert first["entries"][1]["transfer"]["counterparty"] == {"kind": "WALLET", "name": "system", "username": None}


def test_keys(ann: Rest, bob: Rest) -> None:
    """The same request again is the first answer with 200; another one under the key is 422; a refusal is kept."""
    key, to = new_key(), bob.person.username
    first, again = ann.pay(to, 100, key), ann.pay(to, "100", key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "replayed": True}
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert first.headers["location"] == again.headers["location"]
    conflict = ann.pay(to, 101, key)
    assert code_of(conflict) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert conflict.json()["key"] == key

    poor = new_key()
    for _ in range(2):
        refused = bob.pay(ann.person.username, 10**9, poor)
        assert code_of(refused) == (409, "INSUFFICIENT_FUNDS")
        problem = refused.json()
        assert (problem["availableMinor"], problem["requiredMinor"]) == ("100", "1000000000")
        assert (problem["accountId"], problem["retryable"]) == (bob.person.account_id, False)

    known = ann.get("/v1/transfer", idempotencyKey=key)
    assert (known["operation"], known["transfer"], known["refusal"]) == ("transfer", first.json()["transfer"], None)
    known = bob.get("/v1/transfer", idempotencyKey=poor)
    assert (known["transfer"], known["refusal"]["code"]) == (None, "INSUFFICIENT_FUNDS")
    assert known["refusal"]["availableMinor"] == "100"
    absent = bob.ask("GET", "/v1/transfer", params={"idempotencyKey": key})
    assert code_of(absent) == (404, "KEY_UNKNOWN")
    assert "does not prove" in absent.json()["detail"]


def test_one_key_over_both_apis(server: Server, ann: Rest, bob: Rest) -> None:
    """A payment made over GraphQL is replayed over REST: it is one ledger, and the fingerprint is the same."""
    key, to = new_key(), bob.person.username
    with Client(server.url, ann.person.token) as graphql:
        made = graphql.transfer(**ann.person.pay(to, "77", key, reference="both"))
    again = ann.pay(to, 77, key, reference="both")
    assert (again.status_code, again.json()["transfer"]["id"]) == (200, made["transfer"]["id"])


def test_the_same_key_at_once(ann: Rest, bob: Rest) -> None:
    """Twenty clients send one payment under one key at once: it is made once, and all get the same transfer."""
    key, answers = new_key(), list[httpx.Response]()

    def send() -> None:
        with httpx.Client(base_url=ann.http.base_url, headers=ann.http.headers, timeout=patience(30)) as http:
            answers.append(Rest(http, ann.person).pay(bob.person.username, 10, key))

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["transfer"]["id"] for answer in answers}) == 1
    assert ann.balance() == ("99990", "0")


def test_holds(ann: Rest, bob: Rest) -> None:
    """Money is held, captured in part and the rest released; another hold is voided; each closes once."""
    body = ann.payment(bob.person.username, "300", expiresInSeconds=600, reference="deposit")
    key = new_key()
    placed = ann.ask("POST", "/v1/hold", key=key, json=body)
    assert (placed.status_code, placed.json()["hold"]["state"]) == (201, "OPEN")
    place = placed.headers["location"]
    assert ann.get(place) == placed.json()["hold"]
    assert bob.get(place) == {**placed.json()["hold"], "direction": "IN", "closable": True}
    assert ann.balance() == ("100000", "300")
    assert code_of(ann.ask("POST", f"{place}/capture", key=new_key(), json={})) == (403, "NOT_PERMITTED")
    too_much = bob.ask("POST", f"{place}/capture", key=new_key(), json={"minorUnits": 301})
    assert code_of(too_much) == (422, "CAPTURE_EXCEEDS_HOLD")
    assert too_much.json()["heldMinor"] == "300"

    capturing = new_key()
    captured = bob.ask("POST", f"{place}/capture", key=capturing, json={"minorUnits": "200"})
    assert (captured.status_code, captured.json()["transfer"]["kind"]) == (201, "CAPTURE")
    assert captured.json()["transfer"]["direction"] == "IN"
    again = bob.ask("POST", f"{place}/capture", key=capturing, json={"minorUnits": "200"})
    assert (again.status_code, again.json()) == (200, {**captured.json(), "replayed": True})
    assert (ann.balance(), bob.balance()) == (("99800", "0"), ("200", "0"))
    assert ann.get(place)["transferId"] == captured.json()["transfer"]["id"]
    assert code_of(bob.ask("POST", f"{place}/void", key=new_key())) == (409, "HOLD_NOT_OPEN")
    replayed = ann.ask("POST", "/v1/hold", key=key, json=body)
    assert (replayed.status_code, replayed.json()["hold"]) == (200, placed.json()["hold"])

    place = ann.ask("POST", "/v1/hold", key=new_key(), json=body).headers["location"]
    voiding = new_key()
    voided = [bob.ask("POST", f"{place}/void", key=voiding) for _ in range(2)]
    assert [answer.status_code for answer in voided] == [200, 200]
    assert [answer.headers.get("idempotent-replayed") for answer in voided] == [None, "true"]
    assert voided[0].json()["hold"]["state"] == "VOIDED"
    assert ann.balance() == ("99800", "0")


def test_reversals(ann: Rest, bob: Rest) -> None:
    """The payee sends back a part, then the rest, and never more than came; the payer may not."""
    place = ann.pay(bob.person.username, 500).headers["location"]
    assert code_of(ann.ask("POST", f"{place}/reversal", key=new_key(), json={})) == (403, "NOT_PERMITTED")
    part = bob.ask("POST", f"{place}/reversal", key=new_key(), json={"minorUnits": "200", "reference": "sorry"})
    assert (part.status_code, part.json()["transfer"]["kind"]) == (201, "REVERSAL")
    assert part.json()["transfer"]["reversesId"] == place.rpartition("/")[2]
    more = bob.ask("POST", f"{place}/reversal", key=new_key(), json={"minorUnits": 301})
    assert code_of(more) == (409, "REVERSAL_EXCEEDS_ORIGINAL")
    assert more.json()["remainingMinor"] == "300"
    assert bob.ask("POST", f"{place}/reversal", key=new_key(), json={}).status_code == 201
    assert (ann.balance(), bob.balance()) == (("100000", "0"), ("0", "0"))
    reversal = part.headers["location"]
    assert code_of(ann.ask("POST", f"{reversal}/reversal", key=new_key(), json={})) == (422, "NOT_REVERSIBLE")


BAD_BODIES: list[tuple[str, dict[str, Any], str]] = [
    ("a float", {"amount": {"minorUnits": 1.0, "currency": "EUR"}}, "INVALID_AMOUNT"),
    ("a bool", {"amount": {"minorUnits": True, "currency": "EUR"}}, "INVALID_AMOUNT"),
    ("text with a point", {"amount": {"minorUnits": "1.0", "currency": "EUR"}}, "INVALID_AMOUNT"),
    ("text with an exponent", {"amount": {"minorUnits": "1e3", "currency": "EUR"}}, "INVALID_AMOUNT"),
    ("a leading zero", {"amount": {"minorUnits": "01", "currency": "EUR"}}, "INVALID_AMOUNT"),
    ("white space", {"amount": {"minorUnits": " 1", "currency": "EUR"}}, "INVALID_AMOUNT"),
    ("digits of another script", {"amount": {"minorUnits": "\u0661", "currency": "EUR"}}, "INVALID_AMOUNT"),
    ("a negative amount", {"amount": {"minorUnits": "-1", "currency": "EUR"}}, "INVALID_AMOUNT"),
    ("zero", {"amount": {"minorUnits": 0, "currency": "EUR"}}, "INVALID_AMOUNT"),
    ("more than allowed", {"amount": {"minorUnits": 10**15 + 1, "currency": "EUR"}}, "INVALID_AMOUNT"),
    ("more than 64 bits", {"amount": {"minorUnits": 2**64, "currency": "EUR"}}, "INVALID_AMOUNT"),
    ("a huge amount", {"amount": {"minorUnits": "9" * 9000, "currency": "EUR"}}, "INVALID_AMOUNT"),
    ("no amount", {"amount": None}, "INVALID_INPUT"),
    ("an amount alone", {"amount": "100"}, "INVALID_INPUT"),
    ("no minor units", {"amount": {"minorUnits": None, "currency": "EUR"}}, "INVALID_AMOUNT"),
    ("no currency", {"amount": {"minorUnits": 1}}, "INVALID_INPUT"),
    ("an unknown currency", {"amount": {"minorUnits": 1, "currency": "XXX"}}, "INVALID_INPUT"),
    ("a currency in lower case", {"amount": {"minorUnits": 1, "currency": "eur"}}, "INVALID_INPUT"),
    ("an unknown member", {"note": "x"}, "INVALID_INPUT"),
    ("an unknown inner member", {"to": {"username": "ann", "iban": "x"}}, "INVALID_INPUT"),
    ("both payees", {"to": {"username": "ann", "accountId": UNSEEN}}, "INVALID_INPUT"),
    ("no payee", {"to": {}}, "INVALID_INPUT"),
    ("a payee that is null", {"to": {"username": None}}, "INVALID_INPUT"),
    ("a payee's bad id", {"to": {"accountId": "acc_1"}}, "INVALID_INPUT"),
    ("the wallet's own account", {"to": {"accountId": "sys:cash:EUR"}}, "INVALID_INPUT"),
    ("a payer's bad id", {"fromAccountId": "acc_1"}, "INVALID_INPUT"),
    ("a long reference", {"reference": "x" * 141}, "INVALID_INPUT"),
    ("a control character", {"reference": "a\x1b[2J"}, "INVALID_INPUT"),
    ("a reference that is null", {"reference": None}, "INVALID_INPUT"),
    ("a Python name", {"from_account_id": UNSEEN}, "INVALID_INPUT"),
]


@pytest.mark.parametrize(("change", "code"), [case[1:] for case in BAD_BODIES], ids=[case[0] for case in BAD_BODIES])
def test_bad_payments(server: Server, payer: Rest, payee: str, change: dict[str, Any], code: str) -> None:
    """A malformed payment is 400, names what is wrong, writes nothing and does not use up its key."""
    before, key = counted(server.path, *TABLES), new_key()
    answer = payer.ask("POST", "/v1/transfer", key=key, json={**payer.payment(payee, 1), **change})
    assert code_of(answer) == (400, "INVALID_INPUT"), answer.text
    assert answer.json()["reason"]
    (problem,) = answer.json()["problems"]
    assert problem["code"] == code
    assert (problem["path"] == ["amount", "minorUnits"]) == (code == "INVALID_AMOUNT")
    assert len(answer.content) < 1000
    assert counted(server.path, *TABLES) == before
    assert payer.pay(payee, 1, key).status_code == 201


@pytest.mark.parametrize(
    "key", [None, "", "a" * 256, "\xe9t\xe9", "a\tb"], ids=["none", "empty", "long", "latin", "tab"]
)
def test_bad_keys(payer: Rest, payee: str, key: str | None) -> None:
    """A money command without a usable key is 400."""
    raw = {} if key is None else {"Idempotency-Key": key.encode("latin-1")}
    body = json.dumps(payer.payment(payee, 1)).encode()
    headers = {"Content-Type": "application/json", **raw}
    answer = payer.ask("POST", "/v1/transfer", content=body, headers=headers)
    assert code_of(answer) == (400, "INVALID_INPUT")


def test_two_keys(payer: Rest, payee: str) -> None:
    """Two keys in one request are refused: nobody could say which one counts."""
    body = json.dumps(payer.payment(payee, 1)).encode()
    headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two"), ("Content-Type", "application/json")]
    answer = payer.http.post("/v1/transfer", content=body, headers=headers)
    assert code_of(answer) == (400, "INVALID_INPUT")


@pytest.mark.parametrize(
    ("content", "media_type", "expected"),
    [
        (b"{", "application/json", (400, "BAD_REQUEST")),
        (b"", "application/json", (400, "BAD_REQUEST")),
        (b"[]", "application/json", (400, "BAD_REQUEST")),
        (b'{"a": NaN}', "application/json", (400, "BAD_REQUEST")),
        (b'{"a": "\xff"}', "application/json", (400, "BAD_REQUEST")),
        (b"[" * 100_000, "application/json", (400, "BAD_REQUEST")),
        (b"{}", "application/json; charset=utf-8", (400, "INVALID_INPUT")),
        (b"{}", "text/plain", (415, "UNSUPPORTED_MEDIA_TYPE")),
        (b"{}", "application/x-www-form-urlencoded", (415, "UNSUPPORTED_MEDIA_TYPE")),
        (b"{}", "application/jsonp", (415, "UNSUPPORTED_MEDIA_TYPE")),
        (b"{}", "", (415, "UNSUPPORTED_MEDIA_TYPE")),
        (b" " * 300_000, "application/json", (413, "REQUEST_ENTITY_TOO_LARGE")),
    ],
    ids=["broken", "empty", "array", "NaN", "no UTF-8", "deep", "charset", "text", "form", "jsonp", "none", "large"],
)
def test_bad_requests(payer: Rest, content: bytes, media_type: str, expected: tuple[int, str]) -> None:
    """What is no JSON object of reasonable size is refused before anybody looks into it."""
    headers = {"Content-Type": media_type} if media_type else {}
    answer = payer.ask("POST", "/v1/transfer", key=new_key(), content=content, headers=headers)
    assert code_of(answer) == expected


def test_a_body_where_none_belongs(payer: Rest) -> None:
    """A body or a parameter that an operation does not take is refused, not ignored."""
    for method, path, more in (
        ("POST", "/v1/hold/hld_1/void", {"json": {"minorUnits": 1}, "key": new_key()}),
        ("GET", "/v1/user", {"params": {"id": "1"}}),
        ("GET", "/v1/account", {"params": {"limit": "1"}}),
        ("POST", "/v1/account?currency=EUR", {"json": {"currency": "EUR"}}),
    ):
        assert code_of(payer.ask(method, path, **more)) == (400, "INVALID_INPUT"), path


def test_methods(ann: Rest) -> None:
    """A method that a path lacks gets 405 with the allowed ones; an unknown path gets 404."""
    answer = ann.ask("PUT", "/v1/transfer")
    assert code_of(answer) == (405, "METHOD_NOT_ALLOWED")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "POST"}
    assert code_of(ann.ask("GET", "/v1/wallet")) == (404, "NOT_FOUND")


def test_what_others_have_looks_absent(server: Server, ann: Rest, bob: Rest) -> None:
    """Another's account, transfer and hold answer exactly as ones that do not exist, and as malformed ids do."""
    paid = ann.pay(bob.person.username, 100).json()["transfer"]["id"]
    held = ann.payment(bob.person.username, 1)
    hold = ann.ask("POST", "/v1/hold", key=new_key(), json=held).json()["hold"]["id"]
    other = settle_all(server.storage, 0)[0]
    with client_of(server, other) as http:
        stranger = Rest(http, other)
        for there, absent, path, code in (
            (ann.person.account_id, UNSEEN, "/v1/account/{}", "ACCOUNT_NOT_FOUND"),
            (ann.person.account_id, UNSEEN, "/v1/account/{}/entry", "ACCOUNT_NOT_FOUND"),
            (paid, f"{paid[:-1]}{int(paid[-1], 16) ^ 1:x}", "/v1/transfer/{}", "TRANSFER_NOT_FOUND"),
            (hold, f"{hold[:-1]}{int(hold[-1], 16) ^ 1:x}", "/v1/hold/{}", "HOLD_NOT_FOUND"),
        ):
            told = []
            for identifier in (there, absent, "nonsense"):
                answer = stranger.ask("GET", path.format(identifier))
                assert code_of(answer) == (404, code)
                told.append({k: v.replace(identifier, "") for k, v in answer.json().items() if isinstance(v, str)})
            assert len({frozenset((one | {"requestId": ""}).items()) for one in told}) == 1
        for path, code in (
            (f"/v1/hold/{hold}/capture", "HOLD_NOT_FOUND"),
            (f"/v1/transfer/{paid}/reversal", "TRANSFER_NOT_FOUND"),
        ):
            assert code_of(stranger.ask("POST", path, key=new_key(), json={})) == (404, code)
        assert code_of(stranger.ask("POST", f"/v1/hold/{hold}/void", key=new_key())) == (404, "HOLD_NOT_FOUND")
        stolen = {**stranger.payment(bob.person.username, 1), "fromAccountId": ann.person.account_id}
        answer = stranger.ask("POST", "/v1/transfer", key=new_key(), json=stolen)
        assert code_of(answer) == (404, "ACCOUNT_NOT_FOUND")


def test_paging(ann: Rest, bob: Rest) -> None:
    """A walk through a history sees every entry once, in order, while others arrive; the last page says so."""
    for number in range(12):
        assert ann.pay(bob.person.username, 1, reference=f"n{number}").status_code == 201
    path, seen, after = f"/v1/account/{ann.person.account_id}/entry", [], None
    while True:
        page = ann.get(path, first=5, **({} if after is None else {"after": after}))
        seen += [int(entry["sequence"]) for entry in page["entries"]]
        assert ann.pay(bob.person.username, 1).status_code == 201
        after = page["next"]
        if after is None:
            break
    assert seen == list(range(13, 0, -1))


def test_filters(ann: Rest, bob: Rest) -> None:
    """A history can be narrowed by kind and by time; since is inclusive, until is not."""
    ann.pay(bob.person.username, 5)
    path = f"/v1/account/{ann.person.account_id}/entry"
    entries = ann.get(path)["entries"]
    newest, oldest = entries[0], entries[-1]
    assert [entry["transfer"]["kind"] for entry in entries] == ["TRANSFER", "DEPOSIT"]
    assert ann.get(path, kind="DEPOSIT")["entries"] == [oldest]
    assert ann.get(path, kind=["DEPOSIT", "TRANSFER"])["entries"] == entries
    assert ann.get(path, kind="CAPTURE") == {"entries": [], "next": None}
    assert ann.get(path, since=newest["createdAt"])["entries"] == [newest]
    assert ann.get(path, until=newest["createdAt"])["entries"] == [oldest]
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).astimezone().isoformat()
    assert ann.get(path, until=tomorrow)["entries"] == entries
    assert ann.get(path, since=tomorrow)["entries"] == []


@pytest.mark.parametrize(
    "params",
    [
        {"first": "0"},
        {"first": "101"},
        {"first": "1.0"},
        {"first": "1_0"},
        {"first": " 1"},
        {"first": ["1", "2"]},
        {"after": "0"},
        {"after": "-1"},
        {"after": "9" * 30},
        {"after": "abc"},
        {"kind": "gift"},
        {"since": "yesterday"},
        {"since": "2026-01-01"},
        {"since": "2026-01-01T00:00:00"},
        {"since": "1700000000"},
        {"until": "2026-13-01T00:00:00Z"},
        {"before": "1"},
        {"kind": "transfer"},
    ],
    ids=str,
)
def test_bad_pages(payer: Rest, params: dict[str, Any]) -> None:
    """A page that cannot be is 400 and says which parameter is wrong."""
    answer = payer.ask("GET", f"/v1/account/{payer.person.account_id}/entry", params=params)
    assert code_of(answer) == (400, "INVALID_INPUT")
    assert answer.json()["field"].startswith(next(iter(params)))


def test_paging_accounts(ann: Rest) -> None:
    """The list of accounts is paged, with as many last entries as requested."""
    for currency in ("JPY", "KWD"):
        assert ann.ask("POST", "/v1/account", json={"currency": currency}).status_code == 201
    taken = ann.ask("POST", "/v1/account", json={"currency": "JPY"})
    assert code_of(taken) == (409, "ACCOUNT_EXISTS")
    assert taken.json()["accountId"]
    first = ann.get("/v1/account", first=2)
    second = ann.get("/v1/account", first=2, after=first["next"], entries=0)
    assert [account["currency"] for account in first["accounts"] + second["accounts"]] == ["EUR", "JPY", "KWD"]
    assert second["next"] is None
    assert [len(account["entries"]) for account in first["accounts"] + second["accounts"]] == [1, 0, 0]


def test_without_a_session(server: Server, ann: Rest) -> None:
    """Everything that belongs to a user gets 401 without a token, with a forged one, and with an ended one."""
    forged = httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer wgs_000{'A' * 43}"})
    with client_of(server, ann.person) as ended, forged, httpx.Client(base_url=server.url) as nobody:
        assert [ended.delete("/v1/session").status_code for _ in range(2)] == [204, 204]
        for http in (ended, forged, nobody):
            rest = Rest(http, ann.person)
            for method, path, more in (
                ("GET", "/v1/user", {}),
                ("GET", "/v1/account", {}),
                ("POST", "/v1/account", {"json": {"currency": "JPY"}}),
                ("GET", f"/v1/account/{ann.person.account_id}/entry", {}),
                ("POST", "/v1/transfer", {"json": {"nonsense": 1}, "key": "k"}),
                ("GET", "/v1/transfer", {"params": {"idempotencyKey": "k"}}),
                ("POST", "/v1/hold/hld_1/void", {"key": "k"}),
            ):
                answer = rest.ask(method, path, **more)
                assert code_of(answer) == (401, "UNAUTHENTICATED"), path
                assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_wrong_passwords(server: Server, ann: Rest) -> None:
    """A wrong password and an unknown user get the same 401; a taken name is 409."""
    with httpx.Client(base_url=server.url) as http:
        told = set()
        for login in (ann.person.username, "nobody-of-that-name"):
            answer = http.post("/v1/session", json={"login": login, "password": "not the one"})
            assert code_of(answer) == (401, "INVALID_CREDENTIALS")
            assert "www-authenticate" in answer.headers
            told.add(answer.json()["detail"])
        assert len(told) == 1
        taken = {"username": ann.person.username, "email": "new@example.org", "password": PASSWORD}
        assert code_of(http.post("/v1/user", json=taken)) == (409, "USERNAME_TAKEN")
        short = http.post("/v1/user", json={**taken, "username": new_name(), "password": "short"})
        assert (code_of(short), short.json()["field"]) == ((400, "INVALID_INPUT"), "password")
        assert "short" not in short.json()["detail"].replace("password", "")


def test_browsers(server: Server, ann: Rest, bob: Rest) -> None:
    """A browser's session is a cookie that scripts cannot read; another site cannot use it; logging out ends it."""
    with httpx.Client(base_url=server.url) as http:
        made = http.post("/v1/session", json={"login": ann.person.username, "password": PASSWORD})
        assert (made.status_code, made.json()["token"]) == (201, None)
        cookie, dev_cookie = made.headers.get_list("set-cookie")
        assert cookie.startswith("__Host-wallet=wgs_")
        assert {"HttpOnly", "Path=/", "SameSite=lax", "Secure"} <= set(cookie.split("; "))
        assert dev_cookie.startswith("wallet-dev=wgs_")  # for http://localhost alone
        own = {"Sec-Fetch-Site": "same-origin", "Origin": server.url}
        http.headers.update({"Cookie": cookie.partition(";")[0], **own})
        browser = Rest(http, ann.person)
        assert browser.get("/v1/user")["username"] == ann.person.username
        foreign = {"Origin": "https://evil.example"}
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site", **foreign}):
            for method, path in (("POST", "/v1/transfer"), ("GET", "/v1/account"), ("DELETE", "/v1/session")):
                body = {"json": browser.payment(bob.person.username, 1)} if method == "POST" else {}
                answer = browser.ask(method, path, key=new_key(), headers=headers, **body)
                assert code_of(answer) == (403, "CROSS_SITE")
        body = browser.payment(bob.person.username, 1)
        assert browser.ask("POST", "/v1/transfer", key=new_key(), headers=own, json=body).status_code == 201
        ended = browser.ask("DELETE", "/v1/session", headers=own)
        assert (ended.status_code, ended.content) == (204, b"")
        assert "__Host-wallet=" in ended.headers["set-cookie"]
        assert code_of(browser.ask("GET", "/v1/user")) == (401, "UNAUTHENTICATED")


def test_an_unknown_outcome(tmp_path: Path) -> None:
    """A commit that outlasts the time given is 504 and retryable; the same key then tells what became of it."""
    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    payer, payee = settle_all(storage, 1000, 0)
    slow = {"failpoints": "sqlite.written=sleep:0.5@1", "timeout_seconds": "0.2"}
    with serving(tmp_path, storage=storage, **slow) as server, client_of(server, payer) as http:
        rest, key = Rest(http, payer), new_key()
        while code_of(answer := rest.pay(payee.username, 100, key)) == (503, "CONTENDED"):
            pass  # on a busy machine the time may be over before the commit has begun
        assert code_of(answer) == (504, "IN_DOUBT")
        assert (answer.json()["retryable"], answer.headers["retry-after"]) == (True, "1")
        while (answer := rest.pay(payee.username, 100, key)).is_error:
            assert answer.json()["retryable"]
        assert (answer.status_code, rest.balance()) == (200, ("900", "0"))
