"""Processes take turns on a partition of Cassandra: one that waits sees whether the other one is alive."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.integration._cassandra import need_server
from wallet_gql.backends.cassandra import turn
from wallet_gql.backends.cassandra.partition import Partition
from wallet_gql.backends.cassandra.tables import Op
from wallet_gql.testing.patience import patience, until
from wallet_gql.testing.servers.cassandra import CassandraHarness
from wallet_gql.testing.world import Person, World
from wallet_gql.verbs.ledger import Ledger

pytestmark = [pytest.mark.backend("cassandra"), pytest.mark.trial, pytest.mark.timeout(180)]

TURN_SECONDS = 0.6
TURN_SECONDS_MAX = 3.0
"""Who waits, waits for less than the ten seconds of a command, on a busy machine too."""

LONGER_SECONDS = 0.9
IDLE_SECONDS = 0.3
TURNS = 2
CLIENTS = 6


@pytest.fixture
def helped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The versions that a process has spread for another one. Its patience is shorter than the other's turn.

    A turn does not end earlier, while clients that have their answers prepare their next requests.
    """
    patient = min(patience(TURN_SECONDS), TURN_SECONDS_MAX)
    monkeypatch.setattr(turn, "IDLE_SECONDS", min(patience(IDLE_SECONDS), TURN_SECONDS_MAX))
    monkeypatch.setattr(turn, "TURN_SECONDS", patient)
    monkeypatch.setattr(turn, "HOLD_SECONDS", patient + LONGER_SECONDS)
    monkeypatch.setattr(turn, "TURN_SHARE", 1.0)
    found: list[int] = []
    spread = Partition.spread

    async def spreading(self: Partition, version: int, attempt: str, ops: list[Op]) -> None:
        if not attempt.startswith(self._process):
            found.append(version)
        await spread(self, version, attempt, ops)

    monkeypatch.setattr(Partition, "spread", spreading)
    return found


@asynccontextmanager
async def two_processes(folder: Path) -> AsyncIterator[tuple[World, Ledger, list[Person]]]:
    """A ledger of one partition, two stores, and people with money."""
    need_server()
    async with World(CassandraHarness(1), folder) as world:
        people = await world.people(4, balance_minor=10_000)
        yield world, world.ledger_on(await world.another()), people


async def test_a_busy_process_lets_others_have_turns(helped: list[int], tmp_path: Path) -> None:
    """It hears that somebody new wants the partition. Its turn outlasts their patience, yet no commit is helped."""
    async with two_processes(tmp_path) as (world, other, people):
        helped.clear()
        ended, paid = asyncio.Event(), Counter[str]()

        async def pay_on() -> None:
            while not ended.is_set():
                await world.pay(people[0], people[1], 1)
                paid["payments"] += 1

        async def let_both_have_turns() -> None:
            for _ in range(TURNS):
                await world.pay(people[2], people[3], 1, ledger=other)
                wanted = paid.total() + 2 * CLIENTS
                await until(partial(lambda least: paid.total() > least, wanted), 60, "the busy process pays nothing")
            ended.set()

        # So many that there is always another commit.
        await asyncio.gather(let_both_have_turns(), *(pay_on() for _ in range(CLIENTS)))
        assert helped == []


async def test_who_is_gone_is_helped(helped: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that commits no more and releases nothing delays others only for their patience."""
    async with two_processes(tmp_path) as (world, other, people):
        helped.clear()
        with monkeypatch.context() as patch:
            patch.setattr(turn.Turn, "_end", lambda _self: None)
            await world.pay(people[0], people[1], 1)
        await world.pay(people[2], people[3], 1, ledger=other)
        assert len(helped) == 1
