"""Users, sessions, accounts and history, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from typing import Any

import pytest

from tests.integration._server import (
    LOG_IN,
    OPEN_ACCOUNT,
    PASSWORD,
    SIGN_UP,
    VIEWER,
    Client,
    Person,
    Server,
    new_key,
    new_name,
    settle_all,
)

LOG_OUT = "mutation { logOut { __typename ... on LogOutSuccess { ended } } }"
HISTORY = """query($id: ID!, $first: Int!, $after: String) { account(id: $id) {
  posted { minorUnits decimal }
  history(first: $first, after: $after) {
    edges { cursor node { sequence amount { minorUnits } balanceAfter { minorUnits } createdAt
      transfer { id kind reference amount { decimal } fee { minorUnits } reverses { id } direction account { id }
        counterparty { kind name username } } } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }"""


@pytest.fixture
def anybody(server: Server) -> Iterator[Client]:
    """A client without a session."""
    with Client(server.url) as client:
        yield client


def joined(client: Client) -> str:
    """Sign somebody up; answers the username."""
    name = new_name()
    given = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    assert client.run(SIGN_UP, {"input": given})["__typename"] == "SignUpSuccess"
    return name


def bearer(client: Client, login: str) -> str:
    """Log in; answers the token."""
    answer = client.run(LOG_IN, {"input": {"login": login, "password": PASSWORD, "session": "BEARER"}})
    token: str = answer["token"]
    return token


def cookie_of(client: Client, login: str) -> SimpleCookie:
    """Log in as a browser does; answers what the server set."""
    response = client.post(LOG_IN, {"input": {"login": login, "password": PASSWORD}})
    assert response.json()["data"]["logIn"]["token"] is None
    return SimpleCookie(response.headers.get_list("set-cookie")[0])


@pytest.mark.smoke
def test_from_sign_up_to_payment(server: Server, anybody: Client, people: list[Person]) -> None:
    """A user signs up, logs in, opens an account, is paid, and pays back; a repeated key pays once."""
    name = joined(anybody)
    with Client(server.url, bearer(anybody, name)) as client, Client(server.url, people[0].token) as payer:
        account = client.run(OPEN_ACCOUNT, {"input": {"currency": "EUR"}})["account"]
        assert (account["currency"], account["state"]) == ("EUR", "OPEN")
        assert payer.transfer(**people[0].pay(name, "5000"))["__typename"] == "TransferSuccess"
        key = new_key()
        payment: dict[str, Any] = {
            "idempotencyKey": key,
            "fromAccountId": account["id"],
            "to": {"accountId": people[1].account_id},
            "amount": {"minorUnits": 1200, "currency": "EUR"},
        }
        first, second = client.transfer(**payment), client.transfer(**payment)
        assert (first["replayed"], second["replayed"]) == (False, True)
        assert first["transfer"] == second["transfer"]
        assert first["transfer"]["counterparty"] == {"username": people[1].username}
        assert (first["credited"], first["fromAccount"]["posted"]["minorUnits"]) == (True, "3800")
        other = client.transfer(**{**payment, "amount": {"minorUnits": 1201, "currency": "EUR"}})
        assert (other["__typename"], other["code"]) == ("IdempotencyKeyReused", "IDEMPOTENCY_KEY_REUSED")
        poor = client.transfer(
            **{**payment, "idempotencyKey": new_key(), "amount": {"minorUnits": 99999, "currency": "EUR"}}
        )
        assert (poor["__typename"], poor["retryable"]) == ("InsufficientFunds", False)


def test_signing_up_twice(anybody: Client) -> None:
    """A name and an address belong to one user; each refusal says which is taken."""
    name = joined(anybody)
    taken = anybody.run(SIGN_UP, {"input": {"username": name.upper(), "email": "x@example.org", "password": PASSWORD}})
    assert [one["code"] for one in taken["problems"]] == ["USERNAME_TAKEN"]
    other = {"username": new_name(), "email": f"{name}@Example.org", "password": PASSWORD}
    assert [one["code"] for one in anybody.run(SIGN_UP, {"input": other})["problems"]] == ["EMAIL_TAKEN"]
    both = anybody.run(SIGN_UP, {"input": {**other, "username": name}})
    assert (both["__typename"], [(one["path"], one["code"]) for one in both["problems"]]) == (
        "InvalidInput", [(["username"], "USERNAME_TAKEN"), (["email"], "EMAIL_TAKEN")],
    )  # fmt: skip


def test_logging_in_by_either_name(anybody: Client) -> None:
    """The username and the e-mail address both do; a wrong password and an unknown user get the same answer."""
    name = joined(anybody)
    assert bearer(anybody, name).startswith("wgs_")
    assert bearer(anybody, f"{name}@example.org").startswith("wgs_")
    wrong = anybody.run(LOG_IN, {"input": {"login": name, "password": "wrong horse"}})
    unknown = anybody.run(LOG_IN, {"input": {"login": new_name(), "password": "wrong horse"}})
    assert wrong == unknown
    assert wrong["code"] == "INVALID_CREDENTIALS"


def test_the_cookie(server: Server, anybody: Client) -> None:
    """A browser's session is a __Host- cookie that scripts cannot read and that only goes over TLS."""
    name = joined(anybody)
    cookie = cookie_of(anybody, name)["__Host-wallet"]
    flags = (cookie["path"], cookie["secure"], cookie["httponly"], cookie["samesite"], cookie["domain"])
    assert flags == ("/", True, True, "lax", "")
    with Client(server.url) as browser:
        browser.http.headers.update({"Cookie": f"__Host-wallet={cookie.value}", "Sec-Fetch-Site": "same-origin"})
        assert browser.run(VIEWER)["username"] == name


@pytest.mark.parametrize("kind", ["COOKIE", "BEARER"])
def test_logging_out_ends_the_session_at_once(server: Server, anybody: Client, kind: str) -> None:
    """After logOut the same credential is worth nothing, also for the rest of that document."""
    name = joined(anybody)
    with Client(server.url) as client:
        if kind == "COOKIE":
            client.http.headers["Cookie"] = f"__Host-wallet={cookie_of(anybody, name)['__Host-wallet'].value}"
            client.http.headers["Sec-Fetch-Site"] = "same-origin"
        else:
            client.http.headers["Authorization"] = f"Bearer {bearer(anybody, name)}"
        assert client.run(VIEWER)["username"] == name
        open_account = 'openAccount(input: {currency: "EUR"}) { __typename }'
        document = f"mutation {{ logOut {{ ... on LogOutSuccess {{ ended }} }} {open_account} }}"
        response = client.post(document)
        body = response.json()
        assert body["data"] == {"logOut": {"ended": True}, "openAccount": None}
        assert body["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert "Max-Age=0" in response.headers["set-cookie"]
        assert client.codes(VIEWER) == {"UNAUTHENTICATED"}
        assert client.run(LOG_OUT) == {"__typename": "LogOutSuccess", "ended": False}


def test_one_account_per_currency(server: Server, people: list[Person]) -> None:
    """A second account in a currency is refused with the id of the first; another currency is fine."""
    with Client(server.url, people[1].token) as client:
        again = client.run(OPEN_ACCOUNT, {"input": {"currency": "EUR"}})
        found = again["__typename"], again["accountId"], again["accountState"]
        assert found == ("AccountExists", people[1].account_id, "OPEN")
        assert client.run(OPEN_ACCOUNT, {"input": {"currency": "JPY"}})["__typename"] == "OpenAccountSuccess"
        listed = client.run(VIEWER)["accounts"]
        assert [account["currency"] for account in listed] == ["EUR", "JPY"]


def test_node_finds_ones_own_things(server: Server, people: list[Person]) -> None:
    """`node` finds one's user, accounts and transfers; what is not one's own looks like what is not there."""
    payer, payee = people
    node = "query($id: ID!) { node(id: $id) { __typename id } }"
    with Client(server.url, payer.token) as client, Client(server.url, payee.token) as other:
        moved = client.transfer(**payer.pay(payee.username, 5))["transfer"]["id"]
        for id_, kind in ((payer.id, "User"), (payer.account_id, "Account"), (moved, "Transfer")):
            assert client.run(node, {"id": id_}) == {"__typename": kind, "id": id_}
        assert other.run(node, {"id": moved})["id"] == moved
        for id_ in (payee.id, payee.account_id, "nonsense", "acc_", "usr_" + "0" * 32, ""):
            assert client.run(node, {"id": id_}) is None
        (stranger,) = settle_all(server.storage, 0)
        with Client(server.url, stranger.token) as third:
            assert third.run(node, {"id": moved}) is None


def test_history_shows_both_sides(server: Server) -> None:
    """Each entry has its sign, the balance after it and the other side; a deposit's other side is the system."""
    payer, payee = settle_all(server.storage, 1000, 0)
    with Client(server.url, payer.token) as client, Client(server.url, payee.token) as other:
        client.transfer(**payer.pay(payee.username, 300, reference="tea"))
        account = client.run(HISTORY, {"id": payer.account_id, "first": 10})
        paid, deposited = (edge["node"] for edge in account["history"]["edges"])
        assert (paid["sequence"], paid["amount"], paid["balanceAfter"]) == (
            "2",
            {"minorUnits": "-300"},
            {"minorUnits": "700"},
        )
        assert paid["transfer"]["counterparty"] == {
            "kind": "USER", "name": payee.username, "username": payee.username,
        }  # fmt: skip
        assert (paid["transfer"]["kind"], paid["transfer"]["reference"]) == ("TRANSFER", "tea")
        assert (paid["transfer"]["amount"], paid["transfer"]["reverses"]) == ({"decimal": "3.00"}, None)
        assert deposited["transfer"]["counterparty"] == {"kind": "WALLET", "name": "system", "username": None}
        assert (deposited["transfer"]["kind"], account["posted"]["decimal"]) == ("DEPOSIT", "7.00")
        (received,) = other.run(HISTORY, {"id": payee.account_id, "first": 10})["history"]["edges"]
        assert received["node"]["amount"] == {"minorUnits": "300"}
        assert received["node"]["transfer"]["counterparty"]["username"] == payer.username


def test_history_pages_while_entries_arrive(server: Server) -> None:
    """All pages together have every entry from the first page's newest down to the first: no gap, no double."""
    payer, payee = settle_all(server.storage, 100_000, 0)
    with Client(server.url, payer.token) as client:

        def pay(times: int) -> None:
            for _ in range(times):
                assert client.transfer(**payer.pay(payee.username, 1))["__typename"] == "TransferSuccess"

        pay(30)
        sequences = walk(client, payer.account_id, first=3, meanwhile=lambda: pay(2))
        assert sequences == list(range(31, 0, -1))
        assert walk(client, payer.account_id, first=100, meanwhile=lambda: None)[0] > 31


def walk(client: Client, account_id: str, first: int, meanwhile: Callable[[], None]) -> list[int]:
    """The sequences of all pages, as they come; checks the page infos. `meanwhile` is called between pages."""
    found: list[int] = []
    after: str | None = None
    while True:
        history = client.run(HISTORY, {"id": account_id, "first": first, "after": after})["history"]
        edges, info = history["edges"], history["pageInfo"]
        found += [int(edge["node"]["sequence"]) for edge in edges]
        assert (info["startCursor"], info["endCursor"]) == (edges[0]["cursor"], edges[-1]["cursor"])
        assert info["hasPreviousPage"] is (after is not None)
        if not info["hasNextPage"]:
            return found
        after = info["endCursor"]
        meanwhile()


@pytest.mark.parametrize("first", [0, -1, 101, 2**31 - 1])
def test_bad_page_sizes(server: Server, people: list[Person], first: int) -> None:
    """`first` is 1 to 100; anything else is a bad request, and the rest of the answer stands."""
    with Client(server.url, people[0].token) as client:
        variables = {"id": people[0].account_id, "first": first}
        (error,) = client.errors(HISTORY, variables)
        assert error["extensions"]["code"] == "BAD_REQUEST"
        assert "1 to 100" in error["message"]


@pytest.mark.parametrize("after", ["", "x", "ünï", "Mjo1", "MTow", "MTotNQ", "A" * 5000])
def test_bad_cursors(server: Server, people: list[Person], after: str) -> None:
    """A cursor that this wallet never made is a bad request."""
    with Client(server.url, people[0].token) as client:
        variables = {"id": people[0].account_id, "first": 5, "after": after}
        (error,) = client.errors(HISTORY, variables)
        assert error["extensions"]["code"] == "BAD_REQUEST"
        assert "cursor" in error["message"]


def test_a_bad_cursor_after_a_payment_keeps_the_payments_answer(server: Server, people: list[Person]) -> None:
    """What fails after the commit becomes null on its own; the answer still says that the money moved."""
    document = """mutation($input: TransferInput!) { transfer(input: $input) { ... on TransferSuccess {
      replayed transfer { id } fromAccount { history(first: 0) { edges { cursor } } } } } }"""
    with Client(server.url, people[0].token) as client:
        body = client.post(document, {"input": people[0].pay(people[1].username, 5)}).json()
        assert body["data"]["transfer"]["transfer"]["id"].startswith("trf_")
        assert body["data"]["transfer"]["fromAccount"] is None
        assert [error["extensions"]["code"] for error in body["errors"]] == ["BAD_REQUEST"]
