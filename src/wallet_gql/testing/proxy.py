"""A TCP proxy between a store and its server that simulates network faults: it cuts, half-closes, drops and delays.

Faults may wait for a statement: `drop_reply(b"COMMIT PREPARED")` lets the statement through and closes the connection
instead of passing the answer on. This finds effects that happen twice.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final, Self

from .harness import Harness
from .patience import patience

CHUNK: Final = 65_536
_ADDRESS: Final = re.compile(r"\b(127\.0\.0\.\d+):(\d+)\b")


class Proxy:
    """Forwards connections from a free loopback port to `host:port`; every fault is counted in `hits`.

    `wire_bytes` is what passed in both directions, `round_trips` how often a connection asked after it was answered:
    requests that are sent without waiting for the answers before them count once.
    """

    def __init__(self, host: str, port: int) -> None:
        self.wire_bytes = 0
        self.round_trips = 0
        self.hits: Counter[str] = Counter()
        self.port = 0
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._dropping: dict[bytes, int] = {}
        self._refusing = False
        self._open = asyncio.Event()
        self._open.set()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop listening and cut everything."""
        assert self._server is not None
        self._server.close()
        self._open.set()
        self.cut()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience(2)):
                await self._server.wait_closed()

    def lead_to(self, host: str, port: int) -> None:
        """Forward new connections there: the server has been started again."""
        self._target = (host, port)

    def cut(self) -> None:
        """Reset every connection."""
        for link in list(self._links):
            self.hits["cut"] += 1
            link.abort()

    def half_close(self) -> None:
        """End the direction to the server on every connection; answers may still come."""
        for link in list(self._links):
            self.hits["half-close"] += 1
            link.end_requests()

    def drop_reply(self, statement: bytes, times: int = 1) -> None:
        """The next `times` requests that contain `statement` reach the server; their answers never arrive."""
        self._dropping[statement] = self._dropping.get(statement, 0) + times

    def keep_replies(self) -> None:
        """Drop no more replies."""
        self._dropping.clear()

    def hold(self) -> None:
        """Let nothing pass in either direction until `release`; connections stay open."""
        self.hits["hold"] += 1
        self._open.clear()

    def release(self) -> None:
        """Let everything pass again, beginning with what was held."""
        self._open.set()

    def refuse(self) -> None:
        """Reset every connection, and from now on each new one as soon as it is accepted."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        """Let new connections through again."""
        self._refusing = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            self.hits["refused"] += 1
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(reader, far_writer, lambda data: self._request(link, data)),
                self._pump(far_reader, writer, lambda data: self._reply(link, data)),
            )
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._links.discard(link)
            link.abort()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, passes: Callable[[bytes], bool]
    ) -> None:
        while data := await source.read(CHUNK):
            await self._open.wait()
            if passes(data):
                sink.write(data)
                await sink.drain()
        if not sink.is_closing():
            sink.close()

    def _request(self, link: _Link, data: bytes) -> bool:
        if link.ended:
            link.abort()
            return False
        self.wire_bytes += len(data)
        self.round_trips += not link.asked
        link.asked = True
        for statement, left in self._dropping.items():
            if left and statement in data:
                self._dropping[statement] -= 1
                link.dropping = statement
        return True

    def _reply(self, link: _Link, data: bytes) -> bool:
        self.wire_bytes += len(data)
        link.asked = False
        if link.dropping is None:
            return True
        self.hits[f"dropped the reply to {link.dropping.decode()}"] += 1
        link.abort()
        return False


class _Link:
    """One connection's two ends."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._near = near
        self._far = far
        self.dropping: bytes | None = None
        self.asked = False
        self.ended = False

    def abort(self) -> None:
        for writer in (self._near, self._far):
            writer.transport.abort()

    def end_requests(self) -> None:
        self.ended = True
        if self._far.can_write_eof() and not self._far.is_closing():
            self._far.write_eof()


@asynccontextmanager
async def behind_proxies(harness: Harness) -> AsyncIterator[list[Proxy]]:
    """Stores that the started harness opens meanwhile reach each of its servers through a proxy of its own.

    Servers are the loopback addresses in its URL; the list is empty if there are none.
    """
    plain, proxies = harness.url, dict[str, Proxy]()
    async with AsyncExitStack() as stack:
        for match in _ADDRESS.finditer(plain):
            if match[0] not in proxies:
                proxies[match[0]] = await stack.enter_async_context(Proxy(match[1], int(match[2])))
        moved = _ADDRESS.sub(lambda match: f"127.0.0.1:{proxies[match[0]].port}", plain)
        harness.url = harness.as_written(moved)
        try:
            yield list(proxies.values())
        finally:
            harness.url = plain
