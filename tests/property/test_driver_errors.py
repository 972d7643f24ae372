"""Every error that a driver may raise becomes one of ours: tested for every class and code that the drivers know."""

from __future__ import annotations

import inspect
import logging
import sqlite3
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import asyncpg
import cassandra
import pymongo.errors
import pytest
import redis.exceptions
from cassandra import cluster, connection, protocol

from wallet_gql import background
from wallet_gql.backends.cassandra import errors as cassandra_errors
from wallet_gql.backends.kit.driver_errors import Meaning
from wallet_gql.backends.mongodb import errors as mongo_errors
from wallet_gql.backends.postgres import errors as pg_errors
from wallet_gql.backends.postgres.placement import OtherEpoch
from wallet_gql.backends.redis import errors as redis_errors
from wallet_gql.backends.sqlite import errors as sqlite_errors
from wallet_gql.domain.errors import (
    Contended,
    InDoubt,
    InvariantViolated,
    NodeUnavailable,
    Unavailable,
    WalletError,
)

STRANGE = (
    RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed"),  # uvloop
    AttributeError("'NoneType' object has no attribute 'write'"),
    EOFError("half a reply"),
    OSError("no route to host"),
    MemoryError(),
    AssertionError(),
    KeyError("x"),
)


@pytest.fixture(autouse=True)
def _nothing_logged_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_logged", {})


def classes(module: ModuleType) -> Iterator[type[Exception]]:
    """The exceptions that a module has."""
    for _, kind in inspect.getmembers(module, inspect.isclass):
        if issubclass(kind, Exception):
            yield kind


def made(kind: type[Exception]) -> Exception:
    """One of a class, however its constructor looks."""
    if issubclass(kind, pymongo.errors.BulkWriteError):
        return kind({"writeErrors": []})
    if issubclass(kind, pymongo.errors.ClientBulkWriteException):
        return kind({"writeErrors": []}, verbose=False)
    if issubclass(kind, protocol.ErrorMessage):
        values: Any = {"code": getattr(kind, "error_code", None), "message": "driver text", "info": None}
        if values["code"] is None:
            values["code"] = 0
        return kind(**values)
    for arguments in (("driver text",), (), ("a", "b"), ("1 host:1",)):
        try:
            return kind(*arguments)
        except (TypeError, LookupError, ValueError, AttributeError):
            continue
    error = kind.__new__(kind)
    error.args = ("driver text",)
    return error


def as_postgres(error: Exception) -> WalletError:
    """As the Postgres backends raise it."""
    return pg_errors.translate(error, "n1")


def as_redis(error: Exception) -> WalletError:
    """As the connections raise it."""
    return redis_errors.translate(error, "redis://host:6379/0")


@pytest.mark.parametrize(
    ("translate", "module"),
    [
        pytest.param(as_postgres, asyncpg.exceptions, id="asyncpg"),
        pytest.param(cassandra_errors.translate, cassandra, id="cassandra"),
        pytest.param(cassandra_errors.translate, protocol, id="cassandra.protocol"),
        pytest.param(mongo_errors.translate, pymongo.errors, id="pymongo"),
        pytest.param(as_redis, redis.exceptions, id="redis"),
        pytest.param(sqlite_errors.translate, sqlite3, id="sqlite3"),
    ],
)
def test_f1_every_class_of_every_driver_has_a_meaning(
    translate: Callable[[Exception], WalletError], module: ModuleType
) -> None:
    """It is certain that nothing was written, so it is Unavailable, unless a table says that the bug is ours."""
    known = [made(kind) for kind in classes(module)]
    assert len(known) >= 10
    for error in (*known, *STRANGE):
        assert isinstance(translate(error), Unavailable | InvariantViolated), repr(error)
    assert all(isinstance(translate(error), Unavailable) for error in STRANGE)


def refused_by_postgres(sqlstate: str, severity: str = "ERROR") -> asyncpg.PostgresError:
    """As the driver makes it of a server's message."""
    return asyncpg.PostgresError.new({"S": severity, "V": severity, "C": sqlstate, "M": "no", "D": "Key (email)=(a@b)"})


