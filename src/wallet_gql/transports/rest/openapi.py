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
from ...domain.errors import InvalidInput, WalletError
from ...idempotency.keys import HEADER, KEY_MAX
from ..catalogue.errors import ANY_BODY, ANY_REQUEST, Code, camel, is_money, status_of
from ..http.auth import COOKIE
from ..http.problems import MEDIA_TYPE
from .routing import JSON, REPLAYED, Operation

VERSION: Final = "3.1.0"

_PREFIXES: Final = {
    "account_id": "acc",
    "transfer_id": "trf",
    "hold_id": "hld",
    "top_up_id": "top",
    "withdrawal_id": "wdr",
}
_TYPES: Final = {"str": "string", "int": "integer", "str | None": ["string", "null"]}
_PROBLEM: Final = {
    "type": "object",
    "description": "What went wrong and what to do next (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code", "requestId", "retryable"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "What the status means."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What went wrong and what to do, in English, for people."},
        "code": {"type": "string", "description": "What went wrong, for programs; stable."},
        "requestId": {"type": "string", "description": "Helps us find it in the log."},
        "retryable": {
            "type": "boolean",
            "description": "Whether the same request, with the same idempotency key, may succeed later.",
        },
    },
}
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
            "schemas": {"Problem": _PROBLEM, **_models(operations), **_errors(operations)},
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
        pattern = rf"^{_PREFIXES[name]}_[0-9a-f]{{12}}7[0-9a-f]{{3}}[89ab][0-9a-f]{{15}}$"
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}


def _query_parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    if operation.query is None:
        return
    schema = operation.query.model_json_schema(ref_template="#/components/schemas/{model}")
    inlined = schema.get("$defs", {})
    required = schema.get("required", [])
    for name, given in schema["properties"].items():
        about = {key: value for key, value in given.items() if key not in ("title", "default", "description", "anyOf")}
        if "anyOf" in given:  # an optional parameter may be left out, but is never null
            about |= next(option for option in given["anyOf"] if option.get("type") != "null")
        if "items" in about and "$ref" in about["items"]:
            about["items"] = inlined[about["items"]["$ref"].rpartition("/")[2]]
        if given.get("default") not in (None, []):
            about["default"] = given["default"]
        found: dict[str, Any] = {"name": name, "in": "query", "required": name in required}
        yield {**found, "description": given["description"], "schema": about}


def _key_parameter(operation: Operation) -> Iterable[dict[str, Any]]:
    if operation.entry.keyed:
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
    for status, model in operation.answers.items():
        answer: dict[str, Any] = {"description": status.phrase}
        if model is not None:
            answer["content"] = {JSON: {"schema": _ref(model.__name__)}}
        headers = {}
        if status is HTTPStatus.CREATED:
            headers["Location"] = _header("Where what was made is found.")
        if operation.entry.keyed and status is HTTPStatus.OK:
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
    told: list[type[BaseModel]] = [model for one in operations for model in one.answers.values() if model is not None]
    inputs = [(model, "validation") for model in dict.fromkeys(given)]
    outputs = [(model, "serialization") for model in dict.fromkeys(told)]
    _, made = models_json_schema([*inputs, *outputs], ref_template="#/components/schemas/{model}")  # type: ignore[list-item]  # a tuple of literals
    definitions: dict[str, Any] = made["$defs"]
    return definitions


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
            "code": {"type": "string"},
            "message": {"type": "string"},
        },
        "required": ["path", "code", "message"],
    },
}


def _error(kind: type[WalletError]) -> dict[str, Any]:
    schema = _coded(kind.code, inspect.cleandoc(kind.__doc__ or ""))
    own = schema["allOf"][1]
    own["properties"]["retryable"] = {"const": kind.retryable}
    for name, hint in kind.field_types.items():
        own["properties"][camel(name)] = {"type": "string" if is_money(name) else _TYPES[hint]}
    own["required"] = [camel(name) for name in kind.field_types]
    if kind is InvalidInput:
        own["properties"]["problems"] = _PROBLEMS
        own["required"].append("problems")
    return schema


def _coded(code: str, about: str) -> dict[str, Any]:
    return {
        "description": about,
        "allOf": [_ref("Problem"), {"type": "object", "properties": {"code": {"const": code}}}],
    }


def _error_name(kind: type[WalletError]) -> str:
    return f"{kind.__name__}Problem"


def _code_name(code: Code) -> str:
    return "".join(part.capitalize() for part in code.name.split("_")) + "Problem"


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _header(about: str) -> dict[str, Any]:
    return {"description": about, "required": True, "schema": {"type": "string"}}
