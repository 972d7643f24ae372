"""Counts, for the rate limits, what a document is going to do, before it does any of it.

Every field of the operation's root counts once per response key, so a document with five aliased transfers counts five;
a batch counts as many payments as it has items. If one limit is exceeded, the whole document is refused and nothing of
it runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import repeat
from typing import Any

from graphql import FieldNode, OperationType, get_operation_ast, value_from_ast_untyped
from strawberry.extensions import SchemaExtension

from ...domain.errors import RateLimited
from ...verbs.batches import BATCH_MAX
from ..catalogue.operations import KEYED
from ..http.rate_limits import MONEY
from .context import Context
from .limits import Meter


def _payments(field: FieldNode, variables: dict[str, Any]) -> int:
    """How many payments a mutation makes: the number of its `items`, or one."""
    for argument in field.arguments or ():
        given = value_from_ast_untyped(argument.value, variables)
        items = given.get("items") if isinstance(given, dict) else None
        if isinstance(items, list) and items:
            return min(len(items), BATCH_MAX)  # a larger batch is refused when it runs
    return 1


class CountVerbs(SchemaExtension):
    """Refuses an operation over a limit with `RATE_LIMITED`; `Retry-After` says when to come back."""

    async def on_execute(self) -> AsyncIterator[None]:
        """Count."""
        context: Context = self.execution_context.context
        try:
            await context.caller.count(*self._verbs())
            await context.caller.spend(context.cost.take())
        except RateLimited as error:
            context.response.headers["Retry-After"] = str(error.fields["retry_after_seconds"])
            raise
        yield

    def _verbs(self) -> Iterator[str]:
        document = self.execution_context.graphql_document
        operation = document and get_operation_ast(document, self.execution_context.operation_name)
        if not document or not operation:
            return
        defaults = {
            each.variable.name.value: value_from_ast_untyped(each.default_value)
            for each in operation.variable_definitions or ()
            if each.default_value is not None
        }
        variables = {**defaults, **(self.execution_context.variables or {})}
        for field in Meter(document).roots(operation):
            name = field.name.value
            yield name
            if operation.operation is OperationType.MUTATION and name in KEYED:
                yield from repeat(MONEY, _payments(field, variables))
