"""Schemas, data and operations made at random, to compare plans with graphql-core: everything follows from a seed.

A source object knows only its own seed. What a field gives is drawn from that seed, the field and its arguments, so two
executions see the same data, whichever order they ask in. Data are as bad as data can be: nulls where there must be
none, exceptions raised and returned, values of wrong types, awaitables in any place.
"""

from __future__ import annotations

import asyncio
import random
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

import strawberry
from graphql import DocumentNode, GraphQLError, Undefined
from strawberry.extensions import SchemaExtension

CALLS: list[str] = []
"""The seeds of the fields that were resolved, in order."""

Tree = tuple[Any, ...]
"""A type: ("Int",), ("list", tree), ("required", tree), ("object", name), ("any", [names]) and so on."""


class Quiet(strawberry.Schema):
    """A schema that logs no errors: here they are wanted."""

    def process_errors(self, errors: Any, execution_context: Any = None) -> None:
        """Say nothing."""


class Given(SchemaExtension):
    """Takes a document that was parsed and found valid before."""

    document: ClassVar[DocumentNode]

    def on_parse(self) -> Iterator[None]:
        """Take it."""
        self.execution_context.graphql_document = self.document
        yield

    def on_validate(self) -> Iterator[None]:
        """Find no errors."""
        self.execution_context.pre_execution_errors = []
        yield


class Oops(Exception):
    """What handlers make data of."""


@dataclass
class Data:
    """Which fields and classes the schema has whose data are drawn."""

    fields: dict[tuple[str, str], Tree] = field(default_factory=dict)
    classes: dict[str, type] = field(default_factory=dict)


DATA = Data()

WILDNESS: Final = {"a": 0.0, "b": 0.03, "c": 0.1, "d": 0.3}
"""How much of the data is wrong, by the first letter of a root's seed."""


def make(name: str, seed: str) -> Any:
    """A source object."""
    made: Any = object.__new__(DATA.classes[name])
    made.__dict__["_seed"] = seed
    return made


def attribute(source: Any, name: str) -> Any:
    """A plain attribute of a source."""
    key = type(source).__name__, name
    if name.startswith("_") or key not in DATA.fields:
        raise AttributeError(name)
    return resolved(source, name)


def resolved(source: Any, name: str, **arguments: Any) -> Any:
    """What a field gives. Raises whatever it fails with."""
    seed = f"{source._seed}/{name}{arguments!r}" if arguments else f"{source._seed}/{name}"
    CALLS.append(seed)
    return drawn(DATA.fields[type(source).__name__, name], seed)


async def resolved_later(source: Any, name: str, **arguments: Any) -> Any:
    """The same, after a while."""
    seed = f"{source._seed}/{name}{arguments!r}"
    CALLS.append(seed)
    rng = random.Random(seed)
    for _ in range(rng.randrange(3)):
        await asyncio.sleep(0)
    return drawn(DATA.fields[type(source).__name__, name], seed, is_awaited=True)


def drawn(tree: Tree, seed: str, *, is_awaited: bool = False) -> Any:
    """A value for a type, or what is none. Raises, too. What was awaited is nothing to be awaited again."""
    rng = random.Random(seed + "?")
    if rng.random() >= WILDNESS[seed[0]]:
        return right(tree, seed, rng)
    return rng.choice(_WRONG[4:] if is_awaited else _WRONG)(tree, seed, rng)


def right(tree: Tree, seed: str, rng: random.Random) -> Any:
    """A value of the type."""
    kind = tree[0]
    if kind == "required":
        return right(tree[1], seed, rng)
    if seed.count("/") > 6:
        return [] if kind == "list" else None if kind in {"object", "any"} else _LEAVES[kind](rng)
    if kind == "list":
        return rng.choice(_LISTS)([(tree[1], f"{seed}/{place}") for place in range(rng.choice((0, 1, 2, 2, 3)))])
    if kind == "object":
        return make(tree[1], seed)
    if kind == "any":
        return make(rng.choice(tree[1]), seed)
    return _LEAVES[kind](rng)


