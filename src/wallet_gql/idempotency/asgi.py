"""ASGI middleware for the header `Idempotency-Key` (IETF draft draft-ietf-httpapi-idempotency-key-header).

```python
app = IdempotencyMiddleware(app, Guard(store), caller=lambda scope: ...)
```

| request | answer |
|---|---|
| a key that is new | the application's; it is committed with the effect before it is sent |
| a key that was answered | the first answer again: status, headers, body, and `Idempotency-Replayed: true` |
| the same key, another method, host, path, query or body | 422 |
| the same key while the first request runs | its answer, if that comes within `wait_seconds`; else 409 |
| the end of the first request was not recorded (effects OUTSIDE) | 504 until the completer has run |
| no key where one is required, two keys, or not a structured-field string | 400 |

An application whose effect must happen exactly once joins its changes: `turn_of(scope).join(...)`, before the response
ends. They commit together with the answer. Answers that say "not done" (see `keeps`) are not stored, nothing joined is
committed, and the key stays free; with effects OUTSIDE a 5xx proves nothing, so the key is in doubt. Bodies up to
`response_max` are stored. Larger and endless ones are passed on as they come; only the fact is stored, and a replay
gets 409.

This needs no framework: any ASGI 3 application can be wrapped.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import re
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import Any, Final

from ..domain.changes import Decision, Scope, Snapshot
from ..domain.errors import IdempotencyKeyReused, InDoubt, InvalidInput, Unavailable
from ._http import (
    Answer,
    Connection,
    Receive,
    Send,
    Stored,
    keeps,
    read_body,
    replaying,
    send_stored,
)
from ._response import Capture, HttpTurn, JoinedDecide
from .guard import Guard
from .keys import HEADER, header_key, header_value
from .turns import Ask, Effects, Joined, Outcome, StillRunning, Turn

log = logging.getLogger("wallet_gql.idempotency")

Application = Callable[[Connection, Receive, Send], Awaitable[None]]
Caller = Callable[[Connection], str | Awaitable[str | None] | None]
"""Says who asks; each caller's keys are separate. If it returns None, the request is passed on to be refused there."""

REPLAYED: Final = "Idempotency-Replayed"
TURN: Final = "wallet_gql.idempotency"
"""The name of the turn in the ASGI scope."""

OPERATION: Final = "http"
"""The guard's operation for every request, and so the name of its completer."""

UNSAFE: Final = frozenset({"POST", "PATCH", "PUT", "DELETE"})
REQUIRED: Final = frozenset({"POST", "PATCH"})
BODY_MAX: Final = 1024 * 1024
RESPONSE_MAX: Final = 64 * 1024

_NAME: Final = HEADER.lower().encode()
_RETRY_SECONDS: Final = 1
_PATH_MAX: Final = 2_000


def turn_of(connection: Connection) -> HttpTurn:
    """The turn of a request, from its ASGI scope. Raises KeyError if the request has no key."""
    found = connection[TURN]
    assert isinstance(found, HttpTurn)
    return found


