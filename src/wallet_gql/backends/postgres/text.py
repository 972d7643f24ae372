"""Postgres' dialect, and the statements that only Postgres runs beside its functions."""

from __future__ import annotations

from typing import Any, Final

from ...domain.money import BALANCE_MAX_MINOR
from ...storage import PageRequest
from ..kit.kinds import ACCOUNT, ENTRY, HOLD, RECEIPT, RECORD, TRANSFER, Kind
from ..relational.statements import Dialect, Statements

STATEMENTS: Final = Statements(
    Dialect(
        mark="${}".format,
        among=lambda column, mark: f"{column} = ANY({mark})",
        listing=list,
        pending="pending_credits",
    )
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
        f"SELECT x.*, a.place FROM {_ASKED} (account_id, before, after, most, place) "  # noqa: S608 - as above
        f"CROSS JOIN LATERAL ({page}) AS x ORDER BY a.place, x.sequence {order}"
    )


PAGES: Final = {True: _pages("DESC"), False: _pages("ASC")}
"""Several pages of history at once, newest first or oldest first. Each row ends with its page's place, from 1.

The values are the accounts and, for each of them, the values that `bounds` returns.
"""


def bounds(page: PageRequest) -> tuple[int, int, int]:
    """The sequence below which a page lies, the one above which it lies, and its largest number of rows."""
    before = BALANCE_MAX_MINOR if page.before is None else page.before
    return before, -1 if page.after is None else page.after, page.limit + 1


CLOSE_GATE: Final = (
    "SET lock_timeout = '10s'; SET statement_timeout = '10s'; SET idle_session_timeout = 0; "
    "SELECT pg_advisory_lock(7205759403792794)"
)
"""Until the session ends, so that the session itself may still receive credits. It is idle meanwhile.

A wait for a lock also counts as time of its statement, so both limits are those of the gate.
"""

FACTS: Final = "SELECT id, owner, currency, status FROM accounts WHERE id = ANY ($1) AND wallet_at($2)"

COMMAND_MAX: Final = 32
"""The most transfers of one command, such as a payment with splits."""

CREDITS_OF: Final = f"""
SELECT first.id, other.id, other.credit_account_id
FROM transfers AS first
JOIN entries AS e ON e.transfer_id = first.id AND e.account_id = first.debit_account_id
JOIN entries AS x ON x.account_id = e.account_id AND x.sequence BETWEEN e.sequence AND e.sequence + {COMMAND_MAX}
JOIN transfers AS other ON other.id = x.transfer_id AND other.debit_account_id = first.debit_account_id
                           AND other.actor = first.actor AND other.at = first.at
WHERE first.id = ANY ($1)
"""  # noqa: S608 - a number of ours
"""The transfers of the commands whose first transfers are named: they debit one account, one after the other."""

WITH_PENDING: Final = "SELECT wallet_with_pending($1, $2)"
"""The next accounts after one that have pending credits, by id, at most so many."""

_INTENT: Final = f"SELECT {TRANSFER.names('t.')} FROM intents AS i JOIN transfers AS t ON t.id = i.transfer_id"  # noqa: S608 - names of our own tables
_FIRST: Final = f"{_INTENT} WHERE i.peer = p.peer ORDER BY i.transfer_id LIMIT $2"
_OF_SLOTS: Final = "substr(i.transfer_id, 18, 3) = ANY ($1) OR substr(t.credit_account_id, 18, 3) = ANY ($1)"
INTENTS_OF: Final = f"{_INTENT} WHERE {_OF_SLOTS}"
"""Those whose payer or payee is in one of the slots, which are written as ids have them."""
OPEN_AMONG: Final = f"{_INTENT} WHERE i.peer = ANY ($1) AND i.transfer_id = ANY ($2)"
OPEN_INTENTS: Final = f"SELECT x.* FROM unnest($1::text[]) AS p(peer) CROSS JOIN LATERAL ({_FIRST}) AS x"  # noqa: S608 - as above
"""At most this many per peer, so that a peer that is down does not hide the intents of others."""

CLOSE_INTENTS: Final = """
WITH lazily AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
DELETE FROM intents USING lazily WHERE peer = ANY ($1) AND transfer_id = ANY ($2)
"""
"""`peer` is where the payee was when the payment was decided; its slot may have moved since.

This need not reach the disk: an intent that a crash opens again is found applied, and closed again.
"""

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


def at_epoch(statement: str, count: int) -> str:
    """A read with `count` values, and the node's epoch as one more. The node refuses another epoch, in one snapshot."""
    return f"SELECT q.* FROM ({statement}) AS q WHERE wallet_at(${count + 1})"  # noqa: S608 - statements of ours
