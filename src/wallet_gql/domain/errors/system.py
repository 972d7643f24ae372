"""No session, a store that cannot do it now, and outcomes that nobody knows."""

from __future__ import annotations

from dataclasses import field
from typing import Final

from .base import Category, WalletError

_SO: Final = "; nothing changed: retry, with the same idempotency key where there is one"


class Unauthenticated(WalletError):
    """No session, or one that has expired or was ended. Log in, then repeat the request with the same key."""

    code = "UNAUTHENTICATED"
    category = Category.UNAUTHENTICATED
    words = "log in first: there is no valid session"


class Unavailable(WalletError):
    """Nothing changed. Retry with the same idempotency key."""

    code = "UNAVAILABLE"
    category = Category.UNAVAILABLE
    words = f"the wallet cannot do this now{_SO}"
    """Of each class the same, so that nothing a backend says can reach clients."""
    detail: str = ""


class Contended(Unavailable):
    """Too many commands wanted the same rows in the time given. Nothing changed; retry with the same key."""

    code = "CONTENDED"
    words = f"too busy in the time given{_SO}"


class RateLimited(Unavailable):
    """Too many requests in too short a time. Nothing changed; wait as long as it says, then retry with the same key."""

    code = "RATE_LIMITED"
    category = Category.RATE_LIMITED
    words = "too many requests: wait {retry_after_seconds} seconds" + _SO
    detail: str = field(default="", init=False)
    retry_after_seconds: int


class NodeUnavailable(Unavailable):
    """A server of the store does not answer. Nothing changed; retry with the same key."""

    code = "NODE_UNAVAILABLE"
    words = f"a server of the wallet does not answer{_SO}"


class InDoubt(WalletError):
    """The outcome is unknown: it may have happened. Ask again with the same key, never with a new one."""

    code = "IN_DOUBT"
    category = Category.IN_DOUBT
    words = "it may have happened: ask again with the same idempotency key, never with a new one"
    detail: str = ""
