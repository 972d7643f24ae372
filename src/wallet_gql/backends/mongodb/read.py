"""Pages, lists, scans and sums of the MongoDB backend: keyset reads along an index, at majority read concern."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bson.int64 import Int64
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from ...domain.ids import CLEARING_PREFIX
from ...domain.model import Entry, Hold, Record, SystemEntry
from ...storage import HistoryLine, JournalItem, NodeTotal, PageRequest, ScanItem, ScanKind
from ..kit.kinds import SCANNED
from ..kit.store import PageAsked
from . import documents as docs
from .documents import Document
from .errors import NODE

Database = AsyncDatabase[Document]

_SEQUENCE_MAX: Final = 2**63 - 1
_PLACE: Final = "place"


def _page(place: int, account_id: str, page: PageRequest) -> list[dict[str, Any]]:
    """The stages of a page: a range of the `_id` index. Each document carries the page's place among the pages."""
    after = -1 if page.after is None else page.after
    before = _SEQUENCE_MAX if page.before is None else page.before
    low, high = docs.ENTRY.name(account_id, after), docs.ENTRY.name(account_id, before)
    return [
        {"$match": {"_id": {"$gt": low, "$lt": high}}},
        {"$sort": {"_id": -1 if page.newest_first else 1}},
        {"$limit": page.limit + 1},
        {"$set": {_PLACE: {"$literal": place}}},
    ]


async def history(
    database: Database, session: AsyncClientSession, asked: Sequence[PageAsked]
) -> list[list[HistoryLine]]:
    """Up to limit + 1 entries of each page, with their transfers. Two reads are safe: neither kind ever changes."""
    first, *others = [_page(place, *one) for place, one in enumerate(asked)]
    joined = [{"$unionWith": {"coll": "entries", "pipeline": stages}} for stages in others]
    cursor = await database["entries"].aggregate([*first, *joined], session=session)
    listed = [(document.pop(_PLACE), docs.ENTRY.read(document)) for document in await cursor.to_list()]
    matching = {"_id": {"$in": list({entry.transfer_id for _, entry in listed})}}
    headers = await database["transfers"].find(matching, session=session).to_list() if listed else []
    transfers = {document["_id"]: docs.TRANSFER.read(document) for document in headers}
    lines: list[list[HistoryLine]] = [[] for _ in asked]
    for place, entry in listed:
        lines[place].append(HistoryLine(entry, transfers[entry.transfer_id]))
    for (_, page), found in zip(asked, lines, strict=True):  # the pages come in no particular order
        found.sort(key=lambda line: line.entry.sequence, reverse=page.newest_first)
    return lines


async def due(
    database: Database, session: AsyncClientSession, kind: str, by: Document, limit: int
) -> list[Hold | Record]:
    """The open holds, or the records of a kind, that are due: oldest first."""
    if kind == "hold":
        order = [("expires_at", 1), ("_id", 1)]
        matching: Document = {"state": "open", "expires_at": by}
        found = await database["holds"].find(matching, sort=order, limit=limit, session=session).to_list()
        return [docs.HOLD.read(document) for document in found]
    matching = {"_id.kind": kind, "due_at": by}
    order = [("due_at", 1), ("_id.id", 1)]
    found = await database["records"].find(matching, sort=order, limit=limit, session=session).to_list()
    return [docs.RECORD.read(document) for document in found]


async def scan(
    database: Database, session: AsyncClientSession, kind: ScanKind, after: Any, limit: int
) -> tuple[Sequence[ScanItem], Any]:
    """The items above an `_id`, and the last item's `_id` if there may be more."""
    codec = docs.CODECS[SCANNED[kind].name]
    matching = {} if after is None else {"_id": {"$gt": after}}
    found = await database[codec.collection].find(matching, sort=[("_id", 1)], limit=limit, session=session).to_list()
    if kind == "journal":
        items: Sequence[ScanItem] = await _journal(database, session, found)
    else:
        items = [codec.read(document) for document in found]
    return items, found[-1]["_id"] if len(found) == limit else None


async def _journal(database: Database, session: AsyncClientSession, found: list[Document]) -> list[ScanItem]:
    """Transfers with their entries. Two reads are safe: entries commit with their transfer and never change."""
    if not found:
        return []
    names = [document["_id"] for document in found]
    entries_of: dict[str, list[Entry]] = {}
    async for document in database["entries"].find({"transfer_id": {"$in": names}}, session=session):
        entries_of.setdefault(document["transfer_id"], []).append(docs.ENTRY.read(document))
    system_of: dict[str, list[SystemEntry]] = {}
    bounds = {"$gte": docs.SYSTEM_ENTRY.name(names[0], ""), "$lt": docs.SYSTEM_ENTRY.name(names[-1] + "~", "")}
    async for document in database["system_entries"].find({"_id": bounds}, session=session):
        line = docs.SYSTEM_ENTRY.read(document)
        system_of.setdefault(line.transfer_id, []).append(line)
    transfers = map(docs.TRANSFER.read, found)
    return [
        JournalItem(NODE, transfer, tuple(entries_of.get(transfer.id, ())), tuple(system_of.get(transfer.id, ())))
        for transfer in transfers
    ]


async def totals(database: Database, session: AsyncClientSession) -> list[NodeTotal]:
    """The sums by currency, all from one snapshot: `database` must have snapshot read concern."""
    zero = Int64(0)
    clearing = {"$eq": [{"$substrCP": ["$_id.account_id", 0, len(CLEARING_PREFIX)]}, CLEARING_PREFIX]}
    system = [
        {
            "$group": {
                "_id": "$currency",
                "system": {"$sum": "$amount_minor"},
                "clearing": {"$sum": {"$cond": [clearing, "$amount_minor", zero]}},
            }
        }
    ]
    stages: list[Document] = [
        {"$group": {"_id": "$currency", "customer": {"$sum": "$posted_minor"}}},
        {"$unionWith": {"coll": "system_entries", "pipeline": system}},
        {
            "$group": {
                "_id": "$_id",
                "customer": {"$sum": "$customer"},
                "system": {"$sum": "$system"},
                "clearing": {"$sum": "$clearing"},
            }
        },
        {"$sort": {"_id": 1}},
    ]
    found = await (await database["accounts"].aggregate(stages, session=session)).to_list()
    return [NodeTotal(NODE, d["_id"], int(d["customer"]), int(d["system"]), int(d["clearing"])) for d in found]
