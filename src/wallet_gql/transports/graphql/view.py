"""GraphQL over HTTP: POST with a JSON body, or GET for queries alone. No multipart, no batches, no WebSockets yet."""

from __future__ import annotations

from http import HTTPStatus
from json import JSONDecodeError
from typing import Any, Final

import orjson
from cross_web import AsyncHTTPRequestAdapter, HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.types.execution import ExecutionResult, PreExecutionError

from ..auth import Caller, check_same_site, token_of
from ..logs import REQUEST_ID
from ..problems import Problem
from .context import Context
from .failures import BAD_REQUEST
from .schema import schema

MEDIA_TYPE: Final = "application/json"
_OBJECTS: Final = ("variables", "extensions")
_STRINGS: Final = ("query", "operationName")


class WalletView(GraphQL[Context, None]):
    """The ASGI app behind `/graphql`.

    What is wrong with the request itself is answered with 4xx: 400 for a body that is no GraphQL request, and see
    `problems` for the others. Everything else is 200 with `data` or `errors`.
    """

    def __init__(self) -> None:
        super().__init__(schema, graphql_ide=None, subscription_protocols=())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises Problem."""
        request = Request(scope, receive)
        check_same_site(request)
        if request.method == "POST":
            check_media_type(request)
        try:
            response = await self.run(request)
        except HTTPException as error:
            response = _refusal(error)
        await response(scope, receive, send)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        """What resolvers reach."""
        assert isinstance(request, Request)
        assert isinstance(response, Response)
        wallet = request.app.state.wallet
        return Context(wallet, Caller(wallet.identity, token_of(request)), response)

    def should_render_graphql_ide(self, request: object) -> bool:
        """Never: the one that Strawberry ships loads its scripts from the network."""
        del request
        return False

    def decode_json(self, data: str | bytes) -> object:
        """Strict JSON: no NaN, no invalid UTF-8, no nesting beyond reason."""
        return orjson.loads(data)

    def encode_json(self, data: object) -> bytes:
        """Compact JSON."""
        return orjson.dumps(data)

    def parse_json(self, data: str | bytes) -> Any:
        """A JSON object. Raises HTTPException with 400."""
        try:
            value = self.decode_json(data)
        except JSONDecodeError as error:
            raise HTTPException(HTTPStatus.BAD_REQUEST, f"This is not valid JSON: {error}") from error
        if not isinstance(value, dict):
            raise HTTPException(HTTPStatus.BAD_REQUEST, 'Send a JSON object such as {"query": "{ … }"}.')
        return value

    async def parse_http_body(self, request: AsyncHTTPRequestAdapter) -> GraphQLRequestData:
        """The one operation that is asked for. Raises HTTPException with 400."""
        if request.method == "GET":
            given = self.parse_query_params(request.query_params)
        else:
            given = self.parse_json(await request.get_body())
        for names, kind, shown in ((_STRINGS, str, "a string"), (_OBJECTS, dict, "an object")):
            for name in names:
                if not isinstance(given.get(name), kind | None):
                    raise HTTPException(HTTPStatus.BAD_REQUEST, f"{name} must be {shown} or null.")
        return GraphQLRequestData(
            given.get("query"), given.get("variables"), given.get("operationName"), given.get("extensions")
        )

    async def execute_single(self, *args: Any, **kwargs: Any) -> ExecutionResult:
        """Run one operation. Raises Problem (405) for a mutation by GET, HTTPException with 400 for no operation."""
        try:
            return await super().execute_single(*args, **kwargs)
        except HTTPException as error:
            if isinstance(error.__cause__, InvalidOperationTypeError):
                detail = "only queries can be sent with GET; send mutations with POST"
                raise Problem(
                    HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.METHOD_NOT_ALLOWED.name, detail, {"Allow": "POST"}
                ) from error
            raise

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        """The response's body; a request that was never executed has no `data`."""
        body = await super().process_result(request, result)
        if isinstance(result, PreExecutionError):
            del body["data"]
        return body


def check_media_type(request: Request) -> None:
    """Refuse any body but JSON, for forms and plain text are what other sites can send. Raises Problem (415)."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != MEDIA_TYPE:
        detail = f"send the body as {MEDIA_TYPE}"
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE.name,
            detail,
            {"Accept-Post": MEDIA_TYPE},
        )


def _refusal(error: HTTPException) -> Response:
    extensions = {"code": BAD_REQUEST, "requestId": REQUEST_ID.get(), "retryable": False}
    body = {"errors": [{"message": error.reason, "extensions": extensions}]}
    return Response(orjson.dumps(body), error.status_code, media_type=MEDIA_TYPE)
