"""A Hypothesis state machine for top-ups and withdrawals: clients that retry, a lossy network, crashes.

On one side are customers, banks and card holders (the state of the Stripe stand-in), on the other the ledger. Every
call, answer, commit and webhook between them may be lost, repeated or late, in random order. At the end, when nothing
is pending any more, both sides must agree to the cent, and each intent must have happened once.

```python
run_payments_machine("memory", examples=200, steps=25)
```
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from .. import failpoints
from ..domain import topups, withdrawals
from ..domain.ids import OPERATOR
from ..domain.model import AccountStatus
from ..domain.topups import TOP_UP, TopUp, TopUpState
from ..domain.withdrawals import WITHDRAWAL, Withdrawal
from ..integrations.stripe.desk import Desk
from ..integrations.stripe.payments import Payments, make_payments
from ..integrations.stripe_stand_in.state import Body, StripeState
from ..verbs.ledger import To
from ._payments_ends import check_alarms, check_each_once, moved_minor, unanswered
from .faults import Flaky
from .harness import harness_for
from .stripe_fake import FAULTS, FakeStripe
from .stripe_steps import SteppedApi
from .world import CURRENCY, Person, World

T = TypeVar("T")

PEOPLE: Final = 2
MONEY_MINOR: Final = 200
FLOAT_MINOR: Final = 2_000
AMOUNTS: Final = (50, 60, 100)
DAY_SECONDS: Final = 25 * 3600
POINTS: Final = (
    "topup.requested",
    "topup.answered",
    "topup.event",
    "topup.clawback",
    "withdrawal.requested",
    "withdrawal.sent",
    "withdrawal.undone",
    "withdrawal.paid_out",
    "withdrawal.event",
    "payments.folded",
)
"""Where the process can die between two phases."""

persons = st.integers(0, PEOPLE - 1)
keys = st.integers(0, 3)
amounts = st.sampled_from(AMOUNTS)
numbers = st.integers(0, 30)
refused: Final = (["lose_answer", "refuse"], ["refuse", "ok", "lose_answer"])
"""Sequences of faults: a call is carried out and the next query refused; a call is refused and the next carried out."""
troubles: st.SearchStrategy[list[str]] = (
    st.just([])
    | st.lists(st.sampled_from((*FAULTS, "ok", "lose_answer", "lose_answer")), min_size=1, max_size=4)
    | st.sampled_from(refused)
)
overlaps = st.none() | st.none() | st.sampled_from((0, 20))
"""Seconds after which a second process takes the same step, between an answer and its commit; None: never."""
deaths = st.none() | st.none() | st.none() | st.tuples(st.sampled_from(POINTS), st.integers(1, 3))


class PaymentsMachine(RuleBasedStateMachine):
    """The machine; see `run_payments_machine`."""

    backend: ClassVar[str]
    runner: ClassVar[asyncio.Runner]
    fake: ClassVar[FakeStripe]
    api: ClassVar[SteppedApi]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="wallet-payments-"))

    @initialize(seed=st.integers(0, 2**32 - 1), float_minor=st.sampled_from((FLOAT_MINOR, FLOAT_MINOR, 0)))
    def begin(self, seed: int, float_minor: int) -> None:
        """Two people with some money and a bank each."""
        self.fake.reset()
        failpoints.arm("")
        self.world = World(harness_for(self.backend), self.folder, seed=seed)
        self.run(self.world.__aenter__())
        self.people: list[Person] = self.run(self.world.people(PEOPLE, MONEY_MINOR))
        self.calm = self._payments(self.world.store)
        self.payments = self._payments(Flaky(self.world.store, seed))
        self.pending: list[Body] = []
        self.told = 0
        self.secrets: dict[str, str] = {}
        """The intent for each client secret that a customer was given."""
        self.spent: Counter[int] = Counter()
        if float_minor:
            self.state.fund(float_minor, CURRENCY)
        for number, person in enumerate(self.people):
            account = self.state.connect(f"acct_person{number}")
            self.run(self.calm.withdrawals.set_payout_account(person.id, account))

    def _payments(self, store: Any) -> Payments:
        entropy = lambda: self.world.random.getrandbits(62)  # noqa: E731 - the type that is expected
        # One at a time, so that a schedule can be repeated.
        return make_payments(Desk(store, self.world.clock, entropy, sweep_at_once=1), self.api, self.fake.secrets)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the machine's own loop."""
        return self.runner.run(work)

    @property
    def state(self) -> StripeState:
        """Stripe's state."""
        return self.fake.state

    @contextmanager
    def trouble(self, faults: list[str], death: tuple[str, int] | None) -> Iterator[None]:
        """Inside the block the network fails and the process dies as drawn; the caller then gets no answer."""
        self.fake.faults.extend(faults)
        failpoints.arm(f"{death[0]}=fail@{death[1]}" if death else "")
        try:
            with unanswered():
                yield
        finally:
            failpoints.arm("")
            self.fake.faults.clear()
            self.api.after_writing = self.api.after_reading = None
            self._listen()

    def _overlap(self, seconds: int | None, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Let another process do the same after the next writing call."""

        async def meanwhile() -> None:
            self.world.clock.advance(seconds or 0)
            with unanswered():
                await work()

        self.api.after_writing = None if seconds is None else meanwhile

    def _listen(self) -> None:
        """Collect the events that Stripe posts, until they are delivered."""
        self.state.now = int(self.world.clock().timestamp())
        self.pending += self.state.events[self.told :]
        self.told = len(self.state.events)

    # What clients do

    @rule(person=persons, key=keys, pays=st.sampled_from((True, True, False)), faults=troubles, death=deaths)
    def top_up(self, person: int, key: int, pays: bool, faults: list[str], death: tuple[str, int] | None) -> None:  # noqa: FBT001
        """A customer requests a top-up, perhaps repeatedly, and perhaps pays at once."""
        who = self.people[person]
        with self.trouble(faults, death):
            ask = self.payments.top_ups.request(who.id, f"in-{key}", who.account, _amount(key), CURRENCY)
            started = self.run(ask)
            if started.client_secret is not None and started.top_up.intent_id is not None:
                self.secrets[started.client_secret] = started.top_up.intent_id
                if pays:
                    self.state.pay(started.top_up.intent_id)

    @rule(person=persons, key=keys, overlap=overlaps, faults=troubles, death=deaths)
    def withdraw(
        self, person: int, key: int, overlap: int | None, faults: list[str], death: tuple[str, int] | None
    ) -> None:
        """A customer requests a withdrawal, perhaps repeatedly, perhaps twice at the same time."""
        who = self.people[person]

        async def ask() -> None:
            await self.payments.withdrawals.request(who.id, f"out-{key}", who.account, _amount(key), CURRENCY)

        with self.trouble(faults, death):
            self._overlap(overlap, ask)
            self.run(ask())

    @rule(person=persons)
    def spend(self, person: int) -> None:
        """A customer pays all money to somebody else."""
        payer, payee = self.people[person], self.people[1 - person]
        with self.trouble([], None):
            amount = self.run(self.world.account(payer)).available_minor
            money: dict[str, Any] = {"amount_minor": amount, "currency": CURRENCY}
            key = f"spend-{self.world.random.getrandbits(62)}"
            pay = self.world.ledger.transfer(payer.id, key, source=payer.account, to=To(payee.account), **money)
            self.run(pay)
            self.spent[person] += amount
            self.spent[1 - person] -= amount

    @rule(person=persons, act=st.sampled_from(("freeze", "unfreeze", "refuse", "take", "drop", "day", "reconcile")))
    def seldom(self, person: int, act: str) -> None:
        """A rare event: an account is frozen, payouts are stopped, an event is lost, or Stripe forgets its keys."""
        if act in ("freeze", "unfreeze"):
            status = AccountStatus.FROZEN if act == "freeze" else AccountStatus.OPEN
            self.run(self.world.ledger.set_account_status(OPERATOR, self.people[person].account, status))
        elif act in ("refuse", "take"):
            self.state.refuse_payouts = act == "refuse"
        elif act == "drop":
            del self.pending[:1]
        elif act == "reconcile":
            with self.trouble([], None):
                self.run(self.payments.reconciler.run())
        else:
            self.world.clock.advance(DAY_SECONDS)
            self.fake.forget_keys()
            self._listen()

    # What customers, card holders and banks do

    @precondition(lambda self: self.secrets)
    @rule(number=numbers, act=st.sampled_from(("pay", "pay", "pay", "process", "fail_payment")))
    def customer(self, number: int, act: str) -> None:
        """A customer pays, or fails to pay, with a client secret."""
        intents = list(self.secrets.values())
        getattr(self.state, act)(intents[number % len(intents)])
        self._listen()

    @rule(
        number=numbers, amount=amounts, kind=st.sampled_from(("refund", "dispute")), ends=st.sampled_from((True, False))
    )
    def take_back(self, number: int, amount: int, kind: str, ends: bool) -> None:  # noqa: FBT001 - drawn
        """A payment is refunded or disputed, and perhaps that fails at once."""
        if not self._paid():
            self._earn(number)
        paid = self._paid()
        if paid:
            chosen = paid[number % len(paid)]
            clawback_id = getattr(self.state, kind)(chosen["id"], min(amount, chosen["amount"]))
            self._listen()
            if ends and clawback_id is not None:
                self._decide(clawback_id, won=True)

    @precondition(lambda self: self._clawbacks())
    @rule(number=numbers, won=st.sampled_from((True, True, False)))
    def give_up(self, number: int, won: bool) -> None:  # noqa: FBT001 - drawn
        """A refund fails, or a dispute is decided."""
        clawbacks = self._clawbacks()
        self._decide(clawbacks[number % len(clawbacks)]["id"], won=won)

    def _decide(self, clawback_id: str, *, won: bool) -> None:
        if self.state.objects[clawback_id]["object"] == "refund":
            self.state.fail_refund(clawback_id)
        else:
            self.state.close_dispute(clawback_id, won=won)
        self._listen()

    def _earn(self, number: int) -> None:
        """Complete a top-up without faults."""
        who = self.people[number % PEOPLE]
        with self.trouble([], None):
            started = self.run(self.calm.top_ups.request(who.id, f"quiet-{number}", who.account, 100, CURRENCY))
            if started.client_secret is not None and started.top_up.intent_id is not None:
                self.state.pay(started.top_up.intent_id)
                self.run(self.calm.top_ups.advance(started.top_up.id))

    @rule(number=numbers, status=st.sampled_from(("paid", "failed", "paid", "in_transit", "failed", "canceled")))
    def bank(self, number: int, status: str) -> None:
        """A bank pays a payout or fails it; a paid one may still come back."""
        if not self._objects("payout"):
            who = self.people[number % PEOPLE]
            with self.trouble([], None):
                ask = self.calm.withdrawals.request(who.id, f"quiet-out-{number}", who.account, 50, CURRENCY)
                self.run(ask)
        payouts = self._objects("payout")
        if payouts:
            self.state.settle_payout(payouts[number % len(payouts)]["id"], status)
            self._listen()

    # What the network does with webhooks

    @precondition(lambda self: self.pending)
    @rule(number=numbers, keep=st.booleans(), faults=troubles, death=deaths)
    def deliver(self, number: int, keep: bool, faults: list[str], death: tuple[str, int] | None) -> None:  # noqa: FBT001
        """Deliver one event, in any order; it is repeated if it failed, or by mistake (`keep`)."""
        index = number % len(self.pending)
        with self.trouble(faults, death):
            self.run(self._post(self.payments, self.pending[index]))
            if not keep:
                del self.pending[index]

    async def _post(self, payments: Payments, event: Body) -> str:
        raw, header = self.fake.signed(event, at=int(self.world.clock().timestamp()))
        return await payments.events.receive(raw, header)

    # Time

    @rule(seconds=st.sampled_from((20, 100, 4000)), overlap=overlaps, faults=troubles, death=deaths)
    def sweep(self, seconds: int, overlap: int | None, faults: list[str], death: tuple[str, int] | None) -> None:
        """Some time later a sweep runs, perhaps at the same time as another one."""
        self.world.clock.advance(seconds)
        with self.trouble(faults, death):
            self._overlap(overlap, self.payments.sweep)
            self.run(self.payments.sweep())

    # What must hold when all is quiet

    def teardown(self) -> None:
        """Let all flows finish, then compare both sides."""
        try:
            if hasattr(self, "people"):
                self.run(self._come_to_rest())
                self.run(self._agree())
        finally:
            if hasattr(self, "world"):
                self.run(self.world.__aexit__(None, None, None))
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _come_to_rest(self) -> None:
        self.state.refuse_payouts = False
        for _ in range(3):
            await self._days(25 * 3600)
            for one in self._objects("payment_intent"):
                if one["status"] == "processing":
                    self.state.pay(one["id"])
            for one in self._objects("payout"):
                if one["status"] in ("pending", "in_transit"):
                    self.state.settle_payout(one["id"], "paid")
        await self._days(30 * 24 * 3600)
        await self.calm.reconciler.run()

    async def _days(self, seconds: int) -> None:
        """Let time pass until sweeps have nothing left to do."""
        self.world.clock.advance(seconds)
        self.state.now = int(self.world.clock().timestamp())
        self.fake.forget_keys()
        for _ in range(3):
            assert not (await self.calm.sweep()).failed
            self.world.clock.advance(4_000)

    async def _agree(self) -> None:
        ins, outs = await self._flows()
        assert not [one for one in ins if one.state in topups.OPEN or one.state is TopUpState.QUARANTINED], ins
        assert not [one for one in outs if one.state in withdrawals.OPEN], outs
        check_each_once(self.state, ins, outs)
        told = [one.alarm for one in await self.calm.alarms()]
        check_alarms((await self.world.books()).transfers.values(), told)
        report = await self.calm.reconciler.run(settle=False)
        assert not report.differences, report.differences
        assert report.stripe_minor == report.books_minor
        for number, person in enumerate(self.people):
            account = await self.world.account(person)
            assert account.held_minor == 0
            owed = sum(one.receivable_minor for one in ins if one.owner == person.id)
            expected = MONEY_MINOR - self.spent[number] + moved_minor(self.state, ins, outs, person)
            assert account.posted_minor - owed == expected, f"person {number}"

    async def _flows(self) -> tuple[list[TopUp], list[Withdrawal]]:
        records = (await self.world.books()).records.values()
        ins = [TopUp.from_record(record) for record in records if record.kind == TOP_UP]
        return ins, [Withdrawal.from_record(record) for record in records if record.kind == WITHDRAWAL]

    def _paid(self) -> list[Body]:
        return [one for one in self._objects("payment_intent") if one["status"] == "succeeded"]

    def _clawbacks(self) -> list[Body]:
        return [*self._objects("refund"), *self._objects("dispute")]

    def _objects(self, kind: str) -> list[Body]:
        return self.state.of_kind(kind)


def _amount(key: int) -> int:
    """The amount for a key: always the same, so that a repeated request is a replay."""
    return AMOUNTS[key % len(AMOUNTS)]


def run_payments_machine(backend: str, *, examples: int, steps: int, profile: str | None = None) -> None:
    """Run so many schedules of at most so many steps. Raises the failure that is found."""
    parent = settings.get_profile(profile) if profile else settings()
    chosen = settings(parent, max_examples=examples, stateful_step_count=steps, deadline=None)
    with FakeStripe() as fake, asyncio.Runner() as runner:

        async def connect() -> SteppedApi:
            return SteppedApi(fake.key, base_url=fake.url, timeout_seconds=5)

        api = runner.run(connect())
        values = {"backend": backend, "runner": runner, "fake": fake, "api": api}
        try:
            run_state_machine_as_test(type("Machine", (PaymentsMachine,), values), settings=chosen)
        finally:
            runner.run(api.close())
