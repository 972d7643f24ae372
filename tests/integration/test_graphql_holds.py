"""Holds, reversals and closing accounts, over HTTP."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextlib import closing as closing_file
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.integration._server import Client, Person, Server, new_key, settle_all
from wallet_gql.testing.patience import patience

pytestmark = pytest.mark.serving(sweep_seconds="3600")  # too late to matter

HOLD: Final = """{ id state amount { minorUnits currency } captured { minorUnits } reference
  createdAt expiresAt closedAt transfer { id } closable direction account { id }
  counterparty { kind name username } }"""
PLACE: Final = f"""mutation($input: PlaceHoldInput!) {{ placeHold(input: $input) {{ __typename
  ... on PlaceHoldSuccess {{ replayed hold {HOLD}
    fromAccount {{ posted {{ minorUnits }} held {{ minorUnits }} available {{ minorUnits }} }} }}
  ... on PayeeCannotReceive {{ payee currency }}
  ... on WalletError {{ code message retryable }} ... on InvalidInput {{ problems {{ path }} }} }} }}"""
CAPTURE: Final = """mutation($input: CaptureHoldInput!) { captureHold(input: $input) { __typename
  ... on CaptureHoldSuccess { replayed credited toAccount { id posted { minorUnits } }
    transfer { id kind hold { id } reference amount { minorUnits } counterparty { username } } }
  ... on WalletError { code message retryable } ... on InvalidInput { problems { path } }
  ... on HoldNotOpen { holdId state } ... on CaptureExceedsHold {
    holdId held { minorUnits } requested { decimal currency } } } }"""
VOID: Final = f"""mutation($input: VoidHoldInput!) {{ voidHold(input: $input) {{ __typename
  ... on VoidHoldSuccess {{ replayed hold {HOLD} }}
  ... on WalletError {{ code message retryable }} ... on InvalidInput {{ problems {{ path }} }}
  ... on HoldNotOpen {{ state }} }} }}"""
REVERSE: Final = """mutation($input: ReverseTransferInput!) { reverseTransfer(input: $input) { __typename
  ... on ReverseTransferSuccess { replayed credited fromAccount { id posted { minorUnits } }
    transfer { id kind reverses { id } reference amount { minorUnits } counterparty { username } } }
  ... on WalletError { code message retryable } ... on InvalidInput { problems { path } }
  ... on ReversalExceedsOriginal { transferId remaining { minorUnits } requested { decimal currency } } } }"""
CLOSE: Final = """mutation($input: CloseAccountInput!) { closeAccount(input: $input) { __typename
  ... on CloseAccountSuccess { account { id state } }
  ... on AccountNotEmpty { accountId posted { decimal currency } held { minorUnits } }
  ... on WalletError { code message retryable } ... on InvalidInput { problems { path } } } }"""
ASK: Final = f"query($id: ID!) {{ hold(id: $id) {HOLD} }}"
ACCOUNT: Final = """query($id: ID!, $first: Int!) { account(id: $id) {
  posted { minorUnits } held { minorUnits } openHolds(first: $first) { id } } }"""


@dataclass
class Cast:
    """A payer with 1000.00 EUR, a payee, somebody else, and a client for each."""

    payer: Person
    payee: Person
    pays: Client
    takes: Client
    looks_on: Client

    def place(self, minor: int, **more: Any) -> Any:
        """Place a hold; answers it."""
        return self.pays.run(PLACE, {"input": self.payer.pay(self.payee.username, minor, **more)})

    def held(self, minor: int, **more: Any) -> str:
        """Place a hold, successfully; answers its id."""
        found: str = self.place(minor, **more)["hold"]["id"]
        return found

    def capture(self, hold_id: str, minor: int | None = None, key: str | None = None) -> Any:
        """Capture as the payee."""
        given = {"idempotencyKey": key or new_key(), "holdId": hold_id, "minorUnits": minor}
        return self.takes.run(CAPTURE, {"input": given})

    def account(self, first: int = 100) -> tuple[int, int, list[str]]:
        """What the payer has, what of it is held, and the open holds."""
        found = self.pays.run(ACCOUNT, {"id": self.payer.account_id, "first": first})
        money = (int(found[name]["minorUnits"]) for name in ("posted", "held"))
        return (*money, [hold["id"] for hold in found["openHolds"]])  # type: ignore[return-value]


@contextmanager
def casting(server: Server) -> Iterator[Cast]:
    """Make three people."""
    people = settle_all(server.storage, 100_000, 0, 0)
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.url, person.token)) for person in people]
        yield Cast(people[0], people[1], *clients)


@pytest.fixture
def cast(server: Server) -> Iterator[Cast]:
    """Fresh people."""
    with casting(server) as cast:
        yield cast


@pytest.fixture(scope="module")
def idle_cast(server: Server) -> Iterator[Cast]:
    """People for tests in which nothing moves."""
    with casting(server) as cast:
        yield cast


def closing(hold_id: str) -> dict[str, Any]:
    """The input of a capture or a void under a new key."""
    return {"input": {"idempotencyKey": new_key(), "holdId": hold_id}}


@pytest.mark.smoke
def test_hold_and_capture(cast: Cast) -> None:
    """Held money is still posted but not available; a capture takes a part, and the rest is released."""
    placed = cast.place(700, reference="hotel")
    assert placed["fromAccount"] == {
        "posted": {"minorUnits": "100000"},
        "held": {"minorUnits": "700"},
        "available": {"minorUnits": "99300"},
    }
    hold = placed["hold"]
    assert (hold["state"], hold["reference"], hold["closable"]) == ("OPEN", "hotel", False)
    assert hold["counterparty"] == {
        "kind": "USER", "name": cast.payee.username, "username": cast.payee.username,
    }  # fmt: skip
    seen = cast.takes.run(ASK, {"id": hold["id"]})
    assert (seen["closable"], seen["counterparty"]["username"]) == (True, cast.payer.username)
    assert cast.looks_on.run(ASK, {"id": hold["id"]}) is None
    assert cast.account() == (100_000, 700, [hold["id"]])

    taken = cast.capture(hold["id"], 500)
    moved = taken["transfer"]
    assert (moved["kind"], moved["hold"]["id"], moved["reference"]) == ("CAPTURE", hold["id"], "hotel")
    assert (moved["amount"]["minorUnits"], moved["counterparty"]["username"]) == ("500", cast.payer.username)
    assert taken["toAccount"] == {"id": cast.payee.account_id, "posted": {"minorUnits": "500"}}
    assert (taken["replayed"], taken["credited"]) == (False, True)
    after = cast.pays.run(ASK, {"id": hold["id"]})
    assert (after["state"], after["captured"]["minorUnits"], after["transfer"]["id"]) == (
        "CAPTURED",
        "500",
        moved["id"],
    )
    assert after["closedAt"] >= after["createdAt"]
    assert cast.account() == (99_500, 0, [])


def test_a_hold_closes_once(cast: Cast) -> None:
    """What comes after the capture learns how the hold ended; the capture's own key gets its transfer again."""
    hold_id, key = cast.held(700), new_key()
    first, again = cast.capture(hold_id, key=key), cast.capture(hold_id, key=key)
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert first["transfer"] == again["transfer"]
    late = cast.capture(hold_id)
    assert (late["__typename"], late["state"], late["holdId"]) == ("HoldNotOpen", "CAPTURED", hold_id)
    assert cast.takes.run(VOID, closing(hold_id))["state"] == "CAPTURED"
    assert cast.capture(hold_id, 5, key=key)["__typename"] == "IdempotencyKeyReused"


