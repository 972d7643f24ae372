"""The parameters of a GraphQL request, for all transports: their shape is checked before the document is parsed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ..catalogue.errors import LIMIT_EXCEEDED
from .failures import Fault, Unanswerable

VALUES_MAX: Final = 3_000
"""The most values in variables, at all depths. A batch of 100 payments has 1,300."""

TEXT_MAX: Final = 65_536
"""The most characters that the texts in variables may have together."""

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
    values: int = 0
    """The number of values in its variables, at all depths."""

    @classmethod
    def of(cls, given: object) -> Asked:
        """Parse decoded JSON, which may have any shape. Raises Unanswerable."""
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
            check_size(given.get("variables")),
        )

    @classmethod
    def of_body(cls, body: bytes) -> Asked:
        """Parse the body of a POST. Raises Unanswerable."""
        return cls.of(decode(body))

    @classmethod
    def of_query(cls, parameters: Mapping[str, str]) -> Asked:
        """Parse the query string of a GET, in which objects are JSON text. Raises Unanswerable."""
        given: dict[str, Any] = dict(parameters)
        for name in _OBJECTS:
            if name in given:
                given[name] = decode(given[name]) if given[name] else None
        return cls.of(given)


def check_size(variables: object) -> int:
    """Limit the size of variables before any work on them: each value is checked, and errors quote it.

    Returns the number of values.

    Raises:
        Unanswerable: too many values, or too much text.
    """
    pending, values, characters = [] if variables is None else [variables], 0, 0
    while pending:
        value = pending.pop()
        values += 1
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, dict):
            characters += sum(map(len, value))
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        if values + len(pending) > VALUES_MAX or characters > TEXT_MAX:
            message = f"The variables have more than {VALUES_MAX} values, or more than {TEXT_MAX} characters of text."
            raise Unanswerable(Fault.VARIABLES, message, LIMIT_EXCEEDED)
    return values


def decode(data: str | bytes) -> Any:
    """Decode strict JSON: no NaN, no invalid UTF-8, limited nesting. Raises Unanswerable."""
    try:
        return orjson.loads(data)
    except json.JSONDecodeError as error:
        raise Unanswerable(Fault.JSON, f"This is not valid JSON: {error}") from error
