"""A GraphQL request as its client sent it, over whichever transport: of the right shape, before there is a document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from .failures import Fault, Unanswerable

_OBJECTS: Final = ("variables", "extensions")
_STRINGS: Final = ("query", "operationName", "documentId")


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters of a request; `documentId` or `extensions.persistedQuery` may stand in for `query`."""

    query: str | None
    variables: dict[str, Any] | None
    operation_name: str | None
    extensions: dict[str, Any] | None
    document_id: str | None

    @classmethod
    def of(cls, given: object) -> Asked:
        """From what was a JSON object, or should have been one. Raises Unanswerable."""
        if not isinstance(given, Mapping):
            raise Unanswerable(Fault.REQUEST, 'Send a JSON object such as {"query": "{ … }"}.')
        for names, kind, shown in ((_STRINGS, str, "a string"), (_OBJECTS, dict, "an object")):
            for name in names:
                if not isinstance(given.get(name), kind | None):
                    raise Unanswerable(Fault.REQUEST, f"{name} must be {shown} or null.")
        return cls(
            given.get("query"),
            given.get("variables"),
            given.get("operationName"),
            given.get("extensions"),
            given.get("documentId"),
        )

    @classmethod
    def of_body(cls, body: bytes) -> Asked:
        """From the body of a POST. Raises Unanswerable."""
        return cls.of(decode(body))

    @classmethod
    def of_query(cls, parameters: Mapping[str, str]) -> Asked:
        """From the query string of a GET, where objects come as JSON text. Raises Unanswerable."""
        given: dict[str, Any] = dict(parameters)
        for name in _OBJECTS:
            if name in given:
                given[name] = decode(given[name]) if given[name] else None
        return cls.of(given)


def decode(data: str | bytes) -> Any:
    """Strict JSON: no NaN, no invalid UTF-8, no nesting beyond reason. Raises Unanswerable."""
    try:
        return orjson.loads(data)
    except json.JSONDecodeError as error:
        raise Unanswerable(Fault.JSON, f"This is not valid JSON: {error}") from error
