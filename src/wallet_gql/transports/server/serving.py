"""Serves with uvicorn, in one process or several, until a signal; commits in flight are finished."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any, Final, cast

import uvicorn

from ... import __version__, metrics
from ...domain.errors import ConfigurationError
from ...runtime import Wallet, open_wallet, settled_memory
from ...settings import Settings
from ...urls import redacted
from ..http.heads import BoundedHeads, Times
from ..http.logs import log_config
from ..http.problems import BODY_MAX
from ..http.tls import check_transport
from ..web.graphiql import Tab
from ..web.wallet import Person
from .app import create_app, playground
from .workers import Workers

if sys.platform != "win32":
    import resource

log = logging.getLogger(__name__)

_BACKLOG: Final = 2048
_GRACE_SECONDS: Final = 5
"""How long a stopping server waits in addition to the longest money command."""

Ready = Callable[[str], None]
"""Called with the server's URL once it answers."""


def serve(settings: Settings, ready: Ready) -> None:
    """Serve until SIGINT or SIGTERM. Raises ConfigurationError."""
    check_transport(settings)
    _allow_files()
    listener = listen(settings.host, settings.port)
    with _measuring(settings):
        if settings.workers == 1:
            run(settings, lambda: _open_and_serve(settings, listener, ready))
        else:
            _serve_many(settings, listener, ready)


def _tell_start(settings: Settings) -> None:
    """Log what is served, once the store is open: a refusal is one line without it."""
    logging.config.dictConfig(log_config(settings.log_level, settings.log_format))
    log.info("wallet-gql %s in mode %s on %s", __version__, settings.mode.value, redacted(settings.storage))


def _allow_files() -> None:
    """Let this process and its workers open as many files as the system lets them: each connection is one.

    Many systems begin with 1,024, which that many idle connections would use up.
    """
    if sys.platform != "win32":
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # macOS says that there is no limit, and takes less
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _measuring(settings: Settings) -> Iterator[None]:
    """Serve metrics, if the settings say where. Raises ConfigurationError."""
    at = settings.metrics_at
    if at is None:
        yield
        return
    with ExitStack() as stack:
        try:
            port = stack.enter_context(metrics.serving(at.host, at.port))
        except OSError as error:
            raise ConfigurationError(
                f"WALLET_METRICS_ADDRESS: cannot listen on {at}: {error.strerror}; choose another"
            ) from error
        logging.config.dictConfig(log_config(settings.log_level, settings.log_format))
        log.info("metrics are served on %s", replace(at, port=port))
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one. Raises ConfigurationError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:  # not a valid host name, such as a..b
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"cannot listen on {host} port {port}: {reason}; choose another --port") from error


def url_of(listener: socket.socket, settings: Settings | None = None) -> str:
    """The URL of a listening socket; `settings` say whether it uses TLS."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings is not None and settings.tls_cert else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def run(settings: Settings, main: Callable[[], Any]) -> None:
    """Run a coroutine function on the event loop that uvicorn prefers (uvloop where there is one)."""
    config = _config(settings, "")
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(main())


async def serve_wallet(
    wallet: Wallet,
    listener: socket.socket,
    ready: Ready,
    tabs: Sequence[Tab] | None = None,
    people: Sequence[Person] = (),
) -> None:
    """Serve a wallet that is open, in this process; `tabs` and `people` as in `create_app`."""
    url = url_of(listener, wallet.settings)
    server = _Server(_config(wallet.settings, create_app(wallet, tabs, people=people)), lambda: ready(url))
    with settled_memory():
        await server.serve(sockets=[listener])


async def _open_and_serve(settings: Settings, listener: socket.socket, ready: Ready) -> None:
    async with open_wallet(settings) as wallet:
        _tell_start(settings)
        await serve_wallet(wallet, listener, ready, playground(settings))


def _serve_many(settings: Settings, listener: socket.socket, ready: Ready) -> None:
    """Serve with several processes on one socket. Try everything once before, so that a fault is reported once."""
    asyncio.run(_try_open(settings))
    _tell_start(settings)
    listener.set_inheritable(True)
    workers = Workers(settings, lambda app: _config(settings, app, factory=True, workers=settings.workers), listener)
    ready(url_of(listener, settings))
    workers.run()
    if workers.is_broken:
        raise ConfigurationError("a worker could not start; the log says why")


async def _try_open(settings: Settings) -> None:
    """Raise ConfigurationError for any fault that would keep a worker from serving."""
    create_app(settings)
    async with open_wallet(settings, sweeps=False):
        pass


def _config(settings: Settings, app: Any, **options: Any) -> uvicorn.Config:
    times = Times(settings.head_seconds, settings.body_seconds)
    return uvicorn.Config(
        app,
        log_config=log_config(settings.log_level, settings.log_format),
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=",".join(settings.proxies),
        ssl_certfile=settings.tls_cert or None,
        ssl_keyfile=settings.tls_key or None,
        http=cast("type[asyncio.Protocol]", partial(BoundedHeads, times=times)),
        timeout_keep_alive=settings.keep_alive_seconds,
        ws="websockets-sansio",
        ws_max_size=BODY_MAX,
        ws_per_message_deflate=False,  # a few bytes would become much work, and the length of secrets could be seen
        lifespan="on",
        timeout_graceful_shutdown=math.ceil(settings.timeout_seconds) + _GRACE_SECONDS,
        **options,
    )


class _Server(uvicorn.Server):
    """Reports when it answers, and returns after a signal. Uvicorn would raise the signal again, skipping clean-up."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then report that the server answers."""
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop gracefully on a signal; on SIGHUP only if the terminal is gone."""
        handlers: dict[int, Callable[[int, FrameType | None], None]] = dict.fromkeys(
            (signal.SIGINT, signal.SIGTERM), self.handle_exit
        )
        if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handlers[signal.SIGHUP] = partial(self._hung_up, had_terminal=_has_terminal())
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hung_up(self, number: int, frame: FrameType | None, *, had_terminal: bool) -> None:
        """Without this SIGHUP would end the process in the middle of what it answers."""
        if had_terminal and not _has_terminal():
            self.handle_exit(number, frame)
        else:
            log.warning("SIGHUP is ignored: with one worker only a restart reads certificates again")


def _has_terminal() -> bool:
    """Whether one of the standard streams is a terminal. After its window was closed none is."""
    return any(os.isatty(number) for number in range(3))
