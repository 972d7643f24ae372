"""Clients that pay, hold and read at once on one ledger, and record every call.

Writers pay between all accounts, so that many payments are refused; they place holds and close them, and repeat
requests under their keys, at once and later. Some keys differ only in case, and one account has more than a float can
tell exactly. Between their payments they count, by commands without a key. Dedicated readers read single accounts, all
accounts of a node, all accounts, and pages of history, through several store objects where there may be several.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count, takewhile
from typing import Any, Final

from ..domain.changes import ReadSet, Scope
from ..domain.errors import InDoubt, InsufficientFunds, InvariantViolated, Rejected, WalletError
from ..domain.ids import AccountId
from ..domain.model import Account, Hold
from ..storage import PAGE_MAX, PageRequest, Store
from ..testing.history import Operation
from ..testing.patience import insist, patience
from ..testing.raw import counter_key, endow, increment, number
from ..testing.world import TIMEOUT_SECONDS, Person, World
from ..testing.writer import perform
from ..verbs.attempts import REFERENCE_MAX
from ..verbs.ledger import Ledger, Posted, utc_now
from .history import Call, History, Outcome, Seen

OPENING_MINOR: Final = 1_000
RICH_MINOR: Final = 2**53 + 1
"""What one account has besides."""
AMOUNT_MAX_MINOR: Final = 400
REFERENCE: Final = "\N{MONEY BAG}" * REFERENCE_MAX
"""The longest reference, with characters of four bytes."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done: `writes` are requests, not counting repetitions; clients pause for up to so many seconds."""

    writes: int = 300
    writers: int = 8
    readers: int = 4
    people: int = 6
    attempts: int = 30
    write_pause: float = 0.0
    read_pause: float = 0.004


@dataclass(frozen=True, slots=True)
class Around:
    """What a history is recorded under: by default nothing special.

    The clients use `stores` instead of the world's own, and half of them the other `clock`. They go on until `work` has
    ended, however many requests that takes.
    """

    stores: Sequence[Store] = ()
    clock: Callable[[], datetime] = utc_now
    work: Callable[[History], Awaitable[None]] | None = None


async def record(world: World, seed: int, size: Size, around: Around = Around()) -> History:
    """Run the clients on an empty ledger and return their history, with the books after everything has settled."""
    people = await world.people(size.people, OPENING_MINOR)
    await endow(world, people[0], RICH_MINOR)
    books = await world.books()
    homes: dict[str, str] = {person.account: books.node_of(person.account) or "" for person in people}
    opening: dict[str, int] = {person.account: len(books.entries.get(person.account, ())) for person in people}
    history = History(world.harness.name, seed, homes, opening, world.harness.claims.keeps_pending)
    stores = around.stores or await world.stores(2)
    working = None if around.work is None else asyncio.ensure_future(around.work(history))
    numbers = iter(range(size.writes)) if working is None else takewhile(lambda _: not working.done(), count())
    whose = [_Client(history, stores[place % len(stores)], place, seed) for place in range(size.writers + size.readers)]
    clocks = (utc_now, around.clock)
    counters = [_Counter(client, people[client.process % len(people)]) for client in whose[: size.writers]]
    writers = [
        _Writer(client, people, numbers, size, clock=clocks[client.process % 2], between=counter.count)
        for client, counter in zip(whose, counters, strict=False)
    ]
    readers = [_Reader(client, size.read_pause) for client in whose[size.writers :]]
    reading = [asyncio.create_task(reader.run()) for reader in readers]
    try:
        await asyncio.gather(*(writer.run() for writer in writers))
    finally:
        for reader in readers:
            reader.stopped = True
        await asyncio.gather(*reading, *([working] if working else []))
    history.strange += [fault for counter in counters if (fault := await insist(partial(counter.fault, world)))]
    try:
        history.books = await insist(world.books)
    except InvariantViolated as error:
        history.strange.append(f"the books cannot be read: {error}")
    return history


