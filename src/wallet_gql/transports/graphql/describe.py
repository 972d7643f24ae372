"""Descriptions written once: a GraphQL type's is its class docstring, a resolver's its function docstring."""

from __future__ import annotations

from collections.abc import Mapping
from enum import EnumMeta
from inspect import cleandoc
from typing import Any, TypeVar, dataclass_transform

import strawberry
from strawberry.types.field import StrawberryField

from ...graphql_plans import along, made_along

C = TypeVar("C", bound=type)


def about(description: str) -> Any:
    """A plain field with its description."""
    return strawberry.field(description=description)


def read_at(path: str, description: str) -> Any:
    """A field that is read along a path of attributes; see `graphql_plans.along`."""
    return strawberry.field(resolver=along(path), description=description)


def made_at(kind: type, description: str, parts: Mapping[str, str]) -> Any:
    """A field whose object is made of what stands at these paths, by its attributes; see `graphql_plans.along`."""
    return strawberry.field(resolver=made_along(kind, parts), description=description)


def argument(description: str, name: str | None = None) -> Any:
    """The metadata that describes an argument, for use in `Annotated`."""
    return strawberry.argument(description=description, name=name)


@dataclass_transform(kw_only_default=True, field_specifiers=(about, strawberry.field))
def object_type(cls: C) -> C:
    """An output type."""
    return strawberry.type(_resolvers_described(cls), description=_text(cls))


@dataclass_transform(kw_only_default=True, field_specifiers=(about, strawberry.field))
def interface_type(cls: C) -> C:
    """An interface."""
    return strawberry.interface(_resolvers_described(cls), description=_text(cls))


@dataclass_transform(kw_only_default=True, field_specifiers=(about, strawberry.field))
def input_type(cls: C) -> C:
    """An input type."""
    return strawberry.input(cls, description=_text(cls))


def enum_type(cls: EnumMeta, description: str, values: Mapping[str, str], name: str | None = None) -> None:
    """Show an enum of the domain under its own name or `name`; `values` describes each member by its name."""
    made = strawberry.enum(cls, name=name, description=description)
    for value in made.__strawberry_definition__.values:  # type: ignore[attr-defined]  # set by Strawberry
        value.description = cleandoc(values[value.name])


def _text(thing: Any) -> str:
    assert thing.__doc__, f"{thing} has no docstring"
    return cleandoc(thing.__doc__)


def _resolvers_described(cls: C) -> C:
    for field in vars(cls).values():
        if isinstance(field, StrawberryField) and field.base_resolver is not None and field.description is None:
            field.description = _text(field.base_resolver.wrapped_func)
    return cls
