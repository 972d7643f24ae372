"""Clients that are silent, send slowly, or do not read: their connections end, and other clients are not affected."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration._evidence import write_evidence
from tests.integration._server import START_SECONDS, TRANSFER, Person, Server, Wire, serving, settle_all
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
                with suppress(ConnectionResetError, BrokenPipeError):  # what was answered before can still be read
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


IDLE: Final = 1_000
DRIPPING: Final = 200
PAYERS: Final = 8
PAYMENTS: Final = 2_000


@contextmanager
def few_files() -> Iterator[None]:
    """What is started may have 1,024 files open, unless it asks for more; this process then has as many as it can."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def keep_idle(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that has had one answer."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    await ask_health(reader, writer)
    return reader, writer


async def ask_health(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request and its answer. Raises IncompleteReadError: the connection was closed."""
    writer.write(WHOLE)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert await reader.readexactly(15) == b'{"status":"ok"}'


async def drip_on_and_on(url: str, cut: list[int]) -> None:
    """Send a head byte by byte, and connect again whenever that is cut; each time is noted in `cut`."""
    parts = urlsplit(url)
    while True:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        answer = asyncio.create_task(reader.read())
        try:
            writer.write(b"GET /")
            while not answer.done():
                writer.write(b"a")
                await asyncio.wait([answer], timeout=patience(0.25))
        finally:
            answer.cancel()
            writer.close()
            with suppress(ConnectionError):  # it sent once more just then
                await writer.wait_closed()
        with suppress(ConnectionError):
            assert answer.result().startswith(b"HTTP/1.1 408 ")
        cut.append(1)


async def pay_on_and_on(url: str, payer: Person, payee: Person, paid: list[str], cut: list[int]) -> None:
    """Until there were enough payments, and as many connections cut as are dripping; every payment succeeds."""
    wire = await Wire.connect(url)
    while len(paid) < PAYMENTS or len(cut) < DRIPPING:
        answer = await wire.run(payer.token, TRANSFER, {"input": payer.pay(payee.username, 1)})
        assert answer["__typename"] == "TransferSuccess", answer
        paid.append(answer["transfer"]["id"])
    await wire.close()


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_idle_and_dripping_connections_disturb_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside 1,000 idle connections and 200 that drip, every payment succeeds, and the idle ones stay open.

    The server begins with a limit of 1,024 open files, as on most systems, and raises that by itself.
    """
    monkeypatch.setenv("WALLET_TEST_FORKS", "0")  # the server inherits the limit of this process
    with ExitStack() as stack:
        with few_files():
            one = stack.enter_context(serving(tmp_path, keep_alive_seconds="3600"))
        payee, *payers = await asyncio.to_thread(settle_all, one.storage, 0, *[10**8] * PAYERS)
        idle = [await keep_idle(one.url) for _ in range(IDLE)]
        cut: list[int] = []
        paid: list[str] = []
        dripping = [asyncio.create_task(drip_on_and_on(one.url, cut)) for _ in range(DRIPPING)]
        await asyncio.gather(*(pay_on_and_on(one.url, payer, payee, paid, cut) for payer in payers))
        for task in dripping:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*dripping, return_exceptions=True)
        for reader, writer in idle:
            await ask_health(reader, writer)
            writer.close()
            await writer.wait_closed()
    text = (
        f"Beside {IDLE:,} idle connections and {DRIPPING} that send a byte each quarter of a second, {PAYERS} clients "
        f"made {len(paid):,} payments; none failed. {len(cut)} times a dripping connection was ended with 408 and came "
        "again. All idle ones were then answered on the same connection."
    )
    write_evidence("idle-connections", "Idle and dripping connections", "make soak ARGS='-k idle_and_dripping'", text)


def test_who_does_not_read_is_cut(server: Server) -> None:
    """Answers that nobody reads fill the buffers; then the connection is cut rather than kept."""
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(server) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            raw.sendall(ask * 1_000_000)


@pytest.mark.trial
@pytest.mark.slow
def test_b8_idle_connections_outlast_the_balancer(tmp_path: Path) -> None:
    """A connection is kept longer than common balancers keep theirs, or as long as the setting says."""
    assert load_settings(storage="memory://").keep_alive_seconds > BALANCER_SECONDS
    with (
        serving(tmp_path) as patient,
        serving(tmp_path, keep_alive_seconds="1") as hasty,
        connect(patient) as raw,
        ExitStack() as stack,
    ):
        assert is_answered(raw)
        others = [(stack.enter_context(connect(patient)), asked) for asked in ASKED]
        for connection, asked in others:
            assert head_of_answer(connection, asked)
        with connect(hasty) as other:
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
