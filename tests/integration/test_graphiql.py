"""GraphiQL: what is served, and every example tab clicked in a real browser against a real server."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from graphql import parse, validate
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tests.integration._browser import Browser, Page
from tests.integration._demo import running_demo
from tests.integration._graphql import SCHEMA
from tests.integration._in_a_thread import in_a_thread
from wallet_gql.domain.ids import OPERATOR
from wallet_gql.domain.users import SessionKind
from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.transports.graphql.cursors import cursor_of
from wallet_gql.transports.http.compression import accepts_gzip
from wallet_gql.transports.server.app import create_app
from wallet_gql.transports.web import graphiql
from wallet_gql.transports.web.graphiql import POLICY, Tab, demo_tabs, routes, start_tabs
from wallet_gql.verbs.ledger import To

SCREENSHOTS: Final = Path(__file__).resolve().parents[2] / "build" / "screenshots"
VENDOR: Final = files(graphiql) / "vendor"
PASSWORD: Final = "plain maroon bicycle"
PAYMENTS: Final = 12
PAGE: Final = 5

READY: Final = "document.querySelector('.graphiql-query-editor .CodeMirror') !== null"
TITLES: Final = (
    "[...document.querySelectorAll('.graphiql-tab [id^=graphiql-session-tab]')].map(e => e.innerText.trim())"
)
QUERY: Final = "document.querySelector('.graphiql-query-editor .CodeMirror').CodeMirror"
ANSWER: Final = "document.querySelector('.result-window .CodeMirror')?.CodeMirror.getValue()"
VARIABLES: Final = "document.querySelector('.graphiql-editor-tool .CodeMirror').CodeMirror.getValue()"
EXECUTE: Final = "[aria-label^='Execute query']"
STOP: Final = "[aria-label^='Stop query']"
TAB: Final = ".graphiql-tab [id^=graphiql-session-tab]"

# What each tab must answer, given its data and the answers of the tabs before it.
EXPECTED: Final[dict[str, Callable[[Any, dict[str, Any]], bool]]] = {
    "LogIn": lambda data, _: data["logIn"]["user"] == {"username": "alice"} and data["logIn"]["token"] is None,
    "WhoAmI": lambda data, _: data["viewer"]["username"] == "alice",
    "Balances": lambda data, _: "EUR" in [a["available"]["currency"] for a in data["viewer"]["accounts"]],
    "HistoryPage1": lambda data, _: _go_down(_sequences(data)),
    "HistoryPage2": lambda data, before: _go_down([*_sequences(before["HistoryPage1"]), *_sequences(data)], 2 * PAGE),
    "Transfer": lambda data, _: (_did(data), data["transfer"]["replayed"]) == ("TransferSuccess", False),
    "SameKeyAgain": lambda data, before: (
        data["transfer"]["replayed"] is True
        and data["transfer"]["transfer"] == before["Transfer"]["transfer"]["transfer"]
    ),
    "InsufficientFunds": lambda data, _: _did(data) == "InsufficientFunds" and not data["transfer"]["retryable"],
    "PlaceHold": lambda data, _: _held(data["placeHold"]) and data["placeHold"]["hold"]["state"] == "OPEN",
    "CaptureHold": lambda data, _: data["captureHold"]["transfer"]["kind"] == "CAPTURE",
    "AccountEvents": lambda data, _: data["accountEvents"]["account"]["state"] == "OPEN",
}
AGAIN: Final = {"Transfer": "transfer", "PlaceHold": "placeHold", "CaptureHold": "captureHold"}
"""Tabs that move money when they are first run; what they answer the second time says that nothing was done."""


def _sequences(data: Any) -> list[int]:
    return [int(edge["node"]["sequence"]) for edge in data["account"]["history"]["edges"]]


def _go_down(sequences: list[int], count: int = PAGE) -> bool:
    return sequences == [sequences[0] - place for place in range(count)]


def _held(placed: Any) -> bool:
    """Whether what is held is exactly what is not available."""
    amounts = (Decimal(placed["fromAccount"][name]["decimal"]) for name in ("posted", "held", "available"))
    posted, held, available = amounts
    return posted - held == available < posted


def _did(data: Any) -> str:
    return str(data["transfer"]["__typename"])


@dataclass(frozen=True, slots=True)
class Site:
    """A server with a furnished wallet: `/graphiql` has `tabs`, `/others` one tab, `/empty` none."""

    port: int
    tabs: list[Tab]
    token: str

    def url(self, path: str = "/graphiql", host: str = "localhost") -> str:
        """The address of a path."""
        return f"http://{host}:{self.port}{path}"


async def _furnish(wallet: Wallet) -> tuple[list[Tab], str]:
    """Alice, who paid bob a dozen times; gives the tabs that fit, and a bearer token of hers."""
    alice = await wallet.identity.sign_up("alice", "alice@example.org", PASSWORD)
    bob = await wallet.identity.sign_up("bob", "bob@example.org", PASSWORD)
    euros = await wallet.ledger.open_account(alice.id, "EUR")
    for user, currency in ((alice, "JPY"), (bob, "EUR")):
        await wallet.ledger.open_account(user.id, currency)
    await wallet.ledger.deposit(OPERATOR, "seed", euros.id, 100_000, "EUR", reference="salary")
    for number in range(PAYMENTS):
        await wallet.ledger.transfer(
            alice.id,
            f"seed-{number}",
            source=euros.id,
            to=To(username="bob"),
            amount_minor=100 + number,
            currency="EUR",
            reference=f"coffee {number}",
        )
    hold = await wallet.ledger.place_hold(
        bob.id,
        "seed-hold",
        source=(await wallet.ledger.accounts(bob.id))[0].id,
        to=To(username="alice"),
        amount_minor=250,
        currency="EUR",
    )
    last = (await wallet.ledger.account(alice.id, euros.id)).sequence
    tabs = demo_tabs(
        username="alice",
        password=PASSWORD,
        account_id=euros.id,
        payee="bob",
        after=cursor_of(last - PAGE + 1),
        hold_id=hold.result.id,
        page_size=PAGE,
    )
    return tabs, (await wallet.identity.log_in("alice", PASSWORD, SessionKind.BEARER)).token


BROKEN: Final = {
    "console": ("<script>console.error('I am broken')</script>", "I am broken"),
    "exception": ("<script>throw new Error('I am thrown')</script>", "I am thrown"),
    "policy": ("<script src='data:text/javascript,1'></script>", "Content Security Policy"),
    "elsewhere": ("<img src='http://elsewhere.example/x.png'>", "a request to another host"),
    "missing": ("<img src='/nowhere.png'>", "404"),
}


async def _broken(request: Request) -> HTMLResponse:
    policy = "img-src *; script-src 'unsafe-inline'"
    body = BROKEN[request.path_params["name"]][0]
    return HTMLResponse(f"<link rel='icon' href='data:,'>{body}", headers={"Content-Security-Policy": policy})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The app on uvicorn, with the page and pages that are broken on purpose."""
    folder = tmp_path_factory.mktemp("graphiql")
    settings = load_settings(storage=f"sqlite:///{folder / 'wallet.db'}", mode="test")

    async def furnish() -> tuple[list[Tab], str]:
        async with open_wallet(settings, sweeps=False) as wallet:
            return await _furnish(wallet)

    tabs, token = asyncio.run(furnish())
    others = [replace(tabs[1], headers={"Authorization": f"Bearer {token}"}), tabs[0]]
    app = create_app(settings)
    app.router.routes[:0] = [
        *routes(tabs),
        *routes(others, "/others"),
        *routes([], "/empty"),
        Route("/broken/{name}", _broken),
    ]
    with in_a_thread(app) as port:
        yield Site(port, tabs, token)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page; whatever it does wrong fails the test."""
    with browser.page() as opened:
        yield opened


def _open(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for(READY)


def _choose(page: Page, title: str) -> None:
    page.click(TAB, title)
    _wait_until_chosen(page, title)


def _wait_until_chosen(page: Page, title: str) -> None:
    # It reads the operation's name from the text 100 ms after the tab has changed, and sends it along.
    page.wait_for(
        f"/^(query|mutation|subscription) {title}\\b/m.test({QUERY}.getValue()) && {QUERY}.operationName === '{title}'"
    )


def _answer(page: Page) -> Any:
    """The data of the answer on the page, which must be free of errors."""
    answer = json.loads(page.wait_for(f"!document.querySelector('.graphiql-spinner') && {ANSWER}"))
    assert "errors" not in answer, answer
    return answer["data"]


def _run(page: Page, title: str) -> Any:
    _choose(page, title)
    page.click(EXECUTE)
    answer = _answer(page)
    if title == "AccountEvents":
        page.click(STOP)
        page.wait_for(f"document.querySelector({json.dumps(EXECUTE)}) !== null")
    return answer


def run_every_tab(page: Page, url: str) -> None:
    """Open the page, run its examples in their order, and look at each answer; then run them all a second time."""
    _open(page, url)
    assert page.evaluate("document.title") == "wallet-gql: GraphiQL"
    assert page.evaluate(TITLES) == list(EXPECTED)
    answers: dict[str, Any] = {}
    for title, expected in EXPECTED.items():
        answers[title] = _run(page, title)
        assert expected(answers[title], answers), (title, answers[title])
        if title == "Transfer":
            page.evaluate("document.activeElement.blur()")
            page.screenshot(SCREENSHOTS / "graphiql-transfer.png")
        if title == "CaptureHold":
            page.screenshot(SCREENSHOTS / "graphiql-capture.png")
    for title in EXPECTED:
        again = _run(page, title)
        if field := AGAIN.get(title):
            assert (answers[title][field]["replayed"], again[field]["replayed"]) == (False, True)
            assert all(
                again[field][part] == answers[title][field][part]
                for part in ("transfer", "hold")
                if part in again[field]
            )


# ---------------------------------------------------------------- what is served


def test_vendored_files_are_the_published_ones() -> None:
    """Every vendored file has the content that was checked when it was fetched, a licence, and a size fit for git."""
    lines = [line.split() for line in (VENDOR / "VERSIONS").read_text().splitlines() if not line.startswith("#")]
    assert {f"{line[3]}.gz" for line in lines} == {path.name for path in VENDOR.iterdir() if path.name.endswith(".gz")}
    for package, _version, licence, name, digest in lines:
        gzipped = (VENDOR / f"{name}.gz").read_bytes()
        assert sha256(gzip.decompress(gzipped)).hexdigest() == digest
        assert len(gzipped) < 2**20
        assert licence in (VENDOR / f"LICENSE.{package}").read_text()


def test_page_obeys_a_strict_policy(site: Site) -> None:
    """The page has no inline script, names only files of its own server, and says so in its policy."""
    response = httpx.get(site.url())
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"] == POLICY
    assert all(tag.endswith("></script>") and " src=" in tag for tag in re.findall(r"<script.*", response.text))
    named = re.findall(r' (?:href|src)="([^"]*)"', response.text)
    assert len(named) == 9
    assert all(name.startswith(("/", "data:image/svg+xml,")) for name in named)
    for name in named:
        if name.startswith("/"):
            assert httpx.get(site.url(name)).is_success, name


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_assets_are_kept_for_ever(site: Site, encoding: str) -> None:
    """Assets come gzipped or plain as the client can take them, may be kept for ever, and are not sent twice."""
    names = re.findall(r'"(/graphiql/[^"]*\.(?:js|css))"', httpx.get(site.url()).text)
    assert len(names) == 6
    for name in names:
        first = httpx.get(site.url(name), headers={"Accept-Encoding": encoding})
        assert first.headers.get("content-encoding", "identity") == encoding
        assert first.headers["content-type"].split(";")[0] == (
            "text/css" if name.endswith("css") else "text/javascript"
        )
        assert first.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert first.headers["vary"] == "Accept-Encoding"
        assert first.headers["x-content-type-options"] == "nosniff"
        conditional = {"Accept-Encoding": encoding, "If-None-Match": f'"other", {first.headers["etag"]}'}
        again = httpx.get(site.url(name), headers=conditional)
        assert (again.status_code, again.content) == (httpx.codes.NOT_MODIFIED, b"")


def test_unknown_assets_are_not_found(site: Site) -> None:
    """A name that is none of the assets, or one of another version, is answered with 404."""
    for name in ("boot.js", "boot.0123456789abcdef.js", "..%2fpage.html", "page.html", "vendor"):
        assert httpx.get(site.url(f"/graphiql/{name}")).status_code == httpx.codes.NOT_FOUND, name


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0.001", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0, *", False),
        ("br, *;q=0", False),
    ],
)
def test_gzip_is_sent_only_where_it_is_taken(header: str, accepted: bool) -> None:
    """`Accept-Encoding` is read with its weights."""
    assert accepts_gzip(header) is accepted


def test_examples_are_data(site: Site) -> None:
    """`tabs.json` holds the given tabs, is kept by no cache, and has another id for other tabs."""
    response = httpx.get(site.url("/graphiql/tabs.json"))
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    sent = response.json()
    assert [Tab(**tab) for tab in sent["tabs"]] == site.tabs
    assert sent["id"] != httpx.get(site.url("/others/tabs.json")).json()["id"]


def test_paths_follow_a_mounted_app(site: Site) -> None:
    """Under a prefix the page names its files and the API with the prefix."""
    transport = httpx.ASGITransport(routes(site.tabs)[0], root_path="/wallet")

    async def fetch() -> str:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return (await client.get("/wallet/graphiql")).text

    text = asyncio.run(fetch())
    assert 'data-graphql="/wallet/graphql"' in text
    assert 'data-tabs="/wallet/graphiql/tabs.json"' in text
    assert not re.findall(r'(?:src|href)="/(?!wallet/)', text)


@pytest.mark.parametrize(
    "query", ["{ a }", "query Other { a }", "query A { a } mutation A { b }", "fragment A on B { c }", "# query A"]
)
def test_a_tab_is_named_after_its_operation(query: str) -> None:
    """A tab whose title is not the name of its one operation is refused, because GraphiQL would show another."""
    with pytest.raises(ValueError, match="the tab 'A'"):
        Tab("A", query)


def test_tabs_fit_the_schema(site: Site) -> None:
    """Every example is valid against the schema and begins with a comment that explains it."""
    for tab in [*site.tabs, *start_tabs()]:
        assert validate(SCHEMA, parse(tab.query)) == [], tab.title
        comment = [line for line in tab.query.splitlines() if line.startswith("# ")]
        assert tab.query.startswith("# ")
        assert max(map(len, comment)) <= 56, "longer lines are cut off in the editor"


# ---------------------------------------------------------------- in the browser


@pytest.mark.trial
@pytest.mark.slow
def test_every_tab_works(site: Site, page: Page) -> None:
    """Each example, opened and run by clicks, answers what it promises; the transfer is kept as a picture."""
    run_every_tab(page, site.url())
    assert page.evaluate("document.cookie") == "", "scripts must not see the session"


@pytest.mark.trial
def test_every_tab_of_the_demo_works(tmp_path: Path, page: Page) -> None:
    """The same with the examples of a real `wallet-gql demo`, over what it has furnished."""
    with running_demo(tmp_path) as demo:
        run_every_tab(page, f"{demo.url}/graphiql")


@pytest.mark.slow
def test_a_subscription_goes_on(site: Site, page: Page) -> None:
    """Events arrive as they happen, until the user presses stop."""
    _open(page, site.url())
    _run(page, "LogIn")
    _choose(page, "AccountEvents")
    page.click(EXECUTE)
    first = _answer(page)["accountEvents"]
    assert first["entry"] is None
    variables = json.loads(page.evaluate(VARIABLES))
    headers = {"Authorization": f"Bearer {site.token}"}
    pay = """mutation($input: TransferInput!) { transfer(input: $input) { __typename } }"""
    given = {
        "idempotencyKey": "seen in GraphiQL",
        "fromAccountId": variables["accountId"],
        "to": {"username": "bob"},
        "amount": {"minorUnits": "1", "currency": "EUR"},
    }
    paid = httpx.post(site.url("/graphql"), json={"query": pay, "variables": {"input": given}}, headers=headers)
    assert paid.json()["data"]["transfer"]["__typename"] == "TransferSuccess"
    page.wait_for(f"{ANSWER}.includes('-0.01')")
    assert int(_answer(page)["accountEvents"]["sequence"]) == int(first["sequence"]) + 1
    page.click(STOP)
    page.wait_for(f"document.querySelector({json.dumps(EXECUTE)}) !== null")


@pytest.mark.slow
def test_session_works_by_address_too(site: Site, page: Page) -> None:
    """The browser keeps the Secure cookie over plain http on 127.0.0.1 as it does on localhost."""
    _open(page, site.url(host="127.0.0.1"))
    _run(page, "LogIn")
    assert _run(page, "WhoAmI")["viewer"]["username"] == "alice"


@pytest.mark.slow
def test_second_visit_keeps_edits(site: Site, page: Page) -> None:
    """What the visitor wrote is there at the next visit, until they ask for the examples again."""
    _open(page, site.url())
    _choose(page, "Balances")
    page.evaluate(f"{QUERY}.focus(), {QUERY}.setCursor(0, 0)")
    page.write("# this is mine\n")
    page.wait_for("Object.values(localStorage).filter(text => text.includes('this is mine')).length === 2")
    page.wait_for("Object.keys(localStorage).every(key => key.startsWith('wallet-gql:'))")

    _open(page, site.url())
    assert page.evaluate(TITLES) == list(EXPECTED)
    assert page.evaluate(f"{QUERY}.getValue()").startswith("# this is mine\n# One account")

    page.click("#restore")
    page.wait_for(f"{READY} && {QUERY}.getValue().startsWith('# Start here')")
    assert page.dialogs == ["Put the example tabs back as they were? Your own tabs are dropped."]
    assert page.evaluate(TITLES) == list(EXPECTED)
    _choose(page, "Balances")
    assert "mine" not in page.evaluate(f"{QUERY}.getValue()")


@pytest.mark.slow
def test_other_examples_replace_the_old_ones(site: Site, page: Page) -> None:
    """Another wallet at the same address brings its own examples: old ones would name accounts that are gone."""
    _open(page, site.url())
    key = page.wait_for("Object.keys(localStorage).find(key => key.endsWith('graphiql:tabState'))")
    page.evaluate(f"localStorage.setItem('{key}', 'no JSON')")
    _open(page, site.url())
    assert page.evaluate(TITLES) == list(EXPECTED), "what cannot be read is replaced, too"

    _open(page, site.url("/others"))
    assert page.evaluate(TITLES) == ["WhoAmI", "LogIn"]
    assert page.evaluate("Object.keys(localStorage).filter(key => key.endsWith('graphiql:tabState')).length") == 1

    _open(page, site.url("/empty"))
    assert page.evaluate(f"{QUERY}.getValue()").startswith("# Welcome to GraphiQL")
    assert page.evaluate("document.getElementById('restore').hidden")


@pytest.mark.slow
def test_headers_of_a_tab_are_sent(site: Site, page: Page) -> None:
    """A tab's own headers go with its requests, also at the second visit, and without a session of the browser."""
    for _visit in range(2):
        _open(page, site.url("/others"))
        assert page.evaluate(TITLES) == ["WhoAmI", "LogIn"]
        assert _run(page, "WhoAmI")["viewer"]["username"] == "alice"
        page.wait_for(
            f"Object.values(localStorage).some(text => text.includes('tabs') && text.includes('{site.token}'))"
        )


