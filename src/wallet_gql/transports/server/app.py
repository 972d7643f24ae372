"""The HTTP application: routes, request ids, limits, start and shutdown.

`/graphql` is the GraphQL API (HTTP, server-sent events, WebSockets), `/v1/…` the REST API, described at
`/openapi.json`. `/healthz` says whether the process is alive, `/readyz` whether it should get requests. `/start` is the
start page; in development the wallet for people is at `/`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...background import attempt
from ...runtime import Wallet
from ...settings import Mode, Settings
from ...storage import Store
from ..catalogue.errors import DRAINING, INTERNAL, NOT_OPEN
from ..catalogue.operations import NAMES
from ..graphql.direct import Direct
from ..graphql.view import WalletView
from ..http import webhooks
from ..http.finishing import Finishing
from ..http.hosts import Hosts, relative
from ..http.logs import REQUEST_ID, REQUEST_ID_HEADER
from ..http.opening import UntilOpen, opening
from ..http.problems import BODY_MAX, Problem, on_http_exception, on_problem, respond, too_large
from ..http.rate_limits import CountRequests, Limits, check_names
from ..http.record import RECORD, RequestRecord
from ..http.security import HEADERS, STRICT_TRANSPORT, cross_origin
from ..http.siblings import Siblings
from ..http.signals import Next, on_stop
from ..rest import routes as rest
from ..web import graphiql, wallet
from ..web.pages import POLICY, start_page

log = logging.getLogger(__name__)

READY_SECONDS: Final = 2.0
"""How long `/readyz` waits for the store."""

READY_FOR_SECONDS: Final = 1.0
"""How long its answer is reused, so that anonymous clients cannot load the store with it."""

PROBES: Final = ("/healthz", "/readyz")
"""Neither logged nor counted: a balancer asks all the time."""

_REDIRECTIONS: Final = range(300, 400)
_REQUEST_ID_NAME: Final = REQUEST_ID_HEADER.lower().encode()
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)


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
    `tabs` there are neither of these pages, and `/` is the start page. With settings, the app starts once the
    store is open. Without `wait` it may start earlier, if none of its `siblings` serves, and then answers 503.

    `app.state.draining` makes `/readyz` answer 503; a stop signal sets it.
    """
    settings = source.settings if isinstance(source, Wallet) else source
    check_names(settings, NAMES)
    finishing = Finishing()
    view = WalletView(settings, finishing)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
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

    app = Starlette(
        routes=_routes(view, tabs, people),
        middleware=_middleware(settings, view),
        exception_handlers={Problem: on_problem, HTTPException: on_http_exception},
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.wallet = None
    app.state.draining = False
    app.state.live = view.live
    app.state.finishing = finishing
    return app


def _routes(view: WalletView, tabs: Sequence[graphiql.Tab] | None, people: Sequence[wallet.Person]) -> list[BaseRoute]:
    pages = [Route("/", home)] if tabs is None else [*wallet.routes(people), *graphiql.routes(tabs)]
    return [
        Route("/start", home),
        *_graphql(view),
        *rest.routes(),
        *webhooks.routes(),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        *pages,
    ]


def _middleware(settings: Settings, view: WalletView) -> list[Middleware]:
    """What every request passes through, outermost first."""
    return [
        Middleware(Gate, strict_transport=settings.mode is Mode.PRODUCTION),
        Middleware(Hosts, allowed=settings.hosts),
        *cross_origin(settings),
        Middleware(UntilOpen),
        Middleware(CountRequests),
        Middleware(Direct, view=view),
        Middleware(RequestBodyLimitMiddleware, max_body_size=BODY_MAX),
    ]


def _graphql(view: WalletView) -> list[BaseRoute]:
    route = Route("/graphql", view, methods=["GET", "POST"])
    route.methods = {"GET", "POST"}  # Starlette adds HEAD, which has no meaning here
    return [route, WebSocketRoute("/graphql", view)]


def playground(settings: Settings) -> Sequence[graphiql.Tab] | None:
    """The tabs of GraphiQL in a server: no examples, and in production no GraphiQL at all (None)."""
    return None if settings.mode is Mode.PRODUCTION else ()


async def home(request: Request) -> Response:
    """The start page."""
    page = HTMLResponse(start_page(str(request.base_url)))
    page.headers["Content-Security-Policy"] = POLICY
    return page


async def healthz(_request: Request) -> Response:
    """200 while the process can answer at all. Uses neither store nor network."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """200 if the store can write. 503 if it cannot, if it does not answer in time, and while the server stops."""
    state = request.app.state
    if state.draining:
        raise Problem(DRAINING, "the server is being stopped")
    if not await state.readiness.of(state.wallet.store):
        raise Problem(NOT_OPEN, "the store cannot write now")
    return JSONResponse({"status": "ready"})


class Readiness:
    """Whether the store can write. It is asked at most once every `READY_FOR_SECONDS`, never twice at a time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._asked_at = -math.inf
        self._is_ready = False

    async def of(self, store: Store) -> bool:
        """Ping the store, or reuse the last answer."""
        async with self._lock:
            if time.monotonic() - self._asked_at >= READY_FOR_SECONDS:
                self._is_ready = await attempt(log, "the check whether the store can write", lambda: _ping(store))
                self._asked_at = time.monotonic()
            return self._is_ready


async def _ping(store: Store) -> None:
    async with asyncio.timeout(READY_SECONDS):
        await store.ping()


class Gate:
    """Wraps every request: sets its id in headers, logs and errors, adds security headers, hides tracebacks."""

    def __init__(self, app: ASGIApp, *, strict_transport: bool = False) -> None:
        self._app = app
        self._strict_transport = strict_transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(reversed(scope["headers"]))  # of headers that come twice, the first counts
        token = REQUEST_ID.set(_request_id(given))
        record = RequestRecord()
        RECORD.set(record)
        is_strict = self._strict_transport and scope["scheme"] == "https"
        answer = _Answer(send, _STRICT if is_strict else _ADDED)
        started = time.perf_counter()
        try:
            await self._guarded(scope, receive, answer, given.get(b"content-length", b""))
        finally:
            if scope["path"] not in PROBES:
                took = time.perf_counter() - started
                record.end(took)
                if log.isEnabledFor(logging.INFO):
                    status = answer.status or "unanswered"
                    log.info("%s %r %s in %.1f ms", scope["method"], scope["path"], status, took * 1000)
            REQUEST_ID.reset(token)

    async def _guarded(self, scope: Scope, receive: Receive, answer: _Answer, declared: bytes) -> None:
        try:
            if declared.isdigit() and int(declared) > BODY_MAX:
                await respond(too_large())(scope, receive, answer.send)
                return
            await self._app(scope, receive, answer.send)
        except ClientDisconnect:
            log.info("the client went away while sending")
        except Exception:
            log.exception("unexpected failure")
            if answer.status is not None:
                raise
            detail = "something went wrong on our side; the request id helps us find it"
            await respond(Problem(INTERNAL, detail))(scope, receive, answer.send)


def _raw(headers: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower().encode(), value.encode()) for name, value in headers.items())


_ADDED: Final = _raw(HEADERS)
_STRICT: Final = _raw({**HEADERS, **STRICT_TRANSPORT})


class _Answer:
    """Passes the response on: adds the headers and remembers the status."""

    def __init__(self, send: Send, added: tuple[tuple[bytes, bytes], ...]) -> None:
        self._send = send
        self._added = added
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status in _REDIRECTIONS:
                headers = MutableHeaders(scope=message)
                if "location" in headers:
                    headers["Location"] = relative(headers["location"])
            own = list(message["headers"])
            names = {name for name, _ in own}
            own += [header for header in self._added if header[0] not in names]
            message["headers"] = [*own, (_REQUEST_ID_NAME, REQUEST_ID.get().encode())]
        await self._send(message)


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    """The request id of a trusted proxy, if it is well-formed; else a new one.

    `heads.BoundedHeads` has dropped the header if it came from anybody else.
    """
    given = headers.get(_REQUEST_ID_NAME, b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


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
