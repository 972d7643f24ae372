"""Every money verb in one table: how to call it, what refuses it, and what would allow it.

`test_money_verbs.py` generates the tests of each promise from the table, and fails for a verb without a row.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final, Literal, TypeVar

from wallet_gql.backends.memory import MemoryStore
from wallet_gql.books.audit import audit
from wallet_gql.domain.changes import Changes, Decide, Decision, ReadSet, Scope, Snapshot
from wallet_gql.domain.errors import NodeUnavailable, WalletError
from wallet_gql.domain.ids import (
    OPERATOR,
    AccountId,
    HoldId,
    TransferId,
    UserId,
    make_hold_id,
    make_transfer_id,
    make_user_id,
    slot_of,
)
from wallet_gql.domain.model import AccountStatus, Receipt, Record
from wallet_gql.domain.rules import DEPOSITED_BALANCE_MAX_MINOR
from wallet_gql.domain.spending import Limits
from wallet_gql.domain.users import User, username_claim
from wallet_gql.integrations.stripe.api import StripeApi
from wallet_gql.integrations.stripe.desk import Desk
from wallet_gql.integrations.stripe.payments import Payments, make_payments
from wallet_gql.integrations.stripe.verbs import TopUpVerb, WithdrawalVerb
from wallet_gql.storage import TIMEOUT_SECONDS, Committed
from wallet_gql.testing.books import scan_all
from wallet_gql.testing.stripe_fake import FakeStripe
from wallet_gql.testing.world import Clock
from wallet_gql.verbs.batches import AtomicBatchVerb, BatchItem, BatchMode, transfer_batch
from wallet_gql.verbs.holds import CaptureHoldVerb, PlaceHoldVerb, VoidHoldVerb
from wallet_gql.verbs.keyed import MoneyVerb
from wallet_gql.verbs.ledger import Ledger, Posted, To
from wallet_gql.verbs.merchant_payments import PayMerchantByHoldVerb, PayMerchantVerb
from wallet_gql.verbs.merchants import Merchants, Paid, Split
from wallet_gql.verbs.transfers import DepositVerb, RefundVerb, ReverseVerb, TransferVerb, WithdrawVerb

R = TypeVar("R")

START_MS: Final = 1_767_225_600_000
EUR: Final = "EUR"
PLENTY: Final = 100_000


class Nodes(MemoryStore):
    """Nodes in memory, of which one may be away."""

    away: str | None = None
    fails_after_commit = False
    """Whether nothing answers any more once a command has its answer; a claim of a key is none."""
    _failed = False

    def revive(self) -> None:
        """Answer again."""
        self.fails_after_commit = self._failed = False

    def home(self, slot: int) -> str:
        """The node of a slot."""
        return self._map.home(slot)

    async def fetch(self, reads: ReadSet) -> Snapshot:
        """See `Store.fetch`."""
        named = (*reads.accounts, *reads.credits, *reads.wallets, *reads.holds, *reads.transfers)
        slots = [*map(slot_of, named), *(key.slot for key in reads.records)]
        self._reach({self.home(slot) for slot in (*slots, *(slot for slot, _, _ in reads.receipt_names))})
        return await super().fetch(reads)

    async def execute(
        self, scope: Scope, decide: Decide[R], *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> Committed[R]:
        """See `Store.execute`."""
        self._reach({self.home(scope.home), *self._map.participants(scope)})
        done = await super().execute(scope, decide, timeout_seconds=timeout_seconds)
        self._failed = self.fails_after_commit and not isinstance(done.result, int)
        return done

    def _reach(self, nodes: set[str]) -> None:
        if self.away in nodes or self._failed:
            raise NodeUnavailable(str(self.away))

    @property
    def names(self) -> tuple[str, ...]:
        """All nodes."""
        return self._map.names


@dataclass(slots=True)
class Town:
    """Ann has 1,000.00. She has paid Bob and the shop, and holds money for Bob, twice; each has a home of his own."""

    store: Nodes
    clock: Clock
    ledger: Ledger
    merchants: Merchants
    payments: Payments
    fake: FakeStripe
    users: dict[str, UserId] = field(default_factory=dict)
    accounts: dict[str, AccountId] = field(default_factory=dict)
    paid: tuple[TransferId, ...] = ()
    bought: tuple[TransferId, ...] = ()
    held: tuple[HoldId, ...] = ()
    drained: int = 0
    reopened: int = 0
    """How often everybody has closed their account and opened another, before anything else."""
    closed: list[AccountId] = field(default_factory=list)
    limits: dict[str, Limits] = field(default_factory=dict)
    """The spending limits of everybody."""
    numbers: count[int] = field(default_factory=lambda: count(1))

    async def add(self, name: str) -> None:
        """Somebody signs up and opens an account; with several nodes the next one is the home."""
        nodes = self.store.names
        wanted = nodes[len(self.users) % len(nodes)]
        ids = (make_user_id(START_MS, next(self.numbers) * 7919) for _ in range(1_000))
        user_id = next(one for one in ids if self.store.home(slot_of(one)) == wanted)
        user = User(user_id, name, f"{name}@example.org", "none", self.clock.now)
        claim = username_claim(name)
        for record in (user.to_record(), Record(claim.kind, claim.id, claim.slot, user_id, 1, {"user": user_id})):
            await self.write(record)
        self.users[name] = user_id
        self.accounts[name] = (await self.ledger.open_account(user_id, EUR)).id
        for _ in range(self.reopened):
            await self.reopen(name)

    async def reopen(self, name: str) -> None:
        """Somebody closes their account, which is empty, and opens another."""
        self.closed.append(self.accounts[name])
        await self.ledger.set_account_status(self.users[name], self.accounts[name], AccountStatus.CLOSED)
        self.accounts[name] = (await self.ledger.open_account(self.users[name], EUR)).id

    async def write(self, record: Record) -> None:
        """A new record."""
        scope = Scope(record.slot, records=(record.key,))
        await self.store.execute(scope, lambda _: Decision(Changes(records=(record,)), None))

    async def available(self, name: str) -> int:
        """What somebody can spend."""
        return (await self.ledger.account(OPERATOR, self.accounts[name])).available_minor

    async def drain(self, name: str) -> None:
        """Take all that somebody can spend."""
        self.drained = await self.available(name)
        await self.ledger.withdraw(OPERATOR, self.fresh(), self.accounts[name], self.drained, EUR)

    async def refill(self, name: str) -> None:
        """Give it back, and more."""
        await self.ledger.deposit(OPERATOR, self.fresh(), self.accounts[name], self.drained + PLENTY, EUR)

    async def fill_up(self, name: str) -> None:
        """Let an account have as much as a deposit may bring."""
        posted = (await self.ledger.account(OPERATOR, self.accounts[name])).posted_minor
        room = DEPOSITED_BALANCE_MAX_MINOR - posted
        await self.ledger.deposit(OPERATOR, self.fresh(), self.accounts[name], room, EUR)

    async def freeze(self, name: str, status: AccountStatus = AccountStatus.FROZEN) -> None:
        """Freeze an account, or make it open again."""
        await self.ledger.set_account_status(OPERATOR, self.accounts[name], status)

    def fresh(self) -> str:
        """A key that nobody has used."""
        return f"fresh-{next(self.numbers)}"

    async def receipts(self) -> list[Receipt]:
        """All of the store."""
        return [item for item in await scan_all(self.store, "receipt") if isinstance(item, Receipt)]


@asynccontextmanager
async def open_town(nodes: int, reopened: int = 0) -> AsyncIterator[Town]:
    """A town on so many nodes, with Stripe's stand-in; the books are audited at the end."""
    drawn, clock = count(1), Clock()
    with FakeStripe() as fake:
        fake.state.fund(PLENTY, EUR)
        fake.state.connect("acct_ann1")
        api = StripeApi(fake.key, base_url=fake.url)
        async with Nodes(f"memory://?nodes={nodes}") as store:
            limits: dict[str, Limits] = {}
            ledger = Ledger(store, clock=clock, entropy=lambda: next(drawn), spending_limits=limits)
            desk = Desk(store, clock, lambda: next(drawn), spending_limits=limits)
            payments = make_payments(desk, api, fake.secrets)
            town = Town(store, clock, ledger, Merchants(ledger), payments, fake, reopened=reopened, limits=limits)
            await _furnish(town)
            yield town
            store.away = None
            assert (await audit(store)).findings == []
        await api.close()


