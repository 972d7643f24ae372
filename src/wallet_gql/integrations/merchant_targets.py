"""Where merchants' webhooks may go: public https addresses, checked when they are set and each time they are used.

A name is looked up once for each request, every address it stands for is checked, and the request goes to one of the
checked addresses: a name that changes between check and use (DNS rebinding) leads nowhere new.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from ..domain.errors import InvalidInput
from ..domain.merchants import URL_MAX

RESOLVE_SECONDS: Final = 5.0

_RESOLVERS: Final = ThreadPoolExecutor(8, thread_name_prefix="wallet-webhooks")
"""Threads of their own: a merchant whose name server never answers holds up merchants, and nothing else."""

_PORTS: Final = {"http": 80, "https": 443}
_TUNNELS: Final = tuple(map(IPv6Network, ("::/96", "64:ff9b::/32", "2001::/23", "2002::/16", "fec0::/10")))
"""Addresses of IPv6 that carry one of IPv4, or are not for the public: nothing behind them can be checked."""


class TargetRefused(Exception):
    """The target is not one that events may be sent to."""


@dataclass(frozen=True, slots=True)
class Target:
    """A request's way: `url` names a checked address, `host` is for the header, `name` stands in the certificate."""

    url: str
    host: str
    name: str


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return is_public(str(found.ipv4_mapped))
    if isinstance(found, IPv6Address) and any(found in network for network in _TUNNELS):
        return False
    special = found.is_multicast or found.is_reserved or found.is_unspecified or found.is_loopback
    return found.is_global and not special and not found.is_link_local


def check_url(url: str, *, allow_private: bool = False) -> str:
    """A URL that a webhook may have; what its name stands for is checked when it is used.

    Raises:
        InvalidInput: no https URL, or one with a user, a fragment, or an address that is not public.
    """
    refused = InvalidInput("webhookUrl", "an https URL of a public server, such as https://shop.example/events")
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
    """Look the host up and check every address; with each `turn` another of them is taken.

    Raises:
        TargetRefused: the URL or one of the addresses is not allowed, or there is none.
    """
    try:
        parts = urlsplit(check_url(url, allow_private=allow_private))
    except InvalidInput as error:
        raise TargetRefused(error.message) from None
    assert parts.hostname is not None
    port = parts.port or _PORTS[parts.scheme]
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await _look_up(parts.hostname, port)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise TargetRefused(f"the host cannot be looked up: {type(error).__name__}") from error
    if not found or not (allow_private or all(map(is_public, found))):
        raise TargetRefused("the host has an address that is not public, or none")
    return _target(parts, found[turn % len(found)], port)


async def _look_up(host: str, port: int) -> list[str]:
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    lines = await asyncio.get_running_loop().run_in_executor(_RESOLVERS, look_up)
    return list(dict.fromkeys(str(line[4][0]) for line in lines))


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
