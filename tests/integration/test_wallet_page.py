"""The wallet for people: the served files, and two of them in a browser, one of whom pays the other."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.integration._browser import Browser, Page
from tests.integration._clients import CLIENTS, ROOT, install, program, run_program
from tests.integration._demo import Demo, running_demo
from tests.integration._wallet_page import (
    LIVE,
    LOSE,
    SCREENSHOTS,
    WIDTHS,
    balance,
    check,
    choose,
    fill,
    has,
    log_in,
    pay,
    shows,
    was_told,
    watch,
)
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience
from wallet_gql.transports.server.app import create_app, playground
from wallet_gql.transports.web import wallet

WEB: Final = ROOT / "examples" / "web"
BUILT: Final = files(wallet) / "built"
NOTICE: Final = "LICENSE.preact"
HASH: Final = "sources.sha256"
SCRIPT_MAX: Final = 200 * 1024
SCREENS: Final = {
    "": ("Home", ".balance"),
    "history": ("History", ".line"),
    "holds": ("Reserved", ".lines"),
    "statement": ("Statement", ".sums"),
    "security": ("Security", ".line"),
    "funds": ("Top up, withdraw", ".choices"),
    "pay/cafe": ("Pay", ".found .icon"),
}
MERCHANTS: Final = {"sales": ("Sales", ".sums")}
RUN_AXE: Final = """
axe.run({resultTypes: ["violations"]}).then(({violations, passes}) => ({violations, passes: passes.length}))
"""

pytestmark = pytest.mark.timeout(400)  # the first test that needs axe-core installs it


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A wallet with alice, bob and a merchant."""
    with running_demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core, as a script."""
    install()
    return (CLIENTS / "node_modules" / "axe-core" / "axe.min.js").read_text()


# ---------------------------------------------------------------- what is served


def test_the_page_obeys_a_strict_policy(demo: Demo) -> None:
    """Nothing inline, nothing from elsewhere; the files it names are there, and kept for ever."""
    with httpx.Client(base_url=demo.url, timeout=patience(30)) as http:
        page = http.get("/")
        (card_page,) = re.findall(r'name="card-page" content="(http://127.0.0.1:\d+/pay)"', page.text)
        policy = page.headers["content-security-policy"]
        assert policy == wallet.policy_of(card_page)
        assert "unsafe" not in policy
        assert policy.count("http") == policy.count(f"form-action {card_page};") == 1
        assert "form-action 'none'" in wallet.policy_of(None)
        assert page.headers["cache-control"] == "no-store"
        named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        scripts = [name for name in named if name.startswith("/wallet/")]
        assert len(scripts) == 2
        assert all(name == "/start" or name.startswith("data:image/") for name in named if name not in scripts)
        for name in scripts:
            answer = http.get(name)
            assert answer.headers["content-encoding"] == "gzip"
            assert "immutable" in answer.headers["cache-control"]
        assert http.get("/wallet/other.js").status_code == 404
        start = http.get("/start").text
        assert "curl" in start
        for path in re.findall(r'href="http://[^/]+(/[^"]*)"', start):
            assert http.get(path).status_code == 200
        assert start.count("href=") == 2


def test_the_script_is_small() -> None:
    """At most 200 KB gzipped, all in all."""
    built = {file.name: len(file.read_bytes()) for file in BUILT.iterdir()}
    assert built.keys() == {"wallet.js.gz", "wallet.css.gz", NOTICE, HASH}
    assert sum(built.values()) <= SCRIPT_MAX


def test_the_notice_of_what_is_built_in_is_there() -> None:
    """Preact's licence wants its notice with every copy."""
    text = (BUILT / NOTICE).read_text(encoding="utf-8")
    assert "MIT License" in text
    assert "Copyright" in text


@pytest.mark.parametrize("told", [False, True])
async def test_in_production_it_is_shown_if_told(tmp_path: Path, *, told: bool) -> None:
    """Else `/` is the start page. There is no GraphiQL, whatever is told."""
    given = {"storage": f"sqlite:///{tmp_path / 'wallet.db'}", "mode": "production", "example_page": told}
    settings = load_settings(**given)
    app = create_app(settings, playground(settings), wait=True)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://w") as http:
        page = (await http.get("/")).text
        assert ("<script" in page, "href=" in page) == (told, told)
        assert (await http.get("/start")).text.count("<script") == 0
        assert (await http.get("/graphiql")).status_code == 404


