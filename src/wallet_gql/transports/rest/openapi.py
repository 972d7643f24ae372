"""The OpenAPI 3.1 file of REST, generated from the table of operations and the models, so it is never out of date."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ... import __version__
from ...domain.errors import WalletError
from ...idempotency.keys import HEADER, KEY_MAX
from ..catalogue.errors import ANY_BODY, ANY_REQUEST, ENUMS, WITH_PROBLEMS, Code, camel, is_money, status_of
from ..http.auth import COOKIE
from ..http.problems import MEDIA_TYPE
from .routing import JSON, REPLAYED, Content, Operation
from .values import id_pattern

VERSION: Final = "3.1.0"

_PATTERNS: Final = {
    "account_id": id_pattern("acc"),
    "transfer_id": id_pattern("trf"),
    "hold_id": id_pattern("hld"),
    "top_up_id": id_pattern("top"),
    "withdrawal_id": id_pattern("wdr"),
    "session_id": "^[0-9a-f]{64}$",
}
_TYPES: Final = {"str": "string", "int": "integer", "str | None": ["string", "null"]}
_BOUNDS: Final = {"ge": "minimum", "le": "maximum"}
"""Pydantic's names of the bounds of a number that is written with digits."""

PROBLEM: Final[dict[str, dict[str, Any]]] = {
    "type": {"type": "string"},
    "title": {"type": "string", "description": "What the status means."},
    "status": {"type": "integer"},
    "detail": {
        "type": "string",
        "description": "What to do, for people; see `Accept-Language`.",
    },
    "code": {"type": "string", "description": "What went wrong, for programs; stable."},
    "requestId": {"type": "string", "description": "Helps us find it in the log."},
    "retryable": {
        "type": "boolean",
        "description": "Whether the same request, with the same idempotency key, may succeed later.",
    },
}
"""What every problem has (RFC 9457)."""

KEY_PATTERN: Final = r'^([!#-+\--:<-~]+|"[!#-\[\]-~]([ !#-\[\]-~]*[!#-\[\]-~])?")$'
"""The keys that `header_key` accepts, as far as a pattern can express them; keys with escapes are not covered."""

