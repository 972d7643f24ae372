"""The protocol `graphql-transport-ws`: every close code, what is refused and how, and where the session comes from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.applications import Starlette
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration._live import sequence_of, speak, talking
from tests.integration._server import TRANSFER, VIEWER, Person, Server, counted, serving, settle
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience
from wallet_gql.transports.graphql import live, sockets
from wallet_gql.transports.http.rate_limits import Limits


@pytest.fixture(scope="module")
def someone(people: list[Person]) -> Person:
    """Somebody with money."""
    return people[0]


BROKEN: Final[dict[str, str | bytes]] = {
    "binary": b"{}",
    "no json": "{",
    "a list": "[]",
    "a number": "7",
    "no type": '{"id": "1"}',
    "a type that is no text": '{"type": 7}',
    "an unknown type": '{"type": "start"}',
    "no id": '{"type": "subscribe", "payload": {"query": "{ __typename }"}}',
    "an empty id": '{"type": "subscribe", "id": "", "payload": {"query": "{ __typename }"}}',
    "an id that is no text": '{"type": "subscribe", "id": 1, "payload": {"query": "{ __typename }"}}',
    "no payload": '{"type": "subscribe", "id": "1"}',
    "a payload that is no object": '{"type": "subscribe", "id": "1", "payload": []}',
}


@pytest.mark.parametrize("name", BROKEN)
async def test_4400(server: Server, name: str) -> None:
    """What is no message of the protocol closes the connection."""
    async with talking(server.url) as talk:
        await talk.socket.send(BROKEN[name])
        assert (await talk.closed())[0] == 4400


async def test_4400_at_the_beginning(server: Server) -> None:
    """The payload of connection_init is an object."""
    async with talking(server.url, begin=False) as talk:
        await talk.say("connection_init", payload=[])
        assert (await talk.closed())[0] == 4400


async def test_4401(server: Server) -> None:
    """No operation before connection_ack."""
    async with talking(server.url, begin=False) as talk:
        await talk.ask("{ __typename }")
        assert await talk.closed() == (4401, "Unauthorized")


@pytest.mark.parametrize("authorization", ["Bearer nonsense", "Bearer ", "Basic YTpi", 7, "Bearer wlt_" + "0" * 46])
async def test_4403(server: Server, authorization: object) -> None:
    """A token that is no session's closes the connection."""
    async with talking(server.url, begin=False) as talk:
        await talk.say("connection_init", payload={"authorization": authorization})
        assert (await talk.closed())[0] == 4403


@pytest.mark.parametrize("offered", [None, ["graphql-ws"], ["soap"]])
async def test_4406(server: Server, offered: list[str] | None) -> None:
    """Another subprotocol than ours, or none."""
    async with talking(server.url, begin=False, subprotocols=offered) as talk:
        assert (await talk.closed())[0] == 4406


async def test_4409_and_ids(server: Server, someone: Person) -> None:
    """An id that is in use closes the connection; once completed, by either side, it is free."""
    async with talking(server.url, someone.token) as talk:
        await talk.watch(someone.account_id)
        assert sequence_of(await talk.event()) == 1
        await talk.say("complete", id="1")
        for _ in range(2):
            await talk.ask("{ __typename }")
            assert [(await talk.hear())["type"] for _ in range(2)] == ["next", "complete"]
        await talk.watch(someone.account_id)
        await talk.event()
        await talk.watch(someone.account_id)
        assert (await talk.closed())[0] == 4409


async def test_a_reason_fits_its_frame(server: Server, someone: Person) -> None:
    """The close code is sent for an id of any length and any script."""
    async with talking(server.url, someone.token) as talk:
        for _ in range(2):
            await talk.watch(someone.account_id, name="\N{ROCKET}" * 255)
        assert (await talk.closed())[0] == 4409


async def test_operations_on_a_socket_are_counted(tmp_path: Path) -> None:
    """A connection is no way around the rate limit of its address."""
    with serving(tmp_path, rate_limits="address=10/hour") as limited:
        async with talking(limited.url) as talk:
            for number in range(12):
                await talk.ask("{ __typename }", name=str(number))
            heard = [await talk.hear() for _ in range(9 * 2 + 3)]
            errors = [message["payload"][0]["extensions"] for message in heard if message["type"] == "error"]
    assert [error["code"] for error in errors] == ["RATE_LIMITED"] * 3
    assert all(error["retryAfterSeconds"] > 0 for error in errors)


