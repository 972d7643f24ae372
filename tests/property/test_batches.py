"""Batches: all items or none, with only the refused item remembered; or each item by itself."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from wallet_gql.backends import open_store
from wallet_gql.books.audit import audit
from wallet_gql.domain.errors import (
    BatchAborted,
    IdempotencyKeyReused,
    InsufficientFunds,
    InvalidAmount,
    InvalidInput,
    PayeeNotFound,
    SameAccount,
)
from wallet_gql.domain.ids import OPERATOR
from wallet_gql.domain.model import Account
from wallet_gql.identity import Identity
from wallet_gql.verbs.batches import BatchItem, BatchMode, transfer_batch
from wallet_gql.verbs.ledger import Ledger, Posted, To, utc_now


@dataclass
class Bank:
    """A ledger with anna (1,000) and bert (0)."""

    ledger: Ledger
    anna: Account
    bert: Account

    def item(self, key: str, amount_minor: int, to: To | None = None) -> BatchItem:
        """Anna pays bert."""
        return BatchItem(key, self.anna.id, to or To(self.bert.id), amount_minor, "EUR")

    async def run(self, mode: BatchMode, *items: BatchItem) -> list[object]:
        """The batch's outcomes: amounts for successes, classes for errors."""
        outcomes = await transfer_batch(self.ledger, self.anna.owner, items, mode)
        return [o.result.amount_minor if isinstance(o, Posted) else type(o) for o in outcomes]

    async def balances(self) -> tuple[int, int]:
        """Posted amounts."""
        found = [await self.ledger.account(OPERATOR, account.id) for account in (self.anna, self.bert)]
        return found[0].posted_minor, found[1].posted_minor


@pytest.fixture(params=["memory://", "memory://?nodes=3"])
async def bank(request: pytest.FixtureRequest) -> AsyncIterator[Bank]:
    """One node and three."""
    async with open_store(request.param) as store:
        identity, ledger = Identity(store, clock=utc_now), Ledger(store)
        accounts = []
        for name in ("anna", "bert"):
            user = await identity.sign_up(name, f"{name}@example.org", "plain maroon bicycle")
            accounts.append(await ledger.open_account(user.id, "EUR"))
        identity.passwords.close()
        await ledger.deposit(OPERATOR, "d", accounts[0].id, 1_000, "EUR")
        yield Bank(ledger, *accounts)
        assert (await audit(store)).findings == []


async def test_atomic_items_see_one_another(bank: Bank) -> None:
    """Together they may spend what there is, and their keys replay alone or in a batch."""
    items = [bank.item("a", 600), bank.item("b", 400, To(username="bert"))]
    assert await bank.run(BatchMode.ATOMIC, *items) == [600, 400]
    again = await transfer_batch(bank.ledger, bank.anna.owner, items, BatchMode.ATOMIC)
    alone = await bank.ledger.transfer(
        bank.anna.owner, "a", source=bank.anna.id, to=To(bank.bert.id), amount_minor=600, currency="EUR"
    )

    assert all(isinstance(one, Posted) and one.replayed for one in again)
    assert alone.replayed
    assert await bank.balances() == (0, 1_000)


async def test_one_refusal_refuses_all_and_only_it_is_remembered(bank: Bank) -> None:
    """The others' keys are free for another try."""
    items = [bank.item("a", 600), bank.item("b", 401), bank.item("c", 1)]
    for _ in range(2):
        assert [BatchAborted, InsufficientFunds, BatchAborted] == await bank.run(BatchMode.ATOMIC, *items)
    await bank.ledger.deposit(OPERATOR, "more", bank.anna.id, 1_000, "EUR")

    assert [BatchAborted, InsufficientFunds, BatchAborted] == await bank.run(BatchMode.ATOMIC, *items)
    assert await bank.run(BatchMode.ATOMIC, items[0], items[2]) == [600, 1]
    assert await bank.balances() == (1_399, 601)


