"""What SQLite's errors mean. Source of the codes: https://www.sqlite.org/rescode.html."""

from __future__ import annotations

import logging
import sqlite3
from typing import Final

from ...domain.errors import Contended, InDoubt, InvariantViolated, Unavailable, WalletError
from ..kit.driver_errors import Meaning, store_failed

log = logging.getLogger("wallet_gql.sqlite")

WHERE: Final = "SQLite"

_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_INTERRUPT)
_REFUSED: Final = (
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_ABORT,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_AUTH,
)
_DAMAGED: Final = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_INTERNAL)
_OURS: Final = (
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_RANGE,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_FORMAT,
)
_MEANINGS: Final = {
    **dict.fromkeys(_BUSY, Meaning.BUSY),
    **dict.fromkeys(_REFUSED, Meaning.REFUSED),
    **dict.fromkeys(_DAMAGED, Meaning.DAMAGED),
    **dict.fromkeys(_OURS, Meaning.OURS),
}
"""Primary result codes: the lowest eight bits of an extended one."""

_CERTAIN: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CONSTRAINT)
"""After these a COMMIT has not taken effect: its last frame, which makes it valid, was not written completely."""


def code_of(error: BaseException) -> int | None:
    """The primary result code; None if Python's module raised the error itself."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def meaning_of(error: BaseException) -> Meaning:
    """The meaning of a driver's error."""
    code = code_of(error)
    if code is not None:
        return _MEANINGS.get(code, Meaning.UNEXPECTED)
    ours = (sqlite3.InterfaceError, sqlite3.DataError, sqlite3.NotSupportedError)  # a value that the driver cannot bind
    return Meaning.OURS if isinstance(error, ours) else Meaning.UNEXPECTED


def translate(error: BaseException) -> WalletError:
    """The error to raise for a driver's error, if nothing was committed."""
    meaning = meaning_of(error)
    if meaning is Meaning.BUSY:
        return Contended(f"{WHERE}: {error}")
    if meaning is Meaning.OURS:
        return InvariantViolated(f"{WHERE} refused: {type(error).__name__}: {error}")
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    return Unavailable(store_failed(log, WHERE, meaning, error, f"{name}: {error}"))


def translate_commit(error: BaseException) -> WalletError:
    """The error to raise if COMMIT itself failed."""
    if code_of(error) in _CERTAIN:
        return translate(error)
    return InDoubt(store_failed(log, f"{WHERE} did not confirm a commit", meaning_of(error), error))