def test_the_built_files_are_not_old() -> None:
    """They were built of the sources as they are: the hash that the build wrote is theirs."""
    names = ["package-lock.json", "vite.config.js"]
    for folder in ("src", "../../clients/typescript/src"):
        found = (path for path in (WEB / folder).rglob("*") if path.is_file())
        names += [f"{folder}/{path.relative_to(WEB / folder).as_posix()}" for path in found]
    digest = sha256()
    for name in sorted(names):
        digest.update(name.encode() + b"\0" + (WEB / name).read_bytes() + b"\0")
    assert (BUILT / HASH).read_text() == digest.hexdigest(), "run npm run build in examples/web"


@pytest.mark.trial
def test_the_built_files_are_those_of_the_sources(tmp_path: Path) -> None:
    """`npm run build` makes the same bytes again, and the types of the page hold."""
    install(WEB)
    modules = WEB / "node_modules"
    out = {"OUT": str(tmp_path / "built")}
    run_program([program("node"), str(modules / "typescript" / "bin" / "tsc"), "--noEmit"], WEB, {})
    run_program([program("node"), str(modules / "vite" / "bin" / "vite.js"), "build"], WEB, out)
    for name in (NOTICE, HASH):
        assert (tmp_path / "built" / name).read_bytes() == (BUILT / name).read_bytes()
    for file in BUILT.iterdir():
        if not file.name.endswith(".gz"):
            continue
        made = (tmp_path / "built" / file.name).read_bytes()
        # The compressed bytes are those of one version of zlib.
        assert gzip.decompress(made) == gzip.decompress(file.read_bytes()), "run npm run build in examples/web"


# ---------------------------------------------------------------- in a browser


def test_a_payment_arrives_live_in_the_other_tab(demo: Demo, browser: Browser) -> None:
    """Alice pays bob, who is in another tab of her browser and sees it without asking: the notice and the balance."""
    with browser.page(width=WIDTHS["desktop"]) as alice, browser.page(width=WIDTHS["phone"], beside=alice) as bob:
        log_in(alice, demo, "alice")
        log_in(bob, demo, "bob", demo.other_url)
        alice_had, bob_had = balance(alice), balance(bob)
        watch(alice)
        watch(bob)
        pay(alice, "bob", "12.34")
        shows(alice, "€12.34 paid to bob")
        was_told(bob, "€12.34 received from alice")
        has(bob, bob_had + 1_234)
        alice.evaluate("location.hash = '#/'")
        has(alice, alice_had - 1_234)
        for page, name in ((alice, "alice"), (bob, "bob")):
            page.screenshot(SCREENSHOTS / f"wallet-paid-{name}.png")


def test_what_has_no_answer_stays_with_its_user(demo: Demo, browser: Browser) -> None:
    """Alice logs out while she pays, bob logs in: he neither sees nor sends it. When she is back it is paid once."""
    unanswered = "document.querySelector('.unanswered')"
    intents = "Object.keys(localStorage).filter((name) => name.includes(':intent:')).length"
    with browser.page() as page:
        log_in(page, demo, "alice")
        had = balance(page)
        page.evaluate(LOSE)
        pay(page, "bob", "4.44")
        page.wait_for("window.lost > 0", 30)
        page.click("header button", "Log out")
        page.evaluate("location.hash = '#/'")
        page.click(".demo button", "Try it as bob")
        page.wait_for(LIVE, 30)
        assert page.evaluate(f"{unanswered} === null")
        assert page.evaluate(intents) == 1
        page.evaluate("window.fetch = window.answered; 0")
        page.click("header button", "Log out")
        page.click(".demo button", "Try it as alice")
        page.wait_for(LIVE, 30)
        page.wait_for(f"{intents} === 0 && {unanswered} === null", 60)
        has(page, had - 444)
        assert page.evaluate("new Set(window.keys).size") == 1


KEEP_OLD: Final = """
(async () => {
  const query = '{ viewer { id accounts { id currency } } }';
  const headers = {'Content-Type': 'application/json'};
  const answer = await fetch('/graphql', {method: 'POST', headers, body: JSON.stringify({query})});
  const {id, accounts} = (await answer.json()).data.viewer;
  const fromAccountId = accounts.find(({currency}) => currency === 'EUR').id;
  const input = {fromAccountId, to: {username: 'bob'}, amount: {minorUnits: '222', currency: 'EUR'}};
  const decidedAt = new Date(Date.now() - 30 * 24 * 3600 * 1000).toISOString();
  const intent = {key: crypto.randomUUID(), operation: 'transfer', input, decidedAt, sent: false};
  localStorage.setItem(`wallet:${id}:intent:${intent.key}`, JSON.stringify(intent));
})()
"""
"""Alice decided a payment a month ago, which was never sent."""


