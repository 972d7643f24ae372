"""Where merchants' webhooks may go: public https addresses, checked when they are set and on each use.

For each request, the host name is looked up once, every address found is checked, and the request goes to one of the
checked addresses. So a name whose address changes between check and use (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from time import monotonic
from typing import Final
from urllib.parse import SplitResult, urlsplit

from ...domain.errors import InvalidInput, reasons
from ...domain.merchants import URL_MAX

log = logging.getLogger("wallet_gql.webhooks")

RESOLVE_SECONDS: Final = 5.0
"""How long one look-up may take, once it has begun."""

QUEUE_SECONDS: Final = 10.0
"""How long one look-up may wait for a thread."""

_BUSY: Final = "too many hosts are being looked up"
_UNDER_WAY_MAX: Final = 1_000
_SLOW_MAX: Final = 10_000

_PORTS: Final = {"http": 80, "https": 443}
_TUNNELS: Final = tuple(map(IPv6Network, ("::/96", "64:ff9b::/32", "2001::/23", "2002::/16", "fec0::/10")))
"""IPv6 networks that embed IPv4 addresses or are not public: what is behind them cannot be checked."""


class TargetRefused(Exception):
    """Events may not be sent to this target."""


class NotLookedUp(Exception):
    """Other look-ups took all threads, so this target is unknown. Try again later."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: `url` has a checked address, `host` is the header, `name` must be in the certificate."""

    url: str
    host: str
    name: str


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return is_public(str(found.ipv4_mapped))
    if isinstance(found, IPv6Address) and any(found in network for network in _TUNNELS):
        return False
    special = found.is_multicast or found.is_reserved or found.is_unspecified or found.is_loopback
    return found.is_global and not special and not found.is_link_local


def check_url(url: str, *, allow_private: bool = False) -> str:
    """Check and return a webhook's URL. The addresses of its host name are checked on use.

    Raises:
        InvalidInput: it is not an https URL, or has a user, a fragment, or an address that is not public.
    """
    refused = InvalidInput("webhookUrl", reasons.WEBHOOK_URL())
    if len(url) > URL_MAX or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise refused
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise refused from None
    schemes = ("https", "http") if allow_private else ("https",)
    if parts.scheme not in schemes or not parts.hostname or parts.username is not None or parts.fragment or port == 0:
        raise refused
    literal = _literal(parts.hostname)
    if literal is not None and not allow_private and not is_public(str(literal)):
        raise refused
    return url


async def resolve(url: str, *, allow_private: bool = False, turn: int = 0) -> Target:
    """Look the host up and check every address; each `turn` takes another one of them.

    Takes at most `QUEUE_SECONDS` plus `RESOLVE_SECONDS`. An unknown name and one with a private address are refused
    with the same message, because merchants see it and must not learn the names of an internal network.

    Raises:
        TargetRefused: the URL or one of the addresses is not allowed, or there is none.
        NotLookedUp: no thread was free in time.
    """
    try:
        parts = urlsplit(check_url(url, allow_private=allow_private))
    except InvalidInput as error:
        raise TargetRefused(error.message) from None
    assert parts.hostname is not None
    port = parts.port or _PORTS[parts.scheme]
    try:
        found = await _look_up(parts.hostname)
    except (OSError, UnicodeError) as error:
        log.info("the host %s of a webhook cannot be looked up: %r", parts.hostname, error)
        found = []
    if not found or not (allow_private or all(map(is_public, found))):
        raise TargetRefused("the host cannot be looked up, or has an address that is not public")
    return _target(parts, found[turn % len(found)], port)


class _LookUp:
    """A look-up that is queued or running. It goes on if a caller stops waiting for it."""

    def __init__(self) -> None:
        self.began: Future[None] = Future()
        self.found: Future[list[str]] = Future()
        for future in (self.began, self.found):
            future.set_running_or_notify_cancel()


class LookUps:
    """Looks hosts up in separate threads, so that name servers that do not answer delay few other hosts.

    There is at most one look-up for each host; callers who ask meanwhile share its result. A host that was slow the
    last time is looked up by threads reserved for such hosts, until it is fast again.
    """

    def __init__(self, threads: int = 16, slow_threads: int = 4) -> None:
        """At most so many look-ups at once. Threads are started as they are needed."""
        self._fast = ThreadPoolExecutor(threads, thread_name_prefix="wallet-webhooks")
        self._late = ThreadPoolExecutor(slow_threads, thread_name_prefix="wallet-webhooks-slow")
        self._under_way: dict[str, _LookUp] = {}
        self._slow: dict[str, None] = {}
        self._lock = threading.Lock()

    async def __call__(self, host: str) -> list[str]:
        """The addresses of a host. Raises NotLookedUp, OSError if there are none, UnicodeError, TimeoutError."""
        one = self._join(host)
        try:
            await asyncio.wait_for(asyncio.wrap_future(one.began), QUEUE_SECONDS)
        except TimeoutError:
            raise NotLookedUp(_BUSY) from None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(one.found), RESOLVE_SECONDS)
        except TimeoutError:
            self._note(host, is_slow=True)
            raise

    def _join(self, host: str) -> _LookUp:
        with self._lock:
            found = self._under_way.get(host)
            if found is None:
                if len(self._under_way) >= _UNDER_WAY_MAX:
                    raise NotLookedUp(_BUSY)
                found = self._under_way[host] = _LookUp()
                pool = self._late if host in self._slow else self._fast
                pool.submit(self._run, found, host)
            return found

    def _run(self, one: _LookUp, host: str) -> None:
        """Look up in a thread."""
        one.began.set_result(None)
        began = monotonic()
        try:
            lines = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except BaseException as error:  # noqa: BLE001 - whoever asked gets it
            answer: list[str] | BaseException = error
        else:
            answer = list(dict.fromkeys(str(line[4][0]) for line in lines))
        self._note(host, is_slow=monotonic() - began > RESOLVE_SECONDS)
        with self._lock:
            del self._under_way[host]
        if isinstance(answer, list):
            one.found.set_result(answer)
        else:
            one.found.set_exception(answer)

    def _note(self, host: str, *, is_slow: bool) -> None:
        with self._lock:
            self._slow.pop(host, None)
            if is_slow:
                self._slow[host] = None
                if len(self._slow) > _SLOW_MAX:
                    del self._slow[next(iter(self._slow))]


_look_up: Final = LookUps()


def _target(parts: SplitResult, address: str, port: int) -> Target:
    assert parts.hostname is not None
    at = f"[{address}]" if ":" in address else address
    path = parts.path or "/"
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    host = name if port == _PORTS[parts.scheme] else f"{name}:{port}"
    query = f"?{parts.query}" if parts.query else ""
    return Target(f"{parts.scheme}://{at}:{port}{path}{query}", host, parts.hostname)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
