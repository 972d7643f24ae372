"""Real servers and a small client for the end-to-end tests: a uvicorn process on a free port, over a SQLite file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from tests import leaks
from tests.integration._forking import start
from wallet_gql.domain.ids import OPERATOR
from wallet_gql.domain.users import SessionKind
from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience, wait_until
from wallet_gql.testing.servers.keeper import keep
from wallet_gql.testing.servers.process import is_stopped

START_SECONDS: Final = 30
CHOSEN: Final = ("WALLET_GRAPHQL_COMPILE_AFTER",)
"""Settings that the whole run has, see tests/conftest.py."""

PASSWORD: Final = "plain maroon bicycle"
JSON: Final = {"Content-Type": "application/json"}

VIEWER: Final = "{ viewer { id username email accounts { id currency posted { minorUnits } } } }"
WHAT_WENT_WRONG: Final = """
  ... on WalletError { code message retryable }
  ... on InvalidInput { problems { path code message } }
"""
SIGN_UP: Final = f"""mutation($input: SignUpInput!) {{ signUp(input: $input) {{
  __typename ... on SignUpSuccess {{ user {{ id username email }} }} {WHAT_WENT_WRONG} }} }}"""
LOG_IN: Final = """mutation($input: LogInInput!) { logIn(input: $input) {
  __typename ... on LogInSuccess { token expiresAt user { username } } ... on WalletError { code message } } }"""
OPEN_ACCOUNT: Final = f"""mutation($input: OpenAccountInput!) {{ openAccount(input: $input) {{
  __typename ... on OpenAccountSuccess {{ account {{ id currency state }} }}
  ... on AccountExists {{ accountId accountState }}
  {WHAT_WENT_WRONG} }} }}"""
TRANSFER: Final = f"""mutation($input: TransferInput!) {{ transfer(input: $input) {{
  __typename
  ... on TransferSuccess {{
    replayed credited transfer {{ id amount {{ minorUnits }} counterparty {{ username }} }}
    fromAccount {{ posted {{ minorUnits }} }}
  }}
  {WHAT_WENT_WRONG} }} }}"""


def environment(storage: str, **settings: str) -> dict[str, str]:
    """The environment of a wallet process: none of the caller's own settings, and as many requests as a test sends."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_") or name in CHOSEN}
    given = {f"WALLET_{name.upper()}": value for name, value in settings.items()}
    return {**kept, "WALLET_MODE": "test", "WALLET_RATE_LIMITS": "off", "WALLET_STORAGE": storage, **given}


def command(*arguments: str) -> list[str]:
    """The command line of a wallet process."""
    return [sys.executable, "-m", "wallet_gql", *arguments]


