"""SQLite's statements, as text built once from the tables, so that no column is named twice.

Lists go in as one JSON array (`json_each`), so that every statement is prepared once whatever its length.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Table

from ...storage import PageRequest
from ..relational import tables


def _columns(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def _named(table: Table, prefix: str = "") -> str:
    return ", ".join(prefix + name for name in _columns(table))


def _insert(table: Table) -> str:
    marks = ", ".join("?" for _ in _columns(table))
    return f"INSERT INTO {table.name} ({_named(table)}) VALUES ({marks})"  # noqa: S608 - names of our own tables


def _select(table: Table, rest: str) -> str:
    return f"SELECT {_named(table)} FROM {table.name} {rest}"  # noqa: S608 - names of our own tables


ENTRY: Final = _columns(tables.entries)
_LISTED: Final = "(SELECT value FROM json_each(?))"
_JOINED: Final = "json_each(?) AS wanted CROSS JOIN"


def _by_triple(table: Table, first: str, second: str, third: str) -> str:
    match = " AND ".join(
        f"t.{name} = json_extract(wanted.value, '$[{place}]')" for place, name in enumerate((first, second, third))
    )
    return f"SELECT {_named(table, 't.')} FROM {_JOINED} {table.name} AS t WHERE {match}"  # noqa: S608 - own names


ACCOUNTS: Final = _select(tables.accounts, f"WHERE id IN {_LISTED}")
COUNT_ACCOUNTS: Final = f"SELECT count(*) FROM accounts WHERE id IN {_LISTED}"  # noqa: S608 - names of our own tables
WALLETS: Final = _select(tables.accounts, f"WHERE owner IN {_LISTED}")
HOLDS: Final = _select(tables.holds, f"WHERE id IN {_LISTED}")
OPEN_HOLDS: Final = _select(tables.holds, f"WHERE state = 'open' AND account_id IN {_LISTED}")
HOLDS_DUE: Final = f"{OPEN_HOLDS} AND expires_at <= ?"
TRANSFERS: Final = (
    f"SELECT {_named(tables.transfers, 't.')}, "  # noqa: S608 - names of our own tables
    "(SELECT coalesce(sum(r.amount_minor), 0) FROM transfers AS r WHERE r.reverses = t.id) "
    f"FROM transfers AS t WHERE t.id IN {_LISTED}"
)
RECEIPTS: Final = _by_triple(tables.receipts, "slot", "actor", "key")
RECORDS: Final = _by_triple(tables.records, "kind", "id", "slot")

INSERT_ACCOUNT: Final = _insert(tables.accounts)
INSERT_TRANSFER: Final = _insert(tables.transfers)
INSERT_TRANSFER_ONCE: Final = f"{INSERT_TRANSFER} ON CONFLICT DO NOTHING"
INSERT_ENTRY: Final = _insert(tables.entries)
INSERT_SYSTEM_ENTRY: Final = _insert(tables.system_entries)
INSERT_HOLD: Final = _insert(tables.holds)
INSERT_RECEIPT: Final = _insert(tables.receipts)
INSERT_RECORD: Final = _insert(tables.records)
UPDATE_ACCOUNT: Final = (
    "UPDATE accounts SET posted_minor = posted_minor + ?, held_minor = held_minor + ?, sequence = ?, changed_at = ?, "
    "status = ? WHERE id = ? AND sequence = ?"
)
CLOSE_HOLD: Final = (
    "UPDATE holds SET state = ?, captured_minor = ?, closed_at = ?, transfer_id = ? WHERE id = ? AND state = 'open'"
)
PUT_RECORD: Final = (
    f"{INSERT_RECORD} ON CONFLICT (kind, id, slot) DO UPDATE SET owner = excluded.owner, version = excluded.version, "
    "body = excluded.body, due_at = excluded.due_at WHERE records.version = ?"
)
DELETE_RECORD: Final = "DELETE FROM records WHERE kind = ? AND id = ? AND slot = ?"

LIST_RECORDS: Final = _select(
    tables.records, "INDEXED BY records_by_owner WHERE kind = ? AND owner = ? AND id > ? ORDER BY id LIMIT ?"
)
DUE_HOLDS: Final = _select(tables.holds, "WHERE state = 'open' AND expires_at <= ? ORDER BY expires_at, id LIMIT ?")
DUE_RECORDS: Final = _select(tables.records, "WHERE kind = ? AND due_at <= ? ORDER BY due_at, id LIMIT ?")

ENTRIES_OF: Final = _select(tables.entries, f"WHERE transfer_id IN {_LISTED}")
SYSTEM_ENTRIES_OF: Final = _select(tables.system_entries, f"WHERE transfer_id IN {_LISTED}")


def _scan(table: Table, *key: str) -> str:
    names, marks = ", ".join(key), ", ".join("?" for _ in key)
    columns = _named(table)
    return f"SELECT {names}, {columns} FROM {table.name} WHERE ({names}) > ({marks}) ORDER BY {names} LIMIT ?"  # noqa: S608


SCAN_ACCOUNTS: Final = _scan(tables.accounts, "id")
SCAN_TRANSFERS: Final = _scan(tables.transfers, "id")
SCAN_HOLDS: Final = _scan(tables.holds, "id")
SCAN_RECEIPTS: Final = _scan(tables.receipts, "slot", "actor", "key")
SCAN_RECORDS: Final = _scan(tables.records, "kind", "id", "slot")

TOTALS: Final = """
SELECT currency, sum(customer), sum(system), sum(clearing) FROM (
  SELECT currency, sum(posted_minor) AS customer, 0 AS system, 0 AS clearing FROM accounts GROUP BY currency
  UNION ALL
  SELECT substr(account_id, -3), 0, sum(amount_minor),
         sum(CASE WHEN account_id LIKE 'sys:clearing/%' THEN amount_minor ELSE 0 END)
  FROM system_entries GROUP BY 1
) GROUP BY currency ORDER BY currency
"""


def _page(select: str, account_id: str, page: PageRequest) -> tuple[str, tuple[str | int, ...]]:
    """A keyset page on the primary key (account_id, sequence): an index seek that reads limit + 1 rows."""
    where, values = ["e.account_id = ?"], [account_id]
    bounds: list[int] = []
    if page.before is not None:
        where.append("e.sequence < ?")
        bounds.append(page.before)
    if page.after is not None:
        where.append("e.sequence > ?")
        bounds.append(page.after)
    order = "DESC" if page.newest_first else "ASC"
    text = f"{select} WHERE {' AND '.join(where)} ORDER BY e.sequence {order} LIMIT ?"
    return text, (*values, *bounds, page.limit + 1)


def history_page(account_id: str, page: PageRequest) -> tuple[str, tuple[str | int, ...]]:
    """Statement and values for a page of entries with their transfers."""
    columns = f"{_named(tables.entries, 'e.')}, {_named(tables.transfers, 't.')}"
    joined = "entries AS e CROSS JOIN transfers AS t ON t.id = e.transfer_id"
    return _page(f"SELECT {columns} FROM {joined}", account_id, page)  # noqa: S608
