"""Deducts the cost of reading a request from the budgets before the request is read, also if it is then refused.

A document that is not kept parsed costs 1 per character, because parsing and validating take time even if it is
refused. Each value of the variables costs 1, because each is checked.
"""

from __future__ import annotations

from graphql import GraphQLError

from ...domain.errors import RateLimited
from .asked import Asked
from .context import Context
from .failures import Fault, Refused
from .kept import KEPT


async def pay_for_reading(context: Context, query: str, asked: Asked) -> Refused | None:
    """Deduct the cost, or return the refusal: then the document must not be read.

    A kept document costs nothing to read; its values are deducted together with the fields that it resolves.
    """
    if query in KEPT:
        context.cost.unpaid = asked.values
        return None
    try:
        await context.caller.spend(len(query) + asked.values)
    except RateLimited as error:
        context.response.headers["Retry-After"] = str(error.fields["retry_after_seconds"])
        return Refused(Fault.THROTTLED, [GraphQLError("", original_error=error)])
    return None
