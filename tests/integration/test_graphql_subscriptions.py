"""Subscriptions over real sockets: the protocol, what an account's events are, who may see them, and how they end."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path
from typing import Final

import pytest
from starlette.applications import Starlette

from tests.integration._live import EVENTS, SECONDS, sequence_of, speak, streaming, talking
from tests.integration._server import (
    Client,
    Person,
    Server,
    run_cli,
    serving,
    settle,
    settle_all,
)
from wallet_gql.testing.patience import patience, until

PLACES: Final = 4
"""How many subscriptions a user may have."""

pytestmark = pytest.mark.serving(subscriptions_max=str(PLACES))
UNKNOWN: Final = "acc_" + "0" * 32
PLACE_HOLD: Final = "mutation($input: PlaceHoldInput!) { placeHold(input: $input) { __typename } }"


@pytest.fixture
def someone(server: Server) -> Person:
    """Somebody new with money."""
    return settle_all(server.storage, 10_000)[0]


def pay(server: Server, payer: Person, payee: Person, times: int = 1) -> None:
    """Some payments of 1 cent."""
    with Client(server.url, payer.token) as client:
        for _ in range(times):
            assert client.transfer(**payer.pay(payee.username, 1))["__typename"] == "TransferSuccess"


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
    """With a sequence comes the account as it is, and then exactly what is above it, over both transports."""
    pay(server, people[0], someone, 7)
    async with (
        talking(server.url, someone.token) as talk,
        streaming(server.url, someone.token, someone.account_id, after) as stream,
    ):
        await talk.watch(someone.account_id, after)
        for first in (await talk.event(), (await anext(stream))[1]["data"]["accountEvents"]):
            assert (sequence_of(first), first["entry"]) == (after, None)
            assert first["account"]["posted"]["minorUnits"] == "10007"
        seen = [sequence_of(await talk.event()) for _ in range(8 - after)]
        also = [sequence_of((await anext(stream))[1]["data"]["accountEvents"]) for _ in range(8 - after)]
        assert seen == also == list(range(after + 1, 9))
        pay(server, people[0], someone)
        assert sequence_of(await talk.event()) == 9


async def test_an_event_source_resumes_by_itself(server: Server, someone: Person, people: list[Person]) -> None:
    """`Last-Event-ID` wins over the sequence in the document; nonsense in it does not count."""
    pay(server, people[0], someone, 3)
    for header, after in (("2", 2), ("x", 0), ("-1", 0), ("9" * 30, 0)):
        async with streaming(server.url, someone.token, someone.account_id, 0, **{"Last-Event-ID": header}) as stream:
            seen = [(await anext(stream))[1]["data"]["accountEvents"] for _ in range(2)]
            assert [(sequence_of(event), event["entry"] is None) for event in seen] == [
                (after, True),
                (after + 1, False),
            ]


@pytest.mark.parametrize("after", [-1, 2, 2**62])
async def test_a_sequence_from_elsewhere(server: Server, someone: Person, after: int) -> None:
    """A sequence that the account has not reached is a mistake, not a promise."""
    async with talking(server.url, someone.token) as talk:
        await talk.watch(someone.account_id, after)
        message = await talk.hear()
        assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "BAD_REQUEST")


async def test_changes_without_an_entry(server: Server, tmp_path: Path, someone: Person, people: list[Person]) -> None:
    """A hold and a freeze show within a moment, with an unchanged sequence; the owner of a frozen account sees them."""
    async with talking(server.url, someone.token) as talk:
        await talk.watch(someone.account_id, 1)
        assert (await talk.event())["account"]["held"]["minorUnits"] == "0"
        with Client(server.url, someone.token) as client:
            given = someone.pay(people[1].username, "500")
            assert client.run(PLACE_HOLD, {"input": given})["__typename"].endswith("Success")
        event = await talk.event()
        assert (event["sequence"], event["entry"], event["account"]["held"]["minorUnits"]) == ("1", None, "500")
        assert run_cli(tmp_path, "freeze", someone.account_id, storage=server.storage).returncode == 0
        event = await talk.event()
        assert (event["sequence"], event["account"]["state"]) == ("1", "FROZEN")
        pay(server, people[0], someone)
        event = await talk.event()
        assert (event["entry"]["sequence"], event["account"]["state"]) == ("2", "FROZEN")


async def test_what_changed_without_an_entry_while_nobody_listened(
    server: Server, tmp_path: Path, someone: Person, people: list[Person]
) -> None:
    """Who resumes is told at once of a hold and a freeze of the meantime, over both transports."""
    with Client(server.url, someone.token) as client:
        given = someone.pay(people[1].username, "500")
        assert client.run(PLACE_HOLD, {"input": given})["__typename"].endswith("Success")
    assert run_cli(tmp_path, "freeze", someone.account_id, storage=server.storage).returncode == 0
    async with (
        talking(server.url, someone.token) as talk,
        streaming(server.url, someone.token, someone.account_id, 1) as stream,
    ):
        await talk.watch(someone.account_id, 1)
        for first in (await talk.event(), (await anext(stream))[1]["data"]["accountEvents"]):
            assert (first["sequence"], first["entry"]) == ("1", None)
            assert (first["account"]["held"]["minorUnits"], first["account"]["state"]) == ("500", "FROZEN")


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
        assert time.monotonic() - began < patience(2)
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
        deadline = time.monotonic() + patience(SECONDS)
        while time.monotonic() < deadline:
            await one.watch(someone.account_id, name="again")
            if (await one.hear())["type"] == "next":
                return
        pytest.fail(f"no place came back ({kind})")


# ---------------------------------------------------------------- several processes, and the end


@pytest.mark.trial
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
                return [sequence_of(await talk.event()) for _ in range(21)]

        following = [asyncio.create_task(follow(server)) for server in (one, one, one, one, two, two)]
        for server in (one, two):
            for _ in range(5):  # each with connections of its own, so that all workers have some
                await asyncio.to_thread(pay, server, payer, payee, 2)
        for seen in await asyncio.gather(*following):
            assert seen == list(range(21))


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
            assert time.monotonic() - began < patience(4)


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
                await until(lambda: (len(app.state.live), len(watchers)) == (1, 1), SECONDS, "nothing is watched")
                break
    assert (len(app.state.live), len(watchers)) == (0, 0)
    assert asyncio.all_tasks() == before
