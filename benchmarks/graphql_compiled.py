"""What one GraphQL request costs the server, by whether its document runs compiled.

    python benchmarks/graphql_compiled.py [--storage memory://] [--rounds 30] [--requests 40]

Requests go through the whole ASGI application, without a network. Both ways take turns in one process on the same
ledger, so that a disturbance slows both: trust the ratios. Times are of the processor, of all threads; the best and the
median of all rounds are shown.

The last line is about documents that differ: each is sent `--times` times, and none of them is ever sent again.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import orjson
from starlette.applications import Starlette

from wallet_gql.domain.ids import OPERATOR
from wallet_gql.domain.users import SessionKind
from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.transports.server.app import create_app
from wallet_gql.verbs.ledger import To

WAYS: Final = {"interpreted": 0, "compiled": 2}
ROWS: Final = 50

TRANSFER: Final = """mutation($input: TransferInput!) { transfer(input: $input) { __typename
  ... on TransferSuccess { replayed transfer { id amount { minorUnits currency } createdAt }
    fromAccount { posted { minorUnits } } }
  ... on WalletError { code message retryable } } }"""
HISTORY: Final = """query($id: ID!, $first: Int!) { account(id: $id) { id history(first: $first) {
  edges { cursor node { sequence createdAt amount { minorUnits currency } balanceAfter { minorUnits currency }
    transfer { id kind reference counterparty { name } } } }
  pageInfo { hasNextPage endCursor } } } }"""
VIEWER: Final = """{ viewer { id username accounts { id currency state posted { minorUnits currency decimal }
  available { minorUnits currency decimal } } } }"""


@dataclass(frozen=True)
class Site:
    """One application for each way, over one wallet, and who asks."""

    apps: dict[str, Starlette]
    token: str
    account_id: str

    async def post(self, way: str, query: str, variables: dict[str, Any] | None = None) -> Any:
        """The data of one request, which must succeed."""
        body = orjson.dumps({"query": query, "variables": variables})
        sent: list[Any] = []
        pending = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return pending.pop() if pending else await asyncio.Future()

        async def send(message: Any) -> None:
            sent.append(message)

        await self.apps[way](self._scope(len(body)), receive, send)
        answer = orjson.loads(b"".join(message.get("body", b"") for message in sent))
        assert sent[0]["status"] == 200, answer
        assert "errors" not in answer, answer
        return answer["data"]

    def _scope(self, length: int) -> dict[str, Any]:
        headers = {
            "host": "127.0.0.1",
            "content-type": "application/json",
            "accept": "application/json",
            "authorization": f"Bearer {self.token}",
            "content-length": str(length),
        }
        return {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/graphql", "raw_path": b"/graphql", "query_string": b"", "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8000), "state": {},
        }  # fmt: skip


def requests_of(site: Site) -> dict[str, Callable[[], tuple[str, dict[str, Any] | None]]]:
    """What is asked, each time anew."""

    def transfer() -> tuple[str, dict[str, Any]]:
        amount = {"minorUnits": "1", "currency": "EUR"}
        given = {"idempotencyKey": str(uuid.uuid4()), "fromAccountId": site.account_id, "to": {"username": "bob"}}
        return TRANSFER, {"input": {**given, "amount": amount}}

    return {
        "transfer": transfer,
        f"history page of {ROWS}": lambda: (HISTORY, {"id": site.account_id, "first": ROWS}),
        "viewer with accounts": lambda: (VIEWER, None),
    }


async def furnish(wallet: Wallet) -> tuple[str, str]:
    """Create a user with payments and a second account; returns a session's token and the first account's id."""
    ann, bob = [
        await wallet.identity.sign_up(name, f"{name}@example.org", "plain maroon bicycle") for name in ("ann", "bob")
    ]
    account = await wallet.ledger.open_account(ann.id, "EUR")
    await wallet.ledger.open_account(ann.id, "JPY")
    await wallet.ledger.open_account(bob.id, "EUR")
    await wallet.ledger.deposit(OPERATOR, "seed", account.id, 10_000_000, "EUR")
    for number in range(ROWS):
        await wallet.ledger.transfer(
            ann.id,
            f"k{number}",
            source=account.id,
            to=To(username="bob"),
            amount_minor=1,
            currency="EUR",
            reference="tea",
        )
    logged_in = await wallet.identity.log_in("ann", "plain maroon bicycle", SessionKind.BEARER)
    return logged_in.token, account.id


async def main(storage: str, rounds: int, requests: int, times: int) -> None:
    """Print the table."""
    settings = load_settings(storage=storage, rate_limits="off", mode="test")
    async with open_wallet(settings, sweeps=False) as wallet, AsyncExitStack() as running:
        token, account_id = await furnish(wallet)
        apps = {}
        for way, after in WAYS.items():
            chosen = settings.model_copy(update={"graphql_compile_after": after})
            apps[way] = create_app(replace(wallet, settings=chosen))
            await running.enter_async_context(apps[way].router.lifespan_context(apps[way]))
        site = Site(apps, token, account_id)
        print(f"{'CPU us a request':24} {'interpreted':>20} {'compiled':>20}   ratio")
        for name, make in requests_of(site).items():
            await report(name, rounds, partial(repeated, site, make, requests))
        print()
        await report(f"distinct documents x{times}", max(rounds // 5, 3), partial(distinct, site, requests, times))


async def report(name: str, rounds: int, measure: Callable[[str], Any]) -> None:
    """Measure both ways by turns, and print one line."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for way in WAYS:
        await measure(way)
    for number in range(rounds):
        for way in list(WAYS)[:: 1 if number % 2 else -1]:
            found[way].append(await measure(way))
    ratio = statistics.median(one / other for one, other in zip(*found.values(), strict=True))
    shown = [f"{min(each):8.0f} {statistics.median(each):8.0f}" for each in found.values()]
    print(f"{name:24} {shown[0]:>20} {shown[1]:>20}   {ratio:.2f}", flush=True)


async def repeated(site: Site, make: Callable[[], Any], requests: int, way: str) -> float:
    """Microseconds of processor time of a request."""
    began = time.process_time()
    for _ in range(requests):
        await site.post(way, *make())
    return (time.process_time() - began) * 1e6 / requests


async def distinct(site: Site, requests: int, times: int, way: str) -> float:
    """The same with documents that nobody sent before."""
    queries = [f"query Q{uuid.uuid4().hex} {VIEWER}" for _ in range(requests)]
    began = time.process_time()
    for query in queries:
        for _ in range(times):
            await site.post(way, query)
    return (time.process_time() - began) * 1e6 / (requests * times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", default="memory://")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--times", type=int, default=2)
    given = parser.parse_args(sys.argv[1:])
    asyncio.run(main(given.storage, given.rounds, given.requests, given.times))
