"""What every backend on sharded Postgres nodes has in common: opening, reading, import, the gate, and the sweep.

How a command commits is the subclass's own: two-phase commit in `postgres.py`, leases and intents in `redis.py`.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, TypeVar

import orjson

from ...background import run_for_ever
from ...domain.changes import Reads, Snapshot, State, Writes
from ...domain.codec import to_micros
from ...domain.errors import ConfigurationError, Contended, InvariantViolated, NodeUnavailable, Unavailable, WalletError
from ...domain.ids import AccountId, slot_of
from ...domain.model import Entry, Hold, Receipt, Record
from ...storage import (
    PAGE_MAX,
    HistoryLine,
    JournalItem,
    NodeTotal,
    Page,
    PageRequest,
    ScanItem,
    ScanKind,
    ScanPage,
)
from ..kit.group_commit import Wanted
from ..kit.nodes import NodeMap
from ..kit.store import GroupStore, page_of
from ..relational import rows
from . import text as sql
from .commit import Branch, decide
from .json_text import fill, given, split, wish
from .node import Lease, PgNode
from .setup import identify, prepare_node

T = TypeVar("T")

log = logging.getLogger("wallet_gql.postgres")

RECOVER_EVERY_SECONDS: Final = 0.5

PING_SECONDS: Final = 2.0

_FETCH_SECONDS: Final = 2.0
"""How long a node may take for a few named records; commands look them up before they begin."""


class PgStore(GroupStore):
    """A ledger on named Postgres nodes; subclasses commit and recover."""

    protocol: ClassVar[Literal["two-phase commit", "leases"]]
    """How commits reach several nodes. Nodes that must prepare transactions are asked whether they can."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        """`urls` maps the nodes' names to their URLs. Raises ConfigurationError."""
        super().__init__()
        self._nodes = {name: PgNode(name, url) for name, url in urls.items()}
        self._map = NodeMap(list(self._nodes))
        self._epoch = 1
        self._cluster = ""
        self._recovering: asyncio.Task[None] | None = None

    # Opening and closing

    async def _open(self) -> None:
        many = len(self._nodes) > 1
        try:
            for name in self._map.names:
                node = self._nodes[name]
                try:
                    await node.open()
                    two_phase = many and self.protocol == "two-phase commit"
                    await prepare_node(node, two_phase=two_phase, creates=self.creates)
                except Contended:
                    raise
                except Unavailable as error:
                    fault = "does not answer" if isinstance(error, NodeUnavailable) else "cannot be used"
                    remedy = "start it, or correct its URL"
                    raise ConfigurationError(f"node {name} {fault} ({error.__cause__!r}); {remedy}") from error
            self._cluster, self._epoch = await identify([self._nodes[name] for name in self._map.names], self.protocol)
            await self._opened()
        except BaseException:
            await self._close()
            raise
        if many:
            self._recovering = asyncio.create_task(self._recover_for_ever())

    @abstractmethod
    async def _opened(self) -> None:
        """The nodes are open and belong together: make what else the backend needs."""

    async def _finish(self) -> None:
        """The sweep has ended and the nodes are still open: close what `_opened` made."""

    @abstractmethod
    async def _sweep(self) -> None:
        """Settle what any process left unfinished, as far as it can be settled now."""

    async def _recover_for_ever(self) -> None:
        """Every process settles whatever any process left unfinished, as long as it runs."""
        await run_for_ever(log, "recovery", self._sweep, every_seconds=RECOVER_EVERY_SECONDS)

    async def _close(self) -> None:
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.gather(self._recovering, return_exceptions=True)
        await self._finish()
        await asyncio.gather(*(node.close() for node in self._nodes.values()))

    # Reading

    async def _load(self, lease: Lease, state: State, wanted: Wanted, mode: str, **more: Any) -> dict[str, Any]:
        """Bring what is wanted into the state, locked as the mode says; answers all that the node said."""
        text = await lease.value("SELECT wallet_load($1, $2)", wish(wanted, epoch=self._epoch, **more), mode)
        found: dict[str, Any] = orjson.loads(text)
        fill(state, wanted, found)
        return found

    async def fetch(self, reads: Reads) -> Snapshot:
        """See `Store.fetch`: each node's part is read at one moment; across nodes the moments may differ."""
        state = State("", lambda _: None)
        parts = split(Wanted.of([reads]), self._map)

        async def read(name: str, wanted: Wanted) -> None:
            deadline = asyncio.get_running_loop().time() + _FETCH_SECONDS
            async with self._nodes[name].lease(deadline, reads=True) as lease:
                await self._load(lease, state, wanted, "read")

        await asyncio.gather(*(read(name, wanted) for name, wanted in parts.items()))
        return Snapshot(state, reads)

    def _home(self, identifier: str) -> PgNode:
        return self._nodes[self._map.home(slot_of(identifier))]

    async def list_transfers(self, account_id: AccountId, page: PageRequest) -> Page[HistoryLine]:
        """See `Store.list_transfers`."""
        found = [tuple(row) for row in await self._home(account_id).rows(*sql.history_page(account_id, page))]
        split = len(sql.ENTRY)
        lines = [HistoryLine(rows.to_entry(row[:split]), rows.to_transfer(row[split:])) for row in found]
        return page_of(lines, page.limit)

    async def list_records(self, kind: str, owner: str, *, after: str = "", limit: int = PAGE_MAX) -> Page[Record]:
        """See `Store.list_records`: a user's records may live in several slots."""
        found = await self._everywhere(lambda node: node.rows(sql.LIST_RECORDS, kind, owner, after, limit + 1))
        records = [[rows.to_record(tuple(row)) for row in part] for part in found]
        merged = heapq.merge(*records, key=lambda record: record.id)
        return page_of(list(merged)[: limit + 1], limit)

    async def list_due(self, kind: str, before: datetime, limit: int) -> Sequence[Hold | Record]:
        """See `Store.list_due`: nodes that do not answer are passed over, for a sweep comes back."""
        micros = to_micros(before)

        async def ask(node: PgNode) -> list[Any]:
            try:
                if kind == "hold":
                    return await node.rows(sql.DUE_HOLDS, micros, limit)
                return await node.rows(sql.DUE_RECORDS, kind, micros, limit)
            except WalletError:
                return []

        found = [tuple(row) for part in await self._everywhere(ask) for row in part]
        if kind == "hold":
            holds = [rows.to_hold(row) for row in found]
            return sorted(holds, key=lambda hold: (hold.expires_at or before, hold.id))[:limit]
        records = [rows.to_record(row) for row in found]
        return sorted(records, key=lambda record: (record.due_at or before, record.id))[:limit]

    async def _everywhere(self, ask: Callable[[PgNode], Awaitable[T]]) -> list[T]:
        return await asyncio.gather(*(ask(self._nodes[name]) for name in self._map.names))

    async def scan(self, kind: ScanKind, after: str | None, limit: int) -> ScanPage:
        """See `Store.scan`: node by node, by primary key."""
        statement, start, parse = sql.SCANS[kind]
        index, cursor = json.loads(after) if after else (0, list(start))
        node = self._nodes[self._map.names[index]]
        width = len(start)
        found = [tuple(row) for row in await node.rows(statement, *cursor, limit)]
        items = await self._journal(node, found) if kind == "journal" else [parse(row[width:]) for row in found]
        following = None
        if len(found) == limit:
            following = json.dumps([index, found[-1][:width]])
        elif index + 1 < len(self._map.names):
            following = json.dumps([index + 1, list(start)])
        return ScanPage(tuple(items), following)

    async def _journal(self, node: PgNode, found: Sequence[rows.Row]) -> list[ScanItem]:
        """Transfers with their entries of this node, each read after its header: entries are never edited."""
        transfers = [rows.to_transfer(row[1:]) for row in found]
        names = [transfer.id for transfer in transfers]
        entries: dict[str, list[Entry]] = {}
        for row in await node.rows(sql.ENTRIES_OF, names):
            entries.setdefault(row["transfer_id"], []).append(rows.to_entry(tuple(row)))
        system: dict[str, list[Any]] = {}
        for row in await node.rows(sql.SYSTEM_ENTRIES_OF, names):
            system.setdefault(row["transfer_id"], []).append(rows.to_system_entry(tuple(row)))
        return [JournalItem(node.name, t, tuple(entries.get(t.id, ())), tuple(system.get(t.id, ()))) for t in transfers]

    async def totals(self) -> Sequence[NodeTotal]:
        """See `Store.totals`."""
        found = await self._everywhere(lambda node: node.rows(sql.TOTALS))
        both = zip(self._map.names, found, strict=True)
        return [
            NodeTotal(name, row[0], *(int(value) for value in tuple(row)[1:])) for name, part in both for row in part
        ]

    # Maintenance

    @asynccontextmanager
    async def gate(self) -> AsyncIterator[None]:
        """See `Store.gate`: an advisory lock on every node that each commit shares, through PREPARE to its end."""
        async with AsyncExitStack() as stack:
            for name in self._map.names:
                deadline = asyncio.get_running_loop().time() + 3600
                lease = await stack.enter_async_context(self._nodes[name].lease(deadline))
                await lease.do("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
                await lease.do(sql.CLOSE_GATE)
            yield

    async def load_raw(self, items: Sequence[ScanItem]) -> None:
        """See `Store.load_raw`: one transaction per node."""
        by_node: dict[str, Writes] = {name: Writes() for name in self._map.names}
        for item in items:
            self._sort_in(item, by_node)
        for name, writes in by_node.items():
            if writes:
                deadline = asyncio.get_running_loop().time() + 60
                async with self._nodes[name].lease(deadline) as lease:
                    await self._import(lease, writes)

    def _sort_in(self, item: ScanItem, by_node: dict[str, Writes]) -> None:
        if isinstance(item, JournalItem):
            item.check()
            for entry in item.entries:
                by_node[self._map.home(slot_of(entry.account_id))].entries.append(entry)
            for name in {self._map.home(slot_of(entry.account_id)) for entry in item.entries}:
                by_node[name].transfers.append(item.transfer)
        elif isinstance(item, Hold):
            by_node[self._map.home(slot_of(item.id))].placed.append(item)
        elif isinstance(item, Record):
            by_node[self._map.home(item.slot)].records[item.key] = (None, item)
        elif isinstance(item, Receipt):
            by_node[self._map.home(item.slot)].receipts.append(item)
        else:
            by_node[self._map.home(slot_of(item.id))].opened.append(item)

    async def _import(self, lease: Lease, writes: Writes) -> None:
        """Write raw records; a transfer of which the node has another part already is not written twice."""
        await lease.do("BEGIN")
        owned = list({e.account_id for e in writes.entries} - {account.id for account in writes.opened})
        if await lease.value("SELECT count(*) FROM accounts WHERE id = ANY($1)", owned) != len(owned):
            raise InvariantViolated("an imported entry is of an unknown account")
        known = {
            row[0]
            for row in await lease.rows("SELECT id FROM transfers WHERE id = ANY($1)", [t.id for t in writes.transfers])
        }
        unique = {transfer.id: transfer for transfer in writes.transfers if transfer.id not in known}
        lines = [line for transfer in unique.values() for line in self._map.system_lines(transfer, lease.node)]
        fresh = replace(writes, transfers=list(unique.values()), system_entries=lines)
        try:
            await decide(Branch(lease, given(fresh)))
        except WalletError as error:
            raise InvariantViolated(f"an item cannot be imported: {error}") from error

    async def ping(self) -> None:
        """Every node could write now. Raises Unavailable."""
        await self._everywhere(lambda node: node.run(sql.CAN_WRITE, seconds=PING_SECONDS))