class _Client:
    """Makes calls on one store object, and records them."""

    def __init__(self, history: History, store: Store, process: int, seed: int) -> None:
        self.history = history
        self.store = store
        self.process = process
        self.random = random.Random(f"{seed} {process}")

    @contextmanager
    def asking(self) -> Iterator[None]:
        """One more request has no final answer yet."""
        request = object()
        self.history.asking.add(request)
        try:
            yield
        finally:
            self.history.asking.discard(request)

    async def call(self, call: Call, work: Callable[[], Awaitable[None]]) -> Call:
        """Do the work, which fills in what was told, and record its outcome."""
        call.sent_at = time.monotonic_ns()
        outcome: Outcome = "unknown"
        try:
            await work()
            outcome = "ok"
        except Rejected as error:
            outcome = "refused"
            call.told = {"code": error.code} | _available(error)
        except WalletError as error:
            call.told = {"code": error.code, "retryable": error.retryable}
            if not error.retryable:
                self.history.strange.append(f"{call.verb} {call.key}: {error.code}: {error}")
        except Exception as error:  # noqa: BLE001 - whatever a store lets out is a finding
            call.told = {"code": type(error).__name__, "retryable": False}
            self.history.strange.append(f"{call.verb} {call.key}: {type(error).__name__} left the store: {error}")
        call.outcome, call.ended_at = outcome, time.monotonic_ns()
        self.history.calls.append(call)
        return call


def _available(error: Rejected) -> dict[str, int]:
    return {"available_minor": error.available_minor} if isinstance(error, InsufficientFunds) else {}


class _Counter:
    """Commands without a key, of one client: an answered one has run once, one that wrote nothing has not."""

    def __init__(self, client: _Client, person: Person) -> None:
        self._client = client
        self._key = counter_key(person, f"of client {client.process}")
        self._done = 0
        self._doubtful = 0

    async def count(self) -> None:
        """Try once to add one."""
        scope = Scope(self._key.slot, records=(self._key,))
        try:
            with self._client.asking():
                await self._client.store.execute(scope, increment(self._key), timeout_seconds=patience(TIMEOUT_SECONDS))
        except InDoubt:
            self._doubtful += 1
        except WalletError as error:
            if not error.retryable:
                self._client.history.strange.append(f"a count: {error.code}: {error}")
        except Exception as error:  # noqa: BLE001 - whatever a store lets out is a finding
            self._client.history.strange.append(f"a count: {type(error).__name__} left the store: {error}")
        else:
            self._done += 1

    async def fault(self, world: World) -> str:
        """What is wrong with the number in the end; empty if nothing is."""
        counted = number(await world.record(self._key))
        if self._done <= counted <= self._done + self._doubtful:
            return ""
        return f"{self._done} counts were answered and {self._doubtful} are in doubt, but the record has {counted}"


