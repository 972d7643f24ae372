"""Batches of transfers, over HTTP."""

from __future__ import annotations

from typing import Any, Final

import pytest
from graphql import parse, validate

from tests.integration._graphql import SCHEMA
from tests.integration._server import VIEWER, Client, Person, Server, counted, new_key
from wallet_gql.domain.errors import Contended, InvariantViolated
from wallet_gql.domain.ids import UserId
from wallet_gql.transports.graphql.limits import LimitsRule
from wallet_gql.transports.graphql.verbs.batches import _result

pytestmark = pytest.mark.balances(100_000, 0, 0)

BATCH: Final = """mutation($input: TransferBatchInput!) { transferBatch(input: $input) { __typename
  ... on WalletError { code message retryable } ... on InvalidInput { problems { path code } }
  ... on TransferBatchSuccess { complete results { __typename
    ... on TransferSuccess { replayed credited transfer { id amount { minorUnits } counterparty { username } } }
    ... on WalletError { code message retryable }
    ... on InvalidInput { problems { path code } }
    ... on InsufficientFunds { available { minorUnits } required { minorUnits } }
    ... on PayeeNotFound { payee }
    ... on BatchAborted { offender } } } } }"""
MONEY: Final = ("transfers", "entries", "system_entries")
ALL: Final = (*MONEY, "receipts")


def run(client: Client, mode: str, *items: dict[str, Any]) -> Any:
    """Send a batch."""
    return client.run(BATCH, {"input": {"mode": mode, "items": items}})


def kinds(answer: Any) -> list[str]:
    """The types of the results, in order."""
    return [result["__typename"] for result in answer["results"]]


@pytest.mark.smoke
@pytest.mark.parametrize("mode", ["ATOMIC", "INDEPENDENT"])
def test_all_items_move(client: Client, server: Server, people: list[Person], mode: str) -> None:
    """Results come in the order of the items; the same batch again moves nothing and returns the same transfers."""
    payer, *payees = people
    items = [payer.pay(payees[n % 2].username, 100 + n) for n in range(5)]
    first = run(client, mode, *items)
    moved = [
        (r["transfer"]["amount"]["minorUnits"], r["transfer"]["counterparty"]["username"]) for r in first["results"]
    ]
    assert moved == [(str(100 + n), payees[n % 2].username) for n in range(5)]
    assert (first["complete"], {r["replayed"] for r in first["results"]}) == (True, {False})
    before = counted(server.path, *ALL)
    again = run(client, mode, *items)
    assert (again["complete"], {r["replayed"] for r in again["results"]}) == (True, {True})
    assert [r["transfer"] for r in again["results"]] == [r["transfer"] for r in first["results"]]
    assert counted(server.path, *ALL) == before


def test_one_refusal_aborts_an_atomic_batch(client: Client, server: Server, people: list[Person]) -> None:
    """The offender has its error, the others say who it was; nothing moved, and only the offender's key is used up."""
    payer, payee, _ = people
    before = counted(server.path, *MONEY)
    (account,) = client.run(VIEWER)["accounts"]
    left = int(account["posted"]["minorUnits"]) - 100
    items = [payer.pay(payee.username, minor) for minor in (100, left + 1, 5)]
    answer = run(client, "ATOMIC", *items)
    assert (answer["complete"], kinds(answer)) == (False, ["BatchAborted", "InsufficientFunds", "BatchAborted"])
    aborted, offender, _ = answer["results"]
    assert (aborted["offender"], aborted["retryable"]) == (1, False)
    assert (offender["available"], offender["required"]) == ({"minorUnits": str(left)}, {"minorUnits": str(left + 1)})
    assert counted(server.path, *MONEY) == before
    assert client.transfer(**items[0])["replayed"] is False
    assert client.transfer(**items[1])["__typename"] == "InsufficientFunds"
    assert kinds(run(client, "ATOMIC", items[2], items[1])) == ["BatchAborted", "InsufficientFunds"]


def test_independent_items_have_their_own_outcome(client: Client, server: Server, people: list[Person]) -> None:
    """Refused and malformed items do not keep the others from moving."""
    payer, payee, _ = people
    used, other = payer.pay(payee.username, 1), payer.pay(payee.username, 1)
    client.transfer(**used)
    client.transfer(**other)
    before = counted(server.path, *MONEY)["transfers"]
    items = [
        payer.pay(payee.username, 10),
        payer.pay("nobody-of-that-name", 10),
        {**payer.pay(payee.username, 10), "fromAccountId": "mine"},
        payer.pay(payee.username, 0),
        payer.pay(payee.username, 10**15),
        {**other, "amount": {"minorUnits": 2, "currency": "EUR"}},
        used,
        {**payer.pay(payee.username, 10), "amount": {"minorUnits": 10, "currency": "XXX"}},
    ]
    answer = run(client, "INDEPENDENT", *items)
    assert kinds(answer) == [
        "TransferSuccess",
        "PayeeNotFound",
        "InvalidInput",
        "InvalidInput",
        "InsufficientFunds",
        "IdempotencyKeyReused",
        "TransferSuccess",
        "InvalidInput",
    ]
    results = answer["results"]
    assert (answer["complete"], results[1]["payee"]) == (False, "nobody-of-that-name")
    assert [results[n]["problems"] for n in (2, 3, 7)] == [
        [{"path": ["items", "2", "fromAccountId"], "code": "INVALID_INPUT"}],
        [{"path": ["items", "3", "amount", "minorUnits"], "code": "INVALID_AMOUNT"}],
        [{"path": ["items", "7", "amount", "currency"], "code": "INVALID_INPUT"}],
    ]
    assert (results[0]["replayed"], results[6]["replayed"]) == (False, True)
    assert counted(server.path, *MONEY)["transfers"] == before + 1


