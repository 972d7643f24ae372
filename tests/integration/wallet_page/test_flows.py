"""In the wallet's page, beside paying: signing up, looking back, taking a statement along, ending sessions."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import pytest

from tests.integration._browser import Browser, Page
from tests.integration._server import PASSWORD, Person, new_key, new_name
from tests.integration._wallet_page import (
    LIVE,
    WIDTHS,
    House,
    check,
    choose,
    enter,
    fill,
    has,
    pay,
    shows,
    was_told,
    watch,
)
from wallet_gql.domain.ids import OPERATOR, AccountId, UserId
from wallet_gql.runtime import Wallet
from wallet_gql.testing.patience import wait_until
from wallet_gql.verbs.ledger import To

pytestmark = [pytest.mark.trial, pytest.mark.timeout(400)]

LINES: Final = "document.querySelectorAll('a.line').length"
DEPOSITS: Final = 30


def fill_in(page: Page, house: House, name: str, password: str) -> None:
    """Fill in the form of who is new, and send it."""
    page.goto(house.url)
    page.click("button", "I am new here")
    for label, text in (("Username", name), ("E-mail", f"{name}@example.org"), ("Password", password)):
        fill(page, label, text)
    page.click("button[type=submit]", "Sign up")


def test_somebody_signs_up_and_is_paid(house: House, browser: Browser) -> None:
    """A weak password is told at its field; after the first currency money comes in live, and can be spent."""
    (ann,) = house.people(5_000)
    name = new_name()
    with browser.page(width=360, height=740) as new, browser.page() as old:
        fill_in(new, house, name, "password1")
        new.wait_for("document.querySelector('input[name=password][aria-invalid]') === document.activeElement", 30)
        new.evaluate("document.activeElement.select()")
        new.write(PASSWORD)
        new.click("button[type=submit]", "Sign up")
        new.click("details.add button", "Add")
        has(new, 0)
        new.click("details.add summary")
        new.click("details.add button", "Add")
        new.wait_for("document.querySelector('[data-currency=USD] .big')?.innerText === '$0.00'", 30)
        enter(old, house, ann)
        pay(old, name, "8.00")
        has(new, 800)
        check(new, ann.username, "9.00")
        shows(new, "Only €8.00 is available.")
        fill(new, "Amount", "1")  # behind what is there
        new.wait_for("document.querySelector('.problem') === null", 30)
        new.click("button[type=submit]", "Continue")
        shows(new, "at most 2 decimals")
        assert new.evaluate("document.querySelector('.problem')") is None
        assert new.evaluate("Object.keys(localStorage).filter((name) => name.includes(':intent:'))") == []
        house.agrees(old, ann, 4_200)


CHOSEN: Final = (
    "document.querySelector('details.add[open] select') === document.activeElement && document.activeElement"
)
"""The select of the currency to add, once the page has led there."""


def test_who_has_no_account_is_led_to_a_first_one(house: House, browser: Browser) -> None:
    """Each screen that needs an account says so and leads there; so does a payee in a currency that one has not."""
    (ann,) = house.people(0)
    with browser.page(width=320, height=740) as page:
        fill_in(page, house, new_name(), PASSWORD)
        page.wait_for(LIVE, 30)
        for screen in ("funds", "statement", f"pay/{ann.username}"):
            page.evaluate(f"location.hash = '#/{screen}'")
            shows(page, "Add your first currency")
            assert page.evaluate("document.querySelector('main select, main form')") is None
            page.click("main a", "Add a currency")
            page.wait_for(CHOSEN, 30)
        choose(page, "Currency", "USD")
        page.click("details.add button", "Add")
        page.wait_for("location.hash === '#/' && document.querySelector('[data-currency=USD]') !== null", 30)
        page.evaluate(f"location.hash = '#/pay/{ann.username}'")
        shows(page, f"{ann.username} can only get EUR.")
        page.click("main a", "Add EUR")
        page.wait_for(f"({CHOSEN}).value === 'EUR'", 30)
        page.click("details.add button", "Add")
        has(page, 0)
        page.evaluate(f"location.hash = '#/pay/{ann.username}'")
        shows(page, "EUR · €0.00")
        shows(page, f"{ann.username} can only get EUR.")  # and USD, which is first, is chosen
        assert page.evaluate("document.querySelector('.add-theirs')") is None
        choose(page, "Currency", page.evaluate("document.querySelectorAll('main select option')[1].value"))
        page.wait_for("document.querySelector('.found .icon') !== null", 30)


def test_the_end_says_what_was_paid_to_whom(house: House, browser: Browser) -> None:
    """The amount and the payee, of a payment and of what is only reserved."""
    ann, ben = house.people(5_000, 0)
    end = "document.querySelector('.done h2')?.innerText"
    with browser.page() as page:
        enter(page, house, ann)
        pay(page, ben.username, "12.30")
        page.wait_for(f"{end} === '€12.30 paid to {ben.username}'", 30)
        page.click("button", "Pay again")
        fill(page, "Pay to", ben.username)
        fill(page, "Amount", "1.00")
        page.click(".check input")
        page.click("button[type=submit]", "Continue")
        page.click("button", "Reserve €1.00")
        page.wait_for(f"{end} === '€1.00 reserved for {ben.username}'", 30)
        house.agrees(page, ann, 5_000 - 1_230 - 100)


def reserve(page: Page, to: Person, amount: str) -> None:
    """Fill in a hold, check it, and confirm it."""
    page.evaluate("location.hash = '#/pay'")
    fill(page, "Pay to", to.username)
    fill(page, "Amount", amount)
    page.click(".check input")
    page.click("button[type=submit]", "Continue")
    page.click("button", f"Reserve €{amount}")
    page.click("a.button", "Reserved")


def test_reserved_money_is_taken_or_released_and_sent_back(house: House, browser: Browser) -> None:
    """Both sides see it live: of two amounts one is released, one is taken, and that one is sent back."""
    ann, ben = house.people(5_000, 0)
    with browser.page() as payer, browser.page(width=WIDTHS["phone"], height=740) as payee:
        enter(payer, house, ann)
        enter(payee, house, ben)
        reserve(payer, ben, "5.00")
        reserve(payer, ben, "3.00")
        payer.click(".choices button", "By you")
        states = "[...document.querySelectorAll('.hold .what small')].map((line) => line.innerText).join()"
        payer.wait_for(f"/^until [^]*until /.test({states})", 30)
        assert payer.evaluate("document.querySelector('.hold button')") is None
        shows(payee, "2 amounts are reserved for you")
        payee.click(".hold button", "Release")  # of the newest
        shows(payee, "1 amount is reserved for you")
        payer.wait_for(f"/^released,until /.test({states})", 30)
        house.agrees(payer, ann, 4_500)
        payee.click(".hold button", "Take")
        has(payee, 500)
        payer.click("nav a", "Reserved")
        payer.click(".choices button", "By you")
        payer.wait_for(f"{states} === 'released,€5.00 taken'", 30)
        payee.click("a.line")
        shows(payee, "Reserved money taken")
        watch(payer)
        payee.click("button[type=submit]", "Send back")
        was_told(payer, f"€5.00 received from {ben.username}")
        house.agrees(payer, ann, 5_000)
        house.agrees(payee, ben, 0)


def test_who_comes_back_at_once_finds_the_form(house: House, browser: Browser) -> None:
    """Two addresses follow each other before the page is drawn anew: the next payment begins, the last one is gone."""
    ann, ben = house.people(5_000, 0)
    with browser.page() as page:
        enter(page, house, ann)
        pay(page, ben.username, "2.00")
        page.wait_for("document.querySelector('.done') !== null", 30)
        page.evaluate("location.hash = '#/history', location.hash = '#/pay'")
        fill(page, "Pay to", ben.username)


async def _past(wallet: Wallet, ann: Person, ben: Person) -> None:
    for number in range(DEPOSITS):
        reference = f"gift {number}"
        await wallet.ledger.deposit(OPERATOR, new_key(), AccountId(ann.account_id), 100, "EUR", reference=reference)
    await _pay(wallet, ben, ann)


async def _pay(wallet: Wallet, sender: Person, to: Person) -> None:
    actor, source, target = UserId(sender.id), AccountId(sender.account_id), To(username=to.username)
    await wallet.ledger.transfer(actor, new_key(), source=source, to=target, amount_minor=100, currency="EUR")


def finds(page: Page, count: int) -> None:
    """Wait until the history has so many lines, the last of them drawn."""
    page.wait_for(f"(scrollTo(0, document.body.scrollHeight), {LINES} === {count})", 30)


def test_the_history_goes_back_and_a_statement_is_taken_along(house: House, browser: Browser, tmp_path: Path) -> None:
    """Pages follow as one scrolls, what comes in is above, filters find some, and the CSV has all, with the sum."""
    ann, ben = house.people(0, 200)
    house.beside(lambda wallet: _past(wallet, ann, ben))
    with browser.page() as page:
        enter(page, house, ann)
        page.click("nav a", "History")
        finds(page, DEPOSITS + 1)
        house.beside(lambda wallet: _pay(wallet, ben, ann))
        finds(page, DEPOSITS + 2)
        page.click("summary")
        fill(page, "Search in references", "gift 17")
        page.press("Enter")
        finds(page, 1)
        shows(page, "gift 17")
        page.click("details button", "Reset")
        finds(page, DEPOSITS + 2)
        fill(page, "Person", ben.username)
        page.press("Enter")
        finds(page, 2)
        choose(page, "Kind", "DEPOSIT")
        shows(page, "Nothing fits these filters.")
        page.call("Browser.setDownloadBehavior", **_downloads(page, tmp_path))
        page.click("nav a", "Statement")
        shows(page, "Balance after")
        page.click("button:enabled", "Download as CSV")
        wait_until(lambda: bool(list(tmp_path.glob("*.csv"))), 30, "the file")
        (file,) = tmp_path.glob("*.csv")
        rows = list(csv.reader(file.read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == 1 + DEPOSITS + 2
    amount, balance = (rows[0].index(name) for name in ("amount", "balance"))
    assert {row[amount] for row in rows[1:]} == {"1.00"}
    assert max(float(row[balance]) for row in rows[1:]) == DEPOSITS + 2


def _downloads(page: Page, folder: Path) -> dict[str, str]:
    return {"behavior": "allow", "downloadPath": str(folder), "browserContextId": page.context}


def test_sessions_are_ended_one_by_one_and_all(house: House, browser: Browser) -> None:
    """The other browser says so at once; so do all after "everywhere". The language stays as it was chosen."""
    (ann,) = house.people(0)
    with browser.page() as one, browser.page() as two:
        for page in (one, two):
            enter(page, house, ann)
        one.click("nav a", "Security")
        one.click(".line button", "End")
        one.wait_for("document.querySelectorAll('.line button').length === 1", 30)  # that of the test's own token
        shows(two, "Your session is over.")
        enter(two, house, ann)
        choose(two, "Language", "de")
        shows(two, "Sicherheit")
        one.click("button", "Log out everywhere")
        shows(one, "Welcome back")
        shows(two, "Ihre Sitzung")
        two.reload()
        shows(two, "Willkommen zurück")
        two.wait_for("document.documentElement.lang === 'de'", 30)
        assert two.evaluate(f"!({LIVE})")
