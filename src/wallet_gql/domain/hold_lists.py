"""The lists of a user's holds: one record for the payer, one for whoever may close it. They name the hold, no more.

They are written with the hold, at the payer's home, and never changed. Kinds of records: `hold_out`, `hold_in`.
"""

from __future__ import annotations

from typing import Final

from .ids import HoldId, UserId, is_id, slot_of
from .model import Hold, Record, RecordKey

HOLD_OUT: Final = "hold_out"
HOLD_IN: Final = "hold_in"


def listing_keys(hold_id: HoldId) -> tuple[RecordKey, ...]:
    """The keys of a hold's records, for the scope of the command that places it."""
    return tuple(RecordKey(kind, hold_id, slot_of(hold_id)) for kind in (HOLD_OUT, HOLD_IN))


def listings(hold: Hold, payer: UserId) -> tuple[Record, ...]:
    """The records of a new hold. One that only its own flow closes is on the payer's list alone."""
    owners = {HOLD_OUT: payer, HOLD_IN: hold.closer}
    kept = ((kind, owner) for kind, owner in owners.items() if is_id("usr", owner))
    return tuple(Record(kind, hold.id, slot_of(hold.id), owner, 1) for kind, owner in kept)
