"""What clients send, made into what resolvers get: in two steps, as it is done without plans.

1. graphql-core checks a value against its GraphQL type and fills in defaults: `Inputs.checker`.
2. Strawberry makes Python objects of the result, separately for each argument: `Inputs.converter`.

Both are put together from functions, once for each type. They know the usual case alone: where a value is not what the
type asks for, they raise `DoubtError`, and the libraries themselves decide and word the error.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Any, Final

from graphql import (
    GraphQLArgument,
    GraphQLID,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLString,
    ListValueNode,
    ObjectValueNode,
    Undefined,
    ValueNode,
    VariableNode,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
    is_required_input_field,
)
from graphql.utilities.coerce_input_value import coerce_default_value, coerce_input_literal
from strawberry import Schema
from strawberry.relay import GlobalID
from strawberry.scalars import is_scalar
from strawberry.types.arguments import convert_argument
from strawberry.types.base import StrawberryList, StrawberryMaybe, StrawberryOptional, has_object_definition
from strawberry.types.enum import StrawberryEnumDefinition, has_enum_definition
from strawberry.types.lazy_type import LazyType
from strawberry.types.maybe import Some
from strawberry.types.unset import UNSET

Check = Callable[[Any], Any]
"""A value as it was sent -> the checked one. Raises DoubtError."""

Convert = Callable[[Any], Any]
"""A checked value -> what a resolver gets. Raises what Strawberry raises."""

Read = Callable[[Mapping[str, Any]], Any]
"""All variables -> the checked value of one argument, `Undefined` if there is none. Raises DoubtError."""

_IMMUTABLE: Final = frozenset(
    {
        type(None), bool, int, float, str, bytes, decimal.Decimal, uuid.UUID,
        dt.datetime, dt.date, dt.time, dt.timedelta,
    }
)  # fmt: skip


class DoubtError(Exception):
    """The libraries have to decide about a value."""


def _doubt(_value: object) -> Any:
    raise DoubtError


class Inputs:
    """The functions for the input types of one schema, each made once."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._scalars = schema.schema_converter.scalar_registry
        self._checks: dict[str, Check] = {}
        self._converts: dict[type, Convert] = {}

    # ------------------------------------------------------------ first step: graphql-core's

    def checker(self, kind: GraphQLInputType) -> Check:
        """The function that checks a value of a type, and fills in defaults."""
        if is_non_null_type(kind):
            inner = self.checker(kind.of_type)
            return _some_text if inner is _text else _not_null(inner)
        if is_list_type(kind):
            return _each(self.checker(kind.of_type))
        if isinstance(kind, GraphQLInputObjectType):
            if kind.name not in self._checks:
                self._checks[kind.name] = _doubt  # stands for itself in a cycle: the depth of such a value has a limit
                self._checks[kind.name] = self._object_checker(kind)
            return self._checks[kind.name]
        if kind is GraphQLString or kind is GraphQLID:
            return _text
        assert is_leaf_type(kind)
        return _leaf(kind.coerce_input_value)

    def _object_checker(self, kind: GraphQLInputObjectType) -> Check:
        fields = [(name, field.out_name or name, self.checker(field.type)) for name, field in kind.fields.items()]
        required = {name for name, field in kind.fields.items() if is_required_input_field(field)}
        known, is_one_of, finish = kind.fields, kind.is_one_of, kind.out_type

        def check(value: Any) -> Any:
            if value is None:
                return None
            if value.__class__ is not dict or not required <= value.keys() <= known.keys():
                raise DoubtError
            checked = {}
            for name, out_name, check_field in fields:
                if name in value:
                    checked[out_name] = check_field(value[name])
                elif (default := coerce_default_value(known[name])) is not Undefined:
                    checked[out_name] = default
            if is_one_of and (len(value) != 1 or None in checked.values()):
                raise DoubtError
            return finish(checked)  # Strawberry's check of `@oneOf` is here

        return check

    def argument_reader(self, argument: GraphQLArgument, node: ValueNode | None) -> Read:
        """The function that gives the checked value of an argument, or its default."""
        if node is None:
            return _doubt if is_required_argument(argument) else _default(argument)
        read = self.reader(node, argument.type)
        if not isinstance(node, VariableNode):
            return read
        default = _doubt if is_required_argument(argument) else _default(argument)

        def read_variable(variables: Mapping[str, Any]) -> Any:
            value = read(variables)
            return default(variables) if value is Undefined else value

        return read_variable

    def reader(self, node: ValueNode, kind: GraphQLInputType) -> Read:
        """The function that gives the checked value of a literal, in which there may be variables."""
        if isinstance(node, VariableNode):
            return _variable(node.name.value, is_required=is_non_null_type(kind))
        if not _has_variables(node):
            return _constant(node, kind)
        if is_non_null_type(kind):
            return self.reader(node, kind.of_type)
        if is_list_type(kind) and isinstance(node, ListValueNode):
            return _list(node, [self.reader(item, kind.of_type) for item in node.values], kind.of_type)
        if isinstance(kind, GraphQLInputObjectType) and isinstance(node, ObjectValueNode) and not kind.is_one_of:
            return self._object_reader(node, kind)
        return _doubt

    def _object_reader(self, node: ObjectValueNode, kind: GraphQLInputObjectType) -> Read:
        given = {field.name.value: field.value for field in node.fields}
        if not given.keys() <= kind.fields.keys():
            return _doubt
        fields = [
            (name, self.reader(given[name], field.type) if name in given else _absent, field)
            for name, field in kind.fields.items()
        ]

        def read(variables: Mapping[str, Any]) -> Any:
            checked = {}
            for name, read_field, field in fields:
                value = read_field(variables)
                if value is Undefined:
                    if is_required_input_field(field):
                        raise DoubtError
                    value = coerce_default_value(field)
                if value is not Undefined:
                    checked[field.out_name or name] = value
            return kind.out_type(checked)

        return read

    # ------------------------------------------------------------ second step: Strawberry's

    def converter(self, kind: Any) -> Convert | None:  # noqa: PLR0911 - one answer for each kind of type
        """The function that makes a Python object of a checked value; None: it stays what it is."""
        if isinstance(kind, StrawberryMaybe):
            return self._maybe(kind)
        if isinstance(kind, StrawberryOptional):
            return self.converter(kind.of_type)
        if isinstance(kind, StrawberryList):
            return _each_converted(self.converter(kind.of_type))
        if isinstance(kind, LazyType):
            return self.converter(kind.resolve_type())
        if kind is not GlobalID and (
            isinstance(kind, StrawberryEnumDefinition) or is_scalar(kind, self._scalars) or has_enum_definition(kind)
        ):
            return None
        if has_object_definition(kind):
            if kind.__strawberry_definition__.from_input is not None:
                return _doubt  # it wants to know of the call
            if kind not in self._converts:
                self._converts[kind] = self._object_converter(kind)
            return self._converts[kind]
        return self._by_strawberry(kind)

    def _by_strawberry(self, kind: Any) -> Convert:
        return lambda value: convert_argument(value, kind, self._scalars, self._schema.config)

    def _maybe(self, kind: StrawberryMaybe) -> Convert:
        inner, by_strawberry = self.converter(kind.of_type), self._by_strawberry(kind)

        def convert(value: Any) -> Any:
            if value is None:  # absent or null? Strawberry knows which of the two the type means
                return by_strawberry(value)
            return Some(inner(value) if inner else value)

        return convert

    def _object_converter(self, kind: Any) -> Convert:
        definition = kind.__strawberry_definition__
        absent = {
            field.python_name: None
            for field in definition.fields
            if definition.is_input and field.default_value is MISSING and field.default_factory is MISSING
        }
        fields: list[tuple[str, str, Convert | None]] = []

        def convert(value: Any) -> Any:
            if value is None or value is UNSET:
                return value
            if not fields:  # only now: a type may contain itself
                fields.extend(
                    (
                        self._schema.config.name_converter.from_field(field),
                        field.python_name,
                        self.converter(field.resolve_type(type_definition=definition)),
                    )
                    for field in definition.fields
                )
            given = dict(absent)
            for name, python_name, convert_field in fields:
                if name in value:
                    given[python_name] = convert_field(value[name]) if convert_field else value[name]
            return kind(**given)

        return convert


