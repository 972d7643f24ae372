"""Pages, lists, scans and due items: names lead to rows, and every row is checked before it is returned."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from ...domain.codec import from_micros, to_micros
from ...domain.ids import AccountId
from ...domain.model import Hold, Record
from ...storage import HistoryLine, JournalItem, Page, PageRequest, ScanItem, ScanKind
from ..kit import kinds
from ..kit.store import page_of, start_of
from .client import Client
from .load import ROWS, rows
from .partition import Partition
from .tables import BUCKET, bucketed, due_key, text_of, values_of

_TRIES: Final = 3
HINDSIGHT_MICROS: Final = 3_600_000_000
"""An item that is added up to this long after its due time is still found at the next look: an hour."""

FULL_LOOK_SECONDS: Final = 300.0
"""How often to look for all due items, from the beginning of time."""


async def history(client: Client, partition: Partition, account_id: AccountId, page: PageRequest) -> Page[HistoryLine]:
    """A page of an account's entries. The account's own row shows which entries must exist.

    A missing entry belongs to a commit that is being spread: spread it, and read again.
    """
    known = await rows(client, "account", [account_id])
    if not known:
        return Page((), has_more=False)
    sequence = known[account_id].sequence
    low = (page.after or 0) + 1
    high = sequence if page.before is None else min(page.before - 1, sequence)
    wanted = page.limit + 1
    low, high = (max(low, high - wanted + 1), high) if page.newest_first else (low, min(high, low + wanted - 1))
    found: list[HistoryLine] = []
    for _ in range(_TRIES):
        found = await _entries(client, account_id, low, high)
        if len(found) == max(high - low + 1, 0):
            break
        await partition.read()
    return page_of(found[::-1] if page.newest_first else found, page.limit)


async def _entries(client: Client, account_id: str, low: int, high: int) -> list[HistoryLine]:
    """The stored entries with sequences from `low` to `high`, both included."""
    keys = [bucketed(account_id, bucket * BUCKET) for bucket in range(low // BUCKET, high // BUCKET + 1)]
    if high < low:
        return []
    parts = await asyncio.gather(*(client.ask("get_entry", key, low, high) for key in keys))
    return [
        HistoryLine(kinds.ENTRY.from_row(values_of(row)), kinds.TRANSFER.from_row(values_of(header)))
        for part in parts
        for _, row, header in part
    ]


async def records_of(
    client: Client, kind: str, owner: str, after: str, limit: int, *, descending: bool
) -> Page[Record]:
    """An owner's records of a kind behind the id `after`, in the order of their ids."""
    key, found = text_of(kind, owner), list[Record]()
    statement = "get_record_of_descending" if descending else "get_record_of"
    after = after or start_of(descending=descending)
    while True:
        named = await client.ask(statement, key, after, limit + 1)
        keys = [text_of(kind, record_id, slot) for record_id, slot in named]
        there = await rows(client, "record", keys)
        found += [there[name] for name in keys if name in there and there[name].owner == owner]
        if len(named) <= limit or len(found) > limit:
            return page_of(found, limit)
        after = named[-1][0]


async def scan(client: Client, kind: ScanKind, after: str | None, limit: int) -> tuple[Sequence[ScanItem], str | None]:
    """Items in the order of Cassandra's tokens; the cursor is the driver's."""
    name = "transfer" if kind == "journal" else kind
    listed, state = await client.page(f"scan_{name}", bytes.fromhex(after) if after else None, limit)
    if kind == "journal":
        items: list[ScanItem] = [_journal(key, row) for key, row in listed if row is not None]
    else:
        items = [ROWS[kind].from_row(values_of(row)) for (row,) in listed]
    return items, state.hex() if state else None


def _journal(key: str, row: str) -> JournalItem:
    header, entries, lines = values_of(row)
    return JournalItem(
        key.partition(" ")[0],
        kinds.TRANSFER.from_row(header),
        tuple(map(kinds.ENTRY.from_row, entries)),
        tuple(map(kinds.SYSTEM_ENTRY.from_row, lines)),
    )


class Due:
    """Finds due items, partition by partition.

    The rows of finished items are deleted, and reading over many deleted rows is slow. So this process remembers the
    time from which items may be open, reads from an hour before that, and from time to time from the beginning.
    """

    def __init__(self, client: Client, partitions: Sequence[Partition]) -> None:
        self._client = client
        self._partitions = partitions
        self._since: dict[tuple[str, str], int] = {}
        self._full_look_at: dict[tuple[str, str], float] = {}

    async def items(self, kind: str, before: datetime, limit: int) -> Sequence[Hold | Record]:
        """Open holds or records of a kind that are due, oldest first."""
        until = to_micros(before)
        parts = await asyncio.gather(*(self._of(partition.name, kind, until, limit) for partition in self._partitions))
        found = sorted((item for part in parts for item in part), key=lambda item: (item[0], item[1].id))
        return [item for _, item in found[:limit]]

    async def _of(self, partition: str, kind: str, until: int, limit: int) -> list[tuple[int, Hold | Record]]:
        key, place, now = due_key(kind, partition), (kind, partition), time.monotonic()
        at, name = min(self._since.get(place, 0), until) - HINDSIGHT_MICROS, ""
        if now - self._full_look_at.get(place, -FULL_LOOK_SECONDS) >= FULL_LOOK_SECONDS:
            self._full_look_at[place] = now
            at = 0
        table = "hold" if kind == "hold" else "record"
        found: list[tuple[int, Hold | Record]] = []
        while len(found) < limit:
            named = await self._client.ask("get_due", key, at, name, until, limit)
            there = await rows(self._client, table, [name for _, name in named])
            found += [(at, there[name]) for at, name in named if name in there and _is_due(there[name], at)]
            if len(named) < limit:
                break
            at, name = named[-1]
        self._since[place] = found[0][0] if found else until
        return found[:limit]


def _is_due(item: Hold | Record, at: int) -> bool:
    """Whether the name that led to the item still has the item's due time."""
    if isinstance(item, Hold):
        return item.is_due(from_micros(at)) and item.expires_at is not None and to_micros(item.expires_at) == at
    return item.due_at is not None and to_micros(item.due_at) == at
