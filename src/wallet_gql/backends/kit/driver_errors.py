"""What the backends share to turn a driver's error into one of ours: its possible meanings, and the log line.

Each backend has one table from its driver's codes to a `Meaning`, and one place that all errors of its driver pass
through. A driver may raise anything. An error that the table does not list means that the store cannot be used, and is
logged as unexpected. Only errors that the table lists as our own bugs become InvariantViolated.
"""

from __future__ import annotations

import logging
from enum import Enum, auto

from ...background import log_once_a_minute


class Meaning(Enum):
    """What a driver's error means for the command."""

    BUSY = auto()
    """Another command was first; the same command may succeed at once."""
    GONE = auto()
    """The server or the connection was lost; a commit under way may have taken effect."""
    REFUSED = auto()
    """The store refuses for now: password changed, read-only, a right revoked, disk full."""
    DAMAGED = auto()
    """The store's data or disk is damaged; an operator must look at it."""
    OURS = auto()
    """One of our statements, or a value in it, is wrong."""
    UNEXPECTED = auto()
    """The table does not list the error."""


def store_failed(log: logging.Logger, where: str, meaning: Meaning, error: BaseException, said: str = "") -> str:
    """Log at most once a minute that the store at `where` cannot be used. Returns the text of that line.

    `said` is the text to log for the error, by default its own. Unexpected errors are logged with a traceback.
    """
    text = f"{where}: {said or f'{type(error).__name__}: {error}'}"
    level = logging.ERROR if meaning in (Meaning.DAMAGED, Meaning.UNEXPECTED) else logging.WARNING
    cause = f"{where}: {getattr(error, 'sqlstate', None) or getattr(error, 'code', None) or type(error).__name__}"
    log_once_a_minute(log, level, cause, text, error=error if meaning is Meaning.UNEXPECTED else None)
    return text
