"""A closed account stands in nobody's way: its owner opens another in the same currency, which then does everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.property._money_verbs import EUR, ROWS, Row, Town, open_town
from wallet_gql.backends.memory import MemoryStore
from wallet_gql.books.audit import audit
from wallet_gql.books.exchange import export_lines, import_lines
from wallet_gql.domain.errors import AccountExists, AccountFrozen, InvariantViolated, LimitExceeded, PayeeCannotReceive
from wallet_gql.domain.ids import OPERATOR
from wallet_gql.domain.model import Account, AccountStatus
from wallet_gql.domain.rules.accounts import CLOSED_ACCOUNTS_MAX
from wallet_gql.integrations.webhooks.deliveries import Webhooks
from wallet_gql.integrations.webhooks.events import Event
from wallet_gql.testing.books import scan_all
from wallet_gql.verbs.lookups import To
from wallet_gql.verbs.merchants import Split
from wallet_gql.verbs.transfers import ReverseVerb


@pytest.fixture(params=[(1, 1), (1, 2), (3, 3)], ids=["once", "twice", "thrice on three nodes"])
async def town(request: pytest.FixtureRequest) -> AsyncIterator[Town]:
    """Everybody here has closed an account and opened another, so and so often."""
    async with open_town(*request.param) as made:
        yield made


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
async def test_c3_the_new_account_does_everything(town: Town, row: Row) -> None:
    """Each money verb succeeds on the new accounts, found by id and by name, and moves nothing on the closed ones."""
    await row.allow(town)
    await row.call(town, "the-key", "")
    for account_id in town.closed:
        closed = await town.ledger.account(OPERATOR, account_id)
        assert (closed.status, closed.sequence, closed.held_minor) == (AccountStatus.CLOSED, 0, 0)


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("row", [row for row in ROWS if issubclass(row.verb, ReverseVerb)], ids=lambda row: row.name)
async def test_c3_what_is_sent_back_reaches_the_new_account(row: Row, nodes: int) -> None:
    """While the payer has closed the account it is refused; when they have opened another it arrives there."""
    async with open_town(nodes) as town:
        for hold in town.held:
            await town.ledger.void_hold(town.users["bob"], town.fresh(), hold)
        await town.drain("ann")
        await town.ledger.set_account_status(town.users["ann"], town.accounts["ann"], AccountStatus.CLOSED)
        with pytest.raises(PayeeCannotReceive):
            await row.call(town, "too-early", "")
        town.accounts["ann"] = (await town.ledger.open_account(town.users["ann"], EUR)).id
        done = await row.call(town, "in-time", "")
        assert await town.available("ann") > 0
        again = await row.call(town, "in-time", "")
        assert (again.replayed, again.result.id) == (True, done.result.id)


async def test_c3_a_share_is_returned_to_the_merchants_new_account() -> None:
    """The payee of a split returns it to the merchant, not to the payer."""
    async with open_town(3) as town:
        ann, bob, shop = (town.users[name] for name in ("ann", "bob", "shop"))
        money: dict[str, Any] = {
            "source": town.accounts["ann"],
            "merchant": "shop",
            "amount_minor": 1_000,
            "currency": EUR,
        }
        paid = await town.merchants.pay(ann, "shared", splits=[Split(To(username="bob"), 2_500)], **money)
        assert paid.splits
        await town.drain("shop")
        await town.reopen("shop")
        await town.ledger.reverse_transfer(bob, "returned", paid.splits[0].id)
        assert await town.available("shop") == 250
        assert town.accounts["shop"] in {account.id for account in await town.ledger.accounts(shop)}


@pytest.mark.parametrize("currency", ["EUR", "JPY", "KWD", "XCG"])
async def test_c3_the_refusal_names_the_state(town: Town, currency: str) -> None:
    """An account in use is in the way, open or frozen, and the refusal says which of the two it is."""
    ann = town.users["ann"]
    if currency != EUR:
        town.accounts["ann"] = (await town.ledger.open_account(ann, currency)).id
    for status in (AccountStatus.OPEN, AccountStatus.FROZEN):
        await town.freeze("ann", status)
        with pytest.raises(AccountExists, match=f"which is {status}") as caught:
            await town.ledger.open_account(ann, currency)
        assert caught.value.fields == {
            "account_id": town.accounts["ann"],
            "currency": currency,
            "account_state": status.value,
        }


async def test_a_freeze_is_not_evaded(town: Town) -> None:
    """The owner of a frozen account cannot close it and open another; an operator can close it."""
    await town.drain("bob")
    await town.freeze("bob")
    with pytest.raises(AccountFrozen):
        await town.ledger.set_account_status(town.users["bob"], town.accounts["bob"], AccountStatus.CLOSED)
    await town.ledger.set_account_status(OPERATOR, town.accounts["bob"], AccountStatus.CLOSED)
    assert (await town.ledger.open_account(town.users["bob"], EUR)).id != town.accounts["bob"]


async def test_c3_a_merchant_is_told_of_the_new_account() -> None:
    """Webhook events go on with the new account, from its first entry."""
    told: list[Event] = []

    async def send(url: str, event: Event, secrets: Sequence[str], turn: int) -> int:
        del url, secrets, turn
        told.append(event)
        return 200

    async with open_town(1) as town:
        ann, shop = town.users["ann"], town.users["shop"]
        await town.merchants.update(shop, webhook_url="https://shop.example/hook")
        await town.drain("shop")
        await town.reopen("shop")
        await town.merchants.pay(
            ann, "again", source=town.accounts["ann"], merchant="shop", amount_minor=70, currency=EUR
        )
        await Webhooks(town.store, send, clock=town.clock).tell(shop)
        assert [event.sequence for event in told if event.account_id == town.accounts["shop"]] == [1]
        assert {event.account_id for event in told} == {*town.closed, town.accounts["shop"]}


async def test_it_has_an_end(town: Town) -> None:
    """What payers by name have to read is bounded: so many accounts are closed, in all currencies, and no more."""
    bob = town.users["bob"]
    await town.drain("bob")
    done = len([account for account in await town.ledger.accounts(bob) if account.is_closed])
    for number in range(done, CLOSED_ACCOUNTS_MAX):
        account = await town.ledger.open_account(bob, ("USD", "SEK")[number % 2])
        await town.ledger.set_account_status(bob, account.id, AccountStatus.CLOSED)
    with pytest.raises(LimitExceeded):
        await town.ledger.open_account(bob, "USD")


async def test_an_export_keeps_both(town: Town) -> None:
    """An export with closed accounts and their successors is imported; two accounts in use are refused, and audited."""
    lines = [line async for line in export_lines(town.store)]
    async with MemoryStore("memory://?nodes=3") as other:
        await import_lines(other, lambda: lines)
        accounts = {one.id: one for one in await scan_all(other, "account") if isinstance(one, Account)}
        assert {one.id for one in accounts.values() if one.is_closed} == set(town.closed)
        assert (await audit(other)).findings == []

    account = await town.ledger.account(OPERATOR, town.accounts["ann"])
    twin = Account(town.closed[0], account.owner, EUR, account.created_at, account.changed_at)
    async with MemoryStore() as wrong:
        with pytest.raises(InvariantViolated):
            await wrong.load_raw([account, twin])
