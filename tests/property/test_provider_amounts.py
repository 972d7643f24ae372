"""What Stripe takes in and pays out: refused by one table, before money is held and before the key is used up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import pytest

from tests.property._money_verbs import PLENTY, Town, open_town
from wallet_gql.domain.errors import InvalidAmount, InvalidInput, WalletError
from wallet_gql.domain.ids import OPERATOR, AccountId
from wallet_gql.domain.money import EXPONENTS
from wallet_gql.domain.provider_amounts import RULES, Direction, check_provider_amount
from wallet_gql.domain.topups import TopUpState
from wallet_gql.domain.withdrawals import WithdrawalState
from wallet_gql.integrations.stripe.topups import Started

Case = tuple[str, Direction, int]
"""A currency, which way the money goes, and how many minor units."""

REFUSED: Final[dict[str, Case]] = {
    "half a forint": ("HUF", Direction.OUT, 80_045),
    "a tenth of a Taiwan dollar": ("TWD", Direction.OUT, 10_010),
    "a third digit in Kuwait": ("KWD", Direction.IN, 12_345),
    "a third digit in Bahrain": ("BHD", Direction.IN, 1_001),
    "a third digit in Jordan": ("JOD", Direction.OUT, 999),
    "a third digit in Oman": ("OMR", Direction.IN, 5_124),
    "a third digit in Tunisia": ("TND", Direction.OUT, 10_009),
    "few forints": ("HUF", Direction.IN, 17_499),
    "few euros": ("EUR", Direction.IN, 49),
    "few pence": ("GBP", Direction.IN, 29),
    "few yen": ("JPY", Direction.IN, 49),
    "few Czech crowns": ("CZK", Direction.IN, 1_499),
    "a million dollars": ("USD", Direction.IN, 100_000_000),
    "eleven digits of yen": ("JPY", Direction.IN, 10_000_000_000),
    "nine digits of won": ("KRW", Direction.IN, 100_000_000),
    "other minor units in Iceland": ("ISK", Direction.IN, 500),
    "other minor units in Uganda": ("UGX", Direction.OUT, 500),
    "other minor units in Madagascar": ("MGA", Direction.OUT, 500),
    "not taken: rials": ("IRR", Direction.IN, 500_000),
    "not taken: Libyan dinars": ("LYD", Direction.OUT, 500_000),
}
TAKEN: Final[dict[str, Case]] = {
    "whole forints": ("HUF", Direction.OUT, 80_000),
    "a part of a forint": ("HUF", Direction.IN, 17_501),
    "Taiwan dollars": ("TWD", Direction.OUT, 10_000),
    "a part of a Taiwan dollar": ("TWD", Direction.IN, 10_010),
    "tens of Kuwaiti thousandths": ("KWD", Direction.IN, 12_340),
    "one yen": ("JPY", Direction.OUT, 1),
    "fifty yen": ("JPY", Direction.IN, 50),
    "one cent": ("EUR", Direction.OUT, 1),
    "nearly a million dollars": ("USD", Direction.IN, 99_999_999),
    "rupiahs": ("IDR", Direction.IN, 1_000_000_000),
    "Caribbean guilders": ("XCG", Direction.IN, 100),
}


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    """Ann, with Stripe's stand-in, which has rules of its own."""
    async with open_town(1) as made:
        await made.payments.withdrawals.set_payout_account(made.users["ann"], "acct_ann1")
        yield made


async def _account(town: Town, currency: str) -> AccountId:
    if currency == "EUR":
        return town.accounts["ann"]
    account = await town.ledger.open_account(town.users["ann"], currency)
    await town.ledger.deposit(OPERATOR, town.fresh(), account.id, 10**6, currency)
    return account.id


async def _ask(town: Town, account: AccountId, key: str, case: Case) -> str:
    """Ask for a top-up or a withdrawal; returns its state."""
    currency, direction, minor = case
    flows = town.payments.top_ups if direction is Direction.IN else town.payments.withdrawals
    made = await flows.request(town.users["ann"], key, account, minor, currency)
    return made.top_up.state if isinstance(made, Started) else made.withdrawal.state


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
async def test_c5_what_stripe_would_refuse(town: Town, case: Case) -> None:
    """Nothing is held, nothing asked of Stripe, and the key is still free for an amount that can be paid."""
    currency, direction, _ = case
    account = await _account(town, currency)
    before, heard = await town.ledger.account(OPERATOR, account), len(town.fake.requests)
    with pytest.raises((InvalidAmount, InvalidInput)) as caught:
        await _ask(town, account, "the-key", case)
    assert currency in caught.value.message
    assert await town.ledger.account(OPERATOR, account) == before
    assert (len(town.fake.requests), [r for r in await town.receipts() if r.key == "the-key"]) == (heard, [])
    state = await _ask(town, town.accounts["ann"], "the-key", ("EUR", direction, 100))
    assert state in (TopUpState.AWAITING_PAYMENT, WithdrawalState.IN_TRANSIT)


@pytest.mark.parametrize("case", TAKEN.values(), ids=TAKEN)
async def test_what_stripe_takes(town: Town, case: Case) -> None:
    """It goes through to the stand-in, which takes it."""
    currency, direction, _ = case
    account = await _account(town, currency)
    if direction is Direction.OUT:
        town.fake.state.fund(10**6, currency)
    state = await _ask(town, account, "the-key", case)
    assert state in (TopUpState.AWAITING_PAYMENT, WithdrawalState.IN_TRANSIT)


@pytest.mark.parametrize("currency", sorted(EXPONENTS))
@pytest.mark.parametrize("direction", Direction)
def test_c5_each_currency_both_ways(currency: str, direction: Direction) -> None:
    """Around each bound of each rule: what is in it is taken, what is not is refused and says the bound."""
    rule = RULES.get((currency, direction))
    if rule is None:
        with pytest.raises(InvalidInput, match=f"{currency} cannot be paid"):
            check_provider_amount(PLENTY, currency, direction)
        return
    step = rule.step_minor
    lowest, highest = -(-rule.min_minor // step) * step, rule.max_minor // step * step
    for minor in (lowest, lowest + step, highest - step, highest):
        check_provider_amount(minor, currency, direction)
    wrong = [lowest - step, highest + step, *([lowest + 1, lowest + step - 1] if step > 1 else [])]
    for minor in (*wrong, 0, -1):
        with pytest.raises(InvalidAmount):
            check_provider_amount(minor, currency, direction)


def test_the_table_names_currencies_that_there_are() -> None:
    """Each currency has both directions, is active, and its step fits its digits as Stripe counts them."""
    assert {currency for currency, _ in RULES} < set(EXPONENTS)
    assert all((currency, direction) in RULES for currency, _ in RULES for direction in Direction)
    assert {c for (c, _), rule in RULES.items() if rule.step_minor == 10} == {"BHD", "JOD", "KWD", "OMR", "TND"}


async def test_an_old_key_keeps_its_answer(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was accepted by an older version is replayed, although it would be refused today."""
    with monkeypatch.context() as older:
        older.setattr("wallet_gql.domain.rules.topups.check_provider_amount", lambda *_: None)
        first = await town.payments.top_ups.request(town.users["ann"], "old", town.accounts["ann"], 20, "EUR")
    again = await town.payments.top_ups.request(town.users["ann"], "old", town.accounts["ann"], 20, "EUR")
    assert (again.replayed, again.top_up.id) == (True, first.top_up.id)
    with pytest.raises(WalletError):
        await town.payments.top_ups.request(town.users["ann"], "new", town.accounts["ann"], 20, "EUR")
