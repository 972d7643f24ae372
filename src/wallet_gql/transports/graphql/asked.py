"""The parameters of a GraphQL request, for all transports: their shape is checked before the document is parsed."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
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

_HOLDERS: Final[frozenset[type]] = frozenset((dict, list))
"""The classes of what JSON is decoded to that have values inside."""

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
    def of(cls, given: object, text_max: int = TEXT_MAX + 1) -> Asked:
        """Parse decoded JSON, which may have any shape and no more text than `text_max`. Raises Unanswerable."""
        if not isinstance(given, Mapping):
            raise Unanswerable(Fault.REQUEST, 'Send a JSON object such as {"query": "{ … }"}.')
        found = [given.get(name) for name in _KINDS]
        if tuple(map(type, found)) not in _FITTING:
            for (name, kind), value in zip(_KINDS.items(), found, strict=True):
                if value is not None and not isinstance(value, kind):
                    raise Unanswerable(Fault.REQUEST, f"{name} must be {_SHOWN[kind]} or null.")
        query, variables, operation_name, extensions, document_id = found
        return cls(query, variables, operation_name, extensions, document_id, check_size(variables, text_max))

    @classmethod
    def of_body(cls, body: bytes) -> Asked:
        """Parse the body of a POST. Raises Unanswerable."""
        return cls.of(decode(body), len(body))  # a character takes a byte, at least

    @classmethod
    def of_query(cls, parameters: Mapping[str, str]) -> Asked:
        """Parse the query string of a GET, in which objects are JSON text. Raises Unanswerable."""
        given: dict[str, Any] = dict(parameters)
        for name in [name for name, kind in _KINDS.items() if kind is dict]:
            if name in given:
                given[name] = decode(given[name]) if given[name] else None
        return cls.of(given)


def check_size(variables: dict[str, Any] | None, text_max: int = TEXT_MAX + 1) -> int:
    """Limit the size of variables before any work on them: each value is checked, and errors quote it.

    There is no more text in them than `text_max`; if that is allowed, it is not measured. Returns the number of values.

    Raises:
        Unanswerable: too many values, or too much text.
    """
    if not variables:
        return 0 if variables is None else 1
    pending: list[Any] = [variables]
    values, characters = 1, 0
    for holder in pending:  # which grows meanwhile
        inner: Collection[Any] = holder.values() if isinstance(holder, dict) else holder
        values += len(inner)
        if text_max > TEXT_MAX:
            texts = [*holder, *inner] if isinstance(holder, dict) else inner
            characters += sum([len(text) for text in texts if isinstance(text, str)])
        if values > VALUES_MAX or characters > TEXT_MAX:
            message = f"The variables have more than {VALUES_MAX} values, or more than {TEXT_MAX} characters of text."
            raise Unanswerable(Fault.VARIABLES, message, LIMIT_EXCEEDED)
        pending += [value for value in inner if value.__class__ in _HOLDERS]
    return values


def decode(data: str | bytes) -> Any:
    """Decode strict JSON: no NaN, no invalid UTF-8, limited nesting. Raises Unanswerable."""
    try:
        return orjson.loads(data)
    except json.JSONDecodeError as error:
        raise Unanswerable(Fault.JSON, f"This is not valid JSON: {error}") from error
