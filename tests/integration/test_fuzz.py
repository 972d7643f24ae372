"""Generated requests from both schemas, sent by a logged-in user to a real server: no 5xx, no undocumented answer.

Schemathesis generates requests that the OpenAPI file and the GraphQL schema allow, and for REST also requests that they
forbid. Half of the allowed requests get the user's real ids, so that they reach the ledger and money moves.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration._server import Person, Server, new_key
from wallet_gql.domain.errors import InvariantViolated, error_classes
from wallet_gql.testing.patience import patience
from wallet_gql.transports.catalogue.errors import BAD_REQUEST, LIMIT_EXCEEDED

pytestmark = [pytest.mark.trial, pytest.mark.serving(proved=True), pytest.mark.balances(10**9, 10**9, 0)]
# The user who asks, the one who is paid, and one whose sessions may end.

EXAMPLES: Final = pytest.mark.parametrize("examples", [8, pytest.param(150, marks=pytest.mark.soak)])
"""Requests for each operation of REST, allowed and forbidden ones each; documents for each field of GraphQL's roots."""

EXAMPLES_MIN: Final = 250
ENDS_SESSIONS: Final = {"logOut", "logOutEverywhere", "changePassword", "revokeSession", "renewSession"}
"""Operations that get a session of their own to end."""

CODES: Final = {kind.code for kind in error_classes()} - {InvariantViolated.code} | {
    BAD_REQUEST.name,
    LIMIT_EXCEEDED.name,
}

ENDLESS: Final = "viewerEvents"
"""The operation whose answer does not end; `test_rest_parity` reads it."""

NO_ERROR: Final = "no error"

PROFILE: Final = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@EXAMPLES
@pytest.mark.timeout(3_000)
def test_rest(server: Server, people: list[Person], examples: int) -> None:
    """Allowed requests are answered as the OpenAPI file says, forbidden ones refused, and nobody enters unasked."""
    import schemathesis  # noqa: PLC0415 - the other tests need no such tool
    from schemathesis import GenerationMode, checks  # noqa: PLC0415
    from schemathesis.specs.openapi import checks as openapi  # noqa: PLC0415

    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    common = [
        checks.not_a_server_error,
        openapi.status_code_conformance,
        openapi.content_type_conformance,
        openapi.response_headers_conformance,
        openapi.response_schema_conformance,
        openapi.unsupported_method,
        openapi.ignored_auth,
    ]
    seen: dict[int, int] = {}
    for operation in _operations(schema):
        raw = operation.definition.raw
        if raw["operationId"] == ENDLESS:
            continue
        headers = _authorization(people, raw["operationId"])

        def send(case: Any, *, is_real: bool, is_allowed: bool, headers: dict[str, str] = headers) -> None:
            if is_real and is_allowed:
                _make_real(case, people)
            answer = case.call(headers=headers, timeout=patience(30))
            rejected = [] if is_allowed else [openapi.negative_data_rejection]
            case.validate_response(answer, checks=[*common, *rejected], headers=headers)
            seen[answer.status_code] = seen.get(answer.status_code, 0) + 1

        _run(operation.as_strategy(generation_mode=GenerationMode.POSITIVE), send, examples, is_allowed=True)
        if raw["parameters"] or "requestBody" in raw:  # else there is nothing to get wrong
            _run(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE), send, examples, is_allowed=False)

    assert sum(seen.values()) > EXAMPLES_MIN
    assert {200, 201, 400, 404, 409} <= set(seen), seen


def _operations(schema: Any) -> Iterator[Any]:
    """Every operation; one that the tool cannot read is an error."""
    for result in schema.get_all_operations():
        yield result.ok()


def _run(strategy: Any, send: Callable[..., None], examples: int, *, is_allowed: bool) -> None:
    @settings(PROFILE, max_examples=examples)
    @given(strategy, st.booleans())
    def one(case: Any, is_real: bool) -> None:
        send(case, is_real=is_real, is_allowed=is_allowed)

    one()


def _authorization(people: list[Person], operation: str) -> dict[str, str]:
    asks, _, ends = people
    return {"Authorization": f"Bearer {(ends if operation in ENDS_SESSIONS else asks).token}"}


def _make_real(case: Any, people: list[Person]) -> None:
    """Put the user's own ids into an allowed request, and a new key."""
    asks, pays_to, _ = people
    if "account_id" in (case.path_parameters or {}):
        case.path_parameters["account_id"] = asks.account_id
    body = case.body if isinstance(case.body, dict) else {}
    for payment in (body, *body.get("items", ())):
        if "fromAccountId" in payment:
            payment["fromAccountId"] = asks.account_id
            payment["to"] = {"username": pays_to.username}
            payment["amount"]["currency"] = "EUR"
    if "fromAccountId" in body:
        case.headers["Idempotency-Key"] = new_key()


@EXAMPLES
@pytest.mark.timeout(3_000)
def test_graphql(server: Server, people: list[Person], examples: int) -> None:
    """Documents that fit the schema are answered with 200, with data or documented errors; nothing is unexpected."""
    import schemathesis  # noqa: PLC0415 - the other tests need no such tool

    _register_scalars(people)
    schema = schemathesis.graphql.from_url(f"{server.url}/graphql")
    seen: Counter[str] = Counter()
    for operation in _operations(schema):
        headers = _authorization(people, operation.definition.field_name)
        _send_documents(operation.as_strategy(), headers, seen, examples)

    assert seen.total() > EXAMPLES_MIN
    assert set(seen) - {NO_ERROR} <= CODES
    assert seen[NO_ERROR] > EXAMPLES_MIN // 4, seen


def _send_documents(strategy: Any, headers: dict[str, str], seen: Counter[str], examples: int) -> None:
    @settings(PROFILE, max_examples=examples)
    @given(strategy)
    def one(case: Any) -> None:
        answer = case.call(headers=headers, timeout=patience(30))
        assert answer.status_code == 200, (case.body, answer.content)
        body = json.loads(answer.content)
        codes = {error["extensions"]["code"] for error in body.get("errors", [])}
        assert codes <= CODES, (case.body, body)
        for value in (body.get("data") or {}).values():
            codes.update(_kinds(value))
        seen.update(codes or {NO_ERROR})

    one()


def _kinds(value: Any) -> Iterator[str]:
    """The codes of errors that came as data."""
    if isinstance(value, dict) and isinstance(value.get("code"), str) and "retryable" in value:
        yield value["code"]


def _register_scalars(people: list[Person]) -> None:
    from schemathesis.graphql import nodes, scalar  # noqa: PLC0415

    small = st.integers(-5, 10**6) | st.integers()
    scalar("BigInt", (small.map(str) | st.text(max_size=5)).map(nodes.String) | small.map(nodes.Int))
    scalar("CurrencyCode", (st.sampled_from(["EUR", "JPY", "XXX"]) | st.text(max_size=4)).map(nodes.String))
    scalar("DateTime", (st.datetimes(timezones=st.timezones()).map(str) | st.text(max_size=9)).map(nodes.String))
    ids = [person.account_id for person in people] + [person.id for person in people]
    scalar("ID", (st.sampled_from(ids) | st.text(max_size=20)).map(nodes.String))
