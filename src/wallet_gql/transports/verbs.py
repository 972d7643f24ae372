"""The names of everything that can be asked for, in both APIs: `transfer`, `logIn`, …, as `WALLET_RATE_LIMITS` says."""

from __future__ import annotations

from functools import cache

from .graphql.schema import schema
from .rest import routes as rest


@cache
def verbs() -> frozenset[str]:
    """Fields of `Query`, `Mutation` and `Subscription`, and operations of REST."""
    core = schema._schema  # noqa: SLF001 - nothing public has it
    roots = (core.query_type, core.mutation_type, core.subscription_type)
    return frozenset(
        {name for root in roots if root for name in root.fields} | {operation.name for operation in rest.OPERATIONS}
    )
