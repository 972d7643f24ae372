"""The parameters of a GraphQL request, for all transports: their shape is checked before the document is parsed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from typing import Any, Final

import orjson

from ...domain.frozen import frozen
from ..catalogue.errors import LIMIT_EXCEEDED
from .failures import Fault, Unanswerable

VALUES_MAX: Final = 3_000
"""The most values in variables, at all depths. A batch of 100 payments has 1,300."""

TEXT_MAX: Final = 65_536
"""The most characters that the texts in variables may have together."""

_KINDS: Final[Mapping[str, type]] = {
    "query": str,
    "variables": dict,
    "operationName": str,
    "extensions": dict,
    "documentId": str,
}
_FITTING: Final = frozenset(product(*((kind, type(None)) for kind in _KINDS.values())))
"""The types that their values may have together."""

_SHOWN: Final[Mapping[type, str]] = {str: "a string", dict: "an object"}


@frozen
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
        found = [given.get(name) for name in _KINDS]
        if tuple(map(type, found)) not in _FITTING:
            for (name, kind), value in zip(_KINDS.items(), found, strict=True):
                if value is not None and not isinstance(value, kind):
                    raise Unanswerable(Fault.REQUEST, f"{name} must be {_SHOWN[kind]} or null.")
        query, variables, operation_name, extensions, document_id = found
        return cls(query, variables, operation_name, extensions, document_id, check_size(variables))

    @classmethod
    def of_body(cls, body: bytes) -> Asked:
        """Parse the body of a POST. Raises Unanswerable."""
        return cls.of(decode(body))

    @classmethod
    def of_query(cls, parameters: Mapping[str, str]) -> Asked:
        """Parse the query string of a GET, in which objects are JSON text. Raises Unanswerable."""
        given: dict[str, Any] = dict(parameters)
        for name in [name for name, kind in _KINDS.items() if kind is dict]:
            if name in given:
                given[name] = decode(given[name]) if given[name] else None
        return cls.of(given)


def check_size(variables: object) -> int:
    """Limit the size of variables before any work on them: each value is checked, and errors quote it.

    Returns the number of values.

    Raises:
        Unanswerable: too many values, or too much text.
    """
    if not variables:
        return 0 if variables is None else 1
    pending: list[Any] = [variables]
    values = characters = 0
    while pending:
        value = pending.pop()
        values += 1
        kind = value.__class__  # what JSON is decoded to has these classes, and no others
        if kind is str:
            characters += len(value)
        elif kind is dict:
            characters += sum(map(len, value))
            pending += value.values()
        elif kind is list:
            pending += value
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
