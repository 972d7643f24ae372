"""Operations made at random, for any schema: fragments, aliases, directives, variables, defaults, literals."""

from __future__ import annotations

import json
import random
from typing import Any, Final
from zlib import crc32

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLSchema,
    get_named_type,
    get_nullable_type,
    is_abstract_type,
    is_composite_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
    is_required_input_field,
)


class OperationMaker:
    """Makes one operation. `badness`: how probable it is that a value is not what its type asks for."""

    def __init__(self, schema: GraphQLSchema, rng: random.Random, badness: float = 0.05) -> None:
        self._schema = schema
        self._rng = rng
        self._badness = badness
        self._definitions: list[str] = []
        self._drawn: dict[str, tuple[Any, float]] = {}
        self._fragments: dict[str, list[str]] = {}
        self._texts: list[str] = []

    def variables(self) -> dict[str, Any]:
        """Variables for the operation, others each time."""
        found = {}
        for name, (kind, probability) in self._drawn.items():
            if self._rng.random() < probability:
                found[name] = self._rng.random() < 0.5 if kind is None else self.raw(kind, 0)
        return found

    def make(self, *, is_mutation: bool) -> str:
        """A document with one operation."""
        root = self._schema.mutation_type if is_mutation else self._schema.query_type
        selections = self._selections(root, 0)
        defined = f"({', '.join(self._definitions)})" if self._definitions else ""
        head = "mutation" if is_mutation else "query"
        return "\n".join([f"{head} Op{defined} {selections}", *self._texts])

    # ------------------------------------------------------------ selections

    def _selections(self, kind: Any, depth: int) -> str:
        parts = [self._selection(kind, depth) for _ in range(self._rng.choice((1, 2, 3) if depth else (2, 3, 4)))]
        return "{ " + " ".join(parts) + " }"

    def _selection(self, kind: Any, depth: int) -> str:
        choice = self._rng.random()
        if choice < 0.08:
            return f"__typename{self._directives()}"
        if depth < 4 and choice < 0.2:
            return f"...{self._condition(kind)}{self._directives()} {self._inner(kind, depth)}"
        if depth < 4 and choice < 0.3:
            return self._spread(kind, depth)
        fields = getattr(kind, "fields", {})
        if is_abstract_type(kind) and (not fields or choice < 0.8):
            concrete = self._rng.choice(self._schema.get_possible_types(kind))
            return f"... on {concrete.name}{self._directives()} {self._selections(concrete, depth + 1)}"
        names = [name for name in fields if depth < 5 or not is_composite_type(get_named_type(fields[name].type))]
        if not names:
            return "__typename"
        return self._field(self._rng.choice(names), fields, depth)

    def _condition(self, kind: Any) -> str:
        self._inside = kind
        if self._rng.random() < 0.3:
            return ""
        options = [kind]
        if is_abstract_type(kind):
            options += self._schema.get_possible_types(kind)
        else:
            options += list(kind.interfaces)
        self._inside = self._rng.choice(options)
        return f" on {self._inside.name}"

    def _inner(self, _kind: Any, depth: int) -> str:
        return self._selections(self._inside, depth + 1)

    def _spread(self, kind: Any, depth: int) -> str:
        known = self._fragments.setdefault(kind.name, [])
        if not known or self._rng.random() < 0.5:
            body = self._selections(kind, depth + 1)
            name = f"F{len(self._texts)}"
            self._texts.append(f"fragment {name} on {kind.name} {body}")
            known.append(name)
            return f"...{name}{self._directives()}"
        return f"...{self._rng.choice(known)}{self._directives()}"

    def _field(self, name: str, fields: Any, depth: int) -> str:
        definition = fields[name]
        given = []
        for argument_name, argument in definition.args.items():
            if is_required_argument(argument) or self._rng.random() < 0.6:
                value = self._value(argument.type, 0, is_required=is_required_argument(argument))
                given.append(f"{argument_name}: {value}")
        arguments = f"({', '.join(given)})" if given else ""
        alias = f"{self._rng.choice('xyz')}_{name}: " if self._rng.random() < 0.3 else ""
        if definition.args:  # under one name there must not be two calls that differ
            alias = f"a{crc32(arguments.encode())}_{name}: "
        named = get_named_type(definition.type)
        inner = f" {self._selections(named, depth + 1)}" if is_composite_type(named) else ""
        return f"{alias}{name}{arguments}{self._directives()}{inner}"

    def _directives(self) -> str:
        if self._rng.random() < 0.85:
            return ""
        name = self._rng.choice(("skip", "include"))
        if self._rng.random() < 0.5:
            return f" @{name}(if: {self._rng.choice(('true', 'false'))})"
        variable = f"c{self._rng.randrange(2)}"
        if not any(text.startswith(f"${variable}:") for text in self._definitions):
            default = self._rng.choice(("", " = true"))
            self._definitions.append(f"${variable}: Boolean!{default}")
            self._drawn[variable] = None, 0.5 if default else 1 - self._badness
        return f" @{name}(if: ${variable})"

    # ------------------------------------------------------------ values

    def _value(self, kind: Any, depth: int, *, is_required: bool) -> str:  # noqa: PLR0911 - one answer for each kind of type
        """The text of a literal or variable."""
        if self._rng.random() < 0.35:
            return self._variable(kind, is_required=is_required)
        if not is_non_null_type(kind) and self._rng.random() < 0.1:
            return "null"
        kind = get_nullable_type(kind)
        if is_list_type(kind):
            if self._rng.random() < 0.2:
                return self._value(kind.of_type, depth, is_required=True)
            items = [self._value(kind.of_type, depth, is_required=False) for _ in range(self._rng.randrange(3))]
            return f"[{', '.join(items)}]"
        if isinstance(kind, GraphQLInputObjectType):
            return self._object_text(kind, depth)
        if isinstance(kind, GraphQLEnumType):
            return str(self._rng.choice(list(kind.values)))
        return str(_LITERALS[kind.name](self._rng))

    def _object_text(self, kind: GraphQLInputObjectType, depth: int) -> str:
        parts = []
        for name in self._chosen(kind, depth):
            value = self._value(kind.fields[name].type, depth + 1, is_required=_is_one_of(kind))
            parts.append(f"{name}: {value}")
        return "{" + ", ".join(parts) + "}"

    def _chosen(self, kind: GraphQLInputObjectType, depth: int) -> list[str]:
        fields = kind.fields
        if _is_one_of(kind) and self._rng.random() >= self._badness:
            return [self._rng.choice([name for name in fields if depth < 3 or not _is_deep(fields[name])])]
        return [
            name
            for name, field in fields.items()
            if is_required_input_field(field) or (self._rng.random() < 0.5 and (depth < 3 or not _is_deep(field)))
        ]

    def _variable(self, kind: Any, *, is_required: bool) -> str:
        name = f"v{len(self._definitions)}"
        text, default = str(kind), ""
        if not is_non_null_type(kind):
            if is_required or self._rng.random() < 0.4:
                text += "!"
            elif self._rng.random() < 0.3:
                default = f" = {self._constant(kind)}"
        elif self._rng.random() < 0.2:
            text, default = text[:-1], f" = {self._constant(kind)}"
        self._definitions.append(f"${name}: {text}{default}")
        self._drawn[name] = kind, 0.6 if default or not text.endswith("!") else 1 - self._badness
        return f"${name}"

    def _constant(self, kind: Any) -> str:
        inner = OperationMaker(self._schema, self._rng, self._badness)
        inner._variable = lambda each, **_more: inner._constant(each)  # type: ignore[method-assign]  # a constant has none
        return inner._value(get_nullable_type(kind), 2, is_required=True)

    def raw(self, kind: Any, depth: int) -> Any:  # noqa: PLR0911 - same
        """A value as JSON brings it."""
        if self._rng.random() < self._badness:
            return self._rng.choice(
                (None, 1, 2, "RED", "x", True, [], {}, 1.5, [None], {"a": 1}, {"number": 1, "text": "x"})
            )
        if is_non_null_type(kind):
            return self.raw(kind.of_type, depth)
        if self._rng.random() < 0.1:
            return None
        if is_list_type(kind):
            if self._rng.random() < 0.1:
                return self.raw(kind.of_type, depth)
            return [self.raw(kind.of_type, depth) for _ in range(self._rng.randrange(3))]
        if isinstance(kind, GraphQLInputObjectType):
            found = {name: self.raw(kind.fields[name].type, depth + 1) for name in self._chosen(kind, depth)}
            return {**found, "unknown": 1} if self._rng.random() < self._badness else found
        if isinstance(kind, GraphQLEnumType):
            return self._rng.choice(list(kind.values))
        return json.loads(_LITERALS[kind.name](self._rng)) if kind.name != "JSON" else {"j": [1, None, "x"]}


def _is_one_of(kind: GraphQLInputObjectType) -> bool:
    return bool(kind.extensions["strawberry-definition"].is_one_of)


def _is_deep(field: Any) -> bool:
    return isinstance(get_named_type(field.type), GraphQLInputObjectType)


_LITERALS: Final[dict[str, Any]] = {
    "Int": lambda rng: rng.choice(("0", "1", "-7", "12")),
    "Float": lambda rng: rng.choice(("0.5", "3")),
    "String": lambda rng: rng.choice(('""', '"tea"', '"日本"')),
    "Boolean": lambda rng: rng.choice(("true", "false")),
    "ID": lambda rng: rng.choice(('"a"', "7")),
    "Odd": lambda rng: rng.choice(("1", "3", "5")),
    "DateTime": lambda _rng: '"2026-11-28T12:00:00+00:00"',
    "JSON": lambda rng: rng.choice(("1", '{a: [1, "x", null], b: {c: true}}', "[]", '"text"')),
    "BigInt": lambda rng: rng.choice(("1", '"12"', "0", '"-3"')),
    "CurrencyCode": lambda rng: rng.choice(('"EUR"', '"JPY"')),
}