@pytest.mark.parametrize(
    ("sqlstates", "expected"),
    [
        (
            "28000 28P01 3D000 3F000 25006 42501 42P01 42883 53100 53200 53400 55000 F0000 XX000 XX001",
            Unavailable,
        ),
        ("58000 58030 58P01 0A000 26000 42P05 99999", Unavailable),
        ("WG001", OtherEpoch),
        ("08000 08006 57P01 57P02 57P03 57P04 57P05 53300 25P03 40003", NodeUnavailable),
        ("40001 40P01 55P03 57014 WG003", Contended),
        ("22003 23514 23505 42601 42P02 P0001 25P02 54001", InvariantViolated),
    ],
)
def test_f1_what_postgres_answers(sqlstates: str, expected: type[WalletError]) -> None:
    """By SQLSTATE; the values of rows that the server's DETAIL quotes stay out of the text."""
    for sqlstate in sqlstates.split():
        found = as_postgres(refused_by_postgres(sqlstate))
        assert type(found) is expected, sqlstate
        assert "a@b" not in str(found)


def test_a_commit_on_postgres_is_in_doubt_unless_the_server_rolled_it_back() -> None:
    """An ordinary error is a certain no; the end of the connection and anything that is no answer is a doubt."""
    for sqlstate in ("25006", "42501", "53100", "23514", "40001"):
        assert not pg_errors.leaves_doubt(refused_by_postgres(sqlstate)), sqlstate
        assert pg_errors.leaves_doubt(refused_by_postgres(sqlstate, "FATAL")), sqlstate
    for sqlstate in ("57P01", "08006", "40003", "XX000", "58030"):
        assert pg_errors.leaves_doubt(refused_by_postgres(sqlstate)), sqlstate
    assert all(pg_errors.leaves_doubt(error) for error in STRANGE)


def failed_in_sqlite(code: int) -> sqlite3.Error:
    """As the driver makes it of a result code."""
    error = sqlite3.OperationalError("no")
    error.sqlite_errorcode = code
    return error


def names_of(*beginnings: str) -> dict[str, int]:
    """The result codes whose names begin so, extended ones included."""
    found = {name: value for name, value in vars(sqlite3).items() if name.startswith("SQLITE_")}
    return {
        n: v for n, v in found.items() if any(n == f"SQLITE_{b}" or n.startswith(f"SQLITE_{b}_") for b in beginnings)
    }


def test_what_sqlite_answers() -> None:
    """By result code, extended ones included."""
    refused = ("READONLY", "FULL", "IOERR", "CANTOPEN", "CORRUPT", "NOTADB", "PERM", "NOMEM", "PROTOCOL")
    for expected, beginnings in (
        (Unavailable, refused),
        (Contended, ("BUSY", "LOCKED")),
        (InvariantViolated, ("CONSTRAINT", "MISMATCH", "MISUSE")),
    ):
        for name, code in names_of(*beginnings).items():
            assert type(sqlite_errors.translate(failed_in_sqlite(code))) is expected, name


def test_a_commit_in_sqlite_is_in_doubt_unless_its_last_frame_was_not_written() -> None:
    """A full disk and a lock are a certain no; a failing disk is a doubt, and so is what nobody knows."""
    assert type(sqlite_errors.translate_commit(failed_in_sqlite(sqlite3.SQLITE_FULL))) is Unavailable
    assert type(sqlite_errors.translate_commit(failed_in_sqlite(sqlite3.SQLITE_BUSY))) is Contended
    for code in names_of("IOERR", "CORRUPT", "NOMEM").values():
        assert type(sqlite_errors.translate_commit(failed_in_sqlite(code))) is InDoubt
    assert all(type(sqlite_errors.translate_commit(error)) is InDoubt for error in STRANGE)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((11, 13, 18, 20, 146, 371, 8000, 14031, 301, 1, 424_242), Unavailable),
        ((6, 89, 91, 189, 10107, 13435, 11602, 64), NodeUnavailable),
        ((24, 50, 112, 251, 290), Contended),
        ((2, 9, 14, 66, 121, 11000), InvariantViolated),
    ],
)
def test_what_mongodb_answers(codes: tuple[int, ...], expected: type[WalletError]) -> None:
    """By code; one that nobody knows means that the store cannot be used."""
    for code in codes:
        assert type(mongo_errors.translate(pymongo.errors.OperationFailure("no", code))) is expected, code


def test_k3_a_mongodb_that_is_changing_roles_is_unavailable() -> None:
    """What the driver says when it sees no member that has sessions, just after a step-down."""
    error = pymongo.errors.ConfigurationError("Sessions are not supported by this MongoDB deployment")
    assert type(mongo_errors.translate(error)) is Unavailable


