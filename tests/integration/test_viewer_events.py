"""`viewerEvents`: after the first event of any subscription a client has what the server has, and stays right."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import Response

from tests.integration._evidence import write_evidence
from tests.integration._graphql import wallet_in
from tests.integration._live import read_stream, speak, talking
from tests.integration._server import Client, Person, Server, new_key, settle, settle_all
from wallet_gql.domain.errors import Rejected
from wallet_gql.domain.ids import OPERATOR, AccountId, HoldId, UserId, make_top_up_id, slot_of
from wallet_gql.domain.model import AccountStatus, HoldState
from wallet_gql.domain.topups import TopUp, TopUpState
from wallet_gql.records import change
from wallet_gql.runtime import Wallet
from wallet_gql.testing.patience import patience
from wallet_gql.transports.graphql.context import Context
from wallet_gql.transports.graphql.live import Live
from wallet_gql.transports.graphql.rounds import Rounds
from wallet_gql.transports.graphql.schema import schema
from wallet_gql.transports.http.auth import Caller
from wallet_gql.transports.server.app import create_app
from wallet_gql.verbs import whole
from wallet_gql.verbs.hold_lists import holds_of
from wallet_gql.verbs.ledger import To

EVENTS: Final = """subscription($after: String) { viewerEvents(after: $after) { cursor snapshot
  accounts { id state posted { minorUnits } held { minorUnits } sequence }
  entries { sequence transfer { account { id } } balanceAfter { minorUnits } }
  holds { id state direction } topUps { id state } withdrawals { id } } }"""
OPEN_ACCOUNT: Final = """mutation($input: OpenAccountInput!) { openAccount(input: $input) { __typename } }"""
STEPS: Final = 8


@dataclass
class Screen:
    """What a client keeps of the events it gets."""

    accounts: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    open_holds: dict[str, str] = field(default_factory=dict)
    top_ups: dict[str, str] = field(default_factory=dict)
    entries: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    cursor: str | None = None

    def take(self, event: dict[str, Any]) -> None:
        """One event, as the docs say to take it."""
        if event["snapshot"]:
            self.open_holds.clear()
        for one in event["accounts"]:
            self.accounts[one["id"]] = one["state"], one["posted"]["minorUnits"], one["held"]["minorUnits"]
        for one in event["holds"]:
            self.open_holds.pop(one["id"], None)
            if one["state"] == "OPEN":
                self.open_holds[one["id"]] = one["direction"]
        self.top_ups |= {one["id"]: one["state"] for one in event["topUps"]}
        for one in event["entries"]:
            self.entries[one["transfer"]["account"]["id"]].append(int(one["sequence"]))
        self.cursor = event["cursor"]


@dataclass
class Street:
    """Two people who deal with each other, and the one whose screen is looked at."""

    wallet: Wallet
    viewer: Person
    other: Person
    live: Live
    clock: list[datetime]
    app: Starlette
    top_up: TopUp | None = None
    done: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def events(self, screen: Screen) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """A subscription that goes on where the screen is."""
        context = Context(self.wallet, Caller(self.wallet.identity, self.viewer.token), Response(), live=self.live)
        async with aclosing(await schema.stream(EVENTS, {"after": screen.cursor}, context)) as results:
            yield self._taken(results, screen)

    @asynccontextmanager
    async def events_over(self, transport: str, screen: Screen) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The same over a transport: `ws` or `sse`."""
        asked = {"query": EVENTS, "variables": {"after": screen.cursor}}
        authorization = f"Bearer {self.viewer.token}"
        if transport == "ws":
            init = {"type": "connection_init", "payload": {"authorization": authorization}}
            source = self._payloads(speak(self.app, init, {"type": "subscribe", "id": "1", "payload": asked}))
        else:
            source = read_stream(self.app, asked, {"authorization": authorization})
        self.done[transport] += 1
        async with aclosing(source) as payloads:
            yield self._shown(payloads, screen)

    async def _payloads(self, said: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[Any, None]:
        async with aclosing(said) as messages:
            async for message in messages:
                told = json.loads(message.get("text", "{}"))
                if told.get("type") == "next":
                    yield told["payload"]

    async def _shown(self, payloads: AsyncIterator[Any], screen: Screen) -> AsyncIterator[dict[str, Any]]:
        async for payload in payloads:
            assert "errors" not in payload, payload
            screen.take(payload["data"]["viewerEvents"])
            yield payload["data"]["viewerEvents"]

    async def _taken(self, results: Any, screen: Screen) -> AsyncIterator[dict[str, Any]]:
        async for result in results:
            assert result.errors is None, result.errors
            screen.take(result.data["viewerEvents"])
            yield result.data["viewerEvents"]

    async def truth(self) -> Screen:
        """What the server has."""
        ledger, owner = self.wallet.ledger, UserId(self.viewer.id)
        found = Screen()
        for one in await ledger.accounts(owner):
            found.accounts[one.id] = one.status.name, str(one.posted_minor), str(one.held_minor)
        listed = await holds_of(ledger.store, owner, 100, ledger.clock(), states=(HoldState.OPEN,))
        found.open_holds = {hold.id: "IN" if hold.closer == owner else "OUT" for hold in listed.holds}
        found.top_ups = {} if self.top_up is None else {self.top_up.id: self.top_up.state.name}
        return found

    async def step(self, dice: random.Random) -> None:
        """Something happens to the viewer; it may be refused."""
        payer, payee = dice.sample([self.viewer, self.other], 2)
        wanted = dice.choice([self._pay, self._hold, self._close, self._freeze, self._expire, self._top])
        try:
            await wanted(dice, payer, payee)
            self.done[wanted.__name__] += 1
        except Rejected:
            self.done["refused"] += 1

    async def _pay(self, dice: random.Random, payer: Person, payee: Person) -> None:
        amount: dict[str, Any] = {"amount_minor": dice.randint(1, 50), "currency": "EUR"}
        source, to = AccountId(payer.account_id), To(username=payee.username)
        await self.wallet.ledger.transfer(UserId(payer.id), new_key(), source=source, to=to, **amount)

    async def _hold(self, dice: random.Random, payer: Person, payee: Person) -> None:
        amount: dict[str, Any] = {"amount_minor": dice.randint(1, 50), "currency": "EUR"}
        amount["expires_in_seconds"] = dice.randint(1, 90)
        source, to = AccountId(payer.account_id), To(username=payee.username)
        await self.wallet.ledger.place_hold(UserId(payer.id), new_key(), source=source, to=to, **amount)

    async def _close(self, dice: random.Random, _payer: Person, payee: Person) -> None:
        ledger = self.wallet.ledger
        listed = await holds_of(ledger.store, UserId(payee.id), 100, ledger.clock(), states=(HoldState.OPEN,))
        for hold in listed.holds[:1]:
            if dice.random() < 0.5:
                await ledger.capture_hold(hold.closer, new_key(), hold.id)
            else:
                await ledger.void_hold(hold.closer, new_key(), hold.id)

    async def _freeze(self, dice: random.Random, payer: Person, _payee: Person) -> None:
        status = dice.choice([AccountStatus.FROZEN, AccountStatus.OPEN, AccountStatus.OPEN])
        await self.wallet.ledger.set_account_status(OPERATOR, AccountId(payer.account_id), status)

    async def _expire(self, dice: random.Random, _payer: Person, _payee: Person) -> None:
        self.clock[0] += timedelta(seconds=dice.randint(1, 60))
        if dice.random() < 0.5:
            await self.wallet.ledger.expire_due_holds()

    async def _top(self, dice: random.Random, _payer: Person, _payee: Person) -> None:
        account_id, at = AccountId(self.viewer.account_id), self.clock[0]
        before = self.top_up
        top_up_id = before.id if before else make_top_up_id(slot_of(account_id), int(at.timestamp() * 1000), 1)
        state, version = dice.choice(list(TopUpState)), before.version + 1 if before else 1
        made = TopUp(top_up_id, UserId(self.viewer.id), account_id, 100, "EUR", at, state, version=version)
        await change(self.wallet.store, made.key, lambda _: made.to_record())
        self.top_up = made


@asynccontextmanager
async def street_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Street]:
    """A wallet whose clock stands still, and rounds that come at once."""
    clock = [datetime.now(UTC)]
    async with wallet_in(folder, rate_limits="off") as wallet:
        viewer, other = await settle(wallet, 1_000), await settle(wallet, 1_000)
        monkeypatch.setattr(wallet.ledger, "clock", lambda: clock[0])
        app = create_app(wallet)
        async with app.router.lifespan_context(app):
            live: Live = app.state.live
            live.rounds = Rounds(0.001)
            yield Street(wallet, viewer, other, live, clock, app)


