"""From a value to its part of the answer, by type: nulls, leaves, lists, objects, interfaces and unions.

A part is finished, or a coroutine that gives it. What cannot be one is raised; the field around it notes that.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from graphql import (
    GraphQLAbstractType,
    GraphQLError,
    GraphQLLeafType,
    GraphQLObjectType,
    GraphQLOutputType,
    Undefined,
    default_type_resolver,
    get_nullable_type,
    is_abstract_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
    located_error,
)
from graphql.pyutils import inspect, is_iterable
from graphql.pyutils.is_awaitable import is_async_iterable
from strawberry.execution import optimized_is_awaitable
from strawberry.types.cast import TYPE_CAST_ATTRIBUTE

from .info import resolve_info
from .objects import Object, known_class, object_of
from .running import Coroutine, Path, Run, abandon, fill_list, keys_of
from .site import Site

_RESOLVE_TYPES: Final = frozenset(
    {
        "GraphQLCoreConverter.from_interface.<locals>._get_resolve_type.<locals>.resolve_type",
        "StrawberryUnion.get_type_resolver.<locals>._resolve_union_type",
    }
)
"""Strawberry's own, which go by the class of a value."""

Complete = Callable[[Any, Path, Run], Any]
"""A value, its place in the answer and the run -> its part of the answer, or a coroutine that gives it."""


def completer(field: Site, kind: GraphQLOutputType) -> Complete:
    """The function for a type that a field has, or that is a part of the field's type."""
    if not is_non_null_type(kind):
        return _or_null(_completer(field, kind), None)
    missing = f"Cannot return null for non-nullable field {field.parent}.{field.name}."
    return _or_null(_completer(field, kind.of_type), missing)


def _completer(field: Site, kind: GraphQLOutputType) -> Complete:
    if is_list_type(kind):
        return _List(field, kind.of_type).complete
    if is_leaf_type(kind):
        return _leaf(kind)
    if is_abstract_type(kind):
        return _Abstract(field, kind).complete
    assert is_object_type(kind)
    return _object(field, kind)


def _or_null(complete: Complete, missing: str | None) -> Complete:
    """With what is common to all types; `missing` is the complaint about a null where there must be none."""

    def of(value: Any, path: Path, run: Run) -> Any:
        if value is None or value is Undefined:
            if missing is not None:
                raise TypeError(missing)
            return None
        if isinstance(value, Exception):
            raise value
        return complete(value, path, run)

    return of


def _leaf(kind: GraphQLLeafType) -> Complete:
    coerce = kind.coerce_output_value

    def complete(value: Any, _path: Path, _run: Run) -> Any:
        answer = coerce(value)
        if answer is None or answer is Undefined:
            raise TypeError(
                f"Expected `{inspect(kind)}.coerce_output_value({inspect(value)})` to return non-nullable value,"
                f" returned: {inspect(answer)}"
            )
        return answer

    return complete


def _object(field: Site, kind: GraphQLObjectType) -> Complete:
    made, is_type_of = object_of(field, kind), kind.is_type_of
    if is_type_of is None:

        def of(value: Any, path: Path, run: Run) -> Any:
            return made.answer(value, path, run)  # looked up each time: the first answer compiles the others' function

        return of

    def unlike(value: object) -> GraphQLError:
        return GraphQLError(f"Expected value of type '{kind}' but got: {inspect(value)}.", field.nodes)

    async def later(checking: Any, value: Any, path: Path, run: Run) -> Any:
        if not await checking:
            raise unlike(value)
        answer = made.answer(value, path, run)
        return await answer if answer.__class__ is Coroutine else answer

    expected = known_class(kind)

    def complete(value: Any, path: Path, run: Run) -> Any:
        if value.__class__ is expected and getattr(value, TYPE_CAST_ATTRIBUTE, None) is None:
            return made.answer(value, path, run)
        is_one = is_type_of(value, _info_of(field, path, run))
        if is_one is not True:
            if optimized_is_awaitable(is_one):
                return later(is_one, value, path, run)
            if not is_one:
                raise unlike(value)
        return made.answer(value, path, run)

    return complete


