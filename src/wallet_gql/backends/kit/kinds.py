"""The kinds of records that every backend stores: the one place that knows their columns.

A kind gives the name of its table, the key, and the domain's class of the record. Columns follow from the record's
fields: first the key, then the others in the order of the fields. Tables, statements, documents, rows, scans, imports
and the split by node derive from `KINDS`. To add a field: add it to the record in `domain/model.py` and write a
migration for each backend.

Row converters are compiled once at import: a loop over columns would take several times as long for each row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum, StrEnum, auto
from typing import Any, Final, Generic, TypeVar, get_type_hints

from ...domain.codec import from_micros, to_micros
from ...domain.ids import slot_of
from ...domain.model import Account, Entry, Hold, Receipt, Record, SystemEntry, Transfer

R = TypeVar("R")

Row = Sequence[Any]
"""Plain values in the order of a kind's columns, as SQL drivers and JSON take them."""


class Coding(Enum):
    """How a column's value is stored."""

    TEXT = auto()
    NUMBER = auto()
    """A signed 64-bit integer."""
    SLOT = auto()
    """A number from 0 to 4,095."""
    TIME = auto()
    """A UTC time as a 64-bit integer: microseconds since 1970."""
    WORD = auto()
    """A member of an enum, as text."""
    JSON = auto()
    """Plain JSON data, as compact text with sorted keys."""


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a record as it is stored. `least` is the smallest number that a store may accept."""

    name: str
    coding: Coding
    optional: bool
    words: type[StrEnum] | None = None
    least: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Kind(Generic[R]):
    """One kind of records. `to_row` and `from_row` convert between a record and its columns' plain values."""

    name: str
    table: str
    model: type[R]
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    to_row: Callable[[R], Row]
    from_row: Callable[[Row], R]
    slot: Callable[[R], int]
    """The slot whose node has the record."""

    def names(self, prefix: str = "") -> str:
        """The columns as SQL lists them."""
        return ", ".join(prefix + column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """A column by its name. Raises KeyError."""
        return {column.name: column for column in self.columns}[name]

    def reader(self, *names: str) -> Callable[[R], Row]:
        """A function that returns some of a record's columns, coded as in `to_row`."""
        return _to_row(f"{self.name}_part", [self.column(name) for name in names])

    @property
    def lowest(self) -> tuple[str | int, ...]:
        """A key below all others, where a scan starts."""
        return tuple("" if self.column(name).coding is Coding.TEXT else -1 for name in self.key)


def json_text(body: Mapping[str, object]) -> str:
    """Plain JSON data as the column `body` of `records` stores it."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def compiled(name: str, arguments: str, lines: Sequence[str], **names: object) -> Callable[..., Any]:
    """The function `name(arguments)` with these lines as its body; `names` are its globals."""
    source = "".join([f"def {name}({arguments}):\n", *(f"    {line}\n" for line in lines)])
    exec(compile(source, f"<{name}>", "exec"), names)  # noqa: S102 - source made of our own fields' names
    made: Callable[..., Any] = names[name]  # type: ignore[assignment]  # exec has just put it there
    return made


def unless_none(column: Column, value: str, expression: str) -> str:
    """Source text: the expression, or None if the value is None. Used only for values that need a conversion."""
    return f"None if {value} is None else {expression}" if column.optional and value != expression else expression


_WRITES: Final = {Coding.TIME: "to_micros({})", Coding.WORD: "{}.value", Coding.JSON: "json_text({})"}
_DECODE: Final = json.JSONDecoder().raw_decode


def _json_data(text: str) -> Any:
    """The data of compact JSON text, in a fifth of the steps of `json.loads`. Raises ValueError."""
    data, end = _DECODE(text)
    if end != len(text):
        raise ValueError(f"there is something behind the JSON text of {end} characters")
    return data


_READS: Final = {Coding.TIME: "from_micros({0})", Coding.WORD: "words_of_{0}[{0}]", Coding.JSON: "json_data({0})"}


def _to_row(name: str, columns: Sequence[Column]) -> Callable[[Any], Row]:
    values = (f"record.{c.name}" for c in columns)
    parts = [
        unless_none(c, value, _WRITES.get(c.coding, "{}").format(value))
        for c, value in zip(columns, values, strict=True)
    ]
    lines = [f"return ({', '.join(parts)},)"]
    return compiled(f"{name}_to_row", "record", lines, to_micros=to_micros, json_text=json_text)


def _from_row(name: str, model: type[R], columns: Sequence[Column]) -> Callable[[Row], R]:
    by_name = {c.name: c for c in columns}
    ordered = [by_name[field.name] for field in fields(model)]  # type: ignore[arg-type]  # a record is a dataclass
    parts = [unless_none(c, c.name, _READS.get(c.coding, "{0}").format(c.name)) for c in ordered]
    lines = [f"{', '.join(by_name)}, = row", f"return model({', '.join(parts)})"]
    words = {f"words_of_{c.name}": {w.value: w for w in c.words} for c in columns if c.words}
    return compiled(
        f"{name}_from_row", "row", lines, model=model, from_micros=from_micros, json_data=_json_data, **words
    )


def _column(name: str, hint: Any, *, is_slot: bool, least: int | None) -> Column:
    options = [option for option in getattr(hint, "__args__", ()) if option is not type(None)]
    optional = len(options) == 1 and type(None) in hint.__args__
    plain = options[0] if optional else hint
    plain = getattr(plain, "__supertype__", plain)  # an id is text
    if is_slot:
        return Column(name, Coding.SLOT, optional, least=0)
    if plain in _CODINGS:
        return Column(name, _CODINGS[plain], optional, least=least)
    if isinstance(plain, type) and issubclass(plain, StrEnum):
        return Column(name, Coding.WORD, optional, words=plain)
    return Column(name, Coding.JSON, optional)


_CODINGS: Final = {str: Coding.TEXT, int: Coding.NUMBER, datetime: Coding.TIME}


def _kind(
    model: type[R],
    names: tuple[str, str],
    key: str,
    slot: Callable[[R], int],
    *,
    slots: Sequence[str] = (),
    **least: int,
) -> Kind[R]:
    """A kind by its name and its table's name. `key` lists columns; `least` is the smallest value of some columns."""
    hints = get_type_hints(model)
    first = tuple(key.split())
    ordered = (*first, *(name for name in hints if name not in first))
    columns = tuple(_column(n, hints[n], is_slot=n in slots, least=least.get(n)) for n in ordered)
    to_row, from_row = _to_row(names[0], columns), _from_row(names[0], model, columns)
    return Kind(names[0], names[1], model, first, columns, to_row, from_row, slot)


ACCOUNT: Final = _kind(
    Account, ("account", "accounts"), "id", lambda r: slot_of(r.id), posted_minor=0, held_minor=0, sequence=0
)
ENTRY: Final = _kind(
    Entry,
    ("entry", "entries"),
    "account_id sequence",
    lambda r: slot_of(r.account_id),
    sequence=1,
    balance_minor=0,
)
SYSTEM_ENTRY: Final = _kind(
    SystemEntry, ("system_entry", "system_entries"), "transfer_id account_id", lambda r: slot_of(r.transfer_id)
)
TRANSFER: Final = _kind(Transfer, ("transfer", "transfers"), "id", lambda r: slot_of(r.id), amount_minor=0, fee_minor=0)
HOLD: Final = _kind(Hold, ("hold", "holds"), "id", lambda r: slot_of(r.id), amount_minor=0, captured_minor=0)
RECEIPT: Final = _kind(Receipt, ("receipt", "receipts"), "slot actor key", lambda r: r.slot, slots=("slot", "leader"))
RECORD: Final = _kind(Record, ("record", "records"), "kind id slot", lambda r: r.slot, slots=("slot",), version=1)

KINDS: Final[tuple[Kind[Any], ...]] = (ACCOUNT, ENTRY, SYSTEM_ENTRY, TRANSFER, HOLD, RECEIPT, RECORD)

KIND_OF: Final[Mapping[type, Kind[Any]]] = {kind.model: kind for kind in KINDS}
"""The kind of a record, by its class."""

SCANNED: Final[Mapping[str, Kind[Any]]] = {
    "account": ACCOUNT,
    "journal": TRANSFER,
    "hold": HOLD,
    "receipt": RECEIPT,
    "record": RECORD,
}
"""What each scan reads. A journal reads transfers, then their entries."""

ADDED: Final[Mapping[str, Kind[Any]]] = {
    "opened": ACCOUNT,
    "transfers": TRANSFER,
    "entries": ENTRY,
    "system_entries": SYSTEM_ENTRY,
    "placed": HOLD,
    "receipts": RECEIPT,
}
"""The lists of `Writes` whose records are new, by name. Records that may replace others are in `Writes.records`."""
