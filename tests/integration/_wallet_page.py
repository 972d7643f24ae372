"""What tests of the wallet's page do in a browser, and a wallet behind a network that can be cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.integration._browser import Page
from tests.integration._clients import ROOT
from tests.integration._demo import Demo
from tests.integration._server import PASSWORD, Client, Person, Server, serving, settle
from wallet_gql.domain.ids import UserId
from wallet_gql.integrations.stripe_stand_in.running import running
from wallet_gql.records import change
from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import wait_until
from wallet_gql.testing.proxy import Proxy
from wallet_gql.transports.http.webhooks import PATH as WEBHOOK

T = TypeVar("T")

SCREENSHOTS: Final = ROOT / "build" / "screenshots"
WIDTHS: Final = {"phone": 360, "desktop": 1280}
LIVE: Final = "document.querySelector('.live.on') !== null"
CUT: Final = ("net::ERR_", "Connection closed before receiving a handshake")
"""What a browser says of a network that was cut."""

SECRET: Final = "whsec_of_the_house"
NOBODY: Final = 1
"""A port where nothing listens."""
AVAILABLE: Final = "{ viewer { accounts { available { minorUnits } } } }"


@dataclass
class House:
    """A wallet with people. Browsers reach it through `proxy`, which cuts their network and survives a restart."""

    url: str
    storage: str
    folder: Path
    portal: BlockingPortal
    proxy: Proxy
    wallet: Wallet
    options: tuple[str, ...]
    settings: dict[str, str]
    server: Server = field(init=False)
    _running: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Start the server, or start it again; people have the same address."""
        self.server = self._running.enter_context(
            serving(self.folder, *self.options, storage=self.storage, session_cache_seconds="0", **self.settings)
        )
        address = urlsplit(self.server.url)
        self.proxy.lead_to(str(address.hostname), int(address.port or 0))

    def stop(self) -> None:
        """Stop the server. Its port may be another test's server's from now on."""
        self.proxy.lead_to("127.0.0.1", NOBODY)
        self._running.close()

    def network(self, act: Callable[..., object], *given: object) -> None:
        """Do something to the network: `house.network(house.proxy.refuse)`."""
        self.portal.call(act, *given)

    def beside(self, work: Callable[[Wallet], Awaitable[T]]) -> T:
        """Do something in the ledger, beside the server."""
        return self.portal.call(work, self.wallet)

    def people(self, *balances: int) -> list[Person]:
        """People with so many cents, whose withdrawals arrive."""

        async def work(wallet: Wallet) -> list[Person]:
            made = await asyncio.gather(*(settle(wallet, minor) for minor in balances))
            for person in made:
                await wallet.payments.withdrawals.set_payout_account(UserId(person.id), f"acct_{person.username}")
            return made

        return self.beside(work)

    def age(self, person: Person, time: timedelta, *moments: str) -> None:
        """Let time pass since these moments of all log-ins of somebody: `seen_at` alone was the last use."""

        async def work(wallet: Wallet) -> None:
            for session in await wallet.identity.sessions(UserId(person.id)):
                older = replace(session, **{name: getattr(session, name) - time for name in moments}).to_record()
                await change(wallet.store, session.key, lambda _, older=older: older)  # type: ignore[misc]  # of this round

        self.beside(work)

    def available(self, person: Person) -> int:
        """The cents that the server says somebody has."""
        with Client(self.server.url, person.token) as client:
            (account,) = client.run(AVAILABLE)["accounts"]
        return int(account["available"]["minorUnits"])

    def gets(self, person: Person, cents: int) -> None:
        """Wait until the server says that somebody has so much: between nodes a credit may come after the answer."""
        wait_until(lambda: self.available(person) == cents, 30, f"{self.available(person)} and not {cents} are there")

    def agrees(self, page: Page, person: Person, cents: int) -> None:
        """Wait until the page shows so much, and look whether that is what the server says."""
        page.evaluate("location.hash = '#/'")
        has(page, cents)
        assert self.available(person) == cents


@contextmanager
def house_in(folder: Path, storage: str, *options: str) -> Iterator[House]:
    """A house with the stand-in for Stripe."""
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        proxy = stack.enter_context(portal.wrap_async_context_manager(Proxy("127.0.0.1", NOBODY)))
        url = f"http://127.0.0.1:{proxy.port}"
        stripe = stack.enter_context(running(url + WEBHOOK, (SECRET,), bank_seconds=0))
        told = {"stripe_api_key": stripe.key, "stripe_api_base": stripe.url, "stripe_webhook_secrets": SECRET}
        opened = open_wallet(load_settings(storage=storage, mode="test"), sweeps=False)
        wallet = stack.enter_context(portal.wrap_async_context_manager(opened))
        house = House(url, storage, folder, portal, proxy, wallet, options, told)
        house.start()
        stack.callback(house.stop)
        yield house


