"""What each side of a transfer notes for itself: against a plain model, with the payment, and what is refused."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from wallet_gql.domain.annotations import (
    CATEGORY_MAX,
    PAIR_NAME_MAX,
    PAIR_VALUE_MAX,
    PAIRS_MAX,
    UNANNOTATED,
    Annotation,
    Side,
)
from wallet_gql.domain.errors import IdempotencyKeyReused, InsufficientFunds, InvalidInput, TransferNotFound
from wallet_gql.domain.ids import AccountId, TransferId
from wallet_gql.domain.model import Transfer
from wallet_gql.testing.books import scan_all
from wallet_gql.testing.harness import harness_for
from wallet_gql.testing.world import CURRENCY, Person, World
from wallet_gql.verbs.annotations import annotate, annotations_of
from wallet_gql.verbs.batches import BatchItem, BatchMode, transfer_batch
from wallet_gql.verbs.ledger import Posted, To

STEPS = 150
NOTED = Annotation("groceries", (("invoice", "42"), ("till", "3")))
TOO_MUCH = {
    "category": Annotation("x" * (CATEGORY_MAX + 1)),
    "category of two lines": Annotation("a\nb"),
    "name": Annotation("", (("x" * (PAIR_NAME_MAX + 1), ""),)),
    "no name": Annotation("", (("", "1"),)),
    "value": Annotation("", (("a", "x" * (PAIR_VALUE_MAX + 1)),)),
    "pairs": Annotation("", tuple((str(n), "") for n in range(PAIRS_MAX + 1))),
    "one name twice": Annotation("", (("a", "1"), ("a", "2"))),
}


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """An empty ledger, whose books are checked after the test."""
    async with World(harness_for(request.param), tmp_path) as made:
        yield made


async def pay(
    world: World, payer: Person, payee: Person, minor: int, noted: Annotation, *, key: str = "one"
) -> Posted[Transfer]:
    """A payment with what its payer notes."""
    return await world.ledger.transfer(
        payer.id, key, source=payer.account, to=To(payee.account), amount_minor=minor, currency=CURRENCY,
        annotation=noted,
    )  # fmt: skip


async def noted_by(world: World, account_id: AccountId, transfer_id: TransferId) -> Annotation:
    """What a side has noted."""
    (found,) = (await annotations_of(world.store, [Side(account_id, transfer_id)])).values()
    return found


async def notes(world: World) -> int:
    """How many annotations are stored."""
    return sum(getattr(item, "kind", "") == "annotation" for item in await scan_all(world.store, "record"))


async def test_each_side_has_notes_of_its_own(world: World) -> None:
    """Whatever both sides note in whatever order, each reads what it noted itself, part by part; nobody else can."""
    people = await world.people(3, 1_000)
    moved = [await world.paid(payer, payee, 1) for payer in people for payee in people if payer is not payee]
    draw, model = random.Random(7), dict[Side, Annotation]()
    for _ in range(STEPS):
        one, person = draw.choice(moved), draw.choice(people)
        category = draw.choice([None, "", "rent", "fun 🎉"])
        metadata = draw.choice([None, (), (("b", "2"), ("a", "1")), (("a", ""),)])
        if person.account not in {one.debit_account_id, one.credit_account_id}:
            with pytest.raises(TransferNotFound):
                await annotate(world.ledger, person.id, one.id, category, metadata)
            continue
        side = Side(person.account, one.id)
        assert await annotate(world.ledger, person.id, one.id, category, metadata) == (one, side)
        before = model.get(side, UNANNOTATED)
        told = before.category if category is None else category
        pairs = before.metadata if metadata is None else tuple(sorted(metadata))
        is_new = (told, pairs) != (before.category, before.metadata)
        model[side] = Annotation(told, pairs, before.version + is_new)
        assert await noted_by(world, *side) == model[side]
    sides = [Side(account, one.id) for one in moved for account in (one.debit_account_id, one.credit_account_id)]
    assert await annotations_of(world.store, sides) == {side: model.get(side, UNANNOTATED) for side in sides}


async def test_a_payment_brings_its_notes(world: World) -> None:
    """They are there with the payment, on the payer's side alone; a replay changes nothing, not even later notes."""
    ann, bob = await world.people(2, 1_000)
    first = await pay(world, ann, bob, 5, NOTED)
    moved = first.result.id
    assert await noted_by(world, ann.account, moved) == Annotation(NOTED.category, NOTED.metadata, 1)
    assert await noted_by(world, bob.account, moved) == UNANNOTATED
    await annotate(world.ledger, ann.id, moved, "other", None)
    turned = Annotation(NOTED.category, NOTED.metadata[::-1])
    for again in (NOTED, turned):  # the order of the pairs says nothing
        replayed = await pay(world, ann, bob, 5, again)
        assert (replayed.replayed, replayed.result) == (True, first.result)
    assert await noted_by(world, ann.account, moved) == Annotation("other", NOTED.metadata, 2)
    for other in (UNANNOTATED, Annotation("rent", NOTED.metadata), Annotation(NOTED.category)):
        with pytest.raises(IdempotencyKeyReused):
            await pay(world, ann, bob, 5, other)
    assert await world.balance(ann) == (995, 0)


