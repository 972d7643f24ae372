"""Postgres nodes have a table for rows that a move of slots copies ahead, before the slots are theirs.

SQLite has one node and no need of it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Create `staged`. It is not logged: a move that misses rows of it begins again. Nothing compresses its rows."""
    if op.get_context().dialect.name != "postgresql":
        return
    op.create_table(
        "staged",
        sa.Column("attempt", sa.Text, primary_key=True),
        sa.Column("place", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("rows", JSONB, nullable=False),
        prefixes=["UNLOGGED"],
    )
    op.execute("ALTER TABLE staged ALTER COLUMN rows SET STORAGE EXTERNAL")
