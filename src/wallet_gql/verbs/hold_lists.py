"""Lists of a user's holds, of both directions or one, in all states or some. None of these reads takes a lock."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Collection
from datetime import datetime
from typing import Final

from ..domain.changes import ReadSet
from ..domain.frozen import frozen
from ..domain.hold_lists import HOLD_IN, HOLD_OUT
from ..domain.ids import HoldId, UserId
from ..domain.model import Hold, HoldState
from ..storage import PAGE_MAX, Page, Store
from .parties import Direction

EXAMINED_MAX: Final = 2_000
"""The most holds that one page of some states examines. So a page may be short although more holds follow."""

_KINDS: Final = {Direction.OUT: HOLD_OUT, Direction.IN: HOLD_IN}


@frozen
class HoldPage:
    """Some holds. The following page begins behind the hold `goes_on_behind`; None at the end."""

    holds: tuple[Hold, ...]
    goes_on_behind: HoldId | None


async def holds_of(
    store: Store,
    owner: UserId,
    limit: int,
    now: datetime,
    *,
    after: str = "",
    directions: Collection[Direction] = tuple(Direction),
    states: Collection[HoldState] = tuple(HoldState),
    backward: bool = False,
) -> HoldPage:
    """Up to `limit` holds of a user behind the one with the id `after`, newest first. Raises Unavailable.

    With `backward` they are those in front of that one.

    A hold whose time is over at `now` counts as expired. Holds that an older version placed are not listed.
    """
    size = limit if len(frozenset(states)) == len(HoldState) else PAGE_MAX
    kept: list[Hold] = []
    behind = HoldId(after)
    for _ in range(0, EXAMINED_MAX, size):
        page = await _names(store, owner, directions, behind, size, backward=backward)
        found = await store.fetch(ReadSet(holds=page.items))
        for hold_id in page.items:
            hold, behind = found.hold(hold_id), hold_id
            if hold is not None and state_at(hold, now) in states:
                kept.append(hold)
            if len(kept) == limit:
                more = page.has_more or hold_id != page.items[-1]
                return _page(kept, behind if more else None, backward=backward)
        if not page.has_more:
            return _page(kept, None, backward=backward)
    return _page(kept, behind, backward=backward)


def _page(kept: list[Hold], goes_on_behind: HoldId | None, *, backward: bool) -> HoldPage:
    return HoldPage(tuple(reversed(kept) if backward else kept), goes_on_behind)


def state_at(hold: Hold, now: datetime) -> HoldState:
    """What has become of a hold: its time may be over before a sweep has closed it."""
    return HoldState.EXPIRED if hold.is_due(now) else hold.state


def version_of(hold: Hold, seen: HoldState) -> int:
    """Grows with every change of what `state_at` answers: open, its time over, closed in the store."""
    if hold.state is not HoldState.OPEN:
        return 3
    return 2 if seen is HoldState.EXPIRED else 1


async def _names(
    store: Store, owner: UserId, directions: Collection[Direction], after: str, limit: int, *, backward: bool
) -> Page[HoldId]:
    """The ids of some holds behind `after`, newest first; `backward` oldest first. Ids are in the order of time."""
    asked = (
        store.list_records(_KINDS[direction], owner, after=after, limit=limit, descending=not backward)
        for direction in frozenset(directions)
    )
    parts = await asyncio.gather(*asked)
    merged = list(heapq.merge(*([record.id for record in part.items] for part in parts), reverse=not backward))
    has_more = len(merged) > limit or any(part.has_more for part in parts)
    return Page(tuple(map(HoldId, merged[:limit])), has_more)
