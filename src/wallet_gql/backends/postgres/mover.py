"""The sessions of a mover: its lock, of which there is one in a ledger, and the indexes that it needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from ...domain.errors import ConfigurationError, WalletError
from .move_rows import INDEXES
from .moves import MOVER
from .node import Connection, PgNode, for_long

_LOCK_TRIES: Final = 10
_LOCK_PAUSE: Final = 0.2
_DROP_SECONDS: Final = 10.0
_BEAT: Final = "SELECT 1"
_BEAT_SECONDS: Final = 10.0
_SESSION: Final = (
    "SET idle_session_timeout = '60s'; SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; "
    "SET tcp_keepalives_count = 4"
)
"""The lock of a mover that is stopped, or whose machine is lost, ends within a minute."""
_PATIENT: Final = "SET statement_timeout = 0; SET lock_timeout = 0"


@asynccontextmanager
async def alone(nodes: Sequence[PgNode]) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Hold the mover's lock on the nodes. Yields what checks that it is still held, and raises WalletError.

    Raises:
        ConfigurationError: another mover is at work.
    """
    async with AsyncExitStack() as stack:
        held: list[Connection] = []
        for node in nodes:
            connection = await stack.enter_async_context(node.connection(for_long()))
            connection.doubtful = True  # the lock ends with the session
            await connection.do(_SESSION)
            await _lock(connection)
            held.append(connection)
        one_at_a_time = asyncio.Lock()

        async def beat() -> None:
            async with one_at_a_time:
                for connection in held:
                    await connection.value(_BEAT)

        beating = asyncio.create_task(_regularly(beat))
        try:
            yield beat
        finally:
            beating.cancel()
            await asyncio.wait([beating])


async def _regularly(beat: Callable[[], Awaitable[None]]) -> None:
    """Keep the sessions from being idle for too long. If one has ended, the mover's next own beat raises."""
    with suppress(WalletError):
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            await beat()


async def _lock(connection: Connection) -> None:
    """Take the mover's lock. Others hold it for a moment when they look whether there is a mover."""
    for _ in range(_LOCK_TRIES):
        if await connection.value("SELECT pg_try_advisory_lock($1)", MOVER):
            return
        await asyncio.sleep(_LOCK_PAUSE)
    raise ConfigurationError("another mover is at work: wait until it has ended, or stop it")


@asynccontextmanager
async def indexed(source: PgNode) -> AsyncIterator[None]:
    """While slots leave a node, it finds their rows by index.

    After an error, such as Ctrl-C, they are removed in `_DROP_SECONDS`, or else by the next mover.
    """
    try:
        async with source.connection(for_long()) as connection:
            connection.doubtful = True
            await connection.do(_PATIENT)
            for name, columns in INDEXES.items():
                await connection.do(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
                await connection.do(f"CREATE INDEX CONCURRENTLY {name} ON {columns}")
        yield
    except BaseException:
        with suppress(WalletError):  # the first error is the one to tell
            await _drop(source, asyncio.get_running_loop().time() + _DROP_SECONDS)
        raise
    await _drop(source, for_long())


async def _drop(source: PgNode, deadline: float) -> None:
    async with source.connection(deadline) as connection:
        connection.doubtful = True
        await connection.do(_PATIENT)
        for name in INDEXES:
            await connection.do(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
