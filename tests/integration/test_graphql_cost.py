"""The static cost of operations: what it counts, that it bounds what is resolved, and that measuring is cheap."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import pytest
from graphql import build_schema, parse

from tests.integration._graphql import execute, wallet_in
from tests.integration._live import talking
from tests.integration._server import TRANSFER, Client, Person, Server, counted, settle
from wallet_gql.testing.patience import patience
from wallet_gql.transports.catalogue.operations import LIST_SIZE
from wallet_gql.transports.graphql.cost import COST_MAX, Meter, Pricing

pytestmark = pytest.mark.balances(10_000, 0)

SCHEMA: Final = build_schema("""
  interface Node { id: ID }
  type Leaf implements Node { id: ID name: String }
  type Page { items: [Leaf!]! total: Int }
  union Either = Leaf | Page
  type Query {
    leaf: Leaf leaves: [Leaf!]! page(first: Int!): Page either_end(first: Int, last: Int): Page
    pages(first: Int = 7): [Page] nodes(ids: [ID!]!): [Node]
    either: Either name: String query: Query
  }
  type Mutation { name: String }
""")


def cost(document: str, variables: dict[str, Any] | None = None, name: str | None = None) -> int:
    """What an operation over the toy schema costs."""
    return Meter(SCHEMA, parse(document), variables or {}).of_operation(name)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("{ name }", 1),
        ("{ a: name b: name }", 2),
        ("{ leaf { id name } }", 3),
        ("{ leaves { id name } }", 1 + LIST_SIZE * 2),
        ("{ page(first: 5) { total } }", 2),
        ("{ page(first: 5) { items { id } total } }", 3 + 5),
        ("{ page(first: 5) { ...F } leaves { id } } fragment F on Page { items { id } }", 2 + 5 + 1 + LIST_SIZE),
        ("{ pages(first: 5) { items { id } } }", 1 + 5 * (1 + LIST_SIZE)),
        ("{ pages { total } }", 1 + LIST_SIZE),
        ("{ either_end(last: 5) { items { id } } }", 2 + 5),
        ("{ either_end(first: null, last: 100) { items { id } } }", 2 + 100),
        ("{ either_end(last: null, first: 5) { items { id } } }", 2 + 5),
        ("{ either_end(first: 3, last: 100) { items { id } } }", 2 + 100),
        ("{ either_end(last: null) { items { id } } }", 2 + 100),
        ("{ page(first: 5) { items { id name } } }", 2 + 5 * 2),
        ("{ page(first: 0) { items { id } } }", 2),
        ("{ page(first: -3) { items { id } } }", 2),
        ("{ page(first: 100000) { items { id } } }", 2 + 100),
        ('{ nodes(ids: ["a", "b", "c"]) { id } }', 1 + 3),
        ("{ ...F ...F } fragment F on Query { name leaf { id } }", 6),
        ("{ page(first: 3) { ...F } p: page(first: 4) { ...F } } fragment F on Page { items { id } }", 4 + 7),
        ("{ either { ... on Leaf { id } ... on Page { total } __typename } }", 1 + 2),
        ("{ ... { name } ... @include(if: false) { name } }", 1),
        ("{ a: name @skip(if: true) b: name @skip(if: false) c: name @include(if: true) }", 2),
        ("{ name @include(if: true) @skip(if: true) ...F @skip(if: true) } fragment F on Query { name }", 0),
        ("{ __typename __schema { types { fields { name } } } }", 0),
        ("mutation { name }", 1),
    ],
)
def test_what_is_counted(document: str, expected: int) -> None:
    """One for each field, as often as the lists around it may have items."""
    assert cost(document) == expected


@pytest.mark.parametrize(
    ("definition", "variables", "expected"),
    [
        ("$n: Int!", {"n": 4}, 4),
        ("$n: Int!", {}, 100),
        ("$n: Int!", {"n": None}, 100),
        ("$n: Int!", {"n": "4"}, 100),
        ("$n: Int!", {"n": True}, 1),
        ("$n: Int!", {"n": 10**30}, 100),
        ("$n: Int = 9", {}, 9),
        ("$n: Int = 9", {"n": 2}, 2),
    ],
)
def test_sizes_by_variable(definition: str, variables: dict[str, Any], expected: int) -> None:
    """A variable counts what it is, else its default, else a whole page."""
    assert cost(f"query({definition}) {{ page(first: $n) {{ items {{ id }} }} }}", variables) == 2 + expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({"l": 100}, 100), ({"f": None, "l": 7}, 7), ({"f": 5}, 5), ({"f": 5, "l": 100}, 100), ({}, 100)],
)
def test_either_end_by_variable(variables: dict[str, Any], expected: int) -> None:
    """A document may leave open from which end it pages: the size that is given counts, and the larger of two."""
    document = "query($f: Int, $l: Int) { either_end(first: $f, last: $l) { items { id } } }"
    assert cost(document, variables) == 2 + expected
    assert Pricing(SCHEMA, parse(document), None).of(variables)[0] == 2 + expected


def test_what_is_left_out_by_variable() -> None:
    """What a variable leaves out costs nothing; where it does not, the same document costs what it runs."""
    document = """query($all: Boolean! = false, $less: Boolean = null) {
      name page(first: 10) @include(if: $all) { items { id @skip(if: $less) } } }"""
    pricing = Pricing(SCHEMA, parse(document), None)
    for variables, expected in (({}, 1), ({"all": True}, 13), ({"all": False}, 1), ({"all": True, "less": True}, 3)):
        assert (cost(document, variables), pricing.of(variables)[0]) == (expected, expected), variables


def test_ids_by_variable() -> None:
    """A list of ids counts its length."""
    document = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    assert cost(document, {"ids": ["a"] * 30}) == 1 + 30
    assert cost(document, {}) == 1 + 100


def test_only_the_chosen_operation_counts() -> None:
    """Others in the document do not run."""
    document = "query A { name } query B { leaves { id } }"
    assert (cost(document, name="A"), cost(document, name="B"), cost(document, name="C")) == (1, 11, 0)


def test_measuring_is_cheap() -> None:
    """Fragments that multiply are measured once each, and however large the number is."""
    fragments = " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(150))
    began = time.perf_counter()
    assert cost(f"{{ ...F0 }} {fragments} fragment F150 on Query {{ name }}") == 2**150
    assert time.perf_counter() - began < patience(1)


# ---------------------------------------------------------------- in the wallet

ROW: Final = """edges { cursor node { sequence createdAt amount { minorUnits currency decimal }
  balanceAfter { minorUnits currency decimal } transfer { id kind createdAt reference direction
    amount { minorUnits currency decimal } fee { minorUnits currency decimal }
    counterparty { kind name username } } } }"""
HISTORY: Final = f"history(first: $first) {{ {ROW} pageInfo {{ hasNextPage endCursor }} }}"


def test_cost_is_told(client: Client, people: list[Person]) -> None:
    """Every valid operation reports its cost; the largest page of everything is far below the limit."""
    query = f"query($id: ID!, $first: Int!) {{ account(id: $id) {{ {HISTORY} }} }}"
    for first in (1, 10, 100):
        body = client.post(query, {"id": people[0].account_id, "first": first}).json()
        assert body["extensions"]["cost"] == {"requested": 6 + first * 30, "maximum": COST_MAX}
    assert "cost" in client.post("{ viewer { id } currencies { code } }").json()["extensions"]
    assert "cost" not in client.post("{ nothing }").json().get("extensions", {})


def test_too_dear(server: Server, client: Client, people: list[Person]) -> None:
    """Beyond the maximum nothing is run, over HTTP, streams and WebSockets alike; smaller pages pass."""
    query = f"query($first: Int!) {{ a: viewer {{ accounts {{ {HISTORY} }} }} }}"
    assert client.post(query, {"first": 70}).json()["data"]["a"]["accounts"]
    refused = client.post(query, {"first": 100}).json()
    assert "data" not in refused
    assert refused["errors"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"
    assert refused["extensions"]["cost"]["requested"] > COST_MAX
    stream = client.http.post(
        "/graphql", json={"query": query, "variables": {"first": 100}}, headers={"Accept": "text/event-stream"}
    )
    assert "LIMIT_EXCEEDED" in stream.text

    async def by_socket() -> None:
        async with talking(server.url, people[0].token) as talk:
            await talk.ask(query, {"first": 100})
            message = await talk.hear()
            assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "LIMIT_EXCEEDED")

    asyncio.run(by_socket())


def test_a_mutation_too_dear_moves_nothing(server: Server, client: Client, people: list[Person]) -> None:
    """What a payment would return counts before it is made."""
    before = counted(server.path, "transfers", "receipts")
    dear = " ".join(f"h{n}: history(first: 100) {{ {ROW} }}" for n in range(10))
    query = TRANSFER.replace("fromAccount { posted { minorUnits } }", f"fromAccount {{ {dear} }}")
    answer = client.post(query, {"input": people[0].pay(people[1].username, 1)}).json()
    assert answer["errors"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"
    assert counted(server.path, "transfers", "receipts") == before


async def test_cost_bounds_what_is_resolved(tmp_path: Path) -> None:
    """An answer never has more fields than its cost says: the largest page of a full history, and a list of nodes."""
    async with wallet_in(tmp_path) as wallet:
        payer, payee = await settle(wallet, 10_000), await settle(wallet)
        pay = "mutation($input: TransferInput!) { transfer(input: $input) { __typename } }"
        for _ in range(30):
            await execute(wallet, payer.token, pay, {"input": payer.pay(payee.username, 1)})
        asked: list[tuple[str, dict[str, Any]]] = [
            (f"query($first: Int!) {{ viewer {{ id accounts {{ {HISTORY} }} }} }}", {"first": 20}),
            ("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": [payer.account_id] * 50}),
        ]
        for query, variables in asked:
            result = await execute(wallet, payer.token, query, variables)
            assert result.errors is None
            requested = (result.extensions or {})["cost"]["requested"]
            assert fields_of(result.data) <= requested <= 25 * fields_of(result.data)


def fields_of(data: Any) -> int:
    """How many fields an answer has."""
    if isinstance(data, dict):
        return sum(1 + fields_of(value) for value in data.values())
    return sum(map(fields_of, data)) if isinstance(data, list) else 0