def test_capturing_too_much(cast: Cast) -> None:
    """More than is held is refused with both figures, and the hold stays open."""
    hold_id = cast.held(700)
    refused = cast.capture(hold_id, 701)
    assert refused["__typename"] == "CaptureExceedsHold"
    assert (refused["held"], refused["requested"]) == ({"minorUnits": "700"}, {"decimal": "7.01", "currency": "EUR"})
    assert cast.capture(hold_id, 0)["problems"] == [{"path": ["minorUnits"]}]
    assert cast.capture(hold_id, 700)["__typename"] == "CaptureHoldSuccess"


def test_voiding(cast: Cast) -> None:
    """A void releases everything; its key returns the same answer; the hold is no longer closable."""
    hold_id = cast.held(700)
    sent = closing(hold_id)
    first, again = cast.takes.run(VOID, sent), cast.takes.run(VOID, sent)
    assert (first["hold"]["state"], first["hold"]["closable"], first["replayed"]) == ("VOIDED", False, False)
    assert (again["hold"], again["replayed"]) == (first["hold"], True)
    assert cast.account() == (100_000, 0, [])
    assert cast.capture(hold_id)["state"] == "VOIDED"


def test_only_the_payee_closes(cast: Cast) -> None:
    """The payer may look and wait; others do not even learn that there is a hold."""
    hold_id = cast.held(700)
    for document in (CAPTURE, VOID):
        mine = cast.pays.run(document, closing(hold_id))
        assert (mine["__typename"], mine["code"]) == ("Refusal", "NOT_PERMITTED")
        theirs = cast.looks_on.run(document, closing(hold_id))
        assert (theirs["__typename"], theirs["code"]) == ("Refusal", "HOLD_NOT_FOUND")
    assert cast.account() == (100_000, 700, [hold_id])


