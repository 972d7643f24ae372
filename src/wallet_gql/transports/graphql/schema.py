"""The schema put together: types, limits, caches, and the masking of what clients must not see."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from functools import lru_cache
from typing import Any, Final, cast

import strawberry
from graphql import DocumentNode, GraphQLError, GraphQLSchema, OperationDefinitionNode, validate
from strawberry.extensions import MaxTokensLimiter, ParserCache, SchemaExtension, ValidationCache
from strawberry.extensions.validation_cache import DEFAULT_MAXSIZE
from strawberry.schema.config import StrawberryConfig
from strawberry.types.execution import ExecutionContext, ExecutionResult

from .cost import Cost
from .counting import CountVerbs
from .errors import HANDLERS
from .failures import Fault, Unanswerable, report, told
from .introspection import HideSchema
from .limits import TOKENS_MAX, LimitsRule
from .mutations import Mutation
from .plain_fields import resolve_plainly
from .queries import Query
from .scalars import SCALARS
from .subscriptions import Subscription


@lru_cache(maxsize=DEFAULT_MAXSIZE)
def _over_limits(schema: GraphQLSchema, document: DocumentNode) -> list[GraphQLError]:
    return validate(schema, document, [LimitsRule])


class LimitedValidation(ValidationCache):
    """Validates a document once, and only if it keeps to the limits."""

    def on_validate(self) -> Iterator[None]:
        """First the limits, then the rules of the specification."""
        context = self.execution_context
        assert context.graphql_document is not None
        over = _over_limits(context.schema._schema, context.graphql_document)  # noqa: SLF001 - nothing public has it
        if over:
            context.pre_execution_errors = list(over)
            yield
        else:
            yield from super().on_validate()


class QuietParserCache(ParserCache):
    """Leaves syntax errors to the core's own parse, which answers them properly on every transport."""

    def on_parse(self) -> Iterator[None]:
        """Parse from the cache, if the document can be parsed."""
        context = self.execution_context
        with suppress(GraphQLError):
            context.graphql_document = self.cached_parse_document(context.query, **context.parse_options)
        yield


class OneOperation(SchemaExtension):
    """Refuses a document with several operations and no `operationName`: Strawberry would run the first one.

    With two transfers in a document that would be a payment nobody chose. Listed behind the validation cache, which
    overwrites the list of errors.
    """

    def on_validate(self) -> Iterator[None]:
        """Add the request error that the GraphQL specification demands."""
        context = self.execution_context
        definitions = context.graphql_document.definitions if context.graphql_document else ()
        operations = [node for node in definitions if isinstance(node, OperationDefinitionNode)]
        if context._provided_operation_name is None and len(operations) > 1:  # noqa: SLF001 - nothing public tells
            message = "The document has several operations; say with operationName which one to run."
            context.pre_execution_errors = [Unanswerable(Fault.OPERATION, message)]
        yield


class WalletSchema(strawberry.Schema):
    """A schema that tells clients their own mistakes and hides ours."""

    async def execute(self, *args: Any, **kwargs: Any) -> ExecutionResult:
        """Run an operation; every error in the result has a code, a request id and `retryable`."""
        return told(await super().execute(*args, **kwargs))

    async def stream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[ExecutionResult, None]:
        """Run an operation whose results come one by one, a subscription's; the errors are the same."""
        return _told(cast("AsyncGenerator[ExecutionResult, None]", await super().stream(*args, **kwargs)))

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Log our bugs; not every typo of a client, with a traceback, as Strawberry would."""
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
            lambda: MaxTokensLimiter(TOKENS_MAX),
            QuietParserCache,
            LimitedValidation,
            OneOperation,
            HideSchema,
            Cost,
            CountVerbs,
        ],
    )


schema: Final = make_schema()
resolve_plainly(schema._schema)  # noqa: SLF001 - nothing public has it


def sdl() -> str:
    """The schema as text, in alphabetical order: what `schema.graphql` holds."""
    return make_schema(sort=True).as_str().rstrip() + "\n"
