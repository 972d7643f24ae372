"""The price of reading a request, taken off the budgets of cost before it is read: for most work is done on nonsense.

A document that is not kept parsed costs 1 for each character: parsing and validating it takes time even if it is
refused. Each value of the variables costs 1, for each is checked.
"""

from __future__ import annotations

from graphql import GraphQLError

from ...domain.errors import RateLimited
from .asked import Asked
from .context import Context
from .failures import Fault, Refused
from .kept import KEPT


async def pay_for_reading(context: Context, query: str, asked: Asked) -> Refused | None:
    """Take the price off the budgets, or answer with the refusal: the document must not be read then.

    A kept document costs nothing to read; its values are paid for together with what it resolves.
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
