"""What the SQL stores share above their drivers: pages, lists, scans, sums, and the plan of an import.

A subclass says how one read runs on one of its nodes (`_ask`), and how its statements differ (`statements`).
"""

from __future__ import annotations

import asyncio
import heapq
import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, ClassVar

from ...domain.changes import Writes
from ...domain.codec import from_micros, to_micros
from ...domain.model import Entry, Hold, PendingCredit, Record, SystemEntry
from ...storage import (
    PAGE_MAX,
    Capabilities,
    HistoryLine,
    JournalItem,
    NodeTotal,
    Page,
    ScanItem,
    ScanKind,
    ScanPage,
)
from ..kit.imports import sorted_by_node
from ..kit.kinds import ENTRY, HOLD, RECORD, SCANNED, SYSTEM_ENTRY, TRANSFER, Row
from ..kit.lines import stored_line
from ..kit.nodes import NodeMap
from ..kit.store import GroupStore, PageAsked, page_of, start_of
from .statements import Statements


class RelationalStore(GroupStore):
    """A ledger in the tables of this package, on one or several nodes."""

    statements: ClassVar[Statements]
    capabilities: Capabilities

    @abstractmethod
    async def _ask(self, node: str, statement: str, *values: Any) -> Sequence[Row]:
        """Run one read on a node, in a snapshot of its own. Raises WalletError."""

    async def _ask_for_sweep(self, node: str, statement: str, *values: Any) -> Sequence[Row]:
        """Like `_ask`, for a sweep. A subclass may skip a node that does not answer, because the sweep runs again."""
        return await self._ask(node, statement, *values)

    @abstractmethod
    def _homes(self) -> NodeMap:
        """The nodes by which the read that is running goes from its beginning to its end."""

    async def _everywhere(self, statement: str, *values: Any) -> list[Sequence[Row]]:
        return await asyncio.gather(*(self._ask(name, statement, *values) for name in self._homes().names))

    # Reading

    async def _pages(self, asked: Sequence[PageAsked]) -> list[Page[HistoryLine]]:
        """See `GroupStore._pages`."""
        found = await self._ask_pages(asked)
        return [page_of(list(map(stored_line, rows)), page.limit) for rows, (_, page) in zip(found, asked, strict=True)]

    @abstractmethod
    async def _ask_pages(self, asked: Sequence[PageAsked]) -> Sequence[Sequence[Row]]:
        """The rows of `Statements.history_page` for each page, all of one lane. Raises WalletError."""

    async def list_records(
        self, kind: str, owner: str, *, after: str = "", limit: int = PAGE_MAX, descending: bool = False
    ) -> Page[Record]:
        """See `Store.list_records`. A user's records may live in several slots, so all nodes are asked."""
        texts = self.statements
        text = texts.list_records_descending if descending else texts.list_records
        found = await self._everywhere(text, kind, owner, after or start_of(descending=descending), limit + 1)
        parts = (map(RECORD.from_row, part) for part in found)
        merged = heapq.merge(*parts, key=lambda record: record.id, reverse=descending)
        return page_of(list(islice(merged, limit + 1)), limit)

    async def list_due(self, kind: str, before: datetime, limit: int) -> Sequence[Hold | Record]:
        """See `Store.list_due`."""
        micros = to_micros(before)
        holds = kind == "hold"
        statement = self.statements.due_holds if holds else self.statements.due_records
        values = (micros, limit) if holds else (kind, micros, limit)
        asked = (self._ask_for_sweep(name, statement, *values) for name in self._homes().names)
        found = [row for part in await asyncio.gather(*asked) for row in part]
        if holds:
            return sorted(map(HOLD.from_row, found), key=lambda h: (h.expires_at or before, h.id))[:limit]
        return sorted(map(RECORD.from_row, found), key=lambda r: (r.due_at or before, r.id))[:limit]

    async def scan(self, kind: ScanKind, after: str | None, limit: int) -> ScanPage:
        """See `Store.scan`. Goes node by node, by primary key. The cursor is JSON: node number and last key."""
        scanned = SCANNED[kind]
        index, cursor = json.loads(after) if after else (0, scanned.lowest)
        names = self._homes().names
        node, width = names[index], len(scanned.key)
        found = await self._ask(node, self.statements.scan(kind), *cursor, limit)
        if kind == "journal":
            items: Sequence[ScanItem] = await self._journal(node, [row[width:] for row in found])
        else:
            items = [scanned.from_row(row[width:]) for row in found]
        following = None
        if len(found) == limit:
            following = json.dumps([index, found[-1][:width]])
        elif index + 1 < len(names):
            following = json.dumps([index + 1, scanned.lowest])
        return ScanPage(tuple(items), following)

    async def _journal(self, node: str, found: Iterable[Row]) -> list[ScanItem]:
        """Transfers with their entries on a node. Several reads are safe: a transfer never comes without its lines."""
        transfers = list(map(TRANSFER.from_row, found))
        names = self.statements.dialect.listing([transfer.id for transfer in transfers])
        entries: dict[str, list[Entry]] = {}
        pending: dict[str, list[PendingCredit]] = {}
        for row in await self._ask(node, self.statements.entries_of, names):
            account_id, sequence, transfer_id, amount_minor, _, at = row
            if sequence:
                entries.setdefault(transfer_id, []).append(ENTRY.from_row(row))
            else:
                credit = PendingCredit(account_id, transfer_id, amount_minor, from_micros(at))
                pending.setdefault(transfer_id, []).append(credit)
        system: dict[str, list[SystemEntry]] = {}
        for line in map(SYSTEM_ENTRY.from_row, await self._ask(node, self.statements.system_entries_of, names)):
            system.setdefault(line.transfer_id, []).append(line)
        parts: tuple[dict[str, list[Any]], ...] = (entries, system, pending)
        return [JournalItem(node, t, *(tuple(part.get(t.id, ())) for part in parts)) for t in transfers]

    async def totals(self) -> Sequence[NodeTotal]:
        """See `Store.totals`."""
        both = zip(self._homes().names, await self._everywhere(self.statements.totals), strict=True)
        return [total for name, part in both for total in totals_of(name, part)]

    # Importing

    async def load_raw(self, items: Sequence[ScanItem]) -> None:
        """See `Store.load_raw`: one transaction per node."""
        homes = self._homes()
        for name, writes in sorted_by_node(items, homes, keeps_pending=self.capabilities.spans_nodes).items():
            await self._import(name, writes, homes)

    @abstractmethod
    async def _import(self, node: str, writes: Writes, homes: NodeMap) -> None:
        """Write imported records on a node, in one transaction, as `_to_import` says. Raises InvariantViolated."""


def totals_of(node: str, rows: Iterable[Row]) -> list[NodeTotal]:
    """The rows of `Statements.totals` of one node."""
    return [NodeTotal(node, row[0], *map(int, row[1:])) for row in rows]
