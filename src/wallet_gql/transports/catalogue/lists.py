"""What both APIs say about lists."""

from __future__ import annotations

from enum import StrEnum


class ListOrder(StrEnum):
    """In which order a list comes. A place in it is the same in both."""

    NEWEST_FIRST = "newest_first"
    OLDEST_FIRST = "oldest_first"
