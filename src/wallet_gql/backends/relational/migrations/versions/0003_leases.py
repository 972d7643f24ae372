"""What Redis leases need on Postgres nodes: fencing tokens in the rows, open credits, and who writes the nodes.

SQLite has one node and no need of these; for it this version changes nothing.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns, the table `intents` and two functions on Postgres."""
    if op.get_context().dialect.name != "postgresql":
        return
    for table in ("accounts", "records"):
        op.add_column(table, sa.Column("fence", sa.BigInteger, server_default="0", nullable=False))
    op.add_column("node", sa.Column("protocol", sa.Text, nullable=True))
    op.create_table(
        "intents",
        sa.Column("peer", sa.Text, primary_key=True),
        sa.Column("transfer_id", sa.Text, primary_key=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    functions = Path(__file__).with_name("0003_leases.sql").read_text(encoding="utf-8")
    for statement in functions.split("-- next\n"):
        op.execute(statement)
