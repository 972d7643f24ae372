"""One selection set on one object type, as a Python function that is written and compiled when it is first needed.

`{ minorUnits currency }` of a type without surprises becomes the function below. What is not as expected, by its class,
is left to `Field.settle`, which does whatever graphql-core does.

    def answer(o, p, R):
        waiting = None
        try:
            at = F0
            v0 = o.minor_units
            if v0.__class__ in PLAIN:
                w = L0(v0); v0 = F0.settle(v0, p, R) if w is None or w is Undefined else w
            else:
                v0 = F0.settle(v0, p, R)
                if v0.__class__ is Coroutine: waiting = waiting, 'minorUnits', v0
            at = F1
            ...
        except Exception as error:
            raise at.failure(error, p, waiting) from error
        answer = {'minorUnits': v0, 'currency': v1}
        return answer if waiting is None else fill(answer, waiting)
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import CodeType
from typing import Any, Final

from graphql import (
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLID,
    GraphQLInt,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLString,
    Undefined,
    get_nullable_type,
)
from strawberry.types.cast import TYPE_CAST_ATTRIBUTE

from .running import Coroutine, Path, Run, fill
from .site import Site

PLAIN: Final = frozenset(
    {
        bool, int, float, str, bytes, decimal.Decimal, uuid.UUID,
        dt.datetime, dt.date, dt.time, dt.timedelta,
    }
)  # fmt: skip
"""Classes whose objects are what custom scalars are made of: no awaitables, no exceptions, no nulls."""

_AS_IT_IS: Final[Mapping[object, str]] = {
    GraphQLString: "{v}.__class__ is str",
    GraphQLID: "{v}.__class__ is str",
    GraphQLBoolean: "{v}.__class__ is bool",
    GraphQLInt: "{v}.__class__ is int and -2147483648 <= {v} <= 2147483647",
}
"""By leaf type: which values are their own answer."""

_NEVER_NULL: Final = (str, dt.datetime.isoformat)
"""Functions of scalars whose answers are texts, or exceptions."""

_IS_TYPE_OF: Final = "GraphQLCoreConverter.from_object.<locals>._get_is_type_of.<locals>.is_type_of"

CODES_MAX: Final = 1_024

Fields = Mapping[str, Site | str]
"""Response key -> field, or the type's name where that is asked for."""


class Object:
    """What one place of an operation asks of one object type."""

    def __init__(self, around: Site, kind: GraphQLObjectType) -> None:
        self._around = around
        self._kind = kind
        self.answer = self._first_answer

    def _first_answer(self, source: Any, path: Path, run: Run) -> Any:
        field = self._around
        self.answer = compiled(field.shape.fields_of(self._kind, field.selection_sets, field))
        return self.answer(source, path, run)


def object_of(site: Site, kind: GraphQLObjectType) -> Object:
    """What is asked for of a field's value, if that is an object of a type."""
    if kind.name not in site.objects:
        site.objects[kind.name] = Object(site, kind)
    found: Object = site.objects[kind.name]
    return found


def known_class(kind: GraphQLObjectType) -> type | None:
    """The class whose objects are of a type without a look at them, unless they are cast; None if there is none."""
    definition, check = kind.extensions.get("strawberry-definition"), kind.is_type_of
    if definition is None or definition.concrete_of or definition.is_graphql_generic:
        return None
    origin: type = definition.origin
    if check is not None and getattr(check, "__qualname__", "") != _IS_TYPE_OF:
        return None
    if issubclass(origin, Exception) or hasattr(origin, "__await__") or hasattr(origin, TYPE_CAST_ATTRIBUTE):
        return None
    return origin


def compiled(fields: Fields) -> Any:
    """The function that answers a selection set: source, place and run -> answer, or a coroutine that gives it."""
    writer = _Writer()
    for number, (key, field) in enumerate(fields.items()):
        writer.add(number, key, field)
    source = writer.source(fields)
    names = {"Coroutine": Coroutine, "Undefined": Undefined, "PLAIN": PLAIN, "fill": fill, **writer.names}
    exec(_code(source), names)  # noqa: S102 - text of a client's goes in as literals alone
    return names["answer"]


@lru_cache(maxsize=CODES_MAX)
def _code(source: str) -> CodeType:
    """The compiled text. Documents that differ in names and values alone have many functions in common."""
    return compile(source, "<plan>", "exec")


