"""What the flows share: loading a flow's record, and committing the provider's news together with the money."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol, TypeVar

from ...domain.changes import Changes, Decision, Scope, Snapshot
from ...domain.errors import Contended, InDoubt, InvariantViolated, Unavailable
from ...domain.ids import TransferId, UserId, make_transfer_id
from ...domain.model import Record, RecordKey
from ...domain.payments import PROVIDER, QUARANTINE, Alarm, Step
from ...domain.spending import Limits
from ...failpoints import reach
from ...records import Backlog, Due, Sweep, SweepKind, change, read
from ...storage import PAGE_MAX, TIMEOUT_SECONDS, Store
from ...verbs.attempts import milliseconds

log = logging.getLogger(__name__)

_ALARMS_MAX: Final = 5
"""How often a step is tried again because its scope does not name the alarm that it raises."""


class Flow(Protocol):
    """A top-up or a withdrawal."""

    @property
    def key(self) -> RecordKey:
        """The key of its record."""
        ...

    @property
    def owner(self) -> UserId:
        """The customer."""
        ...

    @property
    def version(self) -> int:
        """The version of its record: how often it was written."""
        ...

    def to_record(self) -> Record:
        """Its record, in the version that was read."""
        ...


F = TypeVar("F", bound=Flow)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Desk:
    """The store, the clock and the random source of all flows. No call outside is ever made inside `execute`."""

    store: Store
    clock: Callable[[], datetime]
    entropy: Callable[[], int]
    timeout_seconds: float = TIMEOUT_SECONDS
    sweep_at_once: int = 8
    """For how many flows a sweep calls the provider at the same time."""
    spending_limits: Mapping[str, Limits] = field(default_factory=dict)

    def transfer_ids(self, slot: int, count: int = 1) -> list[TransferId]:
        """New transfer ids in a slot."""
        at_ms = milliseconds(self.clock())
        return [make_transfer_id(slot, at_ms, self.entropy()) for _ in range(count)]

    async def record(self, key: RecordKey) -> Record | None:
        """A record; None if there is none."""
        return await read(self.store, key)

    def sweep(self, kind: SweepKind, advance: Callable[[str], Awaitable[object]]) -> Sweep:
        """The sweep that advances the due flows of a kind, several at a time, since each waits for the provider."""

        async def settle(record: Due) -> bool:
            await advance(record.id)
            return True

        return Sweep(Backlog(self.store, kind, self.clock), settle, self.sweep_at_once)

    async def fold(
        self, scope: Scope, key: RecordKey, read: Callable[[Record], F], step: Callable[[Snapshot, F], Step[F]]
    ) -> F:
        """Commit one step of a flow: its record, the money and the step's alarm together; returns the stored flow.

        `step` gets the flow as it is inside the commit. That may be newer than the one the scope was made for.
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
            changed = (made.flow.to_record().after(found),) if made.flow != before else ()
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
        """Store an alarm for the operator that belongs to no flow; it is logged once, when it is new."""
        key = alarm.key()
        told = alarm.to_record(self.clock(), key.slot)

        def unless_known(found: Record | None) -> Record | None:
            return told if found is None else None

        if await change(self.store, key, unless_known, timeout_seconds=self.timeout_seconds):
            _log(alarm)

    def _new(self, snapshot: Snapshot, alarm: Alarm, slot: int) -> tuple[Record, ...]:
        """The alarm's record, unless it is stored already."""
        return () if snapshot.record(alarm.key(slot)) is not None else (alarm.to_record(self.clock(), slot),)

    async def alarms(self) -> list[tuple[Alarm, datetime]]:
        """See `stored_alarms`."""
        return await stored_alarms(self.store)


async def stored_alarms(store: Store) -> list[tuple[Alarm, datetime]]:
    """All alarms and when each was raised, oldest first. Raises Unavailable."""
    found: list[tuple[Alarm, datetime]] = []
    after = ""
    while True:
        page = await store.list_records(QUARANTINE, PROVIDER, after=after, limit=PAGE_MAX)
        found += [Alarm.from_record(record) for record in page.items]
        if not page.has_more:
            return sorted(found, key=lambda row: row[1])
        after = page.items[-1].id


async def read_flow(store: Store, key: RecordKey, of: Callable[[Record], F]) -> F | None:
    """Read a flow; None if there is none."""
    found = await read(store, key)
    return None if found is None else of(found)


@contextmanager
def already_noted() -> Iterator[None]:
    """Turns Unavailable into InDoubt for a repeated key: the first request had an effect, even if this one had none."""
    try:
        yield
    except Unavailable as error:
        raise InDoubt(str(error)) from error


def _log(alarm: Alarm) -> None:
    told = alarm.printable()
    log.error("payments need an operator: %s (%s): %s", told.about, told.flow_id or "-", told.reason)
