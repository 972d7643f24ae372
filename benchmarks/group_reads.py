"""Processor time of one read on Postgres, 32 at a time: sharing round trips, and each in one of its own.

    python benchmarks/group_reads.py

Both ways take turns on the same store in one process, so that a disturbance hits both. Shown are medians over the
turns, and the median of the ratios of neighbouring turns. The time is that of the thread that runs the event loop.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path
from typing import Any, Final

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.beside import Turns
from wallet_gql import Ledger
from wallet_gql.backends import open_store
from wallet_gql.backends.kit import GroupRead
from wallet_gql.domain.changes import ReadSet
from wallet_gql.storage import PageRequest, Store
from wallet_gql.testing.servers.postgres import PostgresCluster

IN_FLIGHT: Final = 32
READS: Final = 600
TURNS: Final = 15
TRANSFERS: Final = 3_000

Who = tuple[Any, Any]
Look = Callable[[Who], Awaitable[object]]


async def _alone(reads: GroupRead[Any, Any], lane: Hashable, question: Any) -> Any:
    (answer,) = await reads._read(lane, [question])  # noqa: SLF001 - to measure without sharing
    return answer


async def taken(look: Look, people: list[Who]) -> float:
    """Microseconds of one read."""
    left, chance = iter(range(READS)), random.Random(1)

    async def caller() -> None:
        for _ in left:
            await look(chance.choice(people))

    began = time.thread_time()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return (time.thread_time() - began) / READS * 1e6


async def compare(name: str, look: Look, people: list[Who]) -> None:
    """Measure in turns, the first of which does not count, and print."""
    sharing, pairs = GroupRead.ask, list[tuple[float, float]]()
    for _ in range(TURNS + 1):
        shared = await taken(look, people)
        GroupRead.ask = _alone  # type: ignore[assignment,method-assign]  # to measure without it
        try:
            pairs.append((shared, await taken(look, people)))
        finally:
            GroupRead.ask = sharing  # type: ignore[method-assign]  # as it was
    shared, alone = (statistics.median(column) for column in zip(*pairs[1:], strict=True))
    ratio = statistics.median(a / b for a, b in pairs[1:])
    print(f"{name:20} {shared:5.0f} us shared, {alone:5.0f} us alone: {ratio:.2f}", flush=True)


def looks(store: Store) -> dict[str, Look]:
    """What is read."""
    return {
        "wallet": lambda who: store.fetch(ReadSet(wallets=(who[0],))),
        "history page of 50": lambda who: store.list_transfers(who[1], PageRequest(50)),
    }


async def main(url: str) -> None:
    """Make a ledger, then read it."""
    turns = Turns(url, 64)
    async with open_store(url) as store:
        ledger = Ledger(store)
        people = await turns.people(ledger)
        await turns.pay(ledger, turns.draw(people, TRANSFERS))
        for name, look in looks(store).items():
            await compare(name, look, people)


if __name__ == "__main__":
    cluster = PostgresCluster(1)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main(cluster.url(cluster.take())))
    finally:
        cluster.stop()
