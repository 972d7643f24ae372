"""Errors outside the operations, such as those of HTTP itself: problem objects as in RFC 9457."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from ...domain.words import Worded
from ..catalogue import texts
from ..catalogue.errors import METHOD_NOT_ALLOWED, NOT_FOUND, REQUEST_ENTITY_TOO_LARGE, Code, code_of
from .language import tell
from .logs import REQUEST_ID
from .record import current

MEDIA_TYPE: Final = "application/problem+json"
BODY_MAX: Final = 256 * 1024
"""The largest request body, in bytes."""

_DETAILS: Final = {
    REQUEST_ENTITY_TOO_LARGE: texts.BODY_SIZE(most=BODY_MAX),
    NOT_FOUND: texts.NO_PATH(),
    METHOD_NOT_ALLOWED: texts.METHOD(),
}


class Problem(Exception):
    """A request that is refused with a code of the catalogue. `detail` is one of `texts`."""

    def __init__(self, code: Code, detail: Worded, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})


def respond(problem: Problem) -> Response:
    """The response to a problem, in the language that the request wants."""
    code, text = problem.code, problem.detail
    detail = tell()(text.words, text.values)
    return answer(code.status, code.name, detail, {}, problem.headers, retryable=code.retryable)


def answer(
    status: HTTPStatus,
    code: str,
    detail: str,
    values: Mapping[str, object],
    headers: Mapping[str, str],
    *,
    retryable: bool,
) -> Response:
    """The response: `{type, title, status, detail, code, requestId, retryable}` and further values of the error."""
    current().fail(code)
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "requestId": REQUEST_ID.get(),
        "retryable": retryable,
        **values,
    }
    return Response(orjson.dumps(body), status, headers, MEDIA_TYPE)


async def on_problem(_request: Request, error: Exception) -> Response:
    """Starlette's handler for `Problem`."""
    assert isinstance(error, Problem)
    return respond(error)


async def on_http_exception(_request: Request, error: Exception) -> Response:
    """Starlette's handler for its own refusals: no such path, wrong method, a body that is too large."""
    assert isinstance(error, HTTPException)
    code = code_of(HTTPStatus(error.status_code))
    detail = _DETAILS.get(code) or Worded.of(code.name, code.docs, {})
    return respond(Problem(code, detail, error.headers))


def too_large() -> Problem:
    """The body is over the limit."""
    return Problem(REQUEST_ENTITY_TOO_LARGE, _DETAILS[REQUEST_ENTITY_TOO_LARGE])


async def refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, or the opening handshake of a WebSocket, with a problem.

    A server that cannot answer a handshake with a body closes the WebSocket instead.
    """
    if scope["type"] != "websocket":
        await respond(problem)(scope, receive, send)
    elif "websocket.http.response" in scope.get("extensions", {}):
        await WebSocket(scope, receive, send).send_denial_response(respond(problem))
    else:
        await WebSocket(scope, receive, send).close()
