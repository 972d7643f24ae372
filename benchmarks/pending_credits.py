"""What pending credits cost on Postgres: the next command of an account that has many, look-ups beside an old snapshot.

    python benchmarks/pending_credits.py [--credits 30000] [--rounds 3] [--looks 200]

Three nodes are started for the run, and the store receives nothing by itself. In each round a new payee gets the
credits of another node; the time is that of the payee's next payment, which receives them all. Then a reader begins a
long transaction on that node, the payee gets as many credits again, and they are received: their index entries stay as
long as the reader's snapshot. A *look-up* is the store's own `wallet_load` on an open connection, by the client's
clock: of a neighbour that never had a credit of another node, and of the payee. At the end the books are audited.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.environment import as_markdown, describe
from wallet_gql.backends.kit.wanted import Wanted
from wallet_gql.backends.postgres.node import Connection, PgNode
from wallet_gql.backends.postgres.store import PostgresStore
from wallet_gql.books.audit import audit
from wallet_gql.testing.servers.postgres import PostgresCluster, PostgresHarness
from wallet_gql.testing.world import Person, World

NODES: Final = 3
TOGETHER: Final = 500
FOREVER: Final = 3_600.0


class Pending:
    """A ledger on three nodes whose store receives nothing by itself."""

    def __init__(self, world: World) -> None:
        assert isinstance(world.store, PostgresStore)
        self._world = world
        self._store = world.store
        assert self._store._recovering is not None  # noqa: SLF001 - a benchmark of its insides
        self._store._recovering.cancel()  # noqa: SLF001

    async def people(self) -> tuple[Person, Person, Person]:
        """A payer, a payee of another node, and a neighbour of the payee's who never gets anything from elsewhere."""
        found: dict[str, list[Person]] = {}
        while True:
            person = await self._world.person()
            found.setdefault(self._home(person), []).append(person)
            full = [name for name, some in found.items() if len(some) > 1]
            if full and len(found) > 1:
                payee, neighbour = found.pop(full[0])
                (payer, *_) = next(iter(found.values()))
                await self._world.fund(payer, 10**9)
                return payer, payee, neighbour

    async def credit(self, payer: Person, payee: Person, count: int) -> None:
        """So many payments of one, none of which is received."""
        for begun in range(0, count, TOGETHER):
            some = range(min(TOGETHER, count - begun))
            await asyncio.gather(*(self._world.pay(payer, payee, 1) for _ in some))

    async def pending(self, payee: Person) -> int:
        """How many of the payee's credits have no entry."""
        asked = "SELECT count(*) FROM pending_credits WHERE account_id = $1"
        return int(await self._node(payee).ask(asked, payee.account, seconds=60.0))

    async def next_payment(self, payee: Person, payer: Person) -> float:
        """How many seconds the payee's next payment takes."""
        began = time.perf_counter()
        await self._world.pay(payee, payer, 1)
        return time.perf_counter() - began

    @asynccontextmanager
    async def old_snapshot(self, person: Person) -> AsyncIterator[None]:
        """Somebody reads the person's node for long, such as a backup."""
        begin = "SET idle_in_transaction_session_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ"
        async with self._opened(self._node(person), begin) as connection:
            await connection.value("SELECT count(*) FROM accounts")
            yield

    async def look_ups(self, person: Person, count: int) -> list[float]:
        """How many milliseconds each of some look-ups of a person's account takes."""
        node = self._node(person)
        asked = self._store._wish(  # noqa: SLF001 - the store's own
            Wanted(accounts={person.account}),
            "skip",
            self._store.placement.epochs[node.name],
        )
        took: list[float] = []
        async with self._opened(node, "BEGIN") as connection:
            for _ in range(count):
                began = time.perf_counter()
                await connection.value("SELECT wallet_load($1, $2)", asked, "skip")
                took.append((time.perf_counter() - began) * 1_000)
        return took

    async def check(self) -> None:
        """Receive everything and audit the books."""
        await self._store.recover(1_000)
        report = await audit(self._store)
        if not report.clean:
            raise SystemExit(f"INVALID: {report.findings[0]}")

    def _home(self, person: Person) -> str:
        return self._store.placement.home(person.slot)

    def _node(self, person: Person) -> PgNode:
        return self._store._nodes[self._home(person)]  # noqa: SLF001

    @asynccontextmanager
    async def _opened(self, node: PgNode, begin: str) -> AsyncIterator[Connection]:
        async with node.connection(asyncio.get_running_loop().time() + FOREVER) as connection:
            connection.doubtful = True
            await connection.do(begin)
            yield connection


async def measure(folder: Path, credits_: int, rounds: int, looks: int) -> None:
    """A line for each round."""
    cluster = PostgresCluster(NODES)
    try:
        async with World(PostgresHarness(NODES, cluster), folder) as world:
            ledger = Pending(world)
            print("| round | credits | next payment, s | look-up of others, ms | p99 | of the payee, ms | p99 |")
            print("|---:|---:|---:|---:|---:|---:|---:|")
            for number in range(1, rounds + 1):
                payer, payee, neighbour = await ledger.people()
                await ledger.credit(payer, payee, credits_)
                pending = await ledger.pending(payee)
                seconds = await ledger.next_payment(payee, payer)
                async with ledger.old_snapshot(payee):
                    await ledger.credit(payer, payee, credits_)
                    await ledger.next_payment(payee, payer)
                    looked = [await ledger.look_ups(person, looks) for person in (neighbour, payee)]
                told = [f"{statistics.median(some):.2f} | {sorted(some)[len(some) * 99 // 100]:.2f}" for some in looked]
                print(f"| {number} | {pending:,} | {seconds:.2f} | {' | '.join(told)} |", flush=True)
            await ledger.check()
            print("\nThe books are clean.")
    finally:
        cluster.stop()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--credits", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--looks", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(as_markdown(describe(Path(folder))), end="\n\n")
        asyncio.run(measure(Path(folder), options.credits, options.rounds, options.looks))


if __name__ == "__main__":
    main()
