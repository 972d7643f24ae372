"""Who is asking: a session token from the cookie or the `Authorization` header, and the check against forged requests.

The cookie is `__Host-wallet`: HttpOnly, Secure, SameSite=Lax, Path=/. The prefix makes browsers refuse it when it was
set by a subdomain or without TLS. On http://localhost Chrome and Firefox accept it all the same; elsewhere without TLS
use a bearer token.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from ..domain.errors import Unauthenticated
from ..domain.users import ABSOLUTE, Session, SessionKind
from ..identity import Identity
from .problems import Problem

COOKIE: Final = "__Host-wallet"
_BEARER: Final = "bearer "
_OWN_SITES: Final = ("same-origin", "none")


def token_of(request: Request) -> str | None:
    """The session token a request carries, unchecked. A header wins over the cookie; None if there is neither."""
    header = request.headers.get("authorization")
    if header is None:
        return request.cookies.get(COOKIE)
    return header[len(_BEARER) :].strip() if header.lower().startswith(_BEARER) else ""


def set_cookie(response: Response, token: str) -> None:
    """Give the browser a session; the browser forgets it when the session must end at the latest."""
    lasts = int(ABSOLUTE[SessionKind.COOKIE].total_seconds())
    response.set_cookie(COOKIE, token, max_age=lasts, path="/", secure=True, httponly=True, samesite="lax")


def clear_cookie(response: Response) -> None:
    """Make the browser forget its session."""
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")


def check_same_site(request: Request) -> None:
    """Refuse what another site made a browser send, for the cookie would go with it.

    A request with an `Authorization` header passes: another site cannot add one, and the cookie is not looked at then.
    Browsers tell by `Sec-Fetch-Site`, older ones by `Origin`; a client that sends neither is no browser.

    Raises:
        Problem: 403.
    """
    if "authorization" in request.headers:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        allowed = site in _OWN_SITES
    else:
        allowed = origin is None or _host_of(origin) == request.headers.get("host")
    if not allowed:
        detail = "the request comes from another site; send it from the wallet's own origin, or use a bearer token"
        raise Problem(HTTPStatus.FORBIDDEN, "CROSS_SITE", detail)


def _host_of(origin: str) -> str | None:
    """The host and port of an origin; None if it is malformed."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


class Caller:
    """Whoever sends one request; the session is looked up once, when it is first needed."""

    def __init__(self, identity: Identity, token: str | None) -> None:
        self._identity = identity
        self._token = token
        self._session: Session | None = None
        self._lock = asyncio.Lock()

    async def session(self) -> Session:
        """The live session. Raises Unauthenticated: no token, a forged one, or an expired one."""
        async with self._lock:
            if self._token is None:
                raise Unauthenticated
            if self._session is None:
                self._session = await self._identity.authenticate(self._token)
            return self._session

    async def log_out(self) -> bool:
        """End the session at once, also for the rest of this request; says whether there was a live one."""
        try:
            session = await self.session()
        except Unauthenticated:
            return False
        await self._identity.log_out(session)
        self._token = self._session = None
        return True
