"""Server-sent events, in the "distinct connections" mode of the GraphQL over SSE protocol: one operation per response.

`next` events carry results, `complete` ends the operation. A stream that ends without `complete` was cut off: the
client connects again. The events of a subscription have an id: where to resume. An `EventSource` sends that id
(`Last-Event-ID`) when it connects again, and so resumes.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, ClassVar, Final

import orjson
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from strawberry.types.execution import ExecutionResult

from .context import Context
from .http_spec import EVENT_STREAM, payload
from .ticks import cancelled, ticking

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 12.0
"""How often something is sent, so that proxies and clients know that the connection is alive."""

SEND_SECONDS: Final = 30.0
"""How long a client may fail to read before the connection is closed."""

_HEADERS: Final = {
    "content-type": f"{EVENT_STREAM}; charset=utf-8",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",  # otherwise nginx would buffer the events
}
_EVENT_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,40000}", re.ASCII)
"""A sequence of `accountEvents`, or a cursor of `viewerEvents`."""


class EventStream:
    """An ASGI response that sends results as they come, until they end, the client leaves or the server stops."""

    end: ClassVar[bytes] = b"event: complete\ndata: \n\n"
    """What is sent when the results have ended."""

    def __init__(self, results: AsyncGenerator[Any, None], context: Context) -> None:
        self._results = results
        self._context = context

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything."""
        message: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
        headers = MutableHeaders(scope=message)
        headers.raw.extend(self._context.headers)
        headers.update(_HEADERS)
        await send(message)
        writing = asyncio.ensure_future(self._write(send))
        others = [asyncio.ensure_future(_gone(receive)), asyncio.ensure_future(self._context.live.stopping.wait())]
        try:
            await asyncio.wait({writing, *others}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(*others, *([] if writing.done() else [writing]))
        try:
            if not writing.cancelled():
                writing.result()
        except TimeoutError:
            log.info("a client that takes nothing any more was given up")
            return
        if not others[0].done() or others[0].cancelled():
            await _send(send, b"", more=False)

    async def _write(self, send: Send) -> None:
        await _send(send, b":\n\n")
        async with aclosing(ticking(self._results, HEARTBEAT_SECONDS)) as results:
            async for result in results:
                if result is None:
                    await _send(send, b":\n\n")
                    continue
                await _send(send, self.event(result))
        if self.end:
            await _send(send, self.end)

    def event(self, result: Any) -> bytes:
        """A result as it is sent."""
        event_id = self._context.event_id
        number = b"" if event_id is None else b"id: %b\n" % event_id.encode()
        return number + b"event: next\ndata: " + orjson.dumps(payload(result)) + b"\n\n"


def last_event_id(request: Request) -> str | None:
    """The id of the event that an `EventSource` saw last; None if it sent none, or none of ours."""
    given = request.headers.get("last-event-id", "")
    return given if _EVENT_ID.fullmatch(given) else None


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def _gone(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def single(result: ExecutionResult) -> AsyncGenerator[ExecutionResult, None]:
    """A stream with the only result of an operation."""
    yield result
