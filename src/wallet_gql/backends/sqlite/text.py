"""SQLite's dialect, and the statements that only SQLite runs.

Lists are passed as one JSON array (`json_each`), so that a statement is prepared once for all lengths.
"""

from __future__ import annotations

import json
from typing import Any, Final

from ..kit.kinds import ACCOUNT, ADDED, HOLD, RECEIPT, RECORD, TRANSFER, Kind
from ..relational.rows import CLOSING
from ..relational.statements import Dialect, Statements, select

STATEMENTS: Final = Statements(
    Dialect(
        mark=lambda _: "?",
        among=lambda column, mark: f"{column} IN (SELECT value FROM json_each({mark}))",  # noqa: S608 - own names
        listing=json.dumps,
        join="CROSS JOIN",
        by_owner="INDEXED BY records_by_owner ",
    )
)

_LISTED: Final = "(SELECT value FROM json_each(?))"


def _insert(kind: Kind[Any]) -> str:
    marks = ", ".join("?" for _ in kind.columns)
    return f"INSERT INTO {kind.table} ({kind.names()}) VALUES ({marks})"  # noqa: S608 - names of our own tables


def _by_key(kind: Kind[Any]) -> str:
    """Select rows by a list of keys of several parts."""
    parts = (f"t.{name} = json_extract(wanted.value, '$[{place}]')" for place, name in enumerate(kind.key))
    wanted = "json_each(?) AS wanted CROSS JOIN"
    return f"SELECT {kind.names('t.')} FROM {wanted} {kind.table} AS t WHERE {' AND '.join(parts)}"  # noqa: S608 - own names


ACCOUNTS: Final = select(ACCOUNT, f"WHERE id IN {_LISTED}")
WALLETS: Final = select(ACCOUNT, f"WHERE owner IN {_LISTED}")
HOLDS: Final = select(HOLD, f"WHERE id IN {_LISTED}")
OPEN_HOLDS: Final = select(HOLD, f"WHERE state = 'open' AND account_id IN {_LISTED}")
HOLDS_DUE: Final = f"{OPEN_HOLDS} AND expires_at <= ?"
TRANSFERS: Final = (
    f"SELECT {TRANSFER.names('t.')}, "  # noqa: S608 - names of our own tables
    "(SELECT coalesce(sum(r.amount_minor), 0) FROM transfers AS r WHERE r.reverses = t.id) "
    f"FROM transfers AS t WHERE t.id IN {_LISTED}"
)
RECEIPTS: Final = _by_key(RECEIPT)
RECORDS: Final = _by_key(RECORD)

INSERTS: Final = {name: (_insert(kind), kind.to_row) for name, kind in ADDED.items()}
"""For each list of `Writes`: the statement, and the function that converts a record to a row."""

UPDATE_ACCOUNT: Final = (
    "UPDATE accounts SET posted_minor = posted_minor + ?, held_minor = held_minor + ?, sequence = ?, changed_at = ? "
    "WHERE id = ? AND sequence = ?"
)
SET_STATUS: Final = "UPDATE accounts SET status = ? WHERE id = ?"
"""A statement of its own: SQLite rewrites a partial index whenever a column of its condition is assigned."""

CLOSE_HOLD: Final = f"UPDATE holds SET {', '.join(f'{name} = ?' for name in CLOSING)} WHERE id = ? AND state = 'open'"  # noqa: S608 - own names
_KEY: Final = ", ".join(RECORD.key)
_REPLACED: Final = ", ".join(f"{c.name} = excluded.{c.name}" for c in RECORD.columns if c.name not in RECORD.key)
PUT_RECORD: Final = f"{_insert(RECORD)} ON CONFLICT ({_KEY}) DO UPDATE SET {_REPLACED} WHERE records.version = ?"
DELETE_RECORD: Final = "DELETE FROM records WHERE kind = ? AND id = ? AND slot = ?"
