"""Records over any store: read one, change one by compare-and-set, and sweep those that are due.

A change is decided inside the commit that writes it: of two concurrent writers, the second decides on what the first
has written. So callers neither count versions nor retry.

A sweep settles all records of a kind that are due. One that fails is logged, counted and put off, each time for longer,
and does not delay the others. That is remembered in this process, not by moving `due_at`: `due_at` also says how long
a name is claimed, a key leased or money held, and a record that cannot be written cannot be moved either.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal

from .background import attempt
from .domain.changes import Changes, Decision, ReadSet, Scope, Snapshot
from .domain.model import Hold, Record, RecordKey
from .storage import TIMEOUT_SECONDS, Page, Store

log: Final = logging.getLogger("wallet_gql.sweeps")

Due = Hold | Record

SweepKind = Literal["claim", "delivery", "event", "hold", "idempotency", "session", "throttle", "topup", "withdrawal"]
"""The kinds that are swept. For each of them, tests run its sweep with a record that fails."""

LIMIT: Final = 1_000
"""How many records one sweep settles, unless its caller says otherwise."""

_PUT_OFF_SECONDS: Final = 60
_PUT_OFF_MAX_SECONDS: Final = 3_600
_PUT_OFF_COUNT_MAX: Final = 1_000
"""How many records are remembered as put off."""

_EXTRA_MAX: Final = 10_000
"""How many records a sweep lists beyond its limit at most, to reach past those that are put off."""


async def read(store: Store, key: RecordKey) -> Record | None:
    """The record under this key; None if there is none. Raises Unavailable."""
    return (await store.fetch(ReadSet(records=(key,)))).record(key)


async def page_of_records(
    store: Store, kind: str, owner: str, limit: int, *, behind: str, descending: bool, backward: bool
) -> Page[Record]:
    """A page of a list in one order of ids: `limit` records behind an id; `backward`, in front of it.

    Without an id the page begins with the first record; `backward` it ends with the last. Raises Unavailable.
    """
    found = await store.list_records(kind, owner, after=behind, limit=limit, descending=descending is not backward)
    return Page(found.items[::-1], found.has_more) if backward else found


async def change(
    store: Store,
    key: RecordKey,
    make: Callable[[Record | None], Record | None],
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Record | None:
    """Write the record that `make` returns for the current one, as its next version; returns what was written.

    If `make` returns None, nothing is written. It may run several times; the version it sets is overwritten.

    Raises:
        WalletError: whatever `make` raises, with nothing written.
        Unavailable, InDoubt: as `Store.execute`.
    """

    def decide(snapshot: Snapshot) -> Decision[Record | None]:
        before = snapshot.record(key)
        made = make(before)
        after = None if made is None else made.after(before)
        return Decision(Changes(records=() if after is None else (after,)), after)

    scope = Scope(key.slot, records=(key,))
    return (await store.execute(scope, decide, timeout_seconds=timeout_seconds)).result


async def change_seen(store: Store, seen: Record, make: Callable[[Record], Record]) -> bool:
    """Write the record that `make` returns, unless `seen` was changed meanwhile; returns whether it was written.

    All of the record is compared: one that was removed and written again begins with version 1 again. Raises as
    `change`.
    """

    def unless_written(found: Record | None) -> Record | None:
        return make(found) if found is not None and found == seen else None

    return await change(store, seen.key, unless_written) is not None


async def remove(store: Store, key: RecordKey, still: Callable[[Record], bool], *beside: Record) -> bool:
    """Remove the record if `still` is true of it, and write the records `beside` in the same commit.

    Returns whether it was removed. Raises as `change`.
    """

    def decide(snapshot: Snapshot) -> Decision[bool]:
        found = snapshot.record(key)
        if found is None or not still(found):
            return Decision(Changes(), result=False)
        return Decision(Changes(records=beside, removed=(key,)), result=True)

    scope = Scope(key.slot, records=(key, *(record.key for record in beside)))
    return (await store.execute(scope, decide)).result


@dataclass(frozen=True, slots=True)
class Swept:
    """The result of a sweep: how many records were settled, and how many failed and will be tried again."""

    done: int = 0
    failed: int = 0

    def __add__(self, other: Swept) -> Swept:
        """The sum of both."""
        return Swept(self.done + other.done, self.failed + other.failed)


@dataclass(slots=True)
class _PutOff:
    until: datetime
    seconds: int
    count: int


class Backlog:
    """The records of a kind that are due and not put off by this process.

    `group` gives the name under which records are settled together: only the first record of a group is passed to
    `settle`, on behalf of all.
    """

    def __init__(
        self,
        store: Store,
        kind: SweepKind,
        clock: Callable[[], datetime],
        *,
        group: Callable[[Due], str] = lambda item: item.id,
    ) -> None:
        self.kind = kind
        self.group = group
        self._store = store
        self._clock = clock
        self._put_off: dict[str, _PutOff] = {}

    async def ready(self, limit: int = LIMIT) -> list[list[Due]] | None:
        """The due records by group, oldest first; at most `limit` groups. None if they cannot be listed.

        That is logged, whatever the store raises: an unreadable record must not stop the sweeps of other kinds.
        """
        found: list[list[Due]] = []

        async def listed() -> None:
            found.extend(await self._list(limit))

        return found if await attempt(log, f"listing what is due of {self.kind}", listed) else None

    async def _list(self, limit: int) -> list[list[Due]]:
        extra = min(sum(one.count for one in self._put_off.values()), _EXTRA_MAX)
        due = await self._store.list_due(self.kind, self._clock(), limit + extra)
        groups: dict[str, list[Due]] = {}
        for item in due:
            groups.setdefault(self.group(item), []).append(item)
        for name, one in list(self._put_off.items()):
            if name in groups:
                one.count = len(groups[name])
            elif not self.is_put_off(name):  # another process has settled it
                del self._put_off[name]
        return [items for name, items in groups.items() if not self.is_put_off(name)][:limit]

    def is_put_off(self, name: str) -> bool:
        """Whether the group has failed here and must wait longer."""
        found = self._put_off.get(name)
        return found is not None and self._clock() < found.until

    async def look(self, name: str, settle: Callable[[], Awaitable[object]], count: int = 1) -> Swept:
        """Settle a group of `count` records; if that fails, put it off. `settle` returns whether it did anything."""
        answers: list[object] = []

        async def step() -> None:
            answers.append(await settle())

        if not await attempt(log, f"{self.kind} {name}", step):
            self._later(name, count)
            return Swept(failed=count)
        self._put_off.pop(name, None)
        return Swept(done=count if answers[0] else 0)

    def _later(self, name: str, count: int) -> None:
        before = self._put_off.pop(name, None)  # popped first, so that the newest is last in the dict
        seconds = min(2 * before.seconds, _PUT_OFF_MAX_SECONDS) if before else _PUT_OFF_SECONDS
        self._put_off[name] = _PutOff(self._clock() + timedelta(seconds=seconds), seconds, count)
        if len(self._put_off) > _PUT_OFF_COUNT_MAX:
            del self._put_off[next(iter(self._put_off))]


@dataclass(frozen=True, slots=True)
class Sweep:
    """The sweep of one kind. `settle` settles one record that is due and returns whether it did anything.

    `at_once` is how many are settled concurrently: more than one where `settle` waits for a server outside.
    """

    backlog: Backlog
    settle: Callable[[Due], Awaitable[bool]]
    at_once: int = 1

    async def run(self, limit: int = LIMIT) -> Swept:
        """Settle up to `limit` groups. Errors, even of listing them, are logged and counted, not raised."""
        backlog = self.backlog
        listed = await backlog.ready(limit)
        if listed is None:
            return Swept(failed=1)
        ready = iter(listed)

        async def work() -> Swept:
            swept = Swept()
            for items in ready:  # shared by all workers: each takes the next one
                swept += await backlog.look(backlog.group(items[0]), partial(self.settle, items[0]), len(items))
            return swept

        return sum(await asyncio.gather(*(work() for _ in range(self.at_once))), Swept())


async def sweep_all(sweeps: Iterable[Sweep], limit: int = LIMIT) -> Swept:
    """Run the sweeps one after the other; returns the sum of their results."""
    return sum([await sweep.run(limit) for sweep in sweeps], Swept())
