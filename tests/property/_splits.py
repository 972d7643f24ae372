"""Commands that pay people of several nodes, and that are repeated, in whole or in part."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from wallet_gql.domain.model import Record, Transfer
from wallet_gql.domain.users import username_claim
from wallet_gql.testing.world import CURRENCY, Person, World
from wallet_gql.verbs.batches import BatchItem, BatchMode, transfer_batch
from wallet_gql.verbs.keyed import Posted
from wallet_gql.verbs.ledger import To
from wallet_gql.verbs.merchants import Merchants, Split

SHOP = "shop"


async def split_payment(
    world: World, payer: Person, shop: Person, other: Person
) -> Callable[[], Awaitable[Posted[Transfer]]]:
    """Pay the shop, with a split for the other. Returns the same command, whose look-ups do not find the shop now."""
    merchants = Merchants(world.ledger)
    claim = username_claim(SHOP)
    record = Record(claim.kind, claim.id, claim.slot, shop.id, 1, {"user": shop.id, "confirmed": True})
    await world.put(record)
    await merchants.register(shop.id, "The Shop")

    async def pay() -> Posted[Transfer]:
        given: dict[str, Any] = {"source": payer.account, "merchant": SHOP, "amount_minor": 100, "currency": CURRENCY}
        shared = [Split(To(other.account), 5_000)]
        return (await merchants.pay(payer.id, "split", splits=shared, **given)).payment

    first = await pay()
    assert not first.credited
    await world.put(replace(record, body={"user": shop.id, "confirmed": False}))
    return pay


async def batch_again(world: World, payer: Person, payees: dict[str, Person]) -> list[tuple[bool, bool]]:
    """Pay 10 to each payee by its key, all in one command. Returns what each answer says: (replayed, credited)."""
    items = [BatchItem(key, payer.account, To(payee.account), 10, CURRENCY) for key, payee in payees.items()]
    outcomes = await transfer_batch(world.ledger, payer.id, items, BatchMode.ATOMIC)
    return [(one.replayed, one.credited) for one in outcomes if isinstance(one, Posted)]
