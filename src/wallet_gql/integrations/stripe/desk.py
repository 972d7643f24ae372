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
from ...domain.ids import OPERATOR, TransferId, UserId, make_transfer_id
from ...domain.model import Record, RecordKey
from ...domain.payments import (
    NOTE_MAX,
    PROVIDER,
    QUARANTINE,
    Alarm,
    Settlement,
    Step,
    StoredAlarm,
    alarm_key,
    settled,
)
from ...domain.spending import Limits
from ...domain.text import check_text
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

    async def alarms(self, *, with_settled: bool = False) -> list[StoredAlarm]:
        """The open alarms, or all of them; oldest first. Raises Unavailable."""
        found = await _alarms_of(self.store, PROVIDER)
        if with_settled:
            # One that is settled between the two lists is in both: the settled one counts, as it was read later.
            found |= await _alarms_of(self.store, OPERATOR)
        return sorted(found.values(), key=lambda alarm: (alarm.at, alarm.id))

    async def settle(self, alarm_id: str, note: str) -> tuple[StoredAlarm, bool] | None:
        """Store that the operator has seen to an alarm; `note` says what was done.

        Returns the alarm, and whether this call settled it: an alarm is settled once, and keeps its first settlement.
        It stays settled when the provider reports the same again. None if there is no such alarm.

        Raises:
            InvalidInput: the note is empty, too long, or has control characters.
            Unavailable, InDoubt: as `Store.execute`; it is safe to settle the alarm again.
        """
        key = alarm_key(alarm_id)
        seen_to = Settlement(OPERATOR, self.clock(), check_text(note, "note", length_max=NOTE_MAX, length_min=1))
        if key is None:
            return None

        def decide(snapshot: Snapshot) -> Decision[tuple[StoredAlarm, bool] | None]:
            found = snapshot.record(key)
            if found is None:
                return Decision(Changes(), None)
            before = StoredAlarm.from_record(found)
            if before.settlement is not None:
                return Decision(Changes(), (before, False))
            after = settled(found, seen_to)
            return Decision(Changes(records=(after,)), (StoredAlarm.from_record(after), True))

        scope = Scope(key.slot, records=(key,))
        done = (await self.store.execute(scope, decide, timeout_seconds=self.timeout_seconds)).result
        if done is not None and done[1]:
            log.info("alarm %s was settled by %s", alarm_id, OPERATOR)
        return done


async def count_open_alarms(store: Store, most: int) -> int:
    """How many alarms are open; `most` if there are more. Raises Unavailable."""
    return min(len(await _alarms_of(store, PROVIDER, most)), most)


async def _alarms_of(store: Store, owner: str, most: int | None = None) -> dict[str, StoredAlarm]:
    """The alarms of an owner by id: all, or pages of them until there are `most`."""
    found: dict[str, StoredAlarm] = {}
    after = ""
    while True:
        page = await store.list_records(QUARANTINE, owner, after=after, limit=PAGE_MAX)
        found |= {alarm.id: alarm for alarm in map(StoredAlarm.from_record, page.items)}
        if not page.has_more or (most is not None and len(found) >= most):
            return found
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