def run_cli(folder: Path, *arguments: str, storage: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end. Raises TimeoutExpired."""
    line, pipes = command(*arguments), {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(line, cwd=folder, env=environment(storage, **settings), **pipes) as process:
        try:
            output, errors = process.communicate(timeout=patience(60))
        finally:
            process.kill()
    leaks.search(errors, " ".join(arguments))
    return subprocess.CompletedProcess(line, process.returncode, output, errors)


def new_name(prefix: str = "u") -> str:
    """A username that nobody has."""
    return f"{prefix}{uuid.uuid4().hex[:12]}"


def new_key() -> str:
    """An idempotency key that nobody used."""
    return str(uuid.uuid4())


@dataclass(slots=True)
class Server:
    """A server process that answers at `url`."""

    process: subprocess.Popen[str]
    url: str
    storage: str
    log_file: Path

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return Path(self.storage.removeprefix("sqlite:///"))

    @property
    def log(self) -> str:
        """What it logged so far."""
        return self.log_file.read_text(encoding="utf-8")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop; answers its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=patience(30))


@contextmanager
def serving(folder: Path, *options: str, storage: str | None = None, **settings: str) -> Iterator[Server]:
    """A server that is stopped at the end; it must end with 0 and must not have logged a traceback."""
    where = storage or f"sqlite:///{folder / 'wallet.db'}"
    log_file = folder / f"server-{uuid.uuid4().hex[:8]}.log"
    with log_file.open("w") as log:
        process = start(
            command("serve", "--port", "0", *options),
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=environment(where, **settings),
            start_new_session=True,  # so that its workers die with it
        )
    keep(process.pid)
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("Listening on "), f"{line!r}\n{log_file.read_text()}"
            server = Server(process, line.removeprefix("Listening on ").strip(), where, log_file)
            yield server
            if process.poll() is None:
                assert server.stop() == 0, server.log
            assert "Traceback" not in server.log, server.log
        finally:
            if process.poll() is None:
                process.kill()
            leaks.search_file(log_file)


class Client:
    """Somebody who sends GraphQL requests to one server."""

    def __init__(self, url: str, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=patience(30))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.http.close()

    def post(self, query: str, variables: dict[str, Any] | None = None, **more: Any) -> httpx.Response:
        """Send a document; `more` goes into the body."""
        return self.http.post("/graphql", json={"query": query, "variables": variables, **more})

    def run(self, query: str, variables: dict[str, Any] | None = None) -> Any:
        """The `data` of a request that must succeed; with one top field its value."""
        response = self.post(query, variables)
        body = response.json()
        assert response.status_code == httpx.codes.OK, body
        assert "errors" not in body, body
        data = body["data"]
        return next(iter(data.values())) if len(data) == 1 else data

    def errors(self, query: str, variables: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """The top-level errors of a request that must have some; each has a code and a request id."""
        response = self.post(query, variables)
        errors: list[dict[str, Any]] = response.json()["errors"]
        for error in errors:
            assert error["extensions"]["requestId"] == response.headers["x-request-id"]
            assert set(error["extensions"]) == {"code", "requestId", "retryable"}
        return errors

    def codes(self, query: str, variables: dict[str, Any] | None = None) -> set[str]:
        """The codes of the top-level errors."""
        return {error["extensions"]["code"] for error in self.errors(query, variables)}

    def transfer(self, **given: Any) -> Any:
        """Pay; the arguments are those of the input."""
        return self.run(TRANSFER, {"input": given})


def raw_request(url: str, token: str, query: str, variables: dict[str, Any] | None = None) -> bytes:
    """A GraphQL request as bytes."""
    leaks.note(variables)
    content = json.dumps({"query": query, "variables": variables}).encode()
    head = [
        "POST /graphql HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        "Content-Type: application/json",
        f"Authorization: Bearer {token}",
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + content


class Wire:
    """One keep-alive connection: a tenth of the work of a full HTTP client, for tests under load."""

    def __init__(self, url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._url = url
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, url: str) -> Self:
        """Connect to a server."""
        parts = urlsplit(url)
        return cls(url, *await asyncio.open_connection(parts.hostname, parts.port))

    async def ask(self, token: str, query: str, variables: dict[str, Any]) -> tuple[int, Any]:
        """The status of an answer and its body."""
        self._writer.write(raw_request(self._url, token, query, variables))
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:", 1)[1].split("\r\n", 1)[0])
        return int(head.split(maxsplit=2)[1]), json.loads(await self._reader.readexactly(length))

    async def run(self, token: str, query: str, variables: dict[str, Any]) -> Any:
        """The first value of `data`; the request must succeed."""
        status, body = await self.ask(token, query, variables)
        assert status == httpx.codes.OK, body
        assert "errors" not in body, body
        return next(iter(body["data"].values()))

    def drop(self) -> None:
        """Hang up at once."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        await self._writer.wait_closed()


@dataclass(frozen=True, slots=True)
class Person:
    """A user with a session and a EUR account."""

    id: str
    username: str
    token: str
    account_id: str

    def pay(self, to: str, minor: int | str, key: str | None = None, **more: Any) -> dict[str, Any]:
        """The input of a payment in EUR."""
        amount = {"minorUnits": minor, "currency": "EUR"}
        given = {"idempotencyKey": key or new_key(), "fromAccountId": self.account_id, "to": {"username": to}}
        return {**given, "amount": amount, **more}


async def settle(wallet: Wallet, balance_minor: int = 0) -> Person:
    """Make a user with a bearer session and a EUR account that holds so much."""
    name = new_name()
    user = await wallet.identity.sign_up(name, f"{name}@example.org", PASSWORD)
    account = await wallet.ledger.open_account(user.id, "EUR")
    if balance_minor:
        await wallet.ledger.deposit(OPERATOR, new_key(), account.id, balance_minor, "EUR")
    session = await wallet.identity.log_in(name, PASSWORD, SessionKind.BEARER)
    return Person(user.id, name, session.token, account.id)


def settle_all(storage: str, *balances: int) -> list[Person]:
    """Make users beside whatever server has the file open."""

    async def work() -> list[Person]:
        async with open_wallet(load_settings(storage=storage, mode="test"), sweeps=False) as wallet:
            return await asyncio.gather(*(settle(wallet, balance) for balance in balances))

    return asyncio.run(work())


def counted(path: Path, *tables: str) -> dict[str, int]:
    """How many rows the tables have, and the sum of all balances: what must not change when nothing is written."""
    with closing(sqlite3.connect(path)) as connection:
        found = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
        found["posted"] = connection.execute("SELECT sum(posted_minor) FROM accounts").fetchone()[0]
        return found


STOPS_IN_COMMIT: Final = {"failpoints": "sqlite.decided=stop,sqlite.written=sleep:0.5"}
"""The server stops in its first commit. Once it goes on, that commit takes half a second longer."""


@contextmanager
def during_commit(server: Server) -> Iterator[None]:
    """The block runs while the first commit of a server that `STOPS_IN_COMMIT` is under way."""
    wait_until(lambda: is_stopped(server.process.pid), START_SECONDS, "no commit began")
    yield
    server.process.send_signal(signal.SIGCONT)
