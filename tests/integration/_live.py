"""Subscribers for the tests: clients of `graphql-transport-ws` and server-sent events without a library."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final

import httpx
from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from wallet_gql.testing.patience import patience

PROTOCOL: Final = Subprotocol("graphql-transport-ws")
SECONDS: Final = 15.0
EVENTS: Final = """subscription($id: ID!, $after: BigInt) { accountEvents(accountId: $id, afterSequence: $after) {
  sequence entry { sequence amount { minorUnits } } account { state held { minorUnits } posted { minorUnits } } } }"""


class Talk:
    """One WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, kind: str, **more: Any) -> None:
        """Send a message."""
        await self.socket.send(json.dumps({"type": kind, **more}))

    async def hear(self) -> dict[str, Any]:
        """The next message."""
        async with asyncio.timeout(patience(SECONDS)):
            message: dict[str, Any] = json.loads(await self.socket.recv())
            return message

    async def begin(self, token: str | None = None) -> None:
        """Introduce oneself."""
        given = {"payload": {"authorization": f"Bearer {token}"}} if token else {}
        await self.say("connection_init", **given)
        assert (await self.hear())["type"] == "connection_ack"

    async def ask(self, query: str, variables: dict[str, Any] | None = None, name: str = "1", **more: Any) -> None:
        """Start an operation."""
        await self.say("subscribe", id=name, payload={"query": query, "variables": variables, **more})

    async def watch(self, account_id: str, after: int | None = None, name: str = "1") -> None:
        """Subscribe to an account."""
        await self.ask(EVENTS, {"id": account_id, "after": None if after is None else str(after)}, name)

    async def event(self) -> dict[str, Any]:
        """The next event of the only subscription."""
        message = await self.hear()
        assert message["type"] == "next", message
        assert "errors" not in message["payload"], message
        event: dict[str, Any] = message["payload"]["data"]["accountEvents"]
        return event

    async def closed(self) -> tuple[int, str]:
        """Wait for the server to hang up; its code and reason."""
        with suppress(ConnectionClosed):
            async with asyncio.timeout(patience(SECONDS)):
                while True:
                    await self.socket.recv()
        assert self.socket.close_code is not None
        return self.socket.close_code, self.socket.close_reason or ""

    def kill(self) -> None:
        """Be gone, without a word."""
        self.socket.transport.abort()


@asynccontextmanager
async def talking(url: str, token: str | None = None, *, begin: bool = True, **options: Any) -> AsyncIterator[Talk]:
    """A WebSocket to a server."""
    address = url.replace("http", "ws", 1) + "/graphql"
    options.setdefault("subprotocols", [PROTOCOL])
    options.setdefault("open_timeout", patience(2 * SECONDS))
    options.setdefault("ping_interval", None)  # a server that is slow for 20 s is no server that is gone
    async with connect(address, **options) as socket:
        talk = Talk(socket)
        if begin:
            await talk.begin(token)
        yield talk


@asynccontextmanager
async def streaming(
    url: str, token: str, account_id: str, after: int | None = None, **headers: str
) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    """The server-sent events of an account: kind and data."""
    sent = {"Accept": "text/event-stream", "Authorization": f"Bearer {token}", **headers}
    body = {"query": EVENTS, "variables": {"id": account_id, "after": after}}
    async with (
        httpx.AsyncClient(base_url=url, timeout=patience(SECONDS)) as client,
        client.stream("POST", "/graphql", json=body, headers=sent) as answer,
    ):
        assert answer.status_code == 200
        yield _events(answer)


async def _events(answer: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    kind = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield kind, json.loads(data) if data else None


def sequence_of(event: dict[str, Any]) -> int:
    """Where to resume."""
    return int(event["sequence"])


async def speak(app: Starlette, *messages: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """What the application says to a client that sends these messages and hangs up when the caller has heard enough."""
    scope = {"type": "websocket", "scheme": "ws", "headers": [(b"host", b"testserver")], "subprotocols": [PROTOCOL]}
    given = [{"type": "websocket.receive", "text": json.dumps(message)} for message in messages]
    hung_up = {"type": "websocket.disconnect", "code": 1006}
    async with aclosing(_said(app, scope, [{"type": "websocket.connect"}, *given], hung_up)) as said:
        async for message in said:
            yield message


async def read_stream(app: Starlette, body: dict[str, Any], headers: dict[str, str]) -> AsyncGenerator[Any, None]:
    """The payloads that the application sends as server-sent events, until the caller has heard enough."""
    told = {"host": "testserver", "content-type": "application/json", "accept": "text/event-stream", **headers}
    raw = [(name.encode(), value.encode()) for name, value in told.items()]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "headers": raw}
    asked = {"type": "http.request", "body": json.dumps(body).encode()}
    async with aclosing(_said(app, scope, [asked], {"type": "http.disconnect"})) as said:
        async for message in said:
            for line in message.get("body", b"").splitlines():
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))


async def _said(
    app: Starlette, scope: dict[str, Any], given: list[dict[str, Any]], hung_up: dict[str, Any]
) -> AsyncGenerator[dict[str, Any], None]:
    place = {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "path": "/graphql", "query_string": b""}
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    for message in given:
        incoming.put_nowait(message)
    running = asyncio.create_task(app({**scope, **place, "app": app}, incoming.get, sent.put))  # type: ignore[arg-type]
    async with asyncio.timeout(patience(SECONDS)):
        try:
            while True:
                yield await sent.get()
        finally:
            incoming.put_nowait(hung_up)
            await running
