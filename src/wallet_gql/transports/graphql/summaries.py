"""Summaries: what an account received and spent, in groups, for a chart."""

from __future__ import annotations

from datetime import datetime

import strawberry

from ...domain import model
from ...verbs import summary as domain
from ..catalogue.operations import CATEGORY_COST
from .context import Info
from .describe import about, enum_type, object_type
from .failures import BadRequest
from .types import Money, Party

enum_type(
    domain.SummaryBy,
    "What the entries of a group have in common.",
    {
        "MONTH": "Entries of the same month, UTC.",
        "COUNTERPARTY": "Entries with the same other account.",
        "KIND": "Entries of the same kind.",
        "CATEGORY": "Entries that you filed under the same category; those without one are a group, too.",
    },
)


@object_type
class SummaryGroup:
    """Some entries of an account, added up."""

    count: int = about("How many entries.")
    received: Money = about("What came in.")
    spent: Money = about("What went out; positive.")
    month: str | None = about("The month, such as `2026-11`, if they are grouped by it.")
    kind: model.TransferKind | None = about("The kind, if they are grouped by it.")
    category: str | None = about("Your category, if they are grouped by it; null for those without one.")
    group: strawberry.Private[domain.Group]

    @strawberry.field
    async def counterparty(self, info: Info) -> Party | None:
        """The other side, if they are grouped by it; null if it is not known any more."""
        return None if self.group.counterparty is None else await Party.of(info, self.group.counterparty)


@object_type
class Summary:
    """What an account received and spent in a span of time."""

    complete: bool = about(
        "Whether all of the span was added up: at most its newest 5,000 entries are, and 100 groups are shown."
    )
    groups: list[SummaryGroup] = about("Months newest first; other groups with the most money first.")


async def summary_of(
    info: Info, account: model.Account, since: datetime, until: datetime, by: domain.SummaryBy
) -> Summary:
    """The account from `since` (inclusive) to `until` (exclusive).

    Raises:
        BadRequest: the span ends before it begins. OverLimit, RateLimited: it costs too much.
        Unavailable: the store does not answer.
    """
    if since > until:
        raise BadRequest("since must not be later than until")
    if by is domain.SummaryBy.CATEGORY:
        await info.context.charge(CATEGORY_COST)
    found = await domain.summary(info.context.ledger.store, account, since, until, by)
    groups = [
        SummaryGroup(
            count=one.count,
            received=Money.of(one.received_minor, account.currency),
            spent=Money.of(one.spent_minor, account.currency),
            month=one.month,
            kind=one.kind,
            category=one.category,
            group=one,
        )
        for one in found.groups
    ]
    return Summary(complete=found.complete, groups=groups)
