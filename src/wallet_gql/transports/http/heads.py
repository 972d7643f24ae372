"""Limits on one connection: the size of a request's head, and the time its parts may take.

The head is the address, the headers, and the trailers after the body.

The parser has no size limit. It buffers a header's value until the value ends, without a callback, so two sizes are
counted: what callbacks have reported of one message, and what the parser has received since the last callback.

Uvicorn does not limit the time in which a request may arrive, and any byte ends its keep-alive timeout. So a connection
whose head or body is late is answered 408 and closed, and one that does not read its answer is cut.

This is also the only place that knows the real peer, so it drops `X-Request-Id` and the headers of traces from anybody
but trusted proxies. Later the client's address may be one that a proxy has forwarded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any, Final

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ... import traces
from ..catalogue.errors import HEADERS_TOO_LARGE, REQUEST_TIMEOUT, Code
from .joined import Joined
from .logs import REQUEST_ID_HEADER
from .whole import WHOLE

HEAD_MAX: Final = 64 * 1024
"""The largest head of a request, in bytes. Each header counts `_EACH` bytes more, for its memory."""

_EACH: Final = 32
_OF_PROXIES: Final = frozenset(name.lower().encode() for name in (REQUEST_ID_HEADER, *traces.HEADERS))
_EXPECT: Final = b"expect"
_NOTED: Final = _OF_PROXIES | {_EXPECT}
"""Headers that are not just passed on."""
_ENDS: Final = {True: b"\r\n", False: b"connection: close\r\n\r\n"}
"""How a head ends, by whether the connection stays open."""


def _refusal(code: Code, detail: str) -> bytes:
    """A whole response that ends the connection; the protocol sends it, before there is an application."""
    body = orjson.dumps(
        {
            "type": "about:blank",
            "title": code.status.phrase,
            "status": code.status,
            "detail": detail,
            "code": code.name,
            "retryable": code.retryable,
        }
    )
    head = (
        f"HTTP/1.1 {code.status.value} {code.status.phrase}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


_TOO_LARGE: Final = _refusal(
    HEADERS_TOO_LARGE, f"address and headers are larger than {HEAD_MAX} bytes; send fewer, or shorter ones"
)
_TOO_SLOW: Final = _refusal(REQUEST_TIMEOUT, "the request did not arrive in time; send it again")


@dataclass(frozen=True, slots=True)
class Times:
    """How long the parts of a request may take to arrive, in seconds."""

    head_seconds: float
    body_seconds: float


def _is_in(address: str, proxies: list[str] | str | None) -> bool:
    """Whether an address is one of these, or in one of these networks."""
    networks = proxies.split(",") if isinstance(proxies, str) else proxies or ()
    try:
        return any(ip_address(address) in ip_network(one) for one in networks if one)
    except ValueError:
        return False


class HeadTooLargeError(Exception):
    """Raised inside the parser, which then stops."""


class BoundedHeads(HttpToolsProtocol):
    """One connection. A head that is too large is answered 431, a slow request 408; both close the connection."""

    def __init__(self, *args: Any, times: Times, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._times = times
        self._has_begun = False
        self._in_body = False
        self._received = 0
        self._answered: RequestResponseCycle | None = None
        self._awaited: tuple[int, bool] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._reading_deadline: asyncio.TimerHandle | None = None
        self._told_bytes = 0
        self._untold_bytes = 0
        self._is_over = False
        self._is_proxy = False

    def connection_made(self, transport: Any) -> None:
        """A client or a proxy has connected."""
        super().connection_made(transport)
        proxies = self.config.forwarded_allow_ips if self.config.proxy_headers else None
        self._is_proxy = self.client is not None and _is_in(self.client[0], proxies)
        self._joined = Joined(transport, self.loop)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_watching()
        if self._reading_deadline is not None:
            self._reading_deadline.cancel()
        self._give_up()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._untold_bytes += len(data)  # any callback of the parser resets it
        super().data_received(data)
        if self._untold_bytes > HEAD_MAX and not self._is_over:
            self._refuse()
        self._watch()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._has_begun = True
        self._told_bytes = self._untold_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or trailer is complete."""
        self._untold_bytes = 0  # as `_count`, which would be called for each header
        self._told_bytes += len(name) + len(value) + _EACH
        if self._told_bytes > HEAD_MAX:
            self._count(0)
        name = name.lower()
        if name not in _NOTED:
            self.headers.append((name, value))
        elif name == _EXPECT:
            super().on_header(name, value)
        elif self._is_proxy:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._untold_bytes = 0
        self._in_body = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which has a limit of its own."""
        self._untold_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete; the next one may follow."""
        self._untold_bytes = 0
        self._received += 1
        self._has_begun = self._in_body = False
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Another protocol takes over, which has limits of its own."""
        self._is_over = True
        self._stop_watching()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """The client does not read what it is sent."""
        super().pause_writing()
        self._cut_later()

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if self._reading_deadline is not None and not self.transport.is_closing():
            self._reading_deadline.cancel()
            self._reading_deadline = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        cycle.transport = self._joined  # type: ignore[assignment]  # as much of it as a cycle uses
        cycle.scope[WHOLE] = partial(self._write_whole, cycle)  # type: ignore[typeddict-unknown-key]
        super()._start_asgi_task(cycle, app)

    def _write_whole(self, cycle: RequestResponseCycle, status: int, head: bytes, body: bytes) -> bool:
        """Send a request's whole answer at once; False if it has to be sent in ASGI's way. See `whole`."""
        if cycle.response_started or cycle.disconnected or self.flow.write_paused:
            return False
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"".join((STATUS_LINE[status], *self._defaults(), head, _ENDS[cycle.keep_alive], body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def _defaults(self) -> Iterator[bytes]:
        """The headers that uvicorn adds to each answer, such as the date."""
        for name, value in self.server_state.default_headers:
            yield from (name, b": ", value, b"\r\n")

    def on_response_complete(self) -> None:
        """An answer is written; the last one of a connection may still have to be read."""
        self._joined.flush()  # of an answer to HEAD nothing is written after its head
        super().on_response_complete()
        if self.transport.is_closing():
            self._cut_later()

    def timeout_keep_alive_handler(self) -> None:
        """No request came for a while."""
        super().timeout_keep_alive_handler()
        self._cut_later()

    def send_400_response(self, msg: str) -> None:
        """The parser stopped."""
        if self._is_over:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _count(self, size: int) -> None:
        self._untold_bytes = 0
        self._told_bytes += size
        if self._told_bytes > HEAD_MAX:
            self._is_over = True
            raise HeadTooLargeError

    def _refuse(self) -> None:
        self._is_over = True
        if self._is_free():
            self.transport.write(_TOO_LARGE)
        self.logger.warning("A request's head was larger than %d bytes.", HEAD_MAX)
        self._close()

    def _is_free(self) -> bool:
        """Whether a refusal may be written now: not in the middle of another answer."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def _watch(self) -> None:
        """Start the timer for what the client must send or read next, unless it runs already."""
        waits = self._has_begun or self._untold_bytes > 0 or not self._received
        awaited = (self._received, self._in_body) if waits and not self._is_over else None
        if awaited == self._awaited:
            return
        self._stop_watching()
        if awaited is not None:
            self._awaited = awaited
            seconds = self._times.body_seconds if self._in_body else self._times.head_seconds
            self._deadline = self.loop.call_later(seconds, self._on_deadline)

    def _stop_watching(self) -> None:
        self._awaited = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        """The client was too slow."""
        self._stop_watching()
        if self._in_body:
            can_tell = not self.cycle.response_started and not self.pipeline
        elif self._is_free():
            can_tell = self._has_begun
        else:
            self._watch()  # the client may be waiting for the answer to the previous request
            return
        self._is_over = True
        if can_tell:
            self.transport.write(_TOO_SLOW)
        self._give_up()
        self._close()

    def _close(self) -> None:
        self.transport.close()
        self._cut_later()

    def _cut_later(self) -> None:
        """Give the client time to read what was written, then close the connection."""
        if self._reading_deadline is None:
            self._reading_deadline = self.loop.call_later(self._times.body_seconds, self._cut)

    def _cut(self) -> None:
        self._give_up()
        self.transport.abort()

    def _give_up(self) -> None:
        """Send nothing more: tell the application that the client is gone, and drop what it still sends.

        Uvicorn tells only the newest request. If several were pipelined, that is not the one being answered.
        """
        self.pipeline.clear()
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
