"""A GraphQL request as its client sent it, over whichever transport: of the right shape, before there is a document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ..catalogue.errors import LIMIT_EXCEEDED
from .failures import Fault, Unanswerable

VALUES_MAX: Final = 3_000
"""How many values variables may hold, at all depths: a batch of 100 payments has 1,300."""

TEXT_MAX: Final = 65_536
"""How many characters the texts in variables may have together."""

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
    """How many values its variables hold, at all depths."""

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
            check_size(given.get("variables")),
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


def check_size(variables: object) -> int:
    """Bound what is done with variables, before anything is: each value is checked, and errors quote it.

    Returns how many values there are.

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
    """Strict JSON: no NaN, no invalid UTF-8, no nesting beyond reason. Raises Unanswerable."""
    try:
        return orjson.loads(data)
    except json.JSONDecodeError as error:
        raise Unanswerable(Fault.JSON, f"This is not valid JSON: {error}") from error
