"""Connections to one SQLite file: their settings, and waiting for the write lock."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from ...domain.errors import Contended
from .errors import code_of

R = TypeVar("R")

_FIRST_LOOK_SECONDS: Final = 1.0
"""A connection that closes keeps new ones out for a moment: it tries whether it is the last one."""


_CACHE_KIB: Final = 1_024
"""How much of the file each of the five connections of a store keeps in this process's memory between transactions. The
system keeps the file, too, so that a page that is not here costs a copy and no wait."""


def connect(path: Path, patience_seconds: float = 0, *, mode: str = "rwc") -> sqlite3.Connection:
    """A connection with the settings that durability depends on, in explicit-transaction mode.

    `patience_seconds` is how long SQLite itself waits for locks; writers wait by `patiently` instead. Mode `rw` does
    not create a missing file.
    """
    name = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256)
    _wait_at_most(connection, max(patience_seconds, _FIRST_LOOK_SECONDS))
    connection.execute("PRAGMA synchronous=FULL")  # the first one that needs a lock on the file
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    connection.execute("PRAGMA cache_spill=OFF")  # a large batch is written once, when it commits
    connection.execute("PRAGMA wal_autocheckpoint=0")  # `file.LedgerFile` makes them
    _wait_at_most(connection, patience_seconds)
    return connection


def _wait_at_most(connection: sqlite3.Connection, seconds: float) -> None:
    connection.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")


def begin(connection: sqlite3.Connection, deadline: float) -> None:
    """Begin a write transaction; `deadline` is on the monotonic clock. Raises Contended."""
    patiently(lambda: connection.execute("BEGIN IMMEDIATE"), deadline)


def patiently(statement: Callable[[], R], deadline: float) -> R:
    """Run what needs the write lock; retry it in short, jittered steps until `deadline`. Raises Contended.

    SQLite's own steps of up to 100 ms would starve a busy process.
    """
    pause = 0.0005
    while True:
        try:
            return statement()
        except sqlite3.OperationalError as error:
            if code_of(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if time.monotonic() >= deadline:
                raise Contended("another process keeps the database locked") from error
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, 0.01)


def roll_back(connection: sqlite3.Connection) -> None:
    """Roll back the open transaction, if there is one."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
