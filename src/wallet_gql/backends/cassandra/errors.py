"""What the errors of Cassandra's driver mean.

Not all are exceptions of the driver's own hierarchy: an answer without a class of its own arrives as a bare
`ErrorMessage`, for example CAS_WRITE_UNKNOWN (0x1700). Sources: the driver's `cassandra/__init__.py` and `protocol.py`;
section 9 of `native_protocol_v5.spec`.
"""

from __future__ import annotations

import logging
from typing import Final

import cassandra
from cassandra import cluster, connection, protocol

from ...domain.errors import Contended, InvariantViolated, NodeUnavailable, Unavailable, WalletError
from ..kit.driver_errors import Meaning, store_failed

log = logging.getLogger("wallet_gql.cassandra")

NODE: Final = "cassandra"
"""The name in errors. The driver chooses among Cassandra's nodes; which of them is down does not concern a caller."""

_GONE: Final = (
    cassandra.Unavailable,
    cassandra.Timeout,
    cassandra.OperationTimedOut,
    cassandra.CoordinationFailure,
    cluster.NoHostAvailable,
    connection.ConnectionException,
    connection.ConnectionBusy,
    OSError,
    EOFError,
)
"""Too few replicas, no answer in time, a replica that failed, no connection."""

_REFUSED: Final = (cassandra.AuthenticationFailed, cassandra.Unauthorized, cassandra.UnsupportedOperation)
"""Log-in, rights, requests that a server does not support."""

_OURS: Final = (cassandra.InvalidRequest, cassandra.ConfigurationException)
"""Statements that the server cannot run."""

_CODES: Final = {
    **dict.fromkeys((0x1001,), Meaning.BUSY),  # overloaded
    **dict.fromkeys((0x1000, 0x1002, 0x1100, 0x1200, 0x1300, 0x1500, 0x1700), Meaning.GONE),
    **dict.fromkeys((0x0100, 0x1003, 0x2100), Meaning.REFUSED),  # log-in, truncation, rights
    **dict.fromkeys((0x000A, 0x2000, 0x2200, 0x2300, 0x2400), Meaning.OURS),  # statements and protocol
}
"""Error codes that the driver may pass on without a class, among them CAS_WRITE_UNKNOWN (0x1700)."""

_MISSING: Final = ("unconfigured table", "does not exist")

_NEVER_RUN: Final = (
    cassandra.AuthenticationFailed,
    cassandra.RequestValidationException,
    cluster.NoHostAvailable,
    protocol.IsBootstrappingErrorMessage,
)
"""Answers that come before a request is run, and a request that no node accepted.

`Unavailable` and `Overloaded` are not among them: the coordinator counts the replicas, and their hints, once more when
it tells them what Paxos has already decided (`StorageProxy.commitPaxos` of 4.1).
"""


def meaning_of(error: BaseException) -> Meaning:
    """The meaning of an error."""
    if isinstance(error, protocol.ErrorMessage) and error.code in _CODES:
        return _CODES[error.code]
    if isinstance(error, cassandra.InvalidRequest) and any(word in str(error) for word in _MISSING):
        return Meaning.REFUSED
    for kinds, meaning in ((_OURS, Meaning.OURS), (_REFUSED, Meaning.REFUSED), (_GONE, Meaning.GONE)):
        if isinstance(error, kinds):
            return meaning
    return Meaning.UNEXPECTED


def leaves_doubt(cause: BaseException) -> bool:
    """Whether a lightweight transaction that ended in this error may have been applied, or may still be."""
    return not isinstance(cause, _NEVER_RUN)


class Failure(Exception):
    """Any error that the driver has raised. It never leaves the backend."""

    def __init__(self, cause: Exception) -> None:
        """`cause` is the driver's error."""
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.cause = cause


def translate(error: BaseException) -> WalletError:
    """The error to raise for a driver's error while nothing was written."""
    if isinstance(error, WalletError):
        return error
    cause = error.cause if isinstance(error, Failure) else error
    meaning = meaning_of(cause)
    if meaning is Meaning.BUSY:
        return Contended(f"Cassandra is overloaded: {cause}")
    if meaning is Meaning.OURS:
        return InvariantViolated(f"Cassandra refused: {type(cause).__name__}: {cause}")
    text = store_failed(log, "Cassandra", meaning, cause)
    return NodeUnavailable(NODE) if meaning is Meaning.GONE else Unavailable(text)
