"""Collections, indexes and validators of the MongoDB backend, and the idempotent migration to them.

The `_id` of a document is its key, which gives these unique indexes: (account id, sequence) of entries, (transfer,
account) of system entries, (slot, actor, key) of receipts, (kind, id, slot) of records. (owner, currency) of accounts
that are not closed has an index of its own. The shard key would be `slot`: it is in every document, and it leads the
one unique index that is not `_id`.
"""

from __future__ import annotations

from typing import Any, Final

from pymongo import ASCENDING, IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from ...domain.errors import ConfigurationError
from ...domain.ids import SLOTS
from ...domain.model import AccountStatus
from ..kit.kinds import Coding, Column
from ..kit.versions import is_due
from .documents import CODECS, Codec, Document

VERSION: Final = 2
"""The version of everything in this module. A database with a newer version is refused."""

META: Final = "meta"
LOCKS: Final = "locks"
CONTROL: Final = "control"
FORGET_SECONDS: Final = 24 * 3600
"""A process's fence is dropped after this long without a commit. A process that still runs then makes a new one."""

_EXISTS: Final = 48
_NO_INDEX: Final = 27
_OPEN: Final = {"state": "open"}
_IN_USE: Final = {"status": {"$in": [status.value for status in AccountStatus if status is not AccountStatus.CLOSED]}}

_TEXT: Final = {"bsonType": "string"}
_LONG: Final = {"bsonType": "long"}
_SLOT: Final = {"bsonType": "int", "minimum": 0, "maximum": SLOTS - 1}


def _type(column: Column) -> Document:
    if column.coding is Coding.SLOT:
        return _SLOT
    if column.coding in (Coding.NUMBER, Coding.TIME):
        return _LONG if column.least is None else {**_LONG, "minimum": column.least}
    return _TEXT


def _object(properties: Document, optional: Document | None = None) -> Document:
    every = properties | (optional or {})
    return {"bsonType": "object", "required": list(properties), "properties": every, "additionalProperties": False}


def _shape(codec: Codec[Any]) -> Document:
    """The schema of a kind's documents: every field with its type, and no other field."""
    kind = codec.kind
    identity = {name: _type(kind.column(name)) for name in kind.key}
    others = [column for column in kind.columns if column.name not in kind.key]
    required = {
        "slot": _SLOT,
        "_id": identity[kind.key[0]] if len(kind.key) == 1 else _object(identity),
        **dict.fromkeys(codec.derived, _TEXT),
        **{column.name: _type(column) for column in others if not column.optional},
        **({"guard": _LONG} if codec.guarded else {}),
    }
    return _object(required, {column.name: _type(column) for column in others if column.optional})


_SHAPES: Final[dict[str, Document]] = {codec.collection: _shape(codec) for codec in CODECS.values()}

COLLECTIONS: Final = tuple(_SHAPES)
"""The collections that hold the ledger. `meta`, `locks` and `control` only serve it."""

_FLOOR: Final = {"$expr": {"$gte": ["$posted_minor", "$held_minor"]}}


def validator(collection: str) -> Document:
    """What the server checks on every document written to a collection."""
    shape: Document = {"$jsonSchema": _SHAPES[collection]}
    return {"$and": [shape, _FLOOR]} if collection == "accounts" else shape


def _index(name: str, *keys: str, **options: Any) -> IndexModel:
    return IndexModel([(key, ASCENDING) for key in keys], name=name, **options)


INDEXES: Final[dict[str, list[IndexModel]]] = {
    "accounts": [
        _index("accounts_by_owner", "slot", "owner"),
        _index("accounts_one_in_use", "slot", "owner", "currency", unique=True, partialFilterExpression=_IN_USE),
    ],
    "entries": [_index("entries_by_transfer", "transfer_id")],
    "transfers": [_index("transfers_by_reversed", "reverses", partialFilterExpression={"reverses": {"$exists": True}})],
    "holds": [
        _index("holds_open", "account_id", "expires_at", partialFilterExpression=_OPEN),
        _index("holds_due", "expires_at", "_id", partialFilterExpression=_OPEN),
    ],
    "records": [
        _index("records_by_owner", "_id.kind", "owner", "_id.id"),
        _index("records_due", "_id.kind", "due_at", "_id.id", partialFilterExpression={"due_at": {"$exists": True}}),
    ],
    LOCKS: [_index("locks_forgotten", "seen_at", expireAfterSeconds=FORGET_SECONDS)],
}

_DROPPED: Final = {"accounts": "accounts_one_per_currency"}
"""Indexes of earlier versions, by collection: version 1 counted closed accounts, too."""


async def migrate(database: AsyncDatabase[Document], *, migrates: bool = True) -> bool:
    """Bring the database to `VERSION`. Returns whether anything had to be done.

    Safe to run twice, and by two processes at once.

    Raises:
        NotMigrated: something has to be done, and `migrates` says not to.
        ConfigurationError: the database has a newer version, or belongs to another program.
    """
    found = await database[META].find_one({"_id": "schema"})
    version: int | None = None if found is None else found["version"]
    if not is_due(f"database {database.name}", version, VERSION, migrates=migrates):
        return False
    if version is None:
        await _check_unused(database)
    await _create(database)
    if version is None:
        await database[META].update_one({"_id": "schema"}, {"$setOnInsert": {"version": VERSION}}, upsert=True)
    else:
        await database[META].update_one({"_id": "schema", "version": {"$lt": VERSION}}, {"$set": {"version": VERSION}})
    return True


async def _check_unused(database: AsyncDatabase[Document]) -> None:
    """Allow empty collections, which an interrupted `migrate` may have left; refuse documents of other programs."""
    for name in COLLECTIONS:
        if await database[name].find_one({}) is None:
            continue
        if await database[META].find_one({"_id": "schema"}) is None:  # unless another process has just migrated it
            raise ConfigurationError(
                f"database {database.name} has a collection {name} that is not ours; name another database in the URL"
            )


async def _drop_index(database: AsyncDatabase[Document], collection: str, index: str) -> None:
    try:
        await database[collection].drop_index(index)
    except OperationFailure as error:
        if error.code != _NO_INDEX:
            raise


async def _create(database: AsyncDatabase[Document]) -> None:
    for name in (*COLLECTIONS, LOCKS, CONTROL):
        options: Document = {"validator": validator(name), "validationAction": "error"} if name in _SHAPES else {}
        try:
            await database.create_collection(name, check_exists=False, **options)
        except OperationFailure as error:
            if error.code != _EXISTS:
                raise
            if options:
                await database.command({"collMod": name, **options})
        if name in INDEXES:
            await database[name].create_indexes(INDEXES[name])
        if name in _DROPPED:
            await _drop_index(database, name, _DROPPED[name])
    await database[CONTROL].update_one({"_id": "gate"}, {"$setOnInsert": {"holder": None}}, upsert=True)
