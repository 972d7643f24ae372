"""The limits of one document, and which of its operations runs."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import pytest
from graphql import build_schema, get_introspection_query, parse, validate

from tests.integration._graphql import execute, wallet_in
from tests.integration._server import (
    VIEWER,
    Client,
    Person,
    Server,
    counted,
    new_name,
)
from wallet_gql.testing.patience import patience
from wallet_gql.transports.catalogue.errors import LIMIT_EXCEEDED
from wallet_gql.transports.graphql import schema as wallet_schema
from wallet_gql.transports.graphql.kept import KEPT
from wallet_gql.transports.graphql.limits import BRANCHES_MAX, LEAVES_MAX, SPREADS_MAX, LimitsRule

TREE = build_schema("type Query { leaf: Int tree: Query }")


def payments(people: list[Person], count: int) -> str:
    """So many aliased transfers, inlined."""
    payer, payee = people
    return " ".join(
        f"""p{n}: transfer(input: {{idempotencyKey: "{new_name()}", fromAccountId: "{payer.account_id}",
            to: {{username: "{payee.username}"}}, amount: {{minorUnits: 100, currency: "EUR"}}}}) {{ __typename }}"""
        for n in range(count)
    )


def over_limit(document: str) -> list[str]:
    """What the rule says of a document over a toy schema."""
    errors = validate(TREE, parse(document), [LimitsRule])
    assert all(error.extensions == {"code": LIMIT_EXCEEDED.name} for error in errors)
    return [error.message for error in errors]


def test_several_operations_need_a_name(client: Client, server: Server, people: list[Person]) -> None:
    """Two transfers in one document and no operationName: a request error, and no money moves."""
    before = counted(server.path, "transfers", "receipts")
    document = f"mutation A {{ {payments(people, 1)} }} mutation B {{ {payments(people, 1)} }}"
    (error,) = client.errors(document)
    assert error["extensions"]["code"] == "BAD_REQUEST"
    assert "operationName" in error["message"]
    assert counted(server.path, "transfers", "receipts") == before
    body = client.post(document, operationName="B").json()
    assert body["data"]["p0"]["__typename"] == "TransferSuccess"
    assert counted(server.path, "transfers")["transfers"] == before["transfers"] + 1


def test_unknown_operation_name(client: Client) -> None:
    """An operationName that is not in the document is a bad request."""
    response = client.post("query A { __typename }", operationName="B")
    assert response.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"
    assert "B" in response.json()["errors"][0]["message"]


def test_five_payments_pass_and_six_do_not(client: Client, server: Server, people: list[Person]) -> None:
    """A document may move money five times; with six, none of them runs."""
    before = counted(server.path, "transfers")["transfers"]
    assert client.codes(f"mutation {{ {payments(people, 6)} }}") == {LIMIT_EXCEEDED.name}
    fragments = f"mutation {{ ...A ...B }} fragment A on Mutation {{ {payments(people, 3)} }}"
    fragments += f" fragment B on Mutation {{ {payments(people, 6)} }}"
    assert LIMIT_EXCEEDED.name in client.codes(fragments)
    assert counted(server.path, "transfers")["transfers"] == before
    answers = client.run(f"mutation {{ {payments(people, 5)} }}")
    assert [answer["__typename"] for answer in answers.values()] == ["TransferSuccess"] * 5


@pytest.mark.parametrize("name", ["logIn", "signUp", "changePassword"])
def test_one_password_of_a_kind_per_document(client: Client, name: str) -> None:
    """A document may log in, sign up and change a password once, so that nobody tries passwords wholesale."""
    given = {
        "logIn": '{login: "a", password: "b"}',
        "signUp": '{username: "abc", email: "a@b.cd", password: "12345678"}',
        "changePassword": '{oldPassword: "12345678", newPassword: "87654321"}',
    }[name]
    once = f"{name}(input: {given}) {{ __typename }}"
    assert client.codes(f"mutation {{ a: {once} b: {once} }}") == {LIMIT_EXCEEDED.name}
    assert client.run(f"mutation {{ a: {once} }}")["__typename"] != ""


def test_aliases(client: Client) -> None:
    """Fifteen aliases pass, sixteen do not; a fragment counts where it is spread."""
    assert client.post("{" + " ".join(f"a{n}: __typename" for n in range(15)) + "}").json()["data"]
    assert client.codes("{" + " ".join(f"a{n}: __typename" for n in range(16)) + "}") == {LIMIT_EXCEEDED.name}
    assert over_limit("{ tree { ...F } ...F } fragment F on Query { " + " ".join(f"a{n}: leaf" for n in range(8)) + "}")


def test_tokens(client: Client) -> None:
    """A document of more than a thousand tokens is not even parsed; comments count too."""
    assert client.codes("{" + " __typename" * 1_000 + "}") == {LIMIT_EXCEEDED.name}
    assert client.codes("#\n" * 2_000 + "{ __typename }") == {LIMIT_EXCEEDED.name}
    assert client.post("{" + " __typename @include(if: true)" * 50 + "}").json()["data"]
    assert client.codes("{" + " __typename" * 990 + "}") == {LIMIT_EXCEEDED.name}  # too many pairs of fields to compare


def test_directives(client: Client) -> None:
    """Fifty directives pass, fifty-one do not; nor do many on one field, known or not."""
    assert client.codes("{" + " __typename @include(if: true)" * 51 + "}") == {LIMIT_EXCEEDED.name}
    assert LIMIT_EXCEEDED.name in client.codes("{ __typename " + "@aa" * 60 + "}")


BUSY = {
    "fields under one name": "{" + " viewer { id }" * 190 + "}",
    "fields inside them": "{" + " viewer { accounts { id } }" * 120 + "}",
    "fragments": "{"
    + "".join(f" ...F{n}" for n in range(80))
    + "}"
    + "".join(f" fragment F{n} on Query {{ viewer {{ id }} }}" for n in range(80)),
    "leaves": "{" + " __typename" * 300 + "}",
    "fields": "{ viewer { " + "id username email createdAt " * 101 + "} }",
}


@pytest.mark.parametrize("document", BUSY.values(), ids=BUSY)
async def test_documents_that_take_long_to_compare(tmp_path: Path, document: str) -> None:
    """Fields of one name are compared each with each: too many are refused before, in no time, also the first one."""
    async with wallet_in(tmp_path) as wallet:
        await execute(wallet, None, "{ __typename }", {})
        gc.collect()
        started = time.process_time()
        result = await execute(wallet, None, document, {})
        took = time.process_time() - started
    codes = {(error.extensions or {})["code"] for error in result.errors or ()}
    assert codes == {LIMIT_EXCEEDED.name}
    assert took < patience(0.05)


def test_fields_of_one_name() -> None:
    """The limits are where they are said to be, with fragments counted where they stand."""
    for field, most in (("leaf", LEAVES_MAX), ("tree { leaf }", BRANCHES_MAX)):
        assert not over_limit("{" + f" {field}" * most + "}")
        assert over_limit("{" + f" {field}" * (most + 1) + "}")
    assert not over_limit("{" + " ...F" * SPREADS_MAX + "} fragment F on Query { leaf }")
    assert over_limit("{" + " ...F" * (SPREADS_MAX + 1) + "} fragment F on Query { leaf }")


@pytest.mark.parametrize("number", ["1" * 4_301, "1" * 16_000, "-" + "1" * 5_000, "0." + "1" * 9_000, "1e" + "1" * 41])
async def test_numbers_that_nobody_can_read(client: Client, number: str) -> None:
    """A number of thousands of digits is the client's mistake, wherever it stands; it costs no time, and is no bug."""
    for document in (
        f"{{ viewer {{ securityEvents(first: {number}) {{ edges {{ cursor }} }} }} }}",
        f"query($n: Int = {number}) {{ viewer {{ securityEvents(first: $n) {{ edges {{ cursor }} }} }} }}",
        f"{{ nodes(ids: [{number}]) {{ id }} }}",
    ):
        started = time.monotonic()
        assert client.codes(document) == {"BAD_REQUEST"}
        assert time.monotonic() - started < patience(1)


