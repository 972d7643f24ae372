"""One selection set on one object type, as a Python function that is written and compiled when it is first needed.

`{ amount { minorUnits } currency }` of types without surprises becomes the function below. What is not as expected, by
its class, is left to `Field.settle`, which does whatever graphql-core does.

    def answer(o, p, R):
     w0 = None
     try:
      v1 = o.amount
      if v1.__class__ is K1:
       w1 = None
       try:
        v2 = v1.minor_units
        if v2.__class__ in PLAIN:
         v2 = L2(v2)
        else:
         v2 = F2.settle(v2, (p, 'amount'), R)
         if v2.__class__ is Coroutine: w1 = w1, 'minorUnits', v2
       except Exception as error:
        raise A1[error.__traceback__.tb_lineno].failure(error, (p, 'amount'), w1) from error
       v1 = {'minorUnits': v2}
       if w1 is not None: v1 = F1.guarded(fill(v1, w1), p, R); w0 = w0, 'amount', v1
      else:
       v1 = F1.settle(v1, p, R)
       if v1.__class__ is Coroutine: w0 = w0, 'amount', v1
      ...
     except Exception as error:
      raise A0[error.__traceback__.tb_lineno].failure(error, p, w0) from error
     v0 = {'amount': v1, 'currency': v3}
     return v0 if w0 is None else fill(v0, w0)

`A0` and `A1` say which field a line belongs to. Where `amount` is made along paths (see `along`), no object is made:
`v2 = o.line.amount`.
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

from .along import left_to_json
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
    source, tables = writer.function(fields)
    known = {"Coroutine": Coroutine, "Undefined": Undefined, "PLAIN": PLAIN, "fill": fill}
    names = {**known, **writer.names, **tables}
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
    parts: Mapping[str, str] | None = None
    """If the object is not made: where its attributes are read instead, as paths from `source`."""

    @property
    def waiting(self) -> str:
        """The variable with what is still to come of its answer."""
        return f"w{self.number}"

    def along(self, path: str) -> str | None:
        """A path from `source` for one from the object; None if the object would have to be made."""
        if self.parts is None:
            return path
        if path in self.parts:
            return self.parts[path]
        first, dot, rest = path.partition(".")
        return None if first not in self.parts else f"{self.parts[first]}{dot}{rest}"


class _Writer:
    """Writes one function. Of what a client sent response keys alone get into the text, quoted by `repr`."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self._numbers = count()
        self._left = INLINED_MAX

    def function(self, fields: Fields) -> tuple[str, dict[str, dict[int, Site]]]:
        """The whole text; and by the name of a table of the text, the field that each line belongs to."""
        place = _Place(next(self._numbers), "o", "p")
        done = "return v0 if w0 is None else fill(v0, w0)"
        return self._tabled(["def answer(o, p, R):", *_in(self._object(place, "v0", fields)), f" {done}"])

    def _tabled(self, lines: Iterable[str]) -> tuple[str, dict[str, dict[int, Site]]]:
        """Take the marks out of the text: `#A0 F1` says that from there on the lines of the object A0 belong to F1."""
        text: list[str] = []
        tables: dict[str, dict[int, Site]] = {}
        current: dict[str, Site] = {}
        for line in lines:
            if line.lstrip().startswith("#"):
                table, name = line.lstrip(" #").split()
                current[table] = self.names[name]
                tables.setdefault(table, {})
                continue
            text.append(line)
            for table, field in current.items():
                tables[table][len(text)] = field
        return "\n".join(text), tables

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
            found = f"A{place.number}[error.__traceback__.tb_lineno]"
            yield f" raise {found}.failure(error, {place.path}, {place.waiting}) from error"
        yield f"{answer} = {{{', '.join(parts)}}}"

    def _field(self, place: _Place, number: int, key: str, field: Site) -> Iterator[str]:
        """What one response key takes."""
        body = self._made_along(place, number, key, field)
        if body is None:
            body = [self._value(place, number, field), *self._settled(place, number, key, field)]
        if field.is_required:
            yield f"#A{place.number} F{number}"
            yield from body
        else:
            yield "try:"
            yield from _in(body)
            yield "except Exception as error:"
            yield f" v{number} = F{number}.failed(error, {place.path}, R)"

    def _value(self, place: _Place, number: int, field: Site) -> str:
        if field.attribute is not None:
            return f"v{number} = {place.source}.{place.along(field.attribute)}"
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
        if not answer:
            yield f"if not ({is_known}):"
        else:
            yield f"if {is_known}:"
            yield from _in(answer)
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
            return self._scalar(number, kind, f"F{number}.settle({v}, {place.path}, R)")
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

    def _scalar(self, number: int, kind: GraphQLScalarType, settled: str) -> tuple[str, list[str]]:
        v, left = f"v{number}", left_to_json(kind.coerce_output_value)
        if left is not None:
            self.names[f"K{number}"] = left
            return f"{v}.__class__ is K{number}", []
        self.names[f"L{number}"] = kind.coerce_output_value
        if kind.coerce_output_value is str:  # whose answers are never null
            return f"{v}.__class__ in PLAIN", [f"{v} = L{number}({v})"]
        answer = f"w = L{number}({v}); {v} = {settled} if w is None or w is Undefined else w"
        return f"{v}.__class__ in PLAIN", [answer]

    def _made_along(self, place: _Place, number: int, key: str, field: Site) -> list[str] | None:
        """The answer of an object that need not be made, since all that is asked of it stands at paths; else None."""
        parts = _parts(place, field)
        if parts is None:
            return None
        made = _asked(field)
        if place.parts is None:  # what is below an object that is not made is not made either: all or nothing
            count, deep = _extent(made)
            if self._left < count or place.depth + deep > INLINED_DEEP:
                return None
            self._left -= count
        inner = _Place(number, place.source, f"({place.path}, {key!r})", place.depth + 1, parts)
        filled = f"F{number}.guarded(fill(v{number}, {inner.waiting}), {place.path}, R)"
        noted = f"{place.waiting} = {place.waiting}, {key!r}, v{number}"
        lines = self._object(inner, f"v{number}", made)
        return [*lines, f"if {inner.waiting} is not None: v{number} = {filled}; {noted}"]

    def _enum(self, number: int, kind: GraphQLEnumType) -> tuple[str | None, list[str]]:
        expected = getattr(kind, "wrapped_cls", None)
        if expected is None or not issubclass(expected, enum.Enum) or issubclass(expected, enum.Flag):
            return None, []
        self.names[f"K{number}"] = expected
        self.names[f"L{number}"] = {member.name: kind.coerce_output_value(member) for member in expected}
        return f"v{number}.__class__ is K{number}", [f"v{number} = L{number}[v{number}._name_]"]


