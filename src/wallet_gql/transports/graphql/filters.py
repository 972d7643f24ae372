"""The filter of an account's history."""

from __future__ import annotations

from datetime import datetime

import strawberry

from ...domain.ids import AccountId
from ...domain.model import TransferKind
from ...verbs.attempts import REFERENCE_MAX
from ...verbs.history import HistoryFilter
from ...verbs.reading import account_ids_of
from . import types as _types  # noqa: F401 - describes TransferKind, which must happen before Strawberry sees it here
from .context import Context
from .describe import input_type
from .failures import BadRequest
from .scalars import BigInt, refuse_unreadable


@input_type
class HistoryFilterInput:
    """Which entries to keep: those that fit all that is given. What is null does not count."""

    kinds: list[TransferKind] | None = strawberry.field(description="Why the money moved: any of these.", default=None)
    counterparty: str | None = strawberry.field(
        description="The username of the other side; of nobody, nothing fits.", default=None
    )
    since: datetime | None = strawberry.field(description="Entered at this moment or later.", default=None)
    until: datetime | None = strawberry.field(description="Entered before this moment.", default=None)
    min_minor_units: BigInt | None = strawberry.field(
        description="At least so much, in minor units and without the sign: 500 finds what was paid and received.",
        default=None,
    )
    max_minor_units: BigInt | None = strawberry.field(
        description="At most so much, in minor units and without the sign.", default=None
    )
    reference: str | None = strawberry.field(
        description="A part of the reference, in any case; at most 140 characters.", default=None
    )


async def filter_of(context: Context, given: HistoryFilterInput) -> HistoryFilter:
    """Convert to the filter of the history. Raises BadRequest, Unavailable."""
    if given.reference is not None and len(given.reference) > REFERENCE_MAX:
        raise BadRequest(f"filter.reference must have at most {REFERENCE_MAX} characters")
    for name, bound in (("minMinorUnits", given.min_minor_units), ("maxMinorUnits", given.max_minor_units)):
        refuse_unreadable(f"filter.{name}", bound)
        if bound is not None and bound < 0:
            raise BadRequest(f"filter.{name} must be 0 or more: amounts are compared without their sign")
    return HistoryFilter(
        kinds=None if given.kinds is None else frozenset(given.kinds),
        counterparties=None if given.counterparty is None else await _accounts_of(context, given.counterparty),
        since=given.since,
        until=given.until,
        amount_min_minor=given.min_minor_units,
        amount_max_minor=given.max_minor_units,
        reference=given.reference,
    )


async def _accounts_of(context: Context, username: str) -> frozenset[AccountId]:
    user = await context.wallet.identity.called(username)
    if user is None:
        return frozenset()
    return await account_ids_of(context.wallet.store, user.id)
