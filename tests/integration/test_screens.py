"""The nine screens of a wallet: each takes one round trip of at most a tenth of what an operation may cost.

Their documents are those of the TypeScript client, which the page at `/` uses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio
from graphql import parse, print_ast, separate_operations
from starlette.responses import Response

from tests.integration._clients import ROOT
from tests.integration._graphql import wallet_in
from tests.integration._server import Person, new_key, settle
from tests.integration._stripe import settings_of
from wallet_gql.domain.ids import AccountId, UserId
from wallet_gql.runtime import Wallet
from wallet_gql.testing.stripe_fake import FakeStripe
from wallet_gql.transports.graphql.context import Context
from wallet_gql.transports.graphql.cost import COST_MAX
from wallet_gql.transports.graphql.schema import schema
from wallet_gql.transports.http.auth import Caller

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOURCE: Final = (ROOT / "clients" / "typescript" / "src" / "documents.graphql").read_text()
DOCUMENTS: Final = {name: print_ast(one) for name, one in separate_operations(parse(SOURCE)).items()}
SPAN: Final = {"since": "2001-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z"}
SCREENS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "home": ("Home", {"entries": 5}),
    "history": ("History", {"first": 25}),
    "detail": ("Transfer", {}),
    "pay": ("Preview", {}),
    "receive": ("Home", {"entries": 1}),
    "holds": ("Holds", {"first": 25}),
    "sales": ("Sales", {**SPAN, "first": 25, "withSummary": False}),
    "top-up": ("Funds", {"first": 25}),
    "security": ("Security", {"first": 20}),
}
"""Each screen's document and variables. Ids, and what is paid, are those of the test."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Wallet, Person, dict[str, Any]]]:
    """A wallet, a merchant with accounts in three currencies and a sale, and what the screens are asked for."""
    with FakeStripe() as fake:
        async with wallet_in(tmp_path_factory.mktemp("screens"), **settings_of(fake)) as wallet:
            shop, payer = await settle(wallet, 1_000), await settle(wallet, 1_000)
            await wallet.merchants.register(UserId(shop.id), "The Shop")
            for currency in ("USD", "JPY"):
                await wallet.ledger.open_account(UserId(shop.id), currency)
            paid = await wallet.merchants.pay(
                UserId(payer.id), new_key(), source=AccountId(payer.account_id), merchant=shop.username,
                amount_minor=5, currency="EUR",
            )  # fmt: skip
            amount = {"minorUnits": 5, "currency": "EUR"}
            asked = {"fromAccountId": shop.account_id, "to": {"username": payer.username}, "amount": amount}
            yield wallet, shop, {"id": paid.payment.result.id, "account": shop.account_id, "input": asked}


async def asked_for(town: tuple[Wallet, Person, dict[str, Any]], name: str, variables: dict[str, Any]) -> int:
    """What a document costs; it must be answered without an error."""
    wallet, person, ids = town
    context = Context(wallet, Caller(wallet.identity, person.token), Response())
    result = await schema.execute(DOCUMENTS[name], variable_values=ids | variables, context_value=context)
    assert result.errors is None, result.errors
    assert result.data
    assert all(result.data.values()), result.data
    assert context.cost.requested is not None
    return context.cost.requested


@pytest.mark.parametrize("screen", SCREENS)
async def test_a_screen_is_one_cheap_round_trip(town: tuple[Wallet, Person, dict[str, Any]], screen: str) -> None:
    """One document has all of it, for at most a tenth of the maximum."""
    name, variables = SCREENS[screen]
    assert 0 < await asked_for(town, name, variables) <= COST_MAX // 10


async def test_the_sum_of_a_month_is_a_fifth(town: tuple[Wallet, Person, dict[str, Any]]) -> None:
    """The first page of the sales also adds up the month: its entries, 5,000 at most, are read for that."""
    cost = await asked_for(town, "Sales", {**SCREENS["sales"][1], "withSummary": True})
    assert COST_MAX // 10 < cost <= COST_MAX // 5


async def test_topping_up_is_one_more(town: tuple[Wallet, Person, dict[str, Any]]) -> None:
    """The decision itself is one round trip."""
    amount = {"minorUnits": 500, "currency": "EUR"}
    given = {"idempotencyKey": new_key(), "toAccountId": town[1].account_id, "amount": amount}
    assert await asked_for(town, "TopUp", {"input": given}) <= COST_MAX // 10
