"""Subscriptions over real sockets: the protocol, what an account's events are, who may see them, and how they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.applications import Starlette
from websockets.exceptions import InvalidStatus

from tests.integration._live import EVENTS, SECONDS, sequence_of, speak, streaming, talking
from tests.integration._server import (
    TRANSFER,
    VIEWER,
    Client,
    Person,
    Server,
    counted,
    run_cli,
    serving,
    settle,
    settle_all,
)
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.transports.graphql import sockets
from wallet_gql.transports.http import create_app

PLACES: Final = 4
UNKNOWN: Final = "acc_" + "0" * 32
PLACE_HOLD: Final = "mutation($input: PlaceHoldInput!) { placeHold(input: $input) { __typename } }"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server where a user may have few subscriptions."""
    with serving(tmp_path_factory.mktemp("live"), subscriptions_max=str(PLACES)) as server:
        yield server


@pytest.fixture(scope="module")
def people(server: Server) -> list[Person]:
    """A payer and a payee."""
    return settle_all(server.storage, 100_000, 0)


@pytest.fixture
def someone(server: Server) -> Person:
    """Somebody new with money."""
    return settle_all(server.storage, 10_000)[0]


def pay(server: Server, payer: Person, payee: Person, times: int = 1) -> None:
    """Some payments of 1 cent."""
    with Client(server.url, payer.token) as client:
        for _ in range(times):
            assert client.transfer(**payer.pay(payee.username, 1))["__typename"] == "TransferSuccess"


# ---------------------------------------------------------------- the protocol

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
    """However long an id is, in whatever script, the code is told."""
    async with talking(server.url, someone.token) as talk:
        for _ in range(2):
            await talk.watch(someone.account_id, name="\N{ROCKET}" * 1_000)
        assert (await talk.closed())[0] == 4409


async def test_operations_on_a_socket_are_counted(tmp_path: Path) -> None:
    """A connection is no way around the rate limit of its address."""
    with serving(tmp_path, rate_limits="address=10/minute") as limited:
        async with talking(limited.url) as talk:
            for number in range(12):
                await talk.ask("{ __typename }", name=str(number))
            heard = [await talk.hear() for _ in range(9 * 2 + 3)]
            errors = [message["payload"][0]["extensions"] for message in heard if message["type"] == "error"]
    assert [error["code"] for error in errors] == ["RATE_LIMITED"] * 3
    assert all(error["retryAfterSeconds"] > 0 for error in errors)


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


# ---------------------------------------------------------------- the events


async def test_from_now_on(server: Server, someone: Person, people: list[Person]) -> None:
    """Without a sequence the account comes first, as it is; then each entry."""
    async with talking(server.url, someone.token) as talk:
        await talk.watch(someone.account_id)
        first = await talk.event()
        assert (first["sequence"], first["entry"], first["account"]["posted"]["minorUnits"]) == ("1", None, "10000")
        pay(server, people[0], someone, 3)
        for number in (2, 3, 4):
            event = await talk.event()
            assert (event["sequence"], event["entry"]["sequence"]) == (str(number), str(number))
            assert event["entry"]["amount"]["minorUnits"] == "1"
            assert int(event["account"]["posted"]["minorUnits"]) >= 10_000 + number - 1


@pytest.mark.parametrize("after", [0, 3, 7, 8])
async def test_resume(server: Server, someone: Person, people: list[Person], after: int) -> None:
    """With a sequence exactly what is above it comes, over both transports."""
    pay(server, people[0], someone, 7)
    async with (
        talking(server.url, someone.token) as talk,
        streaming(server.url, someone.token, someone.account_id, after) as stream,
    ):
        await talk.watch(someone.account_id, after)
        seen = [sequence_of(await talk.event()) for _ in range(8 - after)]
        also = [sequence_of((await anext(stream))[1]["data"]["accountEvents"]) for _ in range(8 - after)]
        assert seen == also == list(range(after + 1, 9))
        pay(server, people[0], someone)
        assert sequence_of(await talk.event()) == 9


