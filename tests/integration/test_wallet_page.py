"""The wallet for people: the served files, and two of them in a browser, one of whom pays the other."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.integration._browser import Browser, Page, running_browser
from tests.integration._clients import CLIENTS, ROOT, install, program, run_program
from tests.integration._demo import Demo, running_demo
from tests.integration._server import serving
from wallet_gql.testing.patience import patience
from wallet_gql.transports.web import wallet

WEB: Final = ROOT / "examples" / "web"
BUILT: Final = files(wallet) / "built"
NOTICE: Final = "LICENSE.preact"
HASH: Final = "sources.sha256"
SCREENSHOTS: Final = ROOT / "build" / "screenshots"
SCRIPT_MAX: Final = 200 * 1024
WIDTHS: Final = {"phone": 360, "desktop": 1280}
SCREENS: Final = {"": ".balance", "history": ".line", "holds": ".lines", "statement": ".sums", "security": ".line"}
RUN_AXE: Final = """
axe.run({resultTypes: ["violations"]}).then(({violations, passes}) => ({violations, passes: passes.length}))
"""
LIVE: Final = "document.querySelector('.live.on') !== null"

pytestmark = pytest.mark.timeout(400)  # the first test that needs axe-core installs it


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A wallet with alice, bob and a merchant."""
    with running_demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    with running_browser() as running:
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
        assert page.headers["content-security-policy"] == wallet.POLICY
        assert "unsafe" not in wallet.POLICY
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
        assert "curl" in http.get("/start").text


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


def test_it_is_for_development_only(tmp_path: Path) -> None:
    """In production `/` is the start page."""
    with (
        serving(tmp_path, mode="production") as server,
        httpx.Client(base_url=server.url, timeout=patience(30)) as http,
    ):
        assert "<script" not in http.get("/").text
        assert http.get("/wallet/wallet.js").status_code == 404


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


@pytest.mark.soak
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


def log_in(page: Page, demo: Demo, name: str) -> None:
    """Open the wallet as somebody, by one click, and wait until events come."""
    page.goto(demo.url)
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
    """Type into the input with that label."""
    found = f"[...document.querySelectorAll('label')].find((label) => label.innerText.startsWith({json.dumps(label)}))"
    page.wait_for(f"Boolean({found})", 30)
    page.evaluate(f"{found}.control.focus()")
    page.write(text)


def pay(page: Page, to: str, amount: str) -> None:
    """Fill in a payment, check it, and confirm it."""
    page.evaluate("location.hash = '#/pay'")
    fill(page, "Pay to", to)
    fill(page, "Amount", amount)
    page.click("button[type=submit]", "Continue")
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


def test_a_payment_arrives_live_in_the_other_tab(demo: Demo, browser: Browser) -> None:
    """Alice pays bob, who sees it without asking: the notice, the entry, the balance."""
    with browser.page(width=WIDTHS["desktop"]) as alice, browser.page(width=WIDTHS["phone"], height=740) as bob:
        log_in(alice, demo, "alice")
        log_in(bob, demo, "bob")
        alice_had, bob_had = balance(alice), balance(bob)
        watch(alice)
        watch(bob)
        pay(alice, "bob", "12.34")
        shows(alice, "Paid")
        was_told(bob, "€12.34 received from alice")
        has(bob, bob_had + 1_234)
        alice.evaluate("location.hash = '#/'")
        has(alice, alice_had - 1_234)
        for page, name in ((alice, "alice"), (bob, "bob")):
            page.screenshot(SCREENSHOTS / f"wallet-paid-{name}.png")


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


