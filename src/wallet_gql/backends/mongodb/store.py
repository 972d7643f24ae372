"""`mongodb://…/wallet?replicaSet=rs0`: multi-document transactions on a replica set.

Flush setting (G3): every commit has write concern `majority` with `j: true`, so it is in the journals of most members
before the reply. It survives `kill -9` of all members and the loss of a minority. Isolation (G2): one transaction per
batch, snapshot read concern, on the primary. Every commit writes to everything that its scopes name (`batch.py`), so of
two overlapping commits one fails and starts again.

A batch takes one read, five to seven writes and the commit, for any number of commands. The driver is PyMongo's own
asyncio API; its predecessor Motor has reached its end of life.

Every document carries its slot, the intended shard key. Sharding is untested: no sharded cluster was at hand.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import datetime
from typing import Any, Final, cast

import pymongo
from bson.int64 import Int64
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure

from ...domain.changes import Outcome, State, decide_all
from ...domain.codec import to_micros
from ...domain.errors import Contended, InvariantViolated, Unavailable
from ...domain.ids import AccountId
from ...domain.model import Hold, Record
from ...failpoints import after_decision, before_decision
from ...storage import (
    PAGE_MAX,
    Away,
    Capabilities,
    HistoryLine,
    NodeTotal,
    NodeVitals,
    Page,
    Recovered,
    ScanItem,
    ScanKind,
    ScanPage,
)
from ..kit.group_commit import Command
from ..kit.nodes import NodeMap
from ..kit.store import GroupStore, PageAsked, page_of, start_of
from ..kit.wanted import Wanted
from . import batch as batches
from . import documents as docs
from . import read as reading
from .client import Conflict, MongoServer
from .errors import NODE, translate
from .gate import Gate
from .load import load_items
from .schema import CONTROL, migrate
from .watch import Hints

PAUSE_SECONDS: Final = 0.002
PAUSE_SECONDS_MAX: Final = 0.05
GATE_PAUSE_SECONDS: Final = 0.01
PING_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 1.0
"""After waiting this long for others, look for transactions that nobody will finish."""

_DUPLICATE: Final = 11000


class _GateClosed(Conflict):
    """Another process holds the gate: nothing was written."""


class MongoStore(GroupStore):
    """The ledger in one MongoDB database."""

    name = "mongodb"
    capabilities = Capabilities(durable=True, multi_process=True, spans_nodes=False, snapshot_reads=True)

    def __init__(self, url: str) -> None:
        """`mongodb://host[:port],…/database?options`; the database defaults to `wallet`. Raises ConfigurationError."""
        super().__init__()
        self._map = NodeMap([NODE])
        self._url = url
        self._server: MongoServer | None = None

    # Opening and closing

    async def _open(self) -> None:
        self._server = MongoServer(self._url)
        self._database = self._server.database
        self._gate = Gate(self._server)
        self._hints = Hints(self._server, self._hint)
        try:
            await self._server.open()
            await migrate(self._database, migrates=self.migrates)
            await self._gate.register()
        except BaseException as error:
            await self._server.close()
            if isinstance(error, Exception):
                raise translate(error) from error
            raise

    async def _close(self) -> None:
        if self._server is not None:
            await self._hints.close()
            await self._server.close()

    # Writing

    async def _commit(self, lane: Hashable, batch: Sequence[Command], wait_seconds: float) -> list[Outcome]:
        """Commit in one transaction; repeat it, with jitter, while other commits come first or the gate is closed."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline, looked, pause = began + wait_seconds, began, PAUSE_SECONDS
        while True:
            try:
                return await self._attempt(batch, deadline)
            except Conflict as error:
                reason = error
                closed = isinstance(error, _GateClosed)
                pause = GATE_PAUSE_SECONDS if closed else min(pause * 1.5, PAUSE_SECONDS_MAX)
            if loop.time() - looked > PATIENCE_SECONDS:
                await self._running().reap()
                looked = loop.time()
            if loop.time() + pause >= deadline:
                raise Contended("other commits were always first, or an export holds the gate") from reason
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret

    async def _attempt(self, batch: Sequence[Command], deadline: float) -> list[Outcome]:
        state = State(NODE, self._map.peer_of(NODE))
        wanted = Wanted.of(command.scope for command in batch)
        pairs = [(command.scope, command.decide) for command in batch]
        outcomes: list[Outcome] = []

        async def work(session: AsyncClientSession) -> None:
            loaded = await self._load(session, state, wanted)
            before_decision("mongodb.loaded")
            outcomes.extend(decide_all(state, pairs))
            before_decision("mongodb.decided")
            if state.writes:
                await self._pass_gate(loaded)
                await self._write(session, batches.commands(state, wanted, loaded, self._gate.bump()))
            before_decision("mongodb.written")

        await self._running().transact(work, deadline)
        after_decision("mongodb.committed")
        self._hint(state.writes.accounts)
        return outcomes

    async def _load(self, session: AsyncClientSession, state: State, wanted: Wanted) -> batches.Loaded:
        """Load `wanted` into the state: in a transaction, or by one snapshot read if `open_holds` is not asked for."""
        database = self._database if session.in_transaction else self._running().snapshots
        cursor = await database[CONTROL].aggregate(batches.pipeline(wanted), session=session)
        found = await cursor.to_list()
        if not found:
            raise InvariantViolated("the gate's document is missing from the database")
        held: list[docs.Document] = []
        if wanted.open_holds and wanted.accounts:
            held = await database["holds"].find(batches.open_holds(wanted.accounts), session=session).to_list()
        return batches.fill(state, wanted, found[0], held)

    async def _pass_gate(self, loaded: batches.Loaded) -> None:
        if loaded.holder is None:
            return
        if loaded.expired:
            await self._gate.open_expired(loaded.holder)
        raise _GateClosed

    async def _write(self, session: AsyncClientSession, writes: Any) -> None:
        """Run the batch's commands; each must match exactly the documents it expects."""
        for write in writes:
            answer = await self._database.command(write.command, session=session)
            errors = answer.get("writeErrors")
            if errors:
                raise _refused(write, errors[0])
            if answer["n"] != write.expected:
                await self._mismatch(write, answer["n"])

    async def _mismatch(self, write: batches.Write, count: int) -> None:
        if write.command.get("update") == "locks":
            await self._gate.register()  # this process was idle for a day, and its fence was dropped
            raise Conflict
        target = next(iter(write.command.items()))
        raise InvariantViolated(f"{target}: {count} documents were as loaded, expected {write.expected}")

    # Reading

    async def _fetch(self, wanted: Wanted) -> State:
        """See `GroupStore._fetch`."""
        state = State(NODE, self._map.peer_of(NODE))

        async def work(session: AsyncClientSession) -> None:
            if wanted.open_holds:
                async with await session.start_transaction():
                    await self._load(session, state, wanted)
            else:
                await self._load(session, state, wanted)

        await self._running().read(work)
        return state

    async def _pages(self, asked: Sequence[PageAsked]) -> list[Page[HistoryLine]]:
        """See `GroupStore._pages`."""
        found = await self._running().read(lambda session: reading.history(self._database, session, asked))
        return [page_of(lines, page.limit) for lines, (_, page) in zip(found, asked, strict=True)]

    async def list_records(
        self, kind: str, owner: str, *, after: str = "", limit: int = PAGE_MAX, descending: bool = False
    ) -> Page[Record]:
        """See `Store.list_records`."""
        behind = {"$lt" if descending else "$gt": docs.text(after or start_of(descending=descending))}
        matching = {"_id.kind": docs.text(kind), "owner": docs.text(owner), "_id.id": behind}
        order = [("_id.id", -1 if descending else 1)]
        find = self._database["records"].find
        found = await self._running().read(
            lambda session: find(matching, sort=order, limit=limit + 1, session=session).to_list()
        )
        return page_of(list(map(docs.RECORD.read, found)), limit)

    async def list_due(self, kind: str, before: datetime, limit: int) -> Sequence[Hold | Record]:
        """See `Store.list_due`."""
        due = {"$lte": Int64(to_micros(before))}
        return await self._running().read(
            lambda session: reading.due(self._database, session, docs.text(kind), due, limit)
        )

    async def scan(self, kind: ScanKind, after: str | None, limit: int) -> ScanPage:
        """See `Store.scan`. Ordered by `_id`; the cursor is the last `_id` as JSON."""
        start = json.loads(after) if after else None
        items, last = await self._running().read(
            lambda session: reading.scan(self._database, session, kind, start, limit)
        )
        return ScanPage(tuple(items), None if last is None else json.dumps(last))

    async def totals(self) -> Sequence[NodeTotal]:
        """See `Store.totals`. One snapshot read."""
        running = self._running()
        return await running.read_for_long(lambda session: reading.totals(running.snapshots, session))

    # Maintenance

    def gate(self) -> AbstractAsyncContextManager[None]:
        """See `Store.gate`; `gate.py` explains how."""
        self._running()
        return self._gate.closed()

    async def load_raw(self, items: Sequence[ScanItem]) -> None:
        """See `Store.load_raw`. One transaction."""
        deadline = asyncio.get_running_loop().time() + 60

        async def work(session: AsyncClientSession) -> None:
            await self._write(session, await load_items(self._database, session, self._map, items))

        try:
            await self._running().transact(work, deadline)
        except Conflict as error:
            raise InvariantViolated(f"somebody else writes while items are imported: {error}") from error

    async def watch(self, account_id: AccountId, after_sequence: int) -> AsyncIterator[HistoryLine]:
        """See `Store.watch`. Polls; a change stream tells when other processes have written."""
        self._running()
        with self._hints.wanted():
            polling = cast("AsyncGenerator[HistoryLine, None]", super().watch(account_id, after_sequence))
            async with aclosing(polling) as lines:
                async for line in lines:
                    yield line

    async def recover(self, limit: int) -> Recovered:
        """Return at once: a MongoDB transaction is committed or not, and is never left in doubt.

        The server aborts the transactions of a killed process by itself. A process that is blocked by one aborts it
        sooner (`MongoServer.reap`), which only saves time. A caller resolves its own doubt by retrying with the same
        key.
        """
        return Recovered()

    async def vitals(self) -> Sequence[NodeVitals]:
        """See `Observed.vitals`: the clock of the primary."""
        try:
            with pymongo.timeout(PING_SECONDS):
                return [NodeVitals("mongodb", await self._running().clock_seconds())]
        except Exception as error:
            raise translate(error) from error

    async def ping(self) -> Away:
        """Write as a commit does, to a majority's disks. Raises Unavailable."""
        self._running()
        try:
            with pymongo.timeout(PING_SECONDS):
                await self._gate.rehearse()
        except Exception as error:
            raise translate(error) from error
        return {}

    def _running(self) -> MongoServer:
        if self._server is None:
            raise Unavailable("the store is not open")
        return self._server


def _refused(write: batches.Write, error: docs.Document) -> Exception:
    """The exception for an error within a successful answer: a duplicate key is a bug, a full disk is not."""
    target = next(iter(write.command.values()))
    if error["code"] == _DUPLICATE:
        return InvariantViolated(f"{target} has this key already: {error.get('keyValue')}")
    return translate(OperationFailure(f"{target}: {error.get('errmsg')}", error["code"], error))
