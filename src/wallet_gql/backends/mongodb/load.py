"""Importing scanned items into MongoDB (`load_raw`): the checks on them, and the commands that write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from ...domain.changes import Writes
from ...domain.ids import AccountId, TransferId
from ...domain.model import Transfer
from ...storage import ScanItem
from ..kit.imports import completed, sorted_by_node, unknown_accounts
from ..kit.kinds import ADDED
from ..kit.nodes import NodeMap
from . import documents as docs
from .batch import Write, insert
from .documents import Document
from .errors import NODE


async def load_items(
    database: AsyncDatabase[Document], session: AsyncClientSession, nodes: NodeMap, items: Sequence[ScanItem]
) -> Iterator[Write]:
    """The inserts of an import. Raises InvariantViolated if items contradict one another or the stored ones."""
    parts = sorted_by_node(items, nodes)
    if not parts:
        return iter(())
    writes = parts[NODE]
    known = await _known(database, session, writes)
    fresh = completed(writes, known, await _currencies(database, session, writes), NODE, nodes)

    def commands() -> Iterator[Write]:
        for name, kind in ADDED.items():
            yield from insert(kind.table, map(docs.CODECS[kind.name].write, getattr(fresh, name)))
        added = (record for _, record in fresh.records.values() if record is not None)
        yield from insert("records", map(docs.RECORD.write, added))

    return commands()


async def _currencies(
    database: AsyncDatabase[Document], session: AsyncClientSession, writes: Writes
) -> dict[AccountId, str]:
    """Those of the accounts that are stored and get entries."""
    found = database["accounts"].find({"_id": {"$in": sorted(unknown_accounts(writes))}}, session=session)
    return {document["_id"]: document["currency"] async for document in found}


async def _known(
    database: AsyncDatabase[Document], session: AsyncClientSession, writes: Writes
) -> dict[TransferId, Transfer]:
    """The transfers that are already stored, because another part of them was imported before."""
    names = sorted({transfer.id for transfer in writes.transfers})
    found = database["transfers"].find({"_id": {"$in": names}}, session=session)
    return {document["_id"]: docs.TRANSFER.read(document) async for document in found}