_LEAVES: Final[dict[str, Callable[[random.Random], Any]]] = {
    "Int": lambda rng: rng.choice((0, 1, -5, 2**31 - 1)),
    "Float": lambda rng: rng.choice((0.5, 3, -1e9)),
    "String": lambda rng: rng.choice(("", "tea", "日本", '"\\')),
    "Boolean": lambda rng: rng.choice((True, False)),
    "ID": lambda rng: rng.choice(("a", 7, "b")),
    "Color": lambda rng: rng.choice(list(DATA.classes["Color"])),  # type: ignore[call-overload]  # an enum
    "Odd": lambda rng: rng.choice((1, 3, 5, 7)),
    "DateTime": lambda _rng: datetime(2026, 11, 28, tzinfo=UTC),
    "JSON": lambda rng: rng.choice(({"a": [1, None]}, [], 1)),
}


# ---------------------------------------------------------------- lists

Items = list[tuple[Tree, str]]


def _plain_list(items: Items) -> Any:
    return [drawn(*item) for item in items]


def _tuple(items: Items) -> Any:
    return tuple(_plain_list(items))


def _generator(items: Items) -> Iterator[Any]:
    for item in items:
        yield drawn(*item)


async def _async_generator(items: Items) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(0)
        yield drawn(*item)


_LISTS: Final = (_plain_list, _plain_list, _plain_list, _tuple, _generator, _async_generator)


# ---------------------------------------------------------------- what goes wrong


def _raise(_tree: Tree, seed: str, _rng: random.Random) -> Any:
    raise ValueError(f"raised at {seed}")


def _raise_located(_tree: Tree, seed: str, _rng: random.Random) -> Any:
    raise GraphQLError(f"told at {seed}", extensions={"code": "TOLD"})


def _oops(_tree: Tree, seed: str, _rng: random.Random) -> Any:
    raise Oops(f"oops at {seed}")


def _exception(_tree: Tree, seed: str, _rng: random.Random) -> Any:
    return LookupError(f"returned at {seed}")


def _null(_tree: Tree, _seed: str, _rng: random.Random) -> Any:
    return None


def _undefined(_tree: Tree, _seed: str, _rng: random.Random) -> Any:
    return Undefined


def _odd_one(_tree: Tree, _seed: str, rng: random.Random) -> Any:
    return rng.choice(("zzz", 2**40, 2, 4, 3.25, {"a": 1}, [], object, True, b"x", Oops))


def _other_object(_tree: Tree, seed: str, rng: random.Random) -> Any:
    return make(rng.choice([name for name in DATA.classes if name != "Color"]), seed)


class _Awaitable:
    def __init__(self, inner: Awaitable[Any]) -> None:
        self._inner = inner

    def __await__(self) -> Generator[Any, None, Any]:
        return self._inner.__await__()


def _awaitable(tree: Tree, seed: str, rng: random.Random) -> Any:
    sleeps = rng.randrange(3)

    async def later() -> Any:
        for _ in range(sleeps):
            await asyncio.sleep(0)
        return drawn(tree, seed + "'", is_awaited=True)

    @types.coroutine
    def by_generator() -> Generator[Any, None, Any]:
        return (yield from later().__await__())

    made = rng.randrange(5)
    if made == 0:
        return _Awaitable(later())
    if made == 1:
        return asyncio.ensure_future(later())
    return by_generator() if made == 2 else later()


_WRONG: Final = (
    _awaitable, _awaitable, _awaitable, _awaitable,
    _null, _null, _raise, _raise_located, _oops, _oops, _exception, _undefined, _odd_one, _other_object,
)  # fmt: skip


# ---------------------------------------------------------------- schemas