_DESCRIPTION: Final = f"""\
A payment wallet. Every command that moves money needs the header `{HEADER}`: make a new key for each intent and send
the same one with every retry; however often the request arrives, the money moves once. The first answer is 201, the
same answer again is 200 with `{REPLAYED}: true`.

Whether to retry is in every error: `retryable` is true for 503 (nothing changed) and 504 (unknown); send the same
request with the same key again, never with a new one.
"""


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The whole file as plain data."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": VERSION,
        "info": {
            "title": "wallet-gql",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {**_models(operations), **_errors(operations)},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    about = inspect.cleandoc(operation.handler.__doc__ or "")
    summary, _, more = about.partition(". ")
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": summary.rstrip("."),
        "tags": [operation.path.split("/")[2]],
        "parameters": [*_path_parameters(operation), *_query_parameters(operation), *_key_parameter(operation)],
        "responses": _responses(operation),
    }
    if more:
        made["description"] = about
    if operation.entry.session:
        made["security"] = [{"bearer": []}, {"cookie": []}]
    if operation.body is not None:
        made["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(operation.body.__name__)}}}
    return made


def _path_parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", operation.path):
        schema = {"type": "string", "pattern": _PATTERNS[name]}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    if operation.query is None:
        return
    schema = operation.query.model_json_schema(ref_template="#/components/schemas/{model}")
    required = schema.get("required", [])
    for name, given in schema["properties"].items():
        about = {key: value for key, value in given.items() if key not in ("title", "default", "description", "anyOf")}
        if "anyOf" in given:  # an optional parameter may be left out, but is never null
            about |= next(option for option in given["anyOf"] if option.get("type") != "null")
        about = {_BOUNDS.get(key, key): value for key, value in about.items()}
        if given.get("default") not in (None, []):
            about["default"] = given["default"]
        found: dict[str, Any] = {"name": name, "in": "query", "required": name in required}
        yield {**found, "description": given["description"], "schema": about}


def _key_parameter(operation: Operation) -> Iterable[dict[str, Any]]:
    if operation.takes_key:
        yield {
            "name": HEADER,
            "in": "header",
            "required": True,
            "description": f"1 to {KEY_MAX} printable ASCII characters, such as a UUID: one for each intent. `k` "
            'and `"k"` are the same key; one with a space, `"`, `,` or `;` must be in double quotes.',
            "schema": {"type": "string", "minLength": 1, "maxLength": KEY_MAX, "pattern": KEY_PATTERN},
        }


def _responses(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, told in operation.answers.items():
        answer: dict[str, Any] = {"description": status.phrase}
        if isinstance(told, Content):
            answer["content"] = {told.media_type: {"schema": _schema_of(told)}}
        elif told is not None:
            answer["content"] = {JSON: {"schema": _ref(told.__name__)}}
        headers = {}
        if status is HTTPStatus.CREATED:
            headers["Location"] = _header("Where what was made is found.")
        if operation.takes_key and status is HTTPStatus.OK:
            about = "`true` if the key was used before: then nothing was done now."
            is_always = HTTPStatus.CREATED in operation.answers
            headers[REPLAYED] = {**_header(about), "required": is_always}
        if headers:
            answer["headers"] = headers
        found[str(int(status))] = answer
    for status, names in sorted(_refusals(operation).items()):
        schemas = [_ref(name) for name in names]
        answer = {
            "description": status.phrase,
            "content": {MEDIA_TYPE: {"schema": schemas[0] if len(schemas) == 1 else {"oneOf": schemas}}},
        }
        if status is HTTPStatus.UNAUTHORIZED:
            answer["headers"] = {"WWW-Authenticate": _header("How to authenticate.")}
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT):
            answer["headers"] = {"Retry-After": _header("After how many seconds to try again.")}
        found[str(int(status))] = answer
    return found


def _schema_of(content: Content) -> dict[str, Any]:
    """Text; of a stream, whose events are JSON, also what each of them has."""
    if content.model is None:
        return {"type": "string"}
    return {"type": "string", "contentMediaType": JSON, "contentSchema": _ref(content.model.__name__)}


def _refusals(operation: Operation) -> dict[HTTPStatus, list[str]]:
    """The names of the schemas of the operation's refusals, by status."""
    found: dict[HTTPStatus, list[str]] = {}
    for kind in operation.all_errors:
        found.setdefault(status_of(kind), []).append(_error_name(kind))
    for code in (*ANY_REQUEST, *(ANY_BODY if operation.body is not None else ()), *operation.entry.codes):
        found.setdefault(code.status, []).append(_code_name(code))
    return found


def _models(operations: Sequence[Operation]) -> dict[str, Any]:
    given: list[type[BaseModel]] = [one.body for one in operations if one.body is not None]
    given += [one.query for one in operations if one.query is not None]
    told: list[type[BaseModel]] = [model for one in operations for model in one.models.values()]
    inputs = [(model, "validation") for model in dict.fromkeys(given)]
    outputs = [(model, "serialization") for model in dict.fromkeys(told)]
    _, made = models_json_schema([*inputs, *outputs], ref_template="#/components/schemas/{model}")  # type: ignore[list-item]  # a tuple of literals
    queries = {one.query.__name__ for one in operations if one.query is not None}
    return {name: one for name, one in made["$defs"].items() if name not in queries}


def _errors(operations: Sequence[Operation]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for operation in operations:
        for kind in operation.all_errors:
            found[_error_name(kind)] = _error(kind)
        for code in operation.entry.codes:
            found[_code_name(code)] = _coded(code.name, code.about)
    for code in (*ANY_REQUEST, *ANY_BODY):
        found[_code_name(code)] = _coded(code.name, code.about)
    return dict(sorted(found.items()))


_PROBLEMS: Final = {
    "type": "array",
    "description": "All that can be told at once. `field` and `reason` are of the first.",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "path": {"type": "array", "items": {"type": "string"}, "description": "Such as `amount`, `currency`."},
            "code": {"type": "string", "description": "What is wrong, for programs."},
            "reason": {
                "type": "string",
                "description": "Why, for programs with texts of their own.",
            },
            "message": {"type": "string", "description": "For people, in the language that `Accept-Language` wants."},
        },
        "required": ["path", "code", "reason", "message"],
    },
}


def _error(kind: type[WalletError]) -> dict[str, Any]:
    schema = _coded(kind.code, inspect.cleandoc(kind.__doc__ or ""))
    own = schema["properties"]
    own["retryable"] = {"const": kind.retryable, **own["retryable"]}
    for name, hint in kind.field_types.items():
        own[camel(name)] = {"type": "string" if is_money(name) else _TYPES[hint]}
        if (kind, name) in ENUMS:
            own[camel(name)]["enum"] = list(ENUMS[kind, name].__members__)
        schema["required"].append(camel(name))
    if kind in WITH_PROBLEMS:
        own["problems"] = _PROBLEMS
        schema["required"].append("problems")
    return schema


def _coded(code: str, about: str) -> dict[str, Any]:
    """A problem of its own. It repeats what all have: generators of clients cannot merge it from elsewhere."""
    properties = {**PROBLEM, "code": {"const": code, **PROBLEM["code"]}}
    return {"type": "object", "description": about, "required": list(PROBLEM), "properties": properties}


def _error_name(kind: type[WalletError]) -> str:
    return f"{kind.__name__}Problem"


def _code_name(code: Code) -> str:
    return "".join(part.capitalize() for part in code.name.split("_")) + "Problem"


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _header(about: str) -> dict[str, Any]:
    return {"description": about, "required": True, "schema": {"type": "string"}}
