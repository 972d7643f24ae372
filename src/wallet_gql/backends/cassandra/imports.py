"""Importing scanned items (`load_raw`): the checks on them, and the commits that write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ...domain.changes import Writes
from ...domain.errors import InvariantViolated
from ...domain.ids import TransferId
from ...domain.model import Account
from ...storage import ScanItem
from ..kit.imports import completed, sorted_by_node, unknown_accounts
from ..kit.kinds import HOLD, RECEIPT, TRANSFER
from ..kit.nodes import NodeMap
from .batch import account_rows, journal_rows, journal_text, record_rows, reversal_rows, sums_of_writes
from .client import Client
from .decide import known_keys
from .load import rows
from .partition import Draft, Partition, Register
from .tables import Names, Op, record_key, row_of, text_of, transfer_key, values_of

_CHUNK: Final = 200
"""The most items in one commit."""


async def import_items(
    client: Client, partitions: Mapping[str, Partition], nodes: NodeMap, items: Sequence[ScanItem], deadline: float
) -> None:
    """Write items, some per commit. Raises InvariantViolated if they contradict one another or the stored ones."""
    for start in range(0, len(items), _CHUNK):
        for name, writes in sorted_by_node(items[start : start + _CHUNK], nodes).items():
            importing = _Importing(client, nodes, name, writes)
            await partitions[name].commit(importing.draft, deadline)


@dataclass(slots=True)
class _Importing:
    """The items that one partition gets in one commit."""

    client: Client
    nodes: NodeMap
    partition: str
    writes: Writes

    async def draft(self, base: Register) -> Draft:
        """Check all items against what is stored, and make rows of them."""
        writes = self.writes
        new: dict[str, list[str]] = {
            "account": [account.id for account in writes.opened],
            "hold": [hold.id for hold in writes.placed],
            "receipt": [text_of(r.slot, r.actor, r.key) for r in writes.receipts],
            "record": [record_key(key) for key in writes.records],
        }
        there = await known_keys(self.client, new)
        if there:
            raise InvariantViolated(f"imported twice: {min(there)}")
        known, reversed_minor = await self._transfers()
        headers = {TransferId(name): TRANSFER.from_row(values_of(row)[0]) for name, row in known.items()}
        accounts: dict[str, Account] = await rows(self.client, "account", unknown_accounts(writes))
        currencies = {account.id: account.currency for account in accounts.values()}
        fresh = completed(writes, headers, currencies, self.partition, self.nodes)
        moved = {account.id: account for account in writes.opened}
        merged = {transfer.id: transfer for transfer in writes.transfers}
        journal = Writes(transfers=list(merged.values()), entries=writes.entries, system_entries=fresh.system_entries)
        ops: list[Op] = [
            *account_rows(moved, writes.opened),
            *(self._with_known(op, known) for op in journal_rows(journal, self.partition)),
            *reversal_rows(fresh, self.partition, reversed_minor),
            *(("receipt", [text_of(r.slot, r.actor, r.key), row_of(RECEIPT, r)]) for r in writes.receipts),
        ]
        for hold in writes.placed:
            ops.append(("hold", [hold.id, row_of(HOLD, hold)]))
            ops += Names.of_hold(None, self.partition).becoming(Names.of_hold(hold, self.partition))
        for _, record in writes.records.values():
            ops += record_rows(None, record, self.partition)
        return Draft(None, ops, {}, sums_of_writes(fresh, moved, {}))

    async def _transfers(self) -> tuple[dict[str, str], dict[TransferId, int]]:
        """The rows of transfers that an earlier part of the import has stored, and the sums of reversals."""
        writes = self.writes
        keys = {transfer_key(self.partition, transfer.id): transfer for transfer in writes.transfers}
        undone = {transfer_key(self.partition, t.reverses): t.reverses for t in writes.transfers if t.reverses}
        found = await self.client.ask_keys("get_transfer", keys.keys() | undone.keys())
        known: dict[str, str] = {}
        for key, row, _ in found:
            if key in keys and row is not None:
                self._check_new(keys[key].id, row)
                known[keys[key].id] = row
        return known, {undone[key]: minor or 0 for key, _, minor in found if key in undone}

    def _check_new(self, transfer_id: str, row: str) -> None:
        """Check that the transfer's entries here are not stored yet."""
        _, entries, _ = values_of(row)
        listed = {(entry[0], entry[1]) for entry in entries}
        mine = [entry for entry in self.writes.entries if entry.transfer_id == transfer_id]
        if any((entry.account_id, entry.sequence) in listed for entry in mine) or not mine:
            raise InvariantViolated(f"imported twice: a part of transfer {transfer_id}")

    def _with_known(self, op: Op, known: Mapping[str, str]) -> Op:
        """A transfer's row, joined with the row that an earlier part of the import has stored."""
        name, values = op
        transfer_id = values[0].partition(" ")[2] if name == "transfer" else ""
        if transfer_id not in known:
            return op
        header, entries, lines = values_of(known[transfer_id])
        _, more, _ = values_of(values[1])
        listed = [text_of(*entry) for entry in (*entries, *more)]
        return name, [values[0], journal_text(text_of(*header), listed, [text_of(*line) for line in lines])]
