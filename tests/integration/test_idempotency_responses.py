"""Responses of the ASGI middleware: answers without a body over real connections, and large ones that join late."""

from __future__ import annotations

import http.client
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.integration._in_a_thread import in_a_thread
from wallet_gql.backends import open_store
from wallet_gql.domain.changes import Changes, Decision, Scope, Snapshot
from wallet_gql.domain.model import Record, RecordKey
from wallet_gql.idempotency import Effects, Guard
from wallet_gql.idempotency.asgi import Answer, IdempotencyMiddleware, turn_of
from wallet_gql.records import read, remove
from wallet_gql.storage import Store
from wallet_gql.testing.patience import patience

KEY: Final = "Idempotency-Key"
REPLAYED: Final = "idempotency-replayed"
ORDER: Final = RecordKey("test", "order", 5)
SMALL, LARGE = 100, 70_000
METHODS: Final = ("DELETE", "HEAD", "POST")

Endpoint = Callable[[Request], Awaitable[Response]]


def application(endpoint: Endpoint, store: Store, **options: Any) -> Any:
    """An application with that endpoint behind the middleware, and `GET /balance`; it opens the store."""

    async def balance(_request: Request) -> Response:
        return JSONResponse({"balance": 1})

    @asynccontextmanager
    async def life(_app: Starlette) -> AsyncIterator[None]:
        async with store:
            yield

    routes = [Route("/balance", balance), Route("/{rest:path}", endpoint, methods=METHODS)]
    guard = options.pop("guard", None) or Guard(store)
    options = {"caller": lambda _: "ann", "slot": ORDER.slot, "methods": METHODS, **options}
    return IdempotencyMiddleware(Starlette(routes=routes, lifespan=life), guard, **options)


@asynccontextmanager
async def client_of(endpoint: Endpoint, **options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Store]]:
    """A client without a server, and the store."""
    async with open_store("memory://") as store:
        app = application(endpoint, store, **options)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client, store


# Without a body


class Kept:
    """One connection that must stay open, and sound."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience(20))
        self._connection.connect()
        self._socket = self._connection.sock

    def ask(self, method: str, path: str, key: str = "") -> tuple[int, dict[str, str], bytes]:
        """Ask, and read the answer to its end; status, headers and body."""
        assert self._connection.sock is self._socket, "the server has closed the connection"
        self._connection.request(method, path, headers={KEY: f'"{key}"'} if key else {})
        answer = self._connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def close(self) -> None:
        """Close it."""
        self._connection.close()


async def bodies(request: Request) -> Response:
    """An answer with the status in the path, by a decision or of the application's own."""
    how, status = request.url.path.strip("/").split("/")[:2]
    if how == "joined":
        answer = Answer(int(status), {"a": 1} if int(status) in (200, 404) else None)
        turn_of(request.scope).join(Scope(ORDER.slot), lambda _: Decision(Changes(), answer))
    if status == "204":
        return Response(status_code=204)
    return JSONResponse({"a": 1}, int(status)) if int(status) in (200, 404) else Response(b"", int(status))


@pytest.mark.parametrize("protocol", ["h11", "httptools"])
@pytest.mark.parametrize("how", ["joined", "own"])
@pytest.mark.parametrize("method", METHODS)
def test_an_answer_without_a_body_leaves_the_connection_sound(protocol: str, how: str, method: str) -> None:
    """The first answer and its replay are read to their end, and the next request on the connection gets its own."""
    with in_a_thread(application(bodies, open_store("memory://")), http=protocol) as port:
        kept = Kept(port)
        try:
            for status in (204, 304, 205, 200, 404):
                for is_replay in (False, True):
                    found, headers, body = kept.ask(method, f"/{how}/{status}", f"k{status}")
                    assert (found, REPLAYED in headers) == (status, is_replay)
                    if status in (204, 304):
                        assert not {"content-length", "content-type", "transfer-encoding"} & headers.keys()
                    elif status == 205 and method != "HEAD":
                        assert headers["content-length"] == "0"
                    has_body = status in (200, 404) and method != "HEAD"
                    assert bool(body) is has_body
                    assert kept.ask("GET", "/balance")[::2] == (200, b'{"balance":1}')
        finally:
            kept.close()


