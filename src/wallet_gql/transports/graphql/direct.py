"""The short way of a usual request: `POST /graphql` with a session token, for a document that has a plan.

It gives the same answer as the long way through Starlette and Strawberry, in less time. A request with anything unusual
in it, in its head, body, document or variables, goes the long way, before anything is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope

from ...domain.errors import RateLimited
from ..http.auth import bearer, caller_of_token
from ..http.errors import problem
from ..http.hosts import is_allowed
from ..http.problems import BODY_MAX, Problem
from ..http.rate_limits import count_request
from .http_spec import wanted_by

if TYPE_CHECKING:
    from .view import WalletView

_BODY_TYPES: Final = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")
_ACCEPT_MAX: Final = 500
"""Longer ones, in bytes, go the long way: what is remembered of them must not fill the memory."""

_UNUSUAL: Final = frozenset({b"content-encoding", b"expect", b"last-event-id", b"origin", b"transfer-encoding"})
"""Headers that change what is answered, or how."""


class Usual(NamedTuple):
    """What a usual request's head says: the session's token, and the media type of the answer."""

    token: str
    media_type: str


class Direct:
    """Answers usual requests. It does for them what the layers of the long way do: host, opening, limits."""

    def __init__(self, view: WalletView, hosts: frozenset[str]) -> None:
        """`hosts` are those of `WALLET_ALLOWED_HOSTS`."""
        self._view = view
        self._hosts = hosts

    def usual(self, scope: Scope, given: Mapping[bytes, bytes]) -> Usual | None:
        """What the head says; None if there is anything unusual in it. `given` are the headers by name."""
        if scope["path"] != "/graphql" or scope["method"] != "POST" or scope["app"].state.wallet is None:
            return None
        if len(given) != len(scope["headers"]) or not _UNUSUAL.isdisjoint(given):
            return None
        token = given.get(b"authorization")
        if token is None or given.get(b"content-type") not in _BODY_TYPES or b"content-length" not in given:
            return None
        if not is_allowed(given.get(b"host"), self._hosts):
            return None
        accept = given.get(b"accept")
        media_type = None if accept is not None and len(accept) > _ACCEPT_MAX else _media_type(accept)
        return None if media_type is None else Usual(bearer(token.decode("latin-1")), media_type)

    async def answer(self, usual: Usual, scope: Scope, receive: Receive) -> tuple[ASGIApp | None, Receive]:
        """The answer; None if the request has to go the long way, which can receive it once more."""
        state = scope["app"].state
        try:
            visitor = await count_request(scope, state.limits)
        except RateLimited as error:
            return problem(error), receive
        body, is_whole = await _read(receive)
        prepared = self._view.prepare(body) if is_whole else None
        if prepared is None:
            return None, _again(body, receive, is_whole=is_whole)
        caller = caller_of_token(scope, usual.token, visitor)
        return await self._view.run_prepared(prepared, state.wallet, caller, usual.media_type), receive


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
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        if not message.get("more_body"):
            return b"".join((*parts, part)) if parts else part, True
        parts.append(part)
        size += len(part)
        if size > BODY_MAX:
            return b"".join(parts), False


def _again(body: bytes, receive: Receive, *, is_whole: bool) -> Receive:
    """What gives the body that was read once more, and then what comes."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": not is_whole}]

    async def give() -> Any:
        return pending.pop() if pending else await receive()

    return give
