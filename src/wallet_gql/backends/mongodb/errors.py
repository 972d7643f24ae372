"""What PyMongo's errors mean. Source of the codes: src/mongo/base/error_codes.yml of MongoDB 8."""

from __future__ import annotations

import logging
from typing import Final

from bson.errors import BSONError
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    InvalidName,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
)

from ...domain.errors import Contended, InvariantViolated, NodeUnavailable, Unavailable, WalletError
from ..kit.driver_errors import Meaning, store_failed

log = logging.getLogger("wallet_gql.mongodb")

NODE: Final = "local"
"""The only node's name. MongoDB places the documents of its shards by itself; the ledger does not see that."""

TRANSIENT: Final = "TransientTransactionError"

_BUSY: Final = (24, 43, 46, 50, 107, 112, 117, 202, 206, 225, 239, 244, 246, 251, 262, 267, 290, 365)
"""Locks, time limits, WriteConflict; cursors, sessions, snapshots and transactions that have ended."""

_GONE: Final = (6, 7, 64, 89, 91, 100, 133, 134, 149, 175, 189, 216, 237, 279, 281, 355)
_GONE_TOO: Final = (9001, 10058, 10107, 11600, 11601, 11602, 13435, 13436)
"""Host unreachable, network time-out, no majority, no primary, stepped down, shutting down, interrupted."""

_REFUSED: Final = (11, 13, 18, 20, 26, 31, 33, 69, 146, 208, 211, 214, 215, 261, 264, 334, 371, 388, 391, 392)
_REFUSED_TOO: Final = (402, 433, 449, 8000, 14031)
"""Users, roles, rights, log-in; no transactions; no such database; writes blocked; memory, files, tickets, disk."""

_DAMAGED: Final = (1, 8, 127, 269, 288, 301)
"""InternalError, UnknownError, damaged data."""

_OURS: Final = (
    2,
    3,
    4,
    9,
    14,
    15,
    16,
    22,
    28,
    30,
    40,
    52,
    53,
    54,
    56,
    57,
    59,
    66,
    72,
    73,
    121,
    168,
    257,
    263,
    357,
    378,
)
_OURS_TOO: Final = (10334, 11000, 11001, 17419)
"""Wrong values and types, statements that cannot be parsed, validation, objects that are too large, DuplicateKey."""

_MEANINGS: Final = {
    **dict.fromkeys(_BUSY, Meaning.BUSY),
    **dict.fromkeys((*_GONE, *_GONE_TOO), Meaning.GONE),
    **dict.fromkeys((*_REFUSED, *_REFUSED_TOO), Meaning.REFUSED),
    **dict.fromkeys(_DAMAGED, Meaning.DAMAGED),
    **dict.fromkeys((*_OURS, *_OURS_TOO), Meaning.OURS),
}
_DRIVERS: Final = ("pymongo", "bson")


def meaning_of(error: BaseException) -> Meaning:
    """The meaning of a driver's error."""
    if isinstance(error, OperationFailure) and error.code in _MEANINGS:
        return _MEANINGS[error.code]
    transient = isinstance(error, PyMongoError) and error.has_error_label(TRANSIENT)
    if isinstance(error, OperationFailure):
        return Meaning.BUSY if transient else Meaning.UNEXPECTED
    late = isinstance(error, PyMongoError) and error.timeout
    if transient or late or isinstance(error, ConnectionFailure | OSError | EOFError):
        return Meaning.GONE
    if isinstance(error, ConfigurationError):  # while members change roles the driver sees no server with sessions
        return Meaning.REFUSED
    return Meaning.OURS if isinstance(error, BSONError | InvalidName) else Meaning.UNEXPECTED


def is_conflict(error: BaseException) -> bool:
    """Whether the whole transaction can be tried again: nothing of it was or will be committed."""
    return isinstance(error, PyMongoError) and error.has_error_label(TRANSIENT)


def is_ours(error: BaseException) -> bool:
    """Whether this program raised the error itself, rather than the driver or code that the driver calls.

    One function may both call the driver and process its answers, so only the traceback shows which of them failed.
    """
    if isinstance(error, WalletError):
        return True
    if isinstance(error, PyMongoError | BSONError | OSError):
        return False
    trace, ours = error.__traceback__, True
    while trace is not None:
        package = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        ours = package not in _DRIVERS and (ours or package == __name__.partition(".")[0])
        trace = trace.tb_next
    return ours


def translate(error: BaseException) -> WalletError:
    """The error to raise for a driver's error while nothing was committed."""
    if isinstance(error, WalletError):
        return error
    if isinstance(error, InvalidOperation) and "close" in str(error):
        return Unavailable("the store is closed")
    meaning = meaning_of(error)
    if meaning is Meaning.BUSY:
        return Contended(f"MongoDB: another commit was first: {error}")
    if meaning is Meaning.OURS:
        return InvariantViolated(f"MongoDB refused: {type(error).__name__}: {error}")
    text = store_failed(log, "MongoDB", meaning, error)
    return NodeUnavailable(NODE) if meaning is Meaning.GONE else Unavailable(text)
