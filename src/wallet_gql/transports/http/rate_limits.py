"""Rate limits by address, user and verb, with the `limits` library, in memory or in Redis.

`WALLET_RATE_LIMITS` names what is counted: `address` (every request of one network), `user` (every request of one
user), `cost` and `addressCost` (what the requests of one user and of one network cost), `money` (every command with an
idempotency key: each one in a document, each item of a batch), `lookup` (users and merchants looked up by name), or a
verb such as `transfer`. `signUp` is counted by address, `logIn` by name and address.

In memory each process counts alone. While Redis does not answer, each process counts alone, too: a missing Redis must
not keep people from their money. Failed log-ins are counted elsewhere, in the store (`identity.throttle`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import storage_from_string
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from ...domain.errors import ConfigurationError, RateLimited
from ...domain.ids import UserId
from ...domain.security_events import UNKNOWN_NETWORK, USER_AGENT_MAX, Visitor
from ...setting_values import Rate, rates_of
from ...settings import Settings
from .errors import problem
from .windows import Limit, Window, Windows

if TYPE_CHECKING:
    from limits.aio.storage import Storage

log = logging.getLogger(__name__)

ADDRESS: Final = "address"
USER: Final = "user"
MONEY: Final = "money"
LOOKUP: Final = "lookup"
COST: Final = "cost"
ADDRESS_COST: Final = "addressCost"
GROUPS: Final = frozenset({ADDRESS, USER, MONEY, LOOKUP, COST, ADDRESS_COST})
"""What can be limited in addition to verbs."""

COUNTED_PATHS: Final = ("/graphql", "/v1/")
"""The API. Health checks, and the pages that say how to use it, are not counted."""

LOG_IN: Final = "logIn"
_BY_ADDRESS: Final = frozenset({"signUp"})
_REDIS_SECONDS: Final = 0.25
_REDIS_PAUSE_SECONDS: Final = 5.0
_NETWORKS: Final = frozenset({ADDRESS, ADDRESS_COST})
PAUSE_SECONDS: Final = 0.5
"""How long a network over its limit waits for each refusal: or a few connections that ask again at once would keep the
process busy with refusing, and everybody else waiting."""

_PREFIX: Final = "wallet-rate"
_VISITOR: Final = "wallet.visitor"
"""Where a request's scope keeps where it comes from, once that is known."""

_KNOWN: Final = Limit(1, 600, f"{_PREFIX}-known")
"""Names that were looked up recently: repeating a look-up reveals nothing new, so it does not count."""


class Limits:
    """The limits of one process. Raises ConfigurationError for a Redis URL without its driver."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is that of the counters in memory: seconds that never go back."""
        self._limits = {name: _limit(rate) for name, rate in rates_of(settings.rate_limits).items()}
        self._verbs = self._limits.keys() - {LOG_IN}
        self._alone = Windows(clock)
        self._shared = _shared(settings.rate_limit_storage)
        self._alone_until = 0.0
        self._has_told = False

    async def count_address(self, visitor: Visitor | None) -> None:
        """Count a request of a network. Raises RateLimited."""
        if visitor is None:
            return
        if visitor.network == UNKNOWN_NETWORK and not self._has_told:
            self._has_told = True
            log.warning("clients whose address cannot be read are counted together: see WALLET_TRUSTED_PROXIES")
        await self._hit(ADDRESS, visitor.network)

    async def count_user(self, user_id: UserId) -> None:
        """Count a request of a user. Raises RateLimited."""
        await self._hit(USER, user_id)

    async def count_verbs(self, user_id: UserId | None, visitor: Visitor | None, verbs: Iterable[str]) -> None:
        """Count the verbs of a request, and their groups, before it runs. Raises RateLimited."""
        if self._verbs.isdisjoint(verbs):
            return
        for verb, times in Counter(verbs).items():
            if verb not in self._verbs:
                continue
            network = visitor.network if visitor else ""
            who = network if user_id is None or verb in _BY_ADDRESS else user_id
            if who:
                await self._hit(verb, who, times=times)

    async def count_log_in(self, visitor: Visitor | None, name: str) -> None:
        """Count an attempt to log in by name and network, since people may share an address. Raises RateLimited."""
        if visitor is not None:
            await self._hit(LOG_IN, visitor.network, name)

    async def spend(self, user_id: UserId | None, visitor: Visitor | None, cost: int) -> None:
        """Deduct a cost from the budgets of a user and of a network. Raises RateLimited."""
        if user_id is not None:
            await self._hit(COST, user_id, times=cost)
        if visitor is not None:
            await self._hit(ADDRESS_COST, visitor.network, times=cost)

    async def count_lookup(self, user_id: UserId | None, visitor: Visitor | None, name: str) -> None:
        """Count a look-up by name. The same name is free for ten minutes, at least. Raises RateLimited."""
        who = user_id or (visitor.network if visitor else "")
        if LOOKUP not in self._limits or not who or await self._knows(who, name):
            return
        await self._hit(LOOKUP, who)
        await self._add(_KNOWN, (LOOKUP, who, name))

    async def close(self) -> None:
        """Close the connection to Redis."""
        if self._shared is not None:
            storage: Any = self._shared.storage
            await storage.bridge.storage.aclose()  # nothing public closes it

    async def _hit(self, name: str, who: str, *more: str, times: int = 1) -> None:
        """Count `times` hits by `who` and `more`; only `who` is logged. Raises RateLimited."""
        limit = self._limits.get(name)
        if limit is None:
            return
        key = name, who, *more
        if self._alone.add(limit, key, times) if self._shared is None else await self._add(limit, key, times):
            return
        wait_seconds = _wait_seconds(await self._window(limit, key), limit, times)
        log.info("%s of %s is over its limit", name, who)
        if name in _NETWORKS:
            await asyncio.sleep(PAUSE_SECONDS)
        raise RateLimited(min(max(1, math.ceil(wait_seconds)), 2 * limit.span))

    async def _add(self, limit: Limit, key: tuple[str, ...], times: int = 1) -> bool:
        """Count hits by the shared counters; while they do not answer, by this process's own."""
        shared = self._limiter()
        if shared is not None:
            try:
                return await shared.hit(limit.item, *key, cost=times)
            except Exception as error:  # noqa: BLE001 - whatever Redis or its driver raises
                self._fall_back(error)
        return self._alone.add(limit, key, times)

    async def _knows(self, who: str, name: str) -> bool:
        """Whether a name was looked up in the last ten minutes, or up to ten before those."""
        before, _, current, _ = await self._window(_KNOWN, (LOOKUP, who, name))
        return bool(before or current)

    async def _window(self, limit: Limit, key: tuple[str, ...]) -> Window:
        """What is counted now."""
        shared = self._limiter()
        if shared is not None:
            storage: Any = shared.storage
            try:
                return cast("Window", await storage.get_sliding_window(limit.item.key_for(*key), limit.span))
            except Exception as error:  # noqa: BLE001 - same
                self._fall_back(error)
        return self._alone.window(limit, key)

    def _limiter(self) -> SlidingWindowCounterRateLimiter | None:
        """The shared counters; None if this process counts alone."""
        return None if time.monotonic() < self._alone_until else self._shared

    def _fall_back(self, error: Exception) -> None:
        kind = type(error.__cause__ or error).__name__
        log.warning("Redis does not count requests, this process does it alone for a while: %s", kind)
        self._alone_until = time.monotonic() + _REDIS_PAUSE_SECONDS


