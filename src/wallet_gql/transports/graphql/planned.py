"""Documents that come again: what is known of them before they run is kept with their plan.

Without a plan each request parses, checks, measures and counts by Strawberry's extensions, and graphql-core executes. A
plan holds what those work out from the document alone; what depends on variables is a function of them. The same is
checked in the same order: cost, rate limits, variables. Whatever a plan cannot decide is left to the other way, before
anything has run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import DocumentNode, ExecutionResult, get_operation_ast
from strawberry import Schema
from strawberry.types.graphql import OperationType

from ...domain.frozen import frozen
from ...graphql_plans import Inputs, NotCoveredError, Plan
from ...graphql_plans.plan import Prepared
from .context import Context
from .cost import COST_MAX, Pricing
from .counting import Verbs, count


@frozen
class Planned:
    """One operation of a valid document that goes beyond no limit."""

    document: DocumentNode
    kind: OperationType
    plan: Plan
    pricing: Pricing
    verbs: Verbs

    @classmethod
    def of(cls, schema: Schema, inputs: Inputs, document: DocumentNode, operation_name: str | None) -> Planned | None:
        """The operation of that name; None if the document does not tell which one is meant. Raises NotCoveredError."""
        operation = get_operation_ast(document, operation_name)
        if operation is None:
            return None
        plan = Plan(schema, inputs, document, operation_name)
        name = operation.name.value if operation.name else None
        pricing, verbs = Pricing(plan.graphql_schema, document, name), Verbs(document, operation)
        return cls(document, OperationType(operation.operation.value), plan, pricing, verbs)

    def ready(self, variables: Mapping[str, Any]) -> Ready | None:
        """The operation with its variables; None if it costs too much, or a plan cannot decide about them."""
        cost, items = self.pricing.of(variables)
        if cost > COST_MAX:
            return None
        try:
            prepared = self.plan.prepare(variables)
        except NotCoveredError:
            return None
        verbs, is_mutation = self.verbs, self.kind is OperationType.MUTATION
        return Ready(prepared, cost, items, verbs.of(variables), verbs.places, is_mutation)


@frozen
class Ready:
    """An operation with the variables of one request. Nothing has run, and nothing was counted."""

    prepared: Prepared
    cost: int
    items: Mapping[str, int]
    verbs: tuple[str, ...]
    places: Mapping[str, str]
    is_mutation: bool

    async def run(self, context: Context, extensions: Mapping[str, Any] | None) -> ExecutionResult:
        """Count it, pay for it and run it. Raises RateLimited, Unauthenticated."""
        context.cost.requested, context.cost.items = self.cost, self.items
        await count(context, self.verbs, self.places)
        return await self.prepared.run(context, None, extensions)
