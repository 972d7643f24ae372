"""Security events of users: log-ins, failed log-ins, changed passwords, ended sessions, frozen accounts."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Final

from ..domain.ids import UserId
from ..domain.security_events import EventKind, SecurityEvent, Visitor, make_event_id
from ..records import change, page_of_records
from ..storage import PAGE_MAX, Page, Store

log: Final = logging.getLogger("wallet_gql.security")


class Events:
    """Makes, stores and lists events. The caller stores an event that reports a change in the change's own commit."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    def make(self, kind: EventKind, visitor: Visitor | None, subject: str | None = None) -> SecurityEvent:
        """A new event, not stored yet."""
        now = self._clock()
        return SecurityEvent(make_event_id(now, secrets.randbits(80)), kind, now, visitor, subject)

    async def note(self, user_id: UserId | None, login: str, kind: EventKind, visitor: Visitor | None) -> None:
        """Store an event that reports no change. An unknown login (`user_id` None) costs the same write."""
        event = self.make(kind, visitor)
        record = event.to_strangers_record(login) if user_id is None else event.to_record(user_id)
        await change(self._store, record.key, lambda _: record)
        tell(event, user_id or "nobody")

    async def page(
        self, user_id: UserId, limit: int = PAGE_MAX, *, after: str = "", backward: bool = False
    ) -> Page[SecurityEvent]:
        """The user's events, newest first: those older than the one with the id `after`, or newer if `backward`."""
        found = await page_of_records(
            self._store, "event", user_id, limit, behind=after, descending=False, backward=backward
        )
        return Page(tuple(SecurityEvent.from_record(record) for record in found.items), found.has_more)


def tell(event: SecurityEvent, user: str) -> None:
    """Log an event, for operators: no names, no secrets."""
    address = event.visitor.address if event.visitor else ""
    log.info("%s of %s from %s", event.kind.value, user, address or "nowhere")
