"""What one run of a plan shares: context, variables, errors; and what is done with work nobody waits for any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from types import CoroutineType
from typing import Any, Final

from graphql import GraphQLError
from graphql.pyutils import gather_with_cancel

Path = tuple["Path | None", str | int] | None
"""Where in the answer: the place around it, and the key or index there. None at the root."""

Waiting = tuple["Waiting | None", str, Any] | None
"""Fields of one object whose values are still to come: those before, then key and coroutine."""

Coroutine: Final = CoroutineType
"""What is still to come is always one of these; a finished value never is."""

_ABANDONED: Final[set[asyncio.Future[Any]]] = set()
"""Keeps work alive that runs on though its answer is not needed: its errors must be seen, or asyncio complains."""


class Run:
    """One run."""

    __slots__ = ("_nulled", "context", "errors", "extensions", "given", "root", "variables")

    def __init__(
        self,
        variables: Mapping[str, Any],
        given: Mapping[str, Any],
        context: object,
        root: object,
        extensions: Mapping[str, Any] | None,
    ) -> None:
        self.variables = variables
        self.given = given
        self.context = context
        self.root = root
        self.extensions = extensions
        self.errors: list[GraphQLError] = []
        self._nulled: set[Path] = set()

    def add(self, error: GraphQLError, path: Path) -> None:
        """Note an error that makes a place null, unless a place around it is null already."""
        around = path
        while around is not None:
            if around in self._nulled:
                return
            around = around[0]
        if None not in self._nulled:
            self._nulled.add(path)
            self.errors.append(error)


def keys_of(path: Path) -> list[str | int]:
    """A path as errors tell it."""
    found: list[str | int] = []
    while path is not None:
        path, key = path
        found.append(key)
    return found[::-1]


async def fill(answer: dict[str, Any], waiting: Waiting) -> dict[str, Any]:
    """An object's answer, once the values that were still to come are there. A single one takes no task."""
    assert waiting is not None
    if waiting[0] is None:
        answer[waiting[1]] = await waiting[2]
        return answer
    pairs = unlinked(waiting)
    found = await gather_with_cancel(*(value for _, value in pairs))
    answer.update(zip((key for key, _ in pairs), found, strict=True))
    return answer


def unlinked(waiting: Waiting) -> list[tuple[str, Awaitable[Any]]]:
    """In the order in which they began to wait."""
    pairs: list[tuple[str, Awaitable[Any]]] = []
    while waiting is not None:
        waiting, key, value = waiting
        pairs.append((key, value))
    return pairs[::-1]


async def fill_list(answer: list[Any], places: Sequence[int]) -> list[Any]:
    """A list, once the items that were still to come are there."""
    if len(places) == 1:
        answer[places[0]] = await answer[places[0]]
        return answer
    found = await gather_with_cancel(*(answer[place] for place in places))
    for place, value in zip(places, found, strict=True):
        answer[place] = value
    return answer


def abandon(awaitables: Iterable[Awaitable[Any]]) -> None:
    """Let work run to its end whose answer is not needed, because something beside it failed."""
    work = list(awaitables)
    if work:
        future = asyncio.gather(*work, return_exceptions=True)
        _ABANDONED.add(future)
        future.add_done_callback(_ABANDONED.discard)
