"""The short way of a usual request: `POST /graphql` with a session token, for a document that has a plan.

It gives the same answer as the long way through Starlette and Strawberry, in less time. A request with anything unusual
in it, in its head, body, document or variables, goes the long way, before anything is counted or run.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..http.auth import bearer
from ..http.problems import BODY_MAX, Problem
from .http_spec import wanted_by

if TYPE_CHECKING:
    from .view import WalletView

_BODY_TYPES: Final = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")
_UNUSUAL: Final = frozenset({b"content-encoding", b"expect", b"last-event-id", b"origin", b"transfer-encoding"})
"""Headers that change what is answered, or how."""


class Direct:
    """Middleware that answers usual requests itself, and passes on all others. `CountRequests` has counted them."""

    def __init__(self, app: ASGIApp, *, view: WalletView) -> None:
        self._app = app
        self._view = view

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        head = _usual(scope)
        if head is None:
            await self._app(scope, receive, send)
            return
        body, is_whole = await _read(receive)
        prepared = self._view.prepare(body) if is_whole else None
        if prepared is None:
            await self._app(scope, _again(body, receive, is_whole=is_whole), send)
            return
        token, media_type = head
        answer = await self._view.run_prepared(prepared, scope, token, media_type)
        await answer(scope, receive, send)


def _usual(scope: Scope) -> tuple[str, str] | None:
    """The token and the media type of the answer; None if there is anything unusual in the head."""
    if scope["type"] != "http" or scope["path"] != "/graphql" or scope["method"] != "POST":
        return None
    headers = scope["headers"]
    given = dict(headers)
    if len(given) != len(headers) or not _UNUSUAL.isdisjoint(given):
        return None
    token, length = given.get(b"authorization"), given.get(b"content-length", b"")
    if token is None or given.get(b"content-type") not in _BODY_TYPES:
        return None
    if not length.isdigit() or int(length) > BODY_MAX:
        return None
    media_type = _media_type(given.get(b"accept"))
    return None if media_type is None else (bearer(token.decode("latin-1")), media_type)


@lru_cache(maxsize=256)
def _media_type(accept: bytes | None) -> str | None:
    """The media type of the answer; None if there is none, or if the client prefers a stream."""
    try:
        wanted = wanted_by(None if accept is None else accept.decode("latin-1"))
    except Problem:
        return None
    return None if wanted.stream_first else wanted.json


async def _read(receive: Receive) -> tuple[bytes, bool]:
    """The body, and whether it is whole: what is longer than it may be is not read on. Raises ClientDisconnect."""
    parts, size, more = [], 0, True
    while more and size <= BODY_MAX:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts), not more


def _again(body: bytes, receive: Receive, *, is_whole: bool) -> Receive:
    """What gives the body that was read once more, and then what comes."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": not is_whole}]

    async def give() -> Any:
        return pending.pop() if pending else await receive()

    return give
