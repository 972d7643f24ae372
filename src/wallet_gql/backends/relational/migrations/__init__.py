"""Versioned migrations of the relational backends, run by Alembic on a connection that the backend brings.

`HEAD` is the version that this code needs. A backend whose database is at `HEAD` never imports Alembic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

HEAD: Final = "0011"
VERSION_TABLE: Final = "alembic_version"

_ONE_AT_A_TIME: Final = Lock()
"""Alembic keeps the migration that runs in globals: two threads would write into one database."""


def upgrade(connection: Connection) -> None:
    """Bring the database to `HEAD`, inside the transaction that `connection` is in."""
    from alembic import command  # noqa: PLC0415 - costs a fifth of a second, rarely needed

    with _ONE_AT_A_TIME:
        command.upgrade(_config(connection=connection), HEAD)


@contextmanager
def upgrade_over(dialect: str, connection: object, *, begin: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """A transaction on a driver's own connection, which `begin` starts. Yields the function that upgrades in it."""
    from sqlalchemy import StaticPool, create_engine, event  # noqa: PLC0415 - only migrations need it; it loads slowly

    engine = create_engine(f"{dialect}://", creator=lambda: connection, poolclass=StaticPool)
    event.listen(engine, "begin", lambda _: begin())
    with engine.begin() as bound:
        yield lambda: upgrade(bound)


def script(dialect: str, found: str | None) -> str:
    """The SQL text that brings a database of that dialect from version `found` (None: blank) to `HEAD`.

    For drivers that SQLAlchemy cannot use without a synchronous one.
    """
    from alembic import command  # noqa: PLC0415 - costs a fifth of a second, rarely needed

    buffer = StringIO()
    with _ONE_AT_A_TIME:
        command.upgrade(_config(dialect=dialect, buffer=buffer), f"{found or 'base'}:{HEAD}", sql=True)
    return buffer.getvalue()


def _config(**attributes: object) -> Config:
    from alembic.config import Config  # noqa: PLC0415 - costs a fifth of a second, rarely needed

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes.update(attributes)
    return config