async def check_schedule(street: Street, screen: Screen, dice: random.Random) -> None:
    """Some steps, with connections of either transport that break between them, and sometimes none for a while."""
    for _ in range(STEPS):
        if dice.random() < 0.5:
            await street.step(dice)
        async with street.events_over(dice.choice(("ws", "sse")), screen) as events:
            first = await anext(events)
            assert first["snapshot"]
            same_state(screen, await street.truth())
            for _ in range(dice.randint(0, 2)):
                await street.step(dice)
                truth = await street.truth()
                async with asyncio.timeout(patience(20)):
                    while state_of(screen) != state_of(truth):
                        assert not (await anext(events))["snapshot"]
    for one in await street.wallet.ledger.accounts(UserId(street.viewer.id)):
        seen = screen.entries[one.id]
        assert seen == list(range(one.sequence - len(seen) + 1, one.sequence + 1)), "a gap or a double"


def state_of(screen: Screen) -> tuple[Any, ...]:
    """All but the entries."""
    return screen.accounts, screen.open_holds, screen.top_ups


def same_state(screen: Screen, truth: Screen) -> None:
    """The client has what the server has."""
    assert state_of(screen) == state_of(truth)


async def run_schedules(street: Street, seeds: range) -> None:
    """Schedules one after the other on one wallet, each with a screen of its own."""
    for seed in seeds:
        await check_schedule(street, Screen(), random.Random(seed))