async def _furnish(town: Town) -> None:
    for name in ("ann", "bob", "shop"):
        await town.add(name)
    ann, bob = town.users["ann"], To(town.accounts["bob"])
    money: dict[str, Any] = {"source": town.accounts["ann"], "currency": EUR, "amount_minor": 5_000}
    await town.ledger.deposit(OPERATOR, "seed", town.accounts["ann"], PLENTY, EUR)
    await town.merchants.register(town.users["shop"], "The Shop")
    town.paid = ((await town.ledger.transfer(ann, "paid", to=bob, **money)).result.id,)
    town.held = tuple([(await town.ledger.place_hold(ann, f"held-{n}", to=bob, **money)).result.id for n in range(2)])
    town.bought = ((await town.merchants.pay(ann, "bought", merchant="shop", **money)).payment.result.id,)


Variant = Literal["", "other", "malformed", "lost"]
"""The usual input, another one, one that is malformed, one whose look-up finds nothing."""

Call = Callable[[Town, str, Variant], Awaitable[Any]]
Act = Callable[[Town], Awaitable[object]]


async def nothing(_: Town) -> None:
    """Leave the state as it is."""


@dataclass(frozen=True, slots=True)
class Row:
    """A verb and one reason to refuse it. `refuse` brings the reason about, `allow` takes it away again."""

    name: str
    verb: type[MoneyVerb[Any, Any]]
    call: Call
    code: str
    spends: bool = field(kw_only=True)
    """Whether the user's spending limits count it: money of the actor's own leaves, or is held for somebody."""
    refuse: Act = nothing
    allow: Act = nothing
    lost: str | None = None
    """The code of a look-up that finds nothing which concerns the actor, where there is one."""


