"""B2: a budget of cost a minute for each user and network, over both APIs, and lists counted as long as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

import httpx
import pytest
from graphql import GraphQLObjectType, get_nullable_type, is_list_type
from starlette.datastructures import ImmutableMultiDict
from starlette.responses import Response

from tests.integration._live import EVENTS
from tests.integration._server import JSON, LOG_IN, PASSWORD, Person, settle
from tests.integration.test_graphql_cost import fields_of
from tests.integration.test_rate_limits import SOMEBODY, ask, by, check_refused
from wallet_gql.domain.errors import RateLimited
from wallet_gql.domain.ids import AccountId, UserId
from wallet_gql.domain.money import EXPONENTS
from wallet_gql.domain.security_events import Visitor
from wallet_gql.domain.users import SessionKind
from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience
from wallet_gql.transports.catalogue.operations import FILTER_COST, LIST_SIZE, PASSWORD_COST
from wallet_gql.transports.graphql.backend import GUARANTEES
from wallet_gql.transports.graphql.context import Context
from wallet_gql.transports.graphql.cost import COST_MAX, FIXED, HELD
from wallet_gql.transports.graphql.kept import KEPT
from wallet_gql.transports.graphql.schema import schema
from wallet_gql.transports.http.auth import Caller
from wallet_gql.transports.http.rate_limits import Limits
from wallet_gql.transports.rest.cost import cost_of
from wallet_gql.transports.rest.routes import OPERATIONS
from wallet_gql.transports.rest.routing import PARAMETERS_MAX
from wallet_gql.transports.rest.values import read
from wallet_gql.transports.server.app import create_app
from wallet_gql.verbs.lookups import To

BOUNDED: Final = {
    "Backend.guarantees": len(GUARANTEES),
    "InputProblem.path": 4,  # such as splits, 0, to, accountId
    "PaymentSplits.transfers": 10,  # domain.merchants.SPLITS_MAX
}
"""Lists that are never longer than `LIST_SIZE`."""

BY_INPUT: Final = {"TransferBatchSuccess.results"}
"""Lists as long as the input, which test_b2_a_batch_costs_what_its_items_do looks at."""

MANY: Final = 30


@asynccontextmanager
async def limited(limits: str, address: str = "192.0.2.1") -> AsyncIterator[tuple[httpx.AsyncClient, Wallet]]:
    """A client at that address of an application with those limits."""
    KEPT.clear()
    schema.plans.clear()  # they know what a document costs
    settings = load_settings(storage="memory://", mode="test", rate_limits=limits)
    async with open_wallet(settings, sweeps=False) as wallet:
        app = create_app(wallet)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, client=(address, 50_000))
            async with httpx.AsyncClient(transport=transport, base_url="http://wallet.test") as http:
                yield http, wallet


async def rich(wallet: Wallet, many: int = MANY) -> Person:
    """Somebody with so many accounts and sessions."""
    person = await settle(wallet, 10_000)
    for currency in [code for code in sorted(EXPONENTS) if code != "EUR"][: many - 1]:
        await wallet.ledger.open_account(UserId(person.id), currency)
    for _ in range(min(many, MANY) - 1):
        await wallet.identity.log_in(person.username, PASSWORD, SessionKind.BEARER)
    return person


def test_b2_every_list_has_a_size() -> None:
    """Each list of the schema says its size by an argument, or is in one of the tables: a new one cannot be missed."""
    unsized = {
        f"{kind.name}.{name}"
        for kind in schema._schema.type_map.values()
        if isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__")
        for name, field in kind.fields.items()
        if is_list_type(get_nullable_type(field.type)) and not {"first", "ids"} & set(field.args)
    }
    paged = {
        name for name in unsized if name.endswith(("Connection.edges", "Connection.nodes"))
    }  # their fields have `first`
    assert unsized - paged == HELD | set(FIXED) | set(BOUNDED) | BY_INPUT
    assert max(BOUNDED.values()) <= LIST_SIZE


@pytest.mark.parametrize(
    "query",
    [
        "{ viewer { accounts { id currency posted { decimal } } } }",
        "{ viewer { accounts { id } sessions(first: 30) { nodes { id } } } again: viewer { accounts { currency } } }",
        "query($id: ID!) { node(id: $id) { ... on User { accounts { id state } } } }",
        "query($id: ID!) { nodes(ids: [$id, $id]) { ... on User { accounts { id state } } } }",
        "{ currencies { code exponent } }",
        "{ backend { guarantees { name text } } }",
    ],
)
async def test_b2_lists_cost_as_much_as_they_have(query: str) -> None:
    """With thirty accounts and sessions an answer never has more fields than its cost says, wherever the list is."""
    async with limited("off") as (http, wallet):
        person = await rich(wallet)
        variables = {"id": person.id} if "$id" in query else {}
        answer = await http.post("/graphql", json={"query": query, "variables": variables}, headers=by(person))
        body = answer.json()
        assert "errors" not in body
        assert fields_of(body["data"]) <= body["extensions"]["cost"]["requested"] <= 3 * fields_of(body["data"])


async def test_b2_a_log_in_costs_what_its_user_has() -> None:
    """Who logs in is not known before: what the answer shows of the user counts all the same."""
    query = LOG_IN.replace("user { username }", "user { accounts { id currency state } }")
    async with limited("off") as (http, wallet):
        person = await rich(wallet)
        body = (await ask(http, None, query, {"login": person.username, "password": PASSWORD})).json()
        shown = body["data"]["logIn"]["user"]["accounts"]
        assert len(shown) == MANY
        assert body["extensions"]["cost"]["requested"] >= PASSWORD_COST + fields_of(body["data"])


async def test_b2_what_a_user_has_can_be_too_dear() -> None:
    """Ten accounts would pass; with all 150 nothing of their histories is read."""
    query = "{ viewer { accounts { history(first: 80) { edges { cursor node { sequence createdAt } } } } } }"
    async with limited("off") as (http, wallet):
        poor, person = await settle(wallet), await rich(wallet, len(EXPONENTS))
        assert "errors" not in (await ask(http, poor, query)).json()
        body = (await ask(http, person, query)).json()
        assert body["errors"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"
        assert body["extensions"]["cost"]["requested"] > COST_MAX
        assert body["data"] in (None, {"viewer": None})


@pytest.mark.parametrize("way", ["variables", "document"])
async def test_b2_a_batch_costs_what_its_items_do(way: str) -> None:
    """Each result counts as often as there are items, however the input is written."""
    shown = "... on TransferBatchSuccess { results { ... on TransferSuccess { transfer { id } } } }"
    async with limited("off") as (http, wallet):
        payer, payee = await settle(wallet, 1_000), await settle(wallet)
        items = [payer.pay(payee.username, 1) for _ in range(MANY)]
        if way == "variables":
            query = f"mutation($input: TransferBatchInput!) {{ transferBatch(input: $input) {{ {shown} }} }}"
            body = (await ask(http, payer, query, {"mode": "INDEPENDENT", "items": items})).json()
        else:
            written = " ".join(
                f'{{idempotencyKey: "{item["idempotencyKey"]}", fromAccountId: "{payer.account_id}", '
                f'to: {{username: "{payee.username}"}}, amount: {{minorUnits: 1, currency: EUR}}}}'
                for item in items
            )
            query = f"mutation {{ transferBatch(input: {{mode: INDEPENDENT, items: [{written}]}}) {{ {shown} }} }}"
            body = (await ask(http, payer, query)).json()
        assert len(body["data"]["transferBatch"]["results"]) == MANY
        assert fields_of(body["data"]) <= body["extensions"]["cost"]["requested"]


# ---------------------------------------------------------------- budgets

PAGE: Final = "{ viewer { accounts { history(first: 100) { edges { cursor } } } } }"
"""Costs 1,000 and a little."""


async def test_b2_a_user_has_a_budget() -> None:
    """What a user's requests cost adds up, over sessions and both APIs; others have their own budget."""
    async with limited("cost=5000/hour") as (http, wallet):
        ann, bob = await settle(wallet), await settle(wallet)
        answers = [await ask(http, ann, PAGE) for _ in range(6)]
        passed = [answer for answer in answers if answer.status_code == 200]
        assert 2 <= len(passed) < 6
        check_refused(answers[-1])
        page = {"first": "100", "entries": "10"}
        check_refused(await http.get("/v1/account", params=page, headers=by(ann)))
        assert (await http.get("/v1/user", headers=by(ann))).status_code == 200  # costs next to nothing
        assert (await ask(http, bob, PAGE)).status_code == 200


