"""The ledger's tables, as they were first released.

Later changes have migrations of their own. This one is never edited; a test compares the result of all migrations with
`tables.py`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPEN = sa.text("state = 'open'")
DUE = sa.text("due_at IS NOT NULL")
REVERSAL = sa.text("reverses IS NOT NULL")


def _text(name: str, *, null: bool = False) -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=null)


def _big(name: str, *, null: bool = False) -> "sa.Column[int]":
    return sa.Column(name, BIG, nullable=null)


def _create(name: str, *parts: "sa.schema.SchemaItem") -> None:
    op.create_table(name, *parts, sqlite_strict=True, sqlite_with_rowid=False)


def upgrade() -> None:
    """Create all tables."""
    _create(
        "accounts",
        *(_text("id"), _text("owner"), _text("currency"), _big("created_at"), _big("changed_at"), _text("status")),
        *(_big("posted_minor"), _big("held_minor"), _big("sequence")),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("owner", "currency", name="accounts_one_per_currency"),
        sa.CheckConstraint("held_minor >= 0 AND posted_minor >= held_minor", name="accounts_floor"),
    )
    _create(
        "entries",
        *(_text("account_id"), _big("sequence"), _text("transfer_id")),
        *(_big("amount_minor"), _big("balance_minor"), _big("at")),
        sa.PrimaryKeyConstraint("account_id", "sequence"),
        sa.CheckConstraint("balance_minor >= 0", name="entries_floor"),
    )
    op.create_index("entries_by_transfer", "entries", ["transfer_id"])
    _create(
        "system_entries",
        *(_text("transfer_id"), _text("account_id"), _big("amount_minor"), _big("at")),
        sa.PrimaryKeyConstraint("transfer_id", "account_id"),
    )
    _create(
        "transfers",
        *(_text("id"), _text("kind"), _text("debit_account_id"), _text("credit_account_id"), _big("amount_minor")),
        *(_text("currency"), _big("at"), _text("actor"), _text("idempotency_key"), _big("fee_minor")),
        *(_text("reverses", null=True), _text("hold_id", null=True), _text("reference")),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "transfers_by_reversed", "transfers", ["reverses"], sqlite_where=REVERSAL, postgresql_where=REVERSAL
    )
    _create(
        "holds",
        *(_text("id"), _text("account_id"), _text("payee_account_id"), _text("closer"), _big("amount_minor")),
        *(_text("currency"), _big("created_at"), _big("expires_at", null=True), _text("state")),
        *(_big("captured_minor"), _big("closed_at", null=True), _text("transfer_id", null=True), _text("reference")),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("holds_open", "holds", ["account_id", "expires_at"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("holds_due", "holds", ["expires_at", "id"], sqlite_where=OPEN, postgresql_where=OPEN)
    _create(
        "receipts",
        *(_big("slot"), _text("actor"), _text("key"), _text("operation"), _text("fingerprint"), _big("at")),
        *(_text("transfer_id", null=True), _text("outcome", null=True), _big("leader", null=True)),
        sa.PrimaryKeyConstraint("slot", "actor", "key"),
    )
    _create(
        "records",
        *(_text("kind"), _text("id"), _big("slot"), _text("owner"), _big("version"), _text("body")),
        _big("due_at", null=True),
        sa.PrimaryKeyConstraint("kind", "id", "slot"),
    )
    op.create_index("records_by_owner", "records", ["kind", "owner", "id"])
    op.create_index("records_due", "records", ["kind", "due_at", "id"], sqlite_where=DUE, postgresql_where=DUE)
