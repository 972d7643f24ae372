"""Conversion of domain records to MongoDB documents and back.

Every 64-bit integer (money, sequences, versions, microseconds since 1970) is written as BSON `long`, never as `double`;
the validators of `schema.py` refuse anything else. Every document carries its `slot`, the intended shard key. A key of
several parts is the `_id` itself: an embedded document with a fixed field order, so uniqueness needs no second index. A
field that is None is left out.

`guard` counts the commits whose scope contained the record, changed or not. It makes two such commits conflict;
snapshot isolation alone would let both succeed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from json import loads
from typing import Any, Final, Generic, TypeVar

from bson.int64 import Int64

from ...domain.codec import from_micros, to_micros
from ...domain.errors import InvariantViolated
from ...domain.model import Account, Hold
from ..kit import kinds
from ..kit.kinds import Coding, Column, Kind, compiled, json_text, unless_none

R = TypeVar("R")

Document = dict[str, Any]


def text(value: object) -> str:
    """The value, if it is plain text: then nothing that a caller sends can become an operator in a filter."""
    if not isinstance(value, str):
        raise InvariantViolated(f"a filter wants text and was given {type(value).__name__}")
    return str(value)


_WRITES: Final = {
    Coding.NUMBER: "Int64({0})",
    Coding.TIME: "Int64(to_micros({0}))",
    Coding.WORD: "{0}.value",
    Coding.JSON: "json_text({0})",
}
_READS: Final = {
    Coding.NUMBER: "int({0})",
    Coding.SLOT: "int({0})",
    Coding.TIME: "from_micros(int({0}))",
    Coding.WORD: "words_of_{1}[{0}]",
    Coding.JSON: "loads({0})",
}
_NAMES: Final = {Coding.TEXT: "text({0})", Coding.NUMBER: "Int64({0})", Coding.SLOT: "int({0})"}
_GLOBALS: Final[dict[str, object]] = {
    "Int64": Int64,
    "from_micros": from_micros,
    "json_text": json_text,
    "loads": loads,
    "text": text,
    "to_micros": to_micros,
}


@dataclass(frozen=True, slots=True)
class Codec(Generic[R]):
    """How one kind of record is stored in its collection."""

    kind: Kind[R]
    guarded: bool
    """Whether its documents have a `guard`."""
    derived: tuple[str, ...]
    """Properties of the record that are stored for grouping and never read back."""
    write: Callable[[R], Document]
    read: Callable[[Document], R]
    name: Callable[..., Document]
    """The `_id` of a key of several parts, given in the order of the key."""

    @property
    def collection(self) -> str:
        """Its name."""
        return self.kind.table


def _codec(kind: Kind[R], *, guarded: bool = False, derived: tuple[str, ...] = ()) -> Codec[R]:
    return Codec(kind, guarded, derived, _writer(kind, guarded, derived), _reader(kind), _namer(kind))


def _embedded(kind: Kind[Any], value: str) -> str:
    """Source text of an `_id` of several parts."""
    parts = (f"{name!r}: {_NAMES[kind.column(name).coding].format(value.format(name))}" for name in kind.key)
    return f"{{{', '.join(parts)}}}"


def _namer(kind: Kind[Any]) -> Callable[..., Document]:
    return compiled(f"{kind.name}_id", ", ".join(kind.key), [f"return {_embedded(kind, '{}')}"], **_GLOBALS)


def _writer(kind: Kind[R], guarded: bool, derived: tuple[str, ...]) -> Callable[[R], Document]:  # noqa: FBT001 - as in Codec
    def value(column: Column) -> str:
        return _WRITES.get(column.coding, "{0}").format(f"record.{column.name}")

    others = [column for column in kind.columns if column.name not in kind.key]
    identity = f"record.{kind.key[0]}" if len(kind.key) == 1 else _embedded(kind, "record.{}")
    parts = [f"'_id': {identity}", "'slot': slot(record)", *(f"{name!r}: record.{name}" for name in derived)]
    parts += [f"{column.name!r}: {value(column)}" for column in others if not column.optional]
    parts += ["'guard': Int64(1)"] * guarded
    present = [
        f"if record.{column.name} is not None: document[{column.name!r}] = {value(column)}"
        for column in others
        if column.optional
    ]
    lines = [f"document = {{{', '.join(parts)}}}", *present, "return document"]
    return compiled(f"{kind.name}_document", "record", lines, slot=kind.slot, **_GLOBALS)


def _reader(kind: Kind[R]) -> Callable[[Document], R]:
    def place(column: Column) -> str:
        if column.name not in kind.key:
            return f"document.get({column.name!r})" if column.optional else f"document[{column.name!r}]"
        return "document['_id']" if len(kind.key) == 1 else f"document['_id'][{column.name!r}]"

    lines = [f"{column.name} = {place(column)}" for column in kind.columns]
    parts = [
        f"{c.name}={unless_none(c, c.name, _READS.get(c.coding, '{0}').format(c.name, c.name))}" for c in kind.columns
    ]
    words = {f"words_of_{c.name}": {w.value: w for w in c.words} for c in kind.columns if c.words}
    lines.append(f"return model({', '.join(parts)})")
    return compiled(f"{kind.name}_of_document", "document", lines, model=kind.model, **words, **_GLOBALS)


ACCOUNT: Final = _codec(kinds.ACCOUNT, guarded=True)
ENTRY: Final = _codec(kinds.ENTRY)
SYSTEM_ENTRY: Final = _codec(kinds.SYSTEM_ENTRY, derived=("currency",))
TRANSFER: Final = _codec(kinds.TRANSFER, guarded=True)
HOLD: Final = _codec(kinds.HOLD, guarded=True)
RECEIPT: Final = _codec(kinds.RECEIPT)
RECORD: Final = _codec(kinds.RECORD, guarded=True)

CODECS: Final[dict[str, Codec[Any]]] = {
    codec.kind.name: codec for codec in (ACCOUNT, ENTRY, SYSTEM_ENTRY, TRANSFER, HOLD, RECEIPT, RECORD)
}
"""By the name of the kind."""


def account_moves(before: Account, after: Account) -> Document:
    """The update from one state of an account to the next: relative, so that the validator checks the true result."""
    return {
        "$inc": {
            "posted_minor": Int64(after.posted_minor - before.posted_minor),
            "held_minor": Int64(after.held_minor - before.held_minor),
            "guard": Int64(1),
        },
        "$set": {
            "sequence": Int64(after.sequence),
            "changed_at": Int64(to_micros(after.changed_at)),
            "status": after.status.value,
        },
    }


def hold_closing(hold: Hold) -> Document:
    """The update that closes an open hold."""
    document = HOLD.write(hold)
    names = ("state", "captured_minor", "closed_at", "transfer_id")
    return {"$set": {name: document[name] for name in names if name in document}, "$inc": {"guard": Int64(1)}}
