"""GraphQL over HTTP, server-sent events and WebSockets, at one address.

HTTP: POST with a JSON body, or GET for queries only; no multipart, no batches. `http_spec` has the status codes.
"""

from __future__ import annotations

from typing import Final

import orjson
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.execution import ExecutionResult
from strawberry.types.graphql import OperationType

from ...domain.frozen import frozen
from ...runtime import Wallet
from ...settings import Settings
from ..catalogue import texts
from ..catalogue.errors import METHOD_NOT_ALLOWED, NOT_ACCEPTABLE
from ..http.auth import Caller, caller_of, check_same_site
from ..http.finishing import Finishing
from ..http.problems import Problem
from ..http.rate_limits import visitor_of
from ..http.record import current
from ..http.whole import Whole
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

    async def run_prepared(self, prepared: Prepared, wallet: Wallet, caller: Caller, media_type: str) -> Whole:
        """The answer to it. A mutation is run to its end, even if its client hangs up."""
        current().api = "graphql"
        ready, asked = prepared.ready, prepared.asked
        context = Context(wallet, caller, live=self.live)
        context.cost.unpaid = asked.values
        running = schema.run(ready, context, asked.extensions)
        result = await (self._finishing.to_the_end(running) if ready.is_mutation else running)
        return self._whole(result, media_type, context)

    def _answer(self, result: ExecutionResult, wanted: Wanted, context: Context) -> ASGIApp:
        if wanted.stream_first or wanted.json is None:
            return EventStream(single(result), context)
        return self._whole(result, wanted.json, context)

    def _whole(self, result: ExecutionResult, media_type: str, context: Context) -> Whole:
        status = status_of(result, media_type, self._profile)
        return Whole(status, media_type, orjson.dumps(payload(result)), context.headers)

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


@frozen
class Prepared:
    """A request whose document has a plan, with its variables checked."""

    ready: Ready
    asked: Asked


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
        raise Problem(NOT_ACCEPTABLE, texts.ACCEPT_STREAM(offered=EVENT_STREAM))
    current().is_stream = True
    results = await schema.follow(query, asked, context, (OperationType.SUBSCRIPTION,))
    return EventStream(results, context)


def _only_by_post() -> Problem:
    return Problem(METHOD_NOT_ALLOWED, texts.ONLY_BY_POST(), {"Allow": "POST"})
