"""What the store keeps for a key of each money verb: a client that retries under a newer release must find it again.

`fingerprints.json` was written by release 0.1.0; `input` is the input of its SHA-256, `kept` is each receipt as
`kept_as` shows it. If a fingerprint changed, a retry of an old key would get `IDEMPOTENCY_KEY_REUSED`. If a receipt
were in another slot, it would not be found, and the money would move twice. Never edit a row of a released verb to make
a test pass.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from wallet_gql.backends import open_store
from wallet_gql.domain.changes import Changes, Decision, Scope
from wallet_gql.domain.errors import Rejected
from wallet_gql.domain.ids import OPERATOR, AccountId, HoldId, TransferId, UserId, make_user_id, slot_of, slot_of_text
from wallet_gql.domain.model import Receipt, Record
from wallet_gql.domain.users import User, username_claim
from wallet_gql.integrations.stripe.api import StripeApi
from wallet_gql.integrations.stripe.desk import Desk
from wallet_gql.integrations.stripe.payments import Payments, make_payments
from wallet_gql.storage import Store
from wallet_gql.testing.books import scan_all
from wallet_gql.testing.stripe_fake import FakeStripe
from wallet_gql.verbs.batches import BatchItem, BatchMode, transfer_batch
from wallet_gql.verbs.ledger import Ledger, To
from wallet_gql.verbs.merchants import Merchants, Split

ROWS: Final[dict[str, dict[str, Any]]] = json.loads(Path(__file__).with_name("fingerprints.json").read_text())
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
START_MS: Final = 1_767_225_600_000
NAMES: Final = ("ann", "bob", "shop")
KEY: Final = "the-key"
BEYOND_ASCII: Final = "Zo\u00eb \u4e2d\u6587 \U0001f600"
ESCAPES: Final = r"""say "hi" \ / <b> ' ~"""


@dataclass(slots=True)
class Wallet:
    """Ann has 1,000.00; she has paid Bob and the shop, and holds money for both."""

    store: Store
    ledger: Ledger
    merchants: Merchants
    payments: Payments
    users: dict[str, UserId] = field(default_factory=dict)
    accounts: dict[str, AccountId] = field(default_factory=dict)
    paid: TransferId = field(init=False)
    bought: TransferId = field(init=False)
    held: HoldId = field(init=False)

    async def transfer(self, to: To, reference: str = "") -> object:
        """Ann pays."""
        money: dict[str, Any] = {"amount_minor": 1_250, "currency": "EUR", "reference": reference}
        return await self.ledger.transfer(self.users["ann"], KEY, source=self.accounts["ann"], to=to, **money)

    async def batch(self, mode: BatchMode) -> object:
        """Ann pays by a batch of one."""
        item = BatchItem(KEY, self.accounts["ann"], To(self.accounts["bob"]), 1_250, "EUR", BEYOND_ASCII)
        return await transfer_batch(self.ledger, self.users["ann"], [item], mode)

    async def hold(self, to: To, **more: Any) -> object:
        """Ann reserves money."""
        money: dict[str, Any] = {"amount_minor": 1_250, "currency": "EUR", **more}
        return await self.ledger.place_hold(self.users["ann"], KEY, source=self.accounts["ann"], to=to, **money)

    async def buy(self, *splits: Split, reference: str = "") -> object:
        """Ann pays the shop."""
        money: dict[str, Any] = {"amount_minor": 1_250, "currency": "EUR", "splits": splits, "reference": reference}
        source = self.accounts["ann"]
        return await self.merchants.pay(self.users["ann"], KEY, source=source, merchant="shop", **money)

    async def reserve(self, **more: Any) -> object:
        """Ann reserves money for the shop."""
        money: dict[str, Any] = {"amount_minor": 1_250, "currency": "EUR", **more}
        source = self.accounts["ann"]
        return await self.merchants.hold(self.users["ann"], KEY, source=source, merchant="shop", **money)

    async def receipts(self) -> list[Receipt]:
        """All of the store."""
        return [item for item in await scan_all(self.store, "receipt") if isinstance(item, Receipt)]

    def place(self, slot: int | None) -> str:
        """Whose slot it is."""
        whose = {slot_of(user): name for name, user in self.users.items()} | {slot_of_text(OPERATOR): "operator"}
        return whose[slot] if slot is not None else ""


