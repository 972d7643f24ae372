"""Processor time of one transfer in this tree beside another one, in one interleaved run.

    git worktree add ../before COMMIT
    python benchmarks/beside.py ../before/src [memory | sqlite | postgres …] [--in-flight 64]
    python benchmarks/beside.py ../before/src --instructions

Each tree runs in a process of its own, on a fresh store. The processes take turns, a few hundred transfers each, so
that a disturbance hits both; only one of them works at a time. Shown is the median over the turns of each tree's
processor time, and of the ratios of neighbouring turns. `python` is the time of the thread that runs the event loop;
`all` counts the store's threads inside the process, too (SQLite itself runs there). A database server's time does not
count. At the end the balances of each tree are summed.

`--instructions` counts the processor's instructions with valgrind instead, which is slow and exact: those of a process
that makes many transfers, less those of one that makes few.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

SOURCE: Final = Path(__file__).resolve().parents[1] / "src"
ACCOUNTS: Final = 256
CURRENCY: Final = "EUR"
DEPOSIT_MINOR: Final = 10**12
VALGRIND: Final = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
FEW: Final = 4
MANY: Final = 16
"""Transfers of each caller, for a count of instructions."""


class Turns:
    """The other end of `Worker`: a ledger of the tree that PYTHONPATH names, which pays when it is told to."""

    def __init__(self, storage: str, in_flight: int) -> None:
        self.storage = storage
        self.in_flight = in_flight
        self.keys = map("k{}".format, itertools.count())
        self.rng = random.Random(1)

    async def run(self) -> None:
        """Answer each line, a number of transfers, by the microseconds that one took; the last one by the audit."""
        from wallet_gql import Ledger  # noqa: PLC0415 - of the tree that is measured
        from wallet_gql.backends import open_store  # noqa: PLC0415 - as above
        from wallet_gql.runtime import settled_memory  # noqa: PLC0415 - as above

        async with open_store(self.storage) as store:
            ledger = Ledger(store)
            payers = await self.people(ledger)
            with settled_memory():  # as servers do
                print("ready", flush=True)
                for line in sys.stdin:
                    count = int(line)
                    drawn = self.draw(payers, count)
                    before = time.thread_time(), time.process_time()
                    await self.pay(ledger, drawn)
                    taken = time.thread_time() - before[0], time.process_time() - before[1]
                    print(json.dumps([seconds / count * 1e6 for seconds in taken]), flush=True)
            totals = await store.totals()
            total = sum(one.customer_minor for one in totals)
            assert total == DEPOSIT_MINOR * ACCOUNTS, f"the balances sum to {total}"
            print("clean", flush=True)

    async def people(self, ledger: Any) -> list[tuple[Any, Any]]:
        """Users with money, by the ledger's own verbs but for the users themselves."""
        from wallet_gql.domain.ids import OPERATOR, make_user_id  # noqa: PLC0415 - of the tree that is measured
        from wallet_gql.domain.users import User  # noqa: PLC0415 - as above

        now = datetime.now(UTC)
        ids = [make_user_id(int(now.timestamp() * 1000), self.rng.getrandbits(62)) for _ in range(ACCOUNTS)]
        users = [User(user_id, f"u{n}", f"u{n}@bench.example", "-", now) for n, user_id in enumerate(ids)]
        await ledger.store.load_raw([user.to_record() for user in users])
        accounts = await asyncio.gather(*(ledger.open_account(user_id, CURRENCY) for user_id in ids))
        deposits = (ledger.deposit(OPERATOR, f"d-{a.id}", a.id, DEPOSIT_MINOR, CURRENCY) for a in accounts)
        await asyncio.gather(*deposits)
        return [(account.owner, account.id) for account in accounts]

    def draw(self, people: list[tuple[Any, Any]], count: int) -> list[tuple[Any, Any, str]]:
        """So many payers, payees and keys."""
        pairs = (self.rng.sample(people, 2) for _ in range(count))
        return [(payer, payee, next(self.keys)) for payer, payee in pairs]

    async def pay(self, ledger: Any, drawn: list[tuple[Any, Any, str]]) -> None:
        """A transfer for each payer, payee and key, `in_flight` of them at a time."""
        from wallet_gql import To  # noqa: PLC0415 - of the tree that is measured

        left = iter(drawn)

        async def caller() -> None:
            for (owner, source), (_, target), key in left:
                to = To(account_id=target)
                await ledger.transfer(owner, key, source=source, to=to, amount_minor=1, currency=CURRENCY)

        await asyncio.gather(*(caller() for _ in range(self.in_flight)))


