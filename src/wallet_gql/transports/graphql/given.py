"""Checks the input of a mutation before it runs: all that is wrong is told at once, each with its path as it was sent.

Each field of an input names its own check, a function of the domain. What depends on several fields, or on the store,
is left to the verbs; `placed` gives their complaints the paths of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass
from inspect import isawaitable
from typing import Any, Final, NamedTuple

import strawberry
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField
from strawberry.types.maybe import Some as _Some
from strawberry.types.unset import UNSET

from ...domain.errors import InvalidAmount, InvalidInput, Problem
from ..catalogue.errors import PROBLEMS_MAX, camel
from .context import Context

Path = tuple[str, ...]

_CHECK: Final = "check"
_OWN: Final = "own"


@dataclass(frozen=True, slots=True)
class ByContext:
    """A check that needs the wallet; it may be awaited."""

    run: Callable[[Context, Any], Any]


Check = Callable[[Any], object] | ByContext
"""Raises InvalidInput or InvalidAmount; the field that it names does not count."""

KEY_CHECK: Final = ByContext(lambda context, key: context.key(key))


def given(description: str, check: Check, *, default: Any = MISSING) -> Any:
    """A field of an input, with its check. What is null or absent is not checked."""
    return strawberry.field(description=description, default=default, metadata={_CHECK: check})


def own(description: str) -> Any:
    """A field whose resolver checks what is in it."""
    return strawberry.field(description=description, metadata={_OWN: True})


async def check_given(context: Context, value: object, path: Path = ()) -> None:
    """Check all fields of an input. Raises InvalidInput with all problems; Unavailable."""
    problems: list[Problem] = []
    await _check(context, value, path, problems)
    if problems:
        raise InvalidInput.of(problems[:PROBLEMS_MAX])


async def _check(context: Context, value: object, path: Path, problems: list[Problem]) -> None:
    for python_name, name, check, is_own in _fields_of(type(value)):
        inner = getattr(value, python_name)
        if inner is None or (inner := _sent(inner)) is None:
            continue
        if check is not None:
            try:
                if check.__class__ is not ByContext:
                    check(inner)  # type: ignore[operator]  # the class says so
                elif isawaitable(checked := check.run(context, inner)):
                    await checked
            except (InvalidInput, InvalidAmount) as error:
                problems.append(error.problems[0].at((*path, name)))
        if not is_own and inner.__class__ not in _WHOLE:
            for part, place in _parts(inner, (*path, name)):
                await _check(context, part, place, problems)


@contextmanager
def placed(value: object, path: Path = ()) -> Iterator[None]:
    """Give complaints of the verbs about an input the paths of that input. Raises InvalidInput in their place."""
    try:
        yield
    except (InvalidInput, InvalidAmount) as error:
        raise as_placed(error, value, path) from error


def as_placed(error: InvalidInput | InvalidAmount, value: object, path: Path = ()) -> InvalidInput:
    """The error with the paths of the input that it is about: `currency` is found as `amount.currency`."""
    known = list(_paths(value, path))
    return InvalidInput.of([one.at(_path_of(one.path, known)) for one in error.problems])


def _path_of(named: Path, known: list[Path]) -> Path:
    """The only path that ends as a verb names it; else that name."""
    found = [path for path in known if path[-len(named) :] == named]
    return named if named in found or len(found) != 1 else found[0]


def _paths(value: object, path: Path) -> Iterator[Path]:
    for _, inner, here in _fields(value, path):
        yield here
        for part, place in _parts(inner, here):
            yield from _paths(part, place)


class _Field(NamedTuple):
    """A field of an input: its names in Python and as it is sent, its check, and whether its resolver checks it."""

    python_name: str
    name: str
    check: Check | None
    is_own: bool


_KNOWN: Final[dict[type, tuple[_Field, ...]]] = {}
"""The fields of the classes that were seen as values of inputs; their number is that of the schema's types."""


def _fields_of(kind: type) -> tuple[_Field, ...]:
    """The fields of an input's class; none if it is no input's."""
    found = _KNOWN.get(kind)
    if found is None:
        definition = getattr(kind, "__strawberry_definition__", None)
        fields = definition.fields if isinstance(definition, StrawberryObjectDefinition) else ()
        found = _KNOWN[kind] = tuple(map(_field, fields))
    return found


def _field(field: StrawberryField) -> _Field:
    name = field.graphql_name or camel(field.python_name)
    return _Field(field.python_name, name, field.metadata.get(_CHECK), bool(field.metadata.get(_OWN)))


_WHOLE: Final = frozenset({str, int, bool})
"""The classes of most values that have no inputs inside."""


def _sent(inner: Any) -> Any:
    """The value of an input's field, without what wraps it; None if it is null or was not sent."""
    if inner.__class__ is _Some:
        inner = inner.value
    return None if inner is UNSET else inner


def _fields(value: object, path: Path) -> Iterator[tuple[_Field, Any, Path]]:
    """The fields of an input that were sent, with their values and paths."""
    for field in _fields_of(type(value)):
        inner = _sent(getattr(value, field.python_name))
        if inner is not None:
            yield field, inner, (*path, field.name)


def _parts(value: Any, path: Path) -> Iterator[tuple[Any, Path]]:
    """The inputs inside a value: it may be one, or a list of some."""
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield item, (*path, str(place))
    elif _fields_of(type(value)):
        yield value, path