async def prepare(wallet: Wallet) -> None:
    """People, accounts, and something to capture, reverse and refund. No id depends on what a verb draws."""
    for number, name in enumerate(NAMES):
        user = User(make_user_id(START_MS, number), name, f"{name}@example.org", "none", START)
        claim = username_claim(name)
        await write(wallet.store, user.to_record())
        await write(wallet.store, Record(claim.kind, claim.id, claim.slot, user.id, 1, {"user": user.id}))
        wallet.users[name] = user.id
        wallet.accounts[name] = (await wallet.ledger.open_account(user.id, "EUR")).id
    ann, bob = wallet.users["ann"], To(wallet.accounts["bob"])
    money: dict[str, Any] = {"source": wallet.accounts["ann"], "currency": "EUR"}
    await wallet.ledger.deposit(OPERATOR, "seed", wallet.accounts["ann"], 100_000, "EUR")
    wallet.paid = (await wallet.ledger.transfer(ann, "paid", to=bob, amount_minor=5_000, **money)).result.id
    wallet.held = (await wallet.ledger.place_hold(ann, "held", to=bob, amount_minor=5_000, **money)).result.id
    await wallet.merchants.register(wallet.users["shop"], "The Shop")
    bought = await wallet.merchants.pay(ann, "bought", merchant="shop", amount_minor=5_000, **money)
    wallet.bought = bought.payment.result.id
    await wallet.payments.withdrawals.set_payout_account(ann, "acct_ann1")


async def write(store: Store, record: Record) -> None:
    """Put a new record into the store."""
    await store.execute(Scope(record.slot, records=(record.key,)), lambda _: Decision(Changes(records=(record,)), None))


@asynccontextmanager
async def open_wallet() -> AsyncIterator[Wallet]:
    """A wallet in memory whose clock stands still, with Stripe's stand-in behind it."""
    drawn = count(1)
    with FakeStripe() as fake:
        fake.state.fund(100_000, "EUR")
        fake.state.connect("acct_ann1")
        api = StripeApi(fake.key, base_url=fake.url)
        async with open_store("memory://") as store:
            ledger = Ledger(store, clock=lambda: START, entropy=lambda: next(drawn))
            desk = Desk(store, lambda: START, lambda: next(drawn))
            wallet = Wallet(store, ledger, Merchants(ledger), make_payments(desk, api, fake.secrets))
            await prepare(wallet)
            yield wallet
        await api.close()


Use = Callable[[Wallet], Awaitable[object]]

