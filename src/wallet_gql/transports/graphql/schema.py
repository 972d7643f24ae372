"""The schema: types, limits, caches, and the masking of what clients must not see."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from typing import Any, Final, cast

import strawberry
from graphql import (
    ASTValidationRule,
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    parse,
    specified_rules,
    validate,
)
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule
from strawberry.types.execution import ExecutionContext, ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType

from ...graphql_plans import Inputs, Plans
from .asked import Asked
from .context import Context
from .cost import Cost, told_cost
from .counting import CountVerbs
from .errors import HANDLERS
from .failures import ERRORS_MAX, Fault, Unanswerable, report, told
from .introspection import HideSchema
from .kept import KEPT
from .limits import TOKENS_MAX, LimitsRule, PartsRule
from .mutations import Mutation
from .planned import Planned, Ready
from .queries import Query
from .scalars import SCALARS
from .subscriptions import Subscription


class Unfit(Exception):
    """A document that does not fit the schema, or exceeds a limit."""

    def __init__(self, document: DocumentNode, errors: list[GraphQLError]) -> None:
        super().__init__(len(errors))
        self.document = document
        self.errors = errors


def checked(schema: GraphQLSchema, text: str, rules: tuple[type[ASTValidationRule], ...]) -> DocumentNode:
    """Parse and validate a document. Only valid ones are kept: invalid ones, which anybody can send, would evict them.

    The limits are checked before the rules of the specification, because they bound the work of those rules. At most
    five errors are reported.

    Raises:
        Unfit: with its errors. GraphQLSyntaxError: it cannot be parsed.
    """
    found = KEPT.find(text)
    if found is not None:
        return found
    document = parse(text, max_tokens=TOKENS_MAX)
    _cut_apart(document)
    for some in ((LimitsRule, PartsRule), (*rules, MaybeNullValidationRule, OneOfInputValidationRule)):
        errors = validate(schema, document, some, max_errors=ERRORS_MAX, hide_suggestions=True)
        if errors:
            raise Unfit(document, errors)
    KEPT.keep(text, document)
    return document


def _cut_apart(document: DocumentNode) -> None:
    """Take the links out of a document's tokens, which only the parser needs.

    They go both ways, so that a document that is dropped would stay in memory until the garbage collector came. It
    comes to what has lived for a while only once in tens of thousands of documents.
    """
    token = document.loc and document.loc.start_token
    while token:
        following, token.prev, token.next = token.next, None, None
        token = following


class Checked(SchemaExtension):
    """Parses and validates each valid document once.

    Syntax errors are left to the core's own parser, which reports them correctly on every transport.
    """

    _errors: list[GraphQLError]

    def on_operation(self) -> Iterator[None]:
        """Limit the core's own parser, too."""
        self.execution_context.parse_options["max_tokens"] = TOKENS_MAX
        yield

    def on_parse(self) -> Iterator[None]:
        """Parse, unless there is a syntax error."""
        context = self.execution_context
        self._errors = []
        try:
            context.graphql_document = checked(context.schema._schema, context.query or "", context.validation_rules)  # noqa: SLF001 - nothing public has it
        except Unfit as unfit:
            context.graphql_document, self._errors = unfit.document, unfit.errors
        except GraphQLError:
            pass
        yield

    def on_validate(self) -> Iterator[None]:
        """Add the errors."""
        self.execution_context.pre_execution_errors = self._errors
        yield


class OneOperation(SchemaExtension):
    """Refuses a document with several operations and no `operationName`: Strawberry would run the first operation.

    With two transfers in a document, that would be a payment that nobody chose. Listed behind `Checked`, which
    overwrites the list of errors.
    """

    def on_validate(self) -> Iterator[None]:
        """Add the request error that the GraphQL specification requires."""
        context = self.execution_context
        definitions = context.graphql_document.definitions if context.graphql_document else ()
        operations = [node for node in definitions if isinstance(node, OperationDefinitionNode)]
        if context._provided_operation_name is None and len(operations) > 1:  # noqa: SLF001 - nothing public tells
            message = "The document has several operations; say with operationName which one to run."
            context.pre_execution_errors = [Unanswerable(Fault.OPERATION, message)]
        yield


