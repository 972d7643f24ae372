"""GraphQL over WebSockets: the server's half of the protocol `graphql-transport-ws`.

It serves queries and subscriptions; mutations must use HTTP, where a lost connection does not cut them off. The session
comes with the handshake (cookie or `Authorization`) or in the payload of `connection_init`: `{"authorization": "Bearer
…"}`; so does the language of messages (`Accept-Language`). Close codes are those of the protocol: 4400 a malformed
message, 4401 an operation before `connection_ack`, 4403 the session is not or no longer valid, 4406 another
subprotocol, 4408 no `connection_init` in time, or no request for a while without a session, 4409 an id that is in use,
4429 a second `connection_init`; 1012 the server restarts.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, Final

import orjson
from graphql import GraphQLError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.types.execution import ExecutionResult
from strawberry.types.graphql import OperationType

from ...domain.errors import RateLimited, Unauthenticated, WalletError
from ...runtime import Wallet
from ..catalogue.languages import wanted
from ..http.auth import Caller, caller_of, token_of
from ..http.language import ACCEPT_LANGUAGE
from ..http.logs import REQUEST_ID
from ..http.rate_limits import visitor_of
from ..http.record import RECORD, RequestRecord, traced
from .asked import Asked
from .context import Context
from .documents import Documents
from .failures import Fault, OverLimit, Refused, Unanswerable
from .http_spec import payload
from .live import Live
from .reading import pay_for_reading
from .schema import schema
from .ticks import cancelled

log = logging.getLogger(__name__)

PROTOCOL: Final = "graphql-transport-ws"
INIT_SECONDS: Final = 10.0
"""How long a client may take to send `connection_init`."""

ANONYMOUS_SECONDS: Final = 60.0
"""How long a connection without a session may be open without a request."""

SEND_SECONDS: Final = 30.0
"""How long a client may fail to read before the connection is closed."""

OPERATIONS_MAX: Final = 20
"""The most operations that one connection may run at a time."""

REASON_MAX: Final = 123
"""The longest reason that a close frame can hold, in bytes."""

ID_MAX: Final = 255
"""The longest id of an operation, in characters: it is sent with every message of the operation."""

BAD: Final = 4400
UNAUTHORIZED: Final = 4401
FORBIDDEN: Final = 4403
NOT_ACCEPTABLE: Final = 4406
INIT_TIMEOUT: Final = 4408
ID_IN_USE: Final = 4409
TOO_MANY_INITS: Final = 4429
GOING_AWAY: Final = 1001
INTERNAL: Final = 1011

_ALLOWED: Final = (OperationType.QUERY, OperationType.SUBSCRIPTION)
_BEARER: Final = "bearer "


class Closed(Exception):
    """The connection must be closed with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Connection:
    """One client's connection, from the handshake on."""

    def __init__(self, socket: WebSocket, wallet: Wallet, documents: Documents, live: Live) -> None:
        self._socket = socket
        self._wallet = wallet
        self._documents = documents
        self._live = live
        self._token = token_of(socket)
        self._headers = dict(reversed(socket.scope["headers"]))
        self._acknowledged = False
        self._used_at = time.monotonic()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        """Set by an operation that needs the connection closed."""

    async def serve(self) -> None:
        """Serve until either side closes the connection."""
        REQUEST_ID.set(uuid.uuid4().hex)
        if PROTOCOL not in self._socket.scope["subprotocols"]:
            await self._socket.accept()
            await self._close(Closed(NOT_ACCEPTABLE, f"speak {PROTOCOL}"))
            return
        await self._socket.accept(PROTOCOL)
        began = time.perf_counter()
        listening = asyncio.ensure_future(self._listen())
        stopping = asyncio.ensure_future(self._live.stopping.wait())
        idling = asyncio.ensure_future(self._end_if_idle())
        parts: list[asyncio.Future[Any]] = [listening, stopping, self._ended]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            why = self._why(listening, stopping)
            code = "by the client" if why is None else str(why.code)
            log.info("WEBSOCKET %r closed %s after %.1f s", self._socket.url.path, code, time.perf_counter() - began)
            await self._close(why)
        finally:
            await cancelled(listening, stopping, idling, *self._tasks.values())

    def _why(self, listening: asyncio.Task[None], stopping: asyncio.Task[bool]) -> Closed | None:
        """Why the connection ends; None if the client hung up."""
        if self._ended.done():
            return self._ended.result()
        if not listening.done():
            assert stopping.done()
            return Closed(GOING_AWAY, "the server is being stopped; connect again")
        error = listening.exception()
        if error is None or isinstance(error, WebSocketDisconnect):
            return None
        if isinstance(error, Closed):
            return error
        log.error("unexpected failure on a WebSocket", exc_info=error)
        return Closed(INTERNAL, "something went wrong on our side")

    async def _close(self, closed: Closed | None) -> None:
        if closed is not None and self._socket.application_state is WebSocketState.CONNECTED:
            with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):  # it was closed from the other side
                reason = closed.reason.encode()[:REASON_MAX].decode(errors="ignore")
                async with asyncio.timeout(SEND_SECONDS):
                    await self._socket.close(closed.code, reason)

    async def _listen(self) -> None:
        """Process the client's messages one by one. Raises Closed, WebSocketDisconnect."""
        try:
            async with asyncio.timeout(INIT_SECONDS) as waiting:
                async for message in self._messages():
                    await self._take(message)
                    if self._acknowledged:
                        waiting.reschedule(None)
        except TimeoutError as error:
            raise Closed(INIT_TIMEOUT, "Connection initialisation timeout") from error

    async def _end_if_idle(self) -> None:
        """Close a connection without a session that makes no request, because it uses memory; pings do not count."""
        while True:
            await asyncio.sleep(ANONYMOUS_SECONDS / 4)
            if self._tasks or self._token is not None:
                self._used_at = time.monotonic()
            elif time.monotonic() - self._used_at > ANONYMOUS_SECONDS:
                self._end(Closed(INIT_TIMEOUT, "Nothing was asked for; connect again"))

    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            event = await self._socket.receive()
            if event["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(event.get("code", 1005))
            text = event.get("text")
            if text is None:
                raise Closed(BAD, "Messages are text")
            try:
                message = orjson.loads(text)
            except json.JSONDecodeError as error:
                raise Closed(BAD, "Messages are JSON") from error
            if not isinstance(message, dict) or not isinstance(message.get("type"), str):
                raise Closed(BAD, "Messages are objects with a type")
            yield message

    async def _take(self, message: dict[str, Any]) -> None:
        kind, given = message["type"], message.get("payload")
        if kind == "connection_init":
            await self._init(given)
        elif kind == "ping":
            try:
                await self._send({"type": "pong"} if given is None else {"type": "pong", "payload": given})
            except orjson.JSONEncodeError as error:  # what can be read may be too deep to be written
                raise Closed(BAD, "The payload of a ping is nested too deeply") from error
        elif kind == "subscribe":
            await self._subscribe(message.get("id"), given)
        elif kind == "complete":
            task = self._tasks.pop(str(message.get("id")), None)
            if task is not None:
                task.cancel()
        elif kind != "pong":
            raise Closed(BAD, "Unknown message type")

    async def _init(self, given: object) -> None:
        if self._acknowledged:
            raise Closed(TOO_MANY_INITS, "Too many initialisation requests")
        if given is not None and not isinstance(given, dict):
            raise Closed(BAD, "The payload of connection_init is an object")
        for name, value in (given or {}).items():
            if name.lower() == "authorization" and value is not None:
                if not isinstance(value, str) or not value.lower().startswith(_BEARER):
                    raise Closed(FORBIDDEN, "authorization must be Bearer and a token")
                self._token = value[len(_BEARER) :].strip()
            elif name.lower() == "accept-language" and isinstance(value, str):
                self._headers[ACCEPT_LANGUAGE] = wanted(value).encode()  # short, for it is kept
        if self._token is not None:
            try:
                await self._caller().session()
            except Unauthenticated as error:
                raise Closed(FORBIDDEN, "There is no such session") from error
            except WalletError as error:
                raise Closed(INTERNAL, "The session cannot be checked now; connect again") from error
        self._acknowledged = True
        await self._send({"type": "connection_ack"})

    async def _subscribe(self, name: object, given: object) -> None:
        if not self._acknowledged:
            raise Closed(UNAUTHORIZED, "Unauthorized")
        if not isinstance(name, str) or not 1 <= len(name) <= ID_MAX or not isinstance(given, dict):
            raise Closed(BAD, f"subscribe has an id of at most {ID_MAX} characters and a payload")
        if name in self._tasks:
            raise Closed(ID_IN_USE, f"Subscriber for {name[:64]} already exists")
        self._used_at = time.monotonic()
        try:
            await self._socket.app.state.limits.count_address(visitor_of(self._socket))
        except RateLimited as error:
            await self._send_error(name, Refused(Fault.THROTTLED, [GraphQLError("", original_error=error)]))
            return
        if len(self._tasks) >= OPERATIONS_MAX:
            over = OverLimit(f"a connection has at most {OPERATIONS_MAX} operations; complete one first")
            await self._send_error(name, Refused(Fault.VALIDATION, [over]))
            return
        self._tasks[name] = asyncio.create_task(self._operate(name, given))

    async def _operate(self, name: str, given: dict[str, Any]) -> None:
        """Run one operation to its end, and send its results."""
        with traced({}):  # nobody has checked who sent the headers
            await self._operate_traced(name, given)

    async def _operate_traced(self, name: str, given: dict[str, Any]) -> None:
        REQUEST_ID.set(uuid.uuid4().hex)
        record = RequestRecord("graphql", is_stream=True, headers=self._headers)
        RECORD.set(record)
        try:
            if await self._run(name, given):
                self._tasks.pop(name, None)  # the id must be free before the client is told
                await self._send({"id": name, "type": "complete"})
        except Closed as closed:
            self._end(closed)
        except (RuntimeError, WebSocketDisconnect):
            log.debug("the client was gone")
        except TimeoutError:
            self._end(Closed(INTERNAL, "what was sent was not taken"))
        except Exception:
            log.exception("unexpected failure in an operation on a WebSocket")
            record.fail("INTERNAL")
            self._end(Closed(INTERNAL, "something went wrong on our side"))
        finally:
            record.end(None)

    async def _run(self, name: str, given: dict[str, Any]) -> bool:
        """Send the results. Returns whether they ended by themselves, without an error that ends the operation."""
        try:
            asked = Asked.of(given)
            query = self._documents.text_of(asked)
        except Unanswerable as error:
            await self._send_error(name, Refused(error.fault, [error]))
            return False
        context = Context(self._wallet, self._caller(), live=self._live)
        refused = await pay_for_reading(context, query, asked)
        if refused is not None:
            await self._send_error(name, refused)
            return False
        results = await schema.follow(query, asked, context, _ALLOWED)
        async with aclosing(results):
            async for result in results:
                if self._token is not None and _is_logged_out(result):
                    raise Closed(FORBIDDEN, "The session has ended")
                if isinstance(result, Refused):
                    await self._send_error(name, result)
                    return False
                await self._send({"id": name, "type": "next", "payload": payload(result)})
        return True

    def _end(self, closed: Closed) -> None:
        if not self._ended.done():
            self._ended.set_result(closed)

    def _caller(self) -> Caller:
        return caller_of(self._socket, self._token)

    async def _send_error(self, name: str, result: Refused) -> None:
        self._tasks.pop(name, None)
        await self._send({"id": name, "type": "error", "payload": payload(result)["errors"]})

    async def _send(self, message: dict[str, Any]) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await self._socket.send_text(orjson.dumps(message).decode())


def _is_logged_out(result: ExecutionResult) -> bool:
    return any((error.extensions or {}).get("code") == Unauthenticated.code for error in result.errors or ())
