"""Counts, for the rate limits, what a document is going to do, before it does any of it.

Every field of the operation's root counts once per response key, so a document with five aliased transfers counts five;
a batch counts as many payments as it has items. If one limit is exceeded, the whole document is refused and nothing of
it runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    OperationDefinitionNode,
    OperationType,
    get_operation_ast,
    value_from_ast_untyped,
)
from strawberry.extensions import SchemaExtension

from ...domain.errors import RateLimited
from ...verbs.batches import BATCH_MAX
from ..catalogue.operations import KEYED
from ..http.rate_limits import MONEY
from ..http.record import current
from .context import Context
from .limits import Meter


class Verbs:
    """What one operation is going to do, by its variables."""

    def __init__(self, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        self._is_mutation = operation.operation is OperationType.MUTATION
        roots = Meter(document).roots(operation)
        self._fields = list(roots.values())
        self.places = {key: field.name.value for key, field in roots.items()}
        """The field of each response key."""
        self._defaults = {
            each.variable.name.value: value_from_ast_untyped(each.default_value)
            for each in operation.variable_definitions or ()
            if each.default_value is not None
        }

        names = tuple(self.places.values())
        self._always = None if self._is_mutation and not KEYED.isdisjoint(names) else names

    def of(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        """The verbs with these variables, each as often as it counts."""
        return self._always or tuple(self._counted(given))

    def _counted(self, given: Mapping[str, Any]) -> Iterator[str]:
        variables = {**self._defaults, **given}
        for field in self._fields:
            name = field.name.value
            yield name
            if self._is_mutation and name in KEYED:
                yield from repeat(MONEY, _payments(field, variables))


def _payments(field: FieldNode, variables: dict[str, Any]) -> int:
    """How many payments a mutation makes: the number of its `items`, or one."""
    for argument in field.arguments or ():
        given = value_from_ast_untyped(argument.value, variables)
        items = given.get("items") if isinstance(given, dict) else None
        if isinstance(items, list) and items:
            return min(len(items), BATCH_MAX)  # a larger batch is refused when it runs
    return 1


async def count(context: Context, verbs: Sequence[str], places: Mapping[str, str]) -> None:
    """Count the verbs and pay the cost before anything runs. Raises RateLimited; `Retry-After` says how long."""
    record = current()
    record.verbs, record.places = verbs, places
    try:
        await context.caller.count(*verbs)
        await context.caller.spend(context.cost.take())
    except RateLimited as error:
        context.response.headers["Retry-After"] = str(error.fields["retry_after_seconds"])
        raise


class CountVerbs(SchemaExtension):
    """Refuses an operation over a limit with `RATE_LIMITED`."""

    async def on_execute(self) -> AsyncIterator[None]:
        """Count."""
        execution = self.execution_context
        document = execution.graphql_document
        operation = document and get_operation_ast(document, execution.operation_name)
        if document and operation:
            verbs = Verbs(document, operation)
            await count(execution.context, verbs.of(execution.variables or {}), verbs.places)
        else:
            await count(execution.context, (), {})
        yield