async def test_b2_pages_of_rest_come_from_the_same_budget() -> None:
    """A REST request costs as many members as its answer may have."""
    async with limited("cost=20000/hour") as (http, wallet):
        ann = await settle(wallet)
        path, page = f"/v1/account/{ann.account_id}/entry", {"first": "100"}
        answers = [await http.get(path, params=page, headers=by(ann)) for _ in range(12)]
        assert answers[0].status_code == 200
        check_refused(answers[-1])
        check_refused(
            await ask(http, ann, PAGE.replace("edges { cursor }", "edges { cursor node { sequence createdAt } }"))
        )


async def test_b2_a_network_has_a_budget() -> None:
    """Users at one address share one, too; at another address nobody notices."""
    async with limited("addressCost=3000/hour") as (http, wallet):
        people = [await settle(wallet) for _ in range(4)]
        codes = [(await ask(http, person, PAGE)).status_code for person in people]
        assert (codes[0], codes[-1]) == (200, 429)


async def test_b2_nonsense_is_paid_for_before_it_is_read() -> None:
    """A stranger's documents cost their length, valid or not; one that is kept parsed costs its fields alone."""
    async with limited("addressCost=28000/hour") as (http, _):
        for n in range(50):
            assert (await ask(http, None, "{ currencies { code } }")).status_code == 200, n
        for text in ("{ nothing " + "#" * 9_000, "{ a" + " " * 9_000 + "}"):
            assert (await http.post("/graphql", json={"query": text})).status_code in (200, 400)
        check_refused(await http.post("/graphql", json={"query": "{" * 9_000}))
        check_refused(await http.post("/v1/user", content=b'{"x": "' + b"x" * 250_000 + b'"}', headers=JSON))
        stream = {"Accept": "text/event-stream"}
        answer = await http.post("/graphql", json={"query": "{" * 9_000}, headers=stream)
        assert "RATE_LIMITED" in answer.text


