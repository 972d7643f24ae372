"""Statements: an account between two moments."""

from __future__ import annotations

from datetime import datetime

import strawberry

from ...domain.model import Account
from ...verbs.history import Statement as Span
from ...verbs.history import statement
from ..catalogue.lists import ListOrder
from .context import Info
from .describe import about, object_type
from .failures import BadRequest
from .history import Entry, page_between
from .pages import After, Before, Connection, First, Last, OrderBy, asked
from .types import Money


@object_type
class Statement:
    """An account over a span of time: `opening` and all `entries` together make `closing`."""

    since: datetime = about("Where the span begins, UTC, inclusive.")
    until: datetime = about("Where it ends, UTC, exclusive.")
    opening: Money = about("The posted balance just before the span.")
    closing: Money = about("The posted balance at its end; as of now, if the span ends in the future.")
    account: strawberry.Private[Account]
    span: strawberry.Private[Span]

    @strawberry.field
    async def entries(
        self,
        info: Info,
        *,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        order_by: OrderBy = ListOrder.NEWEST_FIRST,
    ) -> Connection[Entry]:
        """The entries of the span, newest first."""
        page, span = asked(first, after, last, before, order_by), self.span
        return await page_between(info.context.ledger, self.account, page, span.first_sequence, span.last_sequence)


async def statement_of(info: Info, account: Account, since: datetime, until: datetime) -> Statement:
    """The account from `since` (inclusive) to `until` (exclusive). Raises BadRequest, Unavailable."""
    if since > until:
        raise BadRequest("since must not be later than until")
    span = await statement(info.context.ledger.store, account, since, until)
    return Statement(
        since=since,
        until=until,
        opening=Money.of(span.opening_minor, account.currency),
        closing=Money.of(span.closing_minor, account.currency),
        account=account,
        span=span,
    )
