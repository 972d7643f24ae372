"""Reads sessions together with their users. Every request begins with this."""

from __future__ import annotations

from typing import Final

from ..domain.changes import ReadSet
from ..domain.ids import UserId
from ..domain.users import Session, User, token_key, user_key
from ..storage import Store

OWNERS_MAX: Final = 10_000
"""How many sessions' owners one process remembers."""


class SessionReads:
    """Remembers the owner of each session, which never changes, so that a known session and its user cost one read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owners: dict[str, UserId] = {}

    async def of(self, token: str) -> tuple[Session, User] | None:
        """The session of a token, even if it is over, and its user; None if either is missing."""
        key = token_key(token)
        if key is None:
            return None
        if key.id not in self._owners:
            record = (await self._store.fetch(ReadSet(records=(key,)))).record(key)
            if record is None:
                return None
            self._remember(key.id, UserId(record.owner))
        its = user_key(self._owners[key.id])
        snapshot = await self._store.fetch(ReadSet(records=(key, its)))  # both at one moment, even the first time
        record, user = snapshot.record(key), User.from_record(snapshot.record(its))
        if record is None:
            self._owners.pop(key.id, None)
        return None if record is None or user is None else (Session.from_record(record), user)

    def _remember(self, session_id: str, owner: UserId) -> None:
        if len(self._owners) >= OWNERS_MAX:
            del self._owners[next(iter(self._owners))]
        self._owners[session_id] = owner