async def test_b2_values_are_paid_for() -> None:
    """A kept document with thousands of values costs as much as they are."""
    query = "query($i: [ID!]!) { nodes(ids: $i) { id } }"
    async with limited("cost=10000/hour") as (http, wallet):
        ann = await settle(wallet)
        body = {"query": query, "variables": {"i": ["x"] * 2_900}}
        codes = [(await http.post("/graphql", json=body, headers=by(ann))).status_code for _ in range(6)]
        assert (codes[0], codes[-1]) == (200, 429)


async def test_b2_filters_and_statements_cost_their_work() -> None:
    """A page of one entry whose filter looks at thousands is not cheap, in either API."""
    fields = {
        'history(first: 1, filter: {reference: "x"}) { edges { cursor } }': 1_000,
        'statement(since: "2026-01-01T00:00:00Z", until: "2026-02-01T00:00:00Z") { since }': 200,
        'balanceAt(at: "2026-01-01T00:00:00Z") { decimal }': 100,
    }
    async with limited("cost=2500/hour") as (http, wallet):
        for field, least in fields.items():
            ann = await settle(wallet)
            query = f'{{ account(id: "{ann.account_id}") {{ {field} }} }}'
            body = (await ask(http, ann, query)).json()
            assert body["extensions"]["cost"]["requested"] >= least, body
        field = "history(first: 1, filter: $f) { edges { cursor } }"
        query = f"query($f: HistoryFilterInput) {{ viewer {{ accounts {{ {field} }} }} }}"
        body = {"query": query, "variables": {"f": None}}
        answer = await http.post("/graphql", json=body, headers=by(await settle(wallet)))
        assert answer.json()["extensions"]["cost"]["requested"] < 100
        bob = await settle(wallet)
        path, page = f"/v1/account/{bob.account_id}/entry", {"first": "1", "kind": "TRANSFER"}
        codes = [(await http.get(path, params=page, headers=by(bob))).status_code for _ in range(4)]
        assert codes[-1] == 429


FILTERED: Final = sorted(
    (operation.name, field.alias or name)
    for operation in OPERATIONS
    if operation.query is not None and operation.name.startswith("list")
    for name, field in operation.query.model_fields.items()
    if name not in {"first", "after", "order_by", "entries", "direction"}
)
"""Every filter of a list in REST."""

LEAST: Final = {
    "kind": ["TRANSFER"],
    "state": ["OPEN"],
    "since": "2026-01-01T00:00:00Z",
    "until": "2026-01-01T00:00:00Z",
    "counterparty": "",
    "reference": "",
    "minMinorUnits": "0",
    "maxMinorUnits": "0",
}
"""The least that can be given for a filter."""


