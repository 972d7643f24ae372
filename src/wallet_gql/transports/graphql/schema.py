"""The schema: types, limits, caches, and the masking of what clients must not see."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
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
    validate,
)
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule
from strawberry.types.execution import ExecutionContext, ExecutionResult

from .cost import Cost
from .counting import CountVerbs
from .errors import HANDLERS
from .failures import ERRORS_MAX, Fault, Unanswerable, report, told
from .introspection import HideSchema
from .kept import KEPT
from .limits import TOKENS_MAX, LimitsRule, PartsRule
from .mutations import Mutation
from .plain_fields import resolve_plainly
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
    for some in ((LimitsRule, PartsRule), (*rules, MaybeNullValidationRule, OneOfInputValidationRule)):
        errors = validate(schema, document, some, max_errors=ERRORS_MAX, hide_suggestions=True)
        if errors:
            raise Unfit(document, errors)
    KEPT.keep(text, document)
    return document


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

    async def execute(self, *args: Any, **kwargs: Any) -> ExecutionResult:
        """Run an operation; every error in the result has a code, a request id and `retryable`."""
        return told(await super().execute(*args, **kwargs))

    async def stream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[ExecutionResult, None]:
        """Run a subscription, whose results come one by one. Errors are handled as for other operations."""
        return _told(cast("AsyncGenerator[ExecutionResult, None]", await super().stream(*args, **kwargs)))

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
resolve_plainly(schema._schema)  # noqa: SLF001 - nothing public has it


def sdl() -> str:
    """The schema as text, in alphabetical order: what `schema.graphql` holds."""
    return make_schema(sort=True).as_str().rstrip() + "\n"