@pytest.mark.trial
async def test_random_schedules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Payments, holds, expiries, freezes and lost connections: no gap, no double, and right after the first event."""
    async with street_in(tmp_path, monkeypatch) as street:
        await run_schedules(street, range(25))


@pytest.mark.soak
async def test_more_random_schedules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, five hundred times: on twenty wallets, five at a time, for a wallet gets slower with its holds."""
    done: Counter[str] = Counter()
    for first in range(100, 600, 125):
        parts = [range(seed, seed + 25) for seed in range(first, first + 125, 25)]
        async with AsyncExitStack() as stack:
            streets = []
            for part in parts:
                folder = tmp_path / str(part.start)
                folder.mkdir()
                streets.append(await stack.enter_async_context(street_in(folder, monkeypatch)))
            await asyncio.gather(*map(run_schedules, streets, parts))
        done += sum((street.done for street in streets), Counter[str]())
    steps = ", ".join(f"{name.strip('_')} {count}" for name, count in sorted(done.items()))
    text = f"""500 random schedules. In each a client watches `viewerEvents` and loses its connection again and again,
over WebSockets and server-sent events, while payments, holds, captures and voids, expiries, freezes and top-ups happen.
After the first event of every connection the client had what the server has; of no account an entry was missing or came
twice.

How often what was done (`ws` and `sse`: connections): {steps}."""
    command = "make soak ARGS='-k more_random_schedules'"
    write_evidence("viewer-events", "A client's state, 500 schedules", command, text)


async def test_entries_of_before_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was away for 250 entries gets all of them, in order, in events of a hundred."""
    async with street_in(tmp_path, monkeypatch) as street:
        screen = Screen()
        async with street.events(screen) as events:
            await anext(events)
        for _ in range(250):
            await street._pay(random.Random(1), street.viewer, street.other)
            await street._pay(random.Random(1), street.other, street.viewer)
        async with street.events(screen) as events:
            sizes = [len((await anext(events))["entries"]) for _ in range(5)]
        assert sizes == [100] * 5
        assert screen.entries[street.viewer.account_id] == list(range(2, 502))


async def test_who_is_logged_out_gets_no_more_entries_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even those that were there when the session ended."""
    async with street_in(tmp_path, monkeypatch) as street:
        screen = Screen()
        async with street.events(screen) as events:
            await anext(events)
        for _ in range(101):
            await street._pay(random.Random(1), street.viewer, street.other)
        context = Context(street.wallet, Caller(street.wallet.identity, street.viewer.token), Response())
        async with aclosing(await schema.stream(EVENTS, {"after": screen.cursor}, context)) as results:
            assert (await anext(results)).errors is None
            await street.wallet.identity.log_out_everywhere(UserId(street.viewer.id))
            result = await anext(results)
        assert [(error.extensions or {})["code"] for error in result.errors or ()] == ["UNAUTHENTICATED"]