# ---------------------------------------------------------------- the parts of the first step


def _not_null(inner: Check) -> Check:
    def check(value: Any) -> Any:
        if value is None:
            raise DoubtError
        return inner(value)

    return check


def _each(inner: Check) -> Check:
    def check(value: Any) -> Any:
        if value is None:
            return None
        if value.__class__ is not list:
            raise DoubtError
        return [inner(item) for item in value]

    return check


def _text(value: Any) -> Any:
    if value.__class__ is str or value is None:
        return value
    raise DoubtError


def _some_text(value: Any) -> Any:
    if value.__class__ is str:
        return value
    raise DoubtError


def _leaf(coerce: Callable[[Any], Any]) -> Check:
    def check(value: Any) -> Any:
        if value is None:
            return None
        try:
            checked = coerce(value)
        except Exception as error:
            raise DoubtError from error
        if checked is Undefined:
            raise DoubtError
        return checked

    return check


def _absent(_variables: Mapping[str, Any]) -> Any:
    return Undefined


def _default(argument: GraphQLArgument) -> Read:
    def read(_variables: Mapping[str, Any]) -> Any:
        try:
            return coerce_default_value(argument)
        except TypeError as error:
            raise DoubtError from error

    return read


def _variable(name: str, *, is_required: bool) -> Read:
    def read(variables: Mapping[str, Any]) -> Any:
        value = variables.get(name, Undefined)
        if is_required and value is None:
            raise DoubtError
        return value

    return read


