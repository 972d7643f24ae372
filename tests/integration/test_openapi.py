"""The OpenAPI file describes exactly the routes and their answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import pytest
from starlette.routing import Route

from tests.integration._server import PASSWORD, new_key, new_name, run_cli, serving, settle_all
from wallet_gql.domain.errors import (
    BatchAborted,
    Category,
    ConfigurationError,
    InvariantViolated,
    Rejected,
    WalletError,
    error_classes,
)
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience
from wallet_gql.transports.catalogue.errors import ENUMS, STATUS, WITH_PROBLEMS, camel, is_money, status_of, values_of
from wallet_gql.transports.http.errors import problem
from wallet_gql.transports.rest.openapi import PROBLEM
from wallet_gql.transports.rest.routes import OPERATIONS, openapi_text, routes
from wallet_gql.transports.rest.routing import Content
from wallet_gql.transports.server.app import create_app

DOCUMENT: Final[dict[str, Any]] = json.loads(openapi_text())
SCHEMAS: Final[dict[str, Any]] = DOCUMENT["components"]["schemas"]

ABSTRACT: Final = {Rejected}
"""Classes that are never raised themselves."""

KINDS: Final = [kind for kind in error_classes() if kind.__module__.startswith("wallet_gql") and kind not in ABSTRACT]
"""Our own classes; other tests may make some."""

NEVER_HERE: Final = {ConfigurationError, InvariantViolated, BatchAborted, *ABSTRACT}
"""What no operation of REST is documented to answer with."""

SAMPLES: Final[dict[str, Any]] = {"str": "x", "int": 10**18, "str | None": "x"}


def references(value: Any) -> Iterator[str]:
    """Every `$ref` below a value."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].removeprefix("#/components/schemas/")
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def sample(kind: type[WalletError]) -> WalletError:
    """An error of that class."""
    made_with = kind.field_types or dict.fromkeys({"message"} & set(kind.__annotations__), "str")
    return kind(**{name: SAMPLES[hint] for name, hint in made_with.items()})


def test_every_error_has_a_status() -> None:
    """Each category has one line in the table, and each class says its category or is a kind of one that does."""
    assert set(STATUS) == set(Category)
    for kind in KINDS:
        said_by = next(one for one in kind.__mro__ if "category" in vars(one))
        assert said_by not in {WalletError, Rejected} or kind in {ConfigurationError, InvariantViolated}, kind


def test_statuses_tell_whether_to_retry() -> None:
    """What may be retried is 429, 503 or 504 and says after how long; nothing else is; a bug of ours is never shown."""
    for kind in KINDS:
        error, status = sample(kind), status_of(kind)
        assert (status in (429, 503, 504)) == error.retryable, kind
        if status == 500:
            with pytest.raises(kind):
                problem(error)
            continue
        answer = problem(error)
        assert (answer.status_code, "retry-after" in answer.headers) == (status, error.retryable)
        assert ("www-authenticate" in answer.headers) == (status == 401)


def test_errors_tell_what_the_file_says() -> None:
    """Every value of an error is in its problem, under its own name, with the type that the file names."""
    common = set(PROBLEM)
    for kind in set(KINDS) - NEVER_HERE:
        error, schema = sample(kind), SCHEMAS[f"{kind.__name__}Problem"]
        told = orjson.loads(problem(error).body)
        own = {camel(name): name for name in kind.field_types}
        lists = {"problems"} if kind in WITH_PROBLEMS else set()
        assert set(values_of(error)) == set(own) | lists == set(schema["required"]) - common, kind
        for name in lists:
            assert all(set(one) == set(schema["properties"][name]["items"]["required"]) for one in told[name])
        assert not set(own) & common, kind
        for name, field in own.items():
            hint = kind.field_types[field]
            expected = int if hint == "int" and not is_money(field) else str
            assert type(told[name]) is expected, (kind, name)
            described = "string" if expected is str else "integer"
            names = list(ENUMS[kind, field].__members__) if (kind, field) in ENUMS else None
            expected_schema = {"type": [described, "null"] if hint.endswith("| None") else described}
            assert schema["properties"][name] == expected_schema | ({} if names is None else {"enum": names})
        assert common <= set(schema["required"])
        assert all(schema["properties"][name]["const"] == told[name] for name in ("code", "retryable"))


def test_every_error_is_some_operations() -> None:
    """An error that a client can meet is documented at one operation at least."""
    documented = {kind for operation in OPERATIONS for kind in operation.all_errors}
    assert documented == set(KINDS) - NEVER_HERE


def test_routes_and_file_agree() -> None:
    """Every path and method of the application is in the file, and the file has no other."""
    served = {
        (route.path, method.lower())
        for route in create_app(load_settings(storage="memory://")).routes
        if isinstance(route, Route) and route.path.startswith("/v1")
        for method in route.methods or ()
    }
    described = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == served == {(one.path, one.method.lower()) for one in OPERATIONS}
    assert [route.path for route in routes()][-1] == "/openapi.json"


