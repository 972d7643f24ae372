"""Sends the head of an answer together with what follows it, in one write.

Uvicorn writes an answer's head and its body one after the other. With two writes the system is called twice, and wakes
the client twice.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

_HEAD: Final = b"HTTP/1.1 "


class Joined:
    """A connection's transport, as far as the answer to a request uses it.

    A head waits for the next write, or until the event loop has run what is ready now. So the head of a stream is not
    kept back until there is something to stream.
    """

    __slots__ = ("_head", "_loop", "_transport", "_waiting")

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._waiting: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        """Write, with the head that waits if there is one."""
        if self._waiting is not None:
            self._transport.write(self._take() + data)
        elif data.startswith(_HEAD):
            self._head = data
            self._waiting = self._loop.call_soon(self.flush)
        else:
            self._transport.write(data)

    def is_closing(self) -> bool:
        """See `asyncio.Transport`."""
        return bool(self._transport.is_closing())

    def close(self) -> None:
        """See `asyncio.Transport`. What was written is sent before."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Write the head that waits, if there is one."""
        if self._waiting is not None:
            head = self._take()
            if not self._transport.is_closing():  # the connection was cut meanwhile
                self._transport.write(head)

    def _take(self) -> bytes:
        assert self._waiting is not None
        self._waiting.cancel()
        self._waiting = None
        head, self._head = self._head, b""
        return head