def amount(variant: Variant) -> int:
    """100 minor units, or another amount, or none."""
    return {"": 100, "other": 101, "malformed": 0, "lost": 100}[variant]


def draining(name: str) -> dict[str, Any]:
    """Somebody has no money, and gets it."""
    return {"code": "INSUFFICIENT_FUNDS", "refuse": lambda t: t.drain(name), "allow": lambda t: t.refill(name)}


def unknown() -> dict[str, Any]:
    """Nobody is called so, and then somebody is."""
    return {"code": "PAYEE_NOT_FOUND", "allow": lambda t: t.add("newcomer")}


def no_merchant() -> dict[str, Any]:
    """Bob is no merchant, and becomes one."""
    return {"code": "NOT_A_MERCHANT", "allow": lambda t: t.merchants.register(t.users["bob"], "Bob's")}


def unknown_merchant() -> dict[str, Any]:
    """Nobody is called so, and then a merchant is."""

    async def come(town: Town) -> None:
        await town.add("newcomer")
        await town.merchants.register(town.users["newcomer"], "New")

    return {"code": "PAYEE_NOT_FOUND", "allow": come}


def filled(name: str) -> dict[str, Any]:
    """An account takes no more, and then some of it is gone."""
    return {"code": "LIMIT_EXCEEDED", "refuse": lambda t: t.fill_up(name), "allow": lambda t: t.drain(name)}


