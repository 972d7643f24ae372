"""One field of one selection: how its value is got, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import iscoroutinefunction
from types import GeneratorType
from typing import Any, Final, NamedTuple

from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLObjectType,
    Undefined,
    default_field_resolver,
    located_error,
)
from graphql.execution.values import get_argument_values
from strawberry import Info
from strawberry.execution import optimized_is_awaitable
from strawberry.types.arguments import convert_arguments
from strawberry.types.field import StrawberryField
from strawberry.utils.await_maybe import await_maybe

from .along import made_of, path_of
from .completion import Complete, completer
from .info import PlanInfo, resolve_info
from .inputs import Convert, DoubtError, Read
from .running import Coroutine, Path, Run, Waiting, abandon, keys_of, unlinked
from .site import Call, ShapeParts, Site

_STRAWBERRYS: Final = "GraphQLCoreConverter.from_resolver.<locals>."
_HANDLERS: Final = "plan-exception-handlers"
_CLASSES_MAX: Final = 64


class _Argument(NamedTuple):
    name: str
    python_name: str
    read: Read
    convert: Convert | None


_Read = Sequence[tuple[_Argument, Any]]
"""Arguments with their checked values."""


class Field(Site):
    """One field, with how its value is got and what becomes of it."""

    def __init__(
        self, shape: ShapeParts, parent: GraphQLObjectType, around: Site | None, key: str, nodes: list[FieldNode]
    ) -> None:
        super().__init__(shape, parent, around, key, nodes)
        self._arguments = self._read_arguments()
        self._plain: set[type] = set()
        self.call = self._caller()
        self.complete: Complete = completer(self, self.type)

    # ------------------------------------------------------------ getting the value

    def _caller(self) -> Call:
        resolve, field = self.definition.resolve, self.strawberrys
        if resolve is None:
            return self._by_graphql_core(default_field_resolver)
        is_strawberrys = getattr(resolve, "__qualname__", "").startswith(_STRAWBERRYS)
        if field is None or not is_strawberrys or field.extensions:
            return self._by_graphql_core(resolve)
        handlers = self._handlers(field)
        if field.base_resolver is None:
            if handlers or field.default_resolver is not getattr:
                return self._by_graphql_core(resolve)
            return self._reader(field.python_name)
        if field.is_async:
            return self._asynchronous(field, handlers)
        return self._by_graphql_core(resolve) if handlers else self._synchronous(field)

    def _handlers(self, field: StrawberryField) -> Any:
        """The exception handlers that may answer for the field; kept with its definition, for it takes a while."""
        known = self.definition.extensions
        if _HANDLERS not in known:
            known[_HANDLERS] = self.plan.schema.schema_converter._get_field_exception_handlers(field)  # noqa: SLF001 - nothing public tells
        return known[_HANDLERS]

    def _by_graphql_core(self, resolve: Callable[..., Any]) -> Call:
        """Any resolver, called as graphql-core does."""

        def call(source: Any, path: Path, run: Run) -> Any:
            return resolve(source, resolve_info(self, path, run), **self._checked(run))

        return call

    def _reader(self, name: str) -> Call:
        self.attribute = name

        def call(source: Any, _path: Path, _run: Run) -> Any:
            return getattr(source, name)

        return call

    def _synchronous(self, field: StrawberryField) -> Call:
        """A resolver of Strawberry's, called without what stands around it."""
        invoke, resolver = self._invoker(field), field.base_resolver
        assert resolver is not None
        if not self._arguments and [*resolver.signature.parameters] == ["self"]:
            of: Callable[[Any], Any] = resolver.wrapped_func  # type: ignore[assignment]  # bound, since the type is made
            self.attribute, self.made, self.method = path_of(of), made_of(of), of
            return lambda source, _path, _run: of(source)

        def call(source: Any, path: Path, run: Run) -> Any:
            return invoke(source, self._read(run), path, run)

        return call

    def _asynchronous(self, field: StrawberryField, handlers: Any) -> Call:
        """The same for one that is awaited; the first handler that knows an exception may answer for the resolver.

        As without a plan, graphql-core's part of the arguments is checked at once, Strawberry's once it is awaited.
        """
        invoke = self._invoker(field)
        assert field.base_resolver is not None
        if not handlers and not self._arguments and iscoroutinefunction(field.base_resolver.wrapped_func):
            return lambda source, path, run: invoke(source, (), path, run)

        async def later(source: Any, read: _Read, path: Path, run: Run) -> Any:
            try:
                return await await_maybe(invoke(source, read, path, run))
            except Exception as error:
                handler = next((each for kinds, each in handlers if isinstance(error, kinds)), None)
                if handler is None:
                    raise
                answer = await await_maybe(handler.handle(error, field=field, info=self.info(path, run)))
                if answer is None:
                    raise
                return answer

        return lambda source, path, run: later(source, self._read(run), path, run)

    def _invoker(self, field: StrawberryField) -> Callable[[Any, _Read, Path, Run], Any]:
        """The function that calls a resolver with the source, what was read of the arguments, and `info`."""
        resolver = field.base_resolver
        assert resolver is not None
        info_name = resolver.info_parameter.name if resolver.info_parameter else None
        source_names = [each.name for each in (resolver.parent_parameter, resolver.root_parameter) if each]
        function: Callable[..., Any] = resolver.wrapped_func  # type: ignore[assignment]  # bound, since the type is made
        takes_self, info_of = bool(resolver.self_parameter), self.info

        def invoke(source: Any, read: _Read, path: Path, run: Run) -> Any:
            given = self._converted(read, path, run) if read else {}
            for name in source_names:
                given[name] = source
            if info_name is not None:
                given[info_name] = info_of(path, run)
            return function(source, **given) if takes_self else function(**given)

        return invoke

    def info(self, path: Path, run: Run) -> Info:
        """What a resolver is told of its call."""
        make = self.plan.schema.config.info_class
        assert self.strawberrys is not None
        if make is Info:
            return PlanInfo(self, path, run)
        return make(_raw_info=resolve_info(self, path, run), _field=self.strawberrys)

    # ------------------------------------------------------------ arguments

    def _read_arguments(self) -> list[_Argument]:
        given = {node.name.value: node.value for node in self.nodes[0].arguments or ()}
        names = {
            self.plan.schema.config.name_converter.from_argument(argument): argument
            for argument in (self.strawberrys.arguments if self.strawberrys else ())
        }
        found = []
        for name, argument in self.definition.args.items():
            known = names.get(name)
            read = self.plan.inputs.argument_reader(argument, given.get(name))
            convert = self.plan.inputs.converter(known.type) if known else None
            found.append(_Argument(name, known.python_name if known else name, read, convert))
        return found

    def _read(self, run: Run) -> _Read:
        """The arguments that there are, as graphql-core checks them. Raises GraphQLError."""
        try:
            pairs = [(argument, argument.read(run.variables)) for argument in self._arguments]
        except DoubtError:
            checked = self._checked_by_graphql_core(run)
            return [(argument, checked[argument.name]) for argument in self._arguments if argument.name in checked]
        return [pair for pair in pairs if pair[1] is not Undefined]

    def _checked(self, run: Run) -> dict[str, Any]:
        """The same, as graphql-core passes them."""
        return {argument.name: value for argument, value in self._read(run)}

    def _checked_by_graphql_core(self, run: Run) -> dict[str, Any]:
        return get_argument_values(self.definition, self.nodes[0], self.plan.variable_values(run.given))

    def _converted(self, read: _Read, path: Path, run: Run) -> dict[str, Any]:
        """Arguments as Strawberry passes them. Raises whatever Strawberry raises about them."""
        try:
            return {
                argument.python_name: argument.convert(value) if argument.convert else value for argument, value in read
            }
        except DoubtError:
            assert self.strawberrys is not None
            converter = self.plan.schema.schema_converter
            given, known = {argument.name: value for argument, value in read}, self.strawberrys.arguments
            return convert_arguments(given, known, converter.scalar_registry, converter.config, self.info(path, run))

    # ------------------------------------------------------------ what becomes of the value

    async def run(self, source: Any, run: Run) -> Any:
        """The answer of a field of the root that runs by itself. Raises GraphQLError: it is null, but must not be."""
        try:
            answer = self.settle(self.call(source, None, run), None, run)
        except Exception as error:  # noqa: BLE001 - a resolver may raise anything
            return self.failed(error, None, run)
        return await answer if answer.__class__ is Coroutine else answer

    def settle(self, value: Any, path: Path, run: Run) -> Any:
        """The answer for a value, or a coroutine that gives it and does not fail where it may be null.

        Raises whatever makes the value no answer.
        """
        kind = value.__class__
        if kind not in self._plain:
            if optimized_is_awaitable(value):
                return self._awaited(value, path, run)
            self._note_plain(kind)
        answer = self.complete(value, (path, self.key), run)
        return self.guarded(answer, path, run) if answer.__class__ is Coroutine else answer

    def _note_plain(self, kind: type) -> None:
        """Remember a class whose objects are never awaitable."""
        if kind is not GeneratorType:  # of those some are
            if len(self._plain) >= _CLASSES_MAX:
                self._plain.clear()
            self._plain.add(kind)

    async def _awaited(self, value: Any, path: Path, run: Run) -> Any:
        try:
            answer = self.complete(await value, (path, self.key), run)
            return await answer if answer.__class__ is Coroutine else answer
        except Exception as error:  # noqa: BLE001 - a resolver may raise anything
            return self.failed(error, path, run)

    async def guarded(self, answer: Any, path: Path, run: Run) -> Any:
        """What a coroutine gives, with its failure taken care of."""
        try:
            return await answer
        except Exception as error:  # noqa: BLE001 - a resolver may raise anything
            return self.failed(error, path, run)

    def failed(self, error: Exception, path: Path, run: Run) -> Any:
        """Note why the field is null. Raises GraphQLError: it must not be null, so that what is around it will be."""
        place = path, self.key
        located = located_error(error, self.nodes, keys_of(place))
        if self.is_required:
            raise located
        run.add(located, place)
        return None

    def failure(self, error: Exception, path: Path, waiting: Waiting) -> GraphQLError:
        """The error of a field that must not be null; what its neighbours wait for is abandoned."""
        abandon(value for _, value in unlinked(waiting))
        return located_error(error, self.nodes, keys_of((path, self.key)))