def test_a_lost_answer_is_asked_for_again_after_a_reload(demo: Demo, browser: Browser) -> None:
    """The payment arrived, its answer was lost, the page is loaded anew: the same key is sent, and it is paid once."""
    with browser.page(width=WIDTHS["phone"], height=740) as page:
        log_in(page, demo, "alice")
        had = balance(page)
        page.evaluate(LOSE)
        pay(page, "bob", "3.21")
        page.wait_for("window.lost > 0", 30)
        shows(page, "1 payment has no answer yet.")
        kept = page.evaluate("Object.keys(localStorage).filter((name) => name.includes(':intent:'))")
        assert len(kept) == 1
        page.evaluate("location.hash = '#/'")
        page.call("Page.reload")
        page.wait_for(f"localStorage.getItem({json.dumps(kept[0])}) === null", 60)
        page.wait_for("!document.querySelector('.unanswered') && document.querySelector('.balance') !== null", 30)
        has(page, had - 321)


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
        page.call("Page.reload")
        shows(page, "It was not done.")
        shows(page, "€2.22")
        page.click(".unanswered button", "Discard")
        page.wait_for("!document.querySelector('.unanswered')", 30)
        assert page.evaluate("Object.keys(localStorage).filter((name) => name.includes(':intent:'))") == []
        has(page, had)


def test_reserved_money_is_taken_and_sent_back(demo: Demo, browser: Browser) -> None:
    """Alice reserves, bob sees it live and takes it, then sends it back: in the end both have what they had."""
    with browser.page() as alice, browser.page(width=WIDTHS["phone"], height=740) as bob:
        log_in(alice, demo, "alice")
        log_in(bob, demo, "bob")
        alice_had, bob_had = balance(alice), balance(bob)
        watch(alice)
        watch(bob)
        alice.evaluate("location.hash = '#/pay/bob'")
        fill(alice, "Amount", "5")
        alice.click(".check input")
        alice.click("button[type=submit]", "Continue")
        alice.click("button", "Reserve €5.00")
        shows(bob, "1 amount is reserved for you")
        bob.click(".hold button", "Take")
        was_told(bob, "€5.00 received from alice")
        has(bob, bob_had + 500)
        bob.click("a.line")
        bob.click("button[type=submit]", "Send back")
        was_told(alice, "€5.00 received from bob")
        for page, had in ((alice, alice_had), (bob, bob_had)):
            page.evaluate("location.hash = '#/'")
            has(page, had)


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


def test_too_little_money_is_told_before_it_is_sent(demo: Demo, browser: Browser) -> None:
    """The preview refuses; nothing was decided, so there is no key."""
    with browser.page() as page:
        log_in(page, demo, "bob")
        page.evaluate("location.hash = '#/pay/alice'")
        fill(page, "Amount", "999999")
        page.click("button[type=submit]", "Continue")
        shows(page, "is available.")
        assert page.evaluate("Object.keys(localStorage).filter((name) => name.includes(':intent:'))") == []


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (WIDTHS["phone"], "light"),
        (WIDTHS["desktop"], "dark"),
        pytest.param(WIDTHS["phone"], "dark", marks=pytest.mark.soak),
        pytest.param(WIDTHS["desktop"], "light", marks=pytest.mark.soak),
    ],
)
def test_no_screen_has_a_serious_fault(demo: Demo, browser: Browser, axe: str, width: int, scheme: str) -> None:
    """axe-core has nothing to say, nothing has to be scrolled sideways, and a picture is kept of each."""
    faults: dict[str, Any] = {}
    with browser.page(width=width, height=900) as page:
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        log_in(page, demo, "alice")
        page.evaluate(f"{axe};0")
        for screen, content in {**SCREENS, "pay/cafe": ".found .icon"}.items():
            page.evaluate(f"location.hash = '#/{screen}'")
            shown = f"document.querySelector('nav [aria-current]').hash === '#/{screen.partition('/')[0]}'"
            page.wait_for(f"{shown} && document.querySelector({json.dumps(content)}) !== null", 30)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            found = page.evaluate(RUN_AXE)
            assert found["passes"] > 10
            if found["violations"]:
                faults[screen] = [(fault["id"], fault["nodes"][0]["html"]) for fault in found["violations"]]
            name = (screen or "home").replace("/", "-")
            page.screenshot(SCREENSHOTS / f"wallet-{name}-{width}-{scheme}.png")
    assert faults == {}
