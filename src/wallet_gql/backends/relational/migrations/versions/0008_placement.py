"""Each Postgres node says which slots it has, which are leaving it, and which nodes there are.

The store fills the columns when it opens the ledger, because SQL does not know the hash. SQLite has one node and no
need of them.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns, and the functions by which reads check the epoch, too."""
    if op.get_context().dialect.name != "postgresql":
        return
    for name in ("here", "leaving", "members"):
        op.add_column("node", sa.Column(name, sa.Text))
    functions = Path(__file__).with_name("0008_functions.sql").read_text(encoding="utf-8")
    for statement in functions.split("-- next\n"):
        op.execute(statement)