async def test_an_event_source_resumes_by_itself(server: Server, someone: Person, people: list[Person]) -> None:
    """`Last-Event-ID` wins over the sequence in the document; nonsense in it does not count."""
    pay(server, people[0], someone, 3)
    for header, first in (("2", 3), ("x", 1), ("-1", 1), ("9" * 30, 1)):
        async with streaming(server.url, someone.token, someone.account_id, 0, **{"Last-Event-ID": header}) as stream:
            assert sequence_of((await anext(stream))[1]["data"]["accountEvents"]) == first


@pytest.mark.parametrize("after", [-1, 2, 2**62])
async def test_a_sequence_from_elsewhere(server: Server, someone: Person, after: int) -> None:
    """A sequence that the account has not reached is a mistake, not a promise."""
    async with talking(server.url, someone.token) as talk:
        await talk.watch(someone.account_id, after)
        message = await talk.hear()
        assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "BAD_REQUEST")


async def test_changes_without_an_entry(server: Server, tmp_path: Path, someone: Person, people: list[Person]) -> None:
    """A hold and a freeze are told within a moment, with the sequence as it was; the owner of a frozen account sees."""
    async with talking(server.url, someone.token) as talk:
        await talk.watch(someone.account_id, 1)
        with Client(server.url, someone.token) as client:
            given = someone.pay(people[1].username, "500")
            assert client.run(PLACE_HOLD, {"input": given})["__typename"].endswith("Success")
        event = await talk.event()
        assert (event["sequence"], event["entry"], event["account"]["held"]["minorUnits"]) == ("1", None, "500")
        assert run_cli(tmp_path, "freeze", someone.account_id, storage=server.storage).returncode == 0
        event = await talk.event()
        assert (event["sequence"], event["account"]["status"]) == ("1", "FROZEN")
        pay(server, people[0], someone)
        event = await talk.event()
        assert (event["entry"]["sequence"], event["account"]["status"]) == ("2", "FROZEN")


# ---------------------------------------------------------------- who may see them


async def test_accounts_of_others_are_like_none(server: Server, someone: Person, people: list[Person]) -> None:
    """Another's account, an unknown one and nonsense are refused in the same words."""
    told = set()
    async with talking(server.url, someone.token) as talk:
        for account_id in (people[0].account_id, UNKNOWN, someone.id, "", "x"):
            await talk.watch(account_id, 0)
            message = await talk.hear()
            assert message["type"] == "error"
            (error,) = message["payload"]
            assert error["extensions"]["code"] == "ACCOUNT_NOT_FOUND"
            told.add(error["message"].replace(account_id or "\0", "ID").replace("account ;", "account ID;"))
    assert len(told) == 1