async def test_an_open_hold_is_watched_however_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold that was open is told to have closed, also when it is not among the newest any more."""
    async with street_in(tmp_path, monkeypatch) as street:
        for _ in range(3):
            await street._hold(random.Random(1), street.other, street.viewer)
        screen = Screen()
        async with street.events(screen) as events:
            await anext(events)
            assert len(screen.open_holds) == 3
            monkeypatch.setattr(whole, "PAGE_MAX", 1)
            oldest = min(screen.open_holds)
            await street.wallet.ledger.void_hold(street.viewer.id, new_key(), HoldId(oldest))
            async with asyncio.timeout(patience(20)):
                while oldest in screen.open_holds:
                    await anext(events)


async def test_cursors_of_others_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is no cursor, and a cursor of what has not happened, are the client's mistakes."""
    async with street_in(tmp_path, monkeypatch) as street:
        far = Screen()
        async with street.events(far) as events:
            await anext(events)
        for cursor in ("", "nothing", "MTox", (far.cursor or "")[:-2]):
            context = Context(street.wallet, Caller(street.wallet.identity, street.viewer.token), Response())
            async with aclosing(await schema.stream(EVENTS, {"after": cursor}, context)) as results:
                result = await anext(results)
            assert [(error.extensions or {})["code"] for error in result.errors or ()] == ["BAD_REQUEST"], cursor


# Over the wire


@pytest.fixture
def someone(server: Server) -> Person:
    """Somebody with money."""
    return settle_all(server.storage, 1_000)[0]


async def test_over_websockets(server: Server, someone: Person) -> None:
    """One socket tells of a new account, too, and a later one goes on where it was."""
    async with talking(server.url, someone.token) as talk:
        await talk.ask(EVENTS, {"after": None})
        first = (await talk.hear())["payload"]["data"]["viewerEvents"]
        assert [one["id"] for one in first["accounts"]] == [someone.account_id]
        with Client(server.url, someone.token) as client:
            client.run(OPEN_ACCOUNT, {"input": {"currency": "JPY"}})
        event = (await talk.hear())["payload"]["data"]["viewerEvents"]
        assert (len(event["accounts"]), event["snapshot"], event["entries"]) == (1, False, [])
    async with talking(server.url, someone.token) as talk:
        await talk.ask(EVENTS, {"after": event["cursor"]})
        again = (await talk.hear())["payload"]["data"]["viewerEvents"]
        assert (len(again["accounts"]), again["snapshot"], again["entries"]) == (2, True, [])


async def test_over_server_sent_events(server: Server, someone: Person, people: list[Person]) -> None:
    """The id of an event resumes the stream, as a browser's `EventSource` sends it."""
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {someone.token}"}
    event_id = ""
    for turn in range(3):
        lines = await _first_event(server, {**headers, **({"Last-Event-ID": event_id} if event_id else {})})
        event = json.loads(lines["data"])["data"]["viewerEvents"]
        assert event["cursor"] == lines["id"]
        assert len(event["entries"]) == (1 if turn else 0)
        event_id = lines["id"]
        with Client(server.url, people[0].token) as client:
            assert client.transfer(**people[0].pay(someone.username, 1))["__typename"] == "TransferSuccess"


async def _first_event(server: Server, headers: dict[str, str]) -> dict[str, str]:
    """The fields of the first event of a stream."""
    found: dict[str, str] = {}
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=patience(15)) as client,
        client.stream("POST", "/graphql", json={"query": EVENTS}, headers=headers) as answer,
    ):
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if line and name:
                found[name] = value
            elif "data" in found:
                break
    return found