def _info_of(field: Site, path: Path, run: Run) -> Any:
    """What graphql-core tells of the field that a value came from; list items have the list's."""
    while path is not None and isinstance(path[1], int):
        path = path[0]
    assert path is not None
    return resolve_info(field, path[0], run)


class _Abstract:
    """Interfaces and unions: completed as what the value turns out to be."""

    def __init__(self, field: Site, kind: GraphQLAbstractType) -> None:
        self._field = field
        self._kind = kind
        self._resolve_type = kind.resolve_type or default_type_resolver
        self._known: dict[str, Complete] = {}
        self._classes: dict[type, Object] = {}
        possible = [
            each.extensions.get("strawberry-definition") for each in field.plan.graphql_schema.get_possible_types(kind)
        ]
        is_strawberrys = getattr(self._resolve_type, "__qualname__", "") in _RESOLVE_TYPES
        self._is_by_class = is_strawberrys and not any(each is None or each.concrete_of for each in possible)

    def complete(self, value: Any, path: Path, run: Run) -> Any:
        known = self._classes.get(value.__class__)
        if known is not None and getattr(value, TYPE_CAST_ATTRIBUTE, None) is None:
            return known.answer(value, path, run)
        name = self._resolve_type(value, _info_of(self._field, path, run), self._kind)
        if optimized_is_awaitable(name):
            return self._later(name, value, path, run)
        return self._as(name, value)(value, path, run)

    async def _later(self, naming: Any, value: Any, path: Path, run: Run) -> Any:
        answer = self._as(await naming, value)(value, path, run)
        return await answer if answer.__class__ is Coroutine else answer

    def _as(self, name: Any, value: object) -> Complete:
        if name.__class__ is not str or name not in self._known:
            kind = self._object_type(name, value)
            self._known[kind.name] = _object(self._field, kind)
            expected = known_class(kind)
            if self._is_by_class and expected is value.__class__:
                self._classes[expected] = object_of(self._field, kind)
            return self._known[kind.name]
        return self._known[name]

    def _object_type(self, name: Any, value: object) -> GraphQLObjectType:
        """The type of a name, in graphql-core's words where it cannot be. Raises GraphQLError."""
        abstract, where = self._kind, f"{self._field.parent}.{self._field.name}"
        schema = self._field.plan.graphql_schema
        kind = schema.get_type(name) if isinstance(name, str) else None
        if name is None:
            message = (
                f"Abstract type '{abstract}' must resolve to an Object type at runtime for field '{where}'."
                f" Either the '{abstract}' type should provide a 'resolve_type' function or each possible type should"
                " provide an 'is_type_of' function."
            )
        elif not isinstance(name, str):
            message = (
                f"Abstract type '{abstract}' must resolve to an Object type at runtime for field '{where}' with value"
                f" {inspect(value)}, received '{inspect(name)}', which is not a valid Object type name."
            )
        elif kind is None:
            message = (
                f"Abstract type '{abstract}' was resolved to a type '{name}' that does not exist inside the schema."
            )
        elif not is_object_type(kind):
            message = f"Abstract type '{abstract}' was resolved to a non-object type '{name}'."
        elif not schema.is_sub_type(abstract, kind):
            message = f"Runtime Object type '{kind}' is not a possible type for '{abstract}'."
        else:
            return kind
        raise GraphQLError(message, self._field.nodes)


