"""The HTTP application: routes, request ids, limits, start and shutdown.

`/graphql` is the GraphQL API (HTTP, server-sent events, WebSockets), `/v1/…` the REST API, described at
`/openapi.json`. `/healthz` says whether the process is alive, `/readyz` whether it should get requests. `/start` is the
start page; in development the wallet for people is at `/`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from ... import traces
from ...background import attempt
from ...runtime import Wallet
from ...settings import Mode, Settings
from ...storage import Away, Store
from ..catalogue import texts
from ..catalogue.errors import DRAINING, NOT_OPEN
from ..catalogue.operations import NAMES
from ..graphql.direct import Direct
from ..graphql.view import WalletView
from ..http import webhooks
from ..http.finishing import Finishing
from ..http.hosts import Hosts
from ..http.opening import UntilOpen, opening
from ..http.problems import BODY_MAX, Problem, on_http_exception, on_problem
from ..http.rate_limits import CountRequests, Limits, check_names
from ..http.security import cross_origin
from ..http.siblings import Siblings
from ..http.signals import Next, on_stop
from ..rest import routes as rest
from ..web import graphiql, wallet
from ..web.pages import POLICY, start_page
from .gate import Gate
from .streams import streaming
from .traced import Traced

log = logging.getLogger(__name__)

READY_SECONDS: Final = 3.0
"""How long `/readyz` waits for the store."""

READY_FOR_SECONDS: Final = 1.0
"""How long its answer is reused, so that anonymous clients cannot load the store with it."""


def create_app(
    source: Wallet | Settings,
    tabs: Sequence[graphiql.Tab] | None = None,
    siblings: Siblings | None = None,
    *,
    people: Sequence[wallet.Person] = (),
    wait: bool = False,
) -> Starlette:
    """The ASGI app for a running wallet, or for settings: then it opens the wallet itself, and closes it at the end.

    `tabs` are GraphiQL's examples at `/graphiql`, `people` whom the wallet's page at `/` offers to log in. With None as
    `tabs` there is no GraphiQL, and `/` is the start page, unless the setting `example_page` is on. With settings, the
    app starts once the store is open. Without `wait` it may start earlier, if none of its `siblings` serves, and then
    answers 503.

    `app.state.draining` makes `/readyz` answer 503; a stop signal sets it.
    """
    settings = source.settings if isinstance(source, Wallet) else source
    check_names(settings, NAMES)
    finishing = Finishing()
    view = WalletView(settings, finishing)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(traces.exporting(settings.traces_url))
            if isinstance(source, Wallet):
                app.state.wallet = source
            else:
                opened = partial(setattr, app.state, "wallet")
                await stack.enter_async_context(opening(source, opened, siblings, wait=wait))
            app.state.limits = Limits(settings)
            app.state.readiness = Readiness()
            stack.push_async_callback(app.state.limits.close)
            stack.push_async_callback(finishing.finish)
            stack.enter_context(_draining_on_signal(app, settings.drain_seconds))
            yield

    app = _App(
        routes=_routes(view, tabs, people, settings),
        middleware=_middleware(settings, view),
        exception_handlers={Problem: on_problem, HTTPException: on_http_exception},
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.wallet = None
    app.state.has_pages = tabs is not None
    app.state.draining = False
    app.state.live = view.live
    app.state.streaming = streaming
    app.state.finishing = finishing
    return app


class _App(Starlette):
    """Starlette without its own answer to exceptions, since `Gate` has one."""

    def build_middleware_stack(self) -> ASGIApp:
        """The layers from `Gate` on; around them that for traces, if any are wanted."""
        outermost = super().build_middleware_stack()
        assert isinstance(outermost, ServerErrorMiddleware)
        return Traced(outermost.app) if self.state.settings.traces_url else outermost.app


def _routes(
    view: WalletView, tabs: Sequence[graphiql.Tab] | None, people: Sequence[wallet.Person], settings: Settings
) -> list[BaseRoute]:
    cards = wallet.Cards(settings.card_page, settings.stripe_publishable_key)
    has_page = tabs is not None or settings.example_page
    return [
        Route("/start", home),
        *_graphql(view),
        *rest.routes(),
        *webhooks.routes(),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        *(wallet.routes(people, cards) if has_page else [Route("/", home)]),
        *(graphiql.routes(tabs) if tabs is not None else []),
    ]


def _middleware(settings: Settings, view: WalletView) -> list[Middleware]:
    """What every request passes through, outermost first."""
    return [
        Middleware(Gate, direct=Direct(view, settings.hosts), strict_transport=settings.mode is Mode.PRODUCTION),
        Middleware(Hosts, allowed=settings.hosts),
        *cross_origin(settings),
        Middleware(UntilOpen),
        Middleware(CountRequests),
        Middleware(RequestBodyLimitMiddleware, max_body_size=BODY_MAX),
    ]


def _graphql(view: WalletView) -> list[BaseRoute]:
    route = Route("/graphql", view, methods=["GET", "POST"])
    route.methods = {"GET", "POST"}  # Starlette adds HEAD, which has no meaning here
    return [route, WebSocketRoute("/graphql", view)]


def playground(settings: Settings) -> Sequence[graphiql.Tab] | None:
    """The tabs of GraphiQL in a server: how to begin; in production no GraphiQL at all (None)."""
    return None if settings.mode is Mode.PRODUCTION else graphiql.start_tabs()


async def home(request: Request) -> Response:
    """The start page."""
    page = HTMLResponse(start_page(str(request.base_url), has_pages=request.app.state.has_pages))
    page.headers["Content-Security-Policy"] = POLICY
    return page


async def healthz(_request: Request) -> Response:
    """200 while the process can answer at all. Uses neither store nor network."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """200 if the store can write, or a part of it. 503 if it cannot or does not answer in time, and while stopping.

    All servers share the store. If one node that is down made all of them unready, nobody would serve the users of the
    other nodes.
    """
    state = request.app.state
    if state.draining:
        raise Problem(DRAINING, texts.STOPPING())
    if not await state.readiness.of(state.wallet.store):
        raise Problem(NOT_OPEN, texts.NOT_WRITABLE())
    return JSONResponse({"status": "partly ready" if state.readiness.away else "ready"})


class Readiness:
    """Whether the store can write. It is asked at most once every `READY_FOR_SECONDS`, never twice at a time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._asked_at = -math.inf
        self._is_ready = False
        self.away: Away = {}
        """The parts of the store that could not write when it was asked last."""

    async def of(self, store: Store) -> bool:
        """Ping the store, or reuse the last answer."""
        async with self._lock:
            if time.monotonic() - self._asked_at >= READY_FOR_SECONDS:
                self._is_ready = await attempt(log, "the check whether the store can write", lambda: self._ping(store))
                self._asked_at = time.monotonic()
            return self._is_ready

    async def _ping(self, store: Store) -> None:
        async with asyncio.timeout(READY_SECONDS):
            self.away = await store.ping()


@contextmanager
def _draining_on_signal(app: Starlette, drain_seconds: float) -> Iterator[None]:
    """After a stop signal, make `/readyz` fail, and stop the server only after `drain_seconds`.

    Meanwhile all requests are served, so that a load balancer has time to notice. A second signal stops at once.
    """
    loop = asyncio.get_running_loop()
    stopping = False

    def stop(call_next: Next) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            loop.call_soon_threadsafe(app.state.live.stopping.set)  # an open stream would keep the server alive
        call_next()

    def drained(call_next: Next) -> None:
        if not stopping:
            stop(call_next)

    def drain(call_next: Next) -> None:
        if app.state.draining or not drain_seconds:
            stop(call_next)
        else:
            loop.call_soon_threadsafe(loop.call_later, drain_seconds, drained, call_next)
        app.state.draining = True

    with on_stop(drain):
        try:
            yield
        finally:
            app.state.draining = True
