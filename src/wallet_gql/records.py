"""Records over any store: read one, change one by compare-and-set, and sweep what is due.

A change is decided inside the commit that writes it: of two writers at once, the second decides on what the first has
written. So no caller counts versions, and none retries.

A sweep looks at everything of a kind whose time has come. What fails is counted, logged and put off, each time for
longer, and never keeps the rest waiting. It is put off in the memory of this process and not by moving `due_at`: until
then a name is reserved, a key leased or money held, and what cannot be written cannot be moved.
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
from .storage import TIMEOUT_SECONDS, Store

log: Final = logging.getLogger("wallet_gql.sweeps")

Due = Hold | Record

SweepKind = Literal["claim", "delivery", "event", "hold", "idempotency", "session", "throttle", "topup", "withdrawal"]
"""What sweeps look at. The tests run every one of them beside a record that cannot be had."""

LIMIT: Final = 1_000
"""How much one sweep looks at, unless its caller says otherwise."""

_PUT_OFF_SECONDS: Final = 60
_PUT_OFF_MAX_SECONDS: Final = 3_600
_PUT_OFF_COUNT_MAX: Final = 1_000
"""How many are remembered as put off."""

_EXTRA_MAX: Final = 10_000
"""How much longer the list may be that a sweep asks for, so that it reaches past what is put off."""


async def read(store: Store, key: RecordKey) -> Record | None:
    """The record of that name. Raises Unavailable."""
    return (await store.fetch(ReadSet(records=(key,)))).record(key)


async def change(
    store: Store,
    key: RecordKey,
    make: Callable[[Record | None], Record | None],
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Record | None:
    """Write what `make` makes of the record as it is, as its next version; answers what was written.

    None from `make` is: leave it as it is. `make` may run several times; its `version` is overwritten.

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
    """Write what `make` makes of a record unless somebody has written it since; answers whether it was written.

    Raises as `change`.
    """

    def unless_written(found: Record | None) -> Record | None:
        return make(found) if found is not None and found.version == seen.version else None

    return await change(store, seen.key, unless_written) is not None


async def remove(store: Store, key: RecordKey, still: Callable[[Record], bool], *beside: Record) -> bool:
    """Remove the record if `still` says so of it, and with it write those `beside`; answers whether it was removed.

    Raises as `change`.
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
    """What came of a sweep: how many were settled, and how many failed and are tried again later."""

    done: int = 0
    failed: int = 0

    def __add__(self, other: Swept) -> Swept:
        """Both together."""
        return Swept(self.done + other.done, self.failed + other.failed)


@dataclass(slots=True)
class _PutOff:
    until: datetime
    seconds: int
    count: int


class Backlog:
    """What is due of a kind, less what has failed here and is put off.

    `group` names what is settled together: of several that have one name, one is looked at, for all of them.
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
        """What to look at now, by group, the oldest first; `limit` groups at most. None: it cannot be had, as logged.

        Whatever the store raises: one thing that cannot be read must not keep other kinds from being swept.
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
            elif not self.is_put_off(name):  # somebody else has settled it
                del self._put_off[name]
        return [items for name, items in groups.items() if not self.is_put_off(name)][:limit]

    def is_put_off(self, name: str) -> bool:
        """Whether it has failed and its time has not come again."""
        found = self._put_off.get(name)
        return found is not None and self._clock() < found.until

    async def look(self, name: str, settle: Callable[[], Awaitable[object]], count: int = 1) -> Swept:
        """Settle a group; `settle` answers whether there was something to do. If it fails, put the group off."""
        answers: list[object] = []

        async def step() -> None:
            answers.append(await settle())

        if not await attempt(log, f"{self.kind} {name}", step):
            self._later(name, count)
            return Swept(failed=count)
        self._put_off.pop(name, None)
        return Swept(done=count if answers[0] else 0)

    def _later(self, name: str, count: int) -> None:
        before = self._put_off.pop(name, None)  # and so the newest is the last
        seconds = min(2 * before.seconds, _PUT_OFF_MAX_SECONDS) if before else _PUT_OFF_SECONDS
        self._put_off[name] = _PutOff(self._clock() + timedelta(seconds=seconds), seconds, count)
        if len(self._put_off) > _PUT_OFF_COUNT_MAX:
            del self._put_off[next(iter(self._put_off))]


@dataclass(frozen=True, slots=True)
class Sweep:
    """The sweep of one kind. `settle` looks at one thing that is due and answers whether there was something to do.

    `at_once` is more than one where `settle` waits for somebody outside.
    """

    backlog: Backlog
    settle: Callable[[Due], Awaitable[bool]]
    at_once: int = 1

    async def run(self, limit: int = LIMIT) -> Swept:
        """Look at up to `limit` of what is due. What one of them raises, or the list, is logged and counted instead."""
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
    """One sweep after the other; answers their sum."""
    return sum([await sweep.run(limit) for sweep in sweeps], Swept())
