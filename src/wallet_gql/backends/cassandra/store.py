"""`cassandra://`: partitions that Paxos decides, on a cluster that others operate.

`cassandra://[user:password@]host[:port][,host…]/keyspace?partitions=16`. A ledger has a fixed number of *partitions*,
which are the nodes of the ledger: each leads the users that hash to it and commits in an order of its own
(`partition.py`). A transfer within one partition is one lightweight transaction and some plain writes. A transfer
between two partitions leaves an intent, and the payee's partition commits the credit a moment later (`credits.py`).

Flush setting (G3): `commitlog_sync: batch` or `group` on every node, checked on opening. Every write is acknowledged by
a majority of a row's copies, each of which has it on disk.

A read of a single row is as new as any earlier answer. Several rows are read again if a commit came between.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, TypeVar

from ...domain.changes import Decide, Failed, Outcome, Scope, State
from ...domain.errors import Contended, Unavailable
from ...domain.ids import TransferId, slot_of
from ...domain.model import Hold, Record
from ...storage import (
    PAGE_MAX,
    TIMEOUT_SECONDS,
    Away,
    Capabilities,
    Committed,
    HistoryLine,
    NodeTotal,
    Page,
    Recovered,
    ScanItem,
    ScanKind,
    ScanPage,
)
from ..kit.credits import CREDIT_SECONDS, replied, sending
from ..kit.group_commit import Command, Deferred, LanePolicy
from ..kit.nodes import NodeMap
from ..kit.store import GroupStore, PageAsked
from ..kit.wanted import Wanted
from . import read as reading
from .client import Client
from .credits import Credits, Intent, Receive
from .decide import Decided, Pair, drafting
from .errors import Failure, translate
from .gate import Gate
from .imports import import_items
from .load import Found, load
from .partition import Draft, Partition, Register
from .setup import check_cluster, connect, migrate
from .tables import transfer_key
from .url import parse_address

R = TypeVar("R")

_RIPE_SECONDS: Final = 0.1
_FETCHES_MAX: Final = 5
_FETCH_PAUSE_SECONDS: Final = 0.01
_IMPORT_SECONDS: Final = 60.0
_SETTLE_SECONDS: Final = 10.0


class CassandraStore(GroupStore):
    """The ledger in one keyspace."""

    name = "cassandra"

    def __init__(self, url: str) -> None:
        """See the module for URLs. Raises ConfigurationError."""
        self._address = parse_address(url)
        count = self._address.partitions
        super().__init__(LanePolicy(turn=self._turn))
        self._map = NodeMap([f"p{number:04}" for number in range(count)])
        self._client = Client(self._address)
        process = secrets.token_hex(8)
        self._partitions = {name: Partition(name, self._client, process, gathers=count > 1) for name in self._map.names}
        everything = list(self._partitions.values())
        self._credits = Credits(self._client, self._partitions, self._deliver)
        self._gate = Gate(self._client, everything)
        self._due = reading.Due(self._client, everything)
        self._opened = False
        self.capabilities = Capabilities(
            durable=True,
            multi_process=True,
            spans_nodes=count > 1,
            snapshot_reads=False,
            remote_credit="eventual",
        )

    # Opening and closing

    async def _open(self) -> None:
        await connect(self._client)
        try:
            await check_cluster(self._client, production=self.production)
            await migrate(self._client, self._map.names, migrates=self.migrates)
            await self._credits.open()
        except BaseException as error:
            await self._client.close()
            if isinstance(error, Failure):
                raise translate(error) from error
            raise
        self._opened = True

    async def _close(self) -> None:
        self._opened = False
        await self._credits.close()
        await asyncio.gather(*(partition.turn.close() for partition in self._partitions.values()))
        await self._client.close()

    def _home(self, slot: int) -> Partition:
        if not self._opened:
            raise Unavailable("the store is not open")
        return self._partitions[self._map.home(slot)]

    # Writing

    def _lane(self, scope: Scope) -> Hashable:
        return self._home(scope.home).name

    async def execute(
        self, scope: Scope, decide: Decide[R], *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> Committed[R]:
        """See `Store.execute`. The reply waits for credits of other partitions, up to `CREDIT_SECONDS`."""
        return await replied(super().execute(scope, decide, timeout_seconds=timeout_seconds), timeout_seconds)

    @asynccontextmanager
    async def _turn(self, lane: Hashable) -> AsyncIterator[None]:
        """Lets a lane wait for the partition's turn before it takes a batch."""
        partition = self._partitions[str(lane)]
        if await partition.turn.wait():
            partition.known = None
        yield

    async def _deliver(self, receive: Receive) -> None:
        """Commit a credit in the payee's partition, together with other commands there."""
        scope = receive.scope
        await self.groups.submit(self._lane(scope), scope, receive, CREDIT_SECONDS)

    async def _commit(
        self, lane: Hashable, batch: Sequence[Command], wait_seconds: float
    ) -> Sequence[Outcome | Deferred]:
        partition = self._partitions[str(lane)]
        deadline = asyncio.get_running_loop().time() + wait_seconds
        pairs = [(command.scope, command.decide) for command in batch]
        decided: Decided = await partition.commit(self._drafting(partition, pairs), deadline)
        self._hint(decided.accounts)
        outcomes = [sending(outcome, intents, self._credits.send) for outcome, intents in decided.outcomes]
        return [*outcomes, *(Deferred(lane) for _ in batch[len(outcomes) :])]

    def _drafting(self, partition: Partition, pairs: Sequence[Pair]) -> Callable[[Register], Awaitable[Draft]]:
        return drafting(self._client, self._map, partition, pairs)

    # Reading

    async def _fetch(self, wanted: Wanted) -> State:
        state = State("", lambda _: None)

        def key(transfer_id: TransferId) -> str:
            return transfer_key(self._map.home(slot_of(transfer_id)), transfer_id)

        found = await self._reading(self._consistently(wanted, lambda: load(self._client, wanted, key)))
        found.fill(state, wanted)
        return state

    async def _consistently(self, wanted: Wanted, read: Callable[[], Awaitable[Found]]) -> Found:
        """Read. If several rows of a partition are read, repeat until no commit came between, up to a limit."""
        involved = [self._partitions[name] for name, part in wanted.split(self._map.home).items() if _is_several(part)]
        found = Found()
        for last in (*[False] * (_FETCHES_MAX - 1), True):
            before = await asyncio.gather(*map(_spread_version, involved))
            found = await read()
            if last or not involved:
                break
            after = await asyncio.gather(*(partition.newest() for partition in involved))
            if all(old == new[:2] for old, new in zip(before, after, strict=True)):
                break
            await asyncio.sleep(_FETCH_PAUSE_SECONDS)
        return found

    async def _reading(self, work: Awaitable[R]) -> R:
        try:
            return await work
        except Failure as error:
            raise translate(error) from error

    async def _pages(self, asked: Sequence[PageAsked]) -> list[Page[HistoryLine]]:
        pages = (reading.history(self._client, self._home(slot_of(name)), name, page) for name, page in asked)
        return await self._reading(asyncio.gather(*pages))

    async def list_records(
        self, kind: str, owner: str, *, after: str = "", limit: int = PAGE_MAX, descending: bool = False
    ) -> Page[Record]:
        """See `Store.list_records`."""
        return await self._reading(reading.records_of(self._client, kind, owner, after, limit, descending=descending))

    async def list_due(self, kind: str, before: datetime, limit: int) -> Sequence[Hold | Record]:
        """See `Store.list_due`."""
        return await self._reading(self._due.items(kind, before, limit))

    async def scan(self, kind: ScanKind, after: str | None, limit: int) -> ScanPage:
        """See `Store.scan`."""
        items, more = await self._reading(reading.scan(self._client, kind, after, limit))
        return ScanPage(tuple(items), more)

    async def totals(self) -> Sequence[NodeTotal]:
        """See `Store.totals`. Each register has the sums of its partition."""
        found = await self._reading(asyncio.gather(*(p.newest() for p in self._partitions.values())))
        return [
            NodeTotal(name, currency, *sums)
            for name, (_, _, by_currency) in zip(self._partitions, found, strict=True)
            for currency, sums in sorted(by_currency.items())
        ]

    # Maintenance

    @asynccontextmanager
    async def gate(self) -> AsyncIterator[None]:
        """See `Store.gate`; `gate.py` explains how. Inside it no credit is on its way."""
        await self.ping()
        async with self._gate.closed(self._settle_through):
            yield

    async def _settle_through(self, holder: str) -> None:
        """Apply, as the gate's holder, the decided credits that have not arrived."""
        deadline = asyncio.get_running_loop().time() + _SETTLE_SECONDS
        opened = await self._reading(asyncio.gather(*map(self._credits.open_of, self._partitions.values())))
        by_payee: dict[str, list[Intent]] = {}
        for intent in (intent for part in opened for intent in part):
            by_payee.setdefault(self._map.home(slot_of(intent.credit.account_id)), []).append(intent)

        async def one(name: str, intents: Sequence[Intent]) -> None:
            receives = [Receive(intent.credit) for intent in intents]
            left: list[Pair] = [(receive.scope, receive) for receive in receives]
            partition = self._partitions[name]
            while left:
                draft = self._drafting(partition, left)
                decided: Decided = await partition.commit(draft, deadline, through=holder)
                for outcome, _ in decided.outcomes:
                    if isinstance(outcome, Failed):
                        raise Contended(f"a credit on its way cannot be applied: {outcome.error}")
                left = left[len(decided.outcomes) :]
            await self._client.write([intent.done for intent in intents], 1)

        await self._reading(asyncio.gather(*(one(name, intents) for name, intents in by_payee.items())))

    async def load_raw(self, items: Sequence[ScanItem]) -> None:
        """See `Store.load_raw`. A cluster that does not answer is noticed before that deadline."""
        await self.ping()
        deadline = asyncio.get_running_loop().time() + _IMPORT_SECONDS
        await self._reading(import_items(self._client, self._partitions, self._map, items, deadline))

    async def recover(self, limit: int) -> Recovered:
        """See `Store.recover`. Spreads decided commits, and sends open credits."""
        credited, unripe = await self._reading(self._credits.settle(limit))
        if unripe:
            await asyncio.sleep(_RIPE_SECONDS)
            more, _ = await self._reading(self._credits.settle(limit))
            credited += more
        return Recovered(credited=credited)

    async def ping(self) -> Away:
        """Write a row that nobody reads, to a majority's disks. Raises Unavailable."""
        if not self._opened:
            raise Unavailable("the store is not open")
        await self._reading(self._client.write([("marker", ["ping", 1])], 1))
        return {}


def _is_several(wanted: Wanted) -> bool:
    """Whether more than one row is wanted."""
    named = len(wanted.accounts) + len(wanted.credits) + len(wanted.holds) + len(wanted.transfers)
    return bool(wanted.wallets) or wanted.open_holds or named + len(wanted.receipts) + len(wanted.records) > 1


async def _spread_version(partition: Partition) -> tuple[int, str]:
    """The newest version of a partition that is spread. Spreads it if this process does not know that it is."""
    version, attempt, _ = await partition.newest()
    known = partition.known
    if known is None or (known.version, known.attempt) != (version, attempt):
        register = await partition.read()
        return register.version, register.attempt
    return version, attempt