async def test_nobody_sees_nothing(server: Server, someone: Person) -> None:
    """Without a session there is an error, and the connection stays for queries that need none."""
    async with talking(server.url) as talk:
        await talk.watch(someone.account_id)
        message = await talk.hear()
        assert message["payload"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        await talk.ask("{ currencies { code } }")
        assert (await talk.hear())["type"] == "next"


async def test_a_revoked_session_sees_nothing_more(server: Server, someone: Person, people: list[Person]) -> None:
    """Within two seconds of its end a WebSocket is closed with 4403 and a stream ends; no payment after it is told."""
    async with (
        talking(server.url, someone.token) as talk,
        streaming(server.url, someone.token, someone.account_id) as stream,
    ):
        await talk.watch(someone.account_id)
        await talk.event()
        await anext(stream)
        with Client(server.url, someone.token) as client:
            assert client.run("mutation { logOut { __typename } }")
        pay(server, people[0], someone)
        began = time.monotonic()
        assert (await talk.closed())[0] == 4403
        (kind, last), end = [item async for item in stream]
        assert time.monotonic() - began < 2
        assert (kind, end) == ("next", ("complete", None))
        assert "data" not in last
        assert last["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_an_idle_subscriber_is_found_out_too(server: Server, someone: Person) -> None:
    """Also where nothing happens on the account a revoked session is closed."""
    async with talking(server.url, someone.token) as talk:
        await talk.watch(someone.account_id, 1)
        await asyncio.sleep(0.3)
        with Client(server.url, someone.token) as client:
            client.run("mutation { logOut { __typename } }")
        assert (await talk.closed())[0] == 4403


async def test_places_are_limited_and_come_back(server: Server, someone: Person) -> None:
    """A user has so many subscriptions in a process, over all connections and transports; one that ends frees one."""
    async with talking(server.url, someone.token) as one, talking(server.url, someone.token) as two:
        for number in range(PLACES):
            talk = one if number % 2 else two
            await talk.watch(someone.account_id, name=str(number))
            await talk.event()
        await one.watch(someone.account_id, name="more")
        refused = await one.hear()
        assert refused["payload"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"
        async with streaming(server.url, someone.token, someone.account_id) as stream:
            kind, body = await anext(stream)
            assert body["errors"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"
        two.kill()
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            await one.watch(someone.account_id, name="again")
            if (await one.hear())["type"] == "next":
                return
        pytest.fail(f"no place came back ({kind})")


# ---------------------------------------------------------------- several processes, and the end


async def test_several_processes(tmp_path: Path) -> None:
    """Subscribers of two servers, one of them with two workers, see what any of them commits."""
    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    payer, payee = await asyncio.to_thread(settle_all, storage, 10_000, 0)
    with (
        serving(tmp_path, "--workers", "2", storage=storage) as one,
        serving(tmp_path, storage=storage) as two,
    ):

        async def follow(server: Server) -> list[int]:
            async with talking(server.url, payee.token) as talk:
                await talk.watch(payee.account_id, 0)
                return [sequence_of(await talk.event()) for _ in range(20)]

        following = [asyncio.create_task(follow(server)) for server in (one, one, one, one, two, two)]
        for server in (one, two):
            for _ in range(5):  # each with connections of its own, so that all workers have some
                await asyncio.to_thread(pay, server, payer, payee, 2)
        for seen in await asyncio.gather(*following):
            assert seen == list(range(1, 21))


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_stopping(tmp_path: Path, workers: str) -> None:
    """A server that stops closes WebSockets with 1001 or 1012 and cuts streams without `complete`, at once."""
    storage = f"sqlite:///{tmp_path / 'wallet.db'}"
    (person,) = await asyncio.to_thread(settle_all, storage, 1_000)
    with serving(tmp_path, "--workers", workers, storage=storage) as server:
        async with (
            talking(server.url, person.token) as talk,
            talking(server.url, person.token) as idle,
            streaming(server.url, person.token, person.account_id) as stream,
        ):
            await talk.watch(person.account_id)
            await talk.event()
            await anext(stream)
            began = time.monotonic()
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            assert (await talk.closed())[0] in (1001, 1012)
            assert (await idle.closed())[0] in (1001, 1012)
            assert [item async for item in stream] == []
            assert await stopping == 0
            assert time.monotonic() - began < 4


@pytest.fixture
async def app() -> AsyncGenerator[Starlette, None]:
    """The application over a memory store, in this process."""
    async with open_wallet(load_settings(storage="memory://"), sweeps=False) as wallet:
        app = create_app(wallet)
        async with app.router.lifespan_context(app):
            yield app


async def test_4408(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not introduce himself in time is closed, also one who pings all the while."""
    monkeypatch.setattr(sockets, "INIT_SECONDS", 0.05)
    for messages in ([], [{"type": "ping"}] * 3):
        async with aclosing(speak(app, *messages)) as said:
            async for message in said:
                if message["type"] == "websocket.close":
                    assert message["code"] == 4408
                    break


async def test_nothing_is_left_behind(app: Starlette) -> None:
    """After a client has gone its place is free, its watcher closed and its tasks have ended."""
    person = await settle(app.state.wallet, 100)
    before = asyncio.all_tasks()
    init = {"type": "connection_init", "payload": {"authorization": f"Bearer {person.token}"}}
    watch = {"type": "subscribe", "id": "1", "payload": {"query": EVENTS, "variables": {"id": person.account_id}}}
    watchers = app.state.wallet.store._watchers
    async with aclosing(speak(app, init, watch)) as said:
        async for message in said:
            if '"next"' in message.get("text", ""):
                await asyncio.sleep(0.05)
                assert (len(app.state.live), len(watchers)) == (1, 1)
                break
    assert (len(app.state.live), len(watchers)) == (0, 0)
    assert asyncio.all_tasks() == before
