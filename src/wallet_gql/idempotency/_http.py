"""HTTP messages of the middleware: requests are read whole, responses are stored and replayed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Connection = MutableMapping[str, Any]
"""ASGI calls this the scope; here, a `Scope` is what a command loads."""

_NOT_KEPT: Final = frozenset({400, 401, 403, 408, 411, 413, 415, 417, 421, 425, 426, 429, 431})
_OWN_HEADERS: Final = frozenset(
    {b"connection", b"content-length", b"date", b"keep-alive", b"server", b"set-cookie", b"transfer-encoding"}
)
"""Headers that are not stored: those of one connection, and cookies, which a replay must not set again."""

_NO_LENGTH: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


def keeps(status: int) -> bool:
    """Whether an answer with this status is stored: successes, and refusals that depend on the state.

    Not stored: malformed requests, missing log-ins, exceeded limits, and errors of the server.
    """
    return status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _NOT_KEPT


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a joined decision. It is sent instead of the application's own response.

    Where HTTP allows no body (204, 205, 304), `body` is not sent.
    """

    status: int
    body: object = None
    """Plain JSON data."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, object]:
        """The answer as it is stored. A completer returns this as the value of `Settled`."""
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.headers.items()]
        if not any(name == b"content-type" for name, _ in headers):
            headers.append((b"content-type", b"application/json"))
        return Stored(self.status, headers, json.dumps(self.body).encode()).plain()


@dataclass(slots=True)
class Stored:
    """A response that can be stored."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    @property
    def is_encoded(self) -> bool:
        """Whether its body is compressed, so that a client must know the encoding."""
        found = [value for name, value in self.headers if name.lower() == b"content-encoding"]
        return any(value.strip().lower() not in (b"", b"identity") for value in found)

    @property
    def content_length(self) -> int | None:
        """The length of the body as the application told it; None if it did not."""
        found = [value for name, value in self.headers if name.lower() == b"content-length"]
        return int(found[0]) if found and found[0].isdigit() else None

    def plain(self) -> dict[str, object]:
        """The response as plain JSON data, without the headers that are not stored."""
        kept = [(name.lower(), value) for name, value in self.headers if name.lower() not in _OWN_HEADERS]
        return {
            "status": self.status,
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in kept],
            "body": base64.b64encode(self.body).decode(),
        }

    @classmethod
    def read(cls, plain: Mapping[str, Any], cookies: Stored | None = None) -> Stored:
        """The response from plain data. For the first answer, `cookies` adds the cookies, which are not stored.

        Raises AttributeError, KeyError, TypeError or ValueError if the data is not what `plain` returns.
        """
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in plain["headers"]]
        own = [(n, v) for n, v in (cookies.headers if cookies else ()) if n.lower() == b"set-cookie"]
        return cls(int(plain["status"]), headers + own, base64.b64decode(plain["body"]))


def replaying(body: bytes) -> Receive:
    """Return the body that was read, then wait for ever: the application does not notice a client that hangs up."""
    pending = [body]

    async def receive() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    return receive


async def read_body(receive: Receive, body_max: int) -> bytes | None:
    """The body; if it is too large, its beginning, longer than `body_max`; None if the client has hung up."""
    body = b""
    while len(body) <= body_max:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body


def has_body(method: str, status: int) -> bool:
    """Whether an answer has a body. Where it has none, clients would read one as the beginning of the next answer."""
    return method != "HEAD" and status >= HTTPStatus.OK and status not in (*_NO_LENGTH, HTTPStatus.RESET_CONTENT)


async def send_stored(send: Send, stored: Stored, method: str) -> None:
    """Send a whole answer to a request with this method."""
    body = stored.body if has_body(method, stored.status) else b""
    await send({"type": "http.response.start", "status": stored.status, "headers": _framed(stored, method)})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _framed(stored: Stored, method: str) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, with the length of its body where HTTP allows that (RFC 9110, 8.6 and 15)."""
    dropped = {b"content-length", b"transfer-encoding"}
    is_empty = not has_body("GET", stored.status)
    if is_empty:
        dropped.add(b"content-type")
    headers = [(name, value) for name, value in stored.headers if name.lower() not in dropped]
    if method == "HEAD" or stored.status < HTTPStatus.OK or stored.status in _NO_LENGTH:
        return headers  # after HEAD it would be the length for a GET, which is not known
    return [*headers, (b"content-length", b"0" if is_empty else str(len(stored.body)).encode())]
