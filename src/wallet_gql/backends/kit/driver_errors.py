"""What the backends share where a driver's error becomes one of ours: what it can mean, and their log lines.

Each backend has one table from its driver's codes to a `Meaning`, and one place that its driver's errors pass through.
A driver may raise anything. What the table does not list means that the store cannot be used, and is logged as
unexpected; only what the table lists as our own bug becomes InvariantViolated.
"""

from __future__ import annotations

import logging
from enum import Enum, auto

from ...background import log_once_a_minute


class Meaning(Enum):
    """What a driver's error means for the command."""

    BUSY = auto()
    """Somebody else was first; the same command may succeed at once."""
    GONE = auto()
    """The server or the connection went away; a commit under way may have happened."""
    REFUSED = auto()
    """The store does not do it now: password changed, read-only, a right taken away, disk full."""
    DAMAGED = auto()
    """The store's data or disk is damaged; somebody must look at it."""
    OURS = auto()
    """A statement of ours, or what we wrote by it, is wrong."""
    UNEXPECTED = auto()
    """Nobody knows."""


def store_failed(log: logging.Logger, where: str, meaning: Meaning, error: BaseException, said: str = "") -> str:
    """Log once a minute that the store at `where` cannot be used; answers the text of that line.

    `said` is what to tell of the error, its own text by default. Unexpected errors are logged with a traceback.
    """
    text = f"{where}: {said or f'{type(error).__name__}: {error}'}"
    level = logging.ERROR if meaning in (Meaning.DAMAGED, Meaning.UNEXPECTED) else logging.WARNING
    cause = f"{where}: {getattr(error, 'sqlstate', None) or getattr(error, 'code', None) or type(error).__name__}"
    log_once_a_minute(log, level, cause, text, error=error if meaning is Meaning.UNEXPECTED else None)
    return text
