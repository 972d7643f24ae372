"""Objects, not ids: what belongs to a transfer or a hold is a field of it, as each of its parties may see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from graphql import GraphQLInterfaceType, GraphQLObjectType

from tests.integration._graphql import SCHEMA, ask, wallet_in
from tests.integration._server import Person, new_key, settle
from wallet_gql.domain.errors import PayeeCannotReceive
from wallet_gql.domain.ids import OPERATOR, AccountId, HoldId, TransferId, UserId
from wallet_gql.domain.model import AccountStatus
from wallet_gql.runtime import Wallet
from wallet_gql.transports.rest.views import View
from wallet_gql.verbs.ledger import To
from wallet_gql.verbs.lookups import header_of, hold_of
from wallet_gql.verbs.merchants import Split

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOP: Final = "The Shop"

TRANSFER: Final = """fragment T on Transfer { id kind direction amount { minorUnits } reversible { minorUnits }
  account { id } counterparty { kind name username } reverses { id } hold { id direction } topUp { id }
  withdrawal { id } merchant { username name } }"""
HISTORY: Final = (
    "query($id: ID!) { account(id: $id) { history(first: 100) { edges { cursor node { id sequence createdAt "
    "amount { minorUnits } balanceAfter { minorUnits } transfer { ...T } } } } } } " + TRANSFER
)
BY_ID: Final = "query($id: ID!) { transfer(id: $id) { ...T } } " + TRANSFER
NODE: Final = "query($id: ID!) { node(id: $id) { id } }"
BACK: Final = """mutation($input: ReverseTransferInput!) { reverseTransfer(input: $input) { __typename
  ... on ReverseTransferSuccess { transfer { amount { minorUnits } } } ... on WalletError { code } } }"""
HOLD: Final = """query($id: ID!) { hold(id: $id) { direction account { id } payer { kind name username }
  payee { kind name username } counterparty { name } transfer { id direction } } }"""


async def test_no_object_has_an_id_where_there_could_be_the_object() -> None:
    """Nothing of the schema but an error, which repeats what was sent, names an object of the schema by its id."""
    named = {
        f"{kind.name}.{name}"
        for kind in SCHEMA.type_map.values()
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType) and "WalletError" not in
        {kind.name, *(one.name for one in kind.interfaces)}
        for name, field in kind.fields.items()
        if str(field.type).startswith("ID") and name != "id"
    }  # fmt: skip
    assert named == {"SecurityEvent.subject"}  # no object of the schema; a session, perhaps ended


@dataclass(frozen=True)
class Street:
    """A shop, its customer, and somebody who shares in its payments, with a transfer of every kind between them."""

    wallet: Wallet
    people: dict[str, Person]
    holds: dict[str, str]

    async def history(self, name: str) -> list[dict[str, Any]]:
        """The entries of somebody, newest first."""
        person = self.people[name]
        found = await ask(self.wallet, person.token, HISTORY, {"id": person.account_id})
        return [edge["node"] for edge in found["history"]["edges"]]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def street(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Street]:
    """One wallet for all tests that only read."""
    async with wallet_in(tmp_path_factory.mktemp("street")) as wallet:
        yield await furnish(wallet)


async def furnish(wallet: Wallet) -> Street:
    """Make the people, and let them deal."""
    people = {name: await settle(wallet, 10_000) for name in ("ann", "bob", "shop")}
    ann, bob, shop = people.values()
    await wallet.merchants.register(UserId(shop.id), SHOP)
    paying: dict[str, Any] = {"source": AccountId(ann.account_id), "currency": "EUR"}
    ledger, user = wallet.ledger, UserId(ann.id)
    await ledger.transfer(user, new_key(), to=To(username=bob.username), amount_minor=700, **paying)
    splits = [Split(To(username=bob.username), 2_000)]
    bill = {**paying, "merchant": shop.username}
    paid = await wallet.merchants.pay(user, new_key(), amount_minor=1_000, splits=splits, **bill)
    assert paid.splits
    await ledger.reverse_transfer(UserId(bob.id), new_key(), paid.splits[0].id, amount_minor=50)
    await wallet.merchants.refund(UserId(shop.id), new_key(), paid.payment.result.id, amount_minor=300)
    holds = {
        "shop": (await wallet.merchants.hold(user, new_key(), amount_minor=400, **bill)).result.id,
        "bob": (
            await ledger.place_hold(user, new_key(), to=To(username=bob.username), amount_minor=90, **paying)
        ).result.id,
    }
    for payee, hold_id in holds.items():
        await ledger.capture_hold(people[payee].id, new_key(), HoldId(hold_id))
    return Street(wallet, people, {payee: str(hold_id) for payee, hold_id in holds.items()})


PEOPLE: Final = ("ann", "bob", "shop")
NAMED: Final = {"ann": ("USER", None), "bob": ("USER", None), "shop": ("MERCHANT", SHOP)}


@pytest.mark.parametrize("name", PEOPLE)
async def test_each_party_sees_a_transfer_from_its_own_side(street: Street, name: str) -> None:
    """Direction and account are the viewer's, by history and by a deep link alike; the other side is whose it says."""
    person, others = street.people[name], {p.username: n for n, p in street.people.items() if n != name}
    entries = await street.history(name)
    assert len(entries) >= 5
    for entry in entries:
        seen = entry["transfer"]
        assert seen["direction"] == ("OUT" if int(entry["amount"]["minorUnits"]) < 0 else "IN")
        assert seen["account"] == {"id": person.account_id}
        party = seen["counterparty"]
        if seen["kind"] == "DEPOSIT":
            assert party == {"kind": "WALLET", "name": "system", "username": None}
        else:
            kind, shown = NAMED[others[party["username"]]]
            assert (party["kind"], party["name"]) == (kind, shown or party["username"])
        assert await ask(street.wallet, person.token, BY_ID, {"id": seen["id"]}) == seen


