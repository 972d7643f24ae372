"""Postgres nodes keep credits of other nodes pending: inserted without their accounts, received with them.

SQLite has one node and no need of this. On both, no transfer enters an account twice.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make entries unique; on Postgres, create `pending_credits` and the functions that read and write it."""
    columns = ["transfer_id", "account_id"]
    if op.get_context().dialect.name != "postgresql":
        op.drop_index("entries_by_transfer", "entries")
        op.create_index("entries_by_transfer", "entries", columns, unique=True)
        return
    # While the new index is built, which takes long, others can still read; only dropping the old one excludes them.
    op.create_index("entries_by_transfer_once", "entries", columns, unique=True)
    op.drop_index("entries_by_transfer", "entries")
    op.execute("ALTER INDEX entries_by_transfer_once RENAME TO entries_by_transfer")
    op.create_table(
        "pending_credits",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("arrival", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("transfer_id", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    # Rows live for less than a second, so dead ones must go soon, however many there are.
    op.execute(
        "ALTER TABLE pending_credits SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, "
        "autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 1)"
    )
    op.execute("DROP FUNCTION wallet_found(jsonb, text[], json, json)")
    functions = Path(__file__).with_name("0007_functions.sql").read_text(encoding="utf-8")
    for statement in functions.split("-- next\n"):
        op.execute(statement)
