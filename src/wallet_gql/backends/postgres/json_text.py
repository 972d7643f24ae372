"""The input and output of the database functions, as JSON text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, TypeVar

import orjson

from ...domain.changes import State, Writes
from ...domain.codec import from_micros, to_micros
from ...domain.frozen import frozen
from ...domain.model import PendingCredit
from ..kit.kinds import ACCOUNT, ADDED, HOLD, RECEIPT, RECORD, TRANSFER, Row
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
    """Put the output of `wallet_load` into the state. Pending credits that it lists become entries."""
    load_found(
        state,
        wanted,
        accounts=map(ACCOUNT.from_row, found["accounts"] or ()),
        holds=map(HOLD.from_row, chain(found["open_holds"] or (), found["holds"] or ())),
        transfers=[(TRANSFER.from_row(row[:-1]), row[-1]) for row in found["transfers"] or ()],
        receipts=map(RECEIPT.from_row, found["receipts"] or ()),
        records=map(RECORD.from_row, found["records"] or ()),
    )
    pending = found.get("pending") or {}
    state.pending.update((account_id, (int(text), count)) for account_id, text, count in pending.get("sums") or ())
    if pending.get("credits"):
        _receive(state, pending["share"], pending["credits"])


@frozen
class StoredCredit(PendingCredit):
    """A pending credit as stored, with its place in the table."""

    place: str


def _receive(state: State, share: int, found: Sequence[Row]) -> None:
    """Receive each account's share. One more row of an account says that it has a backlog."""
    of_each = [list(rows_) for _, rows_ in groupby(found, itemgetter(0))]
    first = [row for some in of_each for row in some[:share]]
    state.receive_pending(map(_stored, first), (some[0][0] for some in of_each if len(some) > share))


def _stored(row: Row) -> StoredCredit:
    account_id, transfer_id, amount_minor, at, place = row
    return StoredCredit(account_id, transfer_id, amount_minor, from_micros(at), place)


def _place(credit: PendingCredit) -> str:
    assert isinstance(credit, StoredCredit), "what is received was read from the table"
    return credit.place


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
        "pending": [(c.account_id, c.transfer_id, c.amount_minor, to_micros(c.at)) for c in writes.pending],
        "received": list(map(_place, writes.received)),
        "removed": [(k.kind, k.id, k.slot) for k, (before, after) in changed if before is not None and after is None],
    }
    return orjson.dumps({**{name: found for name, found in named.items() if found}, **more}).decode()