def test_depth() -> None:
    """Twelve fields inside one another pass, thirteen do not, inline or by fragments."""
    assert not over_limit("{ tree " * 11 + "{ leaf }" + "}" * 11)
    assert over_limit("{ tree " * 12 + "{ leaf }" + "}" * 12)
    assert not over_limit("{ tree { ...F } } fragment F on Query " + "{ tree " * 10 + "{ leaf }" + "}" * 10)
    assert over_limit("{ tree { ...F } } fragment F on Query " + "{ tree " * 11 + "{ leaf }" + "}" * 11)


@pytest.mark.parametrize("levels", [13, 60, 120, 240, 330])
def test_deep_documents_are_a_clients_mistake(client: Client, levels: int) -> None:
    """However deep a document nests, it is refused as one, and never ends in an internal error."""
    codes = client.codes("{ viewer " * levels + "{ id }" + "}" * levels)
    assert codes <= {LIMIT_EXCEEDED.name, "BAD_REQUEST"}
    assert LIMIT_EXCEEDED.name in codes


def test_fragments_that_multiply_cost_nothing(client: Client) -> None:
    """Ninety fragments that each spread the next one twice are measured at once, not in 2^90 steps."""
    fragments = " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(90))
    started = time.monotonic()
    codes = client.codes(f"{{ ...F0 }} {fragments} fragment F90 on Query {{ a: __typename }}")
    assert codes == {LIMIT_EXCEEDED.name}
    assert time.monotonic() - started < patience(5)


