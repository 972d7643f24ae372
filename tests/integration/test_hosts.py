"""The Host header: which values are accepted, and that no redirect repeats it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import product
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.integration._server import START_SECONDS, Server, serving
from wallet_gql.domain.errors import ConfigurationError
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience

PATHS: Final = ("/", "/graphql/", "/v1/user", "/v1/user/", "/nothing")
UPGRADE: Final = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: graphql-transport-ws",
)


@pytest.fixture(scope="module")
def anybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of which nobody said what it is called."""
    with serving(tmp_path_factory.mktemp("any")) as server:
        yield server


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is called wallet.example."""
    with serving(tmp_path_factory.mktemp("named"), allowed_hosts="Wallet.example, [::1]") as server:
        yield server


def ask(server: Server, path: str, *headers: str, version: str = "1.1") -> tuple[int, str]:
    """The status and the head of the answer to a request with exactly these headers."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=patience(START_SECONDS)) as raw:
        close = () if UPGRADE[0] in headers else ("Connection: close",)
        raw.sendall("\r\n".join((f"GET {path} HTTP/{version}", *headers, *close, "", "")).encode())
        answer = raw.recv(65_536)
        while b"\r\n\r\n" not in answer:
            answer += raw.recv(65_536)
    return int(answer.split()[1]), answer.decode("latin-1")


@pytest.mark.parametrize("path", [*PATHS, "/healthz", "//evil.example/graphql/"])
@pytest.mark.parametrize(
    "headers", [(), ("Host: a", "Host: a"), ("Host:",), ("Host: a b",), ("Host: a/b",), ("Host: u@a",), ("Host: a:x",)]
)
def test_d9_a_request_names_one_host(anybody: Server, path: str, headers: tuple[str, ...]) -> None:
    """None, two and what is no host are refused on every path."""
    assert ask(anybody, path, *headers)[0] == 400


def test_http_1_0_needs_none(anybody: Server, named: Server) -> None:
    """Probes send none, HAProxy's for one; a server that is called something answers only those."""
    for path in PATHS:
        assert ask(anybody, path, version="1.0")[0] not in {400, 421}
        assert ask(named, path, version="1.0")[0] == 400
    for path, server in product(("/healthz", "/readyz"), (anybody, named)):
        assert ask(server, path, version="1.0")[0] == 200


@pytest.mark.parametrize("path", ["/graphql/", "/v1/user/", "/healthz/", "//evil.example/graphql/"])
def test_d9_no_redirect_repeats_the_host(anybody: Server, path: str) -> None:
    """A redirect stays on the server that was asked."""
    status, answer = ask(anybody, path, "Host: evil.example")
    head = answer.lower().partition("\r\n\r\n")[0]
    locations = [line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("location:")]
    assert locations == ([path.rstrip("/")] if status == 307 else [])
    assert status == (404 if path.startswith("//") else 307)


@pytest.mark.parametrize("path", PATHS)
def test_d9_other_hosts_are_refused(named: Server, path: str) -> None:
    """A request for another host gets 421, also by WebSocket; probes by address are answered."""
    for host in ("evil.example", "wallet.example.evil.example", "127.0.0.1", "evil.example:443"):
        assert ask(named, path, f"Host: {host}")[0] == 421
        assert ask(named, "/graphql", f"Host: {host}", *UPGRADE)[0] == 421
        assert ask(named, "/readyz", f"Host: {host}")[0] == 200
    for host in ("wallet.example", "WALLET.example:8443", "[::1]:80"):
        assert ask(named, path, f"Host: {host}")[0] != 421
    assert ask(named, "/graphql", "Host: wallet.example", *UPGRADE)[0] == 101


@pytest.mark.parametrize("hosts", ["*", "*.example", "https://wallet.example", "wallet.example:443", "a/b", "::1"])
def test_hosts_that_are_none(hosts: str) -> None:
    """Patterns, URLs and ports are refused at start."""
    with pytest.raises(ConfigurationError, match="WALLET_ALLOWED_HOSTS"):
        load_settings(allowed_hosts=hosts)
