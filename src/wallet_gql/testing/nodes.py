"""Trials on the servers below a store: nodes killed, stopped and cut off while several writers run.

Two writers (see `writer`) work all the time, their connections going through proxies. Faults are drawn from the seed.
At the end everything is back; then all must be clear within `CLEAR_SECONDS_MAX`: no prepared transaction is left, and
the books, the audit and the histories agree.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from .crash import RANDOM, Tally, Trial, _contradictions, _count, _Lives, _murder, _prepare, _size, _until
from .history import read_history
from .proxy import Proxy
from .servers.postgres import PostgresCluster, PostgresHarness
from .world import World

CLEAR_SECONDS_MAX: Final = 5.0
WRITERS: Final = ("left", "right")
FAULTS: Final = ("kill", "stop", "cut", "half-close", "hold", "drop prepare", "drop decision", "drop second phase")
_STATEMENTS: Final = {
    "drop prepare": b"PREPARE TRANSACTION",
    "drop decision": b"; COMMIT",
    "drop second phase": b"COMMIT PREPARED",
}


@dataclass(frozen=True, slots=True)
class NodeFault:
    """What happens to the node of that index, for how long, and how long all is well before it."""

    kind: str
    node: int
    seconds: float
    calm_seconds: float


@dataclass(slots=True)
class NodeTally:
    """What node trials amounted to."""

    faults: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    clear_seconds: list[float] = field(default_factory=list)
    writers: Tally = field(default_factory=Tally)


def draw_faults(seed: int, count: int, nodes: int, kinds: Sequence[str] = FAULTS) -> list[NodeFault]:
    """Each kind equally often, in a drawn order, on drawn nodes."""
    drawn = random.Random(seed)
    planned = [kinds[place % len(kinds)] for place in range(count)]
    drawn.shuffle(planned)
    return [
        NodeFault(kind, drawn.randrange(nodes), drawn.uniform(0.1, 1.5), drawn.uniform(0.05, 0.4)) for kind in planned
    ]


async def run_node_trial(cluster: PostgresCluster, folder: Path, seed: int, faults: Sequence[NodeFault]) -> NodeTally:
    """Run one trial on a cluster that nobody else uses meanwhile.

    Raises:
        AssertionError: names the seed and every contradiction found, or says that it was not clear in time.
    """
    tally = NodeTally()
    lives = _Lives((), folder, Trial(seed, (), companion=True))
    lives.command = _writer_command()
    harness = PostgresHarness(len(cluster.nodes), cluster)
    async with World(harness, folder, seed=seed) as world, AsyncExitStack() as stack:
        await _prepare(world, lives.setup)
        proxies = [await stack.enter_async_context(Proxy("127.0.0.1", node.port)) for node in cluster.nodes]
        lives.url = _through(harness.url, proxies)
        try:
            await _suffer(cluster, proxies, lives, faults, tally)
        finally:
            await lives.end()
        tally.clear_seconds.append(await _clear(cluster, seed))
        operations = read_history([lives.setup, *lives.histories])
        _count(tally.writers, operations)
        found = await _contradictions(world, operations, tally.writers)
        assert not found, f"node trial with seed {seed} in {folder}: {'; '.join(found[:10])}"
    for proxy in proxies:
        tally.hits += proxy.hits
    return tally


def _writer_command() -> tuple[str, ...]:
    import sys  # noqa: PLC0415 - the interpreter that runs the tests

    return (sys.executable, "-m", "wallet_gql.testing.writer")


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
    writers = [await lives.start(name, "--timeout-seconds", "3") for name in WRITERS]
    for name, writer in zip(WRITERS, writers, strict=True):
        history = lives.folder / f"history-{name}.jsonl"
        await _until(lambda history=history: _size(history) > 0, writer)  # type: ignore[misc]  # bound per writer
    for fault in faults:
        await asyncio.sleep(fault.calm_seconds)
        await _apply(cluster, proxies, fault)
        tally.faults[fault.kind] += 1
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
        node.pause()
        await asyncio.sleep(fault.seconds)
        node.resume()
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


async def _clear(cluster: PostgresCluster, seed: int) -> float:
    """How many seconds until no transaction is prepared any more; the world's own store recovers meanwhile."""
    began = time.monotonic()
    while left := await asyncio.to_thread(cluster.prepared):
        took = time.monotonic() - began
        assert took < CLEAR_SECONDS_MAX, f"seed {seed}: after {took:.1f} s still in doubt: {left}"
        await asyncio.sleep(0.05)
    return time.monotonic() - began