def enter(page: Page, house: House, person: Person) -> None:
    """Log in by the form, and wait until events come."""
    page.goto(house.url)
    fill(page, "Username", person.username)
    fill(page, "Password", PASSWORD)
    page.click("button[type=submit]", "Log in")
    page.wait_for(LIVE, 30)


def log_in(page: Page, demo: Demo, name: str, url: str = "") -> None:
    """Open the wallet as somebody, by one click, and wait until events come."""
    page.goto(url or demo.url)
    page.click(".demo button", f"Try it as {name}")
    page.wait_for(LIVE, 30)


EUROS: Final = "Number(document.querySelector('[data-currency=EUR] .big')?.innerText.replace(/\\D/g, ''))"


def balance(page: Page) -> int:
    """The euros that the page shows, in cents."""
    return int(page.wait_for(EUROS, 30))


def has(page: Page, cents: int) -> None:
    """Wait until the page shows so much."""
    page.wait_for(f"{EUROS} === {cents}", 30)


def fill(page: Page, label: str, text: str) -> None:
    """Type into the input with that label; again, if what the page did meanwhile has taken the focus away."""
    found = f"[...document.querySelectorAll('label')].find((label) => label.innerText.startsWith({json.dumps(label)}))"

    def typed() -> bool:
        page.wait_for(f"(({found})?.control.focus(), Boolean({found}))", 30)
        page.write(text)
        return str(page.evaluate(f"({found})?.control.value")).endswith(text)

    wait_until(typed, 30, f"nothing can be typed into {label}")


def choose(page: Page, label: str, value: str) -> None:
    """Choose in the select with that label."""
    name = "(select.ariaLabel ?? select.labels[0].innerText)"
    found = f"[...document.querySelectorAll('select')].find((select) => {name} === {json.dumps(label)})"
    changed = "select.dispatchEvent(new Event('change', {bubbles: true}))"
    chosen = f"select.focus(), select.value = {json.dumps(value)}, {changed}"
    page.wait_for(f"(() => {{ const select = {found}; return Boolean(select && ({chosen})); }})()", 30)


def check(page: Page, to: str, amount: str) -> None:
    """Fill in a payment, and let it be checked."""
    page.evaluate("location.hash = '#/pay'")
    fill(page, "Pay to", to)
    fill(page, "Amount", amount)
    page.click("button[type=submit]", "Continue")


def pay(page: Page, to: str, amount: str) -> None:
    """Fill in a payment, check it, and confirm it."""
    check(page, to, amount)
    page.click("button", f"Pay €{amount}")


WATCH: Final = """
window.told = [];
new MutationObserver(() => {
  for (const notice of document.querySelectorAll('.notice')) window.told.push(notice.innerText);
}).observe(document.body, {childList: true, subtree: true, characterData: true});
"""
"""From now on every notice is kept in `told`: it is seen for some seconds of the page's clock only."""


def watch(page: Page) -> None:
    """Keep the notices from now on."""
    page.evaluate(f"(() => {{ {WATCH} }})()")


def was_told(page: Page, text: str) -> None:
    """Wait until there was such a notice since `watch`."""
    page.wait_for(f"window.told.some((notice) => notice.includes({json.dumps(text)}))", 30)


def shows(page: Page, text: str) -> None:
    """Wait until the page says so."""
    page.wait_for(f"document.body?.innerText.includes({json.dumps(text)})", 30)


LOSE: Final = """
(() => {
  const ask = window.fetch;
  window.answered = ask;
  window.lost = 0;
  window.fetch = async (url, request) => {
    const answer = await ask(url, request);
    if (!/mutation (Pay|SendBack)/.test(String(request.body))) return answer;
    window.keys = [...(window.keys ?? []), JSON.parse(request.body).variables.input.idempotencyKey];
    await answer.text();
    window.lost += 1;
    throw new TypeError('cut off');
  };
})()
"""
"""From now on every payment arrives, and every answer to one is lost; `keys` are those that were sent."""

HOLD: Final = """
(() => {
  const ask = window.fetch;
  const held = [];
  window.held = () => held.length;
  window.release = async () => {
    held.splice(0).forEach((go) => go());
    await new Promise((after) => setTimeout(after, 300));
  };
  window.fetch = async (url, request) => {
    const answer = await ask(url, request);
    if (!String(request?.body).includes(WHICH)) return answer;
    const text = await answer.text();
    await new Promise((go) => held.push(go));
    return new Response(text, { status: answer.status, headers: answer.headers });
  };
})()
"""
"""From now on answers wait in the page until `release`, which gives it time to act on them; `held` counts them."""


def hold(page: Page, operation: str) -> None:
    """Keep the answers to requests with such a text."""
    page.evaluate(HOLD.replace("WHICH", json.dumps(operation)))
