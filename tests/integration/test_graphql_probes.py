"""The twelve probes of graphql-cop, sent to the application in production mode, and further attacks.

Each probe says what it looks for and what it finds here. `Production` refuses all but one: it serves queries by GET,
which are harmless: they change nothing, and no other site can send them with a cookie.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from tests.integration._server import LOG_IN, PASSWORD, VIEWER, Person, settle
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience
from wallet_gql.transports.server.app import create_app, playground

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICK_SECONDS: Final = 0.05
"""What refusing may take of the processor at most, as the best of three."""

FORM: Final = "application/x-www-form-urlencoded"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[httpx.AsyncClient, Person]]:
    """A client of an application in production mode, and a user."""
    folder = tmp_path_factory.mktemp("probes")
    settings = load_settings(storage=f"sqlite:///{folder / 'wallet.db'}", mode="production", rate_limits="off")
    async with open_wallet(settings, sweeps=False) as wallet:
        app = create_app(wallet, playground(settings))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="https://wallet.test") as http:
                yield http, await settle(wallet, 1_000)


async def post(site: tuple[httpx.AsyncClient, Person], query: str, **more: Any) -> httpx.Response:
    """Send a document as the user."""
    http, person = site
    headers = {"Authorization": f"Bearer {person.token}"}
    return await http.post("/graphql", json={"query": query, **more}, headers=headers)


async def refused_quickly(
    site: tuple[httpx.AsyncClient, Person], query: str, code: str = "LIMIT_EXCEEDED"
) -> list[dict[str, Any]]:
    """The errors, each with the code, of a document that must be refused at once, without data."""
    took: list[float] = []
    answer = await post(site, query)
    for _ in range(3):
        started = time.process_time()
        answer = await post(site, query)
        took.append(time.process_time() - started)
    body = answer.json()
    assert "data" not in body, body
    assert min(took) < patience(QUICK_SECONDS)
    assert {error["extensions"]["code"] for error in body["errors"]} == {code}
    errors: list[dict[str, Any]] = body["errors"]
    return errors


# Denial of service


async def test_alias_overloading(site: tuple[httpx.AsyncClient, Person]) -> None:
    """A hundred aliases of one field are refused."""
    aliases = " ".join(f"alias{n}: __typename" for n in range(101))
    await refused_quickly(site, f"query cop {{ {aliases} }}")


async def test_alias_overloading_by_fragments(site: tuple[httpx.AsyncClient, Person]) -> None:
    """Fifteen aliases, spread fifty times, are as many as they are."""
    aliases = " ".join(f"a{n}: __typename" for n in range(15))
    spreads = " ".join(f"b{n}: viewer {{ ...f }}" for n in range(5))
    await refused_quickly(site, f"query cop {{ {spreads} }} fragment f on User {{ {aliases} }}")


@pytest.mark.parametrize("names", [["transfer"] * 6, ["logIn"] * 2, ["signUp"] * 2, ["changePassword"] * 2], ids=str)
async def test_many_attempts_in_one_document(site: tuple[httpx.AsyncClient, Person], names: list[str]) -> None:
    """Neither payments beyond five nor a second password in one request: aliases are no way around the limits."""
    inputs = {
        "transfer": '{idempotencyKey: "k", fromAccountId: "a", to: {username: "b"}, amount: {minorUnits: 1, '
        'currency: "EUR"}}',
        "logIn": '{login: "ann", password: "x"}',
        "signUp": '{username: "ann", email: "a@b.cd", password: "12345678"}',
        "changePassword": '{oldPassword: "x", newPassword: "y"}',
    }
    fields = [f"a{n}: {name}(input: {inputs[name]}) {{ __typename }}" for n, name in enumerate(names)]
    await refused_quickly(site, f"mutation cop {{ {' '.join(fields)} }}")


async def test_batch_queries(site: tuple[httpx.AsyncClient, Person]) -> None:
    """A list of requests is no request."""
    http, _ = site
    answer = await http.post("/graphql", json=[{"query": "query cop { __typename }"}] * 10)
    assert answer.status_code == 400
    assert "data" not in answer.text


@pytest.mark.parametrize("directive", ["@aa", "@include(if: true)", "@skip(if: false)"])
@pytest.mark.parametrize("place", ["query cop {{ __typename {0} }}", "query cop {0} {{ __typename }}"])
async def test_directive_overloading(site: tuple[httpx.AsyncClient, Person], directive: str, place: str) -> None:
    """Many directives on one place are refused, and not with an error for each of them."""
    errors = await refused_quickly(site, place.format(directive * 100))
    assert len(errors) == 1


async def test_directives_at_many_fields(site: tuple[httpx.AsyncClient, Person]) -> None:
    """Each field may have the directive, and fifty are answered; one more is refused."""
    included = "__typename @include(if: true) "
    assert (await post(site, f"query cop {{ {included * 50} }}")).json()["data"] == {"__typename": "Query"}
    await refused_quickly(site, f"query cop {{ {included * 51} }}")


async def test_field_duplication(site: tuple[httpx.AsyncClient, Person]) -> None:
    """One field a hundred times is answered once; once more is refused, as are five hundred times."""
    assert (await post(site, f"query cop {{ {'__typename ' * 100} }}")).json()["data"] == {"__typename": "Query"}
    for count in (101, 500):
        await refused_quickly(site, f"query cop {{ {'__typename ' * count} }}")


@pytest.mark.parametrize("rounds", [1, 2, 8])
async def test_circular_query_by_introspection(site: tuple[httpx.AsyncClient, Person], rounds: int) -> None:
    """Refused in production, as all introspection of the schema is, however often it goes round."""
    inner = "name"
    for _ in range(rounds):
        inner = f"fields {{ name type {{ {inner} }} }}"
    await refused_quickly(site, f"query cop {{ __schema {{ types {{ {inner} }} }} }}", "BAD_REQUEST")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("query cop {" + "viewer {" * 60 + "id" + "}" * 61, "nested deeper"),
        ("query cop { viewer { " + "id " * 400 + "} }", "fields that are answered under one name"),
        ("query cop { viewer { " + " ".join(f"f{n}" for n in range(400)) + "} }", "400 fields"),
        ("query cop { viewer { " + "id " * 1_000 + "} }", "tokens"),
        ("{" * 50_000, "16384 characters"),
        ("query cop { viewer { ...a } } fragment a on User { ...b } fragment b on User { ...a }", "itself"),
        ("query cop { nodes(ids: " + json.dumps(["x"] * 900) + ") { id } }", "ids"),
        ("query cop { viewer { accounts { history(first: 101) { edges { cursor } } } } }", "100"),
    ],
    ids=lambda text: text[:40],
)
async def test_documents_beyond_the_limits(site: tuple[httpx.AsyncClient, Person], query: str, told: str) -> None:
    """Depth, fields, tokens, brackets, circles, lists and pages: refused with the limit, or an error for the page."""
    started = time.process_time()
    body = (await post(site, query)).json()
    assert time.process_time() - started < patience(10 * QUICK_SECONDS)
    assert told in body["errors"][0]["message"]
    assert "edges" not in json.dumps(body.get("data"))


async def test_bodies_beyond_the_limit(site: tuple[httpx.AsyncClient, Person]) -> None:
    """256 KiB are read, no more, whatever the length says."""
    http, _ = site

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 10_000

    headers = {"Content-Type": "application/json"}
    for content in (b" " * 300_000, chunks()):
        answer = await http.post("/graphql", content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "REQUEST_ENTITY_TOO_LARGE")


# Information


async def test_field_suggestions(site: tuple[httpx.AsyncClient, Person]) -> None:
    """A misspelt name is not corrected: the schema cannot be guessed letter by letter."""
    for query in (
        "query cop { __schema { directive } }",
        "query cop { viewe { id } }",
        'mutation cop { transfe(input: {idempotencyKey: "x"}) { __typename } }',
        "query cop { viewer { ... on Use { id } } }",
        "mutation cop { logIn(inpu: {}) { __typename } }",
        'mutation cop { logIn(input: {logi: "x", password: "y"}) { __typename } }',
        'mutation cop { logIn(input: {login: "x", password: "y", session: COOKI}) { __typename } }',
    ):
        await tells_no_names(site, query)
    right = {"login": "x", "password": "y"}
    for wrong in ({**right, "logi": "x"}, {**right, "session": "COOKI"}):
        await tells_no_names(site, LOG_IN, variables={"input": wrong})


async def tells_no_names(site: tuple[httpx.AsyncClient, Person], query: str, **more: Any) -> None:
    """A mistake is told, and nothing that the client has not named itself."""
    text = (await post(site, query, **more)).text
    assert "errors" in text
    for hint in ("did you mean", "perhaps"):
        assert hint not in text.lower()


@pytest.mark.parametrize(
    "query",
    [
        "query cop { __schema { types { name } } }",
        'query cop { __type(name: "User") { fields { name } } }',
        "query cop { ...f } fragment f on Query { __schema { queryType { name } } }",
        "query cop { a: __schema { queryType { name } } }",
        "query cop { ... on Query { ... @include(if: true) { __schema { queryType { name } } } } }",
    ],
)
async def test_introspection(site: tuple[httpx.AsyncClient, Person], query: str) -> None:
    """In production every form of introspection is refused; `__typename` is allowed."""
    await refused_quickly(site, query, "BAD_REQUEST")
    assert (await post(site, "{ __typename }")).json()["data"] == {"__typename": "Query"}


@pytest.mark.parametrize("setting", [{}, {"mode": "production", "introspection": True}])
async def test_introspection_where_it_is_wanted(setting: dict[str, Any], tmp_path: Any) -> None:
    """In development, or where the operator says so, tools can ask; a document that was refused elsewhere, too."""
    settings = load_settings(storage=f"sqlite:///{tmp_path / 'wallet.db'}", **setting)
    async with open_wallet(settings, sweeps=False) as wallet:
        app = create_app(wallet)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://wallet.test") as http,
        ):
            answer = await http.post("/graphql", json={"query": "query cop { __schema { types { name } } }"})
            assert "signUp" not in answer.text
            assert {"name": "User"} in answer.json()["data"]["__schema"]["types"]


@pytest.mark.parametrize("path", ["/", "/graphql", "/graphiql", "/playground", "/console", "/graphql/console"])
async def test_graphiql(site: tuple[httpx.AsyncClient, Person], path: str) -> None:
    """No page to try queries on in production."""
    http, _ = site
    answer = await http.get(path, headers={"Accept": "text/html"})
    for word in ("graphiql.min", "GraphiQL", "playground", "swagger"):
        assert word not in answer.text


async def test_tracing(site: tuple[httpx.AsyncClient, Person]) -> None:
    """No timings, no plans, no stack traces, whatever header asks for them."""
    http, person = site
    asked = {"Authorization": f"Bearer {person.token}", "X-Apollo-Tracing": "1", "Apollo-Query-Plan-Experimental": "1"}
    for query in (VIEWER, "{ nonsense }", "{"):
        text = (await http.post("/graphql", json={"query": query}, headers=asked)).text
        for word in ("tracing", "queryPlan", "stacktrace", "Traceback", "exception", "ftv1"):
            assert word not in text


async def test_unhandled_errors(site: tuple[httpx.AsyncClient, Person]) -> None:
    """Malformed requests of all kinds are the client's fault, with a code, and tell nothing of the inside."""
    http, _ = site
    headers = {"Content-Type": "application/json"}
    for content in (b"", b"{", b"[]", b"null", b'"x"', b"1", b'{"query": 1}', b'{"query": {"$ne": null}}', b"\xff"):
        answer = await http.post("/graphql", content=content, headers=headers)
        assert 400 <= answer.status_code < 500, content
        assert 'File "' not in answer.text
    for variables in ({"input": {"$ne": None}}, {"input": {"login": {"$gt": ""}, "password": {"$gt": ""}}}):
        answer = await http.post("/graphql", json={"query": LOG_IN, "variables": variables})
        assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