async def test_independent_items_fail_alone(bank: Bank) -> None:
    """Refusals, malformed amounts and reused keys are outcomes of their own item."""
    assert await bank.run(BatchMode.INDEPENDENT, bank.item("a", 500)) == [500]
    done = await bank.run(
        BatchMode.INDEPENDENT,
        bank.item("a", 499),
        bank.item("b", 501),
        bank.item("c", 0),
        bank.item("d", 1, To(username="nobody")),
        bank.item("e", 1, To(bank.anna.id)),
        bank.item("f", 500),
    )

    assert [IdempotencyKeyReused, InsufficientFunds, InvalidAmount, PayeeNotFound, SameAccount, 500] == done


async def test_malformed_batches_are_refused_whole(bank: Bank) -> None:
    """None, too many, one key twice; in an ATOMIC batch also a malformed or reused item."""
    with pytest.raises(InvalidInput):
        await bank.run(BatchMode.ATOMIC)
    with pytest.raises(InvalidInput):
        await bank.run(BatchMode.INDEPENDENT, *(bank.item(str(n), 1) for n in range(101)))
    with pytest.raises(InvalidInput, match="own"):
        await bank.run(BatchMode.INDEPENDENT, bank.item("a", 1), bank.item("a", 2))
    with pytest.raises(InvalidAmount):
        await bank.run(BatchMode.ATOMIC, bank.item("a", 1), bank.item("b", -1))
    await bank.run(BatchMode.ATOMIC, bank.item("a", 1))
    with pytest.raises(IdempotencyKeyReused):
        await bank.run(BatchMode.ATOMIC, bank.item("b", 5), bank.item("a", 2))

    assert await bank.balances() == (999, 1)


async def test_fifty_times_the_same_batch_at_once(bank: Bank) -> None:
    """One effect."""
    items = [bank.item("a", 30), bank.item("b", 70)]
    done = await asyncio.gather(*(bank.run(BatchMode.ATOMIC, *items) for _ in range(50)))

    assert done == [[30, 70]] * 50
    assert await bank.balances() == (900, 100)


# A batch is decided once


async def refused(bank: Bank) -> list[BatchItem]:
    """A batch whose second item is refused: 300 and 900 of 500."""
    await bank.ledger.withdraw(OPERATOR, "less", bank.anna.id, 500, "EUR")
    items = [bank.item("a", 300), bank.item("b", 900)]
    assert await bank.run(BatchMode.ATOMIC, *items) == [BatchAborted, InsufficientFunds]
    return items


async def alone(bank: Bank, key: str, amount_minor: int) -> object:
    """A lone transfer: its amount, or the class of its refusal."""
    return (await bank.run(BatchMode.INDEPENDENT, bank.item(key, amount_minor)))[0]


MEANWHILE: dict[str, list[tuple[str, int, object]]] = {
    "nothing": [],
    "money went": [("x", 400, 400)],
    "the aborted item was paid alone": [("a", 300, 300)],
    "the aborted item was refused alone": [("x", 400, 400), ("a", 300, InsufficientFunds)],
    "the key of the aborted item was used for something else": [("a", 7, 7)],
    "the refused item was sent alone": [("b", 900, InsufficientFunds)],
}


@pytest.mark.parametrize("name", MEANWHILE)
@pytest.mark.parametrize("richer", [False, True])
async def test_a_refused_batch_has_the_same_answer_for_ever(bank: Bank, name: str, richer: bool) -> None:
    """Whatever was done meanwhile, with the money or with the keys; and it never moves anything."""
    items = await refused(bank)
    for key, amount_minor, answer in MEANWHILE[name]:
        assert await alone(bank, key, amount_minor) == answer
    if richer:
        await bank.ledger.deposit(OPERATOR, "more", bank.anna.id, 10_000, "EUR")
    before = await bank.balances()
    for _ in range(2):
        assert await bank.run(BatchMode.ATOMIC, *items) == [BatchAborted, InsufficientFunds]
    assert await bank.balances() == before


