"""One selection set on one object type, as a Python function that is written and compiled when it is first needed.

`{ amount { minorUnits } currency }` of types without surprises becomes the function below. What is not as expected, by
its class, is left to `Field.settle`, which does whatever graphql-core does.

    def answer(o, p, R):
     w0 = None
     try:
      at0 = F1
      v1 = o.amount
      if v1.__class__ is K1:
       w1 = None
       try:
        at1 = F2
        v2 = v1.minor_units
        if v2.__class__ in PLAIN:
         v2 = L2(v2)
        else:
         v2 = F2.settle(v2, (p, 'amount'), R)
         if v2.__class__ is Coroutine: w1 = w1, 'minorUnits', v2
       except Exception as error:
        raise at1.failure(error, (p, 'amount'), w1) from error
       v1 = {'minorUnits': v2}
       if w1 is not None: v1 = F1.guarded(fill(v1, w1), p, R); w0 = w0, 'amount', v1
      else:
       v1 = F1.settle(v1, p, R)
       if v1.__class__ is Coroutine: w0 = w0, 'amount', v1
      at0 = F3
      ...
     except Exception as error:
      raise at0.failure(error, p, w0) from error
     v0 = {'amount': v1, 'currency': v3}
     return v0 if w0 is None else fill(v0, w0)
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import count
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

_IS_TYPE_OF: Final = "GraphQLCoreConverter.from_object.<locals>._get_is_type_of.<locals>.is_type_of"

CODES_MAX: Final = 1_024

INLINED_MAX: Final = 32
"""How many fields of objects inside an object one function answers. Longer selections have functions of their own."""

INLINED_DEEP: Final = 4
"""How deep objects are inside one another in one function: Python compiles at most 20 nested blocks."""

Fields = Mapping[str, Site | str]
"""Response key -> field, or the type's name where that is asked for."""


class Object:
    """What one place of an operation asks of one object type."""

    def __init__(self, around: Site, kind: GraphQLObjectType) -> None:
        self._around = around
        self._kind = kind
        self.answer = self._first_answer

    @cached_property
    def fields(self) -> Fields:
        """What is asked for."""
        return self._around.shape.fields_of(self._kind, self._around.selection_sets, self._around)

    def _first_answer(self, source: Any, path: Path, run: Run) -> Any:
        self.answer = compiled(self.fields)
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
    if definition is None or definition.is_graphql_generic or (definition.concrete_of and check is not None):
        return None
    origin: type = (definition.concrete_of or definition).origin  # a generic type's objects are of its own class
    if check is not None and getattr(check, "__qualname__", "") != _IS_TYPE_OF:
        return None
    if issubclass(origin, Exception) or hasattr(origin, "__await__") or hasattr(origin, TYPE_CAST_ATTRIBUTE):
        return None
    return origin


def compiled(fields: Fields) -> Any:
    """The function that answers a selection set: source, place and run -> answer, or a coroutine that gives it."""
    writer = _Writer()
    source = writer.function(fields)
    names = {"Coroutine": Coroutine, "Undefined": Undefined, "PLAIN": PLAIN, "fill": fill, **writer.names}
    exec(_code(source), names)  # noqa: S102 - text of a client's goes in as literals alone
    return names["answer"]


@lru_cache(maxsize=CODES_MAX)
def _code(source: str) -> CodeType:
    """The compiled text. Documents that differ in names and values alone have many functions in common."""
    return compile(source, "<plan>", "exec")


@dataclass(frozen=True, slots=True)
class _Place:
    """An object in the text of a function: its number, the variable that holds it, and its place in the answer."""

    number: int
    source: str
    path: str
    depth: int = 0

    @property
    def waiting(self) -> str:
        """The variable with what is still to come of its answer."""
        return f"w{self.number}"


