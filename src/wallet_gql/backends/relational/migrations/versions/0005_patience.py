"""Postgres' load waits for accounts as long as it is told, and for everything else as the transaction says.

For SQLite this version changes nothing.
"""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Replace the function on Postgres."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(Path(__file__).with_name("0005_functions.sql").read_text(encoding="utf-8"))
