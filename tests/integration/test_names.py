"""One name for one thing, in both APIs: what a thing's condition is called, and when it came to be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from graphql import get_named_type

from tests.integration.test_graphql_schema import OWN_TYPES
from tests.integration.test_openapi import DOCUMENT

OTHER_MOMENTS: Final = {
    *("closedAt", "dayEndsAt", "expiresAt", "freeAt", "lastSeenAt", "nextAttemptAt", "raisedAt"),
    *("since", "until"),
}
"""Moments that are not when a thing came to be. A new one is added here; another word for `createdAt` is not."""

SYNONYMS: Final = {"status", "condition", "phase", "stage", "timestamp", "date", "time", "when"}
"""Words of names that `state` and `createdAt` are used for."""


def graphql_names() -> Iterator[tuple[str, str, str]]:
    """Of each field and argument: where it is, its name, and its type's name."""
    for kind in OWN_TYPES.values():
        for name, field in getattr(kind, "fields", {}).items():
            yield kind.name, name, get_named_type(field.type).name
            for given, argument in getattr(field, "args", {}).items():
                yield f"{kind.name}.{name}()", given, get_named_type(argument.type).name


def rest_names(value: Any = DOCUMENT, where: str = "") -> Iterator[tuple[str, str, str]]:
    """The same of each property and parameter of the OpenAPI file; a moment's type is `DateTime` here, too."""
    if isinstance(value, list):
        for one in value:
            yield from rest_names(one, where)
    if not isinstance(value, dict):
        return
    found = {**value["properties"]} if isinstance(value.get("properties"), dict) else {}
    if isinstance(value.get("name"), str) and "in" in value:
        found[value["name"]] = value.get("schema", {})
    for name, about in found.items():
        parts = [about, *about.get("anyOf", [])]
        refs = [part["$ref"].rpartition("/")[2] for part in parts if "$ref" in part]
        is_moment = any(part.get("format") == "date-time" for part in parts)
        yield where, name, "DateTime" if is_moment else "".join(refs)
    for name, inner in value.items():
        yield from rest_names(inner, name)


NAMES: Final = [*graphql_names(), *rest_names()]


def test_a_moment_is_called_what_it_is() -> None:
    """`createdAt`, or one of the other moments; `at` is only the moment that a question is about."""
    moments = {(where, name) for where, name, kind in NAMES if kind == "DateTime"}
    known = {"createdAt", *OTHER_MOMENTS}
    assert {(where, name) for where, name in moments if name not in known} == {("Account.balanceAt()", "at")}
    assert len({where for where, name in moments if name == "createdAt"}) > 15


def test_a_condition_is_called_state() -> None:
    """A field whose type is a `…State` is `state`, of another thing `…State`; no other word is used for it."""
    states = {(where, name) for where, name, kind in NAMES if kind.endswith("State")}
    assert {(where, name) for where, name in states if not re.fullmatch(r"states?|\w+States?", name)} == set()
    assert len(states) >= 7
    words = {
        (where, name)
        for where, name, _ in [*NAMES, *((name, name, "") for name in OWN_TYPES if name != "DateTime")]
        if SYNONYMS & set(re.sub(r"([A-Z])", r" \1", name).lower().split())
    }
    assert {(where, name) for where, name in words if where.endswith("Problem") and name == "status"} == words
