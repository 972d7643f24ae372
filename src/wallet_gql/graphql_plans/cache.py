"""Keeps the plans of documents that come again, up to a bound. No plan is made of a document that comes once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from .selections import NotCoveredError

T = TypeVar("T")

Key = tuple[str, str | None]
"""A document's text and the name of the operation to run."""

PLANS_MAX: Final = 256
"""How many are kept."""


class Plans(Generic[T]):
    """Keeps what `make` makes of documents that come again.

    `make` returns None if the document is not valid or has no such operation. The least recently used are forgotten.
    """

    def __init__(self, make: Callable[[str, str | None], T | None], most: int = PLANS_MAX) -> None:
        self._make = make
        self._most = most
        self._made: OrderedDict[Key, T | None] = OrderedDict()
        self._seen: OrderedDict[Key, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._made)

    def find(self, document: str, operation_name: str | None, sights: int) -> T | None:
        """What was made of a document; it is made when the document comes for the `sights`-th time, with 0 never.

        None: graphql-core has to run it.
        """
        if not sights:
            return None
        key = document, operation_name
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        if self._seen.get(key, 0) + 1 < sights:
            return None
        self._seen.pop(key, None)
        try:
            made = self._make(document, operation_name)
        except NotCoveredError:
            return self._keep(key, None)
        return None if made is None else self._keep(key, made)

    def saw(self, document: str, operation_name: str | None) -> None:
        """Note that graphql-core ran a document. One that is not valid is never noted: anybody may send many."""
        key = document, operation_name
        if key not in self._made:
            self._seen[key] = self._seen.pop(key, 0) + 1
            _trim(self._seen, self._most)

    def clear(self) -> None:
        """Forget all."""
        self._made.clear()
        self._seen.clear()

    def _keep(self, key: Key, made: T | None) -> T | None:
        self._made[key] = made
        _trim(self._made, self._most)
        return made


def _trim(kept: OrderedDict[Key, Any], most: int) -> None:
    while len(kept) > most:
        kept.popitem(last=False)