class _Writer:
    def __init__(
        self,
        client: _Client,
        people: Sequence[Person],
        numbers: Iterator[int],
        size: Size,
        *,
        clock: Callable[[], datetime],
        between: Callable[[], Awaitable[None]],
    ) -> None:
        self._client = client
        self._between = between
        self._random = client.random
        self._size = size
        self._ledger = Ledger(client.store, clock=clock, timeout_seconds=patience(TIMEOUT_SECONDS))
        self._people = people
        self._numbers = numbers
        self._holds: list[Hold] = []
        self._done: list[Operation] = []

    async def run(self) -> None:
        """One request after another, while there are numbers."""
        for place in self._numbers:
            if self._size.write_pause:
                await asyncio.sleep(self._random.random() * self._size.write_pause)
            dice = self._random.random()
            if 0.45 <= dice < 0.8:
                await self._between()
            if dice < 0.08 and self._done:  # a client that has forgotten its answer asks again
                former = self._random.choice(self._done)
                await self._insist(former.actor, former.key, former.asked)
                continue
            actor, asked = self._draw(dice)
            keys = [f"lab-{place}"] * 2 if dice > 0.95 else [f"lab-{place}"]
            if dice < 0.12 and asked["verb"] in ("transfer", "hold"):
                keys = [f"lab-{place}-a", f"lab-{place}-A"]
            await asyncio.gather(*(self._insist(actor, key, asked) for key in keys))

    def _draw(self, dice: float) -> tuple[str, dict[str, Any]]:
        """The next request: who asks, and for what."""
        amount_minor = self._random.randint(1, AMOUNT_MAX_MINOR)
        if self._holds and dice < 0.3:
            hold = self._holds.pop(self._random.randrange(len(self._holds)))
            if self._random.random() < 0.5:
                return hold.closer, {"verb": "void", "hold": hold.id}
            taken = min(amount_minor, hold.amount_minor)
            return hold.closer, {"verb": "capture", "hold": hold.id, "amount_minor": taken}
        payer, payee = self._random.sample(self._people, 2)
        asked = {"debit_account_id": payer.account, "credit_account_id": payee.account, "amount_minor": amount_minor}
        if dice < 0.45:
            return payer.id, {"verb": "hold", **asked, "seconds": 3600}
        return payer.id, {"verb": "transfer", **asked, "reference": self._random.choice(("", "rent", REFERENCE))}

    async def _insist(self, actor: str, key: str, asked: Any) -> None:
        """Ask until there is an answer, or an error that says that asking again is of no use."""
        with self._client.asking():
            await self._insisting(actor, key, asked)

    async def _insisting(self, actor: str, key: str, asked: Any) -> None:
        for attempt in range(self._size.attempts):
            call = await self._ask(actor, key, asked)
            if call.outcome != "unknown":
                break
            if not call.told["retryable"]:
                return
            await asyncio.sleep(min(0.002 * 2**attempt, 0.1))
        else:
            self._client.history.strange.append(f"{key} of {actor} has no answer after {self._size.attempts} attempts")
            return
        if asked["verb"] == "hold" and isinstance(call.result, Hold) and not call.told["replayed"]:
            self._holds.append(call.result)
        self._done.append(Operation(actor, key, asked, call.sent_at))

    async def _ask(self, actor: str, key: str, asked: dict[str, Any]) -> Call:
        told = {name: value for name, value in asked.items() if name != "verb"}
        call = Call(self._client.process, asked["verb"], 0, 0, "unknown", actor, key, told)

        async def work() -> None:
            posted: Posted[Any] = await perform(self._ledger, actor, key, asked)
            call.result = posted.result
            call.told = {"made": posted.result.id, "replayed": posted.replayed, "credited": posted.credited}

        return await self._client.call(call, work)


def _seen(account: Account, open_holds: Iterable[Hold]) -> Seen:
    return Seen(account.sequence, account.posted_minor, account.held_minor, sum(h.amount_minor for h in open_holds))


class _Reader:
    def __init__(self, client: _Client, pause: float) -> None:
        self._client = client
        self._pause = pause
        self.stopped = False

    async def run(self) -> None:
        """One read after another, until it is stopped."""
        drawn, homes = self._client.random, self._client.history.homes
        accounts = list(homes)
        while not self.stopped:
            one, dice = drawn.choice(accounts), drawn.random()
            if dice < 0.2:
                await self._page(one)
            elif dice < 0.4:
                await self._read((one,))
            elif dice < 0.6:
                await self._read([name for name in accounts if homes[name] == homes[one]])
            else:
                await self._read(accounts)
            await asyncio.sleep(drawn.random() * self._pause)

    async def _read(self, accounts: Sequence[str]) -> None:
        call = Call(self._client.process, "read", 0, 0, "unknown", asked={"accounts": list(accounts)})

        async def work() -> None:
            if len(accounts) == 1:
                await self._client.store.ping()
            ids = tuple(map(AccountId, accounts))
            snapshot = await self._client.store.fetch(ReadSet(accounts=ids, open_holds=True))
            found = [account for account in map(snapshot.account, ids) if account is not None]
            call.seen = {account.id: _seen(account, snapshot.holds_of(account.id)) for account in found}

        await self._client.call(call, work)

    async def _page(self, account: str) -> None:
        call = Call(self._client.process, "page", 0, 0, "unknown", asked={"accounts": [account]})

        async def work() -> None:
            page = await self._client.store.list_transfers(AccountId(account), PageRequest(PAGE_MAX))
            lines = [line.entry for line in page.items]
            call.page = tuple((e.sequence, e.transfer_id, e.amount_minor, e.balance_minor) for e in lines)
            newest = lines[0] if lines else None
            call.seen = {account: Seen(newest.sequence, newest.balance_minor)} if newest else {}

        await self._client.call(call, work)
