"""Loading and writing one batch on the writer's connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from itertools import chain

from ...domain.changes import State, Writes
from ...domain.codec import to_micros
from ...domain.errors import InvariantViolated
from ..kit.kinds import ACCOUNT, HOLD, RECEIPT, RECORD, TRANSFER, Row
from ..kit.wanted import Wanted, load_found
from ..relational import rows
from . import text as sql


def load(connection: sqlite3.Connection, state: State, wanted: Wanted) -> None:
    """Load what a batch needs into its state."""

    def found(statement: str, names: Iterable[object], *more: object) -> Iterable[Row]:
        names = list(names)
        return connection.execute(statement, (json.dumps(names), *more)) if names else ()

    named = [ACCOUNT.from_row(row) for row in found(sql.ACCOUNTS, wanted.accounts | wanted.credits)]
    owned = map(ACCOUNT.from_row, found(sql.WALLETS, wanted.wallets))
    held: Iterable[Row] = ()
    if wanted.due_at is not None or wanted.open_holds:
        holding = [a.id for a in named if a.held_minor and a.id in wanted.accounts]
        until = () if wanted.open_holds or wanted.due_at is None else (to_micros(wanted.due_at),)
        held = found(sql.HOLDS_DUE if until else sql.OPEN_HOLDS, holding, *until)
    load_found(
        state,
        wanted,
        accounts=chain(named, owned),
        holds=map(HOLD.from_row, chain(held, found(sql.HOLDS, wanted.holds))),
        transfers=((TRANSFER.from_row(row[:-1]), row[-1]) for row in found(sql.TRANSFERS, wanted.transfers)),
        receipts=map(RECEIPT.from_row, found(sql.RECEIPTS, wanted.receipts)),
        records=map(RECORD.from_row, found(sql.RECORDS, [(key.kind, key.id, key.slot) for key in wanted.records])),
    )


def write(connection: sqlite3.Connection, writes: Writes) -> None:
    """Write a batch. Raises InvariantViolated if a row is not as loaded, which means a bug in a rule or here."""
    try:
        for before, after in writes.accounts.values():
            row = (*rows.account_moves(before, after), after.id, before.sequence)
            _exactly_one(connection.execute(sql.UPDATE_ACCOUNT, row).rowcount, after.id)
            if after.status is not before.status:
                connection.execute(sql.SET_STATUS, (after.status.value, after.id))
        for name, (insert, to_row) in sql.INSERTS.items():
            if added := getattr(writes, name):
                connection.executemany(insert, map(to_row, added))
        for hold in writes.closed:
            _exactly_one(connection.execute(sql.CLOSE_HOLD, rows.closing_row(hold)).rowcount, hold.id)
        for key, (record_before, record) in writes.records.items():
            if record is not None:
                version = record_before.version if record_before else 0
                row = (*RECORD.to_row(record), version)
                _exactly_one(connection.execute(sql.PUT_RECORD, row).rowcount, key.id)
            elif record_before is not None:
                connection.execute(sql.DELETE_RECORD, (key.kind, key.id, key.slot))
    except sqlite3.IntegrityError as error:
        raise InvariantViolated(f"SQLite refused a write: {error}") from error


def _exactly_one(count: int, identity: str) -> None:
    if count != 1:
        raise InvariantViolated(f"{count} rows of {identity} were as loaded, expected 1")
