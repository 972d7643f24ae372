"""What one batch reads and writes, as data: the aggregation that loads it and the commands that write it.

Under snapshot isolation two transactions can both commit if each one writes only documents that the other one has read
(write skew). So a batch that writes anything also writes to everything that its scopes name:

- the `guard` of each account, hold, transfer and record that exists;
- a document of the owner for each wallet, because an account that does not exist yet has no guard;
- for each receipt or record that was not found and is not created: an insert and a delete under its key. They leave
  nothing behind, but conflict with any transaction that creates it.

Accounts, holds and transfers that were not found need no such write: their ids are random, so no decision depends on
the absence of an id that another transaction is about to create.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from bson.int64 import Int64

from ...domain.changes import State
from ...domain.codec import to_micros
from ...domain.ids import AccountId, HoldId, TransferId, slot_of
from ...domain.model import EPOCH, Receipt, Record, RecordKey
from ..kit.wanted import Wanted, load_found
from . import documents as docs
from .documents import Document, text
from .gate import EXPIRED
from .schema import LOCKS

_BUMP: Final[Document] = {"$inc": {"guard": Int64(1)}}


# Reading


def named(ids: Iterable[str]) -> Document:
    """The filter for documents with these typed ids; it includes their slots."""
    found = [text(i) for i in ids]
    return {"_id": {"$in": found}, "slot": {"$in": sorted({slot_of(i) for i in found})}}


def keyed(ids: Iterable[Document]) -> Document:
    """The filter for documents whose `_id` has several parts, one of which is the slot."""
    found = list(ids)
    return {"_id": {"$in": found}, "slot": {"$in": sorted({i["slot"] for i in found})}}


def open_holds(account_ids: Iterable[str], **more: Document) -> Document:
    """The filter for open holds of accounts."""
    return {"account_id": {"$in": [text(i) for i in account_ids]}, "state": "open", **more}


def pipeline(wanted: Wanted) -> list[Document]:
    """The stages, run on the gate's document, that load all of `wanted` except `open_holds` into one document."""
    stages: list[Document] = [
        {"$match": {"_id": "gate"}},
        {"$project": {"holder": 1, "expired": EXPIRED}},
    ]

    def look(name: str, collection: str, *more: Document) -> None:
        stages.append({"$lookup": {"from": collection, "pipeline": list(more), "as": name}})

    if wanted.accounts or wanted.credits:
        look("accounts", "accounts", {"$match": named(wanted.accounts | wanted.credits)})
    if wanted.wallets:
        owners = [text(owner) for owner in wanted.wallets]
        slots = sorted({slot_of(owner) for owner in owners})
        look("wallets", "accounts", {"$match": {"slot": {"$in": slots}, "owner": {"$in": owners}}})
    if wanted.due_at is not None and wanted.accounts and not wanted.open_holds:
        due = {"$lte": Int64(to_micros(wanted.due_at))}
        look("due", "holds", {"$match": open_holds(wanted.accounts, expires_at=due)})
    if wanted.holds:
        look("holds", "holds", {"$match": named(wanted.holds)})
    if wanted.transfers:
        look("transfers", "transfers", {"$match": named(wanted.transfers)})
        undone = {"reverses": {"$in": [text(i) for i in wanted.transfers]}}
        total = {"_id": "$reverses", "minor": {"$sum": "$amount_minor"}}
        look("reversals", "transfers", {"$match": undone}, {"$group": total})
    if wanted.receipts:
        look("receipts", "receipts", {"$match": keyed(docs.RECEIPT.name(*name) for name in wanted.receipts)})
    if wanted.records:
        look("records", "records", {"$match": keyed(record_id(key) for key in wanted.records)})
    return stages


@dataclass(slots=True)
class Loaded:
    """What a load found: the names of the documents, and the guards that must be unchanged at the write."""

    holder: str | None = None
    expired: bool = False
    accounts: dict[AccountId, Int64] = field(default_factory=dict)
    holds: set[HoldId] = field(default_factory=set)
    transfers: set[TransferId] = field(default_factory=set)
    receipts: set[tuple[int, str, str]] = field(default_factory=set)
    records: set[RecordKey] = field(default_factory=set)