class _Writer:
    """Writes one function. Of what a client sent response keys alone get into the text, quoted by `repr`."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self._lines: list[str] = []

    def source(self, fields: Fields) -> str:
        """The whole text."""
        values = (
            repr(field) if isinstance(field, str) else f"v{number}" for number, field in enumerate(fields.values())
        )
        answer = ", ".join(f"{key!r}: {value}" for key, value in zip(fields, values, strict=True))
        if not self._lines:
            return f"def answer(o, p, R):\n return {{{answer}}}\n"
        return "\n".join(
            [
                "def answer(o, p, R):",
                " waiting = None",
                " try:",
                *self._lines,
                " except Exception as error:",
                "  raise at.failure(error, p, waiting) from error",
                f" answer = {{{answer}}}",
                " return answer if waiting is None else fill(answer, waiting)",
            ]
        )

    def add(self, number: int, key: str, field: Site | str) -> None:
        """Write what one response key takes."""
        if isinstance(field, str):
            return
        self.names[f"F{number}"] = field
        body = [self._value(number, field), *self._settled(number, key, field)]
        if field.is_required:
            self._lines += [f"  at = F{number}", *(f"  {line}" for line in body)]
        else:
            failed = f"   v{number} = F{number}.failed(error, p, R)"
            self._lines += ["  try:", *(f"   {line}" for line in body), "  except Exception as error:", failed]

    def _value(self, number: int, field: Site) -> str:
        if field.attribute is not None:
            return f"v{number} = o.{field.attribute}"
        if field.method is not None:
            self.names[f"C{number}"] = field.method
            return f"v{number} = C{number}(o)"
        self.names[f"C{number}"] = field.call
        return f"v{number} = C{number}(o, p, R)"

    def _settled(self, number: int, key: str, field: Site) -> Iterator[str]:
        """From the value to the answer."""
        v, kind = f"v{number}", get_nullable_type(field.type)
        settle, noted = f"{v} = F{number}.settle({v}, p, R)", f"waiting = waiting, {key!r}, {v}"
        is_known, answer = self._usual(number, key, field, kind)
        if is_known is None:
            yield settle
            yield f"if {v}.__class__ is Coroutine: {noted}"
            return
        yield f"if {is_known}:"
        yield f" {answer}" if answer else " pass"
        if isinstance(kind, GraphQLObjectType):
            yield f" if {v}.__class__ is Coroutine: {v} = F{number}.guarded({v}, p, R); {noted}"
        yield "else:"
        yield f" {settle}"
        yield f" if {v}.__class__ is Coroutine: {noted}"

    def _usual(self, number: int, key: str, field: Site, kind: object) -> tuple[str | None, str]:
        """When a value is as expected, and what is done with it then; None if nothing is expected."""
        v = f"v{number}"
        if kind in _AS_IT_IS:
            return _AS_IT_IS[kind].format(v=v), ""
        if isinstance(kind, GraphQLEnumType):
            return self._enum(number, kind)
        if isinstance(kind, GraphQLScalarType):
            self.names[f"L{number}"] = kind.coerce_output_value
            if kind.coerce_output_value in _NEVER_NULL:
                return f"{v}.__class__ in PLAIN", f"{v} = L{number}({v})"
            settled = f"F{number}.settle({v}, p, R)"
            return (
                f"{v}.__class__ in PLAIN",
                f"w = L{number}({v}); {v} = {settled} if w is None or w is Undefined else w",
            )
        if isinstance(kind, GraphQLObjectType) and (expected := known_class(kind)):
            self.names[f"K{number}"], self.names[f"O{number}"] = expected, object_of(field, kind)
            not_cast = f" and getattr({v}, {TYPE_CAST_ATTRIBUTE!r}, None) is None" if kind.is_type_of else ""
            return f"{v}.__class__ is K{number}{not_cast}", f"{v} = O{number}.answer({v}, (p, {key!r}), R)"
        return None, ""

    def _enum(self, number: int, kind: GraphQLEnumType) -> tuple[str | None, str]:
        expected = getattr(kind, "wrapped_cls", None)
        if expected is None or not issubclass(expected, enum.Enum) or issubclass(expected, enum.Flag):
            return None, ""
        self.names[f"K{number}"] = expected
        self.names[f"L{number}"] = {member.name: kind.coerce_output_value(member) for member in expected}
        return f"v{number}.__class__ is K{number}", f"v{number} = L{number}[v{number}._name_]"
