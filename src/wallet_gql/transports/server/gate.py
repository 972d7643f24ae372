"""The outermost layer of the application: request ids, security headers, log lines, metrics, hidden tracebacks.

It asks `Direct` first, whether the request is a usual one. All others go through Starlette's layers.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..catalogue import texts
from ..catalogue.errors import INTERNAL
from ..graphql.direct import Direct, Usual
from ..http.compression import LENGTH_MIN, accepts_gzip, compressed, is_json
from ..http.hosts import relative
from ..http.language import language_headers
from ..http.logs import REQUEST_ID, REQUEST_ID_HEADER
from ..http.problems import BODY_MAX, Problem, respond, too_large
from ..http.record import RECORD, RequestRecord
from ..http.security import HEADERS, STRICT_TRANSPORT
from ..http.whole import WHOLE, Whole, WriteWhole

log = logging.getLogger(__name__)

PROBES: Final = ("/healthz", "/readyz")
"""Neither logged nor counted: a balancer asks all the time."""

_REDIRECTIONS: Final = range(300, 400)
_REQUEST_ID_NAME: Final = REQUEST_ID_HEADER.lower().encode()
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)


class Gate:
    """Wraps every request: sets its id in headers, logs and errors, adds security headers, hides tracebacks."""

    def __init__(self, app: ASGIApp, *, direct: Direct, strict_transport: bool = False) -> None:
        self._app = app
        self._direct = direct
        self._strict_transport = strict_transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(reversed(scope["headers"]))  # of headers that come twice, the first counts
        request_id = _request_id(given)
        token = REQUEST_ID.set(request_id)
        record = RequestRecord()
        record.headers = given
        RECORD.set(record)
        is_strict = self._strict_transport and scope["scheme"] == "https"
        answer = _Answer(send, scope.get(WHOLE), _STRICT if is_strict else _ADDED, record, request_id)
        answer.is_gzip = accepts_gzip(given.get(b"accept-encoding", b"").decode("latin-1"))
        started = time.perf_counter()
        try:
            await self._guarded(scope, receive, answer, given)
        finally:
            if scope["path"] not in PROBES:
                took = time.perf_counter() - started
                record.end(took)
                if log.isEnabledFor(logging.INFO):
                    status = answer.status or "unanswered"
                    log.info("%s %r %s in %.1f ms", scope["method"], scope["path"], status, took * 1000)
            REQUEST_ID.reset(token)

    async def _guarded(self, scope: Scope, receive: Receive, answer: _Answer, given: Mapping[bytes, bytes]) -> None:
        try:
            declared = given.get(b"content-length", b"")
            if declared.isdigit() and int(declared) > BODY_MAX:
                await respond(too_large())(scope, receive, answer.send)
                return
            usual = self._direct.usual(scope, given)
            if usual is None:
                await self._app(scope, receive, answer.send)
            else:
                await self._answer_usual(usual, scope, receive, answer)
        except ClientDisconnect:
            log.info("the client went away while sending")
        except Exception:
            log.exception("unexpected failure")
            if answer.status is not None:
                raise
            await respond(Problem(INTERNAL, texts.OUR_BUG()))(scope, receive, answer.send)

    async def _answer_usual(self, usual: Usual, scope: Scope, receive: Receive, answer: _Answer) -> None:
        """Answer in the short way, or go on in the long one with what was read."""
        found, receive = await self._direct.answer(usual, scope, receive)
        if isinstance(found, Whole):
            await answer.send_whole(found, scope, receive)
        else:
            await (found or self._app)(scope, receive, answer.send)


class _Added:
    """Headers that are added to answers: each by itself, and all as lines."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self.lines = b"".join(b"%b: %b\r\n" % header for header in self.headers)


_ADDED: Final = _Added(HEADERS)
_STRICT: Final = _Added({**HEADERS, **STRICT_TRANSPORT})


class _Answer:
    """Passes the response on: adds the headers and remembers the status."""

    __slots__ = ("_added", "_head", "_record", "_request_id", "_send", "_write", "is_gzip", "status")

    def __init__(
        self, send: Send, write: WriteWhole | None, added: _Added, record: RequestRecord, request_id: str
    ) -> None:
        self._send = send
        self._write = write
        self._added = added
        self._record = record
        self._request_id = request_id
        self.status: int | None = None
        self.is_gzip = False
        """Whether the client takes gzip: then the head of JSON waits for the first piece of the body."""
        self._head: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status in _REDIRECTIONS:
                headers = MutableHeaders(scope=message)
                if "location" in headers:
                    headers["Location"] = relative(headers["location"])
            own = list(message["headers"])
            names = {name for name, _ in own}
            own += [header for header in self._added.headers if header[0] not in names]
            if self._record.language:
                own += language_headers(self._record.language)
            message["headers"] = [*own, (_REQUEST_ID_NAME, self._request_id.encode())]
            if self.is_gzip and is_json(message):
                self._head = message
                return
        elif self._head is not None:
            head, message = compressed(self._head, message, self._record)
            self._head = None
            await self._send(head)
        await self._send(message)

    async def send_whole(self, whole: Whole, scope: Scope, receive: Receive) -> None:
        """Send it in one write, if it has no headers of its own and the server can do so."""
        is_plain = not (self.is_gzip and len(whole.body) >= LENGTH_MIN) and not self._record.language
        if self._write is not None and not whole.headers and is_plain:
            head = b"content-length: %d\r\ncontent-type: %b; charset=utf-8\r\n%bx-request-id: %b\r\n" % (
                len(whole.body),
                whole.media_type.encode(),
                self._added.lines,
                self._request_id.encode(),
            )
            if self._write(whole.status, head, whole.body):
                self.status = whole.status
                return
        await whole(scope, receive, self.send)


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    """The request id of a trusted proxy, if it is well-formed; else a new one.

    `heads.BoundedHeads` has dropped the header if it came from anybody else.
    """
    given = headers.get(_REQUEST_ID_NAME)
    if given is not None:
        shown = given.decode("latin-1")
        if _REQUEST_ID.fullmatch(shown):
            return shown
    return f"{random.getrandbits(128):032x}"  # whoever guesses it gains nothing