async def test_a_batch_that_an_old_refusal_decided_stays_decided(bank: Bank) -> None:
    """The refusal was remembered by another request; an item before it that is refused later changes nothing."""
    assert await alone(bank, "b", 1_001) == InsufficientFunds
    items = [bank.item("a", 300), bank.item("b", 1_001)]
    assert await bank.run(BatchMode.ATOMIC, *items) == [BatchAborted, InsufficientFunds]
    await bank.ledger.withdraw(OPERATOR, "less", bank.anna.id, 900, "EUR")
    assert await alone(bank, "a", 300) == InsufficientFunds

    assert await bank.run(BatchMode.ATOMIC, *items) == [BatchAborted, InsufficientFunds]


async def test_an_item_that_is_refused_already_costs_no_other_its_key(bank: Bank) -> None:
    """All keys are looked at before any item is tried."""
    items = await refused(bank)
    await bank.ledger.withdraw(OPERATOR, "all", bank.anna.id, 500, "EUR")
    assert await bank.run(BatchMode.ATOMIC, items[0], bank.item("c", 1), items[1]) == [
        BatchAborted,
        BatchAborted,
        InsufficientFunds,
    ]
    await bank.ledger.deposit(OPERATOR, "more", bank.anna.id, 1_000, "EUR")

    assert await bank.run(BatchMode.ATOMIC, items[0], bank.item("c", 1)) == [300, 1]


async def test_the_same_items_in_another_order_are_another_batch(bank: Bank) -> None:
    """It is refused by the same item, at its new place; without that item it is a batch that can move."""
    items = await refused(bank)
    assert await bank.run(BatchMode.ATOMIC, *reversed(items)) == [InsufficientFunds, BatchAborted]
    assert await bank.run(BatchMode.ATOMIC, items[0]) == [300]
    assert await bank.run(BatchMode.ATOMIC, *items) == [BatchAborted, InsufficientFunds]
    assert await bank.run(BatchMode.ATOMIC, *reversed(items)) == [InsufficientFunds, BatchAborted]
    assert (await bank.balances())[1] == 300


async def test_a_batch_that_moved_has_the_same_answer_for_ever(bank: Bank) -> None:
    """Also item by item, and in another order."""
    items = [bank.item("a", 300), bank.item("b", 200)]
    assert await bank.run(BatchMode.ATOMIC, *items) == [300, 200]
    await bank.ledger.withdraw(OPERATOR, "all", bank.anna.id, 500, "EUR")

    assert await bank.run(BatchMode.ATOMIC, *items) == [300, 200]
    assert await bank.run(BatchMode.ATOMIC, *reversed(items)) == [200, 300]
    assert await alone(bank, "a", 300) == 300
    assert await bank.balances() == (0, 500)


async def test_fifty_times_a_refused_batch_at_once(bank: Bank) -> None:
    """Beside lone transfers with its keys: one answer for all, and each key pays at most once."""
    await bank.ledger.withdraw(OPERATOR, "less", bank.anna.id, 500, "EUR")
    items = [bank.item("a", 300), bank.item("b", 900)]
    batches = [bank.run(BatchMode.ATOMIC, *items) for _ in range(50)]
    done = await asyncio.gather(*batches, *(alone(bank, "a", 300) for _ in range(50)))

    assert done[:50] == [[BatchAborted, InsufficientFunds]] * 50
    assert done[50:] == [300] * 50
    assert await bank.balances() == (200, 300)


async def test_a_malformed_item_is_named(bank: Bank) -> None:
    """By its place; no key is used up."""
    with pytest.raises(InvalidInput) as error:
        await bank.run(BatchMode.ATOMIC, bank.item("a", 1), BatchItem("b", bank.anna.id, To(bank.bert.id), 1, "XXX"))
    assert error.value.fields["field"] == "items.1.currency"
    assert await bank.run(BatchMode.ATOMIC, bank.item("a", 1)) == [1]