def test_cycles_and_unknown_fragments_are_refused(client: Client) -> None:
    """A fragment that spreads itself, or that is not there, is a bad request."""
    assert client.codes("{ ...F } fragment F on Query { ...F }") == {"BAD_REQUEST"}
    assert client.codes("{ ...F }") == {"BAD_REQUEST"}


@pytest.mark.smoke
def test_introspection_works(server: Server) -> None:
    """The standard introspection query fits the limits, without a session."""
    with Client(server.url) as anybody:
        kinds = anybody.run(get_introspection_query(input_value_deprecation=True))["types"]
    assert {"Account", "TransferResult"} <= {kind["name"] for kind in kinds}


def test_get_is_for_queries(client: Client, server: Server, people: list[Person]) -> None:
    """GET answers a query, and refuses a mutation with 405 and `Allow: POST`."""
    answer = client.http.get("/graphql", params={"query": VIEWER})
    assert answer.json()["data"]["viewer"]["username"] == people[0].username
    before = counted(server.path, "transfers")
    refused = client.http.get("/graphql", params={"query": f"mutation {{ {payments(people, 1)} }}"})
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert counted(server.path, "transfers") == before


def test_ways_in_that_are_closed(client: Client) -> None:
    """No batches, no uploads, no IDE from the network."""
    assert client.http.post("/graphql", json=[{"query": "{ __typename }"}]).status_code == 400
    assert client.http.post("/graphql", files={"0": b"x"}, data={"operations": "{}"}).status_code == 415
    page = client.http.get("/graphql", headers={"Accept": "text/html"})
    assert (page.status_code, "<script" in page.text) == (406, False)


async def test_validation_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules are the same objects for every request: a document is validated once."""
    KEPT.clear()
    validated: list[bool] = []

    def counting(*args: Any, **kwargs: Any) -> Any:
        validated.append(True)
        return validate(*args, **kwargs)

    monkeypatch.setattr(wallet_schema, "validate", counting)
    async with wallet_in(tmp_path, graphql_compile_after=0) as wallet:
        for _ in range(20):
            assert (await execute(wallet, None, "{ __typename }", {})).errors is None
    assert validated == 2 * [True]  # our own rules, then those of the specification