USES: Final[dict[str, Use]] = {
    "transfer": lambda w: w.transfer(To(w.accounts["bob"])),
    "transfer to a username": lambda w: w.transfer(To(username="bob")),
    "transfer to a username as it was typed": lambda w: w.transfer(To(username=" BOB")),
    "transfer with a reference": lambda w: w.transfer(To(w.accounts["bob"]), "rent 7"),
    "transfer with characters beyond ASCII": lambda w: w.transfer(To(w.accounts["bob"]), BEYOND_ASCII),
    "transfer with escapes": lambda w: w.transfer(To(w.accounts["bob"]), ESCAPES),
    "transfer refused": lambda w: w.transfer(To(username="nobody")),
    "atomic batch": lambda w: w.batch(BatchMode.ATOMIC),
    "independent batch": lambda w: w.batch(BatchMode.INDEPENDENT),
    "placeHold": lambda w: w.hold(To(w.accounts["bob"])),
    "placeHold with all": lambda w: w.hold(To(username="bob"), expires_in_seconds=60, reference=BEYOND_ASCII),
    "payMerchantByHold": lambda w: w.reserve(),
    "payMerchantByHold with all": lambda w: w.reserve(expires_in_seconds=60, reference=ESCAPES),
    "captureHold": lambda w: w.ledger.capture_hold(w.users["bob"], KEY, w.held),
    "captureHold of a part": lambda w: w.ledger.capture_hold(w.users["bob"], KEY, w.held, amount_minor=1_250),
    "captureHold by its payer": lambda w: w.ledger.capture_hold(w.users["ann"], KEY, w.held),
    "voidHold": lambda w: w.ledger.void_hold(w.users["bob"], KEY, w.held),
    "reverseTransfer": lambda w: w.ledger.reverse_transfer(w.users["bob"], KEY, w.paid),
    "reverseTransfer of a part": lambda w: w.ledger.reverse_transfer(
        w.users["bob"], KEY, w.paid, amount_minor=1_250, reference=BEYOND_ASCII
    ),
    "reverseTransfer by its payer": lambda w: w.ledger.reverse_transfer(w.users["ann"], KEY, w.paid),
    "reverseTransfer by an operator": lambda w: w.ledger.reverse_transfer(OPERATOR, KEY, w.paid),
    "refund": lambda w: w.merchants.refund(w.users["shop"], KEY, w.bought),
    "refund of a part": lambda w: w.merchants.refund(
        w.users["shop"], KEY, w.bought, amount_minor=1_250, reference=ESCAPES
    ),
    "payMerchant": lambda w: w.buy(),
    "payMerchant with a reference": lambda w: w.buy(reference=BEYOND_ASCII),
    "payMerchant with splits": lambda w: w.buy(Split(To(w.accounts["bob"]), 1_000), Split(To(username="bob"), 500)),
    "deposit": lambda w: w.ledger.deposit(OPERATOR, KEY, w.accounts["ann"], 1_250, "EUR"),
    "deposit with a reference": lambda w: w.ledger.deposit(
        OPERATOR, KEY, w.accounts["ann"], 1_250, "EUR", reference=BEYOND_ASCII
    ),
    "deposit by a user": lambda w: w.ledger.deposit(w.users["ann"], KEY, w.accounts["ann"], 1_250, "EUR"),
    "withdraw": lambda w: w.ledger.withdraw(OPERATOR, KEY, w.accounts["ann"], 1_250, "EUR"),
    "withdraw by a user": lambda w: w.ledger.withdraw(w.users["ann"], KEY, w.accounts["ann"], 1_250, "EUR"),
    "withdrawal through Stripe": lambda w: w.payments.withdrawals.request(
        w.users["ann"], KEY, w.accounts["ann"], 1_250, "EUR", reference=BEYOND_ASCII
    ),
    "topUp": lambda w: w.payments.top_ups.request(w.users["ann"], KEY, w.accounts["ann"], 1_250, "EUR"),
}


def kept_as(wallet: Wallet, receipt: Receipt) -> str:
    """A receipt in one line: where, by whom, what it says; ids without their digits."""
    whose = receipt.actor if receipt.actor == OPERATOR else wallet.place(slot_of(receipt.actor))
    said = f"claim for {wallet.place(receipt.leader)}" if receipt.is_claim else receipt.outcome or ""
    line = (
        f"{wallet.place(receipt.slot)}: {whose} {receipt.key} {receipt.operation} {receipt.transfer_id or '-'} {said}"
    )
    return re.sub(r"_[0-9a-f]{32}", "", line)


async def use(wallet: Wallet, name: str) -> list[Receipt]:
    """Use the key once; the receipts that this left."""
    before = {(one.slot, one.actor, one.key) for one in await wallet.receipts()}
    with suppress(Rejected):  # a remembered refusal keeps a receipt too
        await USES[name](wallet)
    return [one for one in await wallet.receipts() if (one.slot, one.actor, one.key) not in before]


@pytest.mark.parametrize("name", USES)
async def test_a_key_keeps_what_release_0_1_0_kept(name: str) -> None:
    """The same fingerprint, the same answer, and each receipt and claim in the same slot."""
    async with open_wallet() as wallet:
        made = await use(wallet, name)
        assert {one.fingerprint for one in made} == {ROWS[name]["fingerprint"]}
        assert sorted(kept_as(wallet, one) for one in made) == ROWS[name]["kept"]
        assert fingerprint_of(wallet, ROWS[name]["input"]) == ROWS[name]["fingerprint"]


def fingerprint_of(wallet: Wallet, given: object) -> str:
    """The fingerprint that the documented input has; `{ann}` stands for the id of her account."""
    text = json.dumps(given, sort_keys=True, separators=(",", ":"))
    for name, stands_for in named(wallet).items():
        text = text.replace(f"{{{name}}}", stands_for)
    return hashlib.sha256(text.encode()).hexdigest()


def named(wallet: Wallet) -> dict[str, str]:
    """The ids that inputs name."""
    return {**wallet.accounts, "paid": wallet.paid, "bought": wallet.bought, "held": wallet.held}


def test_every_row_has_a_use() -> None:
    """A verb that is no longer driven is no longer pinned."""
    assert set(USES) == set(ROWS)
