"""What the relational backends write of a change, as the values of one update."""

from __future__ import annotations

from typing import Final

from ...domain.codec import to_micros
from ...domain.model import Account
from ..kit.kinds import HOLD, Row

CLOSING: Final = ("state", "captured_minor", "closed_at", "transfer_id")
"""The columns of a hold that change when it closes."""

closing_row = HOLD.reader(*CLOSING, "id")
"""The values of `CLOSING`, and the id of the hold that must still be open."""


def account_moves(before: Account, after: Account) -> Row:
    """What every change of an account writes: by how much its balances change, the new sequence and time."""
    moved = after.posted_minor - before.posted_minor, after.held_minor - before.held_minor
    return (*moved, after.sequence, to_micros(after.changed_at))


def account_update(before: Account, after: Account) -> Row:
    """A relative update: `account_moves`, the status, and which row it must still be."""
    return (*account_moves(before, after), after.status.value, after.id, before.sequence)
