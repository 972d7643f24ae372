"""Compares PyMongo's own asyncio API with the retired Motor driver, by the commands of one batch.

    python benchmarks/mongodb_drivers.py [--batch N] [--seconds S]

Each repeats the same transaction on the same mongod: one read, four inserts of N documents, one commit. Motor runs
PyMongo's blocking API on threads. It is not a dependency of this project; if it is not installed, its line says so.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from itertools import count
from typing import Any, Final

from bson.int64 import Int64
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.read_concern import ReadConcern

from wallet_gql.testing.servers.mongo import ReplicaSet

COLLECTIONS: Final = ("accounts", "transfers", "entries", "receipts")
_numbers = count()


def documents(size: int) -> list[dict[str, Any]]:
    """As large as an entry."""
    return [{"_id": next(_numbers), "account_id": "a" * 36, "amount_minor": Int64(1)} for _ in range(size)]


async def one(client: Any, session: Any, start: Callable[[], Awaitable[Any]], size: int) -> None:
    """One transaction."""
    database = client["drivers"]
    await start()
    await database.command({"find": "accounts", "filter": {"_id": -1}}, session=session)
    for name in COLLECTIONS:
        await database.command({"insert": name, "documents": documents(size)}, session=session)
    await session.commit_transaction()


async def rate(client: Any, size: int, seconds: float) -> tuple[float, float]:
    """Transactions per second, and CPU microseconds of this process for each."""
    options = {"read_concern": ReadConcern("snapshot"), "write_concern": WriteConcern("majority", j=True)}
    session = client.start_session()
    session = await session if asyncio.iscoroutine(session) or isinstance(session, asyncio.Future) else session

    async def start() -> None:
        started = session.start_transaction(**options)
        if asyncio.iscoroutine(started):
            await started

    until, done, cpu = time.monotonic() + seconds, 0, time.process_time()
    while time.monotonic() < until:
        await one(client, session, start, size)
        done += 1
    return done / seconds, (time.process_time() - cpu) / done * 1e6


async def compare(url: str, size: int, seconds: float, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Both drivers in turns."""
    clients: dict[str, Any] = {"PyMongo asyncio": AsyncMongoClient(url)}
    try:
        clients["Motor"] = import_module("motor.motor_asyncio").AsyncIOMotorClient(url)
    except ImportError:
        print("Motor is not installed; it has reached its end of life and is measured only where it is")
    for name in COLLECTIONS:
        await clients["PyMongo asyncio"]["drivers"].create_collection(name)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
    for _ in range(rounds):
        for name, client in clients.items():
            found[name].append(await rate(client, size, seconds))
    await clients["PyMongo asyncio"].close()
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=64, help="documents of each insert")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    servers = ReplicaSet()
    try:
        url = servers.url("drivers")
        found = asyncio.run(compare(url, options.batch, options.seconds, options.rounds))
    finally:
        servers.stop()
    for name, rounds in found.items():
        per_second, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"{name}: {per_second:.0f} transactions a second, {cpu:.0f} us CPU each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