async def test_refused_operations_are_counted(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a connection is refused at once counts like what it is not."""
    monkeypatch.setattr(sockets, "OPERATIONS_MAX", 0)
    app.state.limits = Limits(load_settings(rate_limits="address=4/hour"))
    said: list[str] = []
    asking = [{"type": "subscribe", "id": str(n), "payload": {"query": "{ __typename }"}} for n in range(5)]
    async with aclosing(speak(app, {"type": "connection_init"}, *asking)) as messages:
        async for message in messages:
            text = json.loads(message.get("text", "{}"))
            if text.get("type") == "error":
                said.append(text["payload"][0]["extensions"]["code"])
                if len(said) == len(asking):
                    break
    assert said == ["LIMIT_EXCEEDED"] * 3 + ["RATE_LIMITED"] * 2  # the handshake was a request, too


async def test_an_idle_connection_of_nobody_is_closed(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings keep no connection open that has no session; one with a session stays, and so does one that asks."""
    monkeypatch.setattr(sockets, "ANONYMOUS_SECONDS", 0.2)
    person = await settle(app.state.wallet)
    init: dict[str, Any] = {"type": "connection_init"}

    async def closing(first: dict[str, Any], seconds: float) -> int | None:
        async with asyncio.timeout(patience(seconds)), aclosing(speak(app, first, {"type": "ping"})) as said:
            async for message in said:
                if message["type"] == "websocket.close":
                    return int(message["code"])
        return None

    assert await closing(init, 10) == 4408
    with pytest.raises(TimeoutError):
        await closing({**init, "payload": {"authorization": f"Bearer {person.token}"}}, 1)


async def test_a_network_has_so_many_connections(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused before it is accepted; a place comes back when a connection ends."""
    monkeypatch.setattr(live, "SOCKETS_MAX", 2)

    async def first(said: AsyncGenerator[dict[str, Any], None]) -> str:
        return str((await anext(said))["type"])

    for _ in range(2):
        async with aclosing(speak(app)) as one, aclosing(speak(app)) as two:
            assert [await first(one), await first(two)] == ["websocket.accept"] * 2
            async with aclosing(speak(app)) as three:
                assert await first(three) == "websocket.close"


async def test_4429(server: Server) -> None:
    """One connection_init."""
    async with talking(server.url) as talk:
        await talk.say("connection_init")
        assert (await talk.closed())[0] == 4429


async def test_ping(server: Server) -> None:
    """A ping is answered at any time, with its payload; a pong is not."""
    async with talking(server.url, begin=False) as talk:
        await talk.say("ping")
        assert await talk.hear() == {"type": "pong"}
        await talk.begin()
        await talk.say("pong")
        await talk.say("ping", payload={"at": 1})
        assert await talk.hear() == {"type": "pong", "payload": {"at": 1}}
        await talk.say("complete", id="never begun")
        await talk.say("ping")
        assert await talk.hear() == {"type": "pong"}


@pytest.mark.parametrize("depth", [250, 254, 1_000])
async def test_a_deep_ping(server: Server, depth: int) -> None:
    """It is answered, or it is the client's fault; never an error of the server."""
    async with talking(server.url, begin=False) as talk:
        await talk.socket.send('{"type": "ping", "payload": ' + "[" * depth + "]" * depth + "}")
        try:
            assert (await talk.hear())["type"] == "pong"
        except ConnectionClosed:
            assert talk.socket.close_code == 4400
    assert "unexpected failure" not in server.log_file.read_text()


async def test_nothing_is_compressed(server: Server) -> None:
    """The client offers it: but a few bytes could become much work, and lengths would tell of secrets."""
    async with talking(server.url, begin=False) as talk:
        assert talk.socket.request is not None
        assert "permessage-deflate" in talk.socket.request.headers["Sec-WebSocket-Extensions"]
        assert talk.socket.response is not None
        assert "Sec-WebSocket-Extensions" not in talk.socket.response.headers


async def test_1009(server: Server) -> None:
    """A message beyond 256 KiB closes the connection, and is not in the log."""
    async with talking(server.url) as talk:
        await talk.ask("{ __typename } #" + "zyx" * 100_000)
        assert (await talk.closed())[0] == 1009
    assert "zyxzyx" not in server.log


async def test_the_session_comes_in_three_ways(server: Server, someone: Person) -> None:
    """By cookie, by header, by the payload of connection_init, which wins."""
    ways: list[tuple[str | None, dict[str, str]]] = [
        (None, {"Cookie": f"__Host-wallet={someone.token}", "Origin": server.url}),
        (None, {"Authorization": f"Bearer {someone.token}"}),
        (someone.token, {}),
        (someone.token, {"Cookie": "__Host-wallet=old", "Origin": server.url}),
    ]
    for token, headers in ways:
        async with talking(server.url, token, additional_headers=headers) as talk:
            await talk.ask(VIEWER)
            assert (await talk.hear())["payload"]["data"]["viewer"]["username"] == someone.username


async def test_other_sites_cannot_connect(server: Server, someone: Person) -> None:
    """A page of another site is refused before there is a connection; one of our own is not."""
    cookie = {"Cookie": f"__Host-wallet={someone.token}"}
    for origin in ("https://evil.example", "null"):
        with pytest.raises(InvalidStatus) as refused:
            async with talking(server.url, additional_headers=cookie, origin=origin):
                pass
        assert refused.value.response.status_code == 403
    async with talking(server.url, additional_headers=cookie, origin=server.url) as talk:
        await talk.ask("{ __typename }")
        assert (await talk.hear())["type"] == "next"


REFUSED: Final[dict[str, tuple[str | None, dict[str, Any]]]] = {
    "a syntax error": ("{ viewer {", {}),
    "an unknown field": ("{ nothing }", {}),
    "two operations": ("query A { __typename } query B { __typename }", {}),
    "an unknown operation": ("query A { __typename }", {"operationName": "B"}),
    "no document": ("", {}),
    "variables that are no object": ("{ __typename }", {"variables": []}),
    "a document that is not known": (None, {"documentId": "sha256:" + "0" * 64}),
    "a variable of the wrong type": ("query($id: ID!) { account(id: $id) { id } }", {"variables": {"id": {}}}),
    "too deep": ("{ viewer " * 13 + "{ id }" + "}" * 13, {}),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(server: Server, name: str) -> None:
    """What is not executed gets an error message with coded errors, and the connection goes on."""
    query, more = REFUSED[name]
    async with talking(server.url) as talk:
        await talk.say("subscribe", id="1", payload={**({} if query is None else {"query": query}), **more})
        message = await talk.hear()
        assert (message["type"], message["id"]) == ("error", "1")
        for error in message["payload"]:
            assert set(error["extensions"]) == {"code", "requestId", "retryable"}
            assert error["extensions"]["code"] != "INTERNAL"
        await talk.ask("{ __typename }")
        assert [(await talk.hear())["type"] for _ in range(2)] == ["next", "complete"]


async def test_mutations_go_by_http(server: Server, people: list[Person]) -> None:
    """A payment over a WebSocket is refused and moves nothing, alone or among several operations."""
    before = counted(server.path, "transfers", "receipts")
    payment = {"input": people[0].pay(people[1].username, 1)}
    told = ""
    several = f"query A {{ __typename }} {TRANSFER.replace('mutation', 'mutation B')}"
    async with talking(server.url, people[0].token) as talk:
        for query, name in ((TRANSFER, None), (several, None), (several, "B")):
            await talk.ask(query, payment, operationName=name)
            message = await talk.hear()
            assert message["type"] == "error"
            assert message["payload"][0]["extensions"]["code"] == "BAD_REQUEST"
            told = message["payload"][0]["message"]
    assert "by HTTP POST" in told
    assert counted(server.path, "transfers", "receipts") == before


async def test_a_crowd_of_operations(server: Server, someone: Person) -> None:
    """One connection runs so many operations at a time, and no more."""
    async with talking(server.url, someone.token) as talk:
        for number in range(sockets.OPERATIONS_MAX + 5):
            await talk.ask("{ viewer { id } }", name=str(number))
        ended: dict[str, dict[str, Any]] = {}
        while len(ended) < sockets.OPERATIONS_MAX + 5:
            message = await talk.hear()
            if message["type"] != "next":
                assert message["id"] not in ended
                ended[message["id"]] = message
        errors = [message for message in ended.values() if message["type"] == "error"]
        assert len(errors) <= 5
        assert all(error["payload"][0]["extensions"]["code"] == "LIMIT_EXCEEDED" for error in errors)


async def test_4408(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not introduce himself in time is closed, also one who pings all the while."""
    monkeypatch.setattr(sockets, "INIT_SECONDS", 0.05)
    for messages in ([], [{"type": "ping"}] * 3):
        async with aclosing(speak(app, *messages)) as said:
            async for message in said:
                if message["type"] == "websocket.close":
                    assert message["code"] == 4408
                    break
