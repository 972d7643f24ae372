"""Opens a worker's wallet as soon as the store can be opened.

The first start of a server fails on any fault (`serving.serve`). A worker that replaces another must not end the server
because the store is unreachable, so it waits. While another worker serves, it takes no requests; when none serves, it
answers every request with 503.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from ...domain.errors import WalletError
from ...runtime import Wallet, open_wallet
from ...settings import Settings
from ...urls import hidden
from ..catalogue import texts
from ..catalogue.errors import NOT_OPEN
from .problems import Problem, refuse
from .siblings import Siblings
from .signals import Next, on_stop

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0
"""The time between two attempts to open the store."""

FIRST_SECONDS: Final = 10.0
"""The longest time that a worker, before it serves, waits for its first attempt to open the store."""

LOOK_SECONDS: Final = 0.1
"""The time between two looks whether another worker serves."""

TELL_SECONDS: Final = 60.0
"""The time between two log lines about the wait."""

_NEEDS_NO_WALLET: Final = ("/healthz",)


@asynccontextmanager
async def opening(
    settings: Settings, opened: Callable[[Wallet], None], siblings: Siblings | None, *, wait: bool
) -> AsyncIterator[None]:
    """Open the wallet in the background, tell `opened` when it is open, and close it at the end.

    Goes on when the wallet is open, or on a stop signal, which ends the server as soon as it has started. Without
    `wait` it goes on, too, when the first attempt has failed, or takes longer than `FIRST_SECONDS`, and no other worker
    serves. No fault is raised: each is logged, and opening is tried again.
    """
    opening = _Opening(settings, opened, siblings)
    task = asyncio.create_task(opening.run())
    try:
        with opening.ended_by_signals():
            await (opening.started.wait() if wait else opening.wait_until_needed())
        yield
    finally:
        opening.stopping.set()
        if not opening.is_open:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class _Opening:
    """The state of opening. `started` is set when the wallet is open, or when the server was told to stop."""

    def __init__(self, settings: Settings, opened: Callable[[Wallet], None], siblings: Siblings | None) -> None:
        self.started = asyncio.Event()
        self.stopping = asyncio.Event()
        self.is_open = False
        self._is_tried = asyncio.Event()
        self._settings = settings
        self._opened = opened
        self._siblings = siblings
        self._told_at = -math.inf

    @contextmanager
    def ended_by_signals(self) -> Iterator[None]:
        """A stop signal ends the wait for the wallet."""
        loop = asyncio.get_running_loop()

        def end(call_next: Next) -> None:
            loop.call_soon_threadsafe(self.started.set)
            loop.call_soon_threadsafe(self._is_tried.set)
            call_next()

        with on_stop(end):
            yield

    async def wait_until_needed(self) -> None:
        """Wait until `started`, or until the first attempt has ended and no other worker serves."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await self._is_tried.wait()
        while not self.started.is_set() and self._siblings is not None and self._siblings.another_serves():
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self.started.wait()

    async def run(self) -> None:
        """Open the wallet, trying again until it succeeds, and keep it open until the stop."""
        while not self.is_open:
            try:
                await self._serve_until_stopped()
            except Exception as error:
                if self.is_open:  # the failure is one of closing
                    raise
                self._tell(error)
                self._is_tried.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def _serve_until_stopped(self) -> None:
        async with open_wallet(self._settings) as wallet:
            log.log(logging.WARNING if math.isfinite(self._told_at) else logging.INFO, "the wallet is open now")
            self._opened(wallet)
            self.is_open = True
            if self._siblings is not None:
                self._siblings.serve()
            self.started.set()
            self._is_tried.set()
            await self.stopping.wait()

    def _tell(self, error: Exception) -> None:
        if time.monotonic() - self._told_at < TELL_SECONDS:
            return
        self._told_at = time.monotonic()
        text = error.message if isinstance(error, WalletError) else f"{type(error).__name__}: {error}"
        reason = hidden("; ".join(text.splitlines()))
        log.error("the wallet cannot be opened, so this worker serves no request; it tries again: %s", reason)


class UntilOpen:
    """Answers 503 `UNAVAILABLE` until the wallet is open; WebSockets are refused before they are accepted."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if there is a wallet, or if it needs none."""
        if scope["type"] == "lifespan" or scope["app"].state.wallet is not None or scope["path"] in _NEEDS_NO_WALLET:
            await self._app(scope, receive, send)
            return
        await refuse(Problem(NOT_OPEN, texts.OPENING(), {"Retry-After": "1"}), scope, receive, send)
