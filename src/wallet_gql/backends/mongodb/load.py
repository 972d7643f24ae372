"""Importing scanned items into MongoDB (`load_raw`): the checks on them, and the commands that write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from ...domain.changes import Writes
from ...domain.errors import InvariantViolated
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
    await _check_accounts(database, session, writes)
    known = await _known(database, session, writes)
    fresh = completed(writes, known, NODE, nodes)

    def commands() -> Iterator[Write]:
        for name, kind in ADDED.items():
            yield from insert(kind.table, map(docs.CODECS[kind.name].write, getattr(fresh, name)))
        added = (record for _, record in fresh.records.values() if record is not None)
        yield from insert("records", map(docs.RECORD.write, added))

    return commands()


async def _check_accounts(database: AsyncDatabase[Document], session: AsyncClientSession, writes: Writes) -> None:
    """Check that every entry's account is stored or imported, and has the currency of the transfer."""
    names = unknown_accounts(writes)
    found = database["accounts"].find({"_id": {"$in": sorted(names)}}, session=session)
    currencies: dict[str, str] = {account.id: account.currency for account in writes.opened}
    currencies.update([(document["_id"], document["currency"]) async for document in found])
    currency_of = {transfer.id: transfer.currency for transfer in writes.transfers}
    for entry in writes.entries:
        if currencies.get(entry.account_id) != currency_of[entry.transfer_id]:
            raise InvariantViolated(f"entry {entry} is of no {currency_of[entry.transfer_id]} account that is here")


async def _known(database: AsyncDatabase[Document], session: AsyncClientSession, writes: Writes) -> set[str]:
    """The transfers that are already stored, because another part of them was imported before."""
    transfers = {transfer.id: transfer for transfer in writes.transfers}
    found = database["transfers"].find({"_id": {"$in": sorted(transfers)}}, session=session)
    known = {document["_id"]: docs.TRANSFER.read(document) async for document in found}
    for transfer in writes.transfers:
        if known.get(transfer.id, transfers[transfer.id]) != transfer:
            raise InvariantViolated(f"transfer {transfer.id} is here already, and is another one")
    return set(known)