def test_statuses_and_file_agree() -> None:
    """Every status of the table is at its operation, and the operation has no other than those of HTTP itself."""
    for operation in OPERATIONS:
        described = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
        answers = {int(status) for status in operation.answers} | {int(one.status) for one in operation.entry.codes}
        refusals = {int(status_of(kind)) for kind in operation.all_errors}
        of_http = {403, 500} | ({400, 413, 415} if operation.body else set())
        assert {int(status) for status in described} == answers | refusals | of_http, operation.name
        for status, answer in described.items():
            media_types = set(answer.get("content", {}))
            told = operation.answers.get(HTTPStatus(int(status)))
            expected = {told.media_type} if isinstance(told, Content) else {"application/json"} if told else set()
            expected = expected if int(status) < 300 else {"application/problem+json"}
            assert media_types == expected, (operation.name, status)


def test_the_file_is_whole() -> None:
    """Every reference leads somewhere, every schema is used, every operation has its own name and a summary."""
    used = set(references(DOCUMENT))
    assert used == set(SCHEMAS)
    described = [one for methods in DOCUMENT["paths"].values() for one in methods.values()]
    names = [one["operationId"] for one in described]
    assert len(set(names)) == len(names)
    assert all(one["summary"] and one["tags"] for one in described)
    for path, methods in DOCUMENT["paths"].items():
        for one in methods.values():
            given = {parameter["name"] for parameter in one["parameters"] if parameter["in"] == "path"}
            assert given == set(re.findall(r"{(\w+)}", path))
    for keyed in (one for one in described if any(p["name"] == "Idempotency-Key" for p in one["parameters"])):
        assert {"422", "504"} <= set(keyed["responses"])


def test_models_refuse_what_they_do_not_know() -> None:
    """Every model that comes in forbids unknown members, in the file as in the code."""
    bodies = [
        one["requestBody"] for methods in DOCUMENT["paths"].values() for one in methods.values() if "requestBody" in one
    ]
    names = set(references(bodies))
    names |= {name for body in names for name in references(SCHEMAS[body])}
    assert {"Payment", "Recipient", "GivenMoney"} <= names
    for name in names:
        for kind in SCHEMAS[name].get("oneOf", [SCHEMAS[name]]):
            assert kind["additionalProperties"] is False, name


def test_answers_fit(tmp_path: Path) -> None:
    """Answers of a real server, successes and refusals, fit the schemas of the file it serves."""
    import jsonschema_rs  # noqa: PLC0415 - the other tests need no validator

    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    ann, bob = settle_all(storage, 1000, 0)
    with serving(tmp_path, storage=storage) as server, httpx.Client(base_url=server.url, timeout=patience(30)) as http:
        served = http.get("/openapi.json")
        assert served.headers["content-type"] == "application/json"
        assert served.content == openapi_text()
        http.headers["Authorization"] = f"Bearer {ann.token}"
        pay = {"fromAccountId": ann.account_id, "to": {"username": bob.username}}
        body = {**pay, "amount": {"minorUnits": "10", "currency": "EUR"}}
        name = new_name()
        user = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
        key = new_key()
        requests: list[tuple[str, str, str, Any, int]] = [
            ("POST", "/v1/user", "/v1/user", user, 201),
            ("POST", "/v1/user", "/v1/user", user, 409),
            ("GET", "/v1/user", "/v1/user", None, 200),
            ("POST", "/v1/session", "/v1/session", {"login": name, "password": PASSWORD}, 201),
            ("POST", "/v1/session", "/v1/session", {"login": name, "password": "wrong"}, 401),
            ("GET", "/v1/account", "/v1/account", None, 200),
            ("POST", "/v1/account", "/v1/account", {"currency": "JPY"}, 201),
            ("POST", "/v1/account", "/v1/account", {"currency": "JPY"}, 409),
            ("GET", "/v1/account/{account_id}", f"/v1/account/{ann.account_id}", None, 200),
            ("GET", "/v1/account/{account_id}", f"/v1/account/{bob.account_id}", None, 404),
            ("POST", "/v1/transfer", "/v1/transfer", body, 201),
            ("POST", "/v1/transfer", "/v1/transfer", body, 200),
            ("POST", "/v1/transfer", "/v1/transfer", {**body, "reference": "x"}, 422),
            ("POST", "/v1/transfer", "/v1/transfer", {**body, "amount": {"minorUnits": 1.5, "currency": "EUR"}}, 400),
            ("GET", "/v1/transfer", f"/v1/transfer?idempotencyKey={key}", None, 200),
            ("GET", "/v1/transfer", "/v1/transfer?idempotencyKey=unused", None, 404),
            ("GET", "/v1/account/{account_id}/entry", f"/v1/account/{ann.account_id}/entry", None, 200),
        ]
        for method, path, target, given, status in requests:
            headers = {"Idempotency-Key": key} if path == "/v1/transfer" and method == "POST" else {}
            answer = http.request(method, target, json=given, headers=headers)
            assert answer.status_code == status, (target, answer.text)
            described = DOCUMENT["paths"][path][method.lower()]["responses"][str(status)]
            (content,) = described["content"].values()
            schema = {**content["schema"], "components": DOCUMENT["components"]}
            jsonschema_rs.validator_for(schema).validate(answer.json())
            assert set(described.get("headers", {})) - {"Idempotent-Replayed"} <= {
                name for name in described.get("headers", {}) if name in answer.headers
            }
    assert run_cli(tmp_path, "openapi", storage="memory://").stdout.encode() == openapi_text()
