"""The open subscriptions of this process: their number for each user, and the signal that the server is stopping."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from ...domain.ids import HoldId, UserId
from ...domain.security_events import Visitor
from ...verbs.whole import Whole
from .failures import OverLimit
from .feeds import Feeds
from .rounds import Rounds

K = TypeVar("K", bound=str)

ROUND_SECONDS: Final = 0.5
"""How often those who watch are read anew."""

PER_USER_MAX: Final = 20
"""The most open subscriptions of a user in one process, unless settings say otherwise."""


SOCKETS_MAX: Final = 200
"""The most open WebSockets of one network in one process."""


class Live:
    """Shared by all transports of one process; belongs to the process's event loop."""

    def __init__(self, per_user_max: int = PER_USER_MAX) -> None:
        self.stopping = asyncio.Event()
        """Set when the server begins to stop. Streams then end, so that their clients reconnect elsewhere."""
        self.rounds: Rounds[UserId, HoldId, Whole] = Rounds(ROUND_SECONDS)
        """What `viewerEvents` read."""
        self.feeds = Feeds()
        """What `accountEvents` read."""
        self._per_user_max = per_user_max
        self._open: Counter[UserId] = Counter()
        self._sockets: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._open.total()

    @contextmanager
    def place(self, user_id: UserId) -> Iterator[None]:
        """Hold one of the user's places while inside. Raises OverLimit: all are taken."""
        if self._open[user_id] >= self._per_user_max:
            raise OverLimit(f"you have {self._per_user_max} subscriptions open; close one first")
        with _one_more(self._open, user_id):
            yield

    @contextmanager
    def socket(self, visitor: Visitor) -> Iterator[None]:
        """Count as one of the WebSockets of a network while inside. Raises OverLimit: it has too many."""
        if self._sockets[visitor.network] >= SOCKETS_MAX:
            raise OverLimit(f"your network has {SOCKETS_MAX} connections open; close one first")
        with _one_more(self._sockets, visitor.network):
            yield


@contextmanager
def _one_more(open_: Counter[K], key: K) -> Iterator[None]:
    open_[key] += 1
    try:
        yield
    finally:
        open_[key] -= 1
        if not open_[key]:
            del open_[key]
