"""Notices that the file of a ledger is not the one that was opened: removed, moved, replaced, or written over.

SQLite itself goes on with what it has open, so payments would succeed and be gone after a restart. Two things are
compared before each commit, and every `WATCH_SECONDS`:

- the inodes of the file, its log and its index, which must be those at the path;
- the file's size and time of change. Only a checkpoint writes to it, and only wallet processes make checkpoints. They
  leave a stamp of both in `user_version`, which lies in the log then. If the stamp is another one, somebody else has
  written to the file.

Nothing here opens a file: to close it again would drop SQLite's locks.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from ...background import log_once_a_minute
from ...domain.errors import Unavailable, WalletError
from .connection import roll_back

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment] # then nothing below is reached: see CAN_LOCK

log = logging.getLogger("wallet_gql.sqlite")

CAN_LOCK: Final = fcntl is not None
"""Whether the system has the lock that keeps checkpoints of two processes apart. Without it no file is opened."""

WATCH_SECONDS: Final = 0.5
CHECKPOINT_PAGES: Final = 4_000
"""After how many pages (of 4 KiB) in the log they are moved to the file: a tenth faster than at SQLite's 1,000."""

_WORKING: Final = 1
"""The stamp while a checkpoint is made, during which the file may change; stays if the process is killed."""

_STAMPS_ABOVE: Final = 2
_COMMITS_AT_FIRST: Final = 200

Ids = tuple[tuple[int, int], ...]
Look = tuple[int, int]
Begin = Callable[[], object]
"""Begins a transaction with the write lock. Raises Contended."""


class LedgerFile:
    """One file in use by this process. What takes a connection runs on one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = ""
        """Why the file cannot be used now; empty while all is well."""
        self.is_final = False
        """Whether it is another file: then it is not used any more until the process is started again."""
        self._ids: Ids | None = None
        self._look: Look | None = None
        self._commits = 0
        self._commits_most = _COMMITS_AT_FIRST

    def take(self, connection: sqlite3.Connection, begin: Begin) -> None:
        """Take the file as it is, when it is opened. Raises Contended and SQLite's errors.

        On a full disk it gets no stamp: then it can be read, and the next checkpoint leaves one.
        """
        begin()
        self._ids, self._look = self._find_ids(), _look_of(self.path)
        try:
            if _stamp_in(connection) != _WORKING:
                self._stamp(connection)
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            roll_back(connection)
            log.warning("%s cannot be written to now: %s", self.path, error)

    def check(self, connection: sqlite3.Connection) -> None:
        """Compare the file with the one that was opened, inside a transaction. Raises Unavailable."""
        if not self.is_final and (self.lost or self.changed()):
            self._compare(connection)
        self.raise_if_lost()

    def raise_if_lost(self) -> None:
        """Raise Unavailable if the file was found to be another one."""
        if self.lost:
            raise Unavailable(f"SQLite: {self.lost}")

    def changed(self) -> bool:
        """Whether anything looks different; needs no transaction."""
        try:
            return (self._find_ids(), _look_of(self.path)) != (self._ids, self._look)
        except OSError:
            return True

    def _compare(self, connection: sqlite3.Connection) -> None:
        try:
            ids, look = self._find_ids(), _look_of(self.path)
        except OSError as error:
            self._miss(os.strerror(error.errno or 0))
            return
        if ids != self._ids:
            self._lose("was replaced")
            return
        stamp = _stamp_in(connection)
        if look != self._look and stamp not in {_stamp_of(look), _WORKING}:
            self._lose("was written over")
            return
        if stamp != _WORKING:  # perhaps another process of ours has made a checkpoint
            self._look = look
        if self.lost:
            log.warning("%s is there again, the same as before", self.path)
            self.lost = ""

    def _miss(self, reason: str) -> None:
        """The file is away, such as a disk that is not mounted. The same file may come back."""
        if not self.lost:
            self.lost = f"{self.path} was removed ({reason}) while it was in use"
            log.error("%s: nothing is read or written until the same file is back", self.lost)

    def _lose(self, what: str) -> None:
        self.lost, self.is_final = f"{self.path} {what} while it was in use", True
        log.error("%s: nothing is read or written any more; stop the server, restore the file, start again", self.lost)

    def committed(self, connection: sqlite3.Connection, begin: Begin) -> None:
        """Count a commit; now and then move the log into the file, and leave a stamp of it. Never raises."""
        self._commits += 1
        if self._commits < self._commits_most:
            return
        try:
            with _alone_in(self.path.parent):
                begin()
                self.check(connection)
                connection.execute(f"PRAGMA user_version = {_WORKING}")
                connection.execute("COMMIT")
                self._move()
                begin()
                self._stamp(connection)
                connection.execute("COMMIT")
        except BlockingIOError:
            self._commits = 0  # another process is moving it
        except (sqlite3.Error, WalletError, OSError) as error:
            roll_back(connection)
            text = f"the log of {self.path} could not be moved into it now: {error}"
            log_once_a_minute(log, logging.WARNING, f"log of {self.path}", text)

    def _move(self) -> None:
        """A checkpoint, as far as readers let it; the next one comes when the log is likely to be as long again."""
        with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=rw", uri=True)) as mover:
            mover.execute("PRAGMA synchronous=FULL")
            _, pages, _ = mover.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._commits_most = max(1, CHECKPOINT_PAGES * self._commits // max(pages, 1))
        self._commits = 0

    def _stamp(self, connection: sqlite3.Connection) -> None:
        self._look = _look_of(self.path)
        connection.execute(f"PRAGMA user_version = {_stamp_of(self._look)}")

    def _find_ids(self) -> Ids:
        found = [Path(f"{self.path}{ending}").stat() for ending in ("", "-wal", "-shm")]
        return tuple((one.st_dev, one.st_ino) for one in found)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from this block; the lock ends with the process. Raises BlockingIOError: one is in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _look_of(path: Path) -> Look:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _stamp_in(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _stamp_of(look: Look) -> int:
    """31 bits that tell one size and time of change from another, and have no other meaning."""
    return _STAMPS_ABOVE + zlib.crc32(repr(look).encode()) % (2**31 - _STAMPS_ABOVE)