@pytest.mark.parametrize("name", PEOPLE)
async def test_links_lead_only_to_what_the_viewer_may_see(street: Street, name: str) -> None:
    """Whatever a transfer leads to is found by its id, too; a kind that has something to lead to leads there."""
    person, led = street.people[name], set()
    for entry in await street.history(name):
        seen = entry["transfer"]
        for link in ("account", "reverses", "hold"):
            if seen[link] is not None:
                led.add((seen["kind"], link))
                assert await ask(street.wallet, person.token, NODE, {"id": seen[link]["id"]}) == {
                    "id": seen[link]["id"]
                }
        if seen["hold"]:
            assert (seen["kind"], seen["hold"]["direction"]) == ("CAPTURE", seen["direction"])
        assert (seen["topUp"], seen["withdrawal"]) == (None, None)
    is_shop = {"username": street.people["shop"].username, "name": SHOP}
    merchants = [
        (entry["transfer"]["kind"], entry["transfer"]["merchant"])
        for entry in await street.history(name)
        if entry["transfer"]["merchant"]
    ]
    assert all(merchant == is_shop for _, merchant in merchants)
    expected = {
        "ann": ({("CAPTURE", "hold"), ("REVERSAL", "reverses")}, ["CAPTURE", "PAYMENT", "SPLIT"]),
        "bob": ({("CAPTURE", "hold"), ("REVERSAL", "reverses")}, ["SPLIT"]),
        "shop": ({("CAPTURE", "hold"), ("REVERSAL", "reverses")}, ["CAPTURE", "PAYMENT"]),
    }[name]
    assert ({each for each in led if each[1] != "account"}, sorted(kind for kind, _ in merchants)) == expected


async def test_a_split_that_came_back_is_no_link_for_the_merchant(street: Street) -> None:
    """The merchant gets a split back that it was no party to: what it reverses stays hidden, by id as well."""
    shop = street.people["shop"]
    backs = [one["transfer"] for one in await street.history("shop") if one["transfer"]["kind"] == "REVERSAL"]
    (back,) = [one for one in backs if one["direction"] == "IN"]
    header = await header_of(street.wallet.store, TransferId(back["id"]))
    assert header is not None
    assert header.reverses is not None
    assert back["reverses"] is None
    assert await ask(street.wallet, shop.token, NODE, {"id": header.reverses}) is None


async def test_what_came_back_to_a_new_account_shows_what_it_reverses(tmp_path: Path) -> None:
    """The payer has closed the account that paid; the transfer from it is still the payer's own."""
    async with wallet_in(tmp_path) as wallet:
        ann, bob = await settle(wallet, 500), await settle(wallet, 0)
        user, ledger, to = UserId(ann.id), wallet.ledger, To(username=bob.username)
        paid = await ledger.transfer(
            user, new_key(), source=AccountId(ann.account_id), to=to, amount_minor=500, currency="EUR"
        )
        await ledger.set_account_status(user, AccountId(ann.account_id), AccountStatus.CLOSED)
        await ledger.open_account(user, "EUR")
        back = await ledger.reverse_transfer(UserId(bob.id), new_key(), paid.result.id)
        for person, direction in ((ann, "IN"), (bob, "OUT")):
            seen = await ask(wallet, person.token, BY_ID, {"id": back.result.id})
            assert (seen["direction"], seen["reverses"]) == (direction, {"id": paid.result.id})


