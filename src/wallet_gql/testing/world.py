"""A store with people who have money, a clock that the test controls, and a check of the books at the end.

```python
async with World(harness, folder) as world:
    ann, bob = await world.people(2, balance_minor=1_000)
    await world.pay(ann, bob, 300)
```

Leaving the block checks the whole ledger, twice: by `wallet_gql.books.audit` and by `books.faults`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from .. import failpoints, records
from ..books.audit import audit
from ..domain.changes import Changes, Decide, Decision, Scope
from ..domain.errors import WalletError
from ..domain.ids import OPERATOR, AccountId, UserId, make_user_id, slot_of
from ..domain.model import Account, Hold, Record, RecordKey, Transfer
from ..domain.spending import Limits
from ..domain.users import User
from ..identity import Identity, Passwords
from ..storage import Committed, Store
from ..verbs.ledger import Ledger, Posted, To
from .books import Books, faults, read_books
from .harness import Harness
from .patience import BACK_SECONDS, insist, patience

R = TypeVar("R")

CURRENCY: Final = "EUR"
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
TIMEOUT_SECONDS: Final = 10.0
PROBE_CURRENCY: Final = "JPY"
_SETTLE_MAX: Final = 200
_ROUNDS_MAX: Final = 10
_CANDIDATES: Final = 6
"""How many people are made at once, so that their homes are on different nodes."""


class Clock:
    """The server's clock in a test: it stands still until `advance` is called."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


class PlainPasswords(Passwords):
    """Unhashed passwords of any strength, for tests that are not about these: they cost no time."""

    def __init__(self) -> None:
        """Start no threads."""

    async def choose(self, password: str, names: Sequence[str], client: str = "") -> str:
        """As `hash`."""
        del names
        return await self.hash(password, client)

    async def hash(self, password: str, client: str = "") -> str:
        """The password itself, with a prefix."""
        del client
        return f"plain:{password}"

    async def verify(self, stored: str | None, password: str, client: str = "") -> bool:
        """Compare both."""
        del client
        return stored == f"plain:{password}"

    def is_outdated(self, stored: str) -> bool:
        """Always False."""
        return not stored

    def close(self) -> None:
        """Do nothing."""


class CheapIdentity(Identity):
    """Users with unhashed passwords, for tests of names and sessions."""

    def __init__(self, store: Store, clock: Callable[[], datetime], session_cache_seconds: float = 0.0) -> None:
        """Like `Identity`, without its pool of hashing threads."""
        super().__init__(store, clock=clock, passwords=PlainPasswords(), session_cache_seconds=session_cache_seconds)


@dataclass(frozen=True, slots=True)
class Person:
    """A user with an account in `CURRENCY`."""

    id: UserId
    account: AccountId

    @property
    def slot(self) -> int:
        """The slot of the person's records."""
        return slot_of(self.id)


