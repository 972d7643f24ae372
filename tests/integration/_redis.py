"""Trials on Redis leases: holders killed, holders stopped until their leases have ended, a Redis that loses its data.

Everything runs on real servers of the module's own. The trials count what really happened: leases that expired
(reported by the Redis), late writes and claims that the nodes refused (from their logs), and executed faults of the
Redis.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from wallet_gql.backends.redis import claim as _redis_claim
from wallet_gql.backends.redis import store as redis_backend
from wallet_gql.backends.redis.credits import Credits
from wallet_gql.backends.redis.leases import Leases
from wallet_gql.domain.errors import AccountFrozen, Contended, WalletError
from wallet_gql.domain.ids import OPERATOR
from wallet_gql.domain.model import AccountStatus
from wallet_gql.storage import Store
from wallet_gql.testing.crash import Kill, Tally, Trial, run_trial
from wallet_gql.testing.patience import insist, patience, until
from wallet_gql.testing.servers.postgres import PostgresCluster
from wallet_gql.testing.servers.redis import FORBIDDEN, RedisHarness, RedisServer
from wallet_gql.testing.world import Person, World
from wallet_gql.verbs.ledger import Ledger

LEASE_SECONDS = 0.15
"""Well below the 0.4 s for which a trial stops its victim."""

STOPS_A_TRIAL = 6

FAULTS = ("flush", "kill", "stop")
HELD = ("redis.leased", "redis.claimed", "redis.decided")
"""Where a stopped process has leases, which then expire."""

_REFUSED = re.compile(r"ERROR:  token \d+ holds \d+ of \d+ rows")
_TELL_EXPIRED = ("--notify-keyspace-events", "Ex")


class Bench:
    """Three nodes that forbid PREPARE, and a Redis that tells which leases expire."""

    def __init__(self) -> None:
        self.cluster = PostgresCluster(3, FORBIDDEN)
        self.redis = RedisServer(*_TELL_EXPIRED)
        self.faults: Counter[str] = Counter()
        self._listening = True
        self._expired = 0
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def stop(self) -> None:
        """End all servers."""
        self._listening = False
        self.redis.stop()
        self._listener.join(5)
        self.cluster.stop()

    def harness(self, lease_seconds: float = LEASE_SECONDS) -> RedisHarness:
        """A fresh ledger on them."""
        return RedisHarness(3, self.cluster, self.redis, lease_seconds=lease_seconds)

    @property
    def expired(self) -> int:
        """How many leases have ended without being released."""
        return self._expired

    @property
    def refused(self) -> int:
        """How many late writes the nodes have refused."""
        texts = [(node.folder / "log").read_text(errors="replace") for node in self.cluster.nodes]
        return sum(len(_REFUSED.findall(text)) for text in texts)

    def _listen(self) -> None:
        """Count expired leases, over a connection that is made again whenever the Redis was killed."""
        while self._listening:
            with (
                suppress(OSError),
                socket.create_connection(("127.0.0.1", self.redis.port), timeout=patience(1)) as link,
            ):
                link.sendall(b"PSUBSCRIBE __keyevent@0__:expired\r\n")
                while self._listening:
                    with suppress(TimeoutError):
                        told = link.recv(65_536)
                        if not told:
                            break
                        self._expired += len(re.findall(rb"\r\nwgql:\S+\}:[awr]:\S+\r\n", told))
            threading.Event().wait(0.01)

    def open_intents(self, database: str) -> int:
        """How many credits are still to be applied."""
        return sum(int(node.run("SELECT count(*) FROM intents", database)) for node in self.cluster.nodes)

    def leases(self) -> list[str]:
        """The rows that are leased now, whoever holds them."""
        return re.findall(r"wgql:\S+\}:[awr]:\S+", self.redis.tell("KEYS", "wgql:*"))

    @asynccontextmanager
    async def weather(self, kinds: Sequence[str], seed: int, begin: Path) -> AsyncIterator[None]:
        """Faults of the Redis, drawn from the seed, from when the file `begin` is there; at the end it is well."""
        storm = asyncio.create_task(self._storm(kinds, random.Random(seed), begin))
        try:
            yield
        finally:
            storm.cancel()
            with suppress(asyncio.CancelledError):
                await storm

    async def _storm(self, kinds: Sequence[str], drawn: random.Random, begin: Path) -> None:
        while not begin.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
            await asyncio.sleep(0.01)
        kind = drawn.randrange(len(kinds))
        while True:
            await asyncio.sleep(drawn.uniform(1.0, 3.0) * LEASE_SECONDS)
            await self.suffer(kinds[kind % len(kinds)], drawn.uniform(1.0, 3.0) * LEASE_SECONDS)
            kind += 1

    async def suffer(self, kind: str, seconds: float) -> None:
        """One fault, carried out to its end."""
        if kind == "flush":
            await asyncio.to_thread(self.redis.tell, "FLUSHALL")
        elif kind == "kill":
            self.redis.kill()
            await asyncio.shield(asyncio.to_thread(self.redis.restart))
        else:
            self.redis.pause()
            try:
                await asyncio.sleep(seconds)
            finally:
                self.redis.resume()
        self.faults[kind] += 1


@contextmanager
def bench() -> Iterator[Bench]:
    """Servers of one's own, ended afterwards."""
    made = Bench()
    try:
        yield made
    finally:
        made.stop()


def draw_stops(points: Sequence[str], seed: int, count: int) -> list[Trial]:
    """Trials in which the victim is stopped past its leases `count` times in all, at each point equally often."""
    drawn = random.Random(seed)
    planned = [Kill(points[place % len(points)], drawn.randint(2, 10), stop=True) for place in range(count)]
    drawn.shuffle(planned)
    starts = range(0, count, STOPS_A_TRIAL)
    return [Trial(drawn.randrange(2**31), tuple(planned[i : i + STOPS_A_TRIAL]), companion=True) for i in starts]


