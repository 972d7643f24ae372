"""The schema put together: types, limits, caches, and the masking of what clients must not see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import strawberry
from graphql import ASTValidationRule, GraphQLError, OperationDefinitionNode
from strawberry.extensions import AddValidationRules, MaxTokensLimiter, ParserCache, SchemaExtension, ValidationCache
from strawberry.schema.config import StrawberryConfig
from strawberry.types.execution import ExecutionContext, ExecutionResult

from .errors import HANDLERS
from .failures import BadRequest, public, report
from .limits import TOKENS_MAX, LimitsRule
from .mutations import Mutation
from .queries import Query
from .scalars import SCALARS

_RULES: Final[list[type[ASTValidationRule]]] = [LimitsRule]


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
            context.pre_execution_errors = [BadRequest(message)]
        yield


class WalletSchema(strawberry.Schema):
    """A schema that tells clients their own mistakes and hides ours."""

    async def execute(self, *args: Any, **kwargs: Any) -> ExecutionResult:
        """Run an operation; every error in the result has a code, a request id and `retryable`."""
        result = await super().execute(*args, **kwargs)
        if result.errors:
            result.errors = [public(error) for error in result.errors]
        return result

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Log our bugs; not every typo of a client, with a traceback, as Strawberry would."""
        del execution_context
        for error in errors:
            report(error)


def make_schema(*, sort: bool = False) -> WalletSchema:
    """The schema. `sort` is for printing only: Strawberry cannot resolve unions in a sorted schema."""
    return WalletSchema(
        Query,
        Mutation,
        config=StrawberryConfig(scalar_map=SCALARS, sort_schema=sort),
        exception_handlers=HANDLERS,
        extensions=[
            lambda: MaxTokensLimiter(TOKENS_MAX),
            QuietParserCache,
            lambda: AddValidationRules(_RULES),
            ValidationCache,
            OneOperation,
        ],
    )


schema: Final = make_schema()


def sdl() -> str:
    """The schema as text, in alphabetical order: what `schema.graphql` holds."""
    return make_schema(sort=True).as_str().rstrip() + "\n"
