"""The HTTP server under kill -9: with clients that retry under the same key, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.integration._evidence import write_evidence
from tests.integration._server import TRANSFER, Person, serving, settle_all
from wallet_gql.backends import open_store
from wallet_gql.books.audit import audit
from wallet_gql.domain.ids import UserId
from wallet_gql.testing.patience import patience
from wallet_gql.verbs.ledger import Ledger

CLIENTS = 8
BALANCE_MINOR = 100_000
POINTS = ("sqlite.loaded", "sqlite.decided", "sqlite.written", "sqlite.committed", "at random")


@dataclass
class Trial:
    """Payments by key: what was asked, and what the clients were told."""

    storage: str
    people: Sequence[Person]
    seed: int
    asked: dict[str, tuple[Person, str, int]] = field(default_factory=dict)
    answered: dict[str, str] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    found_done: int = 0

    def __post_init__(self) -> None:
        """The draws follow from the seed."""
        self.random = random.Random(self.seed)
        self._numbers = count()

    def draw(self) -> str:
        """A new payment; answers its key."""
        payer, payee = self.random.sample(self.people, 2)
        key = f"http-{next(self._numbers)}"
        self.asked[key] = (payer, payee.username, self.random.randint(1, 99))
        return key

    def open_keys(self) -> list[str]:
        """Keys without an answer."""
        return [key for key in self.asked if key not in self.answered]

    async def send(self, client: httpx.AsyncClient, key: str) -> None:
        """Send one payment; a lost answer leaves the key open. Raises AssertionError on any answer but success."""
        payer, payee, minor = self.asked[key]
        body = {"query": TRANSFER, "variables": {"input": payer.pay(payee, minor, key)}}
        try:
            answer = await client.post("/graphql", json=body, headers={"Authorization": f"Bearer {payer.token}"})
        except httpx.TransportError:
            return
        result = answer.json()["data"]["transfer"]
        assert result["__typename"] == "TransferSuccess", result
        self.answered[key] = result["transfer"]["id"]
        self.found_done += result["replayed"]

    async def one_life(self, folder: Path, point: str) -> None:
        """A server that is killed at a point, under clients that first ask again and then for more."""
        armed = {} if point == "at random" else {"failpoints": f"{point}=kill@{self.random.randint(3, 40)}"}
        with serving(folder, storage=self.storage, **armed) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=patience(20)) as client:
                await asyncio.gather(*(self.send(client, key) for key in self.open_keys()))

                async def work() -> None:
                    while server.process.poll() is None:
                        await self.send(client, self.draw())

                clients = [asyncio.create_task(work()) for _ in range(CLIENTS)]
                if not armed:
                    await asyncio.sleep(self.random.uniform(0.05, 0.5))
                    server.process.kill()
                await asyncio.wait_for(asyncio.gather(*clients), patience(60))
            assert server.process.wait(patience(10)) == -9
            self.killed[point] += 1

    async def finish(self, folder: Path) -> None:
        """Ask the last open keys again and check everything."""
        with serving(folder, storage=self.storage) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=patience(20)) as client:
                await asyncio.gather(*(self.send(client, key) for key in self.open_keys()))
        assert self.open_keys() == []
        async with open_store(self.storage) as store:
            report = await audit(store)
            assert report.findings == []
            assert report.transfers == len(self.asked) + len(self.people), "a key paid twice, or never"
            ledger = Ledger(store)
            for key, transfer_id in self.answered.items():
                known = await ledger.outcome(UserId(self.asked[key][0].id), key)
                assert known is not None
                assert known.transfer is not None
                assert known.transfer.id == transfer_id, f"seed {self.seed}: {key} was answered otherwise"


def _kills(number: int) -> Iterator[str]:
    return (POINTS[place % len(POINTS)] for place in range(number))


async def _run(folder: Path, seed: int, kills: int) -> Trial:
    storage = f"sqlite:///{folder / 'wallet.db'}"
    people = await asyncio.to_thread(settle_all, storage, *[BALANCE_MINOR] * 4)
    trial = Trial(storage, people, seed)
    for point in _kills(kills):
        await trial.one_life(folder, point)
    await trial.finish(folder)
    return trial


@pytest.mark.trial
@pytest.mark.backend("sqlite")
async def test_a_killed_server_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """One kill at each point of the commit and one at random, with clients that retry."""
    trial = await _run(tmp_path, 1, len(POINTS))

    assert dict.fromkeys(POINTS, 1) == dict(trial.killed)
    assert trial.found_done > 0


@pytest.mark.soak
@pytest.mark.backend("sqlite")
async def test_soak_of_killed_servers(tmp_path: Path) -> None:
    """Fifty kills; the counts go into the evidence."""
    kills = int(os.environ.get("WALLET_SOAK_KILLS", "50"))
    trial = await _run(tmp_path, 20_261_122, kills)
    rows = [*(f"| killed {point} | {n} |" for point, n in sorted(trial.killed.items()))]
    rows += [f"| payments asked | {len(trial.asked):,} |", f"| found done when asked again | {trial.found_done} |"]
    text = "No contradiction was found.\n\n" + "\n".join(["| what | count |", "|---|---:|", *rows])
    write_evidence("http-kill", "The HTTP server under kill -9", "make soak ARGS='-k killed_servers'", text)

    assert sum(trial.killed.values()) == kills
