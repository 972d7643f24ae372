"""Postgres' functions plan once, by the indexes, and pass over what a batch does not ask for.

Old decisions can be found by their time. For SQLite this version changes nothing.
"""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Replace the functions on Postgres, and index the decisions' times, which only grow."""
    if op.get_context().dialect.name != "postgresql":
        return
    op.create_index("decisions_by_time", "decisions", ["decided_at"], postgresql_using="brin")
    functions = Path(__file__).with_name("0004_functions.sql").read_text(encoding="utf-8")
    for statement in functions.split("-- next\n"):
        op.execute(statement)
