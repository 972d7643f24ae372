"""Clients that are silent, send slowly, or do not read: their connections end, and other clients are not affected."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration._server import START_SECONDS, Server, serving
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience

SECONDS: Final = "1"
"""What the server gives them."""

GIVE_UP_SECONDS: Final = 120
BALANCER_SECONDS: Final = 60
UVICORN_SECONDS: Final = 6
"""Longer than uvicorn keeps idle connections if it is not told otherwise."""

WHOLE: Final = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
BODY: Final = b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
REFUSED: Final = b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"
SLOW: Final = {
    "nothing": (b"", b""),
    "empty lines": (b"", b"\r\n"),
    "half an address": (b"GET /heal", b""),
    "an address": (b"GET /", b"a"),
    "a header": (b"GET / HTTP/1.1\r\nX: ", b"a"),
    "headers": (b"GET / HTTP/1.1\r\n", b"X: a\r\n"),
    "half a second head": (WHOLE + b"GET /", b""),
    "a second head": (WHOLE + b"GET /", b"a"),
    "empty lines behind a request": (WHOLE + b"\r\n", b"\r\n"),
    "no body": (BODY + b"Content-Length: 200000\r\n\r\n", b""),
    "a body": (BODY + b"Content-Length: 200000\r\n\r\n", b" "),
    "chunks": (BODY + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "trailers": (BODY + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: a\r\n"),
    "a body that was refused": (REFUSED, b" "),
}
"""What a client sends at once, and then again and again."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with little patience."""
    with serving(tmp_path_factory.mktemp("slow"), head_seconds=SECONDS, body_seconds=SECONDS) as one:
        yield one


def connect(server: Server) -> socket.socket:
    """A new connection."""
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=patience(GIVE_UP_SECONDS))


def drip(raw: socket.socket, first: bytes, again: bytes) -> bytes:
    """Send until the server ends the connection; what it answered. Fails with TimeoutError if it never ends it."""
    answer = b""
    try:
        raw.sendall(first)
        raw.settimeout(0.1 if again else GIVE_UP_SECONDS)
        for _ in range(GIVE_UP_SECONDS * 10):
            try:
                piece = raw.recv(65_536)
            except TimeoutError:
                raw.sendall(again)
                continue
            if not piece:
                return answer
            answer += piece
    except (ConnectionResetError, BrokenPipeError):
        return answer
    raise TimeoutError(f"after {first!r} the connection is still there")


@pytest.mark.parametrize("name", SLOW)
def test_f10_a_slow_request_ends(server: Server, name: str) -> None:
    """The connection is closed; a client that has begun a request gets 408."""
    first, again = SLOW[name]
    with connect(server) as raw:
        answer = drip(raw, first, again)
    told = b"HTTP/1.1 408 " in answer
    assert told == (name not in ("nothing", "empty lines", "empty lines behind a request", "a body that was refused"))
    assert answer.count(b"HTTP/1.1 200 ") == first.count(WHOLE)


def test_f10_many_of_them_disturb_nobody(server: Server) -> None:
    """While 500 connections are silent others are served, and in the end all 500 are closed."""
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(server)) for _ in range(500)]
        assert httpx.get(f"{server.url}/readyz", timeout=patience(START_SECONDS)).status_code == 200
        assert [raw.recv(1) for raw in silent] == [b""] * 500


def test_who_does_not_read_is_cut(server: Server) -> None:
    """Answers that nobody reads fill the buffers; then the connection is cut rather than kept."""
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(server) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            raw.sendall(ask * 1_000_000)


@pytest.mark.slow
def test_b8_idle_connections_outlast_the_balancer(tmp_path: Path) -> None:
    """A connection is kept longer than common balancers keep theirs, or as long as the setting says."""
    assert load_settings(storage="memory://").keep_alive_seconds > BALANCER_SECONDS
    with serving(tmp_path) as patient, connect(patient) as raw, ExitStack() as stack:
        assert is_answered(raw)
        others = [(stack.enter_context(connect(patient)), asked) for asked in ASKED]
        for connection, asked in others:
            assert head_of_answer(connection, asked)
        with serving(tmp_path, keep_alive_seconds="1") as hasty, connect(hasty) as other:
            assert is_answered(other)
            assert other.recv(1) == b""
        time.sleep(UVICORN_SECONDS)
        assert is_answered(raw)
        for connection, asked in others:
            assert head_of_answer(connection, asked)


QUERY: Final = b'{"query": "{ __typename }"}'
ASKED: Final = (
    b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/user HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer nobody\r\n\r\n",
    b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(QUERY), QUERY),
)
"""Other requests whose connection is kept: errors and GraphQL as well."""


def head_of_answer(raw: socket.socket, asked: bytes) -> bytes:
    """The head of an answer on a kept connection, after its whole body was read; empty if the connection is closed."""
    raw.sendall(asked)
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = raw.recv(65_536)
        if not piece:
            return b""
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    while len(body) < length:
        body += raw.recv(65_536)
    return b"" if b"connection: close" in head.lower() else head


def is_answered(raw: socket.socket) -> bool:
    """Whether one request on this connection is answered."""
    raw.sendall(WHOLE)
    answer = b""
    while not answer.endswith(b'{"status":"ok"}'):
        piece = raw.recv(65_536)
        assert piece, "the connection was closed"
        answer += piece
    return answer.startswith(b"HTTP/1.1 200 ")
