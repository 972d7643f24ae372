"""The tables, their contents, and the statements on them.

`register` has one row per partition, which only lightweight transactions write. All other rows are written plainly,
each only by the commits of one partition and with the commit's version as time stamp. So writing them again, late, or
out of order changes nothing, and clocks do not matter. A row that one commit has deleted may be written by a later one.

A row of a kind has the plain values of `kit.KINDS` as JSON text under one text key. Several keys are read at once.
Tables of names (`wallet`, `open_hold`, `record_of`, `due`) only lead to such rows and prove nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from ...domain.codec import to_micros as micros
from ...domain.model import Hold, HoldState, Record, RecordKey
from ..kit.kinds import Kind, Row

VERSION: Final = 1
"""The version of everything in this module. A keyspace with a newer version is refused."""

BUCKET: Final = 1_000
"""How many entries, intents or commits are stored in one partition of Cassandra."""

FAR: Final = 2**63 - 1
"""Stands for "no upper end" of a time or a number."""

_NAMES_ONLY: Final = " WITH gc_grace_seconds = 10800"
"""A deleted name that reappears is checked like any other, so deletions may be forgotten after three hours."""

TABLES: Final[dict[str, str]] = {
    "meta": "k text PRIMARY KEY, value text",
    "register": "k text PRIMARY KEY, version bigint, attempt text, tail blob, sums text, gate text, beat bigint",
    "marker": "k text PRIMARY KEY, version bigint",
    "account": "k text PRIMARY KEY, row text",
    "hold": "k text PRIMARY KEY, row text",
    "receipt": "k text PRIMARY KEY, row text",
    "record": "k text PRIMARY KEY, row text",
    "transfer": "k text PRIMARY KEY, row text, reversed_minor bigint",
    "entry": "k text, sequence bigint, row text, header text, PRIMARY KEY (k, sequence)",
    "wallet": "k text, id text, PRIMARY KEY (k, id)",
    "open_hold": "k text, at bigint, id text, PRIMARY KEY (k, at, id)",
    "record_of": "k text, id text, slot int, PRIMARY KEY (k, id, slot)",
    "due": "k text, at bigint, name text, PRIMARY KEY (k, at, name)",
    "intent": "k text, version bigint, id text, header text, done boolean, PRIMARY KEY (k, version, id)",
    "commit_log": "k text, version bigint, attempt text, PRIMARY KEY (k, version)",
}
"""The columns of each table."""

_OF_ROWS: Final = ("account", "hold", "receipt", "record")
_OF_NAMES: Final = ("open_hold", "record_of", "due")

_PUTS: Final = {
    **{name: (name, ("k", "row")) for name in (*_OF_ROWS, "transfer")},
    "reversed": ("transfer", ("k", "reversed_minor")),
    "entry": ("entry", ("k", "sequence", "row", "header")),
    "wallet": ("wallet", ("k", "id")),
    "open_hold": ("open_hold", ("k", "at", "id")),
    "record_of": ("record_of", ("k", "id", "slot")),
    "due": ("due", ("k", "at", "name")),
    "intent": ("intent", ("k", "version", "id", "header")),
    "done": ("intent", ("k", "version", "id", "done")),
    "commit_log": ("commit_log", ("k", "version", "attempt")),
    "marker": ("marker", ("k", "version")),
}
_DROPS: Final = {
    "drop_record": ("record", ("k",)),
    "drop_open_hold": ("open_hold", ("k", "at", "id")),
    "drop_record_of": ("record_of", ("k", "id", "slot")),
    "drop_due": ("due", ("k", "at", "name")),
}

Op = tuple[str, list[Any]]
"""One row to write: the name of its statement and its values, without the time stamp."""


def definition(keyspace: str, table: str) -> str:
    """The statement that makes a table."""
    more = _NAMES_ONLY if table in _OF_NAMES else ""
    return f"CREATE TABLE IF NOT EXISTS {keyspace}.{table} ({TABLES[table]}){more}"


def writing(keyspace: str) -> dict[str, str]:
    """The statements that write a row. The last value of each is the time stamp."""
    found = {}
    for name, (table, columns) in _PUTS.items():
        places = ", ".join("?" * len(columns))
        into = f"{keyspace}.{table} ({', '.join(columns)})"
        found[name] = f"INSERT INTO {into} VALUES ({places}) USING TIMESTAMP ?"  # noqa: S608 - our own names
    for name, (table, key) in _DROPS.items():
        where = " AND ".join(f"{column} = ?" for column in key)
        found[name] = f"DELETE FROM {keyspace}.{table} USING TIMESTAMP ? WHERE {where}"  # noqa: S608 - the same
    return found


def bound(op: Op, stamp: int) -> list[Any]:
    """The values of a row's statement with its time stamp, which comes first in a DELETE."""
    name, values = op
    return [stamp, *values] if name in _DROPS else [*values, stamp]


