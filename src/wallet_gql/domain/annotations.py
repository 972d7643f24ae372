"""What one side of a transfer notes about it for itself: a category and metadata. The other side never sees it.

Each side has a record of its own, in the slot of its account. So a payer's is written in the commit of the payment, and
every read names whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from .errors import InvalidInput, reasons
from .frozen import frozen
from .ids import AccountId, TransferId, slot_of
from .model import Record, RecordKey
from .text import check_text

ANNOTATION: Final = "annotation"
"""The kind of its records."""

CATEGORY_MAX: Final = 40
"""The longest category, in characters."""

PAIRS_MAX: Final = 10
"""The most pairs of metadata."""

PAIR_NAME_MAX: Final = 40
PAIR_VALUE_MAX: Final = 200
"""The longest name and value of a pair, in characters."""


class Side(NamedTuple):
    """One side of a transfer: the account that it debits or credits."""

    account_id: AccountId
    transfer_id: TransferId

    @property
    def key(self) -> RecordKey:
        """The key of its annotation's record."""
        return RecordKey(ANNOTATION, f"{self.account_id}:{self.transfer_id}", slot_of(self.account_id))


@frozen
class Annotation:
    """What a side has noted. `metadata` is in the order of its names; `version` is 0 before anything was noted."""

    category: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    version: int = 0

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return bool(self.category or self.metadata)

    def checked(self) -> Annotation:
        """The same, with its pairs in order. Raises InvalidInput."""
        if not self:
            return self
        check_category(self.category)
        return replace(self, metadata=check_pairs(self.metadata))

    def fingerprinted(self) -> dict[str, str]:
        """Its part of a payment's fingerprint: nothing if it says nothing, so that older payments keep theirs."""
        category = {"category": self.category} if self.category else {}
        return {**category, **{f"metadata.{name}": value for name, value in self.metadata}}

    def to_record(self, side: Side, owner: str) -> Record:
        """The record, in its first version."""
        kind, name, slot = side.key
        return Record(kind, name, slot, owner, 1, {"category": self.category, "metadata": dict(self.metadata)})

    @classmethod
    def from_record(cls, record: Record | None) -> Annotation:
        """What a record says; nothing, if there is none."""
        if record is None:
            return cls()
        metadata = record.body["metadata"]
        assert isinstance(metadata, Mapping)
        return cls(str(record.body["category"]), tuple(sorted(metadata.items())), record.version)


UNANNOTATED: Final = Annotation()


def check_category(category: str) -> None:
    """Raise InvalidInput unless it is readable text of at most `CATEGORY_MAX` characters."""
    check_text(category, "category", length_max=CATEGORY_MAX)


def check_pair_name(name: str) -> None:
    """Raise InvalidInput unless it is readable text of 1 to `PAIR_NAME_MAX` characters."""
    check_text(name, "metadata", length_min=1, length_max=PAIR_NAME_MAX)


def check_pair_value(value: str) -> None:
    """Raise InvalidInput unless it is readable text of at most `PAIR_VALUE_MAX` characters."""
    check_text(value, "metadata", length_max=PAIR_VALUE_MAX)


def check_pairs(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The pairs in the order of their names. Raises InvalidInput: too many, a name twice, or a wrong text."""
    given = tuple(sorted(pairs))
    if len(given) > PAIRS_MAX or len({name for name, _ in given}) < len(given):
        raise InvalidInput("metadata", reasons.PAIRS(most=PAIRS_MAX))
    for name, value in given:
        check_pair_name(name)
        check_pair_value(value)
    return given
