"""Dead letters: events that were given up, as records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ...domain.ids import AccountId, UserId, is_id, slot_of
from ...domain.model import Record, RecordKey

DEAD: Final = "dead_letter"
"""The kind of the records of dead letters."""

_DIGITS: Final = 20
"""How many digits a sequence has in an id, so that ids are in the order of sequences."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that was given up at `at`, and its last error."""

    merchant_id: UserId
    account_id: AccountId
    sequence: int
    event_id: str
    transfer_id: str
    error: str
    at: datetime

    @property
    def id(self) -> str:
        """The id of its record."""
        return dead_key(self.account_id, self.sequence).id

    @classmethod
    def from_record(cls, record: Record) -> DeadLetter:
        """Read it from its record."""
        account_id, _, sequence = record.id.partition(":")
        event, moved, error = (str(record.body[name]) for name in ("event", "transfer", "error"))
        assert record.due_at is not None
        return cls(UserId(record.owner), AccountId(account_id), int(sequence), event, moved, error, record.due_at)


def is_letter_id(text: str) -> bool:
    """Whether it could be the id of a dead letter."""
    account_id, _, sequence = text.partition(":")
    return is_id("acc", account_id) and len(sequence) == _DIGITS and sequence.isascii() and sequence.isdecimal()


def dead_key(account_id: AccountId, sequence: int) -> RecordKey:
    """The key of a dead letter's record."""
    return RecordKey(DEAD, f"{account_id}:{sequence:0{_DIGITS}d}", slot_of(account_id))