class Worker:
    """A process that runs the modules of one tree."""

    def __init__(self, tree: Path, storage: str, in_flight: int) -> None:
        command = [sys.executable, __file__, "--work", storage, "--in-flight", str(in_flight)]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(tree)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, text=True, stdin=pipe, stdout=pipe)
        self.expect("ready")

    def line(self) -> str:
        """The next line that it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def expect(self, word: str) -> None:
        """Read one line. Raises SystemExit unless it is that word."""
        if (found := self.line()) != word:
            raise SystemExit(f"the worker said {found!r} instead of {word!r}")

    def turn(self, count: int) -> list[float]:
        """Microseconds of one transfer: of the event loop's thread, and of the whole process."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        taken: list[float] = json.loads(self.line())
        return taken

    def end(self) -> None:
        """Audit and stop. Raises SystemExit if the books are wrong."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.expect("clean")
        self.process.wait()


@contextlib.contextmanager
def storages(store: str) -> Iterator[list[str]]:
    """Two fresh stores of a kind."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        if store == "memory":
            yield ["memory://"] * 2
        elif store == "sqlite":
            yield [f"sqlite:///{folder}/{side}.db" for side in ("here", "there")]
        elif store == "postgres":
            from wallet_gql.testing.servers.postgres import PostgresCluster  # noqa: PLC0415 - where it is asked for

            cluster = PostgresCluster(1)
            stack.callback(cluster.stop)
            yield [cluster.url(cluster.take()) for _ in range(2)]
        else:
            raise SystemExit(f"{store}: write memory, sqlite or postgres")


def compare(store: str, other: Path, *, in_flight: int, turns: int, count: int) -> list[list[list[float]]]:
    """The figures of both trees, turn by turn, after a turn that does not count."""
    with storages(store) as (here, there):
        workers = [Worker(SOURCE, here, in_flight), Worker(other, there, in_flight)]
        for worker in workers:
            worker.turn(count)
        found = [[worker.turn(count) for worker in workers] for _ in range(turns)]
        for worker in workers:
            worker.end()
    return found


def instructions(tree: Path, store: str, in_flight: int) -> float:
    """Instructions of one transfer."""

    def counted(rounds: int) -> int:
        with storages(store) as (storage, _):
            command = [*VALGRIND, sys.executable, __file__, "--work", storage, "--in-flight", str(in_flight)]
            environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(tree)}
            line = f"{rounds * in_flight}\n"
            done = subprocess.run(command, env=environment, input=line, capture_output=True, text=True, check=False)
        found = re.search(r"Collected : (\d+)", done.stderr)
        if done.returncode or found is None or not done.stdout.endswith("clean\n"):
            raise SystemExit(f"{tree}: {done.stdout}{done.stderr[-2000:]}")
        return int(found[1])

    return (counted(MANY) - counted(FEW)) / ((MANY - FEW) * in_flight)


def main() -> None:
    """Measure, and print a row for each store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, nargs="?", help="the src folder of the other tree")
    parser.add_argument("stores", nargs="*", default=["memory", "sqlite"])
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--turns", type=int, default=25)
    parser.add_argument("--transfers", type=int, default=1_000, help="transfers of one turn")
    parser.add_argument("--instructions", action="store_true", help="count them, instead of taking the time")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work is not None:
        import uvloop  # noqa: PLC0415 - for the worker alone

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(Turns(given.work, given.in_flight).run())
        return
    for store in given.stores:
        if given.instructions:
            mine, other = (instructions(tree, store, given.in_flight) for tree in (SOURCE, given.other))
            print(f"{store:9} {mine:,.0f} instructions a transfer, there {other:,.0f}: {mine / other:.3f}", flush=True)
        else:
            show(
                store, compare(store, given.other, in_flight=given.in_flight, turns=given.turns, count=given.transfers)
            )


def show(store: str, found: list[list[list[float]]]) -> None:
    """Print the medians of both trees, and of the ratios of neighbouring turns with their quartiles."""
    for place, name in enumerate(("python", "all")):
        here, there = ([turn[side][place] for turn in found] for side in (0, 1))
        low, middle, high = statistics.quantiles([a / b for a, b in zip(here, there, strict=True)])
        medians = f"{statistics.median(here):6.1f} us here, {statistics.median(there):6.1f} us there"
        print(f"{store:9} {name:7} {medians}: {middle:.3f} ({low:.3f} to {high:.3f})", flush=True)


if __name__ == "__main__":
    main()
