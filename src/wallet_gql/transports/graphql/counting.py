"""Counting what a document is about to do, before it does any of it: for the rate limits.

Every field of the operation's root counts once for each response key, so a document with five aliased transfers counts
five. If one limit is passed the whole document is refused: nothing of it ran.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final

from graphql import OperationType, get_operation_ast
from strawberry.extensions import SchemaExtension

from ...domain.errors import RateLimited
from ..rate_limits import LOOKUP, MONEY
from .context import Context
from .limits import Meter, money_mutations

_LOOKUPS: Final = frozenset({"user", "merchant"})
"""Queries that tell whether somebody exists."""


class CountVerbs(SchemaExtension):
    """Refuses an operation over a limit with `RATE_LIMITED`; `Retry-After` says when to come back."""

    async def on_execute(self) -> AsyncIterator[None]:
        """Count."""
        context: Context = self.execution_context.context
        try:
            await context.caller.count(*self._verbs())
        except RateLimited as error:
            context.response.headers["Retry-After"] = str(error.fields["retry_after_seconds"])
            raise
        yield

    def _verbs(self) -> Iterator[str]:
        document = self.execution_context.graphql_document
        operation = document and get_operation_ast(document, self.execution_context.operation_name)
        if not document or not operation:
            return
        money = money_mutations(self.execution_context.schema._schema)  # noqa: SLF001 - nothing public has it
        for name in Meter(document).roots(operation):
            yield name
            if operation.operation is OperationType.MUTATION and name in money:
                yield MONEY
            elif name in _LOOKUPS:
                yield LOOKUP