def test_an_old_payment_is_not_sent_by_itself(demo: Demo, browser: Browser) -> None:
    """It was decided a month ago and never sent: the page says what it was, and it can be discarded."""
    with browser.page() as page:
        log_in(page, demo, "alice")
        had = balance(page)
        page.evaluate(KEEP_OLD)
        page.reload()
        shows(page, "It was not done.")
        shows(page, "€2.22")
        page.click(".unanswered button", "Discard")
        page.wait_for("!document.querySelector('.unanswered')", 30)
        assert page.evaluate("Object.keys(localStorage).filter((name) => name.includes(':intent:'))") == []
        has(page, had)


@pytest.mark.trial
def test_money_sent_back_without_an_answer_is_never_sent_back_twice(demo: Demo, browser: Browser) -> None:
    """While nobody knows what became of it there is no button to send back anew, and asking again has the same key."""
    with browser.page() as alice, browser.page(width=WIDTHS["phone"], height=740) as bob:
        log_in(alice, demo, "alice")
        log_in(bob, demo, "bob")
        bob_had = balance(bob)
        watch(bob)
        pay(alice, "bob", "6.00")
        has(bob, bob_had + 600)
        bob.click("a.line")
        amount = "[...document.querySelectorAll('form label')].find((e) => e.innerText.startsWith('Amount'))?.control"
        bob.wait_for(f"{amount}?.value === '6.00'", 30)
        bob.evaluate(f"{amount}.focus(), {amount}.select()")
        bob.write("1.50")
        alice.evaluate("location.hash = '#/'")
        balance(alice)
        pay(alice, "bob", "0.01")  # draws bob's page again, which keeps what is typed
        was_told(bob, "€0.01 received from alice")
        assert bob.evaluate(f"{amount}.value") == "1.50"
        bob.evaluate(LOSE)
        bob.click("form button[type=submit]", "Send back")
        bob.wait_for("window.lost > 0", 30)
        bob.click("main .open button", "Ask again")
        bob.wait_for("document.querySelector('form button[type=submit]') === null", 30)
        bob.evaluate("window.fetch = window.answered; 0")
        bob.wait_for("!document.querySelector('main .open, .unanswered')", 60)
        assert bob.evaluate("new Set(window.keys).size") == 1
        bob.evaluate("location.hash = '#/'")
        has(bob, bob_had + 600 + 1 - 150)


ASKED: Final = "performance.getEntriesByType('resource').filter(({name}) => name.endsWith('/graphql')).length"
FOCUS: Final = "(document.activeElement.labels?.[0] ?? document.activeElement).innerText"


def test_home_is_one_request_and_the_focus_follows(demo: Demo, browser: Browser) -> None:
    """Loaded anew it asks once. The heading takes the focus from the menu, a wrong field takes it from the button."""
    with browser.page() as page:
        log_in(page, demo, "bob")
        page.reload()
        balance(page)
        page.wait_for(LIVE, 30)
        assert page.evaluate(ASKED) == 1
        page.click("nav a", "Pay")
        page.wait_for(f"{FOCUS} === 'Pay'", 30)
        fill(page, "Pay to", "alice")
        fill(page, "Amount", "1.234")
        page.click("button[type=submit]", "Continue")
        page.wait_for(f"{FOCUS} === 'Amount'", 30)
        assert "2 decimals" in page.evaluate("document.querySelector('[role=alert]').innerText")
        described = "document.getElementById(document.activeElement.getAttribute('aria-describedby')).innerText"
        assert "2 decimals" in page.evaluate(described)


STOPS_MAX: Final = 30
ON_HEADING: Final = "document.activeElement.tagName === 'H1'"
"""The heading has taken the focus, which it does a moment after it is drawn."""


def tab_to(page: Page, name: str) -> None:
    """Press Tab until something of that name has the focus."""
    for _ in range(STOPS_MAX):
        page.press("Tab")
        if page.evaluate(FOCUS).startswith(name):
            return
    raise AssertionError(f"no key leads to {name}")


@pytest.mark.trial
def test_one_pays_by_keyboard_alone(demo: Demo, browser: Browser) -> None:
    """From the log-in to the payment, by Tab and Enter: nothing needs a pointer, and the focus is never lost."""
    with browser.page() as page:
        page.goto(demo.url)
        page.wait_for("document.querySelector('.demo button') !== null", 30)
        tab_to(page, "Try it as alice")
        page.press("Enter")
        page.wait_for(f"{LIVE} && {ON_HEADING}", 30)
        tab_to(page, "Pay")
        page.press("Enter")
        page.wait_for(f"{FOCUS} === 'Pay' && {ON_HEADING}", 30)
        tab_to(page, "Pay to")
        page.write("bob")
        tab_to(page, "Amount")
        page.write("0.50")
        page.press("Enter")
        page.wait_for(f"document.title === 'Check and confirm · Wallet' && {ON_HEADING}", 30)
        tab_to(page, "Pay €0.50")
        page.press("Enter")
        shows(page, "€0.50 paid to bob")


