"""Under leases, too, nodes take credits from other nodes in as pending ones. SQLite has one node and no need of it."""

from pathlib import Path

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the function that takes credits in. Claims refuse who would not receive them; writes look where they are."""
    if op.get_context().dialect.name != "postgresql":
        return
    functions = Path(__file__).with_name("0011_functions.sql").read_text(encoding="utf-8")
    for statement in functions.split("-- next\n"):
        op.execute(statement)
