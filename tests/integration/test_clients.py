"""Clients, compilers and audits written by others, against our schema and a running server."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from graphql import (
    build_client_schema,
    build_schema,
    get_introspection_query,
    graphql_sync,
    is_object_type,
    lexicographic_sort_schema,
    parse,
    print_schema,
    validate,
)

from tests.integration._clients import (
    CLIENTS,
    ROOT,
    SCHEMA,
    install,
    program,
    relay_compiler,
    run,
    run_client,
    run_program,
)
from tests.integration._server import Client, Person, Server, serving, settle_all
from wallet_gql.testing.patience import patience

pytestmark = [pytest.mark.trial, pytest.mark.timeout(400)]  # the first test installs

ENTRIES: Final = 10
START_MINOR: Final = 100_000
RESPONSE_JSON: Final = "application/graphql-response+json; charset=utf-8"

AUDITS: Final = """
    22EB 4655 47DE 80D8 82A3 BF61 78D5 2C94 5A70 9C48 9ABE 03D4 A5BF 423L LKJ0 LKJ1 LKJ2 LKJ3 34A2 13EE 6C00 6C01 6C02
    6C03 8161 B8B3 94B0 94B1 94B2 0220 0221 0222 4760 4761 4762 4763 2EA1 28B9 D6D5 6A70 58B0 58B1 58B2 58B3 428F 1B7A
    B6DC BCF8 B7N8 8764 3E3A 572B FDE2 7B9B 865D 556A D586 51FE 74FF 5E5B 86EE
