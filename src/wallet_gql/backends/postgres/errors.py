"""What asyncpg's errors mean. Source of the codes: PostgreSQL 17 documentation, appendix A."""

from __future__ import annotations

import logging
from typing import Final

import asyncpg

from ...domain.errors import Contended, InvariantViolated, NodeUnavailable, Unavailable, WalletError
from ..kit.driver_errors import Meaning, store_failed
from .placement import OtherEpoch

log = logging.getLogger("wallet_gql.postgres")

WRONG_EPOCH: Final = "WG001"
CLAIMED_SINCE: Final = "WG003"
"""Another process has claimed the rows meanwhile."""

ON_ITS_WAY: Final = "WG004"
"""A credit is on its way to an account that is to be closed, or was closed before the credit came."""

_RACED: Final = ("accounts_one_in_use", "receipts_pkey", "records_pkey", "decisions_pkey")
"""Unique keys that a concurrent commit may have taken first; reloading shows what it wrote."""

_MEANINGS: Final = {
    # connection, shutdown, time-outs that end the connection, unknown completion
    **dict.fromkeys(("08", "57P", "25P03", "25P04", "40003", "53300"), Meaning.GONE),
    # locks, deadlocks, cancelled by a time limit, an object in use, a snapshot too old
    **dict.fromkeys(("40", "55006", "55P03", "57014", "72", CLAIMED_SINCE, ON_ITS_WAY), Meaning.BUSY),
    # password or pg_hba, read-only, no such database or schema, no right, resources, not in this state, intervention
    **dict.fromkeys(("28", "25006", "3D", "3F", "42501", "53", "55", "57", "F0", WRONG_EPOCH), Meaning.REFUSED),
    # a table, column, function or type is missing; a pooler has mixed up prepared statements
    **dict.fromkeys(("42P01", "42703", "42704", "42883", "26", "42P05"), Meaning.REFUSED),
    # the operating system's errors, internal errors, corruption
    **dict.fromkeys(("58", "XX"), Meaning.DAMAGED),
    # wrong values, constraints, wrong statements, limits of a statement, what our functions raise
    **dict.fromkeys(("20", "21", "22", "23", "25", "40002", "42", "44", "54", "P0"), Meaning.OURS),
}
"""SQLSTATEs by prefix; the longest matching prefix counts."""

_LOST: Final = (OSError, EOFError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""The server gave no answer: the connection was lost, or the protocol is out of step."""


def meaning_of(error: BaseException) -> Meaning:
    """The meaning of a driver's error."""
    if isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name in _RACED:
        return Meaning.BUSY
    state = getattr(error, "sqlstate", None) or ""
    for length in range(len(state), 1, -1):
        if state[:length] in _MEANINGS:
            return _MEANINGS[state[:length]]
    return Meaning.GONE if isinstance(error, _LOST) else Meaning.UNEXPECTED


def leaves_doubt(error: BaseException) -> bool:
    """Whether a commit that ended in this error may have taken effect.

    An ordinary error reported by the server has rolled the transaction back. An error that ends the connection may come
    after the commit was written; so may every error that did not come from the server.
    """
    if not isinstance(error, asyncpg.PostgresError) or error.severity_en in ("FATAL", "PANIC"):
        return True
    return meaning_of(error) in (Meaning.GONE, Meaning.DAMAGED)


def translate(error: Exception, node: str) -> WalletError:
    """The error to raise for a driver's error, if nothing was decided yet."""
    if isinstance(error, WalletError):
        return error
    if isinstance(error, TimeoutError):
        return Contended(f"node {node} did not answer in the time given")
    meaning, said = meaning_of(error), _said(error)
    if meaning is Meaning.BUSY:
        return Contended(f"node {node}: {said}")
    if meaning is Meaning.OURS:
        return InvariantViolated(f"node {node} refused: {said}")
    if getattr(error, "sqlstate", None) == WRONG_EPOCH:
        return OtherEpoch(f"node {node}: {said}")
    text = store_failed(log, f"node {node}", meaning, error, said)
    return NodeUnavailable(node) if meaning is Meaning.GONE else Unavailable(text)


def _said(error: BaseException) -> str:
    """The error's text without the server's DETAIL, which quotes values of rows."""
    words = error.args[0] if isinstance(error, asyncpg.PostgresError) and error.args else error
    return f"{type(error).__name__}: {words}"
