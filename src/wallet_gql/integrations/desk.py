"""What the flows share: loading a flow's record, and committing what the provider said together with the money."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, TypeVar

from ..attempts import milliseconds
from ..domain.changes import Changes, Decision, Scope, Snapshot
from ..domain.errors import InvariantViolated, WalletError
from ..domain.ids import TransferId, make_transfer_id
from ..domain.model import Record, RecordKey
from ..domain.payments import PROVIDER, QUARANTINE, Alarm, Step
from ..failpoints import reach
from ..idempotency import Answer, Attempt, Effect, Refused, once
from ..storage import PAGE_MAX, TIMEOUT_SECONDS, Store

log = logging.getLogger(__name__)


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
        """Commit a step of a flow: its record and the money in one commit; then raise the step's alarm, once.

        `step` gets the flow as it is inside the commit, which may be further on than the one the scope was made for.
        """
        named = replace(scope, records=(*scope.records, key))

        def decide(snapshot: Snapshot) -> Decision[Step[F]]:
            found = snapshot.record(key)
            if found is None:
                raise InvariantViolated(f"{key.kind} {key.id} has vanished")
            before = read(found)
            made = step(snapshot, before)
            changed = (made.flow.to_record(),) if made.flow != before else ()
            return Decision(made.changes + Changes(records=changed), made)

        made = (await self.store.execute(named, decide, timeout_seconds=self.timeout_seconds)).result
        reach("payments.folded")
        if made.alarm is not None:
            await self.alarm(made.alarm, key.slot)
        return made.flow

    async def alarm(self, alarm: Alarm, slot: int | None = None) -> None:
        """Keep what an operator has to look at; it is logged when it is new."""
        key, now = alarm.key(slot), self.clock()

        def decide(snapshot: Snapshot) -> Decision[bool]:
            if snapshot.record(key) is not None:
                return Decision(Changes(), result=False)
            return Decision(Changes(records=(alarm.to_record(now, slot),)), result=True)

        scope = Scope(key.slot, records=(key,))
        if (await self.store.execute(scope, decide, timeout_seconds=self.timeout_seconds)).result:
            told, _ = Alarm.from_record(alarm.to_record(now, slot))
            log.error("payments need an operator: %s (%s): %s", told.about, told.flow_id or "-", told.reason)

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
        """Look at the flows that are due, a few at a time; answers how many. One that fails keeps no other waiting."""
        due = [item for item in await self.store.list_due(kind, self.clock(), limit) if isinstance(item, Record)]
        failed: WalletError | None = None
        for start in range(0, len(due), self.sweep_at_once):
            failed = await _all_of(due[start : start + self.sweep_at_once], look) or failed
        if failed is not None:
            raise failed
        return len(due)


async def _all_of(records: Sequence[Record], look: Callable[[Record], Awaitable[object]]) -> WalletError | None:
    outcomes = await asyncio.gather(*(look(record) for record in records), return_exceptions=True)
    failed: WalletError | None = None
    for outcome in outcomes:
        if isinstance(outcome, WalletError):
            failed = outcome
        elif isinstance(outcome, BaseException):
            raise outcome
    return failed
