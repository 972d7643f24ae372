"""The connection to MongoDB: sessions, transactions whose outcome may be in doubt, and the driver's errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import pymongo
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import (
    ConfigurationError as DriverConfigurationError,
)
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri

from ...domain.errors import ConfigurationError, Contended, InDoubt
from ...urls import hidden, parse
from ..kit.driver_errors import store_failed
from .cancelling import make_safe
from .documents import Document
from .errors import is_conflict, is_ours, meaning_of, translate

T = TypeVar("T")

make_safe()

log = logging.getLogger("wallet_gql.mongodb")

DATABASE: Final = "wallet"
"""The database if the URL names none."""

APPLICATION: Final = "wallet-gql"

MAJORITY: Final = WriteConcern("majority", j=True)
SNAPSHOT: Final = ReadConcern("snapshot")

READ_SECONDS: Final = 5.0
SUMS_SECONDS: Final = 600.0
"""How long the sums of all accounts may take. A server keeps snapshots for half of that unless it is told otherwise."""
ABORT_SECONDS: Final = 2.0
OPEN_SECONDS: Final = 10.0
ORPHAN_SECONDS: Final = 2.0
"""A transaction that was idle for this long while others waited for it belongs to a process that is dead or stopped."""

_WIRE_MIN: Final = 17
"""The wire protocol of MongoDB 6.0."""

_DEFAULTS: Final = {"serverSelectionTimeoutMS": 10_000, "heartbeatFrequencyMS": 1_000, "connectTimeoutMS": 2_000}
"""With these, a primary that does not answer is given up after about 3 s. Options in the URL override them."""


class Conflict(Exception):
    """Another commit came first, or the attempt failed before its commit: nothing was written.

    Never raised outside of the backend.
    """


class MongoServer:
    """One client. Its sessions remember the newest commit, so that reads never miss it (G7)."""

    def __init__(self, url: str) -> None:
        """`url` is PyMongo's. Raises ConfigurationError."""
        where = parse(url)
        named = {name.lower() for name, _ in where.query}
        more: dict[str, Any] = {name: value for name, value in _DEFAULTS.items() if name.lower() not in named}
        try:
            if url.startswith("mongodb://"):  # a srv URL would ask the DNS
                parse_uri(url, validate=True, warn=False)  # the client itself would only warn of a bad option
            self.client: AsyncMongoClient[Document] = AsyncMongoClient(url, appname=APPLICATION, tz_aware=True, **more)
            default = self.client[where.file or DATABASE]
        except (PyMongoError, DriverConfigurationError, ValueError) as error:
            remedy = "write mongodb://host:27017/wallet?replicaSet=rs0"
            raise ConfigurationError(f"the MongoDB URL cannot be used: {hidden(str(error))}; {remedy}") from error
        self.database = default.with_options(
            read_concern=ReadConcern("majority"), write_concern=MAJORITY, read_preference=ReadPreference.PRIMARY
        )
        self.snapshots = self.database.with_options(read_concern=SNAPSHOT)
        self._newest: AsyncClientSession | None = None

    async def open(self) -> None:
        """Find the primary of a replica set. Raises ConfigurationError, with the command that creates a replica set."""
        try:
            with pymongo.timeout(OPEN_SECONDS):
                hello = await self.client.admin.command("hello")
        except Exception as error:
            raise await self._diagnose(error) from error
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise ConfigurationError(
                "this mongod is a standalone server, which has no transactions; start it with `mongod --replSet rs0` "
                "and run once `mongosh --eval 'rs.initiate()'`"
            )
        if hello["maxWireVersion"] < _WIRE_MIN:
            raise ConfigurationError("this MongoDB is too old; 6.0 or newer is needed")

    async def _diagnose(self, error: Exception) -> ConfigurationError:
        """Find out from the first server of the URL why there is no primary."""
        seed = next(iter(self.client.topology_description.server_descriptions()), ("localhost", 27017))
        host = f"{seed[0]}:{seed[1]}"
        direct: AsyncMongoClient[Document] = AsyncMongoClient(
            f"mongodb://{host}/", directConnection=True, serverSelectionTimeoutMS=1_000
        )
        try:
            with pymongo.timeout(ABORT_SECONDS):
                hello = await direct.admin.command("hello")
        except Exception:  # noqa: BLE001 - whatever it is, the first error is the one to report
            hello = None
        finally:
            await direct.close()
        if hello is None:
            return ConfigurationError(f"MongoDB at {host} does not answer ({error}); start it, or correct the URL")
        if hello.get("isreplicaset"):
            return ConfigurationError(
                f"the mongod at {host} belongs to no replica set yet; run once `mongosh --eval 'rs.initiate()'`"
            )
        return ConfigurationError(f"MongoDB at {host} answers, but no primary can be reached: {error}")

    async def clock_seconds(self) -> float:
        """The primary's clock minus ours. Raises the driver's errors."""
        began = time.time()
        hello = await self.client.admin.command("hello")
        return float(hello["localTime"].timestamp()) - (began + time.time()) / 2

    async def close(self) -> None:
        """Close all connections."""
        await self.client.close()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncClientSession]:
        """A session that sees at least what this process last committed. At its end an open transaction is aborted."""
        session = self.client.start_session(causal_consistency=True)
        if self._newest is not None:
            session.advance_cluster_time(self._newest.cluster_time or {})
            if self._newest.operation_time is not None:
                session.advance_operation_time(self._newest.operation_time)
        try:
            yield session
        finally:
            try:
                with pymongo.timeout(ABORT_SECONDS):  # a time limit of its own: the caller's may have passed
                    await session.end_session()
            except Exception as error:  # noqa: BLE001 - whatever it is, the transaction is not committed
                log.info("a transaction is left for the server to abort: %s", error)

    async def read(self, work: Callable[[AsyncClientSession], Awaitable[T]]) -> T:
        """Run reads in one session. Raises Unavailable, InvariantViolated, and the bugs of `work` unchanged."""
        try:
            async with self.session() as session:
                with pymongo.timeout(READ_SECONDS):
                    return await work(session)
        except Exception as error:
            if is_ours(error):
                raise
            raise translate(error) from error

    async def read_for_long(self, work: Callable[[AsyncClientSession], Awaitable[T]]) -> T:
        """`read` what may take up to `SUMS_SECONDS`. A server that cannot be reached is given up as in `read`."""
        await self.read(lambda session: self.database.command("ping", session=session))
        try:  # without the driver's own limit, which would also be how long it looks for a server
            async with asyncio.timeout(SUMS_SECONDS), self.session() as session:
                return await work(session)
        except TimeoutError as error:
            raise Contended(f"reading took longer than {SUMS_SECONDS:.0f} s") from error
        except Exception as error:
            if is_ours(error):
                raise
            raise translate(error) from error

    async def transact(self, work: Callable[[AsyncClientSession], Awaitable[T]], deadline: float) -> T:
        """Run work in one transaction and commit it, all or nothing, to a majority's disks.

        Raises:
            Conflict: try again. WalletError: nothing was written. InDoubt: the commit was not confirmed by `deadline`.
            Exception: a bug of `work`, unchanged; nothing was written.
        """
        loop = asyncio.get_running_loop()
        committed = False
        try:
            async with self.session() as session:
                with pymongo.timeout(max(deadline - loop.time(), 0.001)):
                    await session.start_transaction(read_concern=SNAPSHOT, write_concern=MAJORITY)
                    result = await work(session)
                    await self._confirm(session, deadline)
                    committed = True
                    self._newest = session
        except Exception as error:
            if committed:
                raise InDoubt(store_failed(log, "MongoDB after a commit", meaning_of(error), error)) from error
            if is_ours(error):
                raise
            if is_conflict(error) and loop.time() < deadline:
                raise Conflict(translate(error)) from error
            raise translate(error) from error
        return result

    async def _confirm(self, session: AsyncClientSession, deadline: float) -> None:
        """Commit, and repeat the commit until there is an answer.

        Only the label `TransientTransactionError` proves that nothing was committed. Any other error may follow a
        commit that took effect: a lost reply, a time-out, even the server's message that the transaction was too old.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                await session.commit_transaction()
            except Exception as error:
                if is_conflict(error):
                    raise Conflict(translate(error)) from error
                if loop.time() >= deadline:
                    told = store_failed(log, "MongoDB did not confirm a commit", meaning_of(error), error)
                    raise InDoubt(told) from error
                log.info("asking for a commit again: %s", error)
                await asyncio.sleep(min(0.02, max(deadline - loop.time(), 0)))
            else:
                return

    async def reap(self) -> int:
        """Abort our own transactions that were idle for `ORPHAN_SECONDS`. Returns how many.

        A killed process leaves its transaction open for up to `transactionLifetimeLimitSeconds` (60), and every record
        that it wrote stays blocked. Aborting is always safe: a commit in progress is not idle, and a process that was
        only stopped gets an error and tries again.
        """
        idle = {"transaction.timeInactiveMicros": {"$gt": int(ORPHAN_SECONDS * 1_000_000)}}
        ours = {"clientMetadata.application.name": APPLICATION}
        stages: list[dict[str, Any]] = [
            {"$currentOp": {"idleSessions": True, "allUsers": False}},
            {"$match": {"active": False, **idle, **ours}},
        ]
        try:
            with pymongo.timeout(ABORT_SECONDS):
                found = await (await self.client.admin.aggregate(stages)).to_list()
                names = [{"id": one["lsid"]["id"]} for one in found]
                if names:
                    await self.client.admin.command({"killSessions": names})
                    log.warning("%d transactions of processes that are gone were aborted", len(names))
        except Exception as error:  # noqa: BLE001 - reaping only saves time
            log.info("idle transactions are left to the server's own time limit: %s", error)
            return 0
        return len(names)
