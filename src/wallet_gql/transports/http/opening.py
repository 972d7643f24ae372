"""Opens a worker's wallet as soon as the store can be opened; until then every request is answered with 503.

The first start of a server fails on any fault (`serving.serve`). A worker that replaces another must not end the server
because the store is unreachable, so it waits.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from ...domain.errors import WalletError
from ...runtime import Wallet, open_wallet
from ...settings import Settings
from ...urls import hidden
from ..catalogue.errors import NOT_OPEN
from .problems import Problem, refuse

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0
"""The time between two attempts to open the store."""

FIRST_SECONDS: Final = 10.0
"""The longest time that a worker, before it serves, waits for its first attempt to open the store."""

PAUSE_SECONDS: Final = 0.005
"""How long a worker without a wallet takes no connection after it has refused a request."""

TELL_SECONDS: Final = 60.0
"""The time between two log lines about it."""

_NEEDS_NO_WALLET: Final = ("/healthz",)


@asynccontextmanager
async def opening(settings: Settings, opened: Callable[[Wallet], None], *, wait: bool) -> AsyncIterator[None]:
    """Open the wallet in the background, tell `opened` when it is open, and close it at the end.

    The first attempt is waited for, up to `FIRST_SECONDS`: a store that is there answers from the first request on.
    With `wait` nothing goes on before the wallet is open. No fault is raised: each is logged, and opening is tried
    again.
    """
    waiting = _Opening(settings, opened)
    task = asyncio.create_task(waiting.run())
    try:
        if wait:
            await waiting.is_open.wait()
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_SECONDS):
                    await waiting.is_tried.wait()
        yield
    finally:
        waiting.stopping.set()
        if not waiting.is_open.is_set():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class _Opening:
    def __init__(self, settings: Settings, opened: Callable[[Wallet], None]) -> None:
        self.is_open = asyncio.Event()
        self.is_tried = asyncio.Event()
        self.stopping = asyncio.Event()
        self._settings = settings
        self._opened = opened
        self._told_at = -math.inf

    async def run(self) -> None:
        while not self.is_open.is_set():
            try:
                await self._serve_until_stopped()
            except Exception as error:
                if self.is_open.is_set():  # it is closing that failed
                    raise
                self._tell(error)
                self.is_tried.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def _serve_until_stopped(self) -> None:
        async with open_wallet(self._settings) as wallet:
            if math.isfinite(self._told_at):
                log.warning("the wallet is open now")
            self._opened(wallet)
            self.is_open.set()
            self.is_tried.set()
            await self.stopping.wait()

    def _tell(self, error: Exception) -> None:
        if time.monotonic() - self._told_at < TELL_SECONDS:
            return
        self._told_at = time.monotonic()
        text = error.message if isinstance(error, WalletError) else f"{type(error).__name__}: {error}"
        reason = hidden("; ".join(text.splitlines()))
        log.error("the wallet cannot be opened, so requests get 503; it is tried again all the time: %s", reason)


class UntilOpen:
    """Answers 503 `UNAVAILABLE` until the wallet is open; WebSockets are refused before they are accepted."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if there is a wallet, or if it needs none."""
        if scope["type"] == "lifespan" or scope["app"].state.wallet is not None or scope["path"] in _NEEDS_NO_WALLET:
            await self._app(scope, receive, send)
            return
        detail = "the wallet waits for its store; nothing was done, so send the same request again"
        await refuse(Problem(NOT_OPEN, detail, {"Retry-After": "1"}), scope, receive, send)