READING: Final[dict[str, str]] = {
    "register": "SELECT version, attempt, tail, sums, gate, beat FROM {}.register WHERE k = ?",
    "version": "SELECT version, attempt, sums FROM {}.register WHERE k = ?",
    "get_marker": "SELECT version FROM {}.marker WHERE k = ?",
    **{f"get_{name}": f"SELECT k, row FROM {{}}.{name} WHERE k IN ?" for name in _OF_ROWS},  # noqa: S608 - our names
    "get_transfer": "SELECT k, row, reversed_minor FROM {}.transfer WHERE k IN ?",
    "get_wallet": "SELECT k, id FROM {}.wallet WHERE k IN ?",
    "get_open_hold": "SELECT id FROM {}.open_hold WHERE k IN ? AND at <= ?",
    "get_entry": "SELECT sequence, row, header FROM {}.entry WHERE k = ? AND sequence >= ? AND sequence <= ?",
    "get_record_of": "SELECT id, slot FROM {}.record_of WHERE k = ? AND id > ? LIMIT ?",
    "get_record_of_descending": ("SELECT id, slot FROM {}.record_of WHERE k = ? AND id < ? ORDER BY id DESC LIMIT ?"),
    "get_due": "SELECT at, name FROM {}.due WHERE k = ? AND (at, name) > (?, ?) AND at <= ? LIMIT ?",
    "get_intent": "SELECT version, id, header, done FROM {}.intent WHERE k = ? AND version > ?",
    "get_commit_log": "SELECT attempt FROM {}.commit_log WHERE k = ? AND version = ?",
    **{f"scan_{name}": f"SELECT row FROM {{}}.{name}" for name in _OF_ROWS},  # noqa: S608 - the same
    "scan_transfer": "SELECT k, row FROM {}.transfer",
}
"""The statements that read; `{}` is the keyspace."""

DECIDING: Final[dict[str, str]] = {
    "make": "INSERT INTO {}.register (k, version, attempt, sums, beat) VALUES (?, 0, '', '{{}}', 0) IF NOT EXISTS",
    "cas": "UPDATE {}.register SET version = ?, attempt = ?, tail = ?, sums = ?, gate = ? WHERE k = ? IF version = ?",
    "beat": "UPDATE {}.register SET beat = ? WHERE k = ? IF gate = ?",
    "open_gate": "UPDATE {}.register SET gate = null WHERE k = ? IF gate = ?",
    "open_expired": "UPDATE {}.register SET gate = null WHERE k = ? IF gate = ? AND beat = ?",
}
"""The lightweight transactions."""


# Keys and rows


def text_of(*parts: object) -> str:
    """Plain values as JSON text: a key of several parts, or a row."""
    return orjson.dumps(parts).decode()


def row_of(kind: Kind[Any], record: object) -> str:
    """The row of a record."""
    return orjson.dumps(kind.to_row(record)).decode()


def bucketed(name: str, number: int) -> str:
    """The key of the row group that has the `number`-th entry, intent or commit of `name`."""
    return f"{name} {number // BUCKET}"


def transfer_key(partition: str, transfer_id: str) -> str:
    """The key of a transfer in one partition."""
    return f"{partition} {transfer_id}"


def record_key(key: RecordKey) -> str:
    """The key of a record."""
    return text_of(key.kind, key.id, key.slot)


def due_key(kind: str, partition: str) -> str:
    """The key of a partition's list of due items of a kind."""
    return text_of(kind, partition)


_Name = tuple[str, tuple[Any, ...]]
"""A table of names, and the key of a row there."""


@dataclass(frozen=True, slots=True)
class Names:
    """The rows of names that lead to one hold or record in its present state."""

    rows: frozenset[_Name]

    @classmethod
    def of_hold(cls, hold: Hold | None, partition: str) -> Names:
        """An open hold is listed with its account, and with the due items unless it never expires."""
        if hold is None or hold.state is not HoldState.OPEN:
            return cls(frozenset())
        at = FAR if hold.expires_at is None else micros(hold.expires_at)
        rows: set[_Name] = {("open_hold", (hold.account_id, at, hold.id))}
        if hold.expires_at is not None:
            rows.add(("due", (due_key("hold", partition), at, hold.id)))
        return cls(frozenset(rows))

    @classmethod
    def of_record(cls, record: Record | None, partition: str) -> Names:
        """A record is listed with its owner, and with the due items if it has a due time."""
        if record is None:
            return cls(frozenset())
        rows: set[_Name] = {("record_of", (text_of(record.kind, record.owner), record.id, record.slot))}
        if record.due_at is not None:
            rows.add(("due", (due_key(record.kind, partition), micros(record.due_at), record_key(record.key))))
        return cls(frozenset(rows))

    def becoming(self, after: Names) -> list[Op]:
        """The rows to delete and to add when these names change to `after`."""
        dropped: list[Op] = [(f"drop_{name}", list(values)) for name, values in sorted(self.rows - after.rows)]
        return dropped + [(name, list(values)) for name, values in sorted(after.rows - self.rows)]


def values_of(text: str) -> Row:
    """The plain values of a row, or the parts of a key."""
    found: Row = orjson.loads(text)
    return found
