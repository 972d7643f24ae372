"""The ways in to a ledger: its verbs, or the GraphQL API. Each performs what a schedule has planned.

Over GraphQL a request is an HTTP request to the whole application, with a session's token, in this process and without
a socket: parsing, rate limits (off), access checks and the answer's JSON are measured, the network is not.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol

from ..domain.changes import ReadSet
from ..domain.errors import Rejected, WalletError
from ..domain.ids import OPERATOR
from ..domain.model import Hold
from ..domain.users import Session, SessionKind
from ..identity.sessions import new_session
from ..runtime import wallet_over
from ..settings import load_settings
from ..storage import Store
from ..testing.patience import patience
from ..testing.world import CURRENCY, Person, World
from ..transports.server.app import create_app
from ..verbs.ledger import Ledger, utc_now
from .history import Outcome
from .schedule import Api, Planned

Message = MutableMapping[str, Any]
App = Callable[[Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
"""An ASGI application."""

_WRONG: Final = "... on WalletError { code retryable }"
_DOCUMENTS: Final = {
    "transfer": f"""mutation($input: TransferInput!) {{ done: transfer(input: $input) {{
        ... on TransferSuccess {{ transfer {{ id }} }} {_WRONG} }} }}""",
    "hold": f"""mutation($input: PlaceHoldInput!) {{ done: placeHold(input: $input) {{
        ... on PlaceHoldSuccess {{ hold {{ id }} }} {_WRONG} }} }}""",
    "capture": f"""mutation($input: CaptureHoldInput!) {{ done: captureHold(input: $input) {{
        ... on CaptureHoldSuccess {{ transfer {{ id }} }} {_WRONG} }} }}""",
    "read": "query($input: ID!) { done: account(id: $input) { posted { minorUnits } available { minorUnits } } }",
}


class Door(Protocol):
    """A way in to one ledger."""

    async def perform(self, planned: Planned, key: str) -> Outcome:
        """Ask for one operation under a key; `unknown` if there was no answer, or an error of the store."""


class LedgerDoor:
    """The ledger's verbs, as a program in the same process calls them."""

    def __init__(self, world: World, people: Sequence[Person], store: Store | None = None) -> None:
        self.world = world
        self.people = people
        self.ledger = Ledger(store or world.store, timeout_seconds=patience(10))

    async def perform(self, planned: Planned, key: str) -> Outcome:
        """See `Door`."""
        try:
            await self._perform(planned, key)
        except Rejected:
            return "refused"
        except WalletError:
            return "unknown"
        return "ok"

    async def _perform(self, planned: Planned, key: str) -> None:
        one, other, minor = self.people[planned.first], self.people[planned.second], planned.amount_minor
        operation, ledger = planned.operation, self.ledger
        if operation in ("read", "balance"):
            await ledger.store.fetch(ReadSet(accounts=tuple({one.account, other.account})))
        elif operation in ("deposit_checking", "transact_savings"):
            await ledger.deposit(OPERATOR, key, one.account, minor, CURRENCY)
        elif operation == "write_check":
            await ledger.withdraw(OPERATOR, key, one.account, minor, CURRENCY)
        elif operation == "amalgamate":  # all of the savings: what there is, is read first
            savings = await ledger.account(other.id, other.account)
            if savings.available_minor:
                await self.world.pay(other, one, savings.available_minor, key, ledger)
        elif operation == "hold":
            placed: Hold = await self.world.hold(one, other, minor, key, ledger=ledger)
            await ledger.capture_hold(other.id, f"{key}-capture", placed.id)
        else:
            await self.world.pay(one, other, minor, key, ledger)


class GraphqlDoor:
    """Requests to the application. It has no verbs of the operator, so not all of SmallBank."""

    def __init__(self, app: App, people: Sequence[Person], tokens: Sequence[str]) -> None:
        self._app = app
        self._people = people
        self._tokens = tokens

    async def perform(self, planned: Planned, key: str) -> Outcome:
        """See `Door`."""
        payer, payee = self._people[planned.first], self._people[planned.second]
        if planned.operation == "read":
            return _outcome(await self._ask("read", planned.first, payer.account))
        asked = {"idempotencyKey": key, "fromAccountId": payer.account, "to": {"accountId": payee.account}}
        asked["amount"] = {"currency": CURRENCY, "minorUnits": str(planned.amount_minor)}
        if planned.operation == "transfer":
            return _outcome(await self._ask("transfer", planned.first, asked))
        assert planned.operation == "hold", f"GraphQL has no {planned.operation}"
        placed = await self._ask("hold", planned.first, asked)
        if _outcome(placed) != "ok":
            return _outcome(placed)
        taken = {"idempotencyKey": f"{key}-capture", "holdId": placed["hold"]["id"]}
        return _outcome(await self._ask("capture", planned.second, taken))

    async def _ask(self, name: str, who: int, value: object) -> dict[str, Any]:
        """What the one field answers; empty if the request failed."""
        body = json.dumps({"query": _DOCUMENTS[name], "variables": {"input": value}}).encode()
        answer = json.loads(await _post(self._app, body, self._tokens[who]))
        if "errors" in answer or not answer.get("data"):
            return {}
        done: dict[str, Any] = answer["data"]["done"] or {}
        return done


def _outcome(done: Mapping[str, Any]) -> Outcome:
    if "code" in done:
        return "unknown" if done["retryable"] else "refused"
    return "ok" if done else "unknown"


async def _post(app: App, body: bytes, token: str) -> bytes:
    """The body of the answer to one request."""
    headers = {"host": "localhost", "content-type": "application/json", "authorization": f"Bearer {token}"}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/graphql",
        "raw_path": b"/graphql",
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 50_000),
        "server": ("localhost", 80),
        "state": {},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    requests: Iterator[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])
    answered: list[bytes] = []

    async def receive() -> Message:
        for request in requests:
            return request
        await asyncio.Event().wait()  # the client stays until it has the answer
        raise AssertionError

    async def send(message: Message) -> None:
        answered.append(message.get("body", b""))

    await app(scope, receive, send)
    return b"".join(answered)


@asynccontextmanager
async def _ledger_door(world: World, people: Sequence[Person]) -> AsyncIterator[Door]:
    yield LedgerDoor(world, people)


@asynccontextmanager
async def _graphql_door(world: World, people: Sequence[Person]) -> AsyncIterator[Door]:
    settings = load_settings(storage=world.harness.url, rate_limits="off")
    async with wallet_over(world.store, settings, sweeps=False) as wallet:
        app = create_app(wallet)
        async with app.router.lifespan_context(app):
            yield GraphqlDoor(app, people, [await _token(world, person) for person in people])


async def _token(world: World, person: Person) -> str:
    """Of a new session, without the log-in: people of a world have no password that is a hash."""
    now = utc_now()
    session, token = new_session(Session("", person.id, SessionKind.BEARER, now, now, now))
    await world.put(session.to_record())
    return token


DOORS: Final[Mapping[Api, Callable[[World, Sequence[Person]], AbstractAsyncContextManager[Door]]]] = {
    "ledger": _ledger_door,
    "graphql": _graphql_door,
}
