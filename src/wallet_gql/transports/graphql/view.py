"""GraphQL over HTTP, server-sent events and WebSockets, at one address.

HTTP: POST with a JSON body, or GET for queries only; no multipart, no batches. `http_spec` has the status codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.execution import ExecutionResult
from strawberry.types.graphql import OperationType

from ...settings import Settings
from ..catalogue.errors import METHOD_NOT_ALLOWED, NOT_ACCEPTABLE
from ..http.auth import caller_of, caller_with, check_same_site
from ..http.finishing import Finishing
from ..http.problems import Problem
from ..http.rate_limits import visitor_of
from ..http.record import current
from .asked import Asked
from .context import Context
from .documents import Documents
from .failures import Fault, OverLimit, Refused, Unanswerable
from .http_spec import EVENT_STREAM, Wanted, check_body_type, payload, status_of, wanted_by
from .kept import KEPT
from .live import Live
from .planned import Ready
from .reading import pay_for_reading
from .schema import schema
from .sockets import Connection
from .sse import EventStream, last_event_id, single

_AT_ONCE: Final = {
    "GET": (OperationType.QUERY,),
    "POST": (OperationType.QUERY, OperationType.MUTATION),
}
"""The operations with a single result, by the method that may request them."""


class WalletView:
    """The ASGI app behind `/graphql`.

    Raises:
        ConfigurationError: the manifest of trusted documents is missing or wrong.
    """

    def __init__(self, settings: Settings, finishing: Finishing) -> None:
        self._profile = settings.graphql_profile
        self._documents = Documents.load(settings)
        self._finishing = finishing
        self._compile_after = settings.graphql_compile_after
        self.live = Live(settings.subscriptions_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or serve one WebSocket. Raises Problem for a request that HTTP itself refuses."""
        if scope["type"] == "websocket":
            await self._connect(WebSocket(scope, receive, send))
            return
        request = Request(scope, receive)
        current().api = "graphql"
        check_same_site(request)
        answer = await self.run(request)
        await answer(scope, receive, send)

    async def run(self, request: Request) -> ASGIApp:
        """The answer to one request. Raises Problem."""
        wanted = wanted_by(request.headers.get("accept"))
        if request.method == "POST":
            check_body_type(request.headers)
        context = self._context(request)
        try:
            asked = await _read(request)
            query = self._documents.text_of(asked)
        except Unanswerable as error:
            return self._answer(Refused(error.fault, [error]), wanted, context)
        refused = await pay_for_reading(context, query, asked)
        if refused is not None:
            return self._answer(refused, wanted, context)
        try:
            result = await self._finishing.to_the_end(_execute(query, asked, context, _AT_ONCE[request.method]))
        except CannotGetOperationTypeError as error:
            result = Refused(Fault.OPERATION, [Unanswerable(Fault.OPERATION, error.as_http_error_reason())])
        except InvalidOperationTypeError as error:
            if error.operation_type is OperationType.SUBSCRIPTION:
                return await _subscribe(query, asked, context, wanted)
            raise _only_by_post() from error
        return self._answer(result, wanted, context)

    def prepare(self, body: bytes) -> Prepared | None:
        """A request whose document has a plan; None if it has to go the long way. Nothing has run then."""
        try:
            asked = Asked.of_body(body)
            query = self._documents.text_of(asked)
        except Unanswerable:
            return None
        if query not in KEPT:
            return None
        ready = schema.ready(query, asked.variables, asked.operation_name, _AT_ONCE["POST"], self._compile_after)
        return None if ready is None else Prepared(ready, asked)

    async def run_prepared(self, prepared: Prepared, scope: Scope, token: str, media_type: str) -> ASGIApp:
        """The answer to it. A mutation is run to its end, even if its client hangs up."""
        current().api = "graphql"
        state, ready, asked = scope["app"].state, prepared.ready, prepared.asked
        context = Context(state.wallet, caller_with(HTTPConnection(scope), token), live=self.live)
        context.cost.unpaid = asked.values
        running = schema.run(ready, context, asked.extensions)
        result = await (self._finishing.to_the_end(running) if ready.is_mutation else running)
        return self._answer(result, Wanted(media_type), context)

    def _answer(self, result: ExecutionResult, wanted: Wanted, context: Context) -> ASGIApp:
        if wanted.stream_first or wanted.json is None:
            return EventStream(single(result), context)
        return Whole(status_of(result, wanted.json, self._profile), wanted.json, payload(result), context.headers)

    async def _connect(self, socket: WebSocket) -> None:
        try:
            check_same_site(socket)
        except Problem:
            await socket.close()  # before it is accepted: 403
            return
        try:
            with self.live.socket(visitor_of(socket)):
                await Connection(socket, socket.app.state.wallet, self._documents, self.live).serve()
        except OverLimit:
            await socket.close()

    def _context(self, request: Request) -> Context:
        context = Context(request.app.state.wallet, caller_of(request), live=self.live)
        context.resume_from = last_event_id(request)
        return context


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request whose document has a plan, with its variables checked."""

    ready: Ready
    asked: Asked


class Whole:
    """An answer of JSON, sent as it is."""

    def __init__(self, status: int, media_type: str, shown: object, headers: list[tuple[bytes, bytes]]) -> None:
        self._body = orjson.dumps(shown)
        length = b"%d" % len(self._body)
        kind = f"{media_type}; charset=utf-8".encode()
        self._headers = [(b"content-length", length), (b"content-type", kind), *headers]
        self._status = status

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})


async def _read(request: Request) -> Asked:
    if request.method == "GET":
        return Asked.of_query(request.query_params)
    return Asked.of_body(await request.body())


async def _execute(query: str, asked: Asked, context: Context, allowed: tuple[OperationType, ...]) -> ExecutionResult:
    return await schema.execute(
        query,
        asked.variables,
        context,
        operation_name=asked.operation_name,
        operation_extensions=asked.extensions,
        allowed_operation_types=allowed,
    )


async def _subscribe(query: str, asked: Asked, context: Context, wanted: Wanted) -> ASGIApp:
    if not wanted.stream:
        detail = f"a subscription is answered as a stream: accept {EVENT_STREAM}, or use a WebSocket"
        raise Problem(NOT_ACCEPTABLE, detail)
    current().is_stream = True
    results = await schema.follow(query, asked, context, (OperationType.SUBSCRIPTION,))
    return EventStream(results, context)


def _only_by_post() -> Problem:
    detail = "only queries can be sent with GET; send mutations with POST"
    return Problem(METHOD_NOT_ALLOWED, detail, {"Allow": "POST"})
