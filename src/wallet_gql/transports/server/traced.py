"""A layer around the whole application, only where requests are traced: each becomes a span."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from ..http.record import traced
from .gate import PROBES


class Traced:
    """Wraps requests; operations on a WebSocket are traced where they are run."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with traced(given):
            await self._app(scope, receive, send)
