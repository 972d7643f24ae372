"""Python's steps for a request over GraphQL: exact where times are noisy.

    python benchmarks/request_steps.py               without and with metrics, as JSON
    python benchmarks/request_steps.py --functions   function by function, with limits counted

Requests are given to the application as a server would, over a store in memory. What a request begins with is left out:
the difference of many and few is taken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.graphql_setup import HISTORY, PAGE, TRANSFER, VIEWER, beyond_reach
from benchmarks.steps import Steps
from wallet_gql import Ledger, metrics
from wallet_gql.domain.ids import OPERATOR
from wallet_gql.domain.users import SessionKind
from wallet_gql.runtime import Wallet, open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.transports.server.app import create_app

WARM: Final = 8
FEW: Final = 4
MANY: Final = 24

READ: Final = "{ viewer { id username accounts { id currency posted { minorUnits } } } }"
PAY: Final = """mutation($input: TransferInput!) { transfer(input: $input) { ... on TransferSuccess {
  transfer { id } fromAccount { posted { minorUnits } } } ... on WalletError { code } } }"""

_SCOPE: Final[dict[str, Any]] = {
    "type": "http",
    "method": "POST",
    "scheme": "http",
    "http_version": "1.1",
    "root_path": "",
    "path": "/graphql",
    "raw_path": b"/graphql",
    "query_string": b"",
    "asgi": {"version": "3.0"},
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 2),
}


class Asking:
    """One user with money, and requests of theirs."""

    def __init__(self, app: Any, token: str, payment: dict[str, Any]) -> None:
        self._app = app
        self._payment = payment
        self._headers = [
            (b"host", b"127.0.0.1"),
            (b"content-type", b"application/json"),
            (b"authorization", b"Bearer " + token.encode()),
        ]
        self._keys = 0

    def _variables(self, query: str) -> dict[str, Any] | None:
        """Those of the query, with a key of its own."""
        if query is HISTORY:
            return {"id": self._payment["fromAccountId"], "first": PAGE}
        return {"input": {**self._payment, "idempotencyKey": f"key-{self._keys}"}} if query in (PAY, TRANSFER) else None

    async def ask(self, query: str) -> None:
        """Send one request, which must succeed."""
        self._keys += 1
        variables = self._variables(query)
        body = json.dumps({"query": query, "variables": variables}).encode()
        sent: list[Any] = []

        headers = [*self._headers, (b"content-length", b"%d" % len(body))]

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app({**_SCOPE, "headers": headers}, receive, send)
        answer = json.loads(sent[-1]["body"])
        if "errors" in answer or "code" in answer["data"].get("transfer", ()):
            raise SystemExit(f"a request failed: {answer}")

    async def steps(self, query: str) -> float:
        """The steps of one request."""
        counts: list[int] = []
        for count in (WARM, FEW, MANY):
            with Steps() as seen:
                for _ in range(count):
                    await self.ask(query)
            counts.append(seen.count)
        return (counts[2] - counts[1]) / (MANY - FEW)


async def people(wallet: Wallet, ledger: Ledger) -> tuple[str, dict[str, Any]]:
    """A payer's token, and the input of a payment."""
    accounts = []
    for name in ("ann", "bob"):
        user = await wallet.identity.sign_up(f"{name}123", f"{name}@example.org", "plain maroon bicycle")
        accounts.append(await ledger.open_account(user.id, "EUR"))
    account = accounts[-1]
    await ledger.deposit(OPERATOR, "deposit", account.id, 10_000, "EUR")
    session = await wallet.identity.log_in("bob123", "plain maroon bicycle", SessionKind.BEARER)
    amount = {"minorUnits": "1", "currency": "EUR"}
    return session.token, {"fromAccountId": account.id, "to": {"username": "ann123"}, "amount": amount}


async def both() -> list[float]:
    """The steps of a read and of a payment."""
    settings = load_settings(storage="memory://", mode="test", rate_limits="off", log_level="warning")
    async with open_wallet(settings, sweeps=False) as wallet:
        app = create_app(wallet)
        async with app.router.lifespan_context(app):
            asking = Asking(app, *await people(wallet, wallet.ledger))
            return [await asking.steps(query) for query in (READ, PAY)]


class _ByFunction(Steps):
    """Counts each function's own steps, too."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: Counter[str] = Counter()

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            code = frame.f_code
            self.functions[f"{Path(code.co_filename).stem} {code.co_qualname}"] += 1
        super()._step(frame, event, argument)
        return self._step


async def by_function(most: int) -> None:
    """Print what requests of the three kinds take, all limits counted, and the functions that take most of it."""
    given = {"rate_limits": beyond_reach(), "session_cache_seconds": 60.0}  # not to depend on the clock
    settings = load_settings(storage="memory://", mode="test", log_level="warning", **given)
    async with open_wallet(settings, sweeps=False) as wallet:
        app = create_app(wallet)
        async with app.router.lifespan_context(app):
            asking = Asking(app, *await people(wallet, wallet.ledger))
            for query in [TRANSFER] * (PAGE + WARM) + [HISTORY, VIEWER] * WARM:
                await asking.ask(query)
            for name, query in (("transfer", TRANSFER), ("page", HISTORY), ("viewer", VIEWER)):
                with _ByFunction() as seen:
                    for _ in range(MANY):
                        await asking.ask(query)
                print(f"\n{name}: {seen.count / MANY:,.0f} steps\n")
                for function, steps in seen.functions.most_common(most):
                    print(f"| {function} | {steps / MANY:,.0f} |")


def without_and_with() -> list[list[float]]:
    """The steps without metrics, and with them."""
    before = asyncio.run(both())
    with tempfile.TemporaryDirectory() as folder:
        metrics.start(Path(folder))
        after = asyncio.run(both())
        metrics.stop()
    return [before, after]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", type=int, metavar="N", help="instead: the N functions that take most")
    options = parser.parse_args()
    if options.functions:
        asyncio.run(by_function(options.functions))
    else:
        print(json.dumps(without_and_with()))


if __name__ == "__main__":
    main()
