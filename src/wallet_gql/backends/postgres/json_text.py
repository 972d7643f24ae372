"""What the functions of the migrations are given and give, as JSON text."""

from __future__ import annotations

from typing import Any

import orjson

from ...domain.changes import State, Writes
from ...domain.codec import to_micros
from ...domain.ids import slot_of
from ..kit.group_commit import Wanted
from ..kit.nodes import NodeMap
from ..relational import rows


def wish(wanted: Wanted, **more: Any) -> str:
    """What `wallet_load` and `wallet_claim` are asked for."""
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
    """Put what `wallet_load` brought into the state."""
    accounts = [rows.to_account(row) for row in found["accounts"] or ()]
    for account in accounts:
        state.load_account(account)
    for owner in wanted.wallets:
        state.load_wallet(owner, [account for account in accounts if account.owner == owner])
    for row in (*(found["open_holds"] or ()), *(found["holds"] or ())):
        state.load_hold(rows.to_hold(row))
    for row in found["transfers"] or ():
        state.load_transfer(rows.to_transfer(row[:-1]), row[-1])
    for row in found["receipts"] or ():
        state.load_receipt(rows.to_receipt(row))
    for row in found["records"] or ():
        record = rows.to_record(row)
        state.records[record.key] = record


def given(writes: Writes, **more: Any) -> str:
    """What `wallet_write` is given, as JSON text: what there is to write, and `more` beside it."""
    changed = writes.records.items()
    updated = [(before, after) for _, (before, after) in changed if before is not None and after is not None]
    named: dict[str, Any] = {
        "opened": [rows.account_row(account) for account in writes.opened],
        "accounts": [rows.account_update(before, after) for before, after in writes.accounts.values()],
        "transfers": [rows.transfer_row(transfer) for transfer in writes.transfers],
        "entries": [rows.entry_row(entry) for entry in writes.entries],
        "system_entries": [rows.system_entry_row(line) for line in writes.system_entries],
        "placed": [rows.hold_row(hold) for hold in writes.placed],
        "closed": [(*rows.hold_row(hold)[8:12], hold.id) for hold in writes.closed],
        "receipts": [rows.receipt_row(receipt) for receipt in writes.receipts],
        "created": [rows.record_row(after) for _, (before, after) in changed if before is None and after is not None],
        "updated": [(*rows.record_row(after), before.version) for before, after in updated],
        "removed": [(k.kind, k.id, k.slot) for k, (before, after) in changed if before is not None and after is None],
    }
    return orjson.dumps({**{name: found for name, found in named.items() if found}, **more}).decode()


def split(wanted: Wanted, nodes: NodeMap) -> dict[str, Wanted]:
    """The same wish, by node."""
    parts: dict[str, Wanted] = {}

    def part(slot: int) -> Wanted:
        name = nodes.home(slot)
        if name not in parts:
            parts[name] = Wanted(due_at=wanted.due_at, open_holds=wanted.open_holds)
        return parts[name]

    for account_id in wanted.accounts:
        part(slot_of(account_id)).accounts.add(account_id)
    for account_id in wanted.credits:
        part(slot_of(account_id)).credits.add(account_id)
    for owner in wanted.wallets:
        part(slot_of(owner)).wallets.add(owner)
    for hold_id in wanted.holds:
        part(slot_of(hold_id)).holds.add(hold_id)
    for transfer_id in wanted.transfers:
        part(slot_of(transfer_id)).transfers.add(transfer_id)
    for receipt in wanted.receipts:
        part(receipt[0]).receipts.add(receipt)
    for key in wanted.records:
        part(key.slot).records.add(key)
    return parts