@pytest.mark.slow
def test_expiry_needs_no_sweep(cast: Cast, server: Server) -> None:
    """When its time is over a hold is EXPIRED everywhere at once, and its money can be spent."""
    hold_id = cast.held(100_000, expiresInSeconds=3_600)
    poor = cast.pays.transfer(**cast.payer.pay(cast.payee.username, 1))
    assert poor["__typename"] == "InsufficientFunds"
    with closing_file(sqlite3.connect(server.path, timeout=patience(30))) as connection, connection:
        let_pass = "UPDATE holds SET expires_at = created_at + 1 WHERE id = ?"
        assert connection.execute(let_pass, (hold_id,)).rowcount == 1
    seen = cast.takes.run(ASK, {"id": hold_id})
    assert (seen["state"], seen["closable"], seen["closedAt"]) == ("EXPIRED", False, seen["expiresAt"])
    assert cast.account() == (100_000, 0, [])
    assert cast.capture(hold_id)["state"] == "EXPIRED"
    assert cast.pays.transfer(**cast.payer.pay(cast.payee.username, 1))["__typename"] == "TransferSuccess"
    assert cast.takes.run(ASK, {"id": hold_id}) == seen


def test_open_holds_are_listed_newest_first(cast: Cast) -> None:
    """The newest `first` holds that are open, in order; captured and voided ones are gone."""
    made = [cast.held(minor) for minor in (1, 2, 3, 4)]
    cast.capture(made[1])
    assert cast.account() == (99_998, 8, [made[3], made[2], made[0]])
    assert cast.account(first=2)[2] == [made[3], made[2]]
    for first in (0, 101):
        assert cast.pays.codes(ACCOUNT, {"id": cast.payer.account_id, "first": first}) == {"BAD_REQUEST"}


def test_a_replayed_hold_is_as_it_was_placed(cast: Cast) -> None:
    """The key of a hold returns the hold as it was placed, even after it was captured."""
    key = new_key()
    first = cast.place(700, key=key)
    cast.capture(first["hold"]["id"])
    again = cast.place(700, key=key)
    assert (again["replayed"], again["hold"]) == (True, first["hold"])


PLACINGS: Final[dict[str, tuple[dict[str, Any], str, str | None]]] = {
    "no time": ({"expiresInSeconds": 0}, "InvalidInput", "expiresInSeconds"),
    "more than a month": ({"expiresInSeconds": 30 * 24 * 3600 + 1}, "InvalidInput", "expiresInSeconds"),
    "no account id": ({"fromAccountId": "mine"}, "InvalidInput", "fromAccountId"),
    "no payee id": ({"to": {"accountId": "theirs"}}, "InvalidInput", "to.accountId"),
    "nothing": ({"amount": {"minorUnits": 0, "currency": "EUR"}}, "InvalidInput", "amount.minorUnits"),
    "too much": ({"amount": {"minorUnits": 100_001, "currency": "EUR"}}, "InsufficientFunds", None),
    "other currency": ({"amount": {"minorUnits": 5, "currency": "USD"}}, "CurrencyMismatch", None),
    "nobody": ({"to": {"username": "nobody-of-that-name"}}, "PayeeNotFound", None),
}


@pytest.mark.parametrize("case", PLACINGS)
def test_holds_that_are_refused(idle_cast: Cast, case: str) -> None:
    """A refused hold has a typed answer and reserves nothing."""
    fields, kind, field = PLACINGS[case]
    answer = idle_cast.pays.run(PLACE, {"input": {**idle_cast.payer.pay(idle_cast.payee.username, 100), **fields}})
    paths = [".".join(one["path"]) for one in answer.get("problems", ())]
    assert (answer["__typename"], paths) == (kind, [field] if field else [])
    assert idle_cast.account() == (100_000, 0, [])


def test_a_payee_without_an_account_in_the_currency(cast: Cast) -> None:
    """A payee who cannot receive the currency is named with it, for a hold as for a transfer."""
    open_account = 'mutation { openAccount(input: {currency: "JPY"}) { ... on OpenAccountSuccess { account { id } } } }'
    source = cast.pays.run(open_account)["account"]["id"]
    amount = {"minorUnits": 5, "currency": "JPY"}
    given = {**cast.payer.pay(cast.payee.username, 5), "fromAccountId": source, "amount": amount}
    refused = cast.pays.run(PLACE, {"input": given})
    assert (refused["__typename"], refused["code"]) == ("PayeeCannotReceive", "PAYEE_CANNOT_RECEIVE")
    assert (refused["payee"], refused["currency"]) == (cast.payee.username, "JPY")
    paid = cast.pays.transfer(**{**given, "idempotencyKey": new_key()})
    assert (paid["__typename"], paid["code"]) == ("PayeeCannotReceive", "PAYEE_CANNOT_RECEIVE")


