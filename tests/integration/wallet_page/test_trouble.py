"""The wallet's page in trouble: after each the page shows what the server says, and nothing was paid twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.integration._browser import Browser, Page
from tests.integration._server import Person, new_key
from tests.integration._wallet_page import CUT, LIVE, House, check, enter, fill, has, pay, shows
from wallet_gql.domain.ids import OPERATOR, AccountId
from wallet_gql.runtime import Wallet
from wallet_gql.testing.patience import wait_until

pytestmark = [pytest.mark.trial, pytest.mark.timeout(900)]

PAY: Final = b"mutation Pay("
FOREVER: Final = 1_000
INTENTS: Final = "Object.keys(localStorage).filter((name) => name.includes(':intent:')).length"
NOBODY: Final = "document.querySelector('.unanswered') === null"
HOUR_MS: Final = 3_600_000


@pytest.fixture
def people(house: House) -> tuple[Person, Person]:
    """Ann with 50.00, and Ben, who has nothing and gets all that she pays."""
    ann, ben = house.people(5_000, 0)
    return ann, ben


def paid_once(house: House, page: Page, people: tuple[Person, Person], cents: int) -> None:
    """Both sides have what one payment of so much leaves them, and nothing waits for an answer."""
    page.wait_for(f"{INTENTS} === 0 && {NOBODY}", 60)
    house.agrees(page, people[0], 5_000 - cents)
    house.gets(people[1], cents)


def lose(house: House, page: Page, to: Person, amount: str) -> None:
    """Pay; it is done, and no answer to it comes back, however often it is asked."""
    page.excused.extend(CUT)
    house.network(house.proxy.drop_reply, PAY, FOREVER)
    dropped = house.proxy.hits.total()
    pay(page, to.username, amount)
    shows(page, "1 payment has no answer yet.")
    wait_until(lambda: house.proxy.hits.total() > dropped, 30, "the payment was not sent")


def test_the_network_is_cut_while_paying(house: House, browser: Browser, people: tuple[Person, Person]) -> None:
    """What has no answer is shown as paid. Then it is gone, then it comes back: after a reload the same key is sent."""
    with browser.page() as page:
        enter(page, house, people[0])
        lose(house, page, people[1], "7.00")
        page.evaluate("location.hash = '#/'")
        page.wait_for("document.querySelector('.lines a.line .amount')?.innerText === '-€7.00'", 30)
        has(page, 4_300)  # its event has come, so nothing is taken off any more
        house.network(house.proxy.refuse)
        shows(page, "Reconnecting…")
        house.network(house.proxy.accept)
        page.reload()
        shows(page, "1 payment has no answer yet.")
        assert page.evaluate(INTENTS) == 1
        house.network(house.proxy.keep_replies)
        page.click(".unanswered button", "Ask again", unless=f"{INTENTS} === 0")
        paid_once(house, page, people, 700)


def test_the_server_is_started_again(house: House, browser: Browser, people: tuple[Person, Person]) -> None:
    """A payment is confirmed while it is down, and money comes in: both are there when it is back."""
    ann, ben = people

    async def deposit(wallet: Wallet) -> None:
        await wallet.ledger.deposit(OPERATOR, new_key(), AccountId(ann.account_id), 100, "EUR")

    with browser.page() as page:
        page.excused.extend(CUT)
        enter(page, house, ann)
        review(page, ben, "3.00")
        house.stop()
        try:
            shows(page, "Reconnecting…")
            page.click("button", "Pay €3.00")
            shows(page, "Nothing has moved. Send it now, or discard it.")
            assert " paid to " not in page.evaluate("document.body.innerText")
            house.beside(deposit)
        finally:
            house.start()
        page.wait_for(LIVE, 60)
        page.click(".unanswered button", "Send it now")
        page.wait_for(f"{INTENTS} === 0 && {NOBODY}", 60)
        house.agrees(page, ann, 5_000 + 100 - 300)
        house.gets(ben, 300)


def review(page: Page, to: Person, amount: str) -> None:
    """Fill in a payment, and stop before it is confirmed."""
    check(page, to.username, amount)
    shows(page, "Check and confirm")


def test_going_back_pays_nothing_again(house: House, browser: Browser, people: tuple[Person, Person]) -> None:
    """Back and forth after a payment, before its confirmation, and from the card page: a form is empty again."""
    ann, ben = people
    empty = "document.querySelector('h1')?.innerText === 'Pay' && document.querySelector('input')?.value === ''"
    with browser.page() as page:
        page.hosts.add(urlsplit(house.settings["stripe_api_base"]).netloc)
        enter(page, house, ann)
        pay(page, ben.username, "5.00")
        shows(page, f"€5.00 paid to {ben.username}")
        for _ in range(2):
            page.evaluate("history.back()")
            page.wait_for("document.querySelector('.balance') !== null", 30)
            page.evaluate("history.forward()")
            page.wait_for(empty, 30)
            review(page, ben, "1.00")
        page.evaluate("location.hash = '#/funds'")
        fill(page, "Amount", "25")
        page.click("form button[type=submit]", "Go on to the card")
        shows(page, "Pay 25.00 EUR")
        page.evaluate("history.back()")
        page.wait_for("document.querySelectorAll('.lines li[data-state=AWAITING_PAYMENT]').length === 1", 30)
        paid_once(house, page, people, 500)


def test_two_tabs_of_one_user(house: House, browser: Browser, people: tuple[Person, Person]) -> None:
    """What one has no answer to, the other asks, too, with the same key; when one logs out the other says so."""
    with browser.page() as one, browser.page(beside=one) as two:
        enter(one, house, people[0])
        two.goto(house.url)
        two.wait_for(LIVE, 30)
        two.excused.extend(CUT)
        lose(house, one, people[1], "6.00")
        shows(two, "1 payment has no answer yet.")
        two.reload()
        house.network(house.proxy.keep_replies)
        two.click(".unanswered button", "Ask again", unless=f"{INTENTS} === 0")
        paid_once(house, two, people, 600)
        paid_once(house, one, people, 600)
        one.click("header button", "Log out")
        shows(two, "Your session is over.")


def test_the_session_expires_while_a_payment_has_no_answer(
    house: House, browser: Browser, people: tuple[Person, Person]
) -> None:
    """The page says so as soon as it asks for anything, and after the next log-in it sends the same key."""
    with browser.page() as page:
        enter(page, house, people[0])
        lose(house, page, people[1], "2.50")
        house.age(people[0], timedelta(hours=12), "created_at")
        page.evaluate("location.hash = '#/history'")
        shows(page, "Your session is over.")
        assert page.evaluate(INTENTS) == 1
        house.network(house.proxy.keep_replies)
        enter(page, house, people[0])
        paid_once(house, page, people, 250)


DEAF: Final = """
globalThis.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    for (const kind of ["message", "close", "error"])
      this.addEventListener(kind, (event) => window.isDeaf && event.stopImmediatePropagation());
  }
};
"""
"""While `isDeaf`, the page is told nothing but the answers to what it asks."""


def over_before_it_is_sent(house: House, page: Page, people: tuple[Person, Person]) -> None:
    """The session has ended while a payment was checked, and no event has said so."""
    review(page, people[1], "7.00")
    page.evaluate("window.isDeaf = true")
    house.age(people[0], timedelta(hours=12), "created_at")
    page.click("button", "Pay €7.00")
    shows(page, "Your session is over.")
    page.evaluate("window.isDeaf = false")


def too_old_to_withdraw(house: House, page: Page, people: tuple[Person, Person]) -> None:
    """The password is asked for, and the person thinks better of it."""
    house.age(people[0], timedelta(minutes=30), "logged_in_at")
    page.evaluate("location.hash = '#/funds'")
    page.click(".choices button", "Withdraw")
    fill(page, "Amount", "7")
    page.click("form button[type=submit]", "Withdraw")
    shows(page, "Enter your password")
    page.evaluate("location.hash = '#/'")
    shows(page, "It was not done.")
    page.click("header button", "Log out")
    shows(page, "Welcome back")  # who goes elsewhere before that may still be logged in


@pytest.mark.parametrize("stop", [over_before_it_is_sent, too_old_to_withdraw])
@pytest.mark.parametrize("then", ["Discard", "Send it now"])
def test_what_was_not_sent_waits_for_the_person(
    house: House,
    browser: Browser,
    people: tuple[Person, Person],
    stop: Callable[[House, Page, tuple[Person, Person]], None],
    then: str,
) -> None:
    """After the next log-in nothing leaves by itself: the person may have decided anew, and would pay twice."""
    ann, _ = people
    with browser.page() as page:
        page.call("Page.addScriptToEvaluateOnNewDocument", source=DEAF)
        enter(page, house, ann)
        stop(house, page, people)
        enter(page, house, ann)
        shows(page, "It was not done.")
        assert page.evaluate(INTENTS) == 1
        house.agrees(page, ann, 5_000)
        page.click(".unanswered button", then, unless=f"{INTENTS} === 0")
        page.wait_for(f"{INTENTS} === 0 && {NOBODY}", 60)
        house.agrees(page, ann, 5_000 if then == "Discard" else 4_300)


CLOCK: Final = """
globalThis.Date = class extends Date {
  constructor(...given) { given.length ? super(...given) : super(Date.now()); }
  static now() { return super.now() + %d; }
};
"""


@pytest.mark.parametrize("off_ms", [HOUR_MS, pytest.param(-HOUR_MS, marks=pytest.mark.soak)])
def test_the_clock_of_the_browser_is_wrong(
    house: House, browser: Browser, people: tuple[Person, Person], off_ms: int
) -> None:
    """By an hour: it is paid once, after a reload, and what comes later is shown above."""
    ann, ben = people
    with browser.page() as page:
        page.call("Page.addScriptToEvaluateOnNewDocument", source=CLOCK % off_ms)
        enter(page, house, ann)
        pay(page, ben.username, "1.00")
        shows(page, f"€1.00 paid to {ben.username}")
        house.agrees(page, ann, 4_900)
        lose(house, page, ben, "4.00")
        page.reload()
        shows(page, "1 payment has no answer yet.")
        house.network(house.proxy.keep_replies)
        page.click(".unanswered button", "Ask again", unless=f"{INTENTS} === 0")
        paid_once(house, page, people, 500)
        lines = "[...document.querySelectorAll('.lines a.line .amount')].map((line) => line.innerText).join(' ')"
        page.wait_for(f"{lines}.startsWith('-€4.00 -€1.00 ')", 30)