# Forged requests


async def test_get_queries(site: tuple[httpx.AsyncClient, Person]) -> None:
    """Served, for they change nothing; but no other site can make a browser send one with the cookie."""
    http, person = site
    cookie = {"Cookie": f"__Host-wallet={person.token}"}
    query = {"query": VIEWER}
    own = await http.get("/graphql", params=query, headers={**cookie, "Sec-Fetch-Site": "same-origin"})
    assert own.json()["data"]["viewer"]["username"] == person.username
    assert own.headers["cache-control"] == "no-store"
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {}):
        assert (await http.get("/graphql", params=query, headers={**cookie, **headers})).status_code == 403


async def test_get_mutations(site: tuple[httpx.AsyncClient, Person]) -> None:
    """Never, whatever the operation is called and wherever the token is."""
    http, person = site
    bearer = {"Authorization": f"Bearer {person.token}"}
    for query in (
        "mutation cop { logOut { __typename } }",
        "query a { __typename } mutation b { logOut { __typename } }",
    ):
        params = {"query": query, "operationName": "b"} if " b " in query else {"query": query}
        answer = await http.get("/graphql", params=params, headers=bearer)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (await http.get("/v1/user", headers=bearer)).status_code == 200


@pytest.mark.parametrize(
    "media_type",
    [FORM, "multipart/form-data; boundary=x", "text/plain", "application/graphql", "text/application/json", ""],
)
async def test_posts_that_a_form_can_send(site: tuple[httpx.AsyncClient, Person], media_type: str) -> None:
    """Forms, plain text and uploads are refused before they are read: other sites could send them."""
    http, person = site
    headers = {"Authorization": f"Bearer {person.token}", **({"Content-Type": media_type} if media_type else {})}
    for path, content in (("/graphql", b"query=query+cop+%7B+__typename+%7D"), ("/v1/session", b"login=x&password=y")):
        answer = await http.post(path, content=content, headers=headers)
        assert answer.status_code == 415, path


async def test_inputs_take_nothing_that_is_not_theirs(site: tuple[httpx.AsyncClient, Person]) -> None:
    """Nobody sets a balance, a role, a status or an owner: unknown members are refused in both APIs."""
    http, person = site
    bearer = {"Authorization": f"Bearer {person.token}"}
    opening = "mutation($input: OpenAccountInput!) { openAccount(input: $input) { __typename } }"
    for more in ({"postedMinor": 10**9}, {"owner": "usr_x"}, {"state": "OPEN"}, {"role": "operator"}, {"id": "acc_x"}):
        given = {"currency": "USD", **more}
        answer = await http.post("/graphql", json={"query": opening, "variables": {"input": given}}, headers=bearer)
        assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"
        assert (await http.post("/v1/account", json=given, headers=bearer)).status_code == 400
    joining = {"username": "newcomer", "email": "n@example.org", "password": PASSWORD, "isOperator": True}
    assert (await http.post("/v1/user", json=joining)).status_code == 400