def answered_by_cassandra(code: int) -> protocol.ErrorMessage:
    """As the driver hands over an answer that it has no exception for."""
    return protocol.ErrorMessage(code=code, message="no", info=None)


@pytest.mark.parametrize(
    ("codes", "meaning", "expected"),
    [
        ((0x1001,), Meaning.BUSY, Contended),
        ((0x1000, 0x1002, 0x1100, 0x1200, 0x1300, 0x1500, 0x1700), Meaning.GONE, NodeUnavailable),
        ((0x0100, 0x1003, 0x2100), Meaning.REFUSED, Unavailable),
        ((0x000A, 0x2000, 0x2200, 0x2300), Meaning.OURS, InvariantViolated),
        ((0x0000, 0x7777), Meaning.UNEXPECTED, Unavailable),
    ],
)
def test_what_cassandra_answers(codes: tuple[int, ...], meaning: Meaning, expected: type[WalletError]) -> None:
    """By code, for not every answer becomes an exception of the driver's."""
    for code in codes:
        error = answered_by_cassandra(code)
        assert cassandra_errors.meaning_of(error) is meaning, hex(code)
        assert type(cassandra_errors.translate(cassandra_errors.Failure(error))) is expected, hex(code)


def test_a_decision_on_cassandra_is_in_doubt_unless_it_was_never_run() -> None:
    """Only what says that a request was not run is a certain no; CAS_WRITE_UNKNOWN and every time-out is a doubt."""
    certain = (
        cassandra.InvalidRequest("no"),
        cassandra.Unauthorized("no"),
        cassandra.AuthenticationFailed("no"),
        cluster.NoHostAvailable("no", {}),
    )
    assert not any(map(cassandra_errors.leaves_doubt, certain))
    doubtful = (
        cassandra.Unavailable("no", required_replicas=2, alive_replicas=1),
        answered_by_cassandra(0x1001),
        answered_by_cassandra(0x1700),
        answered_by_cassandra(0x0000),
        cassandra.OperationTimedOut(),
        cassandra.WriteTimeout("no", write_type=5),
        cassandra.WriteFailure("no", write_type=5),
        connection.ConnectionShutdown("no"),
        *STRANGE,
    )
    assert all(map(cassandra_errors.leaves_doubt, doubtful))


@pytest.mark.parametrize(
    "text",
    [
        *("NOAUTH Authentication required.", "WRONGPASS invalid", "NOPERM no right", "READONLY a replica", "MISCONF"),
        *("OOM command not allowed", "LOADING", "BUSY", "CLUSTERDOWN", "TRYAGAIN", "ERR unknown command 'EVALSHA'"),
    ],
)
def test_what_redis_answers(text: str) -> None:
    """Leases come before everything else, so nothing was written, whatever it says."""
    assert type(as_redis(redis.exceptions.ResponseError(text))) is Unavailable


def test_only_what_the_driver_raised_is_translated() -> None:
    """A bug in what is made of MongoDB's answers stays the bug that it is; the driver's own is told by its frames."""
    with pytest.raises(KeyError) as ours:
        inspect.signature(lambda: None).parameters["absent"]
    assert mongo_errors.is_ours(ours.value)
    assert mongo_errors.is_ours(InDoubt())
    with pytest.raises(TypeError) as theirs:
        pymongo.MongoClient(1)  # type: ignore[arg-type]  # the driver's own complaint
    assert not mongo_errors.is_ours(theirs.value)
    assert not mongo_errors.is_ours(pymongo.errors.AutoReconnect("reset"))


def test_a_cause_is_logged_once_a_minute_and_the_unexpected_with_its_traceback(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a traceback a request: 8,227 lines in 25 seconds were seen."""
    for _ in range(100):
        as_postgres(refused_by_postgres("28P01"))
        as_postgres(RuntimeError("the handler is closed"))
    assert [(record.levelno, record.exc_info is not None) for record in caplog.records] == [
        (logging.WARNING, False),
        (logging.ERROR, True),
    ]
    caplog.clear()
    monkeypatch.setattr("wallet_gql.background.AGAIN_SECONDS", 0.0)
    as_postgres(refused_by_postgres("28P01"))
    assert "(99 more since the last line)" in caplog.text
