"""How often a page asks the store: the number does not grow with the page, whatever belongs to its entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.integration._graphql import ask
from tests.integration._server import Person, new_key, settle
from wallet_gql.backends.kit.store import GroupStore
from wallet_gql.domain.ids import AccountId, HoldId, UserId
from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.verbs.ledger import To
from wallet_gql.verbs.merchants import Split

EVERYTHING: Final = """id kind direction reversible { minorUnits } account { id } counterparty { kind name }
  reverses { id counterparty { name } reverses { id } } hold { id payer { name } payee { name } transfer { id } }
  topUp { id } withdrawal { id } merchant { username name }"""
ACCOUNT: Final = "query($n: Int!, $id: ID!) { account(id: $id) { history(first: $n) { nodes { transfer { %s } } } } }"
ALL: Final = "query($n: Int!) { viewer { history(first: $n) { nodes { transfer { %s } } } } }"
HOLDS: Final = """query($n: Int!) { viewer { holds(first: $n) { nodes { id account { id } payer { name } payee { name }
  counterparty { name } transfer { id counterparty { name } } } } } }"""
ROUNDS: Final = 8


@dataclass
class Trips:
    """Counts what goes to the store."""

    store: GroupStore
    lists: int = 0

    def so_far(self) -> int:
        """Groups of reads, pages, commits, and lists."""
        groups = (self.store.fetches, self.store.pages, self.store.groups)
        return self.lists + sum(each.counters.batches for each in groups)


async def furnish(wallet: Wallet) -> Person:
    """A merchant with something of every kind, many times over."""
    shop, payer, partner = [await settle(wallet, 100_000) for _ in range(3)]
    await wallet.merchants.register(UserId(shop.id), "The Shop")
    paying: dict[str, Any] = {"source": AccountId(payer.account_id), "currency": "EUR"}
    for _ in range(ROUNDS):
        splits = [Split(To(username=partner.username), 2_000)]
        bill = {**paying, "merchant": shop.username}
        paid = await wallet.merchants.pay(UserId(payer.id), new_key(), amount_minor=100, splits=splits, **bill)
        await wallet.merchants.refund(UserId(shop.id), new_key(), paid.payment.result.id, amount_minor=30)
        to = To(username=shop.username)
        moved = await wallet.ledger.transfer(UserId(payer.id), new_key(), to=to, amount_minor=7, **paying)
        await wallet.ledger.reverse_transfer(UserId(shop.id), new_key(), moved.result.id, amount_minor=1)
        held = await wallet.merchants.hold(UserId(payer.id), new_key(), amount_minor=9, **bill)
        await wallet.ledger.capture_hold(shop.id, new_key(), HoldId(held.result.id))
    return shop


async def trips_of(wallet: Wallet, person: Person, query: str, first: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often a query asks the store."""
    assert isinstance(wallet.store, GroupStore)
    trips, listed = Trips(wallet.store), wallet.store.list_records

    async def listing(*values: Any, **options: Any) -> Any:
        trips.lists += 1
        return await listed(*values, **options)

    with monkeypatch.context() as patch:
        patch.setattr(wallet.store, "list_records", listing)
        before = trips.so_far()
        await ask(wallet, person.token, query, {"n": first, "id": person.account_id})
        return trips.so_far() - before


async def test_a_longer_page_asks_no_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five entries or forty: a dozen round trips, because what entries lead to is read in groups."""
    async with open_wallet(load_settings(storage="memory://", mode="test"), sweeps=False) as wallet:
        shop = await furnish(wallet)
        for query in (ACCOUNT % EVERYTHING, ALL % EVERYTHING, HOLDS):
            short = await trips_of(wallet, shop, query, 5, monkeypatch)
            long = await trips_of(wallet, shop, query, 5 * ROUNDS, monkeypatch)
            assert long <= short + 3, query
            assert long <= 24, query
