"""Pages of lists, as Relay has them: edges with cursors, and where the page stands.

A cursor is a place in the list, the same one in either order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

import strawberry

from ...storage import PAGE_MAX
from ...verbs.history import Place
from ..catalogue.lists import ListOrder
from .cursors import cursor_of, not_a_cursor
from .describe import about, argument, enum_type, object_type
from .failures import BadRequest
from .scalars import BigInt

T = TypeVar("T")


enum_type(
    ListOrder,
    "In which order a list comes. Cursors are the same in both.",
    {
        "NEWEST_FIRST": "The newest item first: what a screen shows.",
        "OLDEST_FIRST": "The oldest item first. What is new comes at the end: `after` goes on there.",
    },
)

First = Annotated[int | None, argument(f"At most so many items, 1 to {PAGE_MAX}, from the start or from `after` on.")]
After = Annotated[str | None, argument("With `first`: only items behind the one with this cursor.")]
Last = Annotated[int | None, argument(f"At most so many items, 1 to {PAGE_MAX}, up to the end or up to `before`.")]
Before = Annotated[str | None, argument("With `last`: only items in front of the one with this cursor.")]
OrderBy = Annotated[ListOrder, argument("Which items come first.")]


@object_type
class PageInfo:
    """Where a page stands."""

    has_next_page: bool = about(
        "Whether items follow; with a filter: whether there are items left to look at, of which the filter may keep "
        "none."
    )
    has_previous_page: bool = about(
        "Whether there are items in front: true behind an `after`; with `last` as exact as `hasNextPage` is with "
        "`first`."
    )
    start_cursor: str | None = about(
        "Pass it as `before` to get the page in front. The first edge's cursor; with `last`, on a short page of "
        "a filtered list, the place where the search stopped."
    )
    end_cursor: str | None = about(
        "Pass it as `after` to get the next page. The last edge's cursor; on a short page of a filtered list the place "
        "where the search stopped, even if the page is empty."
    )


@object_type
class Edge(Generic[T]):
    """An item of a list and where it stands."""

    node: T = about("The item.")
    place: strawberry.Private[str | int | Place]

    @strawberry.field
    def cursor(self) -> str:
        """Opaque; pass it as `after` to go on behind this item."""
        return cursor_of(self.place)


@object_type
class Connection(Generic[T]):
    """A page of a list."""

    edges: list[Edge[T]] = about("The items of this page with their cursors.")
    page_info: PageInfo = about("Where this page stands.")
    total_count: BigInt | None = about(
        "How many items the whole list has, as text. Null where they would have to be counted, as with a filter."
    )

    @strawberry.field
    def nodes(self) -> list[T]:
        """The items of this page."""
        return [edge.node for edge in self.edges]


@dataclass(frozen=True, slots=True)
class Asked:
    """The page that is asked for: `size` items that are older than the one at `cursor`, or newer if `is_backward`.

    Without a cursor it has the newest items, or the oldest ones. They are read newest first, and shown in `order`.
    """

    size: int
    cursor: str | None
    is_backward: bool
    order: ListOrder = ListOrder.NEWEST_FIRST

    def checked(self, is_cursor: Callable[[str], object]) -> Asked:
        """This page. Raises BadRequest: the cursor is none of the list."""
        if self.cursor is not None and not is_cursor(self.cursor):
            raise not_a_cursor()
        return self


def asked(
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    order: ListOrder = ListOrder.NEWEST_FIRST,
) -> Asked:
    """The page that a field's arguments ask for; one left out is UNSET or None. Raises BadRequest."""
    first, last = _given(first), _given(last)
    after, before = _given(after), _given(before)
    is_reversed = order is ListOrder.OLDEST_FIRST
    if first is not None and last is None and before is None:
        return Asked(_checked("first", first), after, is_reversed, order)
    if last is not None and first is None and after is None:
        return Asked(_checked("last", last), before, not is_reversed, order)
    raise BadRequest("give `first`, and `after` if you like; or `last`, and `before` if you like")


def _given(value: T | None) -> T | None:
    return None if value is strawberry.UNSET else value


def check_first(first: int) -> None:
    """Raise BadRequest unless a list may have this length."""
    _checked("first", first)


def _checked(name: str, size: int) -> int:
    if not 1 <= size <= PAGE_MAX:
        raise BadRequest(f"{name} must be 1 to {PAGE_MAX}, not {size}")
    return size


def connection(
    edges: list[Edge[T]],
    page: Asked,
    *,
    has_more: bool,
    goes_on_at: str | int | Place | None = None,
    total: int | None = None,
) -> Connection[T]:
    """The page of these edges, which come newest first. `has_more` and `goes_on_at` are about the side that was read.

    `goes_on_at` is the place where the next page begins, if that is not the oldest edge's (the newest's, backward). An
    empty page goes on where it began, so that whoever follows a list may send the same cursor until something is new.
    """
    if goes_on_at is None and not edges:
        goes_on_at = page.cursor
    newest, oldest = (edges[0].place, edges[-1].place) if edges else (None, None)
    if goes_on_at is not None:
        newest, oldest = (goes_on_at, oldest) if page.is_backward else (newest, goes_on_at)
    is_inside = page.cursor is not None
    newer, older = (has_more, is_inside) if page.is_backward else (is_inside, has_more)
    start, end = (newer, newest), (older, oldest)
    if page.order is ListOrder.OLDEST_FIRST:
        start, end, edges = end, start, edges[::-1]
    info = PageInfo(
        has_next_page=end[0],
        has_previous_page=start[0],
        start_cursor=None if start[1] is None else cursor_of(start[1]),
        end_cursor=None if end[1] is None else cursor_of(end[1]),
    )
    return Connection(edges=edges, page_info=info, total_count=None if total is None else BigInt(total))
