"""Every safeguard of GraphQL is tested by scenarios that fail when the safeguard is removed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, Final

import httpx
import pytest
from graphql import parse
from starlette.applications import Starlette
from strawberry.types.graphql import OperationType

from tests.integration._live import EVENTS, speak
from tests.integration._server import TRANSFER, Person, settle
from wallet_gql.domain.ids import OPERATOR
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import TrustedDocuments, load_settings
from wallet_gql.testing.patience import patience
from wallet_gql.transports.graphql import cost, direct, http_spec, schema, sockets, view
from wallet_gql.transports.graphql.documents import Documents
from wallet_gql.transports.graphql.feeds import Feed
from wallet_gql.transports.graphql.live import Live
from wallet_gql.transports.http import finishing
from wallet_gql.transports.http.auth import Caller
from wallet_gql.transports.server.app import create_app

pytestmark = pytest.mark.trial

SECONDS: Final = 5.0
MUTANT_SECONDS: Final = 1.5
"""After so long without what it waits for a scenario has failed."""

URQL: Final = "application/graphql-response+json, application/json, text/event-stream, multipart/mixed"

Scenario = Callable[["Site"], Awaitable[None]]
Mutate = Callable[["Site", pytest.MonkeyPatch], None]


class Site:
    """An application in this process, with a payer, a payee and a stranger."""

    def __init__(self, app: Starlette, payer: Person, payee: Person, stranger: Person) -> None:
        self.app = app
        self.payer = payer
        self.payee = payee
        self.stranger = stranger

    @property
    def wallet(self) -> Any:
        """The wallet behind it."""
        return self.app.state.wallet

    async def posted(self, person: Person) -> int:
        """Somebody's balance."""
        (account,) = await self.wallet.ledger.accounts(person.id)
        return int(account.posted_minor)

    async def post(self, body: dict[str, Any], accept: str = http_spec.RESPONSE_JSON) -> httpx.Response:
        """The answer to the payer's request."""
        headers = {"Authorization": f"Bearer {self.payer.token}", "Accept": accept}
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://wallet.test", headers=headers) as client:
            return await client.post("/graphql", json=body)

    async def pay(self) -> None:
        """One payment of one cent."""
        given = self.payer.pay(self.payee.username, 1)
        answer = (await self.post({"query": TRANSFER, "variables": {"input": given}})).json()
        assert answer["data"]["transfer"]["__typename"] == "TransferSuccess", answer

    async def talk(self, person: Person, *subscribed: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """What a WebSocket hears after these operations, until it is closed."""
        begin = {"type": "connection_init", "payload": {"authorization": f"Bearer {person.token}"}}
        started = [{"type": "subscribe", "id": str(n), "payload": payload} for n, payload in enumerate(subscribed)]
        async with aclosing(speak(self.app, begin, *started)) as said:
            async for message in said:
                if message["type"] == "websocket.close":
                    yield message
                    return
                if message["type"] == "websocket.send" and "connection_ack" not in message["text"]:
                    heard: dict[str, Any] = json.loads(message["text"])
                    yield heard


def watching(person: Person, after: int | None = None) -> dict[str, Any]:
    """The payload that subscribes to somebody's account."""
    return {"query": EVENTS, "variables": {"id": person.account_id, "after": after}}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A fresh one, over memory."""
    async with open_wallet(
        load_settings(storage="memory://", mode="test", subscriptions_max=2), sweeps=False
    ) as wallet:
        app = create_app(wallet)
        async with app.router.lifespan_context(app):
            people = [await settle(wallet, 1_000) for _ in range(3)]
            yield Site(app, *people)


# ---------------------------------------------------------------- scenarios


async def an_ambiguous_document(site: Site) -> None:
    """Two payments without a name are refused, and nothing moves."""
    given = site.payer.pay(site.payee.username, 1)
    two = f"{TRANSFER.replace('mutation', 'mutation A')} {TRANSFER.replace('mutation', 'mutation B')}"
    answer = await site.post({"query": two, "variables": {"input": given}})
    assert answer.status_code == 400
    assert await site.posted(site.payee) == 1_000


async def a_syntax_error_on_a_socket(site: Site) -> None:
    """It is told."""
    async with aclosing(site.talk(site.payer, {"query": "{ viewer {"})) as said:
        assert (await anext(said))["type"] == "error"


async def a_payment_on_a_socket(site: Site) -> None:
    """It is refused, and nothing moves."""
    given = site.payer.pay(site.payee.username, 1)
    async with aclosing(site.talk(site.payer, {"query": TRANSFER, "variables": {"input": given}})) as said:
        assert (await anext(said))["type"] == "error"
    assert await site.posted(site.payee) == 1_000


async def a_revoked_session(site: Site) -> None:
    """It sees no payment that is made after its end."""
    async with aclosing(site.talk(site.payee, watching(site.payee))) as said:
        await anext(said)
        await site.wallet.identity.log_out_everywhere(site.payee.id)
        await site.pay()
        assert (await anext(said)).get("code") == 4403


async def a_strangers_subscription(site: Site) -> None:
    """It gets nothing but an error."""
    async with aclosing(site.talk(site.stranger, watching(site.payer, 0))) as said:
        assert (await anext(said))["type"] == "error"


async def a_resumed_subscription(site: Site) -> None:
    """It gets the account as it is, and then exactly what is above the sequence."""
    for _ in range(4):
        await site.pay()
    async with aclosing(site.talk(site.payee, watching(site.payee, 2))) as said:
        events = [(await anext(said)).get("payload") for _ in range(4)]
    assert [event and event["data"]["accountEvents"]["sequence"] for event in events] == ["2", "3", "4", "5"]


async def too_many_subscriptions(site: Site) -> None:
    """The third is refused."""
    async with aclosing(site.talk(site.payer, *[watching(site.payer)] * 3)) as said:
        heard = [(await anext(said))["type"] for _ in range(3)]
    assert sorted(heard) == ["error", "next", "next"]


async def a_client_that_would_rather_have_json(site: Site) -> None:
    """It gets JSON, though it names streams too."""
    answer = await site.post({"query": "{ __typename }"}, URQL)
    assert answer.headers["content-type"].startswith("application/graphql-response+json")


async def a_dear_query(site: Site) -> None:
    """It is refused."""
    pages = " ".join(f"h{n}: history(first: 100) {{ edges {{ node {{ sequence }} }} }}" for n in range(14))
    answer = await site.post({"query": f"{{ viewer {{ accounts {{ {pages} }} }} }}"})
    assert answer.json()["errors"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"


async def a_document_from_elsewhere(site: Site) -> None:
    """Where only trusted documents run, it does not."""
    only = Documents(TrustedDocuments.ONLY, {})
    endpoint = next(route for route in site.app.routes if getattr(route, "path", "") == "/graphql")
    endpoint.endpoint._documents = only  # type: ignore[attr-defined]  # the view
    assert "data" not in (await site.post({"query": "{ __typename }"})).json()


async def a_client_that_hangs_up(site: Site) -> None:
    """A payment that has begun is made, also where the server cancels what its client has left."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    transfer = site.wallet.ledger.transfer

    async def slow(*args: Any, **kwargs: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await transfer(*args, **kwargs)

    site.wallet.ledger.transfer = slow
    try:
        paying = asyncio.create_task(site.pay())
        await begun.wait()
        paying.cancel()
        with suppress(asyncio.CancelledError):
            await paying
        go_on.set()
        while await site.posted(site.payee) != 1_001:  # noqa: ASYNC110 - the payment goes on by itself, and tells nobody
            await asyncio.sleep(0.01)
    finally:
        del site.wallet.ledger.transfer


# ---------------------------------------------------------------- mutants


def any_operation(_site: Site, patch: pytest.MonkeyPatch) -> None:
    """Several operations and no name: the first one runs."""

    def on_validate(_self: object) -> Any:
        yield

    patch.setattr(schema.OneOperation, "on_validate", on_validate)


def a_parser_that_raises(_site: Site, patch: pytest.MonkeyPatch) -> None:
    """Syntax errors are raised where nobody handles them."""

    def on_parse(self: schema.Checked) -> Any:
        context = self.execution_context
        context.graphql_document = parse(context.query or "")
        self._errors = []
        yield

    patch.setattr(schema.Checked, "on_parse", on_parse)


def mutations_anywhere(_site: Site, patch: pytest.MonkeyPatch) -> None:
    """WebSockets run them."""
    patch.setattr(sockets, "_ALLOWED", tuple(OperationType))


def a_session_is_for_ever(_site: Site, patch: pytest.MonkeyPatch) -> None:
    """It is checked at the beginning alone."""

    async def trust(_self: Caller) -> None:
        pass

    patch.setattr(Caller, "check_again", trust)


def everybodys_accounts(site: Site, patch: pytest.MonkeyPatch) -> None:
    """Accounts are looked up as an operator does."""
    account = site.wallet.ledger.account
    patch.setattr(type(site.wallet.ledger), "account", lambda _self, _actor, account_id: account(OPERATOR, account_id))


def one_too_far(_site: Site, patch: pytest.MonkeyPatch) -> None:
    """A watcher begins behind the next entry."""
    above = Feed.lines_above
    patch.setattr(Feed, "lines_above", lambda feed, account, sequence: above(feed, account, sequence + 1))


def one_too_near(_site: Site, patch: pytest.MonkeyPatch) -> None:
    """A watcher begins with the last entry once more."""
    above = Feed.lines_above
    patch.setattr(Feed, "lines_above", lambda feed, account, sequence: above(feed, account, sequence - 1))


def as_many_as_you_like(site: Site, _patch: pytest.MonkeyPatch) -> None:
    """Places without number."""
    live: Live = site.app.state.live
    live._per_user_max = 1_000


def streams_for_whoever_names_them(_site: Site, patch: pytest.MonkeyPatch) -> None:
    """As Strawberry does: the place in the header does not count."""
    wanted_by = http_spec.wanted_by

    def eager(accept: str | None) -> http_spec.Wanted:
        wanted = wanted_by(accept)
        return http_spec.Wanted(wanted.json, wanted.stream, wanted.stream)

    patch.setattr(view, "wanted_by", eager)
    patch.setattr(direct, "_media_type", lambda _: None)  # nobody goes the short way, which sends no streams


def cost_is_only_told(_site: Site, patch: pytest.MonkeyPatch) -> None:
    """Nothing is too dear."""
    patch.setattr(cost, "COST_MAX", 10**12)


def every_document_is_trusted(_site: Site, patch: pytest.MonkeyPatch) -> None:
    """What is sent whole runs in every mode."""
    patch.setattr(Documents, "_by_text", lambda _self, query: query)


def without_a_shield(_site: Site, patch: pytest.MonkeyPatch) -> None:
    """An operation ends with its client."""

    async def bare(_self: object, work: Any) -> Any:
        return await work

    patch.setattr(finishing.Finishing, "to_the_end", bare)


PAIRS: Final[list[tuple[Mutate, Scenario]]] = [
    (any_operation, an_ambiguous_document),
    (a_parser_that_raises, a_syntax_error_on_a_socket),
    (mutations_anywhere, a_payment_on_a_socket),
    (a_session_is_for_ever, a_revoked_session),
    (everybodys_accounts, a_strangers_subscription),
    (one_too_far, a_resumed_subscription),
    (one_too_near, a_resumed_subscription),
    (as_many_as_you_like, too_many_subscriptions),
    (streams_for_whoever_names_them, a_client_that_would_rather_have_json),
    (cost_is_only_told, a_dear_query),
    (every_document_is_trusted, a_document_from_elsewhere),
    (without_a_shield, a_client_that_hangs_up),
]


@pytest.mark.parametrize("scenario", dict.fromkeys(scenario for _, scenario in PAIRS), ids=lambda found: found.__name__)
async def test_the_product_passes(site: Site, scenario: Scenario) -> None:
    """As it is, every scenario holds."""
    async with asyncio.timeout(patience(SECONDS)):
        await scenario(site)


@pytest.mark.parametrize(("mutate", "scenario"), PAIRS, ids=[mutate.__name__ for mutate, _ in PAIRS])
async def test_a_mutant_is_convicted(
    site: Site, monkeypatch: pytest.MonkeyPatch, mutate: Mutate, scenario: Scenario
) -> None:
    """Without what protects it, its scenario fails."""
    mutate(site, monkeypatch)
    with pytest.raises((AssertionError, TimeoutError, StopAsyncIteration, KeyError)):
        async with asyncio.timeout(patience(MUTANT_SECONDS)):
            await scenario(site)
    monkeypatch.undo()
