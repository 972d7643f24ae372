"""An answer that is known as a whole: one write, where the server is ours.

ASGI sends a head and a body in two messages, and a server checks each header again. `BoundedHeads` puts a function into
the scope, under `WHOLE`, that takes both at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.types import Receive, Scope, Send

WHOLE: Final = "wallet.whole"
"""Where a scope keeps the function, if the server has one."""

WriteWhole = Callable[[int, bytes, bytes], bool]
"""Status, lines of the head without its end, and body. False: nothing was sent, so send it as ASGI does."""


class Whole:
    """An answer with a body that is complete. `headers` are those besides its length and type."""

    __slots__ = ("body", "headers", "media_type", "status")

    def __init__(self, status: int, media_type: str, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.media_type = media_type
        self.body = body
        self.headers = headers

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it as ASGI does."""
        kind = f"{self.media_type}; charset=utf-8".encode()
        own = [(b"content-length", b"%d" % len(self.body)), (b"content-type", kind)]
        await send({"type": "http.response.start", "status": self.status, "headers": [*own, *self.headers]})
        await send({"type": "http.response.body", "body": self.body})