"""
"""The id of every audit of graphql-http 1.23.1."""

BENT: Final = {
    ("@graphql-eslint/no-typename-prefix", 'Field "username" starts with the name of the parent type "User"')
}
"""What the linter may say: the word is the same wherever there is a username."""

ONLY_ANSWERED: Final = {"InsufficientFunds"}
"""Types with amounts that no query leads to: caches keep nothing of them."""

RELAY: Final = {
    "src": "./src",
    "schema": "./schema.graphql",
    "language": "javascript",
    "artifactDirectory": "./src/__generated__",
    "customScalarTypes": {"BigInt": "string", "CurrencyCode": "string", "DateTime": "string"},
    "persistConfig": {"file": "./persisted.json", "algorithm": "SHA256"},
}


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    """The programs are there."""
    install()


@pytest.fixture
def people(server: Server) -> tuple[Person, Person]:
    """Somebody with some history, and a payee."""
    payer, payee = settle_all(server.storage, START_MINOR, 0)
    with Client(server.url, payer.token) as client:
        for _ in range(ENTRIES - 2):
            assert client.transfer(**payer.pay(payee.username, 1))["__typename"] == "TransferSuccess"
    return payer, payee


# ---------------------------------------------------------------- audits and compilers


def test_every_audit_passes(server: Server) -> None:
    """All 61 audits of graphql-http are ok, by their ids."""
    results = run("audits.mjs", URL=f"{server.url}/graphql")
    assert {name: result for name, result in results.items() if result["status"] != "ok"} == {}
    assert set(results) == set(AUDITS.split())
    assert len(results) == 61


def test_the_audits_find_something(server: Server) -> None:
    """Against an address that is no GraphQL server they fail."""
    results = run("audits.mjs", URL=f"{server.url}/healthz")
    assert sum(result["status"] != "ok" for result in results.values()) > 30


def test_the_schema_is_clean(tmp_path: Path) -> None:
    """graphql-eslint has nothing against the schema; it has something against a worse one."""
    found = run("lint.mjs", SCHEMA=str(SCHEMA))
    assert {(each["rule"], each["message"]) for each in found} <= BENT
    worse = tmp_path / "schema.graphql"
    worse.write_text("type Query { lower: lower_case }\ntype lower_case { getThing: [Int] }\n")
    rules = {each["rule"].removeprefix("@graphql-eslint/") for each in run("lint.mjs", SCHEMA=str(worse))}
    assert {"naming-convention", "require-description"} <= rules


def relay(folder: Path) -> Path:
    """Compile for Relay; the manifest that it writes."""
    shutil.copytree(CLIENTS / "relay" / "src", folder / "src")
    (folder / "src" / "__generated__").mkdir()
    shutil.copy(SCHEMA, folder)
    (folder / "relay.config.json").write_text(json.dumps(RELAY))
    manifest = folder / "persisted.json"
    manifest.write_text("{}")
    run_program([program("node"), relay_compiler()], folder, {})
    return manifest


def codegen(folder: Path) -> Path:
    """Generate with graphql-codegen; the manifest that it writes."""
    run("codegen.mjs", SCHEMA=str(SCHEMA), OUT=str(folder))
    return folder / "persisted-documents.json"


def test_relay_compiles(tmp_path: Path) -> None:
    """relay-compiler takes the schema: node, a refetchable connection, a mutation, a subscription."""
    relay(tmp_path)
    made = {path.name.removesuffix(".graphql.js") for path in (tmp_path / "src" / "__generated__").iterdir()}
    assert made == {
        "AppAccountQuery",
        "AppHistoryQuery",
        "AppPayMutation",
        "AppViewerQuery",
        "AppWatchSubscription",
        "App_history",
    }


def test_codegen_generates(tmp_path: Path) -> None:
    """graphql-codegen makes typed documents in which amounts are strings."""
    codegen(tmp_path)
    text = (tmp_path / "graphql.ts").read_text()
    assert "minorUnits: string" in text
    assert "export type PayMutation " in text
    assert "any;" not in text


def test_the_file_is_what_is_served(server: Server) -> None:
    """All that compiles against schema.graphql compiles against the running server."""
    query = get_introspection_query(specified_by_url=True, input_value_deprecation=True)
    served = httpx.post(f"{server.url}/graphql", json={"query": query}, timeout=patience(30)).json()["data"]
    known: Any = graphql_sync(build_schema(SCHEMA.read_text()), query).data
    shown = [print_schema(lexicographic_sort_schema(build_client_schema(one))) for one in (served, known)]
    assert shown[0] == shown[1]


def test_inspector_finds_breaks(tmp_path: Path) -> None:
    """graphql-inspector distinguishes a breaking change from an addition."""
    text = SCHEMA.read_text()
    more = tmp_path / "more.graphql"
    more.write_text(f"{text}\nextend type Query {{ more: Int }}\n")
    assert run("inspect.mjs", OLD=str(SCHEMA), NEW=str(more)) == []
    assert [each["path"] for each in run("inspect.mjs", OLD=str(more), NEW=str(SCHEMA))] == ["Query.more"]


def _last_tag() -> str | None:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        return None
    asked = ["git", "describe", "--tags", "--abbrev=0"]
    done = subprocess.run(asked, check=False, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def test_nothing_breaks_since_the_last_tag(tmp_path: Path) -> None:
    """Clients of the last release can go on: graphql-inspector finds no break. Before the first there is nothing."""
    tag = _last_tag()
    if tag is None:
        return
    asked = ["git", "show", f"{tag}:schema.graphql"]
    before = tmp_path / "before.graphql"
    before.write_text(subprocess.run(asked, check=True, cwd=ROOT, capture_output=True, text=True).stdout)
    assert run("inspect.mjs", OLD=str(before), NEW=str(SCHEMA)) == []


def test_relay_pages_through_every_list(tmp_path: Path) -> None:
    """relay-compiler takes `@connection` on each list of the schema that comes in pages."""
    schema = build_schema(SCHEMA.read_text())
    made = []
    for kind in schema.type_map.values():
        for name, field in kind.fields.items() if is_object_type(kind) else ():
            if str(field.type).strip("!").endswith("Connection"):
                key = f"App_{kind.name}_{name}"
                inner = f'{name}(first: 5) @connection(key: "{key}_{name}") {{ edges {{ node {{ __typename }} }} }}'
                made.append(f"export const {key} = graphql`fragment {key} on {kind.name} {{ {inner} }}`;")
    assert len(made) > 8
    folder = tmp_path / "src"
    (folder / "__generated__").mkdir(parents=True)
    (folder / "App.js").write_text('import { graphql } from "relay-runtime";\n' + "\n".join(made))
    shutil.copy(SCHEMA, tmp_path)
    (tmp_path / "relay.config.json").write_text(json.dumps({**RELAY, "persistConfig": None}))
    run_program([program("node"), relay_compiler()], tmp_path, {})
    assert len(list((folder / "__generated__").iterdir())) == len(made)


# ---------------------------------------------------------------- trusted documents


def ask(server: Server, person: Person, **body: Any) -> Any:
    """The answer to a request with that body."""
    headers = {"Authorization": f"Bearer {person.token}"}
    return httpx.post(f"{server.url}/graphql", json=body, headers=headers, timeout=patience(30)).json()


@pytest.mark.parametrize("make", [relay, codegen])
def test_manifests_are_trusted(tmp_path: Path, make: Any) -> None:
    """The manifest that a compiler writes is what the server takes: only its documents run, by their ids."""
    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    (person,) = settle_all(storage, 500)
    folder = tmp_path / "made"
    folder.mkdir()
    file = make(folder)
    manifest: dict[str, str] = json.loads(file.read_text())
    schema = build_schema(SCHEMA.read_text())
    assert manifest
    assert not [error for text in manifest.values() for error in validate(schema, parse(text))]
    settings = {"trusted_documents": "only", "trusted_documents_file": str(file)}
    with serving(tmp_path, storage=storage, **settings) as server:
        for name, text in manifest.items():
            if "viewer" in text:
                answer = ask(server, person, documentId=name)
                assert answer["data"]["viewer"]["accounts"][0]["id"] == person.account_id
        refused = ask(server, person, query="{ viewer { id } }")
        assert refused["errors"][0]["extensions"]["code"] == "DOCUMENT_NOT_TRUSTED"


# ---------------------------------------------------------------- clients


def check_errors(report: Any) -> None:
    """A wrong field and a syntax error are coded errors of the client's, not failures of the network."""
    for name in ("wrong", "syntax"):
        found = report[name].get("error") or report[name]["results"][0]["errors"]
        assert [error["extensions"]["code"] for error in found] == ["BAD_REQUEST"]


