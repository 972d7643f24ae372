"""A wallet with Stripe's stand-in behind it, in one process: tests can observe every call and every commit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wallet_gql import failpoints
from wallet_gql.domain.changes import Decide, Decision, Scope, Snapshot
from wallet_gql.integrations.stripe.desk import Desk
from wallet_gql.integrations.stripe.payments import Payments, make_payments
from wallet_gql.storage import TIMEOUT_SECONDS, Committed
from wallet_gql.testing.harness import harness_for
from wallet_gql.testing.stripe_fake import FakeStripe
from wallet_gql.testing.stripe_steps import SteppedApi
from wallet_gql.testing.world import CURRENCY, Person, World


class Watched:
    """A store that runs each decision twice, as any store may, and notes what was asked of Stripe meanwhile."""

    def __init__(self, store: Any, fake: FakeStripe, api: SteppedApi) -> None:
        self._store = store
        self._fake = fake
        self._api = api
        self.decisions = 0
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def execute(
        self, scope: Scope, decide: Decide[Any], *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> Committed[Any]:
        """See `Store.execute`."""

        def watched(snapshot: Snapshot) -> Decision[Any]:
            # The stand-in has its own thread: calls on their way from other tasks may arrive meanwhile, a request each.
            expected = len(self._fake.requests) + self._api.in_flight
            decide(snapshot)
            made = decide(snapshot)
            self.decisions += 1
            self.calls += max(0, len(self._fake.requests) - expected)
            return made

        done: Committed[Any] = await self._store.execute(scope, watched, timeout_seconds=timeout_seconds)
        return done


@dataclass(frozen=True, slots=True)
class Bench:
    """A ledger with two people, the stand-in, and the flows between them."""

    world: World
    fake: FakeStripe
    api: SteppedApi
    store: Watched
    payments: Payments
    ann: Person
    bob: Person

    async def top_up(self, key: str = "in", minor: int = 100) -> Any:
        """Ann brings money in."""
        return await self.payments.top_ups.request(self.ann.id, key, self.ann.account, minor, CURRENCY)

    async def earn(self, minor: int = 100, key: str = "in") -> str:
        """Ann brings money in and pays it; the intent's id. Nobody has told the wallet."""
        started = await self.top_up(key, minor)
        self.fake.state.pay(started.top_up.intent_id)
        return str(started.top_up.intent_id)

    async def withdraw(self, key: str = "out", minor: int = 100) -> Any:
        """Ann takes money out."""
        return await self.payments.withdrawals.request(self.ann.id, key, self.ann.account, minor, CURRENCY)

    async def tell(self, kind: str, event_id: str | None = None) -> str:
        """Deliver the last event of a kind, perhaps under another id."""
        event = next(one for one in reversed(self.fake.state.events) if one["type"] == kind)
        given = {**event, "id": event_id or event["id"]}
        raw, header = self.fake.signed(given, at=int(self.world.clock().timestamp()))
        return await self.payments.events.receive(raw, header)

    async def later(self, seconds: float = 4_000) -> None:
        """Time passes, and a sweep looks at what is due."""
        self.world.clock.advance(seconds)
        await self.payments.sweep()

    async def posted(self, person: Person | None = None) -> int:
        """What Ann has."""
        return (await self.world.account(person or self.ann)).posted_minor

    async def held(self) -> int:
        """What is held of it."""
        return (await self.world.account(self.ann)).held_minor

    async def agrees(self) -> bool:
        """Whether Stripe and the books agree."""
        report = await self.payments.reconciler.run(settle=False)
        return not report.differences


@asynccontextmanager
async def open_bench(folder: Path) -> AsyncIterator[Bench]:
    """An empty platform and two people with 1,000 each; leaving it checks what was seen of the commits."""
    with FakeStripe() as fake:
        api = SteppedApi(fake.key, base_url=fake.url, timeout_seconds=5)
        async with AsyncExitStack() as stack, World(harness_for("memory"), folder) as world:
            stack.push_async_callback(api.close)
            ann, bob = await world.people(2, 1_000)
            store = Watched(world.store, fake, api)
            desk = Desk(store, world.clock, lambda: world.random.getrandbits(62))
            payments = make_payments(desk, api, fake.secrets)
            fake.state.fund(10_000, CURRENCY)
            await payments.withdrawals.set_payout_account(ann.id, fake.state.connect("acct_ann1"))
            yield Bench(world, fake, api, store, payments, ann, bob)
            failpoints.arm("")
            assert (store.decisions > 0, store.calls) == (True, 0), "a call was made inside a commit"
