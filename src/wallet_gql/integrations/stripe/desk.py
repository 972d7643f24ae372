"""What the flows share: loading a flow's record, and committing what the provider said together with the money."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

from ...domain.changes import Changes, Decision, Scope, Snapshot
from ...domain.errors import Contended, InvariantViolated, WalletError
from ...domain.ids import TransferId, make_transfer_id
from ...domain.model import Record, RecordKey
from ...domain.payments import PROVIDER, QUARANTINE, Alarm, Step
from ...failpoints import reach
from ...idempotency import Answer, Attempt, Effect, Refused, once
from ...storage import PAGE_MAX, TIMEOUT_SECONDS, Store
from ...verbs.attempts import milliseconds

log = logging.getLogger(__name__)

_ALARMS_MAX: Final = 5
"""How often a step is tried whose alarm is another each time."""

_PUT_OFF: Final = timedelta(minutes=1)
"""When a flow is looked at again that failed in a way nobody expected."""


class Flow(Protocol):
    """A top-up or a withdrawal."""

    @property
    def key(self) -> RecordKey:
        """Where it lives."""
        ...

    @property
    def version(self) -> int:
        """How often it was written."""
        ...

    def to_record(self) -> Record:
        """As it is stored, one version on."""
        ...


F = TypeVar("F", bound=Flow)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Desk:
    """The store, the clock and chance, as all flows use them. No call outside is ever made inside `execute`."""

    store: Store
    clock: Callable[[], datetime]
    entropy: Callable[[], int]
    timeout_seconds: float = TIMEOUT_SECONDS
    sweep_at_once: int = 8
    """How many flows a sweep asks the provider about at the same time."""

    def transfer_ids(self, slot: int, count: int = 1) -> list[TransferId]:
        """Fresh transfer ids of a slot."""
        at_ms = milliseconds(self.clock())
        return [make_transfer_id(slot, at_ms, self.entropy()) for _ in range(count)]

    async def record(self, key: RecordKey) -> Record | None:
        """A record as it is now."""
        return (await self.store.fetch(Scope(key.slot, records=(key,)))).record(key)

    async def once(
        self, scope: Scope, attempt: Attempt, now: datetime, effect: Callable[[Snapshot], Effect[R]]
    ) -> Answer[R]:
        """Run a caller's command under its key. Raises its refusal, now or remembered."""

        def decide(snapshot: Snapshot) -> Decision[Answer[R]]:
            return once(snapshot, attempt, now, lambda: effect(snapshot))

        done = await self.store.execute(scope, decide, timeout_seconds=self.timeout_seconds)
        if isinstance(done.result, Refused):
            raise done.result.error
        return done.result

    async def fold(
        self, scope: Scope, key: RecordKey, read: Callable[[Record], F], step: Callable[[Snapshot, F], Step[F]]
    ) -> F:
        """Commit a step of a flow: its record, the money and the step's alarm in one commit; answers what is stored.

        `step` gets the flow as it is inside the commit, which may be further on than the one the scope was made for.
        """
        named = replace(scope, records=(*scope.records, key))

        def decide(snapshot: Snapshot) -> Decision[tuple[F, Step[F], bool]]:
            found = snapshot.record(key)
            if found is None:
                raise InvariantViolated(f"{key.kind} {key.id} has vanished")
            before = read(found)
            made = step(snapshot, before)
            if made.alarm is not None and made.alarm.key(key.slot) not in named.records:
                return Decision(Changes(), (before, made, False))  # the scope has to name its alarm; nothing is written
            changed = (made.flow.to_record(),) if made.flow != before else ()
            told = () if made.alarm is None else self._new(snapshot, made.alarm, key.slot)
            after = read(changed[0]) if changed else before
            return Decision(made.changes + Changes(records=(*changed, *told)), (after, made, bool(told)))

        for _ in range(_ALARMS_MAX):
            after, made, is_new = (await self.store.execute(named, decide, timeout_seconds=self.timeout_seconds)).result
            if made.alarm is None or made.alarm.key(key.slot) in named.records:
                break
            named = replace(named, records=(*named.records, made.alarm.key(key.slot)))
        else:
            raise Contended(f"{key.kind} {key.id} changes all the time")
        reach("payments.folded")
        if is_new and made.alarm is not None:
            _log(made.alarm)
        return after

    async def alarm(self, alarm: Alarm) -> None:
        """Keep what an operator has to look at and belongs to no flow; it is logged when it is new."""
        key = alarm.key()

        def decide(snapshot: Snapshot) -> Decision[bool]:
            told = self._new(snapshot, alarm, key.slot)
            return Decision(Changes(records=told), bool(told))

        scope = Scope(key.slot, records=(key,))
        if (await self.store.execute(scope, decide, timeout_seconds=self.timeout_seconds)).result:
            _log(alarm)

    def _new(self, snapshot: Snapshot, alarm: Alarm, slot: int) -> tuple[Record, ...]:
        """The alarm's record, unless there is one."""
        return () if snapshot.record(alarm.key(slot)) is not None else (alarm.to_record(self.clock(), slot),)

    async def alarms(self) -> list[tuple[Alarm, datetime]]:
        """Everything that an operator has to look at, the oldest first."""
        found: list[tuple[Alarm, datetime]] = []
        after = ""
        while True:
            page = await self.store.list_records(QUARANTINE, PROVIDER, after=after, limit=PAGE_MAX)
            found += [Alarm.from_record(record) for record in page.items]
            if not page.has_more:
                return sorted(found, key=lambda row: row[1])
            after = page.items[-1].id

    async def sweep(self, kind: str, limit: int, look: Callable[[Record], Awaitable[object]]) -> int:
        """Look at the flows that are due, a few at a time; answers how many. One that fails keeps no other waiting.

        Raises:
            Exception: what the last one that failed has raised, when all have been looked at.
        """
        due = [item for item in await self.store.list_due(kind, self.clock(), limit) if isinstance(item, Record)]
        failed: Exception | None = None
        for start in range(0, len(due), self.sweep_at_once):
            records = due[start : start + self.sweep_at_once]
            outcomes = await asyncio.gather(*(look(record) for record in records), return_exceptions=True)
            for record, outcome in zip(records, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    failed = outcome
                    trace = None if isinstance(outcome, WalletError) else outcome
                    log.warning("%s %s will be gone on with: %s", kind, record.id, outcome, exc_info=trace)
                    await self._put_off(record)
                elif isinstance(outcome, BaseException):
                    raise outcome
        if failed is not None:
            raise failed
        return len(due)

    async def _put_off(self, record: Record) -> None:
        """Look at it later, unless it was written meanwhile: many that fail must not keep others from being due."""
        later = replace(record, version=record.version + 1, due_at=self.clock() + _PUT_OFF)

        def decide(snapshot: Snapshot) -> Decision[None]:
            same = snapshot.record(record.key) == record
            return Decision(Changes(records=(later,) if same else ()), None)

        scope = Scope(record.slot, records=(record.key,))
        with suppress(WalletError):
            await self.store.execute(scope, decide, timeout_seconds=self.timeout_seconds)


def _log(alarm: Alarm) -> None:
    told = alarm.printable()
    log.error("payments need an operator: %s (%s): %s", told.about, told.flow_id or "-", told.reason)
