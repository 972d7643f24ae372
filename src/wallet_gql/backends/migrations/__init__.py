"""Versioned migrations of the relational backends, run by Alembic on a connection that the backend brings.

`HEAD` is the version that this code needs. A backend whose database is at `HEAD` never imports Alembic.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlalchemy import Connection

HEAD: Final = "0001"
VERSION_TABLE: Final = "alembic_version"


def upgrade(connection: Connection) -> None:
    """Bring the database to `HEAD`, inside the transaction that `connection` is in."""
    from alembic import command  # noqa: PLC0415 - costs a fifth of a second, rarely needed
    from alembic.config import Config  # noqa: PLC0415 - the same

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
