"""The tables of the relational backends, owned by SQLAlchemy Core and shared by all of them.

Amounts, sequences and times are 64-bit integers (minor units; microseconds since 1970, UTC). The CHECK on `accounts` is
the last line: the database itself refuses an overdraft if all else fails. See `docs/schema.md` for the picture.
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
    UniqueConstraint,
    text,
)

metadata = MetaData()

BIG = BigInteger().with_variant(Integer(), "sqlite")
_OPEN: Final = text("state = 'open'")
_DUE: Final = text("due_at IS NOT NULL")
_REVERSAL: Final = text("reverses IS NOT NULL")


def _table(name: str, *parts: Any) -> Table:
    """A table that SQLite keeps typed and clustered by its primary key."""
    return Table(name, metadata, *parts, sqlite_strict=True, sqlite_with_rowid=False)


def _text(name: str, **options: Any) -> Column[str]:
    return Column(name, Text, **{"nullable": False, **options})


def _big(name: str, **options: Any) -> Column[int]:
    return Column(name, BIG, **{"nullable": False, **options})


accounts = _table(
    "accounts",
    _text("id", primary_key=True),
    _text("owner"),
    _text("currency"),
    _big("created_at"),
    _big("changed_at"),
    _text("status"),
    _big("posted_minor"),
    _big("held_minor"),
    _big("sequence"),
    UniqueConstraint("owner", "currency", name="accounts_one_per_currency"),
    CheckConstraint("held_minor >= 0 AND posted_minor >= held_minor", name="accounts_floor"),
)

entries = _table(
    "entries",
    _text("account_id", primary_key=True),
    _big("sequence", primary_key=True),
    _text("transfer_id"),
    _big("amount_minor"),
    _big("balance_minor"),
    _big("at"),
    CheckConstraint("balance_minor >= 0", name="entries_floor"),
    Index("entries_by_transfer", "transfer_id"),
)

system_entries = _table(
    "system_entries",
    _text("transfer_id", primary_key=True),
    _text("account_id", primary_key=True),
    _big("amount_minor"),
    _big("at"),
)

transfers = _table(
    "transfers",
    _text("id", primary_key=True),
    _text("kind"),
    _text("debit_account_id"),
    _text("credit_account_id"),
    _big("amount_minor"),
    _text("currency"),
    _big("at"),
    _text("actor"),
    _text("idempotency_key"),
    _big("fee_minor"),
    _text("reverses", nullable=True),
    _text("hold_id", nullable=True),
    _text("reference"),
    Index("transfers_by_reversed", "reverses", sqlite_where=_REVERSAL, postgresql_where=_REVERSAL),
)

holds = _table(
    "holds",
    _text("id", primary_key=True),
    _text("account_id"),
    _text("payee_account_id"),
    _text("closer"),
    _big("amount_minor"),
    _text("currency"),
    _big("created_at"),
    _big("expires_at", nullable=True),
    _text("state"),
    _big("captured_minor"),
    _big("closed_at", nullable=True),
    _text("transfer_id", nullable=True),
    _text("reference"),
    Index("holds_open", "account_id", "expires_at", sqlite_where=_OPEN, postgresql_where=_OPEN),
    Index("holds_due", "expires_at", "id", sqlite_where=_OPEN, postgresql_where=_OPEN),
)

receipts = _table(
    "receipts",
    _big("slot", primary_key=True),
    _text("actor", primary_key=True),
    _text("key", primary_key=True),
    _text("operation"),
    _text("fingerprint"),
    _big("at"),
    _text("transfer_id", nullable=True),
    _text("outcome", nullable=True),
    _big("leader", nullable=True),
)

records = _table(
    "records",
    _text("kind", primary_key=True),
    _text("id", primary_key=True),
    _big("slot", primary_key=True),
    _text("owner"),
    _big("version"),
    _text("body"),
    _big("due_at", nullable=True),
    Index("records_by_owner", "kind", "owner", "id"),
    Index("records_due", "kind", "due_at", "id", sqlite_where=_DUE, postgresql_where=_DUE),
)

ALL: Final = (accounts, entries, system_entries, transfers, holds, receipts, records)
