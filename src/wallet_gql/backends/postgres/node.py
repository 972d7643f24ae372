"""One Postgres node: its pool and its leases.

A lease is a connection inside one transaction that the caller drives with plain statements: asyncpg's own transaction
object would commit happily after a PREPARE. A connection on which anything went wrong is terminated, never pooled
again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from ...domain.errors import NodeUnavailable
from ...urls import parse
from .errors import translate

log = logging.getLogger("wallet_gql.postgres")

POOL_MAX: Final = 16
"""Connections of one process to a node for commands."""
READS_MAX: Final = 4
"""Connections for reads, which wait for no lock and so must not wait for those who do."""
ASIDE_MAX: Final = 2
"""Connections kept for recovery: it must get through while every other one waits for what it alone can free."""

CONNECT_SECONDS: Final = 2.0

QUERIES_MAX: Final = 1_000_000
"""After so many a connection is closed and made anew, which a command waits for."""

SILENT_SECONDS: Final = 0.5
"""How long a node that did not answer is not asked again, so that its callers hear of it before their deadlines."""

_SETTINGS: Final = {
    "application_name": "wallet-gql",
    "default_transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
    "lock_timeout": "2s",
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "5s",
    "jit": "off",
}


class _Connection(asyncpg.Connection):
    """Goes back to the pool without a round trip: leases leave nothing behind."""

    def get_reset_query(self) -> str:
        """Nothing to reset."""
        return ""


def _settings(url: str) -> dict[str, str]:
    """The session's settings; only the name of the application may come from the URL, by asyncpg."""
    named = "application_name" in parse(url).parameters
    return {name: value for name, value in _SETTINGS.items() if name != "application_name" or not named}


class PgNode:
    """A named node and its connections."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url
        self._pools: dict[str, asyncpg.Pool] = {}
        self._silent_until = 0.0

    async def open(self) -> None:
        """Make the pools; they connect when first used. Raises Unavailable."""
        try:
            for purpose, most in (("commands", POOL_MAX), ("reads", READS_MAX), ("aside", ASIDE_MAX)):
                self._pools[purpose] = await asyncpg.create_pool(
                    self.url,
                    min_size=0,
                    max_size=most,
                    timeout=CONNECT_SECONDS,
                    connection_class=_Connection,
                    server_settings=_settings(self.url),
                    max_inactive_connection_lifetime=60,
                    max_queries=QUERIES_MAX,
                )
        except Exception as error:
            raise translate(error, self.name) from error

    async def close(self) -> None:
        """Close the pools; connections that do not end by themselves are cut."""
        for pool in self._pools.values():
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await pool.close()
            except Exception:  # noqa: BLE001 - whatever the driver raises, they are closed
                pool.terminate()

    @asynccontextmanager
    async def lease(self, deadline: float, *, aside: bool = False, reads: bool = False) -> AsyncIterator[Lease]:
        """A connection until `deadline` (event loop's clock): for commands, unless something else is said.

        Raises Contended if none is free in time, Unavailable if none can be made, or could not a moment ago.
        """
        pool = self._pools["aside" if aside else "reads" if reads else "commands"]
        loop = asyncio.get_running_loop()
        if loop.time() < self._silent_until and not aside:
            raise NodeUnavailable(self.name)
        try:
            connection = await pool.acquire(timeout=max(deadline - loop.time(), 0.001))
        except Exception as error:
            if isinstance(error, TimeoutError) and loop.time() < deadline:  # connecting took too long
                raise self.silent() from error
            raise translate(error, self.name) from error
        lease = Lease(self.name, connection, deadline)
        try:
            yield lease
        except BaseException:
            lease.doubtful = True
            raise
        finally:
            await self._give_back(pool, connection, doubtful=lease.doubtful)

    async def _give_back(self, pool: asyncpg.Pool, connection: Any, *, doubtful: bool) -> None:
        """Whatever becomes of the connection, what its server has answered stands: never raises an Exception."""
        try:
            if doubtful or connection.is_in_transaction():
                connection.terminate()
            await pool.release(connection, timeout=CONNECT_SECONDS)
        except asyncpg.InterfaceError:
            pass  # a connection that was lost has left the pool by itself
        except Exception as error:  # noqa: BLE001 - see above
            log.info("a connection to %s could not be given back: %r", self.name, error)

    def silent(self) -> NodeUnavailable:
        """Note that the node did not answer: for a moment nobody is made to wait for it. The error to raise."""
        self._silent_until = asyncio.get_running_loop().time() + SILENT_SECONDS
        return NodeUnavailable(self.name)

    async def ask(self, statement: str, *values: Any, seconds: float = 5.0, aside: bool = False) -> Any:
        """One value from one statement in a transaction of its own. Raises Unavailable."""
        async with self.lease(asyncio.get_running_loop().time() + seconds, aside=aside, reads=True) as lease:
            return await lease.value(statement, *values)

    async def run(self, statements: str, *, seconds: float) -> None:
        """Several statements without values, in one transaction. Raises Unavailable."""
        async with self.lease(asyncio.get_running_loop().time() + seconds, reads=True) as lease:
            await lease.do(statements)

    async def rows(self, statement: str, *values: Any, seconds: float = 5.0, aside: bool = False) -> list[Any]:
        """Rows of one statement. Raises Unavailable."""
        async with self.lease(asyncio.get_running_loop().time() + seconds, aside=aside, reads=True) as lease:
            return await lease.rows(statement, *values)


class Lease:
    """One connection, bounded by a deadline; its errors are already translated."""

    def __init__(self, node: str, connection: Any, deadline: float) -> None:
        self.node = node
        self.deadline = deadline
        self.doubtful = False
        self._connection = connection

    async def run(self, statement: str) -> str:
        """Run text (several statements may stand in it); the tag of the last one. Raises the driver's own errors."""
        async with asyncio.timeout_at(self.deadline):
            return str(await self._connection.execute(statement))

    async def do(self, statement: str) -> str:
        """`run` with translated errors."""
        try:
            return await self.run(statement)
        except Exception as error:
            raise translate(error, self.node) from error

    async def begin(self, statement: str) -> None:
        """Run what waits for no lock: a node that does not answer it soon is down.

        Raises NodeUnavailable, or Contended if less than `SILENT_SECONDS` were given, which tells nothing about it.
        """
        given = self.deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self.run(statement)
        except TimeoutError as error:
            if given < SILENT_SECONDS:
                raise translate(error, self.node) from error
            raise NodeUnavailable(self.node) from error
        except Exception as error:
            raise translate(error, self.node) from error

    async def value(self, statement: str, *values: Any) -> Any:
        """The first column of the first row."""
        try:
            async with asyncio.timeout_at(self.deadline):
                return await self._connection.fetchval(statement, *values)
        except Exception as error:
            raise translate(error, self.node) from error

    async def rows(self, statement: str, *values: Any) -> list[Any]:
        """All rows."""
        try:
            async with asyncio.timeout_at(self.deadline):
                return list(await self._connection.fetch(statement, *values))
        except Exception as error:
            raise translate(error, self.node) from error


def literal(text: str) -> str:
    """Text as an SQL literal; `standard_conforming_strings` is on in every lease."""
    assert "\0" not in text, "no text of ours holds NUL"
    return "'" + text.replace("'", "''") + "'"