def _constant(node: ValueNode, kind: GraphQLInputType) -> Read:
    try:
        value = coerce_input_literal(node, kind)
    except Exception:  # noqa: BLE001 - whatever it is, it is raised again where the literal is used
        return _doubt
    if value is Undefined:
        return _doubt
    if _may_be_shared(value, kind):
        return lambda _variables: value
    return lambda _variables: coerce_input_literal(node, kind)


def _list(node: ListValueNode, readers: list[Read], item_kind: GraphQLInputType) -> Read:
    is_required = is_non_null_type(item_kind)
    pairs = [(reader, isinstance(item, VariableNode)) for reader, item in zip(readers, node.values, strict=True)]

    def read(variables: Mapping[str, Any]) -> Any:
        found = []
        for reader, is_variable in pairs:
            value = reader(variables)
            if value is Undefined:
                if is_required or not is_variable:
                    raise DoubtError
                value = None  # a variable that is absent
            found.append(value)
        return found

    return read


def _has_variables(node: ValueNode) -> bool:
    if isinstance(node, ListValueNode):
        return any(map(_has_variables, node.values))
    if isinstance(node, ObjectValueNode):
        return any(_has_variables(field.value) for field in node.fields)
    return isinstance(node, VariableNode)


def _may_be_shared(value: object, kind: GraphQLInputType) -> bool:
    """Whether requests may share a value: nobody can change it, or Strawberry copies it for each resolver."""
    if is_non_null_type(kind):
        return _may_be_shared(value, kind.of_type)
    if is_list_type(kind) and value.__class__ is list:
        return all(_may_be_shared(item, kind.of_type) for item in value)
    if isinstance(kind, GraphQLInputObjectType) and value.__class__ is dict:
        fields = kind.fields
        return all(name in fields and _may_be_shared(item, fields[name].type) for name, item in value.items())
    return value.__class__ in _IMMUTABLE or isinstance(value, enum.Enum)


# ---------------------------------------------------------------- the parts of the second step


def _each_converted(inner: Convert | None) -> Convert:
    def convert(value: Any) -> Any:
        if value is None or value is UNSET:
            return value
        return [inner(item) for item in value] if inner else list(value)

    return convert