def frozen(name: str) -> dict[str, Any]:
    """An account is frozen, and then it is not."""
    thawed = AccountStatus.OPEN
    return {"code": "ACCOUNT_FROZEN", "refuse": lambda t: t.freeze(name), "allow": lambda t: t.freeze(name, thawed)}


def expired() -> dict[str, Any]:
    """A hold's time is over by a clock that goes wrong, and then goes right."""

    async def later(town: Town) -> None:
        town.clock.now += timedelta(days=8)

    async def sooner(town: Town) -> None:
        town.clock.now = max(datetime(2026, 1, 1, tzinfo=UTC), town.clock.now - timedelta(days=8))

    return {"code": "HOLD_NOT_OPEN", "refuse": later, "allow": sooner}


def unpaid() -> dict[str, Any]:
    """Nobody has said where Ann's money goes, and then somebody has."""
    return {
        "code": "PAYOUT_ACCOUNT_MISSING",
        "allow": lambda t: t.payments.withdrawals.set_payout_account(t.users["ann"], "acct_ann1"),
    }


def transfer(to: str) -> Call:
    """Ann pays somebody by name."""
    return lambda t, key, variant: t.ledger.transfer(
        t.users["ann"],
        key,
        source=t.accounts["ann"],
        to=To(username=to),
        amount_minor=amount(variant),
        currency=EUR,
    )


def batch(to: str, mode: BatchMode) -> Call:
    """Ann pays somebody by name, in a batch of one."""

    async def call(town: Town, key: str, variant: Variant) -> Any:
        item = BatchItem(key, town.accounts["ann"], To(username=to), amount(variant), EUR)
        (outcome,) = await transfer_batch(town.ledger, town.users["ann"], [item], mode)
        if isinstance(outcome, WalletError):
            raise outcome
        return outcome

    return call


def hold(to: str) -> Call:
    """Ann reserves money for somebody by name."""
    return lambda t, key, variant: t.ledger.place_hold(
        t.users["ann"],
        key,
        source=t.accounts["ann"],
        to=To(username=to),
        amount_minor=amount(variant),
        currency=EUR,
    )


def pay(to: str, *, split: bool = False) -> Call:
    """Ann pays a merchant by name."""
    return lambda t, key, variant: t.merchants.pay(
        t.users["ann"],
        key,
        source=t.accounts["ann"],
        merchant=to,
        amount_minor=amount(variant),
        currency=EUR,
        splits=[Split(To(username="bob"), 1_000)] if split else [],
    )


def reserve(to: str) -> Call:
    """Ann reserves money for a merchant by name."""
    return lambda t, key, variant: t.merchants.hold(
        t.users["ann"], key, source=t.accounts["ann"], merchant=to, amount_minor=amount(variant), currency=EUR
    )


def _hold_id(town: Town, variant: Variant) -> HoldId:
    if variant == "malformed":
        return HoldId("hld_")
    if variant == "lost":
        return make_hold_id(slot_of(town.held[0]), START_MS, 2**61)
    return town.held[1 if variant == "other" else 0]


def _transfer_id(found: TransferId, variant: Variant) -> TransferId:
    lost = make_transfer_id(slot_of(found), START_MS, 2**61)
    return {"malformed": TransferId("trf_"), "lost": lost}.get(variant, found)


def capture(actor: str = "bob") -> Call:
    """Bob takes what is held for him."""
    return lambda t, key, variant: t.ledger.capture_hold(t.users[actor], key, _hold_id(t, variant))


def void() -> Call:
    """Bob lets go what is held for him."""
    return lambda t, key, variant: t.ledger.void_hold(t.users["bob"], key, _hold_id(t, variant))


def reverse(actor: str) -> Call:
    """Somebody sends back what Ann has paid Bob."""
    return lambda t, key, variant: t.ledger.reverse_transfer(
        t.users.get(actor, OPERATOR), key, _transfer_id(t.paid[0], variant), amount_minor=amount(variant) or 1
    )


