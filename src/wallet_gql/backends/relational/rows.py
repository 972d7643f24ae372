"""The values of the relational backends' UPDATE statements."""

from __future__ import annotations

from typing import Final

from ...domain.codec import to_micros
from ...domain.model import Account
from ..kit.kinds import HOLD, Row

CLOSING: Final = ("state", "captured_minor", "closed_at", "transfer_id")
"""The columns of a hold that change when it closes."""

closing_row = HOLD.reader(*CLOSING, "id")
"""The values of `CLOSING`, then the id of the hold. The update requires that the hold is still open."""


def account_moves(before: Account, after: Account) -> Row:
    """What every change of an account writes: the differences of its balances, the new sequence and time."""
    moved = after.posted_minor - before.posted_minor, after.held_minor - before.held_minor
    return (*moved, after.sequence, to_micros(after.changed_at))


def account_update(before: Account, after: Account) -> Row:
    """A relative update: `account_moves`, the status, and the old values that the row must still have."""
    return (*account_moves(before, after), after.status.value, after.id, before.sequence)
