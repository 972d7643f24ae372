"""One Postgres node: its connection pools.

The caller drives a connection's transaction with plain statements, because asyncpg's own transaction object would send
COMMIT after a PREPARE. A connection with an error is terminated, never returned to the pool. The exception is another
epoch, which while slots move is an answer like any other: a new session has to plan all statements again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Literal, TypeVar

import asyncpg

from ...background import log_once_a_minute
from ...domain.errors import Contended, NodeUnavailable, Unavailable, WalletError
from ...metrics import CONNECTION_SECONDS, CONNECTIONS, CONNECTIONS_MAX
from ...urls import parse
from .errors import translate
from .hosts import Hosts
from .parameters import POOL, pool_of
from .placement import OtherEpoch
from .pool import Pool

T = TypeVar("T")

log = logging.getLogger("wallet_gql.postgres")

READS_MAX: Final = 4
"""Connections for reads: reads wait for no lock, so they must not wait for commands that do."""
ASIDE_MAX: Final = 2
"""Connections kept for recovery: it must get through while all others wait for locks that only recovery can free."""

CONNECT_SECONDS: Final = 2.0

QUERIES_MAX: Final = 1_000_000
"""A connection is replaced after this many queries; a command waits for the replacement."""

SILENT_SECONDS: Final = 0.5
"""A node that did not answer is not asked again for this long: its callers then fail before their deadlines."""

PATIENCE: Final = 0.8
"""The server's lock timeout is shorter than the caller's deadline, so that contention is not taken for a dead node."""
LOCK_MS_MAX: Final = 2_000
"""How long a statement waits for one lock, in milliseconds."""

SETTINGS: Final = {
    "application_name": "wallet-gql",
    "default_transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
    "lock_timeout": "2s",
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "5s",
    "jit": "off",
}


DURABLE: Final = ("fsync", "synchronous_commit", "full_page_writes")
"""Settings that must not be off (G3)."""

CURRENT: Final = "SELECT ARRAY (SELECT current_setting(n) FROM unnest($1::text[]) WITH ORDINALITY t (n, i) ORDER BY i)"
"""The values of the named settings, in the order of the names."""

UNSAFE: Final = f"SELECT string_agg(n, ', ') FROM unnest(ARRAY {list(DURABLE)}) AS n WHERE current_setting(n) = 'off'"  # noqa: S608 - own names
"""The names of those that are off."""


class _Asyncpg(asyncpg.Connection):
    """Returns to the pool without a round trip: its users leave nothing to reset."""

    def get_reset_query(self) -> str:
        """Nothing to reset."""
        return ""


def _settings(url: str) -> dict[str, str]:
    """The session's settings. The URL can only set the application's name, which asyncpg handles."""
    named = "application_name" in parse(url).parameters
    return {name: value for name, value in SETTINGS.items() if name != "application_name" or not named}


class PgNode:
    """A named node and its connections."""

    def __init__(self, name: str, url: str) -> None:
        """`url` is that of `parameters.for_driver`."""
        asked = parse(url)
        self.name = name
        self.url = asked.without(frozenset({POOL}))
        each = parse(self.url).each_host
        self.hosts = Hosts(name, each, self._expire) if len(each) > 1 else None
        """The primary and its standbys, if the URL names several hosts."""
        self.pool_max = pool_of(asked)
        """How many connections there are for commands."""
        self._pools: dict[str, Pool] = {}
        self.is_strict = False
        """Whether new connections must have durable settings; not yet while the node is opened."""
        self.unsafe = ""
        """The durability settings that the newest connection or `check_settings` found off."""
        self._silent_until = 0.0
        self.is_gone = False
        """Whether the ledger has drained the node: nothing is asked of it any more."""

    async def open(self) -> None:
        """Make the pools, which connect when first used. Raises Unavailable."""
        try:
            for purpose, most in (("commands", self.pool_max), ("reads", READS_MAX), ("aside", ASIDE_MAX)):
                pool = await asyncpg.create_pool(
                    self.url,
                    connect=None if self.hosts is None else self.hosts.connect,
                    min_size=0,
                    max_size=most,
                    timeout=CONNECT_SECONDS,
                    connection_class=_Asyncpg,
                    init=self._check_new,
                    server_settings=_settings(self.url),
                    max_inactive_connection_lifetime=60,
                    max_queries=QUERIES_MAX,
                )
                self._pools[purpose] = Pool(pool)
                CONNECTIONS_MAX.set(most, self.name, purpose)
        except Exception as error:
            raise translate(error, self.name) from error

    async def _check_new(self, connection: asyncpg.Connection) -> None:
        if self.is_strict:
            self._note(await connection.fetchval(UNSAFE))

    def _note(self, unsafe: str | None) -> None:
        """Raises Unavailable if there are any."""
        self.unsafe = unsafe or ""
        if self.unsafe:
            text = f"node {self.name}: {self.unsafe} was set to off, so that what is paid may be lost; set it to on"
            log_once_a_minute(log, logging.ERROR, f"unsafe {self.name}", text)
            raise Unavailable(text)

    async def check_settings(self, seconds: float) -> None:
        """Check the durability settings again. Raises Unavailable."""
        if self.unsafe:  # a new connection says whether that is still so
            await self._pools["reads"].expire()
        self._note(await self.ask(UNSAFE, seconds=seconds))

    async def _expire(self) -> None:
        """Use no connection any more that was made until now."""
        for pool in self._pools.values():
            await pool.expire()

    async def close(self) -> None:
        """Close the pools. Connections that do not end by themselves are terminated."""
        for pool in self._pools.values():
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await pool.close()
            except Exception:  # noqa: BLE001 - whatever the driver raises, the pools are closed
                pool.pool.terminate()

    @asynccontextmanager
    async def connection(
        self, deadline: float, *, aside: bool = False, reads: bool = False
    ) -> AsyncIterator[Connection]:
        """A connection until `deadline` (event loop's clock), from the pool for commands by default.

        Raises:
            Contended: none became free in time. Unavailable: none can be made, or the last attempt has just failed.
        """
        purpose = "aside" if aside else "reads" if reads else "commands"
        pool = self._pools[purpose]
        loop = asyncio.get_running_loop()
        began = loop.time()
        if loop.time() < self._silent_until and not aside:
            raise NodeUnavailable(self.name)
        try:
            raw = await pool.acquire(max(deadline - loop.time(), 0.001))
        except Unavailable:
            raise
        except Exception as error:
            now = loop.time()
            hangs = now < deadline or (now - began > CONNECT_SECONDS - SILENT_SECONDS and not pool.is_used_up)
            if isinstance(error, TimeoutError) and hangs:  # connecting took too long
                raise self.silent() from error
            raise translate(error, self.name) from error
        finally:
            CONNECTION_SECONDS.note(loop.time() - began, self.name, purpose)
        CONNECTIONS.add(1, self.name, purpose)
        connection = Connection(self.name, raw, deadline)
        try:
            yield connection
        except OtherEpoch:
            await connection.roll_back()
            raise
        except BaseException:
            connection.doubtful = True
            raise
        finally:
            CONNECTIONS.add(-1, self.name, purpose)
            await self._give_back(pool, raw, doubtful=connection.doubtful)

    async def _give_back(self, pool: Pool, raw: Any, *, doubtful: bool) -> None:
        """Return the connection to the pool. Never raises an Exception: the server's answer stands in any case."""
        try:
            unfit = doubtful or raw.is_in_transaction()
            await pool.give_back(raw, doubtful=unfit, seconds=CONNECT_SECONDS)
        except asyncpg.InterfaceError:
            pass  # a lost connection has left the pool by itself
        except Exception as error:  # noqa: BLE001 - see the docstring
            log.info("a connection to %s could not be given back: %r", self.name, error)

    def silent(self) -> NodeUnavailable:
        """Note that the node did not answer, so that for a moment nobody waits for it. Returns the error to raise."""
        self._silent_until = asyncio.get_running_loop().time() + SILENT_SECONDS
        return NodeUnavailable(self.name)

    async def ask(
        self, statement: str, *values: Any, seconds: float = 5.0, aside: bool = False, soon: bool = False
    ) -> Any:
        """One value from one statement in a transaction of its own; for `soon` see `rows`. Raises Unavailable."""
        return await self._read("value", statement, values, seconds, aside=aside, soon=soon)

    async def run(self, statements: str, *, seconds: float) -> None:
        """Run several statements without values, in one transaction. Raises Unavailable."""
        async with self.connection(asyncio.get_running_loop().time() + seconds, reads=True) as connection:
            await connection.do(statements)

    async def rows(
        self, statement: str, *values: Any, seconds: float = 5.0, aside: bool = False, soon: bool = False
    ) -> list[Any]:
        """Rows of one statement. With `soon` a node that does not answer it in that time is down for a moment.

        Raises:
            Unavailable: NodeUnavailable, too, if what is asked `soon` is not answered.
        """
        found: list[Any] = await self._read("rows", statement, values, seconds, aside=aside, soon=soon)
        return found

    async def _read(
        self,
        how: Literal["value", "rows"],
        statement: str,
        values: Sequence[Any],
        seconds: float,
        *,
        aside: bool,
        soon: bool,
    ) -> Any:
        """One statement, on a connection for reads. Most take one that is at hand, and few steps."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        pool = self._pools["reads"]
        raw = None if aside or deadline - seconds < self._silent_until else pool.take()
        if raw is None:
            async with self.connection(deadline, aside=aside, reads=True) as connection:
                given = deadline - loop.time()
                try:
                    return await getattr(connection, how)(statement, *values)
                except Contended as error:
                    self._judge(error, given, soon=soon)
                    raise
        CONNECTIONS.add(1, self.name, "reads")
        doubtful = True
        try:
            found = await getattr(Connection(self.name, raw, deadline), how)(statement, *values)
            doubtful = False
        except OtherEpoch:
            doubtful = False
            raise
        except Contended as error:
            self._judge(error, seconds, soon=soon)
            raise
        finally:
            CONNECTIONS.add(-1, self.name, "reads")
            await self._give_back(pool, raw, doubtful=doubtful)
        return found

    def _judge(self, error: Contended, given: float, *, soon: bool) -> None:
        """Raises NodeUnavailable if the node did not answer in the `given` seconds what it answers `soon` if it is up.

        Reads wait for no lock. So those that are queued behind this one need not wait, too.
        """
        if soon and given >= SILENT_SECONDS and isinstance(error.__cause__, TimeoutError):
            raise self.silent() from error


class Connection:
    """One connection, bounded by a deadline. Its errors are translated, except those of `run`."""

    def __init__(self, node: str, raw: Any, deadline: float) -> None:
        self.node = node
        self.deadline = deadline
        self.doubtful = False
        self.holds_gate = False
        """Whether its session keeps every commit from the node."""
        self._raw = raw

    def patience_ms(self, most_ms: int = LOCK_MS_MAX) -> int:
        """How long a statement may wait for a lock, in milliseconds, so that a refusal arrives before the deadline."""
        left = self.deadline - asyncio.get_running_loop().time()
        return min(max(int(left * 1000 * PATIENCE), 1), most_ms)

    async def run(self, statement: str) -> str:
        """Run one or more statements. Returns the command tag of the last. Raises the driver's own errors."""
        async with asyncio.timeout_at(self.deadline):
            return str(await self._raw.execute(statement))

    async def do(self, statement: str) -> str:
        """`run` with translated errors."""
        try:
            return await self.run(statement)
        except Exception as error:
            raise translate(error, self.node) from error

    async def roll_back(self) -> None:
        """End a transaction that a statement has failed in, so that the connection can be used again. Raises nothing.

        If the node does not answer by the deadline, the connection stays doubtful.
        """
        was_doubtful, self.doubtful = self.doubtful, True
        self.deadline = min(self.deadline, asyncio.get_running_loop().time() + CONNECT_SECONDS)
        with suppress(WalletError, asyncpg.InterfaceError):
            if self._raw.is_in_transaction():
                await self.do("ROLLBACK")
            self.doubtful = was_doubtful

    async def begin(self, statement: str) -> None:
        """`run` a statement as `_soon` does."""
        await self._soon(self.run(statement))

    async def rows_soon(self, statement: str, *values: Any) -> list[Any]:
        """All rows of a statement, as `_soon` runs it."""
        return await self._soon(self._fetch(statement, *values))

    async def _fetch(self, statement: str, *values: Any) -> list[Any]:
        """The driver's own raises when it is called, if the connection is lost; this one when it is awaited."""
        return list(await self._raw.fetch(statement, *values))

    async def _soon(self, asked: Awaitable[T]) -> T:
        """Run what waits for no lock: a node that does not answer it soon is down.

        Raises:
            NodeUnavailable: no answer. Contended: no answer, but less than `SILENT_SECONDS` were left, which proves
                nothing.
        """
        given = self.deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(given, CONNECT_SECONDS)):
                return await asked
        except TimeoutError as error:
            self.doubtful = True
            if given < SILENT_SECONDS:
                raise translate(error, self.node) from error
            raise NodeUnavailable(self.node) from error
        except Exception as error:
            raise translate(error, self.node) from error

    async def value(self, statement: str, *values: Any) -> Any:
        """The first column of the first row."""
        try:
            async with asyncio.timeout_at(self.deadline):
                return await self._raw.fetchval(statement, *values)
        except Exception as error:
            raise translate(error, self.node) from error

    async def rows(self, statement: str, *values: Any) -> list[Any]:
        """All rows."""
        try:
            async with asyncio.timeout_at(self.deadline):
                return await self._fetch(statement, *values)
        except Exception as error:
            raise translate(error, self.node) from error


def literal(text: str) -> str:
    """Text as an SQL literal; `standard_conforming_strings` is on in every connection."""
    assert "\0" not in text, "no text of ours holds NUL"
    return "'" + text.replace("'", "''") + "'"


def for_long() -> float:
    """As good as no deadline: what moves slots or upgrades a schema would have to begin again."""
    return asyncio.get_running_loop().time() + 7 * 24 * 3600.0
