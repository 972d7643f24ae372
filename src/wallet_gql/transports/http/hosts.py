"""Checks the host of requests against `WALLET_ALLOWED_HOSTS`, and keeps the client's Host header out of redirects."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from ..catalogue import texts
from ..catalogue.errors import BAD_REQUEST, MISDIRECTED_REQUEST
from .problems import Problem, refuse

_HOST: Final = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
_HOST_MAX: Final = 262
"""The longest name that DNS allows, with a port."""

_PROBES: Final = ("/healthz", "/readyz")
"""Balancers and orchestrators request these by address, or by HTTP/1.0 without a host. Their answers name no host."""


def is_allowed(host: bytes | None, allowed: frozenset[str]) -> bool:
    """Whether a Host header, the only one, is valid and this server's."""
    name = None if host is None else _name(host)
    return name is not None and (not allowed or name in allowed)


class Hosts:
    """Refuses a request without a valid host, or with several (400), and a request for another host (421)."""

    def __init__(self, app: ASGIApp, *, allowed: frozenset[str]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        problem = None if scope["type"] == "lifespan" else self._problem(scope)
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await refuse(problem, scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        is_for_any = not self._allowed or scope["path"] in _PROBES
        if not hosts and scope.get("http_version") == "1.0" and is_for_any:
            return None
        name = _name(hosts[0]) if len(hosts) == 1 else None
        if name is None:
            return Problem(BAD_REQUEST, texts.HOST())
        if not is_for_any and name not in self._allowed:
            return Problem(MISDIRECTED_REQUEST, texts.OTHER_HOST())
        return None


def _name(host: bytes) -> str | None:
    """The name or address in a Host header, in lower case; None if it is malformed."""
    return None if len(host) > _HOST_MAX else _known_name(host)


@lru_cache(maxsize=256)
def _known_name(host: bytes) -> str | None:
    found = _HOST.fullmatch(host.decode("latin-1"))
    return found["name"].lower() if found else None


def relative(location: str) -> str:
    """Make a redirect relative: Starlette builds it from the Host header, which the client controls."""
    parts = urlsplit(location)
    return urlunsplit(("", "", f"/{parts.path.lstrip('/')}", parts.query, ""))
