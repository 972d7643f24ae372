"""Reads sessions together with their users. Every request begins with this.

What was read is kept for a moment, for requests that only read. It is dropped as soon as a command of this process has
ended that may have written the session or its user, whoever sent it; what other processes write shows when the moment
is over.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from ..domain.changes import ReadSet
from ..domain.ids import UserId, slot_of
from ..domain.model import RecordKey
from ..domain.users import Session, User, make_token, token_key, user_key
from ..storage import Store

OWNERS_MAX: Final = 10_000
"""How many sessions' owners one process remembers, and how many sessions it keeps at most."""

Found = tuple[Session, User]


@dataclass(frozen=True, slots=True)
class _Kept:
    found: Found
    since: float
    """When the read began: the session may have ended at any time after that."""


class SessionReads:
    """Remembers the owner of each session, which never changes, so that a known session and its user cost one read."""

    def __init__(
        self, store: Store, *, keep_seconds: float = 0.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """A session is kept for at most `keep_seconds`; 0 keeps none."""
        self._store = store
        self._keep_seconds = keep_seconds
        self._monotonic = monotonic
        self._owners: dict[str, UserId] = {}
        self._kept: dict[str, _Kept] = {}
        self._writes = 0
        """How many commands on sessions or users have ended: no read that began before the last one is kept."""
        if keep_seconds > 0:
            store.on_records(self._written)

    def recent(self, token: str) -> Found | None:
        """What `of` found less than `keep_seconds` ago, unless this process has written it since."""
        key = token_key(token) if self._kept else None
        return self.kept(key.id) if key else None

    def kept(self, session_id: str) -> Found | None:
        """The same by the session's id."""
        kept = self._kept.get(session_id)
        return kept.found if kept and self._monotonic() - kept.since < self._keep_seconds else None

    async def of(self, token: str) -> Found | None:
        """The session of a token, even if it is over, and its user; None if either is missing."""
        key = token_key(token)
        if key is None:
            return None
        since, writes = self._monotonic(), self._writes
        found = await self._read(key)
        if found is not None and self._keep_seconds > 0 and writes == self._writes:
            _bound(self._kept)
            self._kept[key.id] = _Kept(found, since)
        return found

    async def _read(self, key: RecordKey) -> Found | None:
        if key.id not in self._owners:
            record = (await self._store.fetch(ReadSet(records=(key,)))).record(key)
            if record is None:
                return None
            _bound(self._owners)
            self._owners[key.id] = UserId(record.owner)
        its = user_key(self._owners[key.id])
        snapshot = await self._store.fetch(ReadSet(records=(key, its)))  # both at one moment, even the first time
        record, user = snapshot.record(key), User.from_record(snapshot.record(its))
        if record is None:
            self._owners.pop(key.id, None)
        return None if record is None or user is None else (Session.from_record(record), user)

    def _written(self, keys: Sequence[RecordKey]) -> None:
        """A command that may have written these records has ended."""
        ended = {key.id for key in keys if key.kind == "session"}
        users = {key.id for key in keys if key.kind == "user"}
        if not ended and not users:
            return
        self._writes += 1
        ended.update(name for name, kept in self._kept.items() if users and kept.found[1].id in users)
        for name in ended:
            self._kept.pop(name, None)


def _bound(known: dict[str, UserId] | dict[str, _Kept]) -> None:
    """Forget the oldest of too many."""
    if len(known) >= OWNERS_MAX:
        del known[next(iter(known))]


def live(found: Found | None, now: datetime) -> Session | None:
    """The session, unless there is none, its time is over, or all sessions of its user were ended since it began."""
    if found is None or found[0].expires_at <= now or found[0].epoch != found[1].epoch:
        return None
    return found[0]


def new_session(draft: Session) -> tuple[Session, str]:
    """A session that is not stored yet, as the draft but under a new id, and its token."""
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    token = make_token(slot_of(draft.user_id), secret)
    key = token_key(token)
    assert key is not None
    return replace(draft, id=key.id), token