LOOKS: Final = [(width, scheme) for scheme in ("light", "dark") for width in WIDTHS.values()]
EXAMINED: Final = [(WIDTHS["phone"], "light"), (WIDTHS["desktop"], "dark")]
"""Each width and each scheme once: a colour is the same at any width."""


@pytest.mark.trial
def test_no_screen_has_a_serious_fault(demo: Demo, browser: Browser, axe: str) -> None:
    """Wide and narrow, light and dark: nothing has to be scrolled sideways, axe-core has nothing to say.

    A picture is kept of each.
    """
    faults: dict[tuple[str, int, str, str], str] = {}

    def look(page: Page, name: str, title: str, content: str) -> None:
        page.wait_for(f"document.title === '{title} · Wallet' && document.querySelector('{content}') !== null", 30)
        for width, scheme in LOOKS:
            page.resize(width, 900, scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if (width, scheme) in EXAMINED:
                found = page.evaluate(RUN_AXE)
                assert found["passes"] > 10
                for fault in found["violations"]:
                    faults[name, width, scheme, fault["id"]] = fault["nodes"][0]["html"]
            page.screenshot(SCREENSHOTS / f"wallet-{name}-{width}-{scheme}.png")

    for name, screens in (("alice", SCREENS), ("cafe", MERCHANTS)):
        with browser.page() as page:
            page.goto(demo.url)
            page.evaluate(f"{axe};0")
            if name == "alice":
                look(page, "log-in", "Welcome back", ".demo button")
                page.click("button", "I am new here")
                look(page, "sign-up", "Create your wallet", "input[name=email]")
                page.click("button", "I have a wallet already")
            page.click(".demo button", f"Try it as {name}")
            page.wait_for(LIVE, 30)
            for screen, (title, content) in screens.items():
                page.evaluate(f"location.hash = '#/{screen}'")
                look(page, (screen or "home").replace("/", "-"), title, content)
            if name == "alice":
                check(page, "cafe", "1.00")
                look(page, "review", "Check and confirm", ".total")
                page.evaluate("location.hash = '#/'")
                page.click("a.line")
                page.wait_for("document.querySelector('dl code') !== null", 30)
                look(page, "transfer", page.evaluate("document.querySelector('h1').innerText"), "dl code")
    assert faults == {}


NARROWEST: Final = 320
TOUCHING: Final = """
(() => {
  const all = [...document.querySelectorAll('nav a span')];
  const boxes = all.map((label) => label.getBoundingClientRect());
  const isCut = (label) => label.scrollWidth > label.clientWidth;
  const touches = (place) => place > 0 && boxes[place].left - boxes[place - 1].right < 3;
  return all.filter((label, place) => isCut(label) || touches(place)).map((label) => label.innerText);
})()
"""
"""The labels of the menu that are cut, or that touch the one before."""


@pytest.mark.parametrize("name", ["alice", "cafe"])
def test_the_menu_can_be_read_on_the_narrowest_phone(demo: Demo, browser: Browser, name: str) -> None:
    """At 320 pixels, in both languages, wherever one is: no label is cut, none touches another."""
    with browser.page(width=NARROWEST, height=640) as page:
        log_in(page, demo, name)
        for language in ("en", "de"):
            choose(page, "Language", language)
            page.wait_for(f"document.documentElement.lang === '{language}'", 30)
            places = page.evaluate("[...document.querySelectorAll('nav a')].map((link) => link.hash)")
            for place in places:
                page.evaluate(f"location.hash = '{place}'")
                page.wait_for(f"document.querySelector('nav a[aria-current]')?.hash === '{place}'", 30)
                assert page.evaluate(TOUCHING) == [], (language, place)
                assert page.evaluate("document.documentElement.scrollWidth") <= NARROWEST


@pytest.mark.trial
def test_german_fits_on_a_phone(demo: Demo, browser: Browser) -> None:
    """Its words are longer: no screen has to be scrolled sideways. A picture is kept of each."""
    for name, screens in (("alice", SCREENS), ("cafe", MERCHANTS)):
        with browser.page(width=WIDTHS["phone"], height=900) as page:
            log_in(page, demo, name)
            choose(page, "Language", "de")
            shows(page, "Abmelden")
            for screen, (_, content) in reversed(screens.items()):  # home, where it is now, comes last
                before = json.dumps(page.evaluate("document.title"))
                page.evaluate(f"location.hash = '#/{screen}'")
                page.wait_for(f"document.title !== {before} && document.querySelector('{content}') !== null", 30)
                assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS["phone"]
                page.screenshot(SCREENSHOTS / f"wallet-{(screen or 'home').replace('/', '-')}-360-de.png")
