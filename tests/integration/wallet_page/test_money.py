"""The wallet's page with money that comes in by a card, leaves to a bank, and is earned by a merchant."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from tests.integration._browser import Browser, Page
from tests.integration._server import PASSWORD, Person
from tests.integration._wallet_page import (
    CUT,
    SCREENSHOTS,
    WIDTHS,
    House,
    enter,
    fill,
    has,
    hold,
    pay,
    shows,
    was_told,
    watch,
)
from wallet_gql.domain.ids import UserId
from wallet_gql.integrations.stripe_stand_in.cards import DECLINED
from wallet_gql.runtime import Wallet

pytestmark = [pytest.mark.trial, pytest.mark.timeout(400)]


def begin(page: Page, way: str, amount: str, button: str) -> None:
    """Fill in the form for money in or out, and send it."""
    page.evaluate("location.hash = '#/funds'")
    page.click(".choices button", way)
    fill(page, "Amount", amount)
    page.click("form button[type=submit]", button)


def is_at(page: Page, way: str, state: str) -> None:
    """Wait until the newest line says so, without asking."""
    line = "document.querySelector('.lines li')"
    page.wait_for(f"{line}?.dataset.state === '{state}' && {line}.querySelector('strong').innerText === '{way}'", 30)


def test_a_card_brings_money_in(house: House, browser: Browser) -> None:
    """There and back: declined, left, gone to again, paid; the money arrives live, and the secret is in no address."""
    (ann,) = house.people(500)
    with browser.page(width=WIDTHS["phone"], height=740) as page:
        enter(page, house, ann)
        page.hosts.add(urlsplit(house.settings["stripe_api_base"]).netloc)
        page.excused.append("402 (Payment Required)")
        begin(page, "Top up", "25", "Go on to the card")
        shows(page, "Pay 25.00 EUR")
        page.screenshot(SCREENSHOTS / "card-page.png")
        page.evaluate(f"document.getElementById('number').value = '{DECLINED}'")
        page.click("button", "Pay 25.00 EUR")
        shows(page, "The bank declined this card.")
        page.click("a", "Back without paying")
        is_at(page, "Top-up", "AWAITING_PAYMENT")
        assert house.available(ann) == 500
        page.click(".lines button", "Pay by card")
        shows(page, "Pay 25.00 EUR")
        assert "secret" not in page.evaluate("location.href")
        page.click("button", "Pay 25.00 EUR")
        is_at(page, "Top-up", "SUCCEEDED")
        assert "secret" not in page.evaluate("location.href")
        page.screenshot(SCREENSHOTS / "wallet-topped-up.png")
        house.agrees(page, ann, 3_000)


@pytest.mark.parametrize("last", ["mutation TopUp(", "query ToPay(", "query Home("], ids=["begun", "again", "opened"])
def test_who_has_gone_elsewhere_is_not_led_away(house: House, browser: Browser, last: str) -> None:
    """An answer that leads on, to the card or to the new balance, comes when the person looks at something else."""
    (ann,) = house.people(500)
    with browser.page() as page:
        enter(page, house, ann)
        page.hosts.add(urlsplit(house.settings["stripe_api_base"]).netloc)
        if last == "query ToPay(":
            begin(page, "Top up", "25", "Go on to the card")
            page.click("a", "Back without paying")
            is_at(page, "Top-up", "AWAITING_PAYMENT")
        hold(page, last)
        if last == "mutation TopUp(":
            begin(page, "Top up", "25", "Go on to the card")
        elif last == "query ToPay(":
            page.click(".lines button", "Pay by card")
        else:
            page.evaluate("location.hash = '#/add/USD'")
            page.wait_for("document.querySelector('details.add[open] button') !== null", 30)
            page.click("details.add button", "Add")
        page.wait_for("window.held() > 0", 30)
        page.evaluate("location.hash = '#/security'")
        page.wait_for("document.querySelector('.screen h1')?.innerText === 'Security'", 30)
        page.evaluate("window.release()")
        assert page.evaluate("location.hash") == "#/security"
        assert page.evaluate("document.querySelector('.screen h1')?.innerText") == "Security"


def test_money_goes_out_to_the_bank(house: House, browser: Browser) -> None:
    """Reserved, on its way, paid: told live. Some time after the log-in the password is asked for, and the key kept."""
    (ann,) = house.people(5_000)
    with browser.page(width=WIDTHS["desktop"]) as page:
        enter(page, house, ann)
        begin(page, "Withdraw", "20", "Withdraw")
        is_at(page, "Withdrawal", "PAID")
        house.agrees(page, ann, 3_000)
        house.age(ann, timedelta(minutes=30), "logged_in_at")
        begin(page, "Withdraw", "7.50", "Withdraw")
        shows(page, "Enter your password")
        assert house.available(ann) == 3_000
        fill(page, "Password", "not the password")
        page.click("form button[type=submit]", "Withdraw")
        page.wait_for("document.querySelector('form .problem') !== null", 30)
        page.evaluate("document.querySelector('form input').select()")
        fill(page, "Password", PASSWORD)
        page.click("form button[type=submit]", "Withdraw")
        page.wait_for("document.querySelectorAll('.lines li[data-state=PAID]').length === 2", 30)
        page.excused.extend(CUT)
        house.network(house.proxy.drop_reply, b"mutation Withdraw(", 1_000)
        begin(page, "Withdraw", "2.50", "Withdraw")
        shows(page, "do not pay again")
        page.wait_for("document.querySelector('main section.card button')?.innerText === 'Ask again'", 60)
        assert page.evaluate("document.querySelector('form')") is None
        house.network(house.proxy.keep_replies)
        page.click("section.card button", "Ask again")
        page.wait_for("document.querySelectorAll('.lines li[data-state=PAID]').length === 3", 30)
        page.wait_for("document.querySelector('.unanswered') === null", 30)
        page.screenshot(SCREENSHOTS / "wallet-withdrawn.png")
        house.agrees(page, ann, 2_000)


async def _register(wallet: Wallet, person: Person) -> None:
    await wallet.merchants.register(UserId(person.id), "Café Carol")


def test_a_merchant_sees_sales_and_refunds_one(house: House, browser: Browser) -> None:
    """A sale comes in live, the month's sum with it; a part is sent back from there, and the buyer has it at once."""
    ann, cafe = house.people(5_000, 0)
    house.beside(lambda wallet: _register(wallet, cafe))
    with browser.page() as buyer, browser.page(width=WIDTHS["phone"], height=740) as shop:
        enter(buyer, house, ann)
        enter(shop, house, cafe)
        watch(buyer)
        shop.click("nav a[href='#/sales']")
        shows(shop, "Nothing here yet.")
        pay(buyer, cafe.username, "12.00")
        shows(buyer, "€12.00 paid to Café Carol")
        shop.wait_for("document.querySelector('.sums dd')?.innerText === '€12.00'", 30)
        shop.screenshot(SCREENSHOTS / "wallet-sales-phone.png")
        shop.click("a.line")
        amount = "[...document.querySelectorAll('form label')].find((e) => e.innerText.startsWith('Amount'))?.control"
        shop.wait_for(f"{amount}?.value === '12.00'", 30)
        shop.evaluate(f"{amount}.focus(), {amount}.select()")
        shop.write("4.50")
        shop.click("form button[type=submit]", "Send back")
        was_told(buyer, "€4.50 received from Café Carol")
        shows(shop, "Up to €7.50 can be sent back.")
        house.agrees(shop, cafe, 750)
        house.agrees(buyer, ann, 4_250)
        has(buyer, 4_250)