@pytest.mark.parametrize("protocol", ["h11", "httptools"])
@pytest.mark.parametrize("size", [0, SMALL, LARGE])
def test_head_has_no_length_that_is_wrong(protocol: str, size: int) -> None:
    """Whatever the application tells or sends, no body follows, and 0 is not said; a refusal has no body, either."""

    async def endpoint(_request: Request) -> Response:
        return Response(b"x" * size, headers={"Content-Length": str(LARGE)})

    with in_a_thread(application(endpoint, open_store("memory://")), http=protocol) as port:
        kept = Kept(port)
        try:
            for path, is_replay, wanted in (("/x", False, 200), ("/x", True, 200), ("/other", False, 422)):
                status, headers, body = kept.ask("HEAD", path, "k")
                assert (status, body, REPLAYED in headers) == (wanted, b"", is_replay)
                assert "content-length" not in headers
                assert kept.ask("GET", "/balance")[0] == 200
        finally:
            kept.close()


# Large responses


def order_of(request: Request, outcome: Answer | Exception | None = None) -> None:
    """Join an order, which can be made once. The decision returns or raises `outcome`."""

    def decide(snapshot: Snapshot) -> Decision[Answer | None]:
        if isinstance(outcome, Exception):
            raise outcome
        assert snapshot.record(ORDER) is None
        return Decision(Changes(records=(Record(ORDER.kind, ORDER.id, ORDER.slot, "test", 1),)), outcome)

    turn_of(request.scope).join(Scope(ORDER.slot, records=(ORDER,)), decide)


def streaming(when: str, size: int, outcome: Answer | Exception | None = None, *, tells_length: bool) -> Endpoint:
    """An endpoint that streams, and joins at some time. Only for its first request the decision has that outcome."""
    outcomes = [outcome]

    async def endpoint(request: Request) -> Response:
        now = outcomes.pop() if outcomes else None

        async def parts() -> AsyncIterator[bytes]:
            yield b"a" * size
            if when == "between":
                order_of(request, now)
            yield b"b" * size
            if when == "last":
                order_of(request, now)

        if when == "first":
            order_of(request, now)
        headers = {"Content-Length": str(2 * size)} if tells_length else {}
        return StreamingResponse(parts(), headers=headers)

    return endpoint


@pytest.mark.parametrize("tells_length", [True, False])
@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("when", ["first", "between", "last"])
async def test_the_size_of_a_response_does_not_decide_what_happens(when: str, size: int, tells_length: bool) -> None:
    """Whenever it is joined, the effect commits, and the whole response arrives; a retry has no effect."""
    async with client_of(streaming(when, size, tells_length=tells_length)) as (client, store):
        first = await client.post("/x", headers={KEY: '"k"'})
        assert (first.status_code, first.content) == (200, b"a" * size + b"b" * size)
        assert await read(store, ORDER) is not None
        again = await client.post("/x", headers={KEY: '"k"'})
        if size == SMALL:
            assert (again.content, again.headers[REPLAYED]) == (first.content, "true")
        else:
            assert (again.status_code, again.json()["code"]) == (409, "ANSWER_NOT_KEPT")


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_what_is_joined_behind_the_response_raises(size: int) -> None:
    """A background task is told that it is too late, and nothing of it is done; a stray task, too."""
    raised: list[str] = []
    turns = []

    def late(request: Request) -> None:
        turns.append(turn_of(request.scope))
        try:
            order_of(request)
        except RuntimeError as error:
            raised.append(str(error))

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(iter([b"a" * size, b"b"]), background=BackgroundTask(late, request))

    async with client_of(endpoint) as (client, store):
        assert (await client.post("/x", headers={KEY: '"k"'})).status_code == 200
        assert [one for one in raised if "too late" in one] == raised
        assert len(raised) == 1
        with pytest.raises(RuntimeError, match="too late"):
            turns[0].join(Scope(ORDER.slot), lambda _: Decision(Changes(), None))
        assert await read(store, ORDER) is None