_HEAD: Final = """
from __future__ import annotations
import enum
from datetime import datetime
from typing import Annotated, Any, NewType
import strawberry
from strawberry import Maybe
from strawberry.scalars import JSON
from tests.property._plan_schemas import Given, Oops, Quiet, attribute, resolved, resolved_later

Odd = NewType("Odd", int)

def parse_odd(value):
    if value.__class__ is not int or value % 2 == 0:
        raise ValueError(f"{value!r} is not odd")
    return value

def serialize_odd(value):
    if value == 7:
        return None
    if value.__class__ is not int or value % 2 == 0:
        raise ValueError(f"{value!r} is not odd")
    return f"odd {value}"

SCALARS = {Odd: strawberry.scalar(name="Odd", serialize=serialize_odd, parse_value=parse_odd)}

@strawberry.enum
class Color(enum.Enum):
    RED = "r"
    GREEN = ("g", 1)
    BLUE = 3

@strawberry.input(one_of=True)
class One:
    number: Maybe[int] = None
    color: Maybe[Color] = None
    text: str | None = strawberry.UNSET
    more: Maybe[Plain] = None

@strawberry.input
class Plain:
    a: int
    b: str | None = "bee"
    c: list[int] | None = strawberry.field(default_factory=lambda: [1, 2])
    d: Maybe[str | None] = None
    e: Maybe[Odd] = None

@strawberry.input
class Deep:
    one: One
    plain: Plain | None = None
    plains: list[Plain] = strawberry.field(default_factory=list)
    colors: list[Color | None] | None = None
    again: Deep | None = None
    anything: JSON | None = None

@strawberry.interface
class Face:
    face: int | None = None

@strawberry.type
class Failed:
    message: str

class OnOops(strawberry.ExceptionHandler[Oops, Failed]):
    def handle(self, exception, *, field, info):
        assert info.path.key and info.context == "context"
        return Failed(message=f"{info.field_name}: {exception}") if len(str(exception)) % 3 else None

class OnOopsLater(strawberry.ExceptionHandler[LookupError, Failed]):
    async def handle(self, exception, *, field, info):
        return Failed(message=str(exception))
"""

_ARGUMENTS: Final = (
    "number: int = 3",
    "number: int | None = None",
    "text: str | None = strawberry.UNSET",
    "color: Color = Color.RED",
    "one: One | None = None",
    "plain: Plain | None = None",
    "deep: Deep | None = None",
    "odd: Odd | None = None",
    "odds: list[Odd] | None = None",
    "colors: list[list[Color]] | None = None",
    "anything: JSON | None = None",
    "when: datetime | None = None",
    "needed: int",
    "ones: list[One]",
    "maybe: Maybe[int] = None",
)
_LEAF_NAMES: Final = ("Int", "Float", "String", "Boolean", "ID", "Color", "Odd", "DateTime", "JSON")
_PYTHON: Final = {
    "Int": "int", "Float": "float", "String": "str", "Boolean": "bool", "ID": "strawberry.ID",
    "Color": "Color", "Odd": "Odd", "DateTime": "datetime", "JSON": "JSON",
}  # fmt: skip


