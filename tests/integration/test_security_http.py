"""Browsers, proxies and headers: when a cookie counts, which sites may read answers, whose address is counted."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.requests import HTTPConnection

from tests.integration._server import (
    LOG_IN,
    PASSWORD,
    TRANSFER,
    VIEWER,
    Client,
    Person,
    Server,
    new_key,
    run_cli,
    serving,
    settle,
    settle_all,
)
from wallet_gql.domain.errors import ConfigurationError
from wallet_gql.runtime import open_wallet
from wallet_gql.setting_values import origin_of
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience, wait_until
from wallet_gql.transports.http.origins import is_same_site
from wallet_gql.transports.http.security import ASKED_HEADERS, TOOL_HEADERS
from wallet_gql.transports.rest.routes import OPERATIONS
from wallet_gql.transports.server.app import create_app

DEV_SERVER: Final = "http://localhost:5173"

pytestmark = pytest.mark.serving(
    allowed_origins=f"{DEV_SERVER}, HTTPS://App.Example:443", allowed_headers="X-Tenant x-region"
)
OWN: Final = {"Sec-Fetch-Site": "same-origin"}
EVENTS: Final = """query($first: Int!, $after: String) { viewer { securityEvents(first: $first, after: $after) {
  edges { cursor node { id kind createdAt address userAgent subject } } pageInfo { hasNextPage endCursor } } } }"""


@asynccontextmanager
async def app_with(base_url: str = "http://localhost:8000", client: str = "127.0.0.1", **settings: Any) -> Any:
    """A client of an application in this process, and a person; the client's address and the settings as given."""
    async with open_wallet(
        load_settings(**{"storage": "memory://", "mode": "test", **settings}), sweeps=False
    ) as wallet:
        app = create_app(wallet)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, client=(client, 50_000))
            async with httpx.AsyncClient(transport=transport, base_url=base_url) as http:
                yield http, await settle(wallet, 1_000)


@pytest.fixture
async def local() -> AsyncIterator[tuple[httpx.AsyncClient, Person]]:
    """A browser on the developer's own machine."""
    async with app_with() as both:
        yield both


def cookie(person: Person, name: str = "__Host-wallet") -> dict[str, str]:
    """The person's session as a browser sends it."""
    return {"Cookie": f"{name}={person.token}"}


