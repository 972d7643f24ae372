"""The rows that a commit writes, and how its credits and sums follow from it."""

from __future__ import annotations

from collections.abc import Mapping

from ...domain.changes import State, Writes
from ...domain.ids import AccountId, TransferId, is_clearing
from ...domain.model import Account, Hold, Record
from ..kit.kinds import ACCOUNT, ENTRY, HOLD, RECEIPT, RECORD, SYSTEM_ENTRY, TRANSFER
from .partition import Draft, Sums
from .tables import Names, Op, bucketed, record_key, row_of, text_of, transfer_key


def draft_of(state: State, result: object, version: int, reversed_minor: Mapping[TransferId, int]) -> Draft:
    """The commit that makes `version` from a decided state.

    `reversed_minor` are the sums of reversals as loaded.
    """
    writes, partition = state.writes, state.node
    moved: dict[AccountId, Account] = {account.id: state.accounts[account.id] for account in writes.opened}
    moved.update((name, after) for name, (_, after) in writes.accounts.items())
    ops = [
        *account_rows(moved, writes.opened),
        *journal_rows(writes, partition),
        *reversal_rows(writes, partition, reversed_minor),
        *_hold_rows(state, partition),
        *(("receipt", [text_of(r.slot, r.actor, r.key), row_of(RECEIPT, r)]) for r in writes.receipts),
        *_record_rows(writes, partition),
        *_intent_rows(writes, partition, version),
    ]
    before = {account_id: before for account_id, (before, _) in writes.accounts.items()}
    fresh: dict[str, list[str]] = {
        "account": [account.id for account in writes.opened],
        "hold": [hold.id for hold in writes.placed],
        "transfer": [transfer_key(partition, transfer.id) for transfer in writes.transfers],
    }
    return Draft(result, ops, moved, sums_of_writes(writes, moved, before), fresh)


def account_rows(accounts: Mapping[AccountId, Account], opened: list[Account]) -> list[Op]:
    """The rows of accounts as they are now, and the rows that list new ones in their owners' wallets."""
    found: list[Op] = [("account", [account.id, row_of(ACCOUNT, account)]) for account in accounts.values()]
    return found + [("wallet", [account.owner, account.id]) for account in opened]


def journal_rows(writes: Writes, partition: str) -> list[Op]:
    """The rows of transfers with all their entries on this node, and of each entry alone with a copy of its header."""
    headers = {transfer.id: row_of(TRANSFER, transfer) for transfer in writes.transfers}
    entries: dict[str, list[str]] = {name: [] for name in headers}
    lines: dict[str, list[str]] = {name: [] for name in headers}
    ops: list[Op] = []
    for entry in writes.entries:
        row = row_of(ENTRY, entry)
        entries[entry.transfer_id].append(row)
        key = bucketed(entry.account_id, entry.sequence)
        ops.append(("entry", [key, entry.sequence, row, headers[entry.transfer_id]]))
    for line in writes.system_entries:
        lines[line.transfer_id].append(row_of(SYSTEM_ENTRY, line))
    for name, header in headers.items():
        ops.append(("transfer", [transfer_key(partition, name), journal_text(header, entries[name], lines[name])]))
    return ops


def journal_text(header: str, entries: list[str], lines: list[str]) -> str:
    """The row of a transfer: its header, and its entries and system entries on this node, each as JSON text."""
    return f"[{header},[{','.join(entries)}],[{','.join(lines)}]]"


def reversal_rows(writes: Writes, partition: str, reversed_minor: Mapping[TransferId, int]) -> list[Op]:
    """The new sums of reversals of the transfers that are reversed; `reversed_minor` are the old sums."""
    sums: dict[TransferId, int] = {}
    for transfer in writes.transfers:
        if transfer.reverses is not None:
            before = sums.get(transfer.reverses, reversed_minor.get(transfer.reverses, 0))
            sums[transfer.reverses] = before + transfer.amount_minor
    return [("reversed", [transfer_key(partition, name), total]) for name, total in sums.items()]


def _hold_rows(state: State, partition: str) -> list[Op]:
    placed = {hold.id for hold in state.writes.placed}
    ops: list[Op] = []
    for hold_id in sorted(placed | {hold.id for hold in state.writes.closed}):
        after = state.holds[hold_id]
        ops.append(("hold", [hold_id, row_of(HOLD, after)]))
        before = None if hold_id in placed else _as_open(after)
        ops += Names.of_hold(before, partition).becoming(Names.of_hold(after, partition))
    return ops


def _as_open(hold: Hold) -> Hold:
    """The hold as it was placed."""
    return Hold(
        hold.id,
        hold.account_id,
        hold.payee_account_id,
        hold.closer,
        hold.amount_minor,
        hold.currency,
        hold.created_at,
        hold.expires_at,
    )


def _record_rows(writes: Writes, partition: str) -> list[Op]:
    ops: list[Op] = []
    for key, (before, after) in writes.records.items():
        ops += record_rows(before, after, partition)
        if after is None:
            ops.append(("drop_record", [record_key(key)]))
    return ops


def record_rows(before: Record | None, after: Record | None, partition: str) -> list[Op]:
    """The row of a record as it is now, and the rows of names that lead to it."""
    ops: list[Op] = [("record", [record_key(after.key), row_of(RECORD, after)])] if after is not None else []
    return ops + Names.of_record(before, partition).becoming(Names.of_record(after, partition))


def _intent_rows(writes: Writes, partition: str, version: int) -> list[Op]:
    key = bucketed(partition, version)
    headers = ((credit.transfer.id, row_of(TRANSFER, credit.transfer)) for credit in writes.credits)
    return [("intent", [key, version, transfer_id, header]) for transfer_id, header in headers]


def sums_of_writes(writes: Writes, moved: Mapping[AccountId, Account], before: Mapping[AccountId, Account]) -> Sums:
    """What a commit adds to the sums of its partition."""
    sums: dict[str, list[int]] = {}
    for account_id, account in moved.items():
        old = before.get(account_id)
        sums.setdefault(account.currency, [0, 0, 0])[0] += account.posted_minor - (old.posted_minor if old else 0)
    for line in writes.system_entries:
        row = sums.setdefault(line.currency, [0, 0, 0])
        row[1] += line.amount_minor
        row[2] += line.amount_minor if is_clearing(line.account_id) else 0
    return {currency: (row[0], row[1], row[2]) for currency, row in sums.items()}
