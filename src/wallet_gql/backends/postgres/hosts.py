"""The hosts of one node: a primary and its standbys. The wallet uses the primary alone.

All hosts are asked at once, so that a silent one hides no other. A promoted standby begins a new timeline. So if
several hosts can be written, the one with the highest timeline is right, and the others are former primaries that came
back. A process never goes back to a lower timeline than it has seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from ...background import log_once_a_minute
from ...urls import parse

log = logging.getLogger("wallet_gql.postgres")

GRACE_SECONDS: Final = 0.25
"""How long the other hosts are waited for once one can be written that is no former primary."""

FIRST_SECONDS: Final = 1.5
"""The same for the first connection, when nothing is known of timelines."""

TIMELINE: Final = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"
"""In hexadecimal."""

Asked = asyncio.Task[tuple[int, Any]]
"""Gives the timeline of a host that can be written, and a connection to it."""


class Hosts:
    """Connects to the primary among several hosts."""

    def __init__(self, node: str, urls: Sequence[str], promoted: Callable[[], Awaitable[None]]) -> None:
        """`urls` have one host each; `promoted` is called when another host has become the primary."""
        self.timeline = 0
        """The highest one seen; 0 before the first connection."""
        self._node = node
        self._urls = urls
        self._promoted = promoted

    async def connect(self, dsn: str | None = None, *, timeout: float = 0, **options: Any) -> Any:  # noqa: ASYNC109 - the driver's pool calls it
        """A connection to the primary; `options` are the driver's, and so is `dsn`, which names all hosts.

        Raises:
            TimeoutError: no host can be written, and not all have answered.
            Exception: what the driver says of a host, if none can be written; OSError: only a former primary can.
        """
        del dsn
        asked = {url: asyncio.create_task(_writable(url, options)) for url in self._urls}
        chosen = None
        try:
            async with asyncio.timeout(timeout):
                await self._answers(list(asked.values()))
            url = self._best(asked)
            timeline, connection = asked[url].result()
            await self._note(url, timeline)
            chosen = connection
            return connection
        finally:
            await _end(list(asked.values()), but=chosen)

    async def _answers(self, asked: Sequence[Asked]) -> None:
        """Wait until all have answered, or only for a moment more once one will do."""
        grace_seconds = GRACE_SECONDS if self.timeline else FIRST_SECONDS
        pending = set(asked)
        while pending:
            will_do = any(_timeline(task) >= max(self.timeline, 1) for task in asked)
            wait_seconds = grace_seconds if will_do else None
            done, pending = await asyncio.wait(pending, timeout=wait_seconds, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                return

    def _best(self, asked: dict[str, Asked]) -> str:
        """The URL of the host with the highest timeline. Raises as `connect` does."""
        found = {url: timeline for url, task in asked.items() if (timeline := _timeline(task))}
        if not found:
            failed = [task.exception() for task in asked.values()]
            raise min((error for error in failed if error is not None), key=_says_least)
        best = max(found, key=lambda url: found[url])
        highest = max(self.timeline, found[best])
        for url in (url for url, timeline in found.items() if timeline < highest):
            text = f"node {self._node}: {parse(url).hosts} is a former primary and can still be written; stop it"
            log_once_a_minute(log, logging.ERROR, f"former {url}", text)
        if found[best] < highest:
            raise ConnectionError("only a former primary can be written")
        return best

    async def _note(self, url: str, timeline: int) -> None:
        before, self.timeline = self.timeline, timeline
        if before and timeline > before:
            log.warning("node %s: %s is the primary now", self._node, parse(url).hosts)
            await self._promoted()


async def _writable(url: str, options: dict[str, Any]) -> tuple[int, Any]:
    """The timeline of a host, and a connection to it. Raises the driver's errors if it cannot be written."""
    connection = await asyncpg.connect(url, target_session_attrs=SessionAttribute.read_write, **options)
    try:
        return int(await connection.fetchval(TIMELINE), 16), connection
    except BaseException:
        connection.terminate()
        raise


def _timeline(asked: Asked) -> int:
    """Of a host that has turned out to be writable; 0 for others."""
    return 0 if not asked.done() or asked.exception() is not None else asked.result()[0]


async def _end(asked: Sequence[Asked], *, but: Any) -> None:
    """End the attempts that still run, and all connections but one."""
    for task in asked:
        task.cancel()
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, tuple) and answer[1] is not but:
            answer[1].terminate()


def _says_least(error: BaseException) -> tuple[bool, bool]:
    """Sorts what a server itself said before what its absence or its being a standby shows."""
    is_standby = isinstance(error, asyncpg.TargetServerAttributeNotMatched)
    return not isinstance(error, asyncpg.PostgresError), not is_standby
