"""All who watch an account in one process share what is read of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.responses import Response

from tests.integration._graphql import wallet_in
from tests.integration._live import EVENTS
from tests.integration._server import Person, new_key, settle
from wallet_gql.domain.errors import Unavailable
from wallet_gql.domain.ids import AccountId, UserId
from wallet_gql.runtime import Wallet
from wallet_gql.testing.patience import within
from wallet_gql.transports.graphql import feeds
from wallet_gql.transports.graphql.context import Context
from wallet_gql.transports.graphql.feeds import Feed
from wallet_gql.transports.graphql.live import Live
from wallet_gql.transports.graphql.schema import schema
from wallet_gql.transports.http.auth import Caller
from wallet_gql.verbs.ledger import Ledger, To

WATCHERS: Final = 10


class Watched:
    """An account, and some who watch it."""

    def __init__(self, wallet: Wallet, person: Person) -> None:
        self.wallet = wallet
        self.person = person
        self.live = Live(WATCHERS)
        self.stack = AsyncExitStack()

    @property
    def feed(self) -> Feed:
        """The only one."""
        (feed,) = self.live.feeds._open.values()
        return feed

    async def watch(self) -> AsyncIterator[Any]:
        """A new subscription, up to its first event."""
        context = Context(self.wallet, Caller(self.wallet.identity, self.person.token), Response(), live=self.live)
        given = {"id": self.person.account_id}
        results = await self.stack.enter_async_context(aclosing(await schema.stream(EVENTS, given, context)))
        assert (await within(20, anext(results))).errors is None
        return results

    async def pay(self, payee: Person) -> None:
        """An entry."""
        await self.wallet.ledger.transfer(
            UserId(self.person.id), new_key(), source=AccountId(self.person.account_id),
            to=To(username=payee.username), amount_minor=1, currency="EUR",
        )  # fmt: skip


async def sequence_of(results: AsyncIterator[Any]) -> int:
    """The entry of the next event."""
    event = (await within(20, anext(results))).data["accountEvents"]
    return int(event["entry"]["sequence"])


async def test_idle_watchers_cost_no_query_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, a turn reads the account once, and one poll looks for entries. All hear of an entry."""
    monkeypatch.setattr(feeds, "CHECK_SECONDS", 0.001)
    async with wallet_in(tmp_path, session_cache_seconds=10) as wallet:
        watched, payee = Watched(wallet, await settle(wallet, 100)), await settle(wallet, 0)
        reads, sound = 0, Ledger.account

        async def counted(*given: Any) -> Any:
            nonlocal reads
            reads += 1
            return await sound(*given)

        monkeypatch.setattr(Ledger, "account", counted)
        async with watched.stack:
            streams = [await watched.watch() for _ in range(WATCHERS)]
            waiting = [asyncio.ensure_future(sequence_of(one)) for one in streams]
            feed, before, first = watched.feed, reads, watched.feed.number
            for _ in range(20):
                await within(20, feed.turn_after(feed.number))
            assert reads - before <= feed.number - first + 1
            assert (feed.watchers, len(wallet.store._watchers[AccountId(watched.person.account_id)])) == (WATCHERS, 1)  # type: ignore[attr-defined]  # what polls
            await watched.pay(payee)
            assert await asyncio.gather(*waiting) == [2] * WATCHERS
        assert watched.live.feeds._open == {}


async def test_who_reads_slowly_misses_nothing(tmp_path: Path) -> None:
    """Entries that the feed has forgotten are read for whoever still needs them, each once and in order."""
    async with wallet_in(tmp_path) as wallet:
        watched, payee = Watched(wallet, await settle(wallet, 1_000)), await settle(wallet, 0)
        async with watched.stack:
            quick, slow = await watched.watch(), await watched.watch()
            for number in range(2, 132):
                await watched.pay(payee)
                assert await sequence_of(quick) == number
            late = await watched.watch()
            assert [await sequence_of(slow) for _ in range(130)] == list(range(2, 132))
            await watched.pay(payee)
            assert [await sequence_of(one) for one in (late, slow, quick)] == [132] * 3


async def test_what_fails_fails_for_all_who_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their streams end with the error; who subscribes again is served by a new feed."""
    monkeypatch.setattr(feeds, "CHECK_SECONDS", 0.001)
    async with wallet_in(tmp_path) as wallet:
        watched, payee = Watched(wallet, await settle(wallet, 100)), await settle(wallet, 0)
        async with watched.stack:
            streams = [await watched.watch() for _ in range(3)]
            with monkeypatch.context() as patch:

                async def away(*_: Any) -> Any:
                    await asyncio.sleep(0)
                    raise Unavailable("the store is away")

                patch.setattr(Ledger, "account", away)
                for one in streams:
                    result = await within(20, anext(one))
                    assert [(error.extensions or {})["code"] for error in result.errors] == ["UNAVAILABLE"]
            again = await watched.watch()
            await watched.pay(payee)
            assert await sequence_of(again) == 2
