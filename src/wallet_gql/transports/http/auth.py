"""Who sends a request: the session token from the cookie or the `Authorization` header, and the check against CSRF.

The cookie is `__Host-wallet`: HttpOnly, Secure, SameSite=Lax, Path=/. Because of the prefix, browsers refuse it if a
subdomain sets it, or without TLS. Chrome and Firefox accept it on http://localhost; for other clients there, a second
cookie `wallet-dev` is set, which is not Secure. Anywhere else without TLS, use a bearer token.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

from ...domain.errors import RateLimited, Unauthenticated, Unavailable
from ...domain.ids import UserId
from ...domain.security_events import Visitor
from ...domain.users import ABSOLUTE, Session, SessionKind, User, login_claim
from ...identity import Identity
from ...people import LOOKING_UP
from ..catalogue.operations import READS
from .origins import cross_site, is_plain_loopback, is_same_site
from .rate_limits import Limits, visitor_of
from .record import current

COOKIE: Final = "__Host-wallet"
DEV_COOKIE: Final = "wallet-dev"
"""Set only if `is_plain_loopback`."""

_BEARER: Final = "bearer "


def token_of(connection: HTTPConnection) -> str | None:
    """The session token of a request, unchecked; the header wins over the cookie. None if there is neither."""
    header = connection.headers.get("authorization")
    if header is not None:
        return bearer(header)
    token = _cookie(connection, COOKIE)
    return _cookie(connection, DEV_COOKIE) if token is None and is_plain_loopback(connection) else token


def bearer(header: str) -> str:
    """The token of an `Authorization` header; `""`, which is no valid token, if it is of another scheme."""
    return header[len(_BEARER) :].strip() if header.lower().startswith(_BEARER) else ""


def _cookie(connection: HTTPConnection, name: str) -> str | None:
    """The value of the cookie with exactly this name, byte for byte; `""`, which is no valid token, if it comes twice.

    Starlette's parser is not used, because it strips more from names than browsers do: it would accept a cookie whose
    name begins with a no-break space, and any subdomain can set that one.
    """
    pairs = (
        pair.strip(b" \t").partition(b"=")
        for header, text in connection.scope["headers"]
        if header == b"cookie"
        for pair in text.split(b";")
    )
    found: list[bytes] = [value for key, _, value in pairs if key == name.encode()]
    if not found:
        return None
    return found[0].decode("latin-1") if len(found) == 1 else ""


def check_same_site(connection: HTTPConnection) -> None:
    """Refuse requests that another site made a browser send with its cookie: see `origins.is_same_site`.

    Raises:
        Problem: 403.
    """
    has_cookie = _cookie(connection, COOKIE) is not None or _cookie(connection, DEV_COOKIE) is not None
    if not is_same_site(connection, has_cookie=has_cookie):
        raise cross_site()


class Caller:
    """The sender of one request. The session is read once, when it is first needed.

    Without `limits` (and so without a network) nothing is counted. Without its `scope`, only the usual cookie is set.
    """

    def __init__(
        self,
        identity: Identity,
        token: str | None,
        *,
        visitor: Visitor | None = None,
        limits: Limits | None = None,
        scope: Scope | None = None,
    ) -> None:
        self.visitor = visitor
        self._identity = identity
        self._token = token
        self._limits = limits
        self._scope = scope
        self._only_reads = self._is_recent = False
        self._session: Session | None = None
        self._lock = asyncio.Lock()
        self._looked_up: set[str] = set()
        self._looking_up: asyncio.Lock | None = None

    def announce(self, *verbs: str) -> None:
        """Tell what the request is going to do. Unless it only reads, its session is read from the store."""
        self._only_reads = bool(verbs) and all(verb in READS or verb.startswith("__") for verb in verbs)

    async def session(self) -> Session:
        """The live session; of a request that only reads it may be as old as `WALLET_SESSION_CACHE_SECONDS`.

        Raises:
            Unauthenticated: no token, a forged one, or an expired one.
            RateLimited: too many requests of this user.
        """
        return await self._live(may_be_recent=self._only_reads)

    async def user(self) -> User | None:
        """The session's user. Of a request that only reads, it is as old as the session. Raises as `session`."""
        session = await self.session()
        recent = self._identity.recent_user(session) if self._only_reads else None
        return recent or await self._identity.user(session.user_id)

    async def _live(self, *, may_be_recent: bool) -> Session:
        if self._session is not None and (may_be_recent or not self._is_recent):
            return self._session
        async with self._lock:
            if self._token is None:
                raise Unauthenticated
            if self._session is None:
                recent = self._identity.recent(self._token) if may_be_recent else None
                session = recent or await self._identity.authenticate(self._token)
                if self._limits is not None:
                    await self._limits.count_user(session.user_id)
                self._session, self._is_recent = session, recent is not None
                current().user_id = session.user_id
            elif self._is_recent and not may_be_recent:
                self._session, self._is_recent = await self._identity.authenticate(self._token), False
            return self._session

    async def fresh_session(self) -> Session:
        """The session, for verbs that take money out. Raises FreshLogInRequired if the log-in is too long ago."""
        session = await self.session()
        self._identity.check_fresh(session)
        return session

    async def check_again(self) -> None:
        """Raise Unauthenticated if the session has ended meanwhile; for subscriptions, which outlast a request.

        This does not count as a use of the session, so its idle time goes on.
        """
        if self._token is None:
            raise Unauthenticated
        self._session = await self._identity.authenticate(self._token, is_use=False)

    async def count(self, *verbs: str) -> None:
        """Count the verbs of a request before any of them runs. Raises RateLimited.

        A missing session is ignored here: the verb that needs it will report that.
        """
        self.announce(*verbs)
        if self._limits is not None and verbs:
            await self._limits.count_verbs(await self._user_if_any(), self.visitor, verbs)

    async def spend(self, cost: int) -> None:
        """Deduct a cost from the budgets of the user and of the network, before the work is done. Raises RateLimited.

        Without a session only the network pays.
        """
        if self._limits is not None and cost > 0:
            await self._limits.spend(await self._user_if_any(), self.visitor, cost)

    async def count_log_in(self, login: str) -> None:
        """Count an attempt to log in under a name, before the attempt. Raises RateLimited."""
        if self._limits is not None:
            await self._limits.count_log_in(self.visitor, login_claim(login).id)

    async def look_up(self, name: str) -> None:
        """Count a look-up by name; each name counts once per request. Raises RateLimited."""
        if self._limits is None:
            return
        self._looking_up = self._looking_up or asyncio.Lock()
        async with self._looking_up:
            if name not in self._looked_up:
                await self._limits.count_lookup(await self._user_if_any(), self.visitor, name)
                self._looked_up.add(name)

    async def _user_if_any(self) -> UserId | None:
        try:
            return (await self._live(may_be_recent=True)).user_id
        except RateLimited:
            raise
        except (Unauthenticated, Unavailable):
            return None

    def keep(self, response: Response, token: str) -> None:
        """Set the session's cookie; it expires at the session's latest end."""
        lasts = int(ABSOLUTE[SessionKind.COOKIE].total_seconds())
        response.set_cookie(COOKIE, token, max_age=lasts, path="/", secure=True, httponly=True, samesite="lax")
        if self._is_plain_loopback():
            response.set_cookie(DEV_COOKIE, token, max_age=lasts, path="/", httponly=True, samesite="lax")

    def forget(self, response: Response) -> None:
        """Delete the session's cookie."""
        response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
        if self._is_plain_loopback():
            response.delete_cookie(DEV_COOKIE, path="/", httponly=True, samesite="lax")

    def _is_plain_loopback(self) -> bool:
        return self._scope is not None and is_plain_loopback(HTTPConnection(self._scope))

    async def log_out(self) -> bool:
        """End the session at once, also for the rest of this request; returns whether there was a live one."""
        try:
            session = await self.session()
        except Unauthenticated:
            return False
        await self._identity.log_out(session, self.visitor)
        self._token = self._session = None
        return True


def caller_of(connection: HTTPConnection, token: str | None = None) -> Caller:
    """The sender of a request or WebSocket. `token` is one that came neither by cookie nor by header."""
    return caller_with(connection, token if token is not None else token_of(connection))


def caller_with(connection: HTTPConnection, token: str | None) -> Caller:
    """The sender of a request with this token."""
    return caller_of_token(connection.scope, token, visitor_of(connection))


def caller_of_token(scope: Scope, token: str | None, visitor: Visitor) -> Caller:
    """The sender of a request with this token, who comes from there.

    For the rest of the request, every look-up by name, at any depth, counts for this caller.
    """
    state = scope["app"].state
    caller = Caller(state.wallet.identity, token, visitor=visitor, limits=state.limits, scope=scope)
    LOOKING_UP.set(caller.look_up)
    return caller
