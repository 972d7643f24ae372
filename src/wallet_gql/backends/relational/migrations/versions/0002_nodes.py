"""What sharded Postgres nodes need besides the tables: who they are, what was decided, and their two functions.

SQLite has one node and no need of these; for it this version changes nothing.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create `node`, `decisions` and the functions on Postgres."""
    if op.get_context().dialect.name != "postgresql":
        return
    op.create_table(
        "node",
        sa.Column("cluster_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("nodes", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("attempt", sa.Text, primary_key=True),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    functions = Path(__file__).with_name("0002_functions.sql").read_text(encoding="utf-8")
    for statement in functions.split("-- next\n"):
        op.execute(statement)
