"""A process that moves money and records its requests and answers: the victim of crash trials.

```
python -m wallet_gql.testing.writer URL HISTORY [--operations N] [--concurrency N] [--seed N] …
```

It pays between all people in the ledger, holds, captures, voids, reverses and withdraws, with keys of its own. When it
is restarted on the same history, it first repeats the unanswered requests, with the same keys. Failpoints are armed
from `WALLET_FAILPOINTS` if `WALLET_MODE=test`. With `--operations -1` it runs until it is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from .. import failpoints
from ..backends import open_store
from ..domain.errors import Rejected, WalletError
from ..domain.ids import OPERATOR, AccountId, HoldId, TransferId, UserId, is_system
from ..domain.model import Account, Hold, HoldState, Transfer
from ..storage import Store
from ..verbs.ledger import Ledger, Posted, To
from .books import scan_all
from .history import Operation, Recorder, read_history
from .patience import insist
from .world import CURRENCY

AMOUNT_MAX_MINOR: Final = 60
ATTEMPTS_MAX: Final = 200
SWEEP_SECONDS: Final = 0.05

Asked = dict[str, Any]
"""The input of one key: the verb and its arguments, as plain JSON values."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    url: str
    history: Path
    operations: int
    concurrency: int
    seed: int
    name: str
    timeout_seconds: float
    file_bytes_max: int | None = None


async def perform(ledger: Ledger, actor: str, key: str, asked: Asked) -> Posted[Any]:
    """Ask the ledger for one operation."""
    verb, amount_minor = asked["verb"], asked.get("amount_minor")
    if verb in ("transfer", "hold"):
        money: dict[str, Any] = {"amount_minor": amount_minor, "currency": CURRENCY}
        source, to = AccountId(asked["debit_account_id"]), To(AccountId(asked["credit_account_id"]))
        if verb == "transfer":
            money["reference"] = asked.get("reference", "")
            return await ledger.transfer(UserId(actor), key, source=source, to=to, **money)
        seconds = asked["seconds"]
        return await ledger.place_hold(UserId(actor), key, source=source, to=to, expires_in_seconds=seconds, **money)
    if verb == "capture":
        return await ledger.capture_hold(actor, key, HoldId(asked["hold"]), amount_minor=amount_minor)
    if verb == "void":
        return await ledger.void_hold(actor, key, HoldId(asked["hold"]))
    if verb == "reverse":
        return await ledger.reverse_transfer(actor, key, TransferId(asked["transfer"]), amount_minor=amount_minor)
    external = ledger.deposit if verb == "deposit" else ledger.withdraw
    return await external(actor, key, AccountId(asked["account"]), asked["amount_minor"], CURRENCY)


async def ask(ledger: Ledger, recorder: Recorder, actor: str, key: str, asked: Asked) -> Posted[Any] | None:
    """Repeat a request until it is answered, and record each call; returns None if it is refused."""
    for attempt in range(ATTEMPTS_MAX):
        recorder.write("invoke", actor, key, **asked)
        try:
            posted = await perform(ledger, actor, key, asked)
        except Rejected as error:
            recorder.write("refused", actor, key, code=error.code)
            return None
        except WalletError as error:
            recorder.write("unknown", actor, key, code=error.code)
            if not error.retryable:
                raise
            await asyncio.sleep(min(0.002 * 2**attempt, 0.1))
        else:
            told = {"replayed": posted.replayed, "credited": posted.credited}
            recorder.write("ok", actor, key, made=posted.result.id, **told)
            return posted
    raise RuntimeError(f"no answer to {key} after {ATTEMPTS_MAX} attempts")


