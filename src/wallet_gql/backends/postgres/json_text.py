"""The input and output of the database functions, as JSON text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, TypeVar

import orjson

from ...domain.changes import State, Writes
from ...domain.codec import to_micros
from ..kit.kinds import ACCOUNT, ADDED, HOLD, RECEIPT, RECORD, TRANSFER, Kind
from ..kit.wanted import Wanted, load_found
from ..relational import rows

R = TypeVar("R")


def wish(wanted: Wanted, **more: Any) -> str:
    """The input of `wallet_load` and `wallet_claim`."""
    return orjson.dumps(
        {
            **more,
            "accounts": [*wanted.accounts, *wanted.credits],
            "wallets": list(wanted.wallets),
            "holds": list(wanted.holds),
            "transfers": list(wanted.transfers),
            "receipts": list(wanted.receipts),
            "records": [(key.kind, key.id, key.slot) for key in wanted.records],
            "due_at": None if wanted.due_at is None else to_micros(wanted.due_at),
            "open_holds": wanted.open_holds,
        }
    ).decode()


def fill(state: State, wanted: Wanted, found: dict[str, Any]) -> None:
    """Put the output of `wallet_load` into the state."""

    def read(kind: Kind[R], name: str) -> Iterator[R]:
        return map(kind.from_row, found[name] or ())

    load_found(
        state,
        wanted,
        accounts=read(ACCOUNT, "accounts"),
        holds=chain(read(HOLD, "open_holds"), read(HOLD, "holds")),
        transfers=((TRANSFER.from_row(row[:-1]), row[-1]) for row in found["transfers"] or ()),
        receipts=read(RECEIPT, "receipts"),
        records=read(RECORD, "records"),
    )


def given(writes: Writes, **more: Any) -> str:
    """The input of `wallet_write`, as JSON text: the writes, and `more` beside them."""
    changed = writes.records.items()
    updated = [(before, after) for _, (before, after) in changed if before is not None and after is not None]
    named: dict[str, Any] = {
        **{name: list(map(kind.to_row, getattr(writes, name))) for name, kind in ADDED.items()},
        "accounts": [rows.account_update(before, after) for before, after in writes.accounts.values()],
        "closed": list(map(rows.closing_row, writes.closed)),
        "created": [RECORD.to_row(after) for _, (before, after) in changed if before is None and after is not None],
        "updated": [(*RECORD.to_row(after), before.version) for before, after in updated],
        "removed": [(k.kind, k.id, k.slot) for k, (before, after) in changed if before is not None and after is None],
    }
    return orjson.dumps({**{name: found for name, found in named.items() if found}, **more}).decode()