def _asked(field: Site) -> Fields:
    """What is asked for of a field's object."""
    kind = get_nullable_type(field.type)
    assert isinstance(kind, GraphQLObjectType)
    return object_of(field, kind).fields


def _extent(fields: Fields) -> tuple[int, int]:
    """How many fields are asked for of an object that is not made, with all below; and how deep those are."""
    below = [_extent(_asked(each)) for each in fields.values() if not isinstance(each, str) and each.attribute is None]
    return len(fields) + sum(count for count, _ in below), 1 + max((deep for _, deep in below), default=0)


def _parts(place: _Place, field: Site) -> Mapping[str, str] | None:
    """Where the attributes of a field's object are read, from the place's source; None if it has to be made."""
    kind = get_nullable_type(field.type)
    if field.made is None or not isinstance(kind, GraphQLObjectType) or known_class(kind) is not field.made[0]:
        return None
    parts = {}
    for name, path in field.made[1].items():
        whole = place.along(path)
        if whole is None:
            return None
        parts[name] = whole
    inner = _Place(0, place.source, "", parts=parts)
    for each in _asked(field).values():
        if isinstance(each, str) or (each.attribute is not None and inner.along(each.attribute) is not None):
            continue
        if _parts(inner, each) is None:
            return None
    return parts


def _in(lines: Iterable[str]) -> list[str]:
    """One step further in."""
    return [f" {line}" for line in lines]
