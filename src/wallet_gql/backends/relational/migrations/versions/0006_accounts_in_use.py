"""A user may open an account in a currency again after closing the one before.

The unique key over owner and currency leaves closed accounts out, so a user's accounts need an index of their own.
SQLite cannot drop a constraint: there the table is copied. On Postgres a commit writes changed accounts before new
ones, so that one can be closed and its successor opened in the same batch.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

IN_USE = sa.text("status <> 'closed'")


def upgrade() -> None:
    """Replace the constraint by two indexes, and `wallet_write` on Postgres."""
    if op.get_context().dialect.name == "postgresql":
        op.drop_constraint("accounts_one_per_currency", "accounts", type_="unique")
        op.execute(Path(__file__).with_name("0006_functions.sql").read_text(encoding="utf-8"))
    else:
        _copy_accounts()
    op.create_index("accounts_by_owner", "accounts", ["owner"])
    op.create_index(
        "accounts_one_in_use",
        "accounts",
        ["owner", "currency"],
        unique=True,
        sqlite_where=IN_USE,
        postgresql_where=IN_USE,
    )


def _copy_accounts() -> None:
    texts, numbers = ("owner", "currency"), ("created_at", "changed_at")
    op.create_table(
        "accounts_0006",
        sa.Column("id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in texts),
        *(sa.Column(name, sa.Integer, nullable=False) for name in numbers),
        sa.Column("status", sa.Text, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("posted_minor", "held_minor", "sequence")),
        sa.CheckConstraint("held_minor >= 0 AND posted_minor >= held_minor", name="accounts_floor"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO accounts_0006 SELECT * FROM accounts")
    op.drop_table("accounts")
    op.rename_table("accounts_0006", "accounts")
