"""Queries: objects by id, keys, filtered history, balances at a time, statements, the store itself."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration._graphql import ask, wallet_in
from tests.integration._server import Client, Person, Server, new_key, settle, settle_all
from wallet_gql.domain.ids import AccountId, UserId
from wallet_gql.domain.money import EXPONENTS
from wallet_gql.verbs import history
from wallet_gql.verbs.ledger import To

TRANSFER: Final = """mutation($input: TransferInput!) { transfer(input: $input) {
  __typename ... on TransferSuccess { transfer { id createdAt } } } }"""
KEY: Final = """query($key: ID!) { transferByIdempotencyKey(key: $key) {
  operation createdAt transfer { id kind } hold { id state }
  refusal { __typename code message retryable ... on InsufficientFunds { required { minorUnits } } } } }"""
HISTORY: Final = """query($id: ID!, $first: Int!, $after: String, $filter: HistoryFilterInput) { account(id: $id) {
  history(first: $first, after: $after, filter: $filter) {
    edges { cursor node { sequence createdAt amount { minorUnits } } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }"""
STATEMENT: Final = """query($id: ID!, $since: DateTime!, $until: DateTime!, $first: Int!, $after: String) {
  account(id: $id) {
  statement(since: $since, until: $until) { since until opening { minorUnits } closing { minorUnits }
    entries(first: $first, after: $after) { edges { cursor node { sequence createdAt amount { minorUnits } } }
      pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } } }"""
BALANCE: Final = "query($id: ID!, $at: DateTime!) { account(id: $id) { balanceAt(at: $at) { minorUnits currency } } }"
PLACE: Final = """mutation($input: PlaceHoldInput!) { placeHold(input: $input) {
  ... on PlaceHoldSuccess { hold { id } } } }"""
CAPTURE: Final = """mutation($input: CaptureHoldInput!) { captureHold(input: $input) {
  ... on CaptureHoldSuccess { transfer { id } } } }"""
VOID: Final = "mutation($input: VoidHoldInput!) { voidHold(input: $input) { __typename } }"
USER: Final = "query($name: String!) { user(username: $name) { id username createdAt } }"
NODES: Final = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"

LONG_AGO: Final = "2001-01-01T00:00:00Z"
LONG_HENCE: Final = "2999-01-01T00:00:00Z"


@dataclass(frozen=True)
class Past:
    """A payer with a little of everything in the account's history, newest last: the amounts of its entries."""

    payer: Person
    payee: Person
    other: Person
    hold_id: str
    capture_id: str
    key: str
    transfer_id: str
    amounts: tuple[int, ...] = (100_000, -10, -20, -30, 5, -40)


@pytest.fixture(scope="module")
def past(server: Server) -> Past:
    """Deposit, two payments, one to somebody else, one received, and a capture."""
    payer, payee, other = settle_all(server.storage, 100_000, 0, 0)
    key = new_key()
    with Client(server.url, payer.token) as pays, Client(server.url, payee.token) as takes:
        moved = pays.run(TRANSFER, {"input": payer.pay(payee.username, 10, key, reference="Tea for two")})
        pays.run(TRANSFER, {"input": payer.pay(payee.username, 20, reference="coffee")})
        pays.run(TRANSFER, {"input": payer.pay(other.username, 30, reference="TEAPOT")})
        takes.run(TRANSFER, {"input": payee.pay(payer.username, 5)})
        hold = pays.run(PLACE, {"input": payer.pay(payee.username, 40)})["hold"]["id"]
        captured = takes.run(CAPTURE, {"input": {"idempotencyKey": new_key(), "holdId": hold}})["transfer"]["id"]
    return Past(payer, payee, other, hold, captured, key, moved["transfer"]["id"])


@pytest.fixture
def client(server: Server, past: Past) -> Iterator[Client]:
    """The payer's client."""
    with Client(server.url, past.payer.token) as client:
        yield client


# Summaries


@pytest.mark.parametrize("by", ["MONTH", "COUNTERPARTY", "KIND"])
def test_a_summary_adds_up_what_came_and_went(client: Client, past: Past, by: str) -> None:
    """Whatever the groups are, together they are the history; each names what its entries have in common."""
    query = """query($id: ID!, $by: SummaryBy!) { account(id: $id) {
      summary(since: "2001-01-01T00:00:00Z", until: "2999-01-01T00:00:00Z", by: $by) { complete
        groups { count received { minorUnits } spent { minorUnits } month kind counterparty { username } } } } }"""
    found = client.run(query, {"id": past.payer.account_id, "by": by})["summary"]
    groups = found["groups"]
    received, spent = (sum(int(one[name]["minorUnits"]) for one in groups) for name in ("received", "spent"))
    assert found["complete"]
    assert received == sum(amount for amount in past.amounts if amount > 0)
    assert spent == -sum(amount for amount in past.amounts if amount < 0)
    assert sum(one["count"] for one in groups) == len(past.amounts)
    if by == "COUNTERPARTY":
        names = {one["counterparty"]["username"]: int(one["spent"]["minorUnits"]) for one in groups}
        assert names == {None: 0, past.payee.username: 70, past.other.username: 30}
    if by == "KIND":
        assert {one["kind"] for one in groups} == {"DEPOSIT", "TRANSFER", "CAPTURE"}
    assert all((one["month"] is not None) == (by == "MONTH") for one in groups)


# Single things


def test_currencies_need_no_session(server: Server) -> None:
    """Every currency with its exponent, by code."""
    with Client(server.url) as anybody:
        found = anybody.run("{ currencies { code exponent } }")
    assert [(currency["code"], currency["exponent"]) for currency in found] == sorted(EXPONENTS.items())
    assert {"code": "KWD", "exponent": 3} in found


def test_the_backend_tells_what_it_promises(server: Server) -> None:
    """Its name, its capabilities, and all eight guarantees as whole sentences."""
    with Client(server.url) as anybody:
        found = anybody.run("""{ backend { name guarantees { name text }
          capabilities { durable multiProcess spansNodes snapshotReads remoteCredit } } }""")
    assert found["name"] == "sqlite"
    assert found["capabilities"] == {
        "durable": True,
        "multiProcess": True,
        "spansNodes": False,
        "snapshotReads": True,
        "remoteCredit": "ATOMIC",
    }
    assert [guarantee["name"] for guarantee in found["guarantees"]] == [f"G{n}" for n in range(1, 9)]
    for text in (guarantee["text"] for guarantee in found["guarantees"]):
        assert text.endswith(".")
        assert "\n" not in text
        assert "  " not in text
    assert "leaves half a commit" in found["guarantees"][7]["text"]


def test_users_are_found_by_name_alone(server: Server, client: Client, past: Past) -> None:
    """Everybody may know id, name and age of a user; an e-mail address finds nobody, and it needs a session."""
    found = client.run(USER, {"name": past.payee.username.upper()})
    assert (found["id"], found["username"]) == (past.payee.id, past.payee.username)
    for name in (f"{past.payee.username}@example.org", "nobody-of-that-name", "?", "", "x" * 10_000):
        assert client.run(USER, {"name": name}) is None
    with Client(server.url) as anybody:
        assert anybody.codes(USER, {"name": past.payee.username}) == {"UNAUTHENTICATED"}


def test_transfers_by_id(server: Server, client: Client, past: Past) -> None:
    """Both sides find a transfer by its id; what is malformed or foreign is null."""
    query = "query($id: ID!) { transfer(id: $id) { id kind direction reference hold { id } } }"
    expected = {
        "id": past.capture_id,
        "kind": "CAPTURE",
        "direction": "OUT",
        "reference": "",
        "hold": {"id": past.hold_id},
    }
    assert client.run(query, {"id": past.capture_id}) == expected
    with Client(server.url, past.payee.token) as payee, Client(server.url, past.other.token) as other:
        assert payee.run(query, {"id": past.transfer_id})["reference"] == "Tea for two"
        assert other.run(query, {"id": past.transfer_id}) is None
    for id_ in ("", "trf_", past.hold_id, "x" * 5_000):
        assert client.run(query, {"id": id_}) is None


def test_nodes(client: Client, past: Past) -> None:
    """Several ids at once, in their order, with null in the place of what is not one's own; a hundred at most."""
    ids = [past.hold_id, past.payer.account_id, "nonsense", past.payer.id, past.payee.account_id, past.transfer_id]
    kinds = ["Hold", "Account", None, "User", None, "Transfer"]
    found = client.run(NODES, {"ids": ids})
    assert found == [{"__typename": k, "id": i} if k else None for i, k in zip(ids, kinds, strict=True)]
    assert client.run(NODES, {"ids": []}) == []
    assert len(client.run(NODES, {"ids": [past.hold_id] * 100})) == 100
    assert client.codes(NODES, {"ids": [past.hold_id] * 101}) == {"LIMIT_EXCEEDED"}


# Keys


def test_a_key_tells_its_transfer(server: Server, client: Client, past: Past) -> None:
    """A key stands for its transfer, for its sender alone; a key that nobody sent is null, and no key is an error."""
    known = client.run(KEY, {"key": past.key})
    assert (known["operation"], known["transfer"]) == ("transfer", {"id": past.transfer_id, "kind": "TRANSFER"})
    assert known["refusal"] is None
    with Client(server.url, past.payee.token) as payee:
        assert payee.run(KEY, {"key": past.key}) is None
    assert client.run(KEY, {"key": new_key()}) is None
    for key in ("", "k" * 256, "schlüssel"):
        (error,) = client.post(KEY, {"key": key}).json()["errors"]
        assert error["extensions"]["code"] == "INVALID_INPUT"


def test_a_key_tells_its_refusal(client: Client, past: Past) -> None:
    """A remembered refusal comes back with its type and figures."""
    key = new_key()
    refused = client.run(TRANSFER, {"input": past.payer.pay(past.payee.username, 10**14, key)})
    assert refused["__typename"] == "InsufficientFunds"
    known = client.run(KEY, {"key": key})
    assert (known["transfer"], known["refusal"]["__typename"]) == (None, "InsufficientFunds")
    assert known["refusal"]["required"] == {"minorUnits": str(10**14)}
    assert known["refusal"]["retryable"] is False


def test_keys_of_other_operations(server: Server, client: Client, past: Past) -> None:
    """A capture's key shows its transfer to the payee who sent it; a hold's key shows that it placed one."""
    key = new_key()
    hold = client.run(PLACE, {"input": past.payer.pay(past.payee.username, 1, key)})["hold"]["id"]
    placed = client.run(KEY, {"key": key})
    assert (placed["operation"], placed["transfer"], placed["refusal"]) == ("placeHold", None, None)
    assert placed["hold"] == {"id": hold, "state": "OPEN"}
    with Client(server.url, past.payee.token) as payee:
        assert payee.run(KEY, {"key": key}) is None
        wanted = {"idempotencyKey": key, "holdId": hold, "minorUnits": 10**14}
        payee.run(CAPTURE, {"input": wanted})
        known = payee.run(KEY, {"key": key})
        assert (known["operation"], known["refusal"]["__typename"]) == ("captureHold", "CaptureExceedsHold")
        let_go = new_key()
        payee.run(VOID, {"input": {"idempotencyKey": let_go, "holdId": hold}})
        assert payee.run(KEY, {"key": let_go})["hold"] == {"id": hold, "state": "VOIDED"}
    assert client.run(KEY, {"key": key})["hold"] == {"id": hold, "state": "VOIDED"}


# Histories


def amounts(client: Client, past: Past, **where: Any) -> list[int]:
    """The amounts that a filter keeps, oldest first."""
    variables = {"id": past.payer.account_id, "first": 100, "filter": where}
    page = client.run(HISTORY, variables)["history"]
    assert page["pageInfo"]["hasNextPage"] is False
    return [int(edge["node"]["amount"]["minorUnits"]) for edge in reversed(page["edges"])]


FILTERS: Final[dict[str, tuple[dict[str, Any], list[int]]]] = {
    "nothing given": ({}, [100_000, -10, -20, -30, 5, -40]),
    "nulls": ({"kinds": None, "reference": None, "minMinorUnits": None}, [100_000, -10, -20, -30, 5, -40]),
    "kinds": ({"kinds": ["DEPOSIT", "CAPTURE"]}, [100_000, -40]),
    "no kind": ({"kinds": []}, []),
    "least": ({"minMinorUnits": "20"}, [100_000, -20, -30, -40]),
    "most": ({"maxMinorUnits": 10}, [-10, 5]),
    "between": ({"minMinorUnits": 10, "maxMinorUnits": 30}, [-10, -20, -30]),
    "reference": ({"reference": "tEa"}, [-10, -30]),
    "since for ever": ({"since": LONG_HENCE}, []),
    "until long ago": ({"until": LONG_AGO}, []),
    "always": ({"since": LONG_AGO, "until": LONG_HENCE}, [100_000, -10, -20, -30, 5, -40]),
    "the wrong way round": ({"since": LONG_HENCE, "until": LONG_AGO}, []),
    "several": ({"kinds": ["TRANSFER"], "minMinorUnits": 10, "reference": "tea"}, [-10, -30]),
}


@pytest.mark.parametrize("case", FILTERS)
def test_filters(client: Client, past: Past, case: str) -> None:
    """Only entries that fit all that is given are kept."""
    where, expected = FILTERS[case]
    assert amounts(client, past, **where) == expected


def test_filter_by_the_other_side(client: Client, past: Past) -> None:
    """The counterparty is found by name, in any case; for an unknown name there are no entries."""
    assert amounts(client, past, counterparty=past.payee.username.upper()) == [-10, -20, 5, -40]
    assert amounts(client, past, counterparty=past.other.username) == [-30]
    assert amounts(client, past, counterparty=past.other.username, maxMinorUnits=29) == []
    for name in ("nobody-of-that-name", f"{past.payee.username}@example.org", past.payer.username):
        assert amounts(client, past, counterparty=name) == []


def test_filter_by_time(client: Client, past: Past) -> None:
    """`since` takes the moment itself and `until` does not."""
    page = client.run(HISTORY, {"id": past.payer.account_id, "first": 100, "filter": {}})["history"]
    times = [edge["node"]["createdAt"] for edge in reversed(page["edges"])]
    assert amounts(client, past, since=times[2], until=times[4]) == list(past.amounts[2:4])


def test_filtered_pages(client: Client, past: Past) -> None:
    """Pages of one go through everything that a filter keeps, each exactly once."""
    variables: dict[str, Any] = {"id": past.payer.account_id, "first": 1, "filter": {"kinds": ["TRANSFER"]}}
    found, more = [], True
    while more:
        page = client.run(HISTORY, variables)["history"]
        found += [int(edge["node"]["amount"]["minorUnits"]) for edge in page["edges"]]
        assert page["pageInfo"]["hasPreviousPage"] is ("after" in variables)
        more, variables["after"] = page["pageInfo"]["hasNextPage"], page["pageInfo"]["endCursor"]
    assert found == [5, -30, -20, -10]


def test_filters_that_ask_for_too_much(client: Client, past: Past) -> None:
    """A reference beyond 140 characters and a page beyond 100 are bad requests."""
    account = past.payer.account_id
    for first, where in ((10, {"reference": "x" * 141}), (101, {}), (0, {"kinds": ["TRANSFER"]})):
        assert client.codes(HISTORY, {"id": account, "first": first, "filter": where}) == {"BAD_REQUEST"}


async def test_a_filtered_page_may_be_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a page looked at enough it stops, says that there is more, and its end cursor goes on from there."""
    monkeypatch.setattr(history, "EXAMINED_MAX", 100)
    async with wallet_in(tmp_path) as wallet:
        payer, payee = await settle(wallet, 100_000), await settle(wallet)
        pay: dict[str, Any] = {"source": AccountId(payer.account_id), "to": To(username=payee.username)}
        for _ in range(210):
            await wallet.ledger.transfer(UserId(payer.id), new_key(), amount_minor=1, currency="EUR", **pay)
        variables: dict[str, Any] = {"id": payer.account_id, "first": 5, "filter": {"kinds": ["DEPOSIT"]}}
        pages: list[dict[str, Any]] = []
        while not pages or pages[-1]["pageInfo"]["hasNextPage"]:
            pages.append((await ask(wallet, payer.token, HISTORY, variables))["history"])
            variables["after"] = pages[-1]["pageInfo"]["endCursor"]
        assert [len(page["edges"]) for page in pages] == [0, 0, 1]
        assert [page["pageInfo"]["startCursor"] is None for page in pages] == [True, True, False]


# Balances and statements


def entries(client: Client, past: Past) -> list[tuple[str, int]]:
    """Time and amount of every entry, oldest first."""
    page = client.run(HISTORY, {"id": past.payer.account_id, "first": 100})["history"]
    return [(e["node"]["createdAt"], int(e["node"]["amount"]["minorUnits"])) for e in reversed(page["edges"])]


def test_balance_at(client: Client, past: Past) -> None:
    """At each entry's time the balance is the sum of all entries up to then; before the first it is zero."""
    everything = entries(client, past)
    for at, _ in everything:
        found = client.run(BALANCE, {"id": past.payer.account_id, "at": at})["balanceAt"]
        assert int(found["minorUnits"]) == sum(amount for when, amount in everything if when <= at)
    for at, balance in ((LONG_AGO, 0), (LONG_HENCE, sum(past.amounts))):
        found = client.run(BALANCE, {"id": past.payer.account_id, "at": at})["balanceAt"]
        assert found == {"minorUnits": str(balance), "currency": "EUR"}
    assert client.codes(BALANCE, {"id": past.payer.account_id, "at": "2026-11-22T10:00:00"}) == {"BAD_REQUEST"}


def test_statements_add_up(client: Client, past: Past) -> None:
    """Between any two moments the opening balance and the entries make the closing balance, page by page."""
    everything = entries(client, past)
    moments = [LONG_AGO, *(at for at, _ in everything), LONG_HENCE]
    for n, since in enumerate(moments):
        for until in moments[n:]:
            opening, closing, found = statement(client, past, since, until)
            assert found == [(at, amount) for at, amount in everything if since <= at < until]
            assert opening == sum(amount for at, amount in everything if at < since)
            assert opening + sum(amount for _, amount in found) == closing


def statement(client: Client, past: Past, since: str, until: str) -> tuple[int, int, list[tuple[str, int]]]:
    """Opening and closing balance, and the entries in pages of two, oldest first."""
    variables: dict[str, Any] = {"id": past.payer.account_id, "since": since, "until": until, "first": 2}
    found: list[tuple[str, int]] = []
    while True:
        made = client.run(STATEMENT, variables)["statement"]
        page = made["entries"]
        found += [(edge["node"]["createdAt"], int(edge["node"]["amount"]["minorUnits"])) for edge in page["edges"]]
        assert page["pageInfo"]["hasPreviousPage"] is ("after" in variables)
        if not page["pageInfo"]["hasNextPage"]:
            return int(made["opening"]["minorUnits"]), int(made["closing"]["minorUnits"]), found[::-1]
        variables["after"] = page["pageInfo"]["endCursor"]


def test_cursors_from_outside_a_statement(client: Client, past: Past) -> None:
    """A cursor from above the span begins at its end, one from below finds nothing: never an entry outside."""
    everything = entries(client, past)
    since, until = everything[2][0], everything[4][0]
    variables = {"id": past.payer.account_id, "since": since, "until": until, "first": 100}
    for sequence, expected in ((100, ["4", "3"]), (4, ["3"]), (3, []), (1, [])):
        cursor = base64.urlsafe_b64encode(f"1:{sequence}".encode()).decode().rstrip("=")
        page = client.run(STATEMENT, {**variables, "after": cursor})["statement"]["entries"]
        assert [edge["node"]["sequence"] for edge in page["edges"]] == expected
        assert page["pageInfo"]["hasNextPage"] is False


def test_statements_that_cannot_be(client: Client, past: Past) -> None:
    """A span that ends before it begins, a bad page size and a bad cursor are bad requests."""
    good = {"id": past.payer.account_id, "since": LONG_AGO, "until": LONG_HENCE, "first": 5}
    for wrong in ({"since": LONG_HENCE, "until": LONG_AGO}, {"first": 0}, {"first": 101}, {"after": "x"}):
        assert client.codes(STATEMENT, {**good, **wrong}) == {"BAD_REQUEST"}