async def test_a_refused_payment_notes_nothing(world: World) -> None:
    """Notes commit with the money or not at all: alone, in a batch, from somebody else's account."""
    ann, bob = await world.people(2, 1_000)
    with pytest.raises(InsufficientFunds):
        await pay(world, ann, bob, 1_001, NOTED, key="poor")
    item: dict[str, Any] = {"source": ann.account, "to": To(bob.account), "currency": CURRENCY, "annotation": NOTED}
    poor = [BatchItem("a", amount_minor=1, **item), BatchItem("b", amount_minor=1_001, **item)]
    foreign = BatchItem("c", amount_minor=1, **(item | {"source": bob.account, "to": To(ann.account)}))
    assert not any(
        isinstance(one, Posted) for one in await transfer_batch(world.ledger, ann.id, poor, BatchMode.ATOMIC)
    )
    await transfer_batch(world.ledger, ann.id, [foreign], BatchMode.INDEPENDENT)
    assert await notes(world) == 0
    good = [BatchItem(key, amount_minor=1, **item) for key in "de"]
    for mode in (BatchMode.ATOMIC, BatchMode.INDEPENDENT):
        for one in await transfer_batch(world.ledger, ann.id, good, mode):
            assert isinstance(one, Posted)
            assert await noted_by(world, ann.account, one.result.id) == Annotation(NOTED.category, NOTED.metadata, 1)
    assert (await notes(world), await world.balance(ann)) == (2, (998, 0))


@pytest.mark.parametrize("wrong", TOO_MUCH)
async def test_notes_have_bounds(world: World, wrong: str) -> None:
    """What is too long or too much is refused before anything moves, with the payment and later."""
    ann, bob = await world.people(2, 1_000)
    moved, noted = (await world.paid(ann, bob, 1)).id, TOO_MUCH[wrong]
    field = "category" if noted.category else "metadata"
    with pytest.raises(InvalidInput) as told:
        await pay(world, ann, bob, 5, noted)
    assert told.value.field == field
    with pytest.raises(InvalidInput) as told:
        await annotate(world.ledger, bob.id, moved, noted.category, noted.metadata)
    assert told.value.field == field
    assert (await notes(world), await world.balance(ann)) == (0, (999, 0))
    most = tuple((f"{n:0{PAIR_NAME_MAX}}", "\U0001f600" * PAIR_VALUE_MAX) for n in range(PAIRS_MAX))
    await pay(world, ann, bob, 5, Annotation("x" * CATEGORY_MAX, most))
    assert await notes(world) == 1
