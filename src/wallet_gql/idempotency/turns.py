"""The guard's types: a request, the turn to do its work, and what the work came to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

from ..domain.changes import Decide, Scope
from ..domain.codec import to_micros
from ..domain.model import Record, RecordKey
from ..storage import Store

KIND: Final = "idempotency"
"""The kind of the guard's records."""


class Effects(StrEnum):
    """Where the effect of the guarded work is; see the table in `guard`."""

    JOINED = "joined"
    OUTSIDE = "outside"


class StillRunning(Exception):
    """A request with the same key is being worked on. Ask again later, with the same key."""


class NothingDone(Exception):
    """Work with effects OUTSIDE raises this if nothing has happened and nothing will. The key is then free again."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request under a key: its caller, operation, and the fingerprint of its input."""

    caller: str
    key: str
    operation: str
    fingerprint: str
    effects: Effects
    slot: int
    note: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> RecordKey:
        """The key of its record."""
        digest = hashlib.sha256(json.dumps([self.caller, self.key]).encode()).hexdigest()
        return RecordKey(KIND, digest, self.slot)


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to do the work now. `token` fences off the worker that had it before."""

    ask: Ask
    token: str

    @property
    def key_outside(self) -> str:
        """An idempotency key for a service that the work calls: always the same for the same caller and key."""
        return self.ask.name.id


@dataclass(frozen=True, slots=True)
class Joined:
    """Returned by work whose effect commits together with the receipt. `decide` returns plain JSON data.

    The scope's home must be the turn's slot.
    """

    scope: Scope
    decide: Decide[Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to a key. `value` is plain JSON data; None if it was too large to store, or was pruned."""

    value: Any
    replayed: bool
    kept: bool = True


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Work whose end was not recorded, for its completer. `note` is what the caller passed to `Guard.run`."""

    caller: str
    key: str
    key_outside: str
    operation: str
    note: Mapping[str, object]
    began_at: datetime


@dataclass(frozen=True, slots=True)
class Settled:
    """What a completer found out: the work happened, with this answer; or it did not happen and never will."""

    happened: bool
    value: Any = None


Work = Callable[[Turn], Awaitable[Any]]
"""Returns plain JSON data, or `Joined`."""

Completer = Callable[[Unfinished], Awaitable[Settled | None]]
"""Finds out what became of unfinished work; returns None while that is unknown, to be asked again later.

It is cancelled after the time of a lease, and asked again later.
"""


def claimed(ask: Ask, token: str, now: datetime, due_at: datetime) -> Record:
    """A new claim, leased until `due_at`."""
    body = {
        "state": "running",
        "caller": ask.caller,
        "key": ask.key,
        "operation": ask.operation,
        "fingerprint": ask.fingerprint,
        "effects": ask.effects.value,
        "note": dict(ask.note),
        "token": token,
        "at": to_micros(now),
    }
    return Record(KIND, ask.name.id, ask.slot, ask.caller, 1, body, due_at)


def is_claimed_by(record: Record | None, token: str) -> bool:
    """Whether a record is a claim held by this token."""
    return record is not None and record.body["state"] != "done" and record.body["token"] == token


class Settling(Protocol):
    """What settling a key needs of its guard."""

    store: Store
    clock: Callable[[], datetime]
    lease: timedelta
    completers: Mapping[str, Completer]

    async def finish(self, turn: Turn, given: Any) -> Outcome:
        """Keep the answer of a turn."""
        ...

    async def release(self, turn: Turn) -> None:
        """Free the key of a turn."""
        ...