class World:
    """One ledger under test.

    For `testing.report`, `trials` counts the independent trials so far, and `not_tried` names what this backend has no
    means to try.
    """

    def __init__(self, harness: Harness, folder: Path, *, seed: int = 1, fee_basis_points: int = 0) -> None:
        """`seed` makes every id and every random choice of the world repeatable."""
        self.harness = harness
        self.clock = Clock()
        self.random = random.Random(seed)
        self.trials = 0
        self.not_tried: list[str] = []
        self.fee_basis_points = fee_basis_points
        self.folder = folder
        self._numbers = count(1)
        self._opened: list[Store] = []
        self._beside: list[Store] = []
        self._spare: dict[str | None, list[Person]] = {}
        self._last_home: str | None = ""
        self._probes: dict[UserId, AccountId] = {}

    async def __aenter__(self) -> Self:
        """Start the backend and open a store on it."""
        await self.harness.start(self.folder)
        await self._use(await self.harness.opened())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Check the books, unless the test has already failed; then end everything."""
        try:
            if kind is None:
                await self.check()
        finally:
            failpoints.arm("")
            await self.harness.resume(self.store)
            for store in reversed(self._opened):
                await store.__aexit__(None, None, None)
            await self.harness.stop()

    async def _use(self, store: Store) -> None:
        self._opened.append(store)
        self._beside = []
        self.store = store
        self.ledger = self.ledger_on(store)

    def identity(self, store: Store | None = None) -> Identity:
        """Users over the store, with cheap passwords."""
        return CheapIdentity(store or self.store, self.clock)

    def ledger_on(
        self,
        store: Store,
        timeout_seconds: float | None = None,
        *,
        late_seconds: float = 0,
        limits: Limits | None = None,
    ) -> Ledger:
        """A ledger over another store object, with another deadline, a clock that is ahead, or spending limits."""
        return Ledger(
            store,
            clock=lambda: self.clock() + timedelta(seconds=late_seconds),
            entropy=lambda: self.random.getrandbits(62),
            transfer_fee_basis_points=self.fee_basis_points,
            timeout_seconds=patience(TIMEOUT_SECONDS) if timeout_seconds is None else timeout_seconds,
            spending_limits={} if limits is None else {CURRENCY: limits},
        )

    # More store objects, and the end of this one

    async def another(self) -> Store:
        """Another store object on the same ledger, as another process would have; closed with the world."""
        store = await self.harness.opened()
        self._opened.append(store)
        return store

    async def stores(self, wanted: int) -> list[Store]:
        """The store, and as many others beside it as its capabilities allow; the same ones each time."""
        if self.store.capabilities.multi_process:
            self._beside += [await self.another() for _ in range(wanted - 1 - len(self._beside))]
        return [self.store, *self._beside[: wanted - 1]]

    async def reopen(self) -> None:
        """Close the store, open it again, and continue with that."""
        self._opened.remove(self.store)
        await self._use(await self.harness.reopen(self.store))

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Close the store for the block; then open the ledger again and continue with that."""
        self._opened.remove(self.store)
        await self.store.__aexit__(None, None, None)
        yield
        await self._use(await self.harness.opened())

    def sibling(self, folder: str) -> World:
        """A world with an empty ledger of the same backend, beside this one."""
        (self.folder / folder).mkdir()
        return World(self.harness.sibling(), self.folder / folder, seed=self.random.randrange(2**32))

    async def kill(self) -> None:
        """Kill the store, open what is left, and continue with that."""
        await self._use(await self.harness.kill(self.store))

    # People and money

    def key(self) -> str:
        """A fresh idempotency key."""
        return f"key-{next(self._numbers)}"

    def entropy(self) -> int:
        """62 bits for an id."""
        return self.random.getrandbits(62)

    async def user(self) -> UserId:
        """A user, created directly instead of by a sign-up."""
        number = next(self._numbers)
        user_id = make_user_id(self._ms(), self.entropy())
        user = User(user_id, f"user{number}", f"user{number}@example.org", "plain:password", self.clock())
        await self.put(user.to_record())
        return user_id

    def _ms(self) -> int:
        return int(self.clock().timestamp() * 1000)

    async def person(self, balance_minor: int = 0) -> Person:
        """A user with an account and some money."""
        (one,) = await self.people(1, balance_minor)
        return one

    async def people(self, wanted: int, balance_minor: int = 0) -> list[Person]:
        """Several people with money. On a store of several nodes, neighbours in the list have different homes."""
        found = [await self._next() for _ in range(wanted)]
        for person in found if balance_minor else ():
            await self.fund(person, balance_minor)
        return found

    async def _next(self) -> Person:
        """A new person; with several homes, of another home than the person before."""
        spans = self.store.capabilities.spans_nodes
        for _ in range(_ROUNDS_MAX):
            for home, waiting in self._spare.items():
                if waiting and (home != self._last_home or not spans):
                    self._last_home = home
                    return waiting.pop()
            for _ in range(_CANDIDATES if spans else 1):
                await self._make()
            await self._sort_by_home()
        raise AssertionError("the store says that it spans nodes, and all users have one home")

    async def _make(self) -> None:
        """A new person. On several nodes a deposit in another currency shows in the journal where the home is."""
        user_id = await self.user()
        account = await self.ledger.open_account(user_id, CURRENCY)
        self._spare.setdefault(None, []).append(Person(user_id, account.id))
        if self.store.capabilities.spans_nodes:
            probe = await self.ledger.open_account(user_id, PROBE_CURRENCY)
            self._probes[user_id] = probe.id
            await self.ledger.deposit(OPERATOR, self.key(), probe.id, 1, PROBE_CURRENCY)

    async def _sort_by_home(self) -> None:
        if self.store.capabilities.spans_nodes:
            books = await insist(lambda: read_books(self.store), BACK_SECONDS)
            for person in self._spare.pop(None, []):
                home = books.node_of(self._probes[person.id])
                self._spare.setdefault(home, []).append(person)

    async def fund(self, person: Person, amount_minor: int) -> None:
        """A deposit by the operator."""
        await self.ledger.deposit(OPERATOR, self.key(), person.account, amount_minor, CURRENCY)

    async def paid(self, payer: Person, payee: Person, amount_minor: int) -> Transfer:
        """A transfer that the payee has. What starts later comes after it in his history, too."""
        posted = await self.pay(payer, payee, amount_minor)
        if not posted.credited:
            await self.settle()
        return posted.result

    async def pay(
        self, payer: Person, payee: Person, amount_minor: int, key: str | None = None, ledger: Ledger | None = None
    ) -> Posted[Transfer]:
        """A transfer under `key`, a fresh one by default."""
        return await (ledger or self.ledger).transfer(
            payer.id,
            key or self.key(),
            source=payer.account,
            to=To(payee.account),
            amount_minor=amount_minor,
            currency=CURRENCY,
        )

    async def hold(
        self,
        payer: Person,
        payee: Person,
        amount_minor: int,
        key: str | None = None,
        *,
        seconds: int = 3600,
        ledger: Ledger | None = None,
    ) -> Hold:
        """A hold that its payee may close, under `key`, a fresh one by default."""
        placed = await (ledger or self.ledger).place_hold(
            payer.id,
            key or self.key(),
            source=payer.account,
            to=To(payee.account),
            amount_minor=amount_minor,
            currency=CURRENCY,
            expires_in_seconds=seconds,
        )
        return placed.result

    async def account(self, person: Person) -> Account:
        """The account, after everything in flight has arrived."""
        await self.settle()
        return await self.ledger.account(person.id, person.account)

    async def balance(self, person: Person) -> tuple[int, int]:
        """Posted and held, in minor units."""
        account = await self.account(person)
        return account.posted_minor, account.held_minor

    # Raw commands

    async def put(self, record: Record, store: Store | None = None) -> None:
        """Write a record, whatever was there before."""
        await records.change(store or self.store, record.key, lambda _: record)

    async def record(self, key: RecordKey, store: Store | None = None) -> Record | None:
        """A record as a fetch shows it."""
        return await records.read(store or self.store, key)

    async def execute(self, scope: Scope, changes: Changes, store: Store | None = None) -> Committed[None]:
        """Write changes without a decision."""
        decide: Decide[None] = lambda _: Decision(changes, None)  # noqa: E731 - a lambda, since a def would not fit the type
        return await (store or self.store).execute(scope, decide)

    async def together(self, commands: Iterable[Awaitable[Any]]) -> list[Any]:
        """Run commands at once, as one trial; each one's result or WalletError, in order. Other errors are raised.

        They begin within a few turns of the event loop, so that they fall into several batches, in varying order.
        """
        started = [self._soon(command, self.random.choice((0, 0, 1, 3))) for command in commands]
        outcomes = await asyncio.gather(*started, return_exceptions=True)
        self.trials += 1
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, WalletError):
                raise outcome
        return outcomes

    async def _soon(self, command: Awaitable[R], turns: int) -> R:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await command

    # The books

    async def settle(self) -> None:
        """Wait until everything in doubt or in flight is settled."""
        for _ in range(_SETTLE_MAX):
            await self.store.recover(1_000)
            if not await self._in_flight():
                return
            await asyncio.sleep(0.01)

    async def _in_flight(self) -> list[int]:
        sums: dict[str, int] = {}
        for total in await insist(self.store.totals, BACK_SECONDS):
            sums[total.currency] = sums.get(total.currency, 0) + total.clearing_minor
        return [minor for minor in sums.values() if minor]

    async def books(self) -> Books:
        """The whole store, read again where a node does not answer a busy machine, or was down a moment ago."""
        await self.settle()
        return await insist(lambda: read_books(self.store), BACK_SECONDS)

    async def check(self) -> None:
        """Check the whole ledger. Raises AssertionError that names what is wrong."""
        found = faults(await self.books())
        assert not found, "the books are wrong: " + "; ".join(found[:5])
        report = await insist(lambda: audit(self.store), BACK_SECONDS)
        assert report.clean, f"the audit found {report.problems}: {report.findings[:5]}"
