"""Which sites' pages may use the wallet: its own, and those of `WALLET_ALLOWED_ORIGINS`.

The same rule holds for requests and for WebSocket handshakes. A browser sends its cookies even if another site made it
send the request, so a request with a cookie must say which site it comes from. CORS
(`security.cross_origin`) allows the same sites.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from ...setting_values import origin_of
from ...settings import Mode, Settings
from ..catalogue import texts
from ..catalogue.errors import CROSS_SITE
from .problems import Problem

_PLAIN: Final = ("http", "ws")
_FORWARDED: Final = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")


def settings_of(connection: HTTPConnection) -> Settings:
    """The settings of the wallet that the connection reaches."""
    settings: Settings = connection.app.state.settings
    return settings


def is_same_site(connection: HTTPConnection, *, has_cookie: bool) -> bool:
    """Whether a request or WebSocket handshake comes from a site that may use the wallet, or not from a browser.

    Browsers say so in `Sec-Fetch-Site`, older ones in `Origin`. A request with a session cookie and neither header
    could come from any site, so it does not pass. A request that the user started by hand (`none`) has no other site's
    `Origin`. A request with an `Authorization` header passes: another site cannot add one without CORS, and the cookie
    is then ignored.
    """
    headers = connection.headers
    if "authorization" in headers:
        return True
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if origin is not None and _spelt(origin) in settings_of(connection).origins:
        return True
    if site == "same-origin":
        return True
    if site not in (None, "none"):
        return False
    if origin is not None:
        return _is_own(origin, connection)
    return site == "none" or not has_cookie


def cross_site() -> Problem:
    """The refusal of other sites: 403."""
    return Problem(CROSS_SITE, texts.OTHER_SITE())


def is_plain_loopback(connection: HTTPConnection) -> bool:
    """Whether the wallet is tried out on the same machine without TLS, where some browsers need another cookie.

    Never true in production, or behind a proxy that can be detected.
    """
    if settings_of(connection).mode is Mode.PRODUCTION or connection.scope["scheme"] not in _PLAIN:
        return False
    if any(name in connection.headers for name in _FORWARDED):
        return False
    client = connection.client.host if connection.client else ""
    return is_loopback(client) and is_loopback(_hostname(connection.headers.get("host", "")))


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _spelt(origin: str) -> str | None:
    try:
        return origin_of(origin)
    except ValueError:
        return None


def _is_own(origin: str, connection: HTTPConnection) -> bool:
    """Whether an origin is the connection's own: the same host and port, and over TLS also the same scheme."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    is_safe = parts.scheme == "https" or connection.scope["scheme"] in _PLAIN
    return is_safe and parts.netloc == connection.headers.get("host")
