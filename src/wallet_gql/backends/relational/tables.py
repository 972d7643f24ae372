"""The tables of the relational backends in SQLAlchemy. Columns come from the kinds of records; keys and indexes do not.

Amounts, sequences and times are 64-bit integers (minor units; microseconds since 1970, UTC). The CHECK on `accounts` is
the last safeguard: the database itself refuses an overdraft if all other checks fail. `docs/schema.md` has a diagram.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

from ..kit import kinds
from ..kit.kinds import Coding, Kind

metadata = MetaData()

BIG = BigInteger().with_variant(Integer(), "sqlite")
_NUMBERS: Final = (Coding.NUMBER, Coding.SLOT, Coding.TIME)
_IN_USE: Final = text("status <> 'closed'")
_OPEN: Final = text("state = 'open'")
_DUE: Final = text("due_at IS NOT NULL")
_REVERSAL: Final = text("reverses IS NOT NULL")


def _table(kind: Kind[Any], *parts: Any) -> Table:
    """The table of a kind. On SQLite it is STRICT and clustered by its primary key."""
    columns: list[Column[Any]] = [
        Column(c.name, BIG if c.coding in _NUMBERS else Text, primary_key=c.name in kind.key, nullable=c.optional)
        for c in kind.columns
    ]
    return Table(kind.table, metadata, *columns, *parts, sqlite_strict=True, sqlite_with_rowid=False)


accounts = _table(
    kinds.ACCOUNT,
    Index("accounts_by_owner", "owner"),
    Index("accounts_one_in_use", "owner", "currency", unique=True, sqlite_where=_IN_USE, postgresql_where=_IN_USE),
    CheckConstraint("held_minor >= 0 AND posted_minor >= held_minor", name="accounts_floor"),
)

entries = _table(
    kinds.ENTRY,
    CheckConstraint("balance_minor >= 0", name="entries_floor"),
    Index("entries_by_transfer", "transfer_id", "account_id", unique=True),
)

system_entries = _table(kinds.SYSTEM_ENTRY)

transfers = _table(
    kinds.TRANSFER,
    Index("transfers_by_reversed", "reverses", sqlite_where=_REVERSAL, postgresql_where=_REVERSAL),
)

holds = _table(
    kinds.HOLD,
    Index("holds_open", "account_id", "expires_at", sqlite_where=_OPEN, postgresql_where=_OPEN),
    Index("holds_due", "expires_at", "id", sqlite_where=_OPEN, postgresql_where=_OPEN),
)

receipts = _table(kinds.RECEIPT)

records = _table(
    kinds.RECORD,
    Index("records_by_owner", "kind", "owner", "id"),
    Index("records_due", "kind", "due_at", "id", sqlite_where=_DUE, postgresql_where=_DUE),
)

ALL: Final = (accounts, entries, system_entries, transfers, holds, receipts, records)