class IdempotencyMiddleware:
    """Wraps an ASGI application: requests with the same key have one effect and one answer."""

    def __init__(
        self,
        app: Application,
        guard: Guard,
        *,
        caller: Caller,
        effects: Effects = Effects.JOINED,
        methods: Collection[str] = UNSAFE,
        required: Collection[str] = REQUIRED,
        keep: Callable[[int], bool] = keeps,
        wait_seconds: float = 10.0,
        body_max: int = BODY_MAX,
        response_max: int = RESPONSE_MAX,
        bare_keys: bool = False,
        by_host: bool = True,
        help_url: str = "about:blank",
        slot: int | None = None,
    ) -> None:
        """`effects` says where the application's effects are; with JOINED all of them must go through `join`.

        `methods` are those for which the header counts, `required` those that must have it. `slot` is where all
        requests commit; by default, each at its caller's home. `by_host`: requests to different host names are
        different; turn it off if clients retry at another name of the application. `help_url` is the `type` of the
        problem details: a page that explains the keys to clients.
        """
        self.app = app
        self.guard = guard
        self.caller = caller
        self.effects = effects
        self.methods = frozenset(methods)
        self.required = frozenset(required)
        self.keep = keep
        self.wait_seconds = wait_seconds
        self.body_max = body_max
        self.response_max = response_max
        self.bare_keys = bare_keys
        self.by_host = by_host
        self.help_url = help_url
        self.slot = slot

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if connection["type"] != "http" or connection["method"] not in self.methods:
            await self.app(connection, receive, send)
            return
        given = _given(connection, _NAME)
        who = await self._who(connection)
        if who is None or (not given and connection["method"] not in self.required):
            await self.app(connection, receive, send)
            return
        body = await read_body(receive, self.body_max)
        if body is None:
            return
        await self.guard.unstopped(self._answer(connection, who, given, body, send))

    async def _answer(self, connection: Connection, who: str, given: list[str], body: bytes, send: Send) -> None:
        found = await self._begin(connection, who, given, body)
        if isinstance(found, Turn):
            await self._run(found, connection, body, send)
        else:
            await send_stored(send, found, connection["method"])

    async def _who(self, connection: Connection) -> str | None:
        found = self.caller(connection)
        return await found if inspect.isawaitable(found) else found

    async def _begin(self, connection: Connection, who: str, given: list[str], body: bytes) -> Turn | Stored:
        """The turn to answer now, or the stored answer."""
        try:
            ask = self._ask(connection, who, given, body)
            found = await self.guard.begin(ask, wait_seconds=self.wait_seconds)
        except _Refused as error:
            return self._problem(error.status, error.code, error.detail)
        except InvalidInput as error:
            return self._problem(400, "IDEMPOTENCY_KEY_INVALID", error.message)
        except IdempotencyKeyReused as error:
            return self._problem(422, error.code, "this key was used with another request; use a new key")
        except StillRunning:
            return self._problem(409, "STILL_RUNNING", "the first request with this key is running; ask again later")
        except (InDoubt, Unavailable) as error:
            return self._come_again(error)
        return found if isinstance(found, Turn) else self._replay(found)

    def _ask(self, connection: Connection, who: str, given: list[str], body: bytes) -> Ask:
        """The guard's `Ask` for a request. Raises _Refused, InvalidInput."""
        if len(body) > self.body_max:
            raise _Refused(413, "BODY_TOO_LARGE", f"the body is larger than {self.body_max} bytes")
        if not given:
            raise _Refused(400, "IDEMPOTENCY_KEY_MISSING", f"this needs the header {HEADER}")
        values: dict[str, str | int | bool | None] = {
            "method": str(connection["method"]),
            "host": _host_of(connection) if self.by_host else None,
            "path": _path_as_sent(connection),
            "query": connection.get("query_string", b"").decode("latin-1"),
            "body": hashlib.sha256(body).hexdigest(),
        }
        key = header_key(header_value(given), bare=self.bare_keys)
        note = {"method": values["method"], "path": _noted(str(connection["path"]))}
        return self.guard.ask(who, key, OPERATION, values, effects=self.effects, slot=self.slot, note=note)

    def _replay(self, found: Outcome) -> Stored:
        not_kept = self._problem(409, "ANSWER_NOT_KEPT", "this request was done, and its answer is not kept")
        if not found.kept or found.value is None:
            return not_kept
        try:
            stored = Stored.read(found.value)
        except (AttributeError, KeyError, TypeError, ValueError):
            log.error("the completer of %r gave a value that is no answer: give `Answer(...).plain()`", OPERATION)  # noqa: TRY400
            return not_kept
        stored.headers.append((REPLAYED.lower().encode(), b"true"))
        return stored

    async def _run(self, turn: Turn, connection: Connection, body: bytes, send: Send) -> None:
        """Call the application, commit its answer with what it joined, and only then send the answer."""
        http_turn = HttpTurn(turn)
        capture = Capture(self, http_turn, connection["method"], send)
        hidden = ("http.response.pathsend", "http.response.zerocopysend", "http.response.trailers")
        extensions = {n: e for n, e in (connection.get("extensions") or {}).items() if n not in hidden}
        headers = [(name, value) for name, value in connection["headers"] if name.lower() != b"accept-encoding"]
        headers.append((b"accept-encoding", b"identity"))  # a replay may be for a client that knows no encoding
        inner = {**connection, "headers": headers, "extensions": extensions, TURN: http_turn}
        try:
            await self.app(inner, replaying(body), capture.send)
            if not capture.ended:
                raise RuntimeError("the application returned without a whole response")  # noqa: TRY301 - as if raised
        except BaseException:
            http_turn.ended = True
            if not capture.committed:
                await self.guard.give_up(turn)
            raise
        await capture.finish()

    async def end(self, http_turn: HttpTurn, stored: Stored, *, whole: bool = True) -> Stored:
        """Store the answer of a request; returns what to send. If it is not `whole`, only the fact is stored.

        The `Answer` of a joined decision is stored in any case.
        """
        turn = http_turn.turn
        if not self.keep(stored.status):
            return await self._let_go(turn, stored)
        given: Any = stored.plain() if whole else None
        if http_turn.joined is not None:
            given = self._with_answer(*http_turn.joined, given)
        try:
            outcome = await self.guard.finish(turn, given, kept=whole or http_turn.joined is not None)
        except Unavailable as error:
            await self.guard.give_up(turn)
            return self._come_again(error)
        except InDoubt as error:
            return self._come_again(error)
        except _NotKept as refusal:
            return await self._let_go(turn, refusal.answer)
        except BaseException:
            await self.guard.give_up(turn)
            raise
        return stored if outcome.value is None else Stored.read(outcome.value, cookies=stored)

    async def _let_go(self, turn: Turn, stored: Stored) -> Stored:
        """Handle an answer that is not stored: free the key, but after a 5xx leave effects OUTSIDE in doubt."""
        unclear = stored.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        await (self.guard.give_up(turn) if unclear else self.guard.release(turn))
        return stored

    def _with_answer(self, scope: Scope, decide: JoinedDecide, own: object) -> Joined:
        """The joined changes, with the answer to store: the decision's, or the application's own."""

        def joined(snapshot: Snapshot) -> Decision[Any]:
            decision = decide(snapshot)
            answer = decision.result
            if answer is None:
                return Decision(decision.changes, own)
            plain = answer.plain()
            if not self.keep(answer.status):
                raise _NotKept(Stored.read(plain))
            return Decision(decision.changes, plain)

        return Joined(scope, joined)

    def _come_again(self, error: InDoubt | Unavailable) -> Stored:
        log.warning("a request is answered with %s: %s", error.code, error.detail or error.message)
        return self._problem(504 if isinstance(error, InDoubt) else 503, error.code, error.message)

    def _problem(self, status: int, code: str, detail: str) -> Stored:
        """Problem details (RFC 9457)."""
        title = HTTPStatus(status).phrase
        body = {"type": self.help_url, "title": title, "status": status, "detail": detail, "code": code}
        headers = [(b"content-type", b"application/problem+json")]
        if status in (409, 503, 504):
            headers.append((b"retry-after", str(_RETRY_SECONDS).encode()))
        return Stored(status, headers, json.dumps(body).encode())