async def test_both_parties_of_a_hold(street: Street) -> None:
    """Payer and payee see the same two parties, each its own account and direction."""
    for payee, hold_id in street.holds.items():
        seen = {
            name: await ask(street.wallet, street.people[name].token, HOLD, {"id": hold_id})
            for name in ("ann", payee)
        }  # fmt: skip
        ann, other = street.people["ann"], street.people[payee]
        kind, shown = NAMED[payee]
        for name, hold in seen.items():
            assert hold["payer"] == {"kind": "USER", "name": ann.username, "username": ann.username}
            assert hold["payee"] == {"kind": kind, "name": shown or other.username, "username": other.username}
            assert hold["direction"] == hold["transfer"]["direction"] == ("OUT" if name == "ann" else "IN")
            assert hold["account"] == {"id": street.people[name].account_id}
            assert hold["counterparty"]["name"] == hold["payee" if name == "ann" else "payer"]["name"]


@pytest.mark.parametrize("name", PEOPLE)
async def test_rest_says_the_same(street: Street, name: str) -> None:
    """Direction, account and counterparty of every transfer and hold are GraphQL's, in REST's letters."""
    wallet, person = street.wallet, street.people[name]
    for entry in await street.history(name):
        seen = entry["transfer"]
        header = await header_of(wallet.store, TransferId(seen["id"]))
        assert header is not None
        told = (await View.of(wallet, UserId(person.id), [header])).transfer(header)
        assert told.counterparty is not None
        assert (told.direction.name, told.account_id) == (seen["direction"], seen["account"]["id"])
        party = told.counterparty
        assert {"kind": party.kind.name, "name": party.name, "username": party.username} == seen["counterparty"]
    for hold_id in street.holds.values():
        hold = await hold_of(wallet.store, HoldId(hold_id))
        asked = await ask(wallet, person.token, HOLD, {"id": hold_id})
        if hold is not None and asked is not None:
            view = (await View.of(wallet, UserId(person.id), [hold])).hold(hold)
            assert view.payer
            assert view.payee
            assert view.direction.name == asked["direction"]
            assert (view.payer.name, view.payee.name) == (asked["payer"]["name"], asked["payee"]["name"])


async def test_reversible_is_what_can_be_sent_back(tmp_path: Path) -> None:
    """Of every transfer, for each party: all that is said to be left is sent back, and then nothing is left."""
    async with wallet_in(tmp_path) as wallet:
        street = await furnish(wallet)
        tried = set()
        for name in PEOPLE:
            person = street.people[name]
            for entry in await street.history(name):
                seen = entry["transfer"]
                left = await ask(wallet, person.token, BY_ID, {"id": seen["id"]})
                given = {"idempotencyKey": new_key(), "transferId": seen["id"]}
                answer = await ask(wallet, person.token, BACK, {"input": given})
                if left["reversible"]["minorUnits"] == "0":
                    assert answer["__typename"] != "ReverseTransferSuccess", seen
                else:
                    assert answer["transfer"]["amount"] == left["reversible"]
                    tried.add(seen["kind"])
                again = await ask(wallet, person.token, BY_ID, {"id": seen["id"]})
                assert again["reversible"] == {"minorUnits": "0"}
        assert tried == {"TRANSFER", "CAPTURE", "PAYMENT", "SPLIT"}


# ---------------------------------------------------------------- the new entries in answers

EDGES: Final = """entryEdges { cursor node { id sequence createdAt amount { minorUnits } balanceAfter { minorUnits }
  transfer { id } } }"""


def with_edges() -> list[str]:
    """Every success type that tells the new entries."""
    return sorted(
        kind.name
        for kind in SCHEMA.type_map.values()
        if isinstance(kind, GraphQLObjectType) and "entryEdges" in kind.fields
    )