class Writer:
    """The workload: draws operations and keeps what later ones need."""

    def __init__(
        self, ledger: Ledger, recorder: Recorder, accounts: Sequence[Account], *, name: str, seed: int
    ) -> None:
        """Move money between `accounts`; `name` begins every key, `seed` decides every draw."""
        self._ledger = ledger
        self._recorder = recorder
        self._accounts = accounts
        self._name = name
        self._random = random.Random(seed)
        self._holds: list[Hold] = []
        self._received: list[Transfer] = []

    def take_up(self, holds: Sequence[Hold], transfers: Sequence[Transfer]) -> None:
        """Load open holds and payments of earlier runs, to continue with them."""
        self._holds += [hold for hold in holds if hold.state is HoldState.OPEN]
        self._received += transfers

    async def retry(self, unanswered: Sequence[Operation]) -> None:
        """Repeat, concurrently, all requests that an earlier run got no answer to."""
        calls = (ask(self._ledger, self._recorder, o.actor, o.key, dict(o.asked)) for o in unanswered)
        await asyncio.gather(*calls)

    async def run(self, numbers: Callable[[], int | None]) -> None:
        """One of the concurrent clients: one operation after another, until there is no next number."""
        while (number := numbers()) is not None:
            actor, asked = self._draw()
            key = f"{self._name}-{number}"
            calls = [ask(self._ledger, self._recorder, actor, key, asked)]
            if self._random.random() < 0.1:  # an impatient client sends the same request twice
                calls.append(ask(self._ledger, self._recorder, actor, key, asked))
            for posted in await asyncio.gather(*calls):
                self._keep(posted)

    def _keep(self, posted: Posted[Any] | None) -> None:
        if posted is None or posted.replayed:
            return
        if isinstance(posted.result, Hold) and posted.result.state is HoldState.OPEN:
            self._holds.append(posted.result)
        elif isinstance(posted.result, Transfer) and posted.result.kind == "transfer":
            self._received.append(posted.result)

    def _draw(self) -> tuple[str, Asked]:
        """The next operation: its actor, and its input."""
        dice, drawn = self._random.random(), self._random
        amount_minor = drawn.randint(1, AMOUNT_MAX_MINOR)
        payer, payee = drawn.sample(self._accounts, 2)
        if dice < 0.25 and self._holds:
            hold = self._holds.pop(drawn.randrange(len(self._holds)))
            if dice < 0.1:
                return hold.closer, {"verb": "void", "hold": hold.id}
            taken = min(amount_minor, hold.amount_minor)
            return hold.closer, {"verb": "capture", "hold": hold.id, "amount_minor": taken}
        if dice < 0.3 and self._received:
            moved = self._received.pop(drawn.randrange(len(self._received)))
            taken = min(amount_minor, moved.amount_minor)
            return OPERATOR, {"verb": "reverse", "transfer": moved.id, "amount_minor": taken}
        if dice < 0.34:
            verb = "deposit" if dice < 0.32 else "withdraw"
            return OPERATOR, {"verb": verb, "account": payer.id, "amount_minor": amount_minor}
        asked = {"debit_account_id": payer.id, "credit_account_id": payee.id, "amount_minor": amount_minor}
        if dice < 0.55:
            return payer.owner, {"verb": "hold", **asked, "seconds": drawn.choice((1, 1, 3600))}
        return payer.owner, {"verb": "transfer", **asked}


async def _sweep(store: Store, ledger: Ledger) -> None:
    """Run recovery and expire holds while the writers run."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            await store.recover(100)
            await ledger.expire_due_holds()
        except WalletError as error:
            if not error.retryable:
                raise


async def write(options: Options) -> None:
    """Run one writer to its end. Raises InvariantViolated if the store breaks a promise."""
    former = read_history([options.history]) if options.history.exists() else {}
    unanswered = [operation for operation in former.values() if not operation.answered]
    async with open_store(options.url) as store:
        with Recorder(options.history) as recorder:
            ledger = Ledger(store, timeout_seconds=options.timeout_seconds)
            accounts = await insist(lambda: scan_all(store, "account"))  # where slots move, a scan may be refused
            found = [a for a in accounts if isinstance(a, Account) and a.currency == CURRENCY]
            writer = Writer(ledger, recorder, found, name=options.name, seed=options.seed)
            holds = [hold for hold in await insist(lambda: scan_all(store, "hold")) if isinstance(hold, Hold)]
            writer.take_up([hold for hold in holds if not is_system(hold.payee_account_id)], [])
            sweeping = asyncio.create_task(_sweep(store, ledger))
            await writer.retry(unanswered)
            first = max((int(operation.key.rpartition("-")[2]) + 1 for operation in former.values()), default=0)
            numbers = _numbers(first, options.operations)
            await _together(sweeping, [writer.run(numbers) for _ in range(options.concurrency)])


def _numbers(first: int, operations: int) -> Callable[[], int | None]:
    taken = count()

    def number() -> int | None:
        place = next(taken)
        return first + place if operations < 0 or place < operations else None

    return number


async def _together(sweeping: asyncio.Task[None], clients: list[Awaitable[None]]) -> None:
    """End with the clients, or with the first failure of any of them or of the sweep."""

    async def work() -> None:
        await asyncio.gather(*clients)

    working = asyncio.create_task(work())
    await asyncio.wait([working, sweeping], return_when=asyncio.FIRST_COMPLETED)
    if sweeping.done():
        working.cancel()
        sweeping.result()
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
    await working


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m wallet_gql.testing.writer", description="The victim of crash trials."
    )
    parser.add_argument("url", help="storage URL of a ledger with people in it")
    parser.add_argument("history", type=Path, help="JSON lines, appended to")
    parser.add_argument("--operations", type=int, default=-1, help="how many new ones; -1: until killed")
    parser.add_argument("--concurrency", type=int, default=8, help="clients at once")
    parser.add_argument("--seed", type=int, default=1, help="of the drawn operations")
    parser.add_argument("--name", default="w", help="prefix of the keys")
    parser.add_argument("--file-bytes-max", type=int, help="no file may grow beyond this: the disk is full")
    parser.add_argument("--timeout-seconds", type=float, default=10.0, help="deadline of each call")
    return Options(**vars(parser.parse_args(arguments)))


def main() -> None:
    """Arm the failpoints, in test mode only, and write."""
    if os.environ.get("WALLET_MODE") == "test":
        failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    options = parse()
    if options.file_bytes_max is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.file_bytes_max, options.file_bytes_max))
    asyncio.run(write(options))


if __name__ == "__main__":
    main()