class _SchemaMaker:
    """Writes the source of a schema."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._objects = [f"O{number}" for number in range(rng.choice((2, 3, 4)))]
        self._faced = [name for name in self._objects if rng.random() < 0.6] or self._objects[:1]
        self._union = rng.sample(self._objects, k=rng.choice((1, 2)))
        self.fields: dict[tuple[str, str], Tree] = {}

    def source(self) -> str:
        """The whole text."""
        members = " | ".join([*self._union, "Failed"])
        parts = [_HEAD]
        parts += [self._type(name, "(Face)" if name in self._faced else "") for name in self._objects]
        parts.append(f'Any_ = Annotated[{members}, strawberry.union("Union")]')
        parts.append(self._type("Query", ""))
        parts.append(self._type("Mutation", "", is_root=True))
        return "\n".join(
            [
                *parts,
                "schema = Quiet(Query, Mutation, types=[" + ", ".join(self._faced) + "], extensions=[Given],",
                "    exception_handlers=[OnOops(), OnOopsLater()],",
                "    config=strawberry.schema.config.StrawberryConfig(scalar_map=SCALARS))",
            ]
        )

    def _type(self, name: str, bases: str, *, is_root: bool = False) -> str:
        lines = ["@strawberry.type", f"class {name}{bases}:"]
        if bases:
            self.fields[name, "face"] = ("Int",)
        for number in range(self._rng.choice((3, 4, 5, 6))):
            lines += self._field(name, f"f{number}", must_resolve=is_root)
        lines += ["    def __getattr__(self, name):", "        return attribute(self, name)"]
        lines += ["    def __repr__(self):", "        return self._seed"]
        return "\n".join(lines)

    def _field(self, owner: str, name: str, *, must_resolve: bool) -> list[str]:
        tree = self._tree(0)
        self.fields[owner, name] = tree
        annotation = self._annotation(tree)
        kind = self._rng.random()
        if kind < 0.4 and not must_resolve:
            return [f"    {name}: {annotation} = strawberry.field()"]
        arguments = self._some_arguments()
        names = [text.split(":")[0] for text in arguments]
        passed = "".join(f", {each}={each}" for each in names)
        info = ", info: strawberry.Info" if self._rng.random() < 0.5 else ""
        asynchronous = self._rng.random() < 0.5
        head = "async def" if asynchronous else "def"
        parameters = ", ".join([f"self{info}", *arguments])
        lines = ["    @strawberry.field", f"    {head} {name}({parameters}) -> {annotation}:"]
        if info:
            lines.append(
                "        assert (info.context, info.field_name, info.python_name) == ('context', "
                f"{name!r}, {name!r}), info.path.as_list()"
            )
        call = "await resolved_later" if asynchronous else "resolved"
        return [*lines, f"        return {call}(self, {name!r}{passed})"]

    def _some_arguments(self) -> list[str]:
        if self._rng.random() < 0.4:
            return []
        chosen = {text.split(":")[0]: text for text in self._rng.sample(_ARGUMENTS, k=self._rng.choice((1, 2, 3)))}
        return sorted(chosen.values(), key=lambda text: "=" in text)

    def _tree(self, depth: int) -> Tree:
        kind = self._rng.random()
        if kind < 0.4 or depth > 2:
            made: Tree = (self._rng.choice(_LEAF_NAMES),)
        elif kind < 0.57:
            made = ("list", self._tree(depth + 1))
        elif kind < 0.74:
            made = ("object", self._rng.choice(self._objects))
        elif kind < 0.82:
            made = ("any", self._faced, "Face")
        else:
            made = ("any", self._union, "Any_")
        return ("required", made) if self._rng.random() < 0.45 else made

    def _annotation(self, tree: Tree) -> str:
        if tree[0] == "required":
            return self._bare(tree[1])
        return f"{self._bare(tree)} | None"

    def _bare(self, tree: Tree) -> str:
        if tree[0] == "list":
            return f"list[{self._annotation(tree[1])}]"
        if tree[0] == "object":
            return str(tree[1])
        return str(tree[2]) if tree[0] == "any" else _PYTHON[tree[0]]


@dataclass
class Made:
    """A schema with its data."""

    schema: strawberry.Schema
    fields: dict[tuple[str, str], Tree]
    classes: dict[str, type]
    source: str

    def install(self) -> None:
        """Draw data for this schema from now on."""
        DATA.fields, DATA.classes = self.fields, self.classes


def make_schema(seed: int) -> Made:
    """A schema."""
    maker = _SchemaMaker(random.Random(seed))
    source = maker.source()
    module = types.ModuleType(f"plan_schema_{seed}")
    sys.modules[module.__name__] = module
    exec(compile(source, f"<schema {seed}>", "exec"), module.__dict__)
    names = {name for name, _ in maker.fields} | {"Color"}
    return Made(module.schema, maker.fields, {name: getattr(module, name) for name in names}, source)
