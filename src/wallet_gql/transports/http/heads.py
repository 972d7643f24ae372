"""A limit on what comes before a body: the address, the headers, and trailers behind it; and who may name a request.

The parser has none. It keeps a header's value together until the value ends, and tells nobody meanwhile, so two things
are counted: what it has told of one message, and how much it has taken since it last told anything.

Here alone it is known who sent a request: later the address may be the one that a proxy told.
"""

from __future__ import annotations

from http import HTTPStatus
from ipaddress import ip_address, ip_network
from typing import Any, Final

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .logs import REQUEST_ID_HEADER

HEAD_MAX: Final = 64 * 1024
"""The largest head of a request, in bytes; each header counts `_EACH` more, for what it costs in memory."""

_EACH: Final = 32
_NAME: Final = REQUEST_ID_HEADER.lower().encode()
_STATUS: Final = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
_BODY: Final = orjson.dumps(
    {
        "type": "about:blank",
        "title": _STATUS.phrase,
        "status": _STATUS,
        "detail": f"address and headers are larger than {HEAD_MAX} bytes; send fewer, or shorter ones",
        "code": _STATUS.name,
        "retryable": False,
    }
)
_ANSWER: Final = (
    f"HTTP/1.1 {_STATUS.value} {_STATUS.phrase}\r\ncontent-type: application/problem+json\r\n"
    f"content-length: {len(_BODY)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
).encode() + _BODY


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
    """One connection; one that sends too large a head is answered 431 and closed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._told_bytes = 0
        self._untold_bytes = 0
        self._is_over = False
        self._is_proxy = False

    def connection_made(self, transport: Any) -> None:
        """A client, or a proxy, has connected."""
        super().connection_made(transport)
        proxies = self.config.forwarded_allow_ips if self.config.proxy_headers else None
        self._is_proxy = self.client is not None and _is_in(self.client[0], proxies)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._untold_bytes += len(data)  # whatever the parser tells sets it back
        super().data_received(data)
        if self._untold_bytes > HEAD_MAX and not self._is_over:
            self._refuse()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._told_bytes = self._untold_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or trailer is complete."""
        self._count(len(name) + len(value) + _EACH)
        if self._is_proxy or name.lower() != _NAME:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._untold_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which has a limit of its own."""
        self._untold_bytes = 0
        super().on_body(body)

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
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:  # else it would stand in the middle of an answer
            self.transport.write(_ANSWER)
        self.logger.warning("A request's head was larger than %d bytes.", HEAD_MAX)
        self.transport.close()
