"""What a transfer costs on Cassandra: lightweight transactions, requests, and payments beside raw CAS.

```
python benchmarks/cassandra_lwt.py                    # three nodes here, 1 and 16 partitions, 1, 16 and 64 in flight
```

A *raw CAS* is `UPDATE … IF v = ?` with 1 KB of data on a row of its own, over the same driver and nodes, measured just
before. Payments are between random accounts. `requests` counts all that the store asks of Cassandra, look-ups included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.environment import as_markdown, describe
from wallet_gql.backends import open_store
from wallet_gql.backends.cassandra.client import Client
from wallet_gql.backends.cassandra.store import CassandraStore
from wallet_gql.domain.model import Account
from wallet_gql.testing.books import scan_all
from wallet_gql.testing.patience import insist
from wallet_gql.testing.servers.cassandra import CassandraCluster, CassandraHarness
from wallet_gql.testing.world import CURRENCY, World
from wallet_gql.verbs.ledger import Ledger, To

ACCOUNTS = 200
MONEY_MINOR = 1_000_000
RAW_BYTES = 1_000
WARM_SECONDS = 2.0
CREWS = ((3, 8), (1, 8), (1, 24))
"""Processes, and clients of each."""


async def rate(one: Callable[[], Awaitable[object]], clients: int, seconds: float) -> float:
    """How often a second `one` is done, by so many clients at once."""
    until, done = time.monotonic() + seconds, 0

    async def client() -> None:
        nonlocal done
        while time.monotonic() < until:
            await one()
            done += 1

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    return done / (time.monotonic() - began)


class Raw:
    """Rows that are counted up by lightweight transactions, each by one client at a time."""

    def __init__(self, client: Client, rows: int) -> None:
        self._client = client
        self._free = [(f"raw {i}", 0) for i in range(rows)]

    async def open(self) -> None:
        """Make the table and its rows."""
        keyspace = self._client.address.keyspace
        await self._client.run(f"CREATE TABLE IF NOT EXISTS {keyspace}.raw (k text PRIMARY KEY, v bigint, data text)")
        self._client._prepare({"raw": f"UPDATE {keyspace}.raw SET v = ?, data = ? WHERE k = ? IF v = ?"})  # noqa: S608, SLF001 - the same driver
        for key, _ in self._free:
            await self._client.run(f"INSERT INTO {keyspace}.raw (k, v) VALUES ('{key}', 0) IF NOT EXISTS")  # noqa: S608 - ours

    async def step(self) -> None:
        """One of them."""
        key, version = self._free.pop()
        (answer,) = await self._client.ask("raw", version + 1, "x" * RAW_BYTES, key, version)
        assert answer[0], "a row of one's own was changed by somebody else"
        self._free.append((key, version + 1))


def paying(store: Any, accounts: list[Account], seed: str) -> Callable[[], Awaitable[object]]:
    """One payment between random accounts, asked for until it is answered."""
    ledger, drawn, numbers = Ledger(store), random.Random(seed), count()

    async def one() -> None:
        payer, payee = drawn.sample(accounts, 2)
        key = f"{seed}-{next(numbers)}"
        money: dict[str, Any] = {"source": payer.id, "amount_minor": 1, "currency": CURRENCY}
        await insist(lambda: ledger.transfer(payer.owner, key, to=To(payee.id), **money))

    return one


async def accounts_of(store: Any) -> list[Account]:
    """The accounts that have money."""
    return [a for a in await scan_all(store, "account") if isinstance(a, Account) and a.posted_minor]


async def work(url: str, seed: str, clients: int, seconds: float) -> None:
    """One of several processes: says that it is there, is told when to begin, and prints its payments per second."""
    async with open_store(url) as store:
        one = paying(store, await accounts_of(store), seed)
        print("ready", flush=True)
        begin = json.loads(await asyncio.to_thread(sys.stdin.readline))
        await rate(one, clients, max(begin - time.time(), 0.1))
        print(json.dumps(await rate(one, clients, seconds)))


async def together(url: str, processes: int, clients: int, seconds: float) -> float:
    """Payments per second of several processes, in the same seconds."""
    command = [sys.executable, __file__, "--work", url, "--clients", str(clients), "--seconds", str(seconds)]
    started = [
        await asyncio.create_subprocess_exec(
            *command, "--seed", f"{time.time_ns()}-{i}", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        for i in range(processes)
    ]
    for process in started:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    begin = json.dumps(time.time() + WARM_SECONDS).encode()
    answers = await asyncio.gather(*(process.communicate(begin + b"\n") for process in started))
    rates: list[float] = [json.loads(told) for told, _ in answers]
    return sum(rates)


async def fund(world: World) -> None:
    """Accounts with money."""

    async def one() -> None:
        user_id = await world.user()
        account = await world.ledger.open_account(user_id, CURRENCY)
        await world.ledger.deposit("op:operator", world.key(), account.id, MONEY_MINOR, CURRENCY)

    await asyncio.gather(*(one() for _ in range(ACCOUNTS)))


async def measure(cluster: CassandraCluster, partitions: int, flights: list[int], seconds: float, rounds: int) -> None:
    """One ledger of so many partitions: a line for each number of payments in flight."""
    with tempfile.TemporaryDirectory() as folder:
        async with World(CassandraHarness(partitions, lambda: cluster), Path(folder)) as world:
            store = world.store
            assert isinstance(store, CassandraStore)
            await fund(world)
            raw = Raw(store._client, max(flights))  # noqa: SLF001 - the same driver
            await raw.open()
            one = paying(store, await accounts_of(store), f"one-{partitions}")
            for flight in flights:
                raw_rate = await rate(raw.step, flight, seconds)
                await rate(one, flight, 0.5)
                requests = store._client.requests  # noqa: SLF001 - its own count
                requests.clear()
                paid = await rate(one, flight, seconds)
                number = max(round(paid * seconds), 1)
                print(
                    f"| {partitions} | {flight} | {raw_rate:.0f} | {paid:.0f} | {paid / raw_rate:.2f} "
                    f"| {requests['cas'] / number:.2f} | {sum(requests.values()) / number:.1f} |",
                    flush=True,
                )
            url = world.harness.url
            async with world.closed():  # it would take turns with the processes
                found = [[await together(url, n, each, seconds) for n, each in CREWS] for _ in range(rounds)]
            three, few, many = map(statistics.median, zip(*found, strict=True))
            print(
                f"\n3 processes of 8 clients: {three:.0f}/s; one of 8: {few:.0f}/s ({three / few:.2f}); "
                f"one of 24: {many:.0f}/s ({three / many:.2f})\n",
                flush=True,
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--partitions", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--flights", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3, help="of the processes; the median is shown")
    parser.add_argument("--work", help="be one of several processes on this ledger")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", default="work")
    options = parser.parse_args()
    if options.work:
        asyncio.run(work(options.work, options.seed, options.clients, options.seconds))
        return
    cluster = CassandraCluster(options.nodes)
    try:
        print(as_markdown(describe(Path(tempfile.gettempdir()))), end="\n\n")
        print(
            "| partitions | in flight | raw CAS/s | payments/s | payments per raw CAS | CAS/payment | requests each |"
        )
        print("|---:|---:|---:|---:|---:|---:|---:|")
        for partitions in options.partitions:
            asyncio.run(measure(cluster, partitions, options.flights, options.seconds, options.rounds))
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
