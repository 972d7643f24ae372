"""Small writes of one record each."""

from __future__ import annotations

from collections.abc import Callable

from ..domain.changes import Changes, Decision, Scope, Snapshot
from ..domain.model import Record, RecordKey
from ..storage import Store


async def read(store: Store, key: RecordKey) -> Record | None:
    """The record of that name."""
    return (await store.fetch(Scope(key.slot, records=(key,)))).record(key)


async def put(store: Store, key: RecordKey, make: Callable[[Record | None], Record | None]) -> bool:
    """Write what `make` makes of the record as it is, unless that is None; answers whether it was written."""

    def decide(snapshot: Snapshot) -> Decision[bool]:
        record = make(snapshot.record(key))
        return Decision(Changes(records=(record,) if record else ()), record is not None)

    return (await store.execute(Scope(key.slot, records=(key,)), decide)).result


async def remove(store: Store, key: RecordKey, still: Callable[[Record], bool], *beside: Record) -> bool:
    """Remove the record if `still` says so of it, and then write those `beside`; answers whether it was removed."""

    def decide(snapshot: Snapshot) -> Decision[bool]:
        found = snapshot.record(key)
        if found is None or not still(found):
            return Decision(Changes(), result=False)
        return Decision(Changes(records=beside, removed=(key,)), result=True)

    scope = Scope(key.slot, records=(key, *(record.key for record in beside)))
    return (await store.execute(scope, decide)).result