async def count_request(scope: Scope, limits: Limits) -> Visitor:
    """Count a request of its sender's network, once; returns the sender. Raises RateLimited."""
    visitor: Visitor | None = scope.get(_VISITOR)
    if visitor is None:
        scope[_VISITOR] = visitor = _visitor(scope)
        await limits.count_address(visitor)
    return visitor


class CountRequests:
    """Middleware that refuses a network over its limit, before anything is read or looked up."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 429; a WebSocket over the limit is not accepted."""
        if scope["type"] in ("http", "websocket") and scope["path"].startswith(COUNTED_PATHS):
            try:
                await count_request(scope, scope["app"].state.limits)
            except RateLimited as error:
                if scope["type"] == "websocket":
                    await send({"type": "websocket.close", "code": 1013, "reason": "too many requests"})
                else:
                    await problem(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def visitor_of(connection: HTTPConnection) -> Visitor:
    """Where a connection comes from. Headers of trusted proxies were applied before."""
    found: Visitor | None = connection.scope.get(_VISITOR)
    return found or _visitor(connection.scope)


def _visitor(scope: Scope) -> Visitor:
    client = scope.get("client")
    agent = dict(reversed(scope["headers"])).get(b"user-agent", b"")  # of several, the first counts
    return _known_visitor(client[0] if client else "", agent[:USER_AGENT_MAX])


@lru_cache(maxsize=1_024)
def _known_visitor(address: str, agent: bytes) -> Visitor:
    return Visitor.of(address, agent.decode("latin-1"))


def check_names(settings: Settings, verbs: Iterable[str]) -> None:
    """Raise ConfigurationError unless every limit names a group or one of the verbs."""
    strange = sorted(set(rates_of(settings.rate_limits)) - GROUPS - set(verbs))
    if strange:
        known = ", ".join([*sorted(GROUPS), *sorted(set(verbs))])
        raise ConfigurationError(f"WALLET_RATE_LIMITS: nothing is called {', '.join(strange)}; there are {known}")


def check_storage(settings: Settings) -> None:
    """Refuse a Redis without its driver. Raises ConfigurationError."""
    _shared(settings.rate_limit_storage)


def _wait_seconds(window: Window, limit: Limit, times: int) -> float:
    """How many seconds until `times` more hits fit into the limit. The library only says when one more hit fits.

    The present window and the share of the one before that lies within the time count. The present window stops
    counting at `now_ends`, one span after its end.
    """
    span = limit.span
    before, before_ends, now, now_ends = window
    share = before * before_ends / span
    excess = share + now + times - limit.most
    if before and excess <= share:
        return float(excess * span / before)
    return float(max(now_ends - span, 0) + max(now + times - limit.most, 0) * span / max(now, 1))


def _limit(rate: Rate) -> Limit:
    return Limit(rate.most, rate.seconds, _PREFIX)


def _shared(url: str) -> SlidingWindowCounterRateLimiter | None:
    if url == "memory://":
        return None
    try:
        storage: Storage = storage_from_string(  # type: ignore[assignment]  # the scheme says that it is asynchronous
            f"async+{url}",
            implementation="redispy",
            wrap_exceptions=True,
            socket_timeout=_REDIS_SECONDS,
            socket_connect_timeout=_REDIS_SECONDS,
        )
    except Exception as error:
        raise ConfigurationError("WALLET_RATE_LIMIT_STORAGE needs redis: pip install 'wallet-gql[redis]'") from error
    return SlidingWindowCounterRateLimiter(storage)
