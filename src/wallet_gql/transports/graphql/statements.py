"""Statements: an account between two moments."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import strawberry

from ...domain.model import Account
from ...storage import PageRequest
from ...verbs.history import Statement as Span
from ...verbs.history import statement
from .context import Info
from .cursors import before_of
from .describe import about, argument, object_type
from .failures import BadRequest
from .history import Entry, connection_of
from .pages import Connection, check_first
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
        first: Annotated[int, argument("How many entries at most: 1 to 100.")],
        after: Annotated[str | None, argument("Only entries older than the one with this cursor.")] = strawberry.UNSET,
    ) -> Connection[Entry]:
        """The entries of the span, newest first."""
        check_first(first)
        before, end = before_of(after), self.span.last_sequence + 1
        reach = PageRequest(
            first, before=end if before is None else min(before, end), after=self.span.first_sequence - 1
        )
        page = await info.context.ledger.history(self.account, reach)
        goes_on_below = page.items[-1].entry.sequence if page.has_more else None
        return connection_of(self.account, page.items, is_first=before is None, goes_on_below=goes_on_below)


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
