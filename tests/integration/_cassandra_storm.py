"""A storm over one ledger: several stores in one process, whose requests to a real Cassandra fail in every known way.

Answers of lightweight transactions are lost, late or made up (a time-out, or 0x1700, before or after the fact, or long
before it). Of the rows of a commit only some are written, or they are written again later. Commits stop between any
two steps as a killed process does. Meanwhile clients pay, count, look, read histories and close the gate. What each was
told is compared with what the others saw and with the books.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from cassandra import OperationTimedOut, WriteTimeout
from cassandra.protocol import ErrorMessage

from wallet_gql import failpoints
from wallet_gql.backends.cassandra import credits as sending
from wallet_gql.backends.cassandra.client import Client
from wallet_gql.backends.cassandra.credits import Receive
from wallet_gql.backends.cassandra.errors import Failure
from wallet_gql.backends.cassandra.store import CassandraStore
from wallet_gql.backends.kit.group_commit import GroupCommit
from wallet_gql.domain.changes import Changes, Decision, Scope, Snapshot
from wallet_gql.domain.errors import Contended, InDoubt, WalletError
from wallet_gql.domain.model import Record, Transfer
from wallet_gql.failpoints import FailpointError
from wallet_gql.storage import PageRequest
from wallet_gql.testing.books import faults, read_books
from wallet_gql.testing.patience import insist
from wallet_gql.testing.raw import counter_key, increment, number, written
from wallet_gql.testing.world import Person, World

LATE_SECONDS = 0.03
PEOPLE = 6
MONEY_MINOR = 10_000


def unknown() -> ErrorMessage:
    """CAS_WRITE_UNKNOWN, as the driver hands it over."""
    return ErrorMessage(code=0x1700, message="CAS operation result is unknown", info=None)


@dataclass(slots=True)
class Weather:
    """What goes wrong, and how often; `seen` counts it."""

    random: random.Random
    share: float = 0.08
    seen: Counter[str] = field(default_factory=Counter)
    later: set[asyncio.Task[Any]] = field(default_factory=set)

    def strikes(self, name: str) -> bool:
        """Whether this goes wrong now."""
        struck = self.random.random() < self.share
        self.seen[name] += struck
        return struck

    def soon(self, work: Callable[[], Awaitable[Any]]) -> None:
        """Do it a little later, whoever may have come between."""

        async def wait() -> None:
            await asyncio.sleep(self.random.uniform(0, self.random.choice((LATE_SECONDS / 10, LATE_SECONDS))))
            await asyncio.gather(work(), return_exceptions=True)

        task = asyncio.create_task(wait())
        self.later.add(task)
        task.add_done_callback(self.later.discard)

    def _failure(self) -> Failure:
        failures: list[Exception] = [unknown(), OperationTimedOut(), WriteTimeout("late", write_type=5)]
        return Failure(self.random.choice(failures))

    @contextmanager
    def rages(self) -> Any:
        """Let requests fail while inside."""

        def reaching(point: str) -> None:
            if self.strikes(point):
                raise FailpointError(point)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Client, "ask", self._asking(Client.ask))
            patch.setattr(Client, "write", self._writing(Client.write))
            patch.setattr(GroupCommit, "submit", self._submitting(GroupCommit.submit))
            patch.setattr(failpoints, "reach", reaching)
            patch.setattr(sending, "reach", reaching)
            yield

    def _asking(self, ask: Any) -> Any:
        async def asking(client: Client, name: str, *values: Any) -> Any:
            if name != "cas":
                return await ask(client, name, *values)
            if self.strikes("decision lost on its way"):
                raise self._failure()
            if self.strikes("decision made late"):
                self.soon(lambda: ask(client, name, *values))
                raise self._failure()
            answer = await ask(client, name, *values)
            if self.strikes("answer lost"):
                raise self._failure()
            if self.strikes("applied, and told otherwise"):
                return [(False, values[-1] + 1)]
            return answer

        return asking

    def _writing(self, write: Any) -> Any:
        async def writing(client: Client, ops: Sequence[Any], stamp: int) -> None:
            if len(ops) > 1 and self.strikes("some rows written"):
                await write(client, [op for op in ops if self.random.random() < 0.5], stamp)
                raise Failure(OperationTimedOut())
            if self.strikes("rows written again later"):
                self.soon(lambda: write(client, ops, stamp))
            await write(client, ops, stamp)

        return writing

    def _submitting(self, submit: Any) -> Any:
        async def submitting(group: GroupCommit, lane: Any, scope: Scope, decide: Any, seconds: float) -> Any:
            if isinstance(decide, Receive) and self.strikes("credit not sent"):
                raise Contended
            return await submit(group, lane, scope, decide, seconds)

        return submitting


class Storm:
    """The clients, and what they were told."""

    def __init__(self, world: World, stores: list[Any], people: list[Person], seed: int) -> None:
        self.world, self.stores, self.people = world, stores, people
        self.random = random.Random(seed)
        self.weather = Weather(random.Random(seed + 1))
        self.paid: dict[str, tuple[Person, Person, int, Transfer]] = {}
        self.found: list[str] = []
        self.counted: list[int] = []
        self.doubtful = 0
        self.running = True

    def store(self) -> CassandraStore:
        """One of them."""
        store: CassandraStore = self.random.choice(self.stores)
        return store

    async def pay(self, keys: Sequence[str]) -> None:
        """A client that pays, asking until there is an answer, each time through another store."""
        for key in keys:
            payer, payee = self.random.sample(self.people, 2)
            amount_minor = self.random.randint(1, 9)
            posted = await self._asked(key, payer, payee, amount_minor)
            self.paid[key] = (payer, payee, amount_minor, posted.result)

    async def _asked(self, key: str, payer: Person, payee: Person, amount_minor: int) -> Any:
        return await insist(
            lambda: self.world.pay(payer, payee, amount_minor, key, self.world.ledger_on(self.store(), 2.0))
        )

    async def count(self, times: int) -> None:
        """A client without keys: what it was told is counted, and what may have happened."""
        key = counter_key(self.people[0])
        for _ in range(times):
            try:
                done = await self.store().execute(Scope(key.slot, records=(key,)), increment(key), timeout_seconds=2.0)
            except InDoubt:
                self.doubtful += 1
            except WalletError:
                continue
            else:
                self.counted.append(done.result)

    async def write_both(self, times: int) -> None:
        """A client that always writes two records together."""
        for _ in range(times):
            try:
                await self.store().execute(self._both, _step(*self._both.records), timeout_seconds=2.0)
            except WalletError:
                continue

    @property
    def _both(self) -> Scope:
        person = self.people[1]
        return Scope(person.slot, records=(counter_key(person, "left"), counter_key(person, "right")))

    async def look_at_both(self) -> None:
        """A client whose commands write nothing: they see both records or neither."""
        while self.running:
            try:
                seen = (await self.store().execute(self._both, _look(*self._both.records), timeout_seconds=2.0)).result
            except WalletError:
                continue
            if seen[0] != seen[1]:
                self.found.append(f"a command saw one record at {seen[0]} and the other at {seen[1]}")
            await asyncio.sleep(0)

    async def look_at_an_account(self) -> None:
        """A client whose commands write nothing: through whichever store, an account never goes back."""
        person, newest = self.people[0], 0
        scope = Scope(person.slot, accounts=(person.account,))
        while self.running:
            try:
                seen = (await self.store().execute(scope, _sequence(person), timeout_seconds=2.0)).result
            except WalletError:
                continue
            if seen < newest:
                self.found.append(f"a command saw an account at {seen} after another one had seen it at {newest}")
            newest = max(seen, newest)
            await asyncio.sleep(0)

    async def read(self) -> None:
        """A client that reads pages of history: no entry is missing, and each is what it was."""
        known: dict[tuple[str, int], Any] = {}
        while self.running:
            person = self.random.choice(self.people)
            page = await insist(lambda person=person: self.store().list_transfers(person.account, PageRequest(50)))  # type: ignore[misc]  # bound
            sequences = [line.entry.sequence for line in page.items]
            if sequences != list(range(sequences[0], sequences[-1] - 1, -1)):
                self.found.append(f"a page of {person.account} has a hole: {sequences}")
            for line in page.items:
                if known.setdefault((person.account, line.entry.sequence), line) != line:
                    self.found.append(f"entry {line.entry.sequence} of {person.account} became another one")
            await asyncio.sleep(0.005)

    async def close_gates(self, times: int) -> None:
        """A client that closes the gate now and then: inside nothing changes."""
        for _ in range(times):
            await asyncio.sleep(self.random.uniform(0.1, 0.3))
            store = self.store()
            try:
                async with store.gate():
                    before = [await partition.newest() for partition in store._partitions.values()]
                    await asyncio.sleep(0.1)
                    after = [await partition.newest() for partition in store._partitions.values()]
                    if before != after:
                        self.found.append("a commit passed the gate")
            except WalletError:
                continue

    async def run(self, keys: int, clients: int = 8) -> list[str]:
        """Let it rage; answers everything that is wrong afterwards."""
        names = [self.world.key() for _ in range(keys)]
        with self.weather.rages():
            watching = [asyncio.create_task(work) for work in self._watching()]
            working = [self.pay(names[start::clients]) for start in range(clients)]
            extra = keys // 3
            working += [self.count(extra), self.count(extra), self.write_both(extra), self.close_gates(3)]
            try:
                await asyncio.gather(*working)
                while self.weather.later:
                    await asyncio.wait(list(self.weather.later))
            finally:
                self.running = False
                await asyncio.gather(*watching)
        return self.found + await self._contradictions()

    def _watching(self) -> list[Coroutine[Any, Any, None]]:
        return [self.look_at_both(), self.look_at_an_account(), self.read()]

    async def _contradictions(self) -> list[str]:
        await self.world.settle()
        found = faults(await read_books(self.world.store))  # before anybody asks again, which sends what was lost
        for key, (payer, payee, amount_minor, told) in self.paid.items():
            again = await self._asked(key, payer, payee, amount_minor)
            if again.result.id != told.id:
                found.append(f"{key} was answered by {told.id} and then by {again.result.id}")
        await self.world.settle()
        books = await read_books(self.world.store)
        found += faults(books)
        effects = Counter(transfer.idempotency_key for transfer in books.transfers.values())
        found += [f"{key} has {effects[key]} effects" for key in self.paid if effects[key] != 1]
        if len(set(self.counted)) < len(self.counted):
            found.append("two clients were told the same number")
        total = number(await self._counter())
        if not len(self.counted) <= total <= len(self.counted) + self.doubtful:
            found.append(f"counted to {total}: {len(self.counted)} were told, {self.doubtful} doubtful")
        for store in self.stores:
            opened = [await store._credits.open_of(partition) for partition in store._partitions.values()]
            found += [f"intent {intent} is open" for part in opened for intent in part]
        return found

    async def _counter(self) -> Record | None:
        return await self.world.record(counter_key(self.people[0]))


def _look(*keys: Any) -> Callable[[Snapshot], Decision[tuple[int, int]]]:
    return lambda snapshot: Decision(Changes(), (number(snapshot.record(keys[0])), number(snapshot.record(keys[1]))))


def _sequence(person: Person) -> Callable[[Snapshot], Decision[int]]:
    def decide(snapshot: Snapshot) -> Decision[int]:
        account = snapshot.account(person.account)
        return Decision(Changes(), account.sequence if account else 0)

    return decide


def _step(*keys: Any) -> Callable[[Snapshot], Decision[None]]:
    def decide(snapshot: Snapshot) -> Decision[None]:
        before = [snapshot.record(key) for key in keys]
        after = number(before[0]) + 1
        records = [
            written(key, (old.version if old else 0) + 1, n=after) for key, old in zip(keys, before, strict=True)
        ]
        return Decision(Changes(records=tuple(records)), None)

    return decide


async def storm(world: World, keys: int, seed: int = 1) -> list[str]:
    """One storm on a fresh ledger: everything that is wrong afterwards."""
    people = await world.people(PEOPLE, MONEY_MINOR)
    raging = Storm(world, await world.stores(3), people, seed)
    found = await raging.run(keys)
    world.trials += sum(raging.weather.seen.values())
    return found
