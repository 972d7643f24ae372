"""The meaning of the driver's errors, above all of those of a commit. No server is needed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo.errors import (
    AutoReconnect,
    InvalidOperation,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from wallet_gql.backends.mongodb.client import Conflict, MongoServer
from wallet_gql.backends.mongodb.errors import translate
from wallet_gql.domain.errors import (
    Contended,
    InDoubt,
    InvariantViolated,
    NodeUnavailable,
    Unavailable,
)
from wallet_gql.testing.patience import patience


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AutoReconnect("reset"), NodeUnavailable),
        (NetworkTimeout("late"), NodeUnavailable),
        (ServerSelectionTimeoutError("no primary"), NodeUnavailable),
        (OSError("broken"), NodeUnavailable),
        (OperationFailure("write conflict", 112), Contended),
        (OperationFailure("no such transaction", 251), Contended),
        (OperationFailure("not primary", 10107), NodeUnavailable),
        (OperationFailure("unauthorized", 13), Unavailable),
        (OperationFailure("validation", 121), InvariantViolated),
        (InvalidOperation("Cannot use AsyncMongoClient after close"), Unavailable),
        (KeyError("x"), Unavailable),
        (InDoubt(), InDoubt),
    ],
)
def test_every_error_of_the_driver_has_a_meaning(error: Exception, expected: type[Exception]) -> None:
    """No driver's exception leaves; each becomes one of the three answers, or a loud one."""
    assert type(translate(error)) is expected


class _Session:
    """A session whose commits end as told."""

    def __init__(self, *endings: PyMongoError | None) -> None:
        self.endings = list(endings)

    async def commit_transaction(self) -> None:
        """The next ending."""
        ending = self.endings.pop(0) if len(self.endings) > 1 else self.endings[0]
        if ending is not None:
            raise ending


def _labelled(error: PyMongoError, *labels: str) -> PyMongoError:
    for label in labels:
        error._add_error_label(label)
    return error


async def _confirm(*endings: PyMongoError | None) -> None:
    server = MongoServer("mongodb://127.0.0.1:1/x")
    session: Any = _Session(*endings)
    await server._confirm(session, asyncio.get_running_loop().time() + patience(0.1))


async def test_only_the_transient_label_means_that_nothing_was_committed() -> None:
    """A commit is asked for again after any other error, with or without a label, and in the end is in doubt."""
    unknown = _labelled(AutoReconnect("cut"), "UnknownTransactionCommitResult")
    lived_too_long = OperationFailure("TransactionExceededLifetimeLimit", 290)
    aborted = _labelled(OperationFailure("NoSuchTransaction", 251), "TransientTransactionError")
    await _confirm(unknown, lived_too_long, None)
    with pytest.raises(Conflict):
        await _confirm(unknown, aborted)
    for error in (unknown, lived_too_long, OperationFailure("MaxTimeMSExpired", 50), NetworkTimeout("late")):
        with pytest.raises(InDoubt):
            await _confirm(error)
