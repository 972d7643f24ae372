"""Postgres' statements beside the two functions of migration 0002, built from the tables' own column lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Table

from ...storage import PageRequest, ScanItem, ScanKind
from ..relational import rows, tables


def _columns(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def _named(table: Table, prefix: str = "") -> str:
    return ", ".join(prefix + name for name in _columns(table))


def _select(table: Table, rest: str) -> str:
    return f"SELECT {_named(table)} FROM {table.name} {rest}"  # noqa: S608 - names of our own tables


ENTRY: Final = _columns(tables.entries)

CLOSE_GATE: Final = "SET LOCAL lock_timeout = '10s'; SELECT pg_advisory_xact_lock(7205759403792794)"

LIST_RECORDS: Final = _select(tables.records, "WHERE kind = $1 AND owner = $2 AND id > $3 ORDER BY id LIMIT $4")
DUE_HOLDS: Final = _select(tables.holds, "WHERE state = 'open' AND expires_at <= $1 ORDER BY expires_at, id LIMIT $2")
DUE_RECORDS: Final = _select(tables.records, "WHERE kind = $1 AND due_at <= $2 ORDER BY due_at, id LIMIT $3")
ENTRIES_OF: Final = _select(tables.entries, "WHERE transfer_id = ANY($1)")
SYSTEM_ENTRIES_OF: Final = _select(tables.system_entries, "WHERE transfer_id = ANY($1)")

_INTENT: Final = (
    f"SELECT {_named(tables.transfers, 't.')} FROM intents AS i JOIN transfers AS t ON t.id = i.transfer_id"  # noqa: S608 - names of our own tables
)
_FIRST: Final = f"{_INTENT} WHERE i.peer = p.peer ORDER BY i.transfer_id LIMIT $2"
OPEN_AMONG: Final = f"{_INTENT} WHERE i.peer = ANY ($1) AND i.transfer_id = ANY ($2)"
OPEN_INTENTS: Final = f"SELECT x.* FROM unnest($1::text[]) AS p(peer) CROSS JOIN LATERAL ({_FIRST}) AS x"  # noqa: S608 - as above
"""So many a peer, so that one that is down hides no other's."""

CLOSE_INTENTS: Final = """
WITH lazily AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
DELETE FROM intents USING lazily WHERE peer = $1 AND transfer_id = ANY($2)
"""
"""It need not reach the disk: an intent that is open again is found applied and closed again."""

COUNT_INTENTS: Final = "SELECT count(*) FROM intents"


def _scan(table: Table, *key: str) -> str:
    names = ", ".join(key)
    marks = ", ".join(f"${place}" for place in range(1, len(key) + 1))
    rest = f"WHERE ({names}) > ({marks}) ORDER BY {names} LIMIT ${len(key) + 1}"
    return f"SELECT {names}, {_named(table)} FROM {table.name} {rest}"  # noqa: S608 - names of our own tables


SCANS: Final[dict[ScanKind, tuple[str, tuple[Any, ...], Callable[[rows.Row], ScanItem]]]] = {
    "account": (_scan(tables.accounts, "id"), ("",), rows.to_account),
    "journal": (_scan(tables.transfers, "id"), ("",), rows.to_account),
    "hold": (_scan(tables.holds, "id"), ("",), rows.to_hold),
    "receipt": (_scan(tables.receipts, "slot", "actor", "key"), (-1, "", ""), rows.to_receipt),
    "record": (_scan(tables.records, "kind", "id", "slot"), ("", "", -1), rows.to_record),
}
"""Statement, the key below all others, and how to read a row."""

TOTALS: Final = """
SELECT currency, sum(customer)::bigint, sum(system)::bigint, sum(clearing)::bigint FROM (
  SELECT currency, sum(posted_minor) AS customer, 0 AS system, 0 AS clearing FROM accounts GROUP BY currency
  UNION ALL
  SELECT right(account_id, 3), 0, sum(amount_minor),
         coalesce(sum(amount_minor) FILTER (WHERE account_id LIKE 'sys:clearing/%'), 0)
  FROM system_entries GROUP BY 1
) AS parts GROUP BY currency ORDER BY currency
"""


def _page(select: str, account_id: str, page: PageRequest) -> tuple[str | int, ...]:
    """Statement and values of a keyset page on the primary key (account_id, sequence)."""
    where, values = ["e.account_id = $1"], [account_id]
    bounds: list[int] = []
    for operator, bound in (("<", page.before), (">", page.after)):
        if bound is not None:
            bounds.append(bound)
            where.append(f"e.sequence {operator} ${len(bounds) + 1}")
    order = "DESC" if page.newest_first else "ASC"
    text = f"{select} WHERE {' AND '.join(where)} ORDER BY e.sequence {order} LIMIT ${len(bounds) + 2}"
    return (text, *values, *bounds, page.limit + 1)


def history_page(account_id: str, page: PageRequest) -> tuple[Any, ...]:
    """Statement and values for a page of entries with their transfers."""
    columns = f"{_named(tables.entries, 'e.')}, {_named(tables.transfers, 't.')}"
    joined = "entries AS e JOIN transfers AS t ON t.id = e.transfer_id"
    return _page(f"SELECT {columns} FROM {joined}", account_id, page)  # noqa: S608 - own names


def _writes_nothing(table: Table) -> str:
    names = _named(table)
    return f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {table.name} WHERE false"  # noqa: S608 - as above


_ADDED_TO: Final = (tables.accounts, tables.transfers, tables.entries, tables.holds, tables.receipts, tables.records)
_UPDATED: Final = {"accounts": "status = status", "holds": "state = state", "records": "version = version"}

CAN_WRITE: Final = "; ".join(
    [
        *map(_writes_nothing, _ADDED_TO),
        *(f"UPDATE {table} SET {change} WHERE false" for table, change in _UPDATED.items()),  # noqa: S608 - as above
    ]
)
"""Writes and locks no row, but fails where a commit would: on a standby, when read-only, without a right."""
