"""Lines of history as their rows: an entry's columns, then its transfer's. Records are made when they are asked for.

A page has up to 100 lines, of which a client is shown a few columns. Making two records of each would take most of the
page's time.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Final, cast

from ...domain.codec import from_micros
from ...domain.model import Entry, Transfer
from ...storage import HistoryLine
from .kinds import ENTRY, TRANSFER, Row

_WIDTH: Final = len(ENTRY.columns)
_END: Final = _WIDTH + len(TRANSFER.columns)
_NAMES: Final = (*(f"entry_{c.name}" for c in ENTRY.columns), *(f"transfer_{c.name}" for c in TRANSFER.columns))


def _columns() -> Any:
    """A tuple with these names: C reads them, in no steps of Python."""
    return namedtuple("_Columns", _NAMES)  # noqa: PYI024 - known at run time alone


_Columns: Any = _columns()


class _StoredLine(_Columns):  # type: ignore[misc]  # see above
    """A `HistoryLine` in all but its class. It may have columns behind those of the transfer."""

    sequence = _Columns.entry_sequence
    amount_minor = _Columns.entry_amount_minor
    balance_minor = _Columns.entry_balance_minor
    reference = _Columns.transfer_reference

    @property
    def at(self) -> datetime:
        return from_micros(self.entry_at)

    @cached_property
    def entry(self) -> Entry:
        return ENTRY.from_row(self[:_WIDTH])

    @cached_property
    def transfer(self) -> Transfer:
        return TRANSFER.from_row(self[_WIDTH:_END])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _StoredLine | HistoryLine):
            return False  # not even a tuple with the same columns
        return bool(self.entry == other.entry and self.transfer == other.transfer)

    def __ne__(self, other: object) -> bool:  # a tuple's own would compare columns
        return not self == other

    def __hash__(self) -> int:
        return hash((self.entry, self.transfer))

    def __repr__(self) -> str:
        return repr(HistoryLine(self.entry, self.transfer))


stored_line: Final = cast("Callable[[Row], HistoryLine]", partial(tuple.__new__, _StoredLine))
"""The line of a row."""