class _List:
    """Lists. What fails in an item is the item's, if it may be null."""

    def __init__(self, field: Site, kind: GraphQLOutputType) -> None:
        self._field = field
        self._is_required = is_non_null_type(kind)
        self._complete = completer(field, kind)
        item = get_nullable_type(kind)
        self._usual = known_class(item) if is_object_type(item) else None
        """The class of items that need no look: an object's, never awaitable, null or an exception."""
        self._may_be_cast = is_object_type(item) and item.is_type_of is not None
        self._made = object_of(field, item) if is_object_type(item) else None

    def complete(self, value: Any, path: Path, run: Run) -> Any:
        if is_async_iterable(value):
            return self._complete_async(value, path, run)
        if not is_iterable(value):
            where = f"{self._field.parent}.{self._field.name}"
            raise GraphQLError(f"Expected Iterable, but did not find one for field '{where}'.")
        answer: list[Any] = []
        waiting: list[int] = []
        items = iter(value)
        try:
            if self._usual is None or self._may_be_cast:
                for item in items:
                    self._add(item, path, run, answer, waiting)
            else:
                self._add_usual(items, path, run, answer, waiting)
        except Exception:
            self._abandon(answer, waiting, items)
            raise
        return fill_list(answer, waiting) if waiting else answer

    def _add_usual(self, items: Iterator[Any], path: Path, run: Run, answer: list[Any], waiting: list[int]) -> None:
        """`_add` for each item; in fewer steps for those of the usual class, which are all as a rule."""
        made, usual = self._made, self._usual
        assert made is not None
        for item in items:
            if item.__class__ is not usual:
                self._add(item, path, run, answer, waiting)
                continue
            place = path, len(answer)
            try:
                part = made.answer(item, place, run)
            except Exception as error:  # noqa: BLE001 - a resolver may raise anything
                part = self._failed(error, place, run)
            if part.__class__ is Coroutine:
                waiting.append(place[1])
                part = self._guarded(part, place, run)
            answer.append(part)

    def _add(self, item: Any, path: Path, run: Run, answer: list[Any], waiting: list[int]) -> None:
        place = path, len(answer)
        part: Any
        try:
            if item.__class__ is self._usual and not (
                self._may_be_cast and getattr(item, TYPE_CAST_ATTRIBUTE, None) is not None
            ):
                part = self._made.answer(item, place, run)  # type: ignore[union-attr]  # of a known class
            else:
                complete = self._later if optimized_is_awaitable(item) else self._complete
                part = complete(item, place, run)
            if part.__class__ is Coroutine:
                waiting.append(place[1])
                part = self._guarded(part, place, run)
        except Exception as error:  # noqa: BLE001 - a resolver may raise anything
            part = self._failed(error, place, run)
        answer.append(part)

    async def _later(self, item: Any, place: Path, run: Run) -> Any:
        part = self._complete(await item, place, run)
        return await part if part.__class__ is Coroutine else part

    async def _guarded(self, part: Any, place: Path, run: Run) -> Any:
        try:
            return await part
        except Exception as error:  # noqa: BLE001 - a resolver may raise anything
            return self._failed(error, place, run)

    def _failed(self, error: Exception, place: Path, run: Run) -> Any:
        located = located_error(error, self._field.nodes, keys_of(place))
        if self._is_required:
            raise located
        run.add(located, place)
        return None

    def _abandon(self, answer: list[Any], waiting: list[int], rest: Iterator[Any]) -> None:
        """Let run on what nobody waits for: items begun, and what is left of the list."""
        left: list[Any] = []
        with suppress(Exception):
            left.extend(item for item in rest if optimized_is_awaitable(item))
        abandon([*(answer[place] for place in waiting), *left])

    async def _complete_async(self, value: AsyncIterable[Any], path: Path, run: Run) -> list[Any]:
        answer: list[Any] = []
        waiting: list[int] = []
        items: AsyncIterator[Any] = aiter(value)
        try:
            while True:
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    break
                except Exception as error:
                    raise located_error(error, self._field.nodes, keys_of(path)) from error
                self._add(item, path, run, answer, waiting)
        except Exception:
            with suppress(Exception):
                await items.aclose()  # type: ignore[attr-defined]  # those that can be closed can
            abandon([answer[place] for place in waiting])
            raise
        return await fill_list(answer, waiting) if waiting else answer
