"""Trials on the servers below a store: nodes killed, stopped and cut off while several writers run.

Two writers (see `writer`) work all the time, their connections going through proxies. Faults are drawn from the seed.
Whatever was in doubt when a node came back must be settled within `patience(CLEAR_SECONDS_MAX)`, while the writers go
on. At the end no prepared transaction is left, and the books, the audit and the histories agree.

`opposite` pays both ways between two accounts; as a program it is one of several processes that do so:

```
python -m wallet_gql.testing.nodes URL LEFT RIGHT --seconds 60      LEFT and RIGHT are account ids
```
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from ..backends import open_store
from ..domain.changes import ReadSet
from ..domain.ids import AccountId, parse_account_id
from ..storage import Store
from ..verbs.ledger import Ledger, To
from .crash import RANDOM, Tally, Trial, _contradictions, _count, _Lives, _murder, _prepare, _size, _until
from .history import read_history
from .patience import insist, patience
from .proxy import Proxy
from .servers.postgres import PostgresCluster, PostgresHarness, PostgresServer
from .world import CURRENCY, Person, World

CLEAR_SECONDS_MAX: Final = 5.0
WRITERS: Final = ("left", "right")
WRITER: Final = (sys.executable, "-m", "wallet_gql.testing.writer")
FAULTS: Final = ("kill", "stop", "cut", "half-close", "hold", "drop prepare", "drop decision", "drop second phase")
_STATEMENTS: Final = {
    "drop prepare": b"PREPARE TRANSACTION",
    "drop decision": b"; COMMIT",
    "drop second phase": b"COMMIT PREPARED",
}


@dataclass(frozen=True, slots=True)
class NodeFault:
    """A fault of one node, how long it lasts, and how long the pause before it is."""

    kind: str
    node: int
    seconds: float
    calm_seconds: float


@dataclass(slots=True)
class NodeTally:
    """The counts of node trials."""

    faults: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    clear_seconds: list[float] = field(default_factory=list)
    """After each fault: how many seconds until everything that was in doubt was settled."""
    writers: Tally = field(default_factory=Tally)

    def add(self, other: NodeTally) -> None:
        """Add another trial."""
        self.faults += other.faults
        self.hits += other.hits
        self.clear_seconds += other.clear_seconds
        self.writers.add(other.writers)


def draw_faults(seed: int, count: int, nodes: int, kinds: Sequence[str] = FAULTS) -> list[NodeFault]:
    """Draw faults: each kind equally often, in random order, on random nodes."""
    drawn = random.Random(seed)
    planned = [kinds[place % len(kinds)] for place in range(count)]
    drawn.shuffle(planned)
    return [
        NodeFault(kind, drawn.randrange(nodes), drawn.uniform(0.1, 1.5), drawn.uniform(0.05, 0.4)) for kind in planned
    ]


async def run_node_trial(
    cluster: PostgresCluster, folder: Path, seed: int, faults: Sequence[NodeFault], *, command: Sequence[str] = WRITER
) -> NodeTally:
    """Run one trial on a cluster that nobody else uses meanwhile; `command` begins each writer's command line.

    Raises:
        AssertionError: names the seed and every contradiction found, or says that it was not clear in time.
    """
    tally = NodeTally()
    lives = _Lives(command, folder, Trial(seed, (), companion=True))
    harness = PostgresHarness(len(cluster.nodes), cluster)
    async with World(harness, folder, seed=seed) as world, AsyncExitStack() as stack:
        await _prepare(world, lives.setup)
        proxies = [await stack.enter_async_context(Proxy("127.0.0.1", node.port)) for node in cluster.nodes]
        lives.url = _through(harness.url, proxies)
        try:
            await _suffer(cluster, proxies, lives, faults, tally)
        finally:
            await lives.end()
        await _clear(cluster, f"seed {seed}")
        operations = read_history([lives.setup, *lives.histories])
        _count(tally.writers, operations)
        found = await _contradictions(world, operations, tally.writers)
        assert not found, f"node trial with seed {seed} in {folder}: {'; '.join(found[:10])}"
    for proxy in proxies:
        tally.hits += proxy.hits
    return tally


def _through(url: str, proxies: Sequence[Proxy]) -> str:
    """The storage URL with each node's port replaced by its proxy's."""
    parts = [urlsplit(part) for part in url.split(",")]
    moved = [
        part._replace(netloc=f"{part.username}@127.0.0.1:{proxy.port}")
        for part, proxy in zip(parts, proxies, strict=True)
    ]
    return ",".join(urlunsplit(part) for part in moved)


async def _suffer(
    cluster: PostgresCluster, proxies: Sequence[Proxy], lives: _Lives, faults: Sequence[NodeFault], tally: NodeTally
) -> None:
    writers = [await lives.start(name, "--timeout-seconds", str(patience(3))) for name in WRITERS]
    for name, writer in zip(WRITERS, writers, strict=True):
        history = lives.folder / f"history-{name}.jsonl"
        await _until(lambda history=history: _size(history) > 0, writer)  # type: ignore[misc]  # bound per writer
    for fault in faults:
        await asyncio.sleep(fault.calm_seconds)
        await _apply(cluster, proxies, fault)
        tally.faults[fault.kind] += 1
        tally.clear_seconds.append(await _clear(cluster, f"{fault}"))
        for writer in writers:
            if writer.returncode is not None:
                said = await writer.stderr.read() if writer.stderr else b""
                raise AssertionError(f"after {fault} a writer died: {said.decode()[-9000:]}")
    await asyncio.sleep(0.3)
    for writer in writers:
        await _murder(writer, RANDOM, tally.writers)
    for name in WRITERS:
        await lives.settle(name)


async def _apply(cluster: PostgresCluster, proxies: Sequence[Proxy], fault: NodeFault) -> None:
    node, proxy = cluster.nodes[fault.node], proxies[fault.node]
    if fault.kind == "kill":
        await asyncio.to_thread(node.kill)
        await asyncio.sleep(fault.seconds / 3)
        await asyncio.to_thread(node.restart)
    elif fault.kind == "stop":
        send(node, signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        send(node, signal.SIGCONT)
    elif fault.kind == "cut":
        proxy.cut()
    elif fault.kind == "half-close":
        proxy.half_close()
    elif fault.kind == "hold":
        proxy.hold()
        await asyncio.sleep(fault.seconds)
        proxy.release()
    else:
        proxy.drop_reply(_STATEMENTS[fault.kind])


def send(server: PostgresServer, number: signal.Signals) -> None:
    """Signal all processes of a server: first the parent, so that it starts no new ones. Processes may have ended."""
    for pid in server._pids():  # noqa: SLF001 - the launcher's own list
        with suppress(ProcessLookupError):
            os.kill(pid, number)


async def _clear(cluster: PostgresCluster, after: str) -> float:
    """Wait until every transaction that is prepared now is settled by other processes. Returns the seconds."""
    began = time.monotonic()
    now = set(await asyncio.to_thread(cluster.prepared))
    left = now
    while left:
        took = time.monotonic() - began
        assert took < patience(CLEAR_SECONDS_MAX), f"{after}: {took:.1f} s later still in doubt: {left}"
        await asyncio.sleep(0.05)
        left = now & set(await asyncio.to_thread(cluster.prepared))
    return time.monotonic() - began


@dataclass(slots=True)
class OppositeTally:
    """The results of one client of `opposite`. `errors` counts the codes of retryable errors, which were repeated."""

    answered: int = 0
    net_minor: int = 0
    """The net amount that went from left to right, in minor units."""
    errors: Counter[str] = field(default_factory=Counter)


async def opposite(
    store: Store, left: Person, right: Person, *, seconds: float, seed: int, clients: int = 4
) -> OppositeTally:
    """Pay in both directions between two accounts for a while; every payment is repeated until it is answered."""
    tally, ledger, until = OppositeTally(), Ledger(store), time.monotonic() + seconds
    keys = iter(range(2**62))

    async def client(drawn: random.Random) -> None:
        while time.monotonic() < until:
            forth, amount_minor = drawn.random() < 0.5, drawn.randint(1, 9)
            payer, payee = (left, right) if forth else (right, left)
            key, to = f"opposite-{seed}-{next(keys)}", To(payee.account)
            money: dict[str, Any] = {"source": payer.account, "amount_minor": amount_minor, "currency": CURRENCY}
            await insist(partial(ledger.transfer, payer.id, key, to=to, **money), told=tally.errors)
            tally.answered += 1
            tally.net_minor += amount_minor if forth else -amount_minor

    await asyncio.gather(*(client(random.Random(f"{seed} {number}")) for number in range(clients)))
    return tally


async def _pay_both_ways(url: str, left: str, right: str, **options: Any) -> OppositeTally:
    async with open_store(url) as store:
        people = [await _owner(store, parse_account_id(name)) for name in (left, right)]
        return await opposite(store, *people, **options)


async def _owner(store: Store, account_id: AccountId) -> Person:
    snapshot = await store.fetch(ReadSet(accounts=(account_id,)))
    account = snapshot.account(account_id)
    assert account is not None, f"there is no account {account_id}"
    return Person(account.owner, account.id)


def main(arguments: Sequence[str] | None = None) -> None:
    """One process of opposite transfers; prints its tally as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m wallet_gql.testing.nodes", description="Pays both ways.")
    parser.add_argument("url", help="storage URL")
    parser.add_argument("left", help="an account id")
    parser.add_argument("right", help="another")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1, help="of the drawn payments; begins every key")
    parser.add_argument("--clients", type=int, default=4, help="at once")
    tally = asyncio.run(_pay_both_ways(**vars(parser.parse_args(arguments))))
    print(json.dumps({"answered": tally.answered, "net_minor": tally.net_minor, "errors": tally.errors}))  # noqa: T201 - the output of a program


if __name__ == "__main__":
    main()