async def test_what_is_joined_after_a_failure_raises() -> None:
    """The turn of an application that raised has ended, too."""
    turns = []

    async def endpoint(request: Request) -> Response:
        turns.append(turn_of(request.scope))
        raise ZeroDivisionError

    async with client_of(endpoint) as (client, _):
        assert (await client.post("/x", headers={KEY: '"k"'})).status_code == 500
        with pytest.raises(RuntimeError, match="too late"):
            turns[0].join(Scope(ORDER.slot), lambda _: Decision(Changes(), None))


async def test_with_effects_outside_a_large_response_is_committed_first() -> None:
    """What is joined afterwards raises; before that, it commits."""
    raised: list[RuntimeError] = []

    async def endpoint(request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"a" * LARGE
            try:
                order_of(request)
            except RuntimeError as error:
                raised.append(error)
            yield b"b"

        return StreamingResponse(parts())

    async with client_of(endpoint, effects=Effects.OUTSIDE) as (client, store):
        assert len((await client.post("/x", headers={KEY: '"k"'})).content) == LARGE + 1
        assert len(raised) == 1
        assert await read(store, ORDER) is None


@pytest.mark.parametrize("status", [201, 409])
@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_an_answer_that_takes_the_place_of_a_large_response_is_stored(size: int, status: int) -> None:
    """It is small, so a retry gets it."""
    endpoint = streaming("first", size, Answer(status, {"order": 1}), tells_length=False)
    async with client_of(endpoint) as (client, _):
        for is_replay in (False, True):
            answer = await client.post("/x", headers={KEY: '"k"'})
            assert (answer.status_code, answer.json()) == (status, {"order": 1})
            assert (REPLAYED in answer.headers) is is_replay


OUTCOMES: Final[dict[str, Answer | Exception]] = {
    "raises": ZeroDivisionError(),
    "answers": Answer(201, {"order": 1}),
    "refuses": Answer(400, {"order": 0}),
}


@pytest.mark.parametrize("protocol", ["h11", "httptools"])
@pytest.mark.parametrize("tells_length", [True, False])
@pytest.mark.parametrize("when", ["between", "last"])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_large_response_that_cannot_end_is_broken_off(
    protocol: str, tells_length: bool, when: str, outcome: str
) -> None:
    """The client sees that it has not the whole; its next request gets the answer that is stored, or does the work."""
    endpoint = streaming(when, LARGE, OUTCOMES[outcome], tells_length=tells_length)
    with (
        in_a_thread(application(endpoint, open_store("memory://")), http=protocol) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=patience(20)) as client,
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/x", headers={KEY: '"k"'})
        again = client.post("/x", headers={KEY: '"k"'})
        if outcome == "answers":
            assert (again.status_code, again.json(), again.headers[REPLAYED]) == (201, {"order": 1}, "true")
        else:
            assert (again.status_code, len(again.content)) == (200, 2 * LARGE)


@pytest.mark.parametrize("joins", [True, False])
async def test_a_large_response_that_outlives_its_claim(joins: bool) -> None:
    """Without a claim nothing that was joined is done, and the client learns it; where nothing was, nothing is lost."""
    guards: list[Guard] = []

    async def endpoint(request: Request) -> Response:
        turn = turn_of(request.scope)

        async def parts() -> AsyncIterator[bytes]:
            yield b"a" * LARGE
            await remove(guards[0].store, turn.turn.ask.name, lambda _: True)  # as a sweep does after the lease
            if joins:
                order_of(request)

        return StreamingResponse(parts())

    async with open_store("memory://") as store:
        guards.append(Guard(store))
        app = application(endpoint, store, guard=guards[0])
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request"}

        scope = {"type": "http", "method": "POST", "path": "/x", "headers": [(KEY.lower().encode(), b'"k"')]}
        if joins:
            with pytest.raises(RuntimeError, match="broken off"):
                await app(scope, receive, send)
        else:
            await app(scope, receive, send)
        assert sent[-1]["more_body"] is joins
        assert await read(store, ORDER) is None