@pytest.mark.parametrize(("name", "parameter"), FILTERED)
def test_b2_every_filter_is_paid_for(name: str, parameter: str) -> None:
    """Whatever its value is: zero and an empty text are searched for as others are."""
    operation = next(one for one in OPERATIONS if one.name == name)
    assert operation.query is not None
    plain, filtered = (read(operation.query, given) for given in ({}, {parameter: LEAST[parameter]}))
    assert cost_of(operation, filtered) == cost_of(operation, plain) + FILTER_COST


async def test_b2_long_queries_are_refused_and_paid_for() -> None:
    """Of every route: so many parameters are not even parsed, and their length is paid for as that of a body is."""
    many = "&".join(f"{n:04x}" for n in range(12_000))
    async with limited("cost=20000/hour") as (http, wallet):
        ann = await settle(wallet)
        for operation in (one for one in OPERATIONS if one.query is not None):
            answer = await http.request(operation.method, f"{operation.path}?{many}", headers=by(ann))
            assert (answer.status_code, answer.json()["field"]) == (400, "query"), operation.name
        codes = [(await http.get(f"/v1/user?{many}", headers=by(ann))).status_code for _ in range(25)]
        assert (codes[0], codes[-1]) == (400, 429)


async def test_b2_parameters_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the limit; nothing searches all of them for each name."""
    monkeypatch.delattr(ImmutableMultiDict, "getlist")
    async with limited("off") as (http, wallet):
        ann = await settle(wallet)
        for many, status in ((PARAMETERS_MAX, 200), (PARAMETERS_MAX + 1, 400)):
            answer = await http.get("/v1/entry?" + "&".join(["kind=TRANSFER"] * many), headers=by(ann))
            assert answer.status_code == status
        for query in ("first=1&first=1", "first=1&kind=TRANSFER&first=2"):
            answer = await http.get(f"/v1/entry?{query}", headers=by(ann))
            assert (answer.status_code, answer.json()["field"]) == (400, "first")


async def test_b2_events_of_a_subscription_are_paid_for() -> None:
    """Each event costs what the first one did; when the budget is used up the stream says when to come back."""
    dear = EVENTS.replace("account { state", "account { history(first: 100) { edges { cursor } } state")
    settings = load_settings(storage="memory://", rate_limits="cost=2000/hour")
    async with open_wallet(settings, sweeps=False) as wallet:
        payer, payee = await settle(wallet, 1_000), await settle(wallet)
        for number in range(30):
            to, source = To(username=payee.username), AccountId(payer.account_id)
            await wallet.ledger.transfer(
                UserId(payer.id), f"k{number}", source=source, to=to, amount_minor=1, currency="EUR", reference=""
            )
        caller = Caller(wallet.identity, payee.token, visitor=Visitor("192.0.2.1"), limits=Limits(settings))
        results = await schema.stream(dear, {"id": payee.account_id, "after": 0}, Context(wallet, caller, Response()))
        events, codes = 0, list[object]()
        async with aclosing(results), asyncio.timeout(patience(30)):
            async for result in results:
                events += result.data is not None
                if events == 30:
                    break
                codes += [(error.extensions or {})["code"] for error in result.errors or ()]
    assert (5 <= events < 20, codes) == (True, ["RATE_LIMITED"])


async def test_b2_a_refusal_says_when_there_is_room_for_so_much() -> None:
    """Whoever comes back after the told time succeeds: it is not the time until there is room for a cost of one."""
    now = 6_000_000.0
    limits = Limits(load_settings(rate_limits="cost=1000/minute"), lambda: now)
    for spent, wanted, wait in (
        (1_000, 900, 54),
        (1_000, 100, 6),
        (300, 800, 20),
        (1_000, 1_000, 60),
    ):
        now += 300 - now % 60  # at the beginning of a minute
        await limits.spend(SOMEBODY, None, spent)
        with pytest.raises(RateLimited) as refused:
            await limits.spend(SOMEBODY, None, wanted)
        seconds = wait + 60  # until the minute ends, and until enough of it has left the window
        assert abs(int(str(refused.value.fields["retry_after_seconds"])) - seconds) <= 1
        now += seconds - 3
        with pytest.raises(RateLimited) as again:
            await limits.spend(SOMEBODY, None, wanted)
        assert 2 <= int(str(again.value.fields["retry_after_seconds"])) <= 4
        now += 4
        await limits.spend(SOMEBODY, None, wanted)
