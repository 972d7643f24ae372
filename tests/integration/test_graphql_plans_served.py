"""Compiled documents as they are served: every document has a plan, and nothing runs twice."""

from __future__ import annotations

import ast
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from graphql import (
    DocumentNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    parse,
    specified_rules,
)
from starlette.responses import Response
from strawberry.schema.schema import validate_document

from tests.integration._server import TRANSFER, VIEWER, Person, settle
from wallet_gql.domain.errors import Unavailable
from wallet_gql.domain.ids import UserId
from wallet_gql.graphql_plans import Inputs, NotCoveredError, Plan, Plans
from wallet_gql.graphql_plans.plan import Prepared
from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.transports.graphql import planned
from wallet_gql.transports.graphql.context import Context
from wallet_gql.transports.graphql.cost import Meter, Pricing
from wallet_gql.transports.graphql.schema import WalletSchema, schema
from wallet_gql.transports.http.auth import Caller
from wallet_gql.transports.web.graphiql import demo_tabs

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS_MIN: Final = 60


# ---------------------------------------------------------------- documents


def _texts() -> Iterator[str]:
    """What may be a document: the tabs, and whatever is quoted or fenced in docs, tests, examples and benchmarks."""
    tabs = demo_tabs(username="x", password="x", account_id="x", payee="x", hold_id="x", after="x")
    yield from (tab.query for tab in tabs)
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8").replace("\\$", "$")
        for match in re.finditer(r"```graphql\n(.*?)```|[`\"]((?:query|mutation)\b[^`\"]*)[`\"]", text, re.DOTALL):
            yield match[1] or match[2]
    for folder in ("tests", "examples", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
    yield from (TRANSFER, VIEWER)


def _documents() -> Iterator[DocumentNode]:
    """Those that are valid documents of this schema, with one operation."""
    for text in dict.fromkeys(_texts()):
        if text.lstrip().startswith(("{", "query", "mutation", "fragment")):
            try:
                document = parse(text)
            except GraphQLError:
                continue
            operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
            is_one = len(operations) == 1 and operations[0].operation is not OperationType.SUBSCRIPTION
            if is_one and not validate_document(schema._schema, document, tuple(specified_rules)):
                yield document


def test_every_document_has_a_plan() -> None:
    """Of all documents in docs, tabs, tests, examples and benchmarks plans leave out introspection alone."""
    inputs, covered = Inputs(schema), 0
    for document in _documents():
        try:
            Plan(schema, inputs, document, None)
        except NotCoveredError as left_out:
            assert str(left_out) == "introspection", document.loc and document.loc.source.body  # noqa: PT017 - both ways are right
        else:
            covered += 1
    assert covered >= DOCUMENTS_MIN


# ---------------------------------------------------------------- running


@pytest.fixture
async def wallet() -> AsyncIterator[Wallet]:
    """A fresh one, over memory."""
    async with open_wallet(
        load_settings(storage="memory://", mode="test", graphql_compile_after=1), sweeps=False
    ) as opened:
        yield opened


async def run(wallet: Wallet, person: Person, query: str, variables: dict[str, Any] | None = None) -> Any:
    """What the schema answers."""
    context = Context(wallet, Caller(wallet.identity, person.token), Response())
    return await schema.execute(query, variables, context)


async def posted(wallet: Wallet, person: Person) -> int:
    """Somebody's balance."""
    (account,) = await wallet.ledger.accounts(UserId(person.id))
    return int(account.posted_minor)


def _failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every plan fail behind its work, as only a bug of the package can."""
    right = Prepared.run

    async def wrong(self: Prepared, *args: Any) -> Any:
        await right(self, *args)
        raise NotCoveredError("too late")

    monkeypatch.setattr(Prepared, "run", wrong)


async def test_a_mutation_that_has_begun_never_runs_again(wallet: Wallet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if a plan fails where it must not, the money moves once; the client is told of our bug."""
    payer, payee = await settle(wallet, 1_000), await settle(wallet)
    _failing(monkeypatch)

    result = await run(wallet, payer, TRANSFER, {"input": payer.pay(payee.username, 10)})

    assert [error.extensions["code"] for error in result.errors] == ["INTERNAL"]
    assert await posted(wallet, payee) == 10


async def test_a_fall_back_behind_the_beginning_would_be_seen(wallet: Wallet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of the test above: whoever turns to graphql-core then makes a replay, or a second payment."""
    payer, payee = await settle(wallet, 1_000), await settle(wallet)
    calls: list[str] = []
    right = planned.Ready.run

    async def wrong(self: planned.Ready, context: Context, extensions: Any) -> Any:
        await right(self, context, extensions)
        calls.append("plan")
        other = await super(WalletSchema, schema).execute(TRANSFER, {"input": given}, context)
        calls.append(other.data["transfer"]["replayed"] if other.data else "failed")
        return other

    monkeypatch.setattr(planned.Ready, "run", wrong)
    given = payer.pay(payee.username, 10)
    result = await run(wallet, payer, TRANSFER, {"input": given})

    assert calls == ["plan", True]
    assert result.data["transfer"]["replayed"] is True  # a client sees that it ran twice; the ledger moved once
    assert await posted(wallet, payee) == 10


async def test_what_a_plan_cannot_decide_runs_without_it(wallet: Wallet) -> None:
    """Introspection and a condition that is no boolean go to graphql-core, each once."""
    person = await settle(wallet)
    inspecting = "{ __schema { queryType { name } } }"
    assert (await run(wallet, person, inspecting)).errors is None
    assert schema.plans._made[inspecting, None] is None
    odd = "query($c: Boolean = true) { __typename @skip(if: $c) }"
    result = await run(wallet, person, odd, {"c": None})
    assert "@skip" in result.errors[0].message or "if" in result.errors[0].message


@pytest.mark.parametrize("sights", [0, 1], ids=["core", "plan"])
@pytest.mark.parametrize(("failure", "told"), [(RuntimeError("a bug"), "ERROR"), (Unavailable("away"), "WARNING")])
async def test_the_log_names_the_field_and_not_the_alias(
    sights: int, failure: Exception, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An alias is the client's text, which may be a secret or look like another line."""

    async def fail(*_: object, **__: object) -> None:
        raise failure

    settings = load_settings(storage="memory://", graphql_compile_after=sights)
    async with open_wallet(settings, sweeps=False) as wallet:
        person = await settle(wallet)
        monkeypatch.setattr(wallet.ledger, "accounts", fail)
        result = await run(wallet, person, "{ hunter2: viewer { hunter3: accounts { id } } }")
    assert result.errors[0].path == ["hunter2", "hunter3"]
    (line,) = (record for record in caplog.records if record.levelname == told)
    assert "accounts" in line.getMessage()
    assert "hunter" not in line.getMessage()


# ---------------------------------------------------------------- what is kept


def test_a_document_that_comes_once_is_not_kept() -> None:
    """It is noted, and forgotten after others; nothing is made of it."""
    made: list[str] = []

    def make(text: str, _name: str | None) -> str:
        made.append(text)
        return text

    plans = Plans(make, most=100)

    for turn in range(3):
        for number in range(2_000):
            assert plans.find(f"{number}", None, sights=2) is None, turn
            plans.saw(f"{number}", None)

    assert (made, len(plans)) == ([], 0)


def test_plans_are_bounded() -> None:
    """The least recently used goes first."""
    plans: Plans[str] = Plans(lambda text, _name: text, most=3)
    for text in ("a", "b", "c", "a", "d"):
        assert plans.find(text, None, sights=1) == text
    assert list(plans._made) == [("c", None), ("a", None), ("d", None)]


def test_names_of_operations_are_told_apart() -> None:
    """One document with two operations has two plans."""
    plans: Plans[str] = Plans(lambda text, name: f"{text} {name}")
    assert [plans.find("x", name, sights=1) for name in (None, "A", "B")] == ["x None", "x A", "x B"]


def test_what_is_wrong_is_never_noted() -> None:
    """A document that is not valid is not kept, however often it comes."""
    plans: Plans[str] = Plans(lambda _text, _name: None)
    assert [plans.find("x", None, sights=1) for _ in range(3)] == [None] * 3
    assert len(plans) == 0


SIZED: Final = (
    """query($first: Int = 7, $ids: [ID!]!) {
    viewer { accounts { history(first: $first) { edges { cursor } } } } nodes(ids: $ids) { id } }""",
    """query($first: Int!, $ids: HistoryFilterInput = {reference: "tea"}) {
    account(id: "x") { history(first: $first, filter: $ids) { edges { cursor } } } }""",
    "mutation($first: TransferBatchInput!) { transferBatch(input: $first) { results { __typename } } }",
    "mutation($ids: [TransferItem!]!) { transferBatch(input: {items: $ids}) { results { __typename } } }",
)
ODD: Final[tuple[Any, ...]] = (
    None,
    0,
    -3,
    5,
    100,
    10**6,
    "x",
    True,
    {"a": 1},
    {"items": [1, 2]},
    {"items": None},
    [],
    ["a"] * 200,
)


@pytest.mark.parametrize("text", SIZED)
def test_the_price_is_what_the_meter_says(text: str) -> None:
    """Cost as a function of variables is what is measured with them, for values that are wrong, too."""
    document = parse(text)
    pricing = Pricing(schema._schema, document, None)
    for first in ODD:
        for ids in ODD:
            for variables in ({"first": first, "ids": ids}, {"ids": ids}, {"first": first}, {}):
                meter = Meter(schema._schema, document, variables)
                expected = meter.of_operation(None), meter.items
                assert [pricing.of(variables) for _ in range(2)] == [expected] * 2
