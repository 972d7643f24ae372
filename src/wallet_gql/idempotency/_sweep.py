"""Settles abandoned claims and removes old answers: the guard's sweep of one record."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from ..domain.codec import from_micros
from ..domain.model import Record
from ..records import change_seen, remove
from .turns import Ask, Completer, Effects, Settling, Turn, Unfinished

log = logging.getLogger("wallet_gql.idempotency")

_LATER_MAX: Final = timedelta(days=1)


async def settle(keys: Settling, record: Record) -> bool:
    """Settle a due record; returns whether that was possible. Raises what the store and completers raise."""
    if record.body["state"] == "done":
        return await change_seen(keys.store, record, _pruned)
    if record.body["effects"] == Effects.JOINED:
        return await remove(keys.store, record.key, lambda found: found == record)
    completer = keys.completers.get(str(record.body["operation"]))
    if completer is None:
        return await _postpone(keys, record)
    return await _complete(keys, record, completer)


async def _postpone(keys: Settling, record: Record) -> bool:
    """Mark a claim without a completer as in doubt, and wait as long again as it is old (at most a day).

    Its worker, if it is alive, may still finish it, and so may the completer of another process.
    """
    log.error("a key of %s is in doubt and the operation has no completer", record.body["operation"])
    now = keys.clock()
    age = now - from_micros(int(str(record.body["at"])))
    due_at = now + min(max(age, keys.lease), _LATER_MAX)
    await change_seen(keys.store, record, lambda found: found.next({**found.body, "state": "doubt"}, due_at))
    return False


async def _complete(keys: Settling, record: Record, completer: Completer) -> bool:
    """Take the claim over, so that its worker can no longer finish it, and ask the completer.

    Raises TimeoutError if the completer takes longer than the lease: then others may take the claim over, and the other
    keys have waited long enough.
    """
    operation, token, now = str(record.body["operation"]), secrets.token_hex(16), keys.clock()

    def take(found: Record) -> Record:
        return found.next({**found.body, "state": "doubt", "token": token}, now + keys.lease)

    if not await change_seen(keys.store, record, take):
        return False
    ask = Ask(record.owner, str(record.body["key"]), operation, "", Effects.OUTSIDE, record.slot)
    began_at = from_micros(int(str(record.body["at"])))
    note = record.body["note"]
    assert isinstance(note, Mapping)
    async with asyncio.timeout(keys.lease.total_seconds()):
        settled = await completer(Unfinished(record.owner, ask.key, record.id, operation, note, began_at))
    if settled is None:
        return False
    turn = Turn(ask, token)
    if settled.happened:
        await keys.finish(turn, settled.value)
    else:
        await keys.release(turn)
    return True


def _pruned(found: Record) -> Record:
    """The record without its answer; it still shows that the key was used."""
    return found.next({**found.body, "value": None, "kept": False}, None)
