"""What becomes of claims whose work was not seen to end, and of old answers: the guard's sweep, record by record."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ..domain.changes import Changes, Decision, Scope, Snapshot
from ..domain.codec import from_micros
from ..domain.model import Record
from .turns import Ask, Completer, Effects, Turn, Unfinished

if TYPE_CHECKING:
    from .guard import Guard

log = logging.getLogger("wallet_gql.idempotency")

_LATER_MAX: Final = timedelta(days=1)


async def settle(guard: Guard, record: Record) -> int:
    """Settle what is due, if it can be now; answers how many were. What goes wrong is logged, for there are others."""
    try:
        if record.body["state"] == "done":
            return await _forget(guard, record)
        if record.body["effects"] == Effects.JOINED:
            return int(await _change(guard, record, lambda _: None))
        completer = guard.completers.get(str(record.body["operation"]))
        if completer is None:
            return await _postpone(guard, record)
        return await _complete(guard, record, completer)
    except Exception:
        log.exception("a key of %s could not be settled; it is tried again", record.body["operation"])
        return 0


async def _postpone(guard: Guard, record: Record) -> int:
    """Nobody here can say what happened: in doubt, and looked at ever later, so that it keeps nobody else waiting.

    The worker, if it lives, may still end it, and so may the completer of another process.
    """
    log.error("a key of %s is in doubt and the operation has no completer", record.body["operation"])
    now = guard.clock()
    age = now - from_micros(int(str(record.body["at"])))
    due_at = now + min(max(age, guard.lease), _LATER_MAX)

    def later(found: Record) -> Record:
        return replace(found, version=found.version + 1, body={**found.body, "state": "doubt"}, due_at=due_at)

    await _change(guard, record, later)
    return 0


async def _complete(guard: Guard, record: Record, completer: Completer) -> int:
    """Take the claim over, so that its worker cannot end it any more, and ask the completer."""
    operation, token, now = str(record.body["operation"]), secrets.token_hex(16), guard.clock()

    def take(found: Record) -> Record:
        body = {**found.body, "state": "doubt", "token": token}
        return replace(found, version=found.version + 1, body=body, due_at=now + guard.lease)

    if not await _change(guard, record, take):
        return 0
    ask = Ask(record.owner, str(record.body["key"]), operation, "", Effects.OUTSIDE, record.slot)
    began_at = from_micros(int(str(record.body["at"])))
    note = record.body["note"]
    assert isinstance(note, Mapping)
    settled = await completer(Unfinished(record.owner, ask.key, record.id, operation, note, began_at))
    if settled is None:
        return 0
    turn = Turn(ask, token)
    if settled.happened:
        await guard.finish(turn, settled.value)
    else:
        await guard.release(turn)
    return 1


async def _forget(guard: Guard, record: Record) -> int:
    def pruned(found: Record) -> Record:
        body = {**found.body, "value": None, "kept": False}
        return replace(found, version=found.version + 1, body=body, due_at=None)

    return int(await _change(guard, record, pruned))


async def _change(guard: Guard, seen: Record, make: Callable[[Record], Record | None]) -> bool:
    """Write what `make` gives (None: remove it), unless somebody has written the record since it was seen."""

    def decide(snapshot: Snapshot) -> Decision[bool]:
        found = snapshot.record(seen.key)
        if found is None or found.version != seen.version:
            return Decision(Changes(), result=False)
        made = make(found)
        changes = Changes(removed=(seen.key,)) if made is None else Changes(records=(made,))
        return Decision(changes, result=True)

    return (await guard.store.execute(Scope(seen.slot, records=(seen.key,)), decide)).result