# Other sites


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Sec-Fetch-Site": "same-site", "Origin": DEV_SERVER}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://app.example"}, True),
        ({"Origin": DEV_SERVER}, True),
        ({"Origin": "HTTPS://APP.EXAMPLE"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:5174"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://localhost:5173"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://app.example.evil.example"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil-app.example"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "nonsense"}, False),
        ({}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("api", ["graphql", "rest"])
def test_allowed_origins_may_use_the_cookie(
    server: Server, people: list[Person], api: str, headers: dict[str, str], allowed: bool
) -> None:
    """What `WALLET_ALLOWED_ORIGINS` names may pay with the user's cookie; everybody else gets 403 and moves nothing."""
    payer, payee = people
    with httpx.Client(base_url=server.url, headers={**cookie(payer), **headers}, timeout=patience(30)) as http:
        if api == "graphql":
            body = {"query": TRANSFER, "variables": {"input": payer.pay(payee.username, 1)}}
            answer = http.post("/graphql", json=body)
        else:
            payment = {key: value for key, value in payer.pay(payee.username, 1).items() if key != "idempotencyKey"}
            answer = http.post("/v1/transfer", json=payment, headers={"Idempotency-Key": new_key()})
    if allowed:
        assert answer.status_code in (200, 201), answer.text
        assert "SUCCESS" in answer.text.upper() or "transfer" in answer.json()
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "CROSS_SITE")


def test_cors_is_for_allowed_origins_alone(server: Server, people: list[Person]) -> None:
    """They are granted credentials by name, never by `*`; others are granted nothing."""
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type, idempotency-key"}
    with httpx.Client(base_url=server.url) as http:
        for path in ("/graphql", "/v1/transfer"):
            granted = http.options(path, headers={"Origin": DEV_SERVER, **ask})
            assert granted.status_code == 200
            assert granted.headers["access-control-allow-origin"] == DEV_SERVER
            assert granted.headers["access-control-allow-credentials"] == "true"
            assert {one.method for one in OPERATIONS} <= set(
                granted.headers["access-control-allow-methods"].split(", ")
            )
            assert "Origin" in granted.headers["vary"]
            for origin in ("https://evil.example", "null", f"{DEV_SERVER}.evil.example"):
                refused = http.options(path, headers={"Origin": origin, **ask})
                assert refused.status_code == 400
                assert "access-control-allow-origin" not in refused.headers
        body = {"query": VIEWER}
        own = {**cookie(people[0]), "Origin": DEV_SERVER, "Sec-Fetch-Site": "same-site"}
        read = http.post("/graphql", json=body, headers=own)
        assert read.headers["access-control-allow-origin"] == DEV_SERVER
        assert read.json()["data"]["viewer"]["username"] == people[0].username
        evil = http.post("/graphql", json=body, headers={**cookie(people[0]), "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in evil.headers


@pytest.mark.parametrize("header", [*ASKED_HEADERS, *TOOL_HEADERS, "X-Tenant", "x-region"])
def test_c11_preflights_with_headers_that_clients_add(server: Server, header: str) -> None:
    """Tracing and GraphQL clients add headers by themselves: a frontend works with them, and with what is set."""
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": f"content-type,{header.lower()}"}
    granted = httpx.options(f"{server.url}/graphql", headers={"Origin": DEV_SERVER, **ask}, timeout=patience(30))
    assert granted.status_code == 200, granted.text
    assert header.lower() in granted.headers["access-control-allow-headers"].lower()
    strange = {**ask, "Access-Control-Request-Headers": "x-strange"}
    refused = httpx.options(f"{server.url}/graphql", headers={"Origin": DEV_SERVER, **strange}, timeout=patience(30))
    assert refused.status_code == 400


@pytest.mark.parametrize("headers", ["*", "X-*", "X Tenant:", "X-Tenant;"])
def test_headers_that_are_none(headers: str) -> None:
    """Patterns and whatever is no header's name are refused at start."""
    with pytest.raises(ConfigurationError, match="WALLET_ALLOWED_HEADERS"):
        load_settings(allowed_headers=headers)


@pytest.mark.parametrize(
    ("origins", "words"),
    [
        ("*", "no origin"),
        ("https://*.example.app", "is a pattern"),
        ("https://app-*.example", "is a pattern"),
        ("app.example", "no origin"),
        ("https://app.example/path", "more than an origin"),
        ("ftp://app.example", "no origin"),
        ("https://user@app.example", "no origin"),
        ("http://localhost:5173 javascript:alert(1)", "no origin"),
    ],
)
def test_origins_that_are_none(origins: str, words: str) -> None:
    """Wild cards and whatever is no origin are refused at start."""
    with pytest.raises(ConfigurationError, match=f"WALLET_ALLOWED_ORIGINS.*{words}"):
        load_settings(allowed_origins=origins)
    assert origin_of("HTTP://LOCALHOST:80") == "http://localhost"


def test_websocket_handshakes_from_other_sites_are_refused(server: Server, people: list[Person]) -> None:
    """The same rule: a page of another site cannot open a socket with the user's cookie; an allowed one can."""

    def handshake(**more: str) -> str:
        parts = urlsplit(server.url)
        head = {
            "Host": parts.netloc,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol": "graphql-transport-ws",
            **cookie(people[0]),
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        lines = ["GET /graphql HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=patience(10)) as raw:
            raw.sendall("\r\n".join(lines).encode())
            return raw.recv(4096).decode().partition("\r\n")[0]

    assert "101" in handshake(Origin=server.url)
    assert "101" in handshake(Origin=DEV_SERVER, Sec_Fetch_Site="same-site")
    for origin in ("https://evil.example", "null", "http://localhost:5174"):
        assert "403" in handshake(Origin=origin), origin
    assert "403" in handshake()  # a cookie, and not a word about the site


@pytest.mark.parametrize(
    ("scheme", "site", "origin", "passes"),
    [
        ("wss", None, "https://wallet.test", True),
        ("wss", None, "http://wallet.test", False),
        ("https", None, "http://wallet.test", False),
        ("ws", None, "http://wallet.test", True),
        ("ws", None, "https://wallet.test", True),  # a proxy has the TLS
        ("wss", "none", "https://evil.example", False),
        ("wss", "none", "http://wallet.test", False),
        ("http", "none", "null", False),
        ("http", "none", "http://wallet.test", True),
        ("http", "none", None, True),
        ("http", None, None, False),  # a cookie, and not a word about the site
        ("wss", None, None, False),
        ("http", "same-origin", "http://localhost:5173", True),  # a development server passes it on
        ("wss", "same-site", "https://wallet.test", False),
    ],
)
def test_which_site_it_comes_from(scheme: str, site: str | None, origin: str | None, passes: bool) -> None:
    """By TLS a page must have come by TLS, too; what was opened by hand comes from no other site."""
    given = {"host": "wallet.test", "sec-fetch-site": site, "origin": origin}
    headers = [(name.encode(), value.encode()) for name, value in given.items() if value is not None]
    app = SimpleNamespace(state=SimpleNamespace(settings=load_settings()))
    connection = HTTPConnection({"type": "http", "scheme": scheme, "headers": headers, "app": app})
    assert is_same_site(connection, has_cookie=True) is passes


# The cookie


@pytest.mark.parametrize(
    "header",
    [
        "\xa0__Host-wallet={0}",
        "\x85__Host-wallet={0}",
        "__Host-wallet\xa0={0}",
        "__host-wallet={0}",
        "__Host-wallet ={0}",
        "__Host-wallet-={0}",
        "x__Host-wallet={0}",
        "__Host-wallet={0}; __Host-wallet={0}",
        "__Host-wallet={0}; __Host-wallet=other",
        '__Host-wallet="{0}"',
        "__Host-wallet={0}x",
        "={0}",
        "{0}",
    ],
)
async def test_only_the_exact_cookie_counts(local: tuple[httpx.AsyncClient, Person], header: str) -> None:
    """A name that a subdomain could set is none, and two of them are one too many."""
    http, person = local
    sent = header.format(person.token).encode("latin-1")
    answer = await http.post(
        "/graphql", json={"query": VIEWER}, headers=[(b"cookie", sent), (b"sec-fetch-site", b"same-origin")]
    )
    assert person.username not in answer.text
    good = f"other=1;\t__Host-wallet={person.token} ;x=y"
    found = await http.post("/graphql", json={"query": VIEWER}, headers={**OWN, "Cookie": good})
    assert found.json()["data"]["viewer"]["username"] == person.username


@pytest.mark.parametrize(
    ("base_url", "client", "settings", "headers", "expected"),
    [
        ("http://localhost:8000", "127.0.0.1", {}, {}, True),
        ("http://127.0.0.1:8000", "127.0.0.1", {}, {}, True),
        ("http://[::1]:8000", "::1", {}, {}, True),
        ("https://localhost:8000", "127.0.0.1", {}, {}, False),
        ("http://wallet.example", "127.0.0.1", {}, {}, False),
        ("http://localhost:8000", "192.0.2.1", {}, {}, False),
        ("http://localhost:8000", "127.0.0.1", {}, {"X-Forwarded-For": "192.0.2.1"}, False),
        ("http://localhost:8000", "127.0.0.1", {}, {"Via": "1.1 proxy"}, False),
    ],
)
async def test_the_cookie_without_tls_is_for_ones_own_machine(
    base_url: str, client: str, settings: dict[str, str], headers: dict[str, str], expected: bool
) -> None:
    """Only on plain http from and to this machine there is a cookie without Secure, and only there it counts."""
    async with app_with(base_url, client, **settings) as (http, person):
        login = {"login": person.username, "password": PASSWORD, "session": "COOKIE"}
        made = await http.post("/graphql", json={"query": LOG_IN, "variables": {"input": login}}, headers=headers)
        names = [text.partition("=")[0] for text in made.headers.get_list("set-cookie")]
        assert names == (["__Host-wallet", "wallet-dev"] if expected else ["__Host-wallet"])
        sent = {**headers, **OWN, **cookie(person, "wallet-dev")}
        read = await http.post("/graphql", json={"query": VIEWER}, headers=sent)
        assert (read.json()["data"]["viewer"] is not None) == expected
        http.cookies.clear()
        out = await http.post("/graphql", json={"query": "mutation { logOut { __typename } }"}, headers=headers)
        assert len(out.headers.get_list("set-cookie")) == len(names)


def test_a_session_is_never_the_one_of_before(server: Server, people: list[Person]) -> None:
    """Logging in with a session gives a new token; a token of one's own choice is never taken over."""
    chosen = "wgs_000" + "A" * 43
    with httpx.Client(base_url=server.url) as http:
        for sent in (chosen, people[0].token):
            given = {"login": people[0].username, "password": PASSWORD}
            own = {**OWN, "Cookie": f"__Host-wallet={sent}"}
            made = http.post("/v1/session", json=given, headers=own)
            assert made.status_code == 201
            assert sent not in made.headers["set-cookie"]
        assert http.get("/v1/user", headers={**OWN, "Cookie": f"__Host-wallet={chosen}"}).status_code == 401


# Headers


async def test_headers_that_browsers_obey() -> None:
    """On every answer; strict transport security only in production and over TLS."""
    async with app_with("https://localhost") as (http, _):
        for path in ("/", "/healthz", "/nowhere", "/openapi.json", "/v1/user"):
            headers = (await http.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-opener-policy"] == "same-origin"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert "strict-transport-security" not in headers


def test_production(tmp_path: Path) -> None:
    """Without TLS not even this machine gets a cookie; over TLS browsers are told to use only TLS."""
    with serving(tmp_path, mode="production", trusted_proxies="127.0.0.1") as server:
        (person,) = settle_all(server.storage, 0)
        with httpx.Client(base_url=server.url) as http:
            made = http.post("/v1/session", json={"login": person.username, "password": PASSWORD})
            assert [text.partition("=")[0] for text in made.headers.get_list("set-cookie")] == ["__Host-wallet"]
            assert "strict-transport-security" not in made.headers
            by_tls = http.get("/", headers={"X-Forwarded-Proto": "https"})
            assert by_tls.headers["strict-transport-security"] == "max-age=31536000"
            assert http.get("/graphiql").status_code == 404
            hidden = http.post("/graphql", json={"query": "{ __schema { types { name } } }"})
            assert "signUp" not in hidden.text
            assert hidden.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


# Heads of requests


def answered(server: Server, *parts: bytes) -> str:
    """The status line that a server answers to these bytes, sent one after the other until it hangs up."""
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=patience(10)) as raw:
        with suppress(ConnectionError):
            for part in parts:
                raw.sendall(part)
        got = b""
        with suppress(ConnectionError):
            while b"\r\n" not in got and (more := raw.recv(4096)):
                got += more
    return got.partition(b"\r\n")[0].decode()


HOST: Final = b"Host: wallet.test\r\n"
POSTED: Final = b"POST /v1/user HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
HEADS: Final = {
    "an address": [b"GET /" + b"a" * 70_000, b" HTTP/1.1\r\n" + HOST + b"\r\n"],
    "a header": [b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n"],
    "a header's name": [b"GET / HTTP/1.1\r\n" + HOST + b"a" * 70_000 + b": 1\r\n\r\n"],
    "a header that does not end": [b"GET / HTTP/1.1\r\n" + HOST + b"X: ", *[b"a" * 10_000] * 200],
    "many headers": [b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 5_000 + b"\r\n"],
    "a cookie": [b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: " + b"a=b; " * 20_000 + b"\r\n\r\n"],
    "a handshake": [
        b"GET /graphql HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
        b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    ],
}


@pytest.mark.parametrize("parts", HEADS.values(), ids=HEADS)
def test_heads_beyond_the_limit(server: Server, parts: list[bytes]) -> None:
    """431 instead of memory without end, also before the head is complete; the next request is served."""
    assert answered(server, *parts).startswith("HTTP/1.1 431 ")
    assert answered(server, b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n").startswith("HTTP/1.1 200")


def test_trailers_beyond_the_limit(server: Server) -> None:
    """What stands behind a body is counted, too: the connection is closed."""
    size, sent = 10_000, 0
    where = urlsplit(server.url)
    with (
        socket.create_connection((where.hostname or "", where.port or 0), timeout=patience(10)) as raw,
        suppress(ConnectionError),
    ):
        raw.sendall(POSTED + b"X: ")
        for _ in range(3_000):
            raw.sendall(b"a" * size)
            sent += size
    assert sent < 20_000_000  # what buffers of the system may hold, and not all of it


def test_heads_below_the_limit(server: Server) -> None:
    """Long ones pass; a body in many small pieces, and requests one after the other, add up to nothing."""
    with httpx.Client(base_url=server.url) as http:
        for _ in range(5):
            assert http.get("/healthz", headers={"X": "a" * 30_000}, params={"a": "b" * 20_000}).status_code == 200
        pieces = (b" " * 20 for _ in range(10_000))
        assert http.post("/graphql", content=pieces, headers={"Content-Type": "application/json"}).status_code == 400
    many = b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 1_000 + b"\r\n\r\n"
    assert answered(server, many * 200).startswith("HTTP/1.1 200")


# Addresses


def addresses(server: Server, person: Person, headers: dict[str, str]) -> str | None:
    """The address that a failed log-in of the person's is said to come from."""
    with httpx.Client(base_url=server.url, headers=headers, timeout=patience(30)) as http:
        given = {"login": person.username, "password": "not the one"}
        assert http.post("/v1/session", json=given).status_code == 401
    with Client(server.url, person.token) as client:
        edges = client.run(EVENTS, {"first": 5})["securityEvents"]["edges"]
    failed = [edge["node"] for edge in edges if edge["node"]["kind"] == "LOG_IN_FAILED"]
    address: str | None = failed[0]["address"]
    return address


FORGED: Final = (
    {"X-Forwarded-For": "203.0.113.9"},
    {"X-Real-IP": "203.0.113.9"},
    {"Forwarded": "for=203.0.113.9"},
    {"X-Forwarded-For": "127.0.0.1"},
)


@pytest.mark.parametrize("headers", FORGED, ids=str)
def test_clients_cannot_choose_their_address(server: Server, headers: dict[str, str]) -> None:
    """Nobody is believed unless a proxy is trusted by name, not even this machine."""
    (person,) = settle_all(server.storage, 0)
    assert addresses(server, person, headers) == "127.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("203.0.113.9, nonsense", None),
    ],
)
def test_trusted_proxies_tell_the_address(proxied: Server, forwarded: str, expected: str | None) -> None:
    """The last address that no trusted proxy has counts: what the client itself wrote stands further left."""
    (person,) = settle_all(proxied.storage, 0)
    assert addresses(proxied, person, {"X-Forwarded-For": forwarded}) == expected


def test_trusted_proxies_name_requests(server: Server, proxied: Server) -> None:
    """Nobody else does: what anybody may write would make logs lie, and requests of others be found under it."""
    given = {"X-Request-Id": "from-proxy-1"}
    assert httpx.get(f"{proxied.url}/healthz", headers=given).headers["x-request-id"] == "from-proxy-1"
    odd = httpx.get(f"{proxied.url}/healthz", headers={"X-Request-Id": "a b<script>"}).headers["x-request-id"]
    assert (odd != "a b<script>", len(odd)) == (True, 32)
    assert httpx.get(f"{server.url}/healthz", headers=given).headers["x-request-id"] != "from-proxy-1"
    httpx.get(f"{proxied.url}/v1/user", headers=given)  # probes are not logged
    wait_until(lambda: "[from-proxy-1]" in proxied.log, 30, "no line of the request")  # it comes behind the answer


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server behind a proxy on this machine and one in 10.0.0.0/8."""
    options = ("--host", "0.0.0.0", "--insecure-http")
    with serving(tmp_path_factory.mktemp("proxied"), *options, trusted_proxies="127.0.0.1 10.0.0.0/8") as server:
        yield server


@pytest.mark.parametrize("given", ["*", "proxy.example", "10.0.0.0/99"])
def test_proxies_that_are_none(given: str) -> None:
    """Everybody, or a name, is refused at start."""
    with pytest.raises(ConfigurationError, match="WALLET_TRUSTED_PROXIES"):
        load_settings(trusted_proxies=given)


# What the user is told


def test_security_events_over_both_apis(server: Server) -> None:
    """The user pages through them over GraphQL and REST; nobody else sees them; cursors of nothing are refused."""
    person, other = settle_all(server.storage, 0, 0)
    with httpx.Client(base_url=server.url, headers={"User-Agent": "Thief/1.0"}) as http:
        for _ in range(3):
            http.post("/v1/session", json={"login": person.username, "password": "not the one"})
    with Client(server.url, person.token) as client:
        seen: list[dict[str, Any]] = []
        after = None
        while True:
            page = client.run(EVENTS, {"first": 2, "after": after})["securityEvents"]
            seen += [edge["node"] for edge in page["edges"]]
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                break
        assert [event["kind"] for event in seen] == ["LOG_IN_FAILED"] * 3 + ["LOGGED_IN", "SIGNED_UP"]
        assert {(e["address"], e["userAgent"]) for e in seen[:3]} == {("127.0.0.1", "Thief/1.0")}
        assert client.codes(EVENTS, {"first": 2, "after": "nonsense"}) == {"BAD_REQUEST"}
        assert client.codes(EVENTS, {"first": 101}) == {"BAD_REQUEST"}

        first = client.http.get("/v1/event", params={"first": 4}).json()
        rest = client.http.get("/v1/event", params={"first": 4, "after": first["next"]}).json()
        assert [event["id"] for event in [*first["events"], *rest["events"]]] == [event["id"] for event in seen]
        assert rest["next"] is None
        assert client.http.get("/v1/event", params={"after": "x"}).status_code == 400
    with Client(server.url, other.token) as client:
        kinds = [e["node"]["kind"] for e in client.run(EVENTS, {"first": 100})["securityEvents"]["edges"]]
        assert kinds == ["LOGGED_IN", "SIGNED_UP"]


def test_freezing_over_the_api(server: Server) -> None:
    """An operator's freeze stops payments and holds, but not credits; the owner sees it and cannot undo it."""
    payer, payee = settle_all(server.storage, 1_000, 1_000)
    folder = server.path.parent
    assert run_cli(folder, "freeze", payer.account_id, storage=server.storage).returncode == 0
    with Client(server.url, payer.token) as client, Client(server.url, payee.token) as other:
        refused = client.transfer(**payer.pay(payee.username, 1))
        assert (refused["__typename"], refused["code"]) == ("Refusal", "ACCOUNT_FROZEN")
        body = {key: value for key, value in payer.pay(payee.username, 1).items() if key != "idempotencyKey"}
        rest = client.http.post("/v1/hold", json=body, headers={"Idempotency-Key": new_key()})
        assert (rest.status_code, rest.json()["code"]) == (409, "ACCOUNT_FROZEN")
        assert other.transfer(**payee.pay(payer.username, 5))["__typename"] == "TransferSuccess"
        close = """mutation($input: CloseAccountInput!) { closeAccount(input: $input) { __typename
          ... on WalletError { code } } }"""
        assert client.run(close, {"input": {"accountId": payer.account_id}})["code"] == "ACCOUNT_FROZEN"
        newest = client.run(EVENTS, {"first": 1})["securityEvents"]["edges"][0]["node"]
        assert (newest["kind"], newest["subject"], newest["address"]) == ("ACCOUNT_FROZEN", payer.account_id, None)
        assert run_cli(folder, "unfreeze", payer.account_id, storage=server.storage).returncode == 0
        assert client.transfer(**payer.pay(payee.username, 1))["__typename"] == "TransferSuccess"


RENEW: Final = """mutation { renewSession { __typename ... on RenewSessionSuccess { token expiresAt }
  ... on WalletError { code } } }"""


def test_renewing_a_session_over_both_apis(server: Server) -> None:
    """A bearer gets a new token, a browser a new cookie, and what was before is dead at once."""
    (person,) = settle_all(server.storage, 0)
    with Client(server.url, person.token) as old:
        token = old.run(RENEW)["token"]
        assert old.codes(RENEW) == {"UNAUTHENTICATED"}
    with Client(server.url, token) as client:
        renewed = client.http.post("/v1/session/renewal")
        assert (renewed.status_code, renewed.json()["token"] != token) == (201, True)
        assert client.http.post("/v1/session/renewal").status_code == 401
    with httpx.Client(base_url=server.url, headers=OWN) as browser:
        made = browser.post("/v1/session", json={"login": person.username, "password": PASSWORD})
        before = made.headers.get_list("set-cookie")[0].partition(";")[0]
        again = browser.post("/graphql", json={"query": RENEW}, headers={"Cookie": before})
        after = again.headers.get_list("set-cookie")[0].partition(";")[0]
        assert again.json()["data"]["renewSession"]["token"] is None
        for sent, alive in ((before, False), (after, True)):
            found = browser.get("/v1/user", headers={"Cookie": sent})
            assert (found.status_code == 200) == alive
