"""Importing scanned items into MongoDB (`load_raw`): what must be true of them, and the commands that write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from ...domain.errors import InvariantViolated
from ...domain.model import Transfer
from ...storage import JournalItem, ScanItem
from ..kit.nodes import NodeMap
from . import documents as docs
from .batch import Write, imported, insert
from .documents import Document
from .errors import NODE


async def load_items(
    database: AsyncDatabase[Document], session: AsyncClientSession, nodes: NodeMap, items: Sequence[ScanItem]
) -> Iterator[Write]:
    """The inserts of an import. Raises InvariantViolated on entries that header or accounts contradict."""
    journal = [item for item in items if isinstance(item, JournalItem)]
    others = imported(item for item in items if not isinstance(item, JournalItem))
    for item in journal:
        _check(item)
    await _check_accounts(database, session, journal)
    fresh = await _fresh(database, session, journal)
    lines = [line for transfer in fresh for line in nodes.system_lines(transfer, NODE)]

    def writes() -> Iterator[Write]:
        for collection, documents in others.items():
            yield from insert(collection, documents)
        yield from insert("transfers", map(docs.transfer_document, fresh))
        yield from insert("entries", (docs.entry_document(entry) for item in journal for entry in item.entries))
        yield from insert("system_entries", map(docs.system_entry_document, lines))

    return writes()


def _check(item: JournalItem) -> None:
    legs = dict(item.transfer.legs())
    for entry in item.entries:
        if entry.transfer_id != item.transfer.id or legs.get(entry.account_id) != entry.amount_minor:
            raise InvariantViolated(f"entry {entry} does not follow from its transfer {item.transfer.id}")


async def _check_accounts(
    database: AsyncDatabase[Document], session: AsyncClientSession, journal: Sequence[JournalItem]
) -> None:
    names = {entry.account_id for item in journal for entry in item.entries}
    found = database["accounts"].find({"_id": {"$in": sorted(names)}}, session=session)
    currencies: dict[Any, str] = {document["_id"]: document["currency"] async for document in found}
    for item in journal:
        for entry in item.entries:
            if currencies.get(entry.account_id) != item.transfer.currency:
                raise InvariantViolated(f"entry {entry} is of no {item.transfer.currency} account that is here")


async def _fresh(
    database: AsyncDatabase[Document], session: AsyncClientSession, journal: Sequence[JournalItem]
) -> list[Transfer]:
    """The transfers that are not here yet; of others another node's part was imported before."""
    transfers = {item.transfer.id: item.transfer for item in journal}
    found = database["transfers"].find({"_id": {"$in": sorted(transfers)}}, session=session)
    known = {document["_id"]: docs.to_transfer(document) async for document in found}
    for item in journal:
        other = known.get(item.transfer.id, transfers[item.transfer.id])
        if other != item.transfer:
            raise InvariantViolated(f"transfer {item.transfer.id} is here already, and is another one")
    return [transfer for name, transfer in transfers.items() if name not in known]