def refund() -> Call:
    """The shop sends back what Ann has paid."""
    return lambda t, key, variant: t.merchants.refund(
        t.users["shop"], key, _transfer_id(t.bought[0], variant), amount_minor=amount(variant) or 1
    )


def external(verb: Literal["deposit", "withdraw"], actor: str = OPERATOR) -> Call:
    """Money comes in, or goes out."""
    return lambda t, key, variant: getattr(t.ledger, verb)(
        t.users.get(actor, OPERATOR), key, t.accounts["ann"], amount(variant), EUR
    )


def flow(name: Literal["top_ups", "withdrawals"]) -> Call:
    """Money comes in, or goes out, by way of the provider."""
    return lambda t, key, variant: getattr(t.payments, name).request(
        t.users["ann"], key, t.accounts["ann"], amount(variant), EUR
    )


ROWS: Final = (
    Row("transfer", TransferVerb, transfer("bob"), spends=True, **draining("ann")),
    Row("transfer to a newcomer", TransferVerb, transfer("newcomer"), spends=True, **unknown()),
    Row("atomic batch", AtomicBatchVerb, batch("bob", BatchMode.ATOMIC), spends=True, **draining("ann")),
    Row("atomic batch to a newcomer", AtomicBatchVerb, batch("newcomer", BatchMode.ATOMIC), spends=True, **unknown()),
    Row("independent batch", TransferVerb, batch("bob", BatchMode.INDEPENDENT), spends=True, **draining("ann")),
    Row("placeHold", PlaceHoldVerb, hold("bob"), spends=True, **draining("ann")),
    Row("placeHold for a newcomer", PlaceHoldVerb, hold("newcomer"), spends=True, **unknown()),
    Row("payMerchant", PayMerchantVerb, pay("bob"), spends=True, **no_merchant()),
    Row("payMerchant with a split", PayMerchantVerb, pay("shop", split=True), spends=True, **draining("ann")),
    Row("payMerchant, a newcomer", PayMerchantVerb, pay("newcomer"), spends=True, **unknown_merchant()),
    Row("payMerchant by hold", PayMerchantByHoldVerb, reserve("bob"), spends=True, **no_merchant()),
    Row(
        "payMerchant by hold, a newcomer", PayMerchantByHoldVerb, reserve("newcomer"), spends=True, **unknown_merchant()
    ),
    Row("captureHold", CaptureHoldVerb, capture(), spends=False, lost="HOLD_NOT_FOUND", **frozen("ann")),
    Row("voidHold", VoidHoldVerb, void(), spends=False, lost="HOLD_NOT_FOUND", **expired()),
    Row("reverseTransfer", ReverseVerb, reverse("bob"), spends=False, lost="TRANSFER_NOT_FOUND", **draining("bob")),
    Row(
        "reverseTransfer by an operator",
        ReverseVerb,
        reverse("op"),
        spends=False,
        lost="TRANSFER_NOT_FOUND",
        **draining("bob"),
    ),
    Row("refund", RefundVerb, refund(), spends=False, lost="TRANSFER_NOT_FOUND", **draining("shop")),
    Row("deposit", DepositVerb, external("deposit"), spends=False, **filled("ann")),
    Row("withdraw", WithdrawVerb, external("withdraw"), spends=False, **draining("ann")),
    Row("withdraw by a user", WithdrawVerb, external("withdraw", "ann"), spends=True, **draining("ann")),
    Row("topUp", TopUpVerb, flow("top_ups"), spends=False, **filled("ann")),
    Row("withdrawal", WithdrawalVerb, flow("withdrawals"), spends=True, **unpaid()),
)


def said(answer: Any) -> tuple[str, bool]:
    """What an answer is about, and whether it was replayed."""
    if isinstance(answer, Paid):
        answer = answer.payment
    if isinstance(answer, Posted):
        return str(answer.result.id), answer.replayed
    flowing = getattr(answer, "top_up", None) or answer.withdrawal
    return str(flowing.id), bool(answer.replayed)