MALFORMED: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "payer": ({"fromAccountId": "mine"}, "items.1.fromAccountId"),
    "payee": ({"to": {"accountId": "theirs"}}, "items.1.to.accountId"),
    "key": ({"idempotencyKey": ""}, "items.1.idempotencyKey"),
    "currency": ({"amount": {"minorUnits": 5, "currency": "XXX"}}, "items.1.amount.currency"),
    "reference": ({"reference": "x" * 141}, "items.1.reference"),
    "amount": ({"amount": {"minorUnits": -5, "currency": "EUR"}}, "items.1.amount.minorUnits"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_items_of_an_atomic_batch(client: Client, server: Server, people: list[Person], case: str) -> None:
    """An item of a wrong shape refuses the batch as a whole, and says which item; no key is used up."""
    fields, path = MALFORMED[case]
    before = counted(server.path, *ALL)
    items = [people[0].pay(people[1].username, 5), {**people[0].pay(people[1].username, 5), **fields}]
    answer = run(client, "ATOMIC", *items)
    assert (answer["__typename"], [one["path"] for one in answer["problems"]]) == ("InvalidInput", [path.split(".")])
    assert counted(server.path, *ALL) == before


@pytest.mark.parametrize("mode", ["ATOMIC", "INDEPENDENT"])
def test_size_of_a_batch(client: Client, server: Server, people: list[Person], mode: str) -> None:
    """One to a hundred items, each with a key of its own; a hundred do fit."""
    payer, payee, _ = people
    before = counted(server.path, *ALL)
    many = [payer.pay(payee.username, 1) for _ in range(101)]
    for items in ([], many, [many[0], many[0]]):
        answer = run(client, mode, *items)
        assert (answer["__typename"], [one["path"] for one in answer["problems"]]) == ("InvalidInput", [["items"]])
    assert counted(server.path, *ALL) == before
    assert run(client, mode, *many[:100])["complete"] is True
    assert counted(server.path, "transfers")["transfers"] == before["transfers"] + 100


def test_a_reused_key_refuses_an_atomic_batch(client: Client, server: Server, people: list[Person]) -> None:
    """A key that belongs to another payment refuses the batch as a whole."""
    payer, payee, _ = people
    used = payer.pay(payee.username, 1)
    client.transfer(**used)
    before = counted(server.path, *ALL)
    other = {**used, "amount": {"minorUnits": 2, "currency": "EUR"}}
    assert run(client, "ATOMIC", payer.pay(payee.username, 1), other)["__typename"] == "IdempotencyKeyReused"
    assert counted(server.path, *ALL) == before


def test_a_replayed_item_counts_as_done(client: Client, people: list[Person]) -> None:
    """An atomic batch goes on where a single payment of it was sent before."""
    payer, payee, _ = people
    done = payer.pay(payee.username, 1)
    client.transfer(**done)
    answer = run(client, "ATOMIC", done, payer.pay(payee.username, 2, new_key()))
    assert [result["replayed"] for result in answer["results"]] == [True, False]


def test_a_batch_counts_as_one_money_mutation() -> None:
    """Five batches are within the limit of a document and six are not, though their keys stand inside the items."""
    for count, allowed in ((5, True), (6, False)):
        batches = " ".join(f"b{n}: transferBatch(input: $input) {{ __typename }}" for n in range(count))
        document = parse(f"mutation($input: TransferBatchInput!) {{ {batches} }}")
        assert (validate(SCHEMA, document, [LimitsRule]) == []) is allowed


def test_our_own_bug_in_one_item() -> None:
    """An item that failed for an unknown reason is in doubt, so that the others keep their answers."""
    viewer = UserId("usr_1")
    broken = _result(InvariantViolated("secret"), viewer)
    assert (type(broken).__name__, broken.retryable, "secret" in broken.message) == ("InDoubt", True, False)
    busy = _result(Contended(), viewer)
    assert (type(busy).__name__, busy.code.name) == ("Unavailable", "CONTENDED")