def fill(state: State, wanted: Wanted, found: Document, held: Iterable[Document] = ()) -> Loaded:
    """Put what the pipeline found, and the open holds `held`, into the state."""
    loaded = Loaded(found.get("holder"), bool(found.get("holder")) and found["expired"])
    accounts = (*found.get("accounts", ()), *found.get("wallets", ()))
    holds = (*found.get("due", ()), *held, *found.get("holds", ()))
    reversed_minor = {d["_id"]: int(d["minor"]) for d in found.get("reversals", ())}
    transfers = [docs.TRANSFER.read(document) for document in found.get("transfers", ())]
    receipts = [docs.RECEIPT.read(document) for document in found.get("receipts", ())]
    records = [docs.RECORD.read(document) for document in found.get("records", ())]
    load_found(
        state,
        wanted,
        accounts=map(docs.ACCOUNT.read, accounts),
        holds=map(docs.HOLD.read, holds),
        transfers=((transfer, reversed_minor.get(transfer.id, 0)) for transfer in transfers),
        receipts=receipts,
        records=records,
    )
    loaded.accounts.update((document["_id"], document["guard"]) for document in accounts)
    loaded.holds.update(document["_id"] for document in found.get("holds", ()))
    loaded.transfers.update(transfer.id for transfer in transfers)
    loaded.receipts.update((receipt.slot, receipt.actor, receipt.key) for receipt in receipts)
    loaded.records.update(record.key for record in records)
    return loaded


# Writing


@dataclass(frozen=True, slots=True)
class Write:
    """One command. If it does not match `expected` documents (inserted, updated or deleted), the write has failed."""

    command: Document
    expected: int


def insert(collection: str, documents: Iterable[Document]) -> Iterator[Write]:
    """Insert documents, if there are any."""
    found = list(documents)
    if found:
        yield Write({"insert": collection, "documents": found, "ordered": True}, len(found))


def update(collection: str, statements: Iterable[Document], expected: int | None = None) -> Iterator[Write]:
    """Run update statements, if there are any; `expected` defaults to one document each."""
    found = list(statements)
    if found:
        count = len(found) if expected is None else expected
        yield Write({"update": collection, "updates": found, "ordered": True}, count)


def _delete(collection: str, filters: Iterable[Document]) -> Iterator[Write]:
    found = [{"q": one, "limit": 1} for one in filters]
    if found:
        yield Write({"delete": collection, "deletes": found, "ordered": True}, len(found))


def commands(state: State, wanted: Wanted, loaded: Loaded, fence: Document) -> Iterator[Write]:
    """Everything a batch writes. Documents that other batches also write come first, so that conflicts show early."""
    owners = [_owner(owner) for owner in sorted(wanted.wallets)]
    yield from update(LOCKS, [fence, *owners])
    yield from _accounts(state, loaded)
    yield from _records(state, wanted, loaded)
    yield from _receipts(state, wanted, loaded)
    yield from _holds(state, loaded)
    touched = sorted(loaded.transfers)
    yield from update("transfers", [_touch(named(touched))] if touched else [], len(touched))
    writes = state.writes
    yield from insert("transfers", map(docs.TRANSFER.write, writes.transfers))
    yield from insert("entries", map(docs.ENTRY.write, writes.entries))
    yield from insert("system_entries", map(docs.SYSTEM_ENTRY.write, writes.system_entries))


def _owner(owner: str) -> Document:
    change = {"$inc": {"guard": Int64(1)}, "$setOnInsert": {"slot": slot_of(owner)}}
    return {"q": {"_id": f"owner:{text(owner)}"}, "u": change, "upsert": True}


def _touch(matching: Document) -> Document:
    return {"q": matching, "u": _BUMP, "multi": True}