def _path_as_sent(connection: Connection) -> str:
    """The path as it was sent, since `/a%2Fb` is not `/a/b`; the decoded path if the server does not give it.

    Both begin with the `root_path` of a mounted application.
    """
    raw = connection.get("raw_path")
    if raw is not None:
        return bytes(raw).partition(b"?")[0].decode("latin-1")
    return str(connection["path"])


def _host_of(connection: Connection) -> str:
    """The host name without its port: several ports of one host are one application."""
    return re.sub(r":[0-9]*$", "", ",".join(_given(connection, b"host")).lower())


def _given(connection: Connection, name: bytes) -> list[str]:
    return [value.decode("latin-1") for found, value in connection["headers"] if found.lower() == name]


def _noted(path: str) -> str:
    """The beginning of a path, shorter if it is not ASCII: a note has up to twelve bytes for such a character."""
    return path[:_PATH_MAX] if path.isascii() else path[: _PATH_MAX // 2]


class _NotKept(Exception):
    """A joined decision returned an answer that is not stored, so nothing of it is committed."""

    def __init__(self, answer: Stored) -> None:
        super().__init__(answer.status)
        self.answer = answer


class _Refused(Exception):
    """A request that is answered before it has a turn."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


__all__ = ["HEADER", "REPLAYED", "Answer", "HttpTurn", "IdempotencyMiddleware", "keeps", "turn_of"]