def check_events(events: Any) -> None:
    """Every entry came once, though the connection was torn under it."""
    assert events["seen"] == [str(number) for number in range(1, ENTRIES + 1)]
    assert events["torn"] == (ENTRIES - 1) // 3


def test_graphql_ws(server: Server, people: tuple[Person, Person]) -> None:
    """Queries and subscriptions over a WebSocket; mutations are refused, and nothing moves."""
    payer, payee = people
    with Client(server.url, payer.token) as client:
        client.transfer(**payer.pay(payee.username, 1))
    report = run_client("ws.mjs", server.url, payer, payee.username, ENTRIES)
    accounts = report["query"]["results"][0]["data"]["viewer"]["accounts"]
    assert accounts[0]["available"]["minorUnits"] == str(START_MINOR - ENTRIES + 1)
    assert "HTTP POST" in report["mutation"]["error"][0]["message"]
    check_errors(report)
    check_events(report["events"])


def test_graphql_sse(server: Server, people: tuple[Person, Person]) -> None:
    """Everything over streams."""
    payer, payee = people
    report = run_client("sse.mjs", server.url, payer, payee.username, ENTRIES)
    assert report["query"]["results"][0]["data"]["viewer"]["accounts"][0]["id"] == payer.account_id
    assert report["mutation"]["results"][0]["data"]["transfer"]["__typename"] == "TransferSuccess"
    check_errors(report)
    check_events(report["events"])


@pytest.mark.parametrize("script", ["apollo.mjs", "urql.mjs"])
def test_clients_with_a_cache(server: Server, people: tuple[Person, Person], script: str) -> None:
    """The answer to a payment alone updates the balance on the screen; a refusal is data; subscriptions resume."""
    payer, payee = people
    report = run_client(script, server.url, payer, payee.username, ENTRIES)
    before = START_MINOR - ENTRIES + 2
    assert report["shown"] == [str(before), str(before - 7)]
    assert (report["paid"], report["refused"]) == ("TransferSuccess", "InsufficientFunds")
    assert report["requests"] == [{"type": RESPONSE_JSON, "status": 200}] * 3
    assert report["wrong"]["codes"] == ["BAD_REQUEST"]
    if script == "apollo.mjs":
        assert report["wrong"]["name"] == "CombinedGraphQLErrors"
        assert report["hashed"] == {"balance": str(before - 7), "queries": [False, True]}
        check_events(report["events"])
    else:
        assert report["wrong"]["network"] is False
        check_events(report["streamed"])
        check_events(report["socketed"])


@pytest.fixture(scope="module")
def means(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the TypeScript client, compiled, and the schema are."""
    client, made = ROOT / "clients" / "typescript", tmp_path_factory.mktemp("typescript")
    install(client)
    run_program([program("node"), "node_modules/typescript/bin/tsc", "--outDir", str(made)], client, {})
    (made / "package.json").write_text('{"type": "module"}')
    return {"CLIENT": str(made / "src" / "index.js"), "SCHEMA": str(SCHEMA)}


def test_the_policies_cover_the_schema(means: dict[str, str], tmp_path: Path) -> None:
    """Caches take every object type without a warning, and parts of two answers never meet in one amount."""
    report = run("policies.mjs", **means, OUT=str(tmp_path), RELAY_COMPILER=relay_compiler())
    assert report["warned"] == []
    assert (report["lost"], report["mixed"]) == ([], [])
    schema = build_schema(SCHEMA.read_text())
    kinds = [kind for kind in schema.type_map.values() if is_object_type(kind) and not kind.name.startswith("__")]
    assert set(report["types"]) == {kind.name for kind in kinds} - {"Query", "Mutation", "Subscription"}
    amounts = {f"{kind.name}.{name}" for kind in kinds for name, one in kind.fields.items() if "Money" in str(one.type)}
    assert set(report["places"]) <= amounts
    assert {name.split(".")[0] for name in amounts - set(report["places"])} <= ONLY_ANSWERED


def test_caches_take_the_policies(server: Server, people: tuple[Person, Person], means: dict[str, str]) -> None:
    """With those of the TypeScript client: no warning, pages are joined, and no amount is half old."""
    payer, payee = people
    by = {"URL": server.url, "TOKEN": payer.token, "ACCOUNT": payer.account_id, "PAYEE": payee.username}
    report = run("caches.mjs", **by, **means)
    for name in ("apollo", "urql"):
        found = report[name]
        assert found["warned"] == [], name
        assert len(found["joined"]) == len(set(found["joined"])) == 6, name
        assert (found["paid"], found["isMixed"]) == ("TransferSuccess", False), name