def _accounts(state: State, loaded: Loaded) -> Iterator[Write]:
    writes = state.writes
    opened = {account.id for account in writes.opened}
    yield from insert("accounts", (docs.ACCOUNT.write(state.accounts[i]) for i in sorted(opened)))
    moved = [
        {
            "q": {"_id": text(i), "slot": slot_of(i), "guard": loaded.accounts[i]},
            "u": docs.account_moves(before, after),
        }
        for i, (before, after) in sorted(writes.accounts.items())
        if i not in opened
    ]
    quiet = sorted(loaded.accounts.keys() - writes.accounts.keys())
    statements = [*moved, _touch(named(quiet))] if quiet else moved
    yield from update("accounts", statements, len(moved) + len(quiet))


def _holds(state: State, loaded: Loaded) -> Iterator[Write]:
    placed = {hold.id for hold in state.writes.placed}
    closed = {hold.id: hold for hold in state.writes.closed}
    yield from insert("holds", (docs.HOLD.write(state.holds[i]) for i in sorted(placed)))
    closing = [
        {"q": {"_id": text(i), "slot": slot_of(i), "state": "open"}, "u": docs.hold_closing(hold)}
        for i, hold in sorted(closed.items())
        if i not in placed
    ]
    quiet = sorted(loaded.holds - closed.keys())
    statements = [*closing, _touch(named(quiet))] if quiet else closing
    yield from update("holds", statements, len(closing) + len(quiet))


def _receipts(state: State, wanted: Wanted, loaded: Loaded) -> Iterator[Write]:
    written = [(r.slot, r.actor, r.key) for r in state.writes.receipts]
    ordered = sorted(state.writes.receipts, key=lambda r: (r.slot, r.actor, r.key))
    yield from insert("receipts", map(docs.RECEIPT.write, ordered))
    absent = sorted(wanted.receipts - loaded.receipts - set(written))
    blanks = [docs.RECEIPT.write(Receipt(*name, operation="", fingerprint="", at=EPOCH)) for name in absent]
    yield from _reserve("receipts", blanks)


def _records(state: State, wanted: Wanted, loaded: Loaded) -> Iterator[Write]:
    created: list[Document] = []
    changed: list[Document] = []
    removed: list[Document] = []
    for _key, (before, after) in sorted(state.writes.records.items(), key=lambda item: _order(item[0])):
        if before is None and after is not None:
            created.append(docs.RECORD.write(after))
        elif before is not None and after is not None:
            changed.append({"q": _version(before), "u": _replacing(after)})
        elif before is not None:
            removed.append(_version(before))
    yield from insert("records", created)
    yield from _delete("records", removed)
    quiet = sorted(loaded.records - state.writes.records.keys(), key=_order)
    touch = [_touch(keyed(record_id(key) for key in quiet))] if quiet else []
    yield from update("records", [*changed, *touch], len(changed) + len(quiet))
    kept = {key for key, (_, after) in state.writes.records.items() if after is not None}
    absent = sorted(wanted.records - loaded.records - kept, key=_order)
    yield from _reserve("records", [docs.RECORD.write(Record(k.kind, k.id, k.slot, "", 1)) for k in absent])


def record_id(key: RecordKey) -> Document:
    """The `_id` of a record."""
    return docs.RECORD.name(key.kind, key.id, key.slot)


def _order(key: RecordKey) -> tuple[int, str, str]:
    return key.slot, key.kind, key.id


def _version(record: Record) -> Document:
    return {"_id": record_id(record.key), "slot": record.slot, "version": Int64(record.version)}


def _replacing(record: Record) -> Document:
    """Replace everything but the key, and increment the guard."""
    document = docs.RECORD.write(record)
    fields = {name: document[name] for name in ("owner", "version", "body")}
    if "due_at" in document:
        return {"$set": fields | {"due_at": document["due_at"]}, **_BUMP}
    return {"$set": fields, "$unset": {"due_at": ""}, **_BUMP}


def _reserve(collection: str, blanks: list[Document]) -> Iterator[Write]:
    yield from insert(collection, blanks)
    yield from _delete(collection, [{"_id": blank["_id"], "slot": blank["slot"]} for blank in blanks])