@pytest.mark.slow
def test_keyboard_and_names(site: Site, page: Page) -> None:
    """A tab is opened and run without a mouse, the schema can be read, and everything to press has a name."""
    _open(page, site.url())
    page.evaluate("document.querySelector('header a:last-of-type').focus()")
    page.press("Tab")
    assert page.evaluate("document.activeElement.id") == "restore"
    page.evaluate("document.getElementById('graphiql-session-tab-1').focus()")
    page.press("Enter")
    _wait_until_chosen(page, "WhoAmI")
    page.evaluate(f"{QUERY}.focus()")
    page.press("Enter", control=True)
    refused = json.loads(page.wait_for(ANSWER))
    assert refused["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED", refused

    page.click("[aria-label='Show Documentation Explorer']")
    page.wait_for("document.querySelector('.graphiql-doc-explorer')?.innerText.includes('TransferResult')")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    seen = [(node["role"]["value"], node["name"]["value"]) for node in nodes if not node["ignored"]]
    to_use = [(role, name) for role, name in seen if role in {"button", "link", "tab", "textbox"}]
    assert {("button", "Execute query (Ctrl-Enter)"), ("textbox", "Query"), ("link", "Start page")} <= set(to_use)
    assert [role for role, name in to_use if not name] == []
    assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_driver_tells_what_a_page_does_wrong(site: Site, browser: Browser, name: str) -> None:
    """A page that logs an error, throws, breaks its policy, asks another host or lacks a file fails its test."""
    with pytest.raises(AssertionError, match=BROKEN[name][1]), browser.page() as page:
        page.goto(site.url(f"/broken/{name}"))