def reverse(client: Client, transfer_id: str, minor: int | None = None, key: str | None = None, **more: Any) -> Any:
    """Send something back."""
    given = {"idempotencyKey": key or new_key(), "transferId": transfer_id, "minorUnits": minor, **more}
    return client.run(REVERSE, {"input": given})


def test_reversing(cast: Cast) -> None:
    """The payee sends a part back, then what is left; more than that is refused with what remains."""
    moved = cast.pays.transfer(**cast.payer.pay(cast.payee.username, 1_000))["transfer"]["id"]
    key = new_key()
    part, again = (reverse(cast.takes, moved, 300, key, reference="too much") for _ in range(2))
    assert (part["transfer"]["kind"], part["transfer"]["reverses"]["id"]) == ("REVERSAL", moved)
    assert (part["transfer"]["reference"], part["credited"], part["replayed"]) == ("too much", True, False)
    assert part["transfer"]["counterparty"]["username"] == cast.payer.username
    assert part["fromAccount"] == {"id": cast.payee.account_id, "posted": {"minorUnits": "700"}}
    assert (again["replayed"], again["transfer"]) == (True, part["transfer"])
    refused = reverse(cast.takes, moved, 701)
    assert (refused["__typename"], refused["transferId"]) == ("ReversalExceedsOriginal", moved)
    assert refused["remaining"] == {"minorUnits": "700"}
    assert refused["requested"] == {"decimal": "7.01", "currency": "EUR"}
    assert reverse(cast.takes, moved)["transfer"]["amount"]["minorUnits"] == "700"
    assert reverse(cast.takes, moved)["remaining"] == {"minorUnits": "0"}
    assert cast.account()[0] == 100_000


def test_what_cannot_be_reversed(cast: Cast) -> None:
    """Not by its payer, not by others, not a deposit, not a reversal, not without the money, not by another id."""
    moved = cast.pays.transfer(**cast.payer.pay(cast.payee.username, 1_000))["transfer"]["id"]
    assert reverse(cast.pays, moved)["code"] == "NOT_PERMITTED"
    assert reverse(cast.looks_on, moved)["code"] == "TRANSFER_NOT_FOUND"
    history = "query($id: ID!) { account(id: $id) { history(first: 9) { edges { node { transfer { id } } } } } }"
    deposit = cast.pays.run(history, {"id": cast.payer.account_id})["history"]["edges"][-1]["node"]["transfer"]["id"]
    assert reverse(cast.pays, deposit)["code"] == "NOT_REVERSIBLE"
    back = reverse(cast.takes, moved, 1)["transfer"]["id"]
    assert reverse(cast.pays, back)["code"] == "NOT_REVERSIBLE"
    cast.takes.transfer(**cast.payee.pay(cast.payer.username, 900))
    assert reverse(cast.takes, moved)["__typename"] == "InsufficientFunds"
    assert reverse(cast.takes, cast.payee.account_id)["problems"] == [{"path": ["transferId"]}]


def test_closing_an_account(cast: Cast) -> None:
    """Only an empty account closes, once; then nobody can pay into it, and its history stays."""
    close = {"input": {"accountId": cast.payee.account_id}}
    cast.pays.transfer(**cast.payer.pay(cast.payee.username, 100))
    full = cast.takes.run(CLOSE, close)
    assert (full["__typename"], full["held"]) == ("AccountNotEmpty", {"minorUnits": "0"})
    assert full["posted"] == {"decimal": "1.00", "currency": "EUR"}
    cast.takes.transfer(**cast.payee.pay(cast.payer.username, 100))
    assert cast.looks_on.run(CLOSE, close)["code"] == "ACCOUNT_NOT_FOUND"
    assert cast.takes.run(CLOSE, close)["account"] == {"id": cast.payee.account_id, "state": "CLOSED"}
    assert cast.takes.run(CLOSE, close)["code"] == "ACCOUNT_CLOSED"
    assert cast.takes.run(CLOSE, {"input": {"accountId": "acc_"}})["problems"] == [{"path": ["accountId"]}]
    refused = cast.pays.transfer(**cast.payer.pay(cast.payee.username, 1))
    assert refused["__typename"] == "PayeeCannotReceive"


def test_malformed_hold_ids(idle_cast: Cast) -> None:
    """What is no hold id is InvalidInput that names the field, in a capture and in a void."""
    for document in (CAPTURE, VOID):
        answer = idle_cast.takes.run(document, closing(idle_cast.payee.account_id))
        assert (answer["__typename"], answer["problems"]) == ("InvalidInput", [{"path": ["holdId"]}])
