"""Each account on Postgres says from where its pending credits can lie, so that look-ups pass over those received.

The index keeps received ones while anybody has an old snapshot. SQLite has no pending credits.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add both columns, and the functions that use them."""
    if op.get_context().dialect.name != "postgresql":
        return
    for table, name in (("accounts", "pending_from"), ("pending_credits", "inserted_by")):
        op.add_column(table, sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.drop_constraint("pending_credits_pkey", "pending_credits")
    op.create_primary_key("pending_credits_pkey", "pending_credits", ["account_id", "inserted_by", "arrival"])
    op.execute("DROP FUNCTION wallet_found(jsonb, text[], text[], json, json, json)")
    functions = Path(__file__).with_name("0009_functions.sql").read_text(encoding="utf-8")
    for statement in functions.split("-- next\n"):
        op.execute(statement)