class _Writer:
    """Writes one function. Of what a client sent response keys alone get into the text, quoted by `repr`."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self._numbers = count()
        self._left = INLINED_MAX

    def function(self, fields: Fields) -> str:
        """The whole text."""
        place = _Place(next(self._numbers), "o", "p")
        done = "return v0 if w0 is None else fill(v0, w0)"
        return "\n".join(["def answer(o, p, R):", *_in(self._object(place, "v0", fields)), f" {done}"])

    def _object(self, place: _Place, answer: str, fields: Fields) -> Iterator[str]:
        """The answer of one object, into a variable; what is still to come of it waits in another."""
        lines: list[str] = []
        parts: list[str] = []
        for key, field in fields.items():
            if isinstance(field, str):
                parts.append(f"{key!r}: {field!r}")
                continue
            number = next(self._numbers)
            self.names[f"F{number}"] = field
            parts.append(f"{key!r}: v{number}")
            lines += self._field(place, number, key, field)
        yield f"{place.waiting} = None"
        if lines:
            yield "try:"
            yield from _in(lines)
            yield "except Exception as error:"
            yield f" raise at{place.number}.failure(error, {place.path}, {place.waiting}) from error"
        yield f"{answer} = {{{', '.join(parts)}}}"

    def _field(self, place: _Place, number: int, key: str, field: Site) -> Iterator[str]:
        """What one response key takes."""
        body = [self._value(place, number, field), *self._settled(place, number, key, field)]
        if field.is_required:
            yield f"at{place.number} = F{number}"
            yield from body
        else:
            yield "try:"
            yield from _in(body)
            yield "except Exception as error:"
            yield f" v{number} = F{number}.failed(error, {place.path}, R)"

    def _value(self, place: _Place, number: int, field: Site) -> str:
        if field.attribute is not None:
            return f"v{number} = {place.source}.{field.attribute}"
        self.names[f"C{number}"] = field.call if field.method is None else field.method
        more = f", {place.path}, R" if field.method is None else ""
        return f"v{number} = C{number}({place.source}{more})"

    def _settled(self, place: _Place, number: int, key: str, field: Site) -> Iterator[str]:
        """From the value to the answer."""
        v = f"v{number}"
        settle = f"{v} = F{number}.settle({v}, {place.path}, R)"
        settled = [settle, f"if {v}.__class__ is Coroutine: {place.waiting} = {place.waiting}, {key!r}, {v}"]
        is_known, answer = self._usual(place, number, key, field)
        if is_known is None:
            yield from settled
            return
        yield f"if {is_known}:"
        yield from _in(answer or ["pass"])
        yield "else:"
        yield from _in(settled)

    def _usual(self, place: _Place, number: int, key: str, field: Site) -> tuple[str | None, list[str]]:
        """When a value is as expected, and what is done with it then; None if nothing is expected."""
        v, kind = f"v{number}", get_nullable_type(field.type)
        if kind in _AS_IT_IS:
            return _AS_IT_IS[kind].format(v=v), []
        if isinstance(kind, GraphQLEnumType):
            return self._enum(number, kind)
        if isinstance(kind, GraphQLScalarType):
            self.names[f"L{number}"] = kind.coerce_output_value
            if kind.coerce_output_value is str:  # whose answers are never null
                return f"{v}.__class__ in PLAIN", [f"{v} = L{number}({v})"]
            settled = f"F{number}.settle({v}, {place.path}, R)"
            answer = f"w = L{number}({v}); {v} = {settled} if w is None or w is Undefined else w"
            return f"{v}.__class__ in PLAIN", [answer]
        if isinstance(kind, GraphQLObjectType) and (expected := known_class(kind)):
            self.names[f"K{number}"] = expected
            not_cast = f" and getattr({v}, {TYPE_CAST_ATTRIBUTE!r}, None) is None" if kind.is_type_of else ""
            return f"{v}.__class__ is K{number}{not_cast}", [*self._known(place, number, key, object_of(field, kind))]
        return None, []

    def _known(self, place: _Place, number: int, key: str, made: Object) -> Iterator[str]:
        """The answer of an object of a known class: written here, or by a function of its own where it is long."""
        v, path = f"v{number}", f"({place.path}, {key!r})"
        noted = f"{place.waiting} = {place.waiting}, {key!r}, {v}"
        if place.depth == INLINED_DEEP or self._left < len(made.fields):
            self.names[f"O{number}"] = made
            yield f"{v} = O{number}.answer({v}, {path}, R)"
            yield f"if {v}.__class__ is Coroutine: {v} = F{number}.guarded({v}, {place.path}, R); {noted}"
            return
        self._left -= len(made.fields)
        inner = _Place(number, v, path, place.depth + 1)
        yield from self._object(inner, v, made.fields)
        filled = f"fill({v}, {inner.waiting})"
        yield f"if {inner.waiting} is not None: {v} = F{number}.guarded({filled}, {place.path}, R); {noted}"

    def _enum(self, number: int, kind: GraphQLEnumType) -> tuple[str | None, list[str]]:
        expected = getattr(kind, "wrapped_cls", None)
        if expected is None or not issubclass(expected, enum.Enum) or issubclass(expected, enum.Flag):
            return None, []
        self.names[f"K{number}"] = expected
        self.names[f"L{number}"] = {member.name: kind.coerce_output_value(member) for member in expected}
        return f"v{number}.__class__ is K{number}", [f"v{number} = L{number}[v{number}._name_]"]


def _in(lines: Iterable[str]) -> list[str]:
    """One step further in."""
    return [f" {line}" for line in lines]
