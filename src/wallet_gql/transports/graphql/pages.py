"""Pages of lists, as Relay has them: edges with cursors, and where the page stands. The newest items come first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import strawberry

from ...storage import PAGE_MAX
from ...verbs.history import Place
from .cursors import cursor_of, not_a_cursor
from .describe import about, object_type
from .failures import BadRequest

T = TypeVar("T")


@object_type
class PageInfo:
    """Where a page stands."""

    has_next_page: bool = about(
        "Whether there are older items; with a filter: whether there are older items left to look at, of which the "
        "filter may keep none."
    )
    has_previous_page: bool = about("Whether there are newer items: true on every page but the first.")
    start_cursor: str | None = about("The first edge's cursor; null on an empty page.")
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
    """A page of a list, newest first."""

    edges: list[Edge[T]] = about("The items of this page with their cursors.")
    page_info: PageInfo = about("Where this page stands.")

    @strawberry.field
    def nodes(self) -> list[T]:
        """The items of this page."""
        return [edge.node for edge in self.edges]


def check_first(first: int) -> None:
    """Raise BadRequest unless a page may have this size."""
    if not 1 <= first <= PAGE_MAX:
        raise BadRequest(f"first must be 1 to {PAGE_MAX}, not {first}")


def check_page(first: int, after: str | None, is_cursor: Callable[[str], object]) -> None:
    """Raise BadRequest unless a page may have this size and begin behind this cursor."""
    check_first(first)
    if after is not None and not is_cursor(after):
        raise not_a_cursor()


def connection(
    edges: list[Edge[T]], *, is_first: bool, has_more: bool, goes_on_at: str | int | Place | None = None
) -> Connection[T]:
    """A page. `goes_on_at` is the place where the next one begins, if that is not the last edge's."""
    end = goes_on_at if goes_on_at is not None else edges[-1].place if edges else None
    info = PageInfo(
        has_next_page=has_more,
        has_previous_page=not is_first,
        start_cursor=cursor_of(edges[0].place) if edges else None,
        end_cursor=None if end is None else cursor_of(end),
    )
    return Connection(edges=edges, page_info=info)