class WalletSchema(strawberry.Schema):
    """A schema that shows clients their own mistakes and hides our bugs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._inputs = Inputs(self)
        self.plans: Plans[Planned] = Plans(self._plan)

    def _plan(self, text: str, operation_name: str | None) -> Planned | None:
        """The plan of a document; None: it is not valid, or has no such operation. Raises NotCoveredError."""
        try:
            document = checked(self._schema, text, tuple(specified_rules))
        except (Unfit, GraphQLError):
            return None
        return Planned.of(self, self._inputs, document, operation_name)

    async def execute(  # noqa: PLR0917 - as Strawberry has it
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Context | None = None,
        root_value: Any = None,
        operation_name: str | None = None,
        allowed_operation_types: Iterable[OperationType] | None = None,
        operation_extensions: dict[str, Any] | None = None,
    ) -> ExecutionResult:
        """Run an operation; every error in the result has a code, a request id and `retryable`."""
        allowed = tuple(OperationType) if allowed_operation_types is None else tuple(allowed_operation_types)
        assert context_value is not None
        sights = context_value.wallet.settings.graphql_compile_after
        ready = self.ready(query or "", variable_values, operation_name, allowed, sights)
        if ready is not None:
            return await self.run(ready, context_value, operation_extensions)
        given = (query, variable_values, context_value, root_value, operation_name, allowed, operation_extensions)
        result = await super().execute(*given)
        if query and sights and not isinstance(result, PreExecutionError):
            self.plans.saw(query, operation_name)
        return told(result)

    def ready(
        self,
        query: str,
        variables: dict[str, Any] | None,
        operation_name: str | None,
        allowed: tuple[OperationType, ...],
        sights: int,
    ) -> Ready | None:
        """The operation, ready to run by its plan; None if there is no plan for it, or a plan cannot decide."""
        planned = self.plans.find(query, operation_name, sights)
        ready = planned.ready(variables or {}) if planned is not None and planned.kind in allowed else None
        if planned is not None and ready is not None:
            KEPT.use(query, planned.document)
        return ready

    async def run(self, ready: Ready, context: Context, extensions: dict[str, Any] | None) -> ExecutionResult:
        """Run what has a plan. From here on there is no way back to graphql-core: a mutation would run twice."""
        try:
            found = await ready.run(context, extensions)
            result = ExecutionResult(found.data, found.errors)
        except Exception as error:  # noqa: BLE001 - a refusal, or our own bug: told as Strawberry tells it
            result = PreExecutionError(None, [GraphQLError(str(error), original_error=error)])
        if result.errors:
            self.process_errors(result.errors)
        result.extensions = told_cost(context.cost)
        return told(result)

    async def stream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[ExecutionResult, None]:
        """Run a subscription, whose results come one by one. Errors are handled as for other operations."""
        return _told(cast("AsyncGenerator[ExecutionResult, None]", await super().stream(*args, **kwargs)))

    async def follow(
        self, query: str, asked: Asked, context: Context, allowed: tuple[OperationType, ...]
    ) -> AsyncGenerator[ExecutionResult, None]:
        """`stream` for a request with these parameters."""
        return await self.stream(
            query,
            asked.variables,
            context,
            operation_name=asked.operation_name,
            operation_extensions=asked.extensions,
            allowed_operation_types=allowed,
        )

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Log only our own bugs. Strawberry would log every invalid query of a client, with a traceback."""
        del execution_context
        for error in errors:
            report(error)


async def _told(results: AsyncGenerator[ExecutionResult, None]) -> AsyncGenerator[ExecutionResult, None]:
    async with aclosing(results):
        async for result in results:
            yield told(result)


def make_schema(*, sort: bool = False) -> WalletSchema:
    """The schema. `sort` is for printing only: Strawberry cannot resolve unions in a sorted schema."""
    return WalletSchema(
        Query,
        Mutation,
        Subscription,
        config=StrawberryConfig(scalar_map=SCALARS, sort_schema=sort, disable_field_suggestions=True),
        exception_handlers=HANDLERS,
        extensions=[
            Checked,
            OneOperation,
            HideSchema,
            Cost,
            CountVerbs,
        ],
    )


schema: Final = make_schema()


def sdl() -> str:
    """The schema as text, in alphabetical order: what `schema.graphql` holds."""
    return make_schema(sort=True).as_str().rstrip() + "\n"
