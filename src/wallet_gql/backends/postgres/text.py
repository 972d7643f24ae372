"""Postgres' dialect, and the statements that only Postgres runs beside its functions."""

from __future__ import annotations

from typing import Any, Final

from ...domain.money import BALANCE_MAX_MINOR
from ...storage import PageRequest
from ..kit.kinds import ACCOUNT, ENTRY, HOLD, RECEIPT, RECORD, TRANSFER, Kind
from ..relational.statements import Dialect, Statements

STATEMENTS: Final = Statements(
    Dialect(mark="${}".format, among=lambda column, mark: f"{column} = ANY({mark})", listing=list)
)

_PAGE: Final = f"""
SELECT {ENTRY.names("e.")}, {", ".join(f"t.{c.name} AS t_{c.name}" for c in TRANSFER.columns)}
FROM entries AS e JOIN transfers AS t ON t.id = e.transfer_id
WHERE e.account_id = a.account_id AND e.sequence < a.before AND e.sequence > a.after
"""  # noqa: S608 - names of our own tables
_ASKED: Final = "unnest($1::text[], $2::bigint[], $3::bigint[], $4::int[]) WITH ORDINALITY AS a"


def _pages(order: str) -> str:
    page = f"{_PAGE} ORDER BY e.sequence {order} LIMIT a.most"
    return (
        f"SELECT a.place, x.* FROM {_ASKED} (account_id, before, after, most, place) "  # noqa: S608 - as above
        f"CROSS JOIN LATERAL ({page}) AS x ORDER BY a.place, x.sequence {order}"
    )


PAGES: Final = {True: _pages("DESC"), False: _pages("ASC")}
"""Several pages of history at once, newest first or oldest first. Each row begins with its page's place, from 1.

The values are the accounts and, for each of them, the values that `bounds` returns.
"""


def bounds(page: PageRequest) -> tuple[int, int, int]:
    """The sequence below which a page lies, the one above which it lies, and its largest number of rows."""
    before = BALANCE_MAX_MINOR if page.before is None else page.before
    return before, -1 if page.after is None else page.after, page.limit + 1


CLOSE_GATE: Final = "SET LOCAL lock_timeout = '10s'; SELECT pg_advisory_xact_lock(7205759403792794)"

_INTENT: Final = f"SELECT {TRANSFER.names('t.')} FROM intents AS i JOIN transfers AS t ON t.id = i.transfer_id"  # noqa: S608 - names of our own tables
_FIRST: Final = f"{_INTENT} WHERE i.peer = p.peer ORDER BY i.transfer_id LIMIT $2"
OPEN_AMONG: Final = f"{_INTENT} WHERE i.peer = ANY ($1) AND i.transfer_id = ANY ($2)"
OPEN_INTENTS: Final = f"SELECT x.* FROM unnest($1::text[]) AS p(peer) CROSS JOIN LATERAL ({_FIRST}) AS x"  # noqa: S608 - as above
"""At most this many per peer, so that a peer that is down does not hide the intents of others."""

CLOSE_INTENTS: Final = """
WITH lazily AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
DELETE FROM intents USING lazily WHERE peer = $1 AND transfer_id = ANY($2)
"""
"""This need not reach the disk: an intent that a crash opens again is found applied, and closed again."""

COUNT_INTENTS: Final = "SELECT count(*) FROM intents"


def _writes_nothing(kind: Kind[Any]) -> str:
    names = kind.names()
    return f"INSERT INTO {kind.table} ({names}) SELECT {names} FROM {kind.table} WHERE false"  # noqa: S608 - own names


_ADDED_TO: Final = (ACCOUNT, TRANSFER, ENTRY, HOLD, RECEIPT, RECORD)
_UPDATED: Final = {"accounts": "status = status", "holds": "state = state", "records": "version = version"}

CAN_WRITE: Final = "; ".join(
    [
        *(_writes_nothing(kind) for kind in _ADDED_TO),
        *(f"UPDATE {table} SET {change} WHERE false" for table, change in _UPDATED.items()),  # noqa: S608 - as above
    ]
)
"""Writes and locks no row, but fails where a commit would fail: on a standby, if read-only, without a right."""
