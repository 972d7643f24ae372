"""Creating and upgrading the file."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from ...domain.errors import ConfigurationError
from ..kit.versions import is_due
from ..relational.migrations import HEAD, VERSION_TABLE, upgrade_over
from .connection import begin, connect, patiently

_OPEN_WAIT_SECONDS: Final = 30.0


def migrate(path: Path, *, migrates: bool = True) -> bool:
    """Create or upgrade the file under its write lock. Returns whether anything had to be done.

    Raises:
        NotMigrated: something has to be done, and `migrates` says not to.
        ConfigurationError: the file has a newer version, or is no ledger.
        Contended: another process kept the file locked. OSError: the file cannot be made or written.
    """
    if not path.exists():
        with TemporaryFile(dir=path.resolve().parent):  # where none can be made `serve` can make no ledger
            is_due(path, None, HEAD, migrates=migrates)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # only the owner may read password hashes
    with closing(connect(path, mode="rw")) as connection:
        deadline = time.monotonic() + _OPEN_WAIT_SECONDS
        # first of all: what is refused stays as it is, be it an older ledger or the file of another program
        due = patiently(lambda: is_due(path, version_of(connection), HEAD, migrates=migrates), deadline)
        connection.execute("PRAGMA cache_spill=ON")  # an upgrade may write a table anew, which need not fit into memory
        patiently(lambda: connection.execute("PRAGMA journal_mode=WAL"), deadline)
        return due and _upgrade(connection, path, deadline)


def _upgrade(connection: sqlite3.Connection, path: Path, deadline: float) -> bool:
    with upgrade_over("sqlite", connection, begin=lambda: begin(connection, deadline)) as upgrade:
        due = is_due(path, version_of(connection), HEAD, migrates=True)  # another process may have migrated it first
        if due:
            upgrade()
    return due


def version_of(connection: sqlite3.Connection) -> str | None:
    """The schema version of a file; None if it has none yet. Raises ConfigurationError if the file is no ledger."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if VERSION_TABLE not in tables:
        if tables:
            raise ConfigurationError(
                f"the file holds other tables ({', '.join(sorted(tables)[:3])} …); name a new file"
            )
        return None
    row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()  # noqa: S608 - a constant
    return None if row is None else str(row[0])