async def test_payments_answer_with_the_new_entries(tmp_path: Path) -> None:
    """What every payment answers is the head of the history: all of it, in its order, also on a replay."""
    async with wallet_in(tmp_path) as wallet:
        people = [await settle(wallet, 10_000) for _ in range(3)]
        ann, bob, shop = people
        await wallet.merchants.register(UserId(shop.id), SHOP)
        seen = set()

        async def check(who: Person, verb: str, entries: int, **given: Any) -> Any:
            name = f"{verb[0].upper()}{verb[1:]}"
            inner = f"results {{ ... on TransferSuccess {{ {EDGES} }} }}" if verb == "transferBatch" else EDGES
            more = {"transfer": "transfer { id }", "payMerchant": "payment { id } hold { id }"}.get(verb, "")
            query = f"""mutation($input: {name}Input!) {{ {verb}(input: $input) {{ __typename
              ... on {name}Success {{ {inner} {more} }} }} }}"""
            answers = [await ask(wallet, who.token, query, {"input": given}) for _ in range(2)]
            asked = await ask(wallet, who.token, HISTORY, {"id": who.account_id})
            head = asked["history"]["edges"][:entries]
            for edge in head:
                edge["node"]["transfer"] = {"id": edge["node"]["transfer"]["id"]}
            for answer in answers:
                assert answer["__typename"] == f"{name}Success", answer
                parts = answer.get("results", [answer])
                told = [edge for part in parts for edge in part["entryEdges"]]
                assert sorted(told, key=str) == sorted(head, key=str)
                if len(parts) == 1:
                    assert told == head
            seen.add("TransferSuccess" if verb == "transferBatch" else f"{name}Success")
            return answers[0]

        money = {"minorUnits": 500, "currency": "EUR"}
        pay = {"fromAccountId": ann.account_id, "amount": money}
        to_bob = {**pay, "to": {"username": bob.username}}
        moved = await check(ann, "transfer", 1, idempotencyKey=new_key(), **to_bob)
        items = [{"idempotencyKey": new_key(), **to_bob} for _ in range(3)]
        await check(ann, "transferBatch", 3, mode="ATOMIC", items=items)
        await check(bob, "reverseTransfer", 1, idempotencyKey=new_key(), transferId=moved["transfer"]["id"])
        bill = {**pay, "merchant": shop.username, "splits": [{"to": {"username": bob.username}, "basisPoints": 100}]}
        paid = await check(ann, "payMerchant", 2, idempotencyKey=new_key(), **bill)
        await check(shop, "refundPayment", 1, idempotencyKey=new_key(), paymentId=paid["payment"]["id"])
        held = {**bill, "splits": None, "hold": {"expiresInSeconds": 60}}
        hold = (await check(ann, "payMerchant", 0, idempotencyKey=new_key(), **held))["hold"]
        await check(shop, "captureHold", 1, idempotencyKey=new_key(), holdId=hold["id"])
        assert seen == set(with_edges())
        histories = [await ask(wallet, one.token, HISTORY, {"id": one.account_id}) for one in people]
        ids = [edge["node"]["id"] for found in histories for edge in found["history"]["edges"]]
        assert len(set(ids)) == len(ids)


# ---------------------------------------------------------------- before paying

PAYEE: Final = "query($name: String!) { payee(username: $name) { kind name username currencies } }"


async def test_a_payee_is_whom_a_payment_would_pay(tmp_path: Path) -> None:
    """By any spelling: name, kind, and exactly the currencies in which a payment arrives; nobody is null."""
    async with wallet_in(tmp_path) as wallet:
        ann, bob, shop = [await settle(wallet, 10_000) for _ in range(3)]
        await wallet.merchants.register(UserId(shop.id), SHOP)
        opened = {code: await wallet.ledger.open_account(UserId(bob.id), code) for code in ("USD", "JPY", "GBP")}
        await wallet.ledger.set_account_status(bob.id, opened["USD"].id, AccountStatus.CLOSED)
        await wallet.ledger.set_account_status(OPERATOR, opened["GBP"].id, AccountStatus.FROZEN)
        seen = await ask(wallet, ann.token, PAYEE, {"name": bob.username.upper()})
        assert (seen["kind"], seen["name"], seen["username"]) == ("USER", bob.username, bob.username)
        paid = []
        for code in ("EUR", "USD", "JPY", "GBP", "CHF"):
            source = AccountId(ann.account_id)
            if code != "EUR":
                source = (await wallet.ledger.open_account(UserId(ann.id), code)).id
                await wallet.ledger.deposit(OPERATOR, new_key(), source, 100, code)
            pay: dict[str, Any] = {
                "source": source,
                "to": To(username=bob.username),
                "amount_minor": 1,
                "currency": code,
            }
            try:
                await wallet.ledger.transfer(UserId(ann.id), new_key(), **pay)
            except PayeeCannotReceive:
                continue
            paid.append(code)
        assert seen["currencies"] == sorted(paid) == ["EUR", "GBP", "JPY"]
        merchant = await ask(wallet, ann.token, PAYEE, {"name": shop.username})
        assert merchant == {"kind": "MERCHANT", "name": SHOP, "username": shop.username, "currencies": ["EUR"]}
        for nobody in ("nobody-of-that-name", "", f"{bob.username}@example.org"):
            assert await ask(wallet, ann.token, PAYEE, {"name": nobody}) is None
