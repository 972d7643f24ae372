"""Every input of this schema means the same to a plan as to Strawberry and graphql-core.

Each field with arguments is asked with whole values, and with each that has one thing wrong, missing, null or too much:
as a variable and as a literal. Resolvers only tell what they got.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Awaitable, Iterator
from typing import Any, Final, TypeGuard

import pytest
from graphql import (
    ExecutionResult,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    execute,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
    is_required_argument,
    is_scalar_type,
    parse,
    specified_rules,
)
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema import validate_document

from wallet_gql.graphql_plans import Inputs, Plan
from wallet_gql.transports.graphql.schema import make_schema

SCHEMA: Final = make_schema()
INPUTS: Final = Inputs(SCHEMA)
CORE: Final = SCHEMA._schema

WAYS: Final = {"Query": "query{defined} {{ {field} }}", "Mutation": "mutation{defined} {{ {field} }}"}
WAYS["User"] = "query{defined} {{ viewer {{ {field} }} }}"
WAYS["Account"] = 'query{defined} {{ account(id: "a") {{ {field} }} }}'
"""By type: a document that asks for one of its fields."""

WHOLE: Final[dict[str, Any]] = {
    "Int": 3, "Float": 0.5, "String": "tea", "Boolean": True, "ID": "x", "BigInt": "12", "CurrencyCode": "EUR",
    "DateTime": "2026-11-28T12:00:00+00:00",
}  # fmt: skip
ODD: Final[tuple[Any, ...]] = (None, 7, "7", [], {}, [None])
"""What may stand in the place of anything."""


class EchoError(Exception):
    """Tells what a resolver got."""


@pytest.fixture(scope="module", autouse=True)
def _echoes() -> Iterator[None]:
    """Let resolvers with arguments tell them; `viewer` and `account` give something to ask."""
    with pytest.MonkeyPatch.context() as patch:
        for name in WAYS:
            for field in _type(name).fields.values():
                definition = field.extensions["strawberry-definition"]
                resolver = definition.base_resolver
                if resolver is not None:
                    patch.setattr(resolver, "wrapped_func", _echo(definition))
        yield


def _echo(definition: Any) -> Any:
    kind = get_named_type(SCHEMA.schema_converter.from_field(definition).type)
    inner = WAYS.get(kind.name)

    async def echo(*_source: object, **given: Any) -> Any:
        del _source
        given.pop("info", None)
        if inner and not (set(given) - {"id"}):
            return object.__new__(kind.extensions["strawberry-definition"].origin)
        raise EchoError(repr(given))

    return echo


def _type(name: str) -> GraphQLObjectType:
    kind = CORE.type_map[name]
    assert isinstance(kind, GraphQLObjectType)
    return kind


ASKED: Final = [(name, field_name) for name in WAYS for field_name, field in _type(name).fields.items() if field.args]


def whole(kind: Any, depth: int = 0) -> Any:
    """A value with everything that there can be; of `@oneOf` the first."""
    kind = get_nullable_type(kind)
    if is_list_type(kind):
        return [whole(kind.of_type, depth), whole(kind.of_type, depth)]
    if isinstance(kind, GraphQLInputObjectType):
        fields = dict(list(kind.fields.items())[: 1 if is_one_of(kind) else None])
        return {name: whole(field.type, depth + 1) for name, field in fields.items()}
    return next(iter(kind.values)) if isinstance(kind, GraphQLEnumType) else WHOLE[kind.name]


def is_one_of(kind: GraphQLInputObjectType) -> bool:
    """Whether Strawberry says so."""
    return bool(kind.extensions["strawberry-definition"].is_one_of)


def neighbours(kind: Any, value: Any) -> Iterator[Any]:
    """Values that are as one should not be, or need not be, in one place."""
    yield from ODD
    kind = get_nullable_type(kind)
    if is_list_type(kind) and isinstance(value, list):
        yield from ([other, *value[1:]] for other in neighbours(kind.of_type, value[0]))
        yield value[0]
    if isinstance(kind, GraphQLInputObjectType):
        yield {**value, "unknown": 1}
        for name, field in kind.fields.items():
            yield {each: other for each, other in value.items() if each != name}
            yield from ({**value, name: other} for other in neighbours(field.type, whole(field.type)))
            yield {name: whole(field.type)}


def literal(kind: Any, value: Any) -> str:
    """A value as a document writes it."""
    kind = get_nullable_type(kind) if kind is not None else None
    if isinstance(value, list):
        inner = kind.of_type if is_list_type(kind) else kind
        return f"[{', '.join(literal(inner, item) for item in value)}]"
    if isinstance(value, dict):
        fields = kind.fields if isinstance(kind, GraphQLInputObjectType) else {}
        parts = (
            f"{name}: {literal(fields[name].type if name in fields else None, item)}" for name, item in value.items()
        )
        return "{" + ", ".join(parts) + "}"
    is_name = isinstance(kind, GraphQLEnumType) and isinstance(value, str) and value.isidentifier()
    return str(value) if is_name else json.dumps(value)


async def both(text: str, variables: dict[str, Any]) -> tuple[Any, Any] | None:
    """What both ways answer; None if the document is not valid."""
    document = parse(text)
    if validate_document(CORE, document, tuple(specified_rules)):
        return None
    found = execute(CORE, document, variable_values=copy.deepcopy(variables), is_awaitable=_is_awaitable)
    expected = found if isinstance(found, ExecutionResult) else await found
    got = await Plan(SCHEMA, INPUTS, document, None).prepare(variables).run()
    return _shown(expected), _shown(got)


def _is_awaitable(value: Any) -> TypeGuard[Awaitable[Any]]:
    """As Strawberry has it."""
    return optimized_is_awaitable(value)


def _shown(result: ExecutionResult) -> Any:
    return repr(result.data), [(error.message, error.path, error.locations) for error in result.errors or ()]


def _document(kind: str, name: str, arguments: str, defined: str = "") -> str:
    inner = " { __typename }" if is_composite_type(get_named_type(_type(kind).fields[name].type)) else ""
    return WAYS[kind].format(defined=defined, field=f"{name}{arguments}{inner}")


def _others(field: GraphQLField, name: str) -> str:
    """The other arguments that there must be, as literals."""
    parts = [
        f"{other}: {literal(argument.type, whole(argument.type))}"
        for other, argument in field.args.items()
        if other != name and is_required_argument(argument)
    ]
    return "".join(f", {part}" for part in parts)


@pytest.mark.parametrize(("kind", "name"), ASKED)
def test_every_input(kind: str, name: str) -> None:
    """Whole values and all their neighbours, as variables and as literals; what is absent, and defaults."""
    field = _type(kind).fields[name]

    async def compare() -> int:
        compared = 0
        for argument_name, argument in field.args.items():
            value = whole(argument.type)
            others = _others(field, argument_name)
            by_variable = f"({argument_name}: $v{others})"
            text = _document(kind, name, by_variable, f"($v: {argument.type})")
            for variables in ({}, {"v": value}, *({"v": other} for other in neighbours(argument.type, value))):
                found = await both(text, variables)
                assert found is not None, text
                assert found[0] == found[1], (text, variables)
                compared += 1
            for given in (value, *neighbours(argument.type, value)):
                shown = literal(argument.type, given)
                default = f"($v: {get_nullable_type(argument.type)} = {shown})"
                for text in (
                    _document(kind, name, f"({argument_name}: {shown}{others})"),
                    _document(kind, name, by_variable, default),
                ):
                    found = await both(text, {})
                    assert found is None or found[0] == found[1], text
        return compared

    assert asyncio.run(compare()) > 5


def test_every_one_of_is_reached() -> None:
    """The inputs that the ledger pays by are among what is compared."""
    names = {
        kind.name for kind in CORE.type_map.values() if isinstance(kind, GraphQLInputObjectType) and is_one_of(kind)
    }
    assert names
    reached: set[str] = set()
    pending: list[Any] = [argument.type for kind, name in ASKED for argument in _type(kind).fields[name].args.values()]
    while pending:
        kind = get_named_type(pending.pop())
        if isinstance(kind, GraphQLInputObjectType) and kind.name not in reached:
            reached.add(kind.name)
            pending.extend(field.type for field in kind.fields.values())
        else:
            assert is_scalar_type(kind) or isinstance(kind, GraphQLEnumType | GraphQLInputObjectType)
    assert names <= reached