PAUSED_SECONDS = (0.03, 0.12)
"""How long a holder of `paused_trial` stands still; its leases last 0.02 s and are not renewed."""


@dataclass(slots=True)
class PausedTally:
    """What paused trials amounted to. `late` counts pauses between two steps that were longer than the lease."""

    late: int = 0
    refused: int = 0
    """Late claims and writes that were refused."""
    paid: int = 0

    def add(self, other: PausedTally) -> None:
        """Count another trial in."""
        self.late += other.late
        self.refused += other.refused
        self.paid += other.paid


def _pausing(monkeypatch: pytest.MonkeyPatch, drawn: random.Random, tally: PausedTally) -> None:
    """Let holders stand still, now and then, between lease, claim and write; a stopped process renews nothing."""
    monkeypatch.setattr(Leases, "_due", lambda _: [])

    def paused(step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(*values: Any, **more: Any) -> Any:
            if drawn.random() < 0.4:
                tally.late += 1
                await asyncio.sleep(drawn.uniform(*PAUSED_SECONDS))
            try:
                return await step(*values, **more)
            except Contended:
                tally.refused += 1
                raise

        return run

    for name in ("claim", "write"):
        monkeypatch.setattr(redis_backend, name, paused(getattr(_redis_claim, name)))
    monkeypatch.setattr(Credits, "_take_in", paused(Credits._take_in))


async def paused_trial(
    made: Bench, folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch, *, forgetting: bool = False
) -> PausedTally:
    """Three stores pay out of one account, which is frozen meanwhile, and recover, under pauses past their leases.

    Once the account is answered as frozen nothing more leaves it, and it stays frozen. With `forgetting` the Redis is
    flushed all the time.

    Raises:
        AssertionError: names the seed and what is wrong.
    """
    drawn, tally = random.Random(seed), PausedTally()
    folder.mkdir(parents=True)  # noqa: ASYNC240 - nothing else waits for this loop
    async with World(made.harness(0.02), folder, seed=seed) as world:
        ann, bob, cem = await world.people(3, 1_000)
        stores = await world.stores(3)
        ledgers = [world.ledger_on(store, 5.0) for store in stores]
        with monkeypatch.context() as patch:
            _pausing(patch, drawn, tally)
            tasks = [asyncio.ensure_future(_recover_for_ever(store)) for store in stores[1:]]
            if forgetting:
                tasks.append(asyncio.ensure_future(_forget_for_ever(made.redis)))
            paying = [
                asyncio.ensure_future(_pay_for_long(world, ledger, (ann, drawn.choice((bob, cem))), drawn, tally))
                for ledger in ledgers
                for _ in range(3)
            ]
            try:
                await asyncio.sleep(drawn.uniform(0.05, 0.3))
                await until(lambda: tally.paid > 1 or all(one.done() for one in paying), 60, f"{seed}: nobody pays")
                await insist(lambda: ledgers[1].set_account_status(OPERATOR, ann.account, AccountStatus.FROZEN))
                frozen = await world.ledger.account(ann.id, ann.account)
                await asyncio.gather(*paying)
            finally:
                for task in (*tasks, *paying):
                    task.cancel()
                await asyncio.gather(*tasks, *paying, return_exceptions=True)
        after = await world.account(ann)
        assert after.status is AccountStatus.FROZEN, f"seed {seed}: a late write has unfrozen the account"
        spent = frozen.posted_minor - after.posted_minor
        assert spent == 0, f"seed {seed}: {spent} left the account after it was frozen"
    return tally


async def _pay_for_long(
    world: World, ledger: Ledger, pair: tuple[Person, Person], drawn: random.Random, tally: PausedTally
) -> None:
    """Pay, now and then twice under one key, until the account is frozen."""
    for _ in range(8):
        key = world.key()
        try:
            for _ in range(drawn.choice((1, 1, 2))):
                await insist(lambda key=key: world.pay(*pair, 1, key, ledger))  # type: ignore[misc]  # bound now
        except AccountFrozen:
            break
        tally.paid += 1


async def _recover_for_ever(store: Store) -> None:
    while True:
        with suppress(WalletError):
            await store.recover(100)
        await asyncio.sleep(0.01)


async def _forget_for_ever(server: RedisServer) -> None:
    while True:
        await asyncio.to_thread(server.tell, "FLUSHALL")
        await asyncio.sleep(0.003)


async def run_all(
    made: Bench,
    folder: Path,
    trials: Sequence[Trial],
    kinds: Sequence[str] = (),
    **more: Any,
) -> Tally:
    """Run trials one after the other, each on an empty ledger, under faults of those kinds; `more` is for each trial.

    Raises:
        AssertionError: a contradiction, an intent that is left open, or an answer that says that a promise was broken.
    """
    tally = Tally()
    for number, trial in enumerate(trials):
        place = folder / str(number)
        place.mkdir(parents=True)
        harness = made.harness()
        async with AsyncExitStack() as stack:
            if kinds:
                weather = made.weather(kinds, trial.seed, place / "history-victim.jsonl")
                await stack.enter_async_context(weather)
            try:
                tally.add(await run_trial(harness, place, trial, **more))
            finally:
                broken = sorted(
                    path.name for path in place.glob("history-*") if b'"code":"INTERNAL"' in path.read_bytes()
                )
        assert broken == [], f"trial with seed {trial.seed}: a promise was broken, says {broken}"
        assert harness.database is not None
        assert made.open_intents(harness.database) == 0
    return tally
