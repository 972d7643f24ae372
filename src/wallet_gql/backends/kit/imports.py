"""Importing scanned items (`Store.load_raw`): what each node has to write, for every backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ...domain.changes import Writes
from ...domain.errors import InvariantViolated
from ...domain.ids import AccountId, TransferId, slot_of
from ...domain.model import Entry, PendingCredit, Record, Transfer
from ...storage import JournalItem, ScanItem
from .kinds import ADDED, KIND_OF
from .nodes import NodeMap

_LISTS = {kind: name for name, kind in ADDED.items()}


def sorted_by_node(items: Iterable[ScanItem], nodes: NodeMap, *, keeps_pending: bool = False) -> dict[str, Writes]:
    """The items by the node that they belong to, without nodes that get nothing.

    Raises:
        InvariantViolated: an entry does not follow from its transfer's header, or a record comes twice, or a credit is
            pending and the store keeps none so.
    """
    parts: dict[str, Writes] = {}

    def part(slot: int) -> Writes:
        return parts.setdefault(nodes.home(slot), Writes())

    for item in items:
        if isinstance(item, JournalItem):
            item.check()
            if item.pending and not keeps_pending:
                raise InvariantViolated(f"the credit of {item.transfer.id} was never received; import it into nodes")
            for entry in item.entries:
                part(slot_of(entry.account_id)).entries.append(entry)
            for credit in item.pending:
                part(slot_of(credit.account_id)).pending.append(credit)
            # Between two system accounts nothing but the header says where it belongs.
            slots = [slot_of(line.account_id) for line in item.lines] or [item.transfer.slot]
            for name in {nodes.home(slot) for slot in slots}:
                parts.setdefault(name, Writes()).transfers.append(item.transfer)
        elif isinstance(item, Record):
            records = part(item.slot).records
            if item.key in records:
                raise InvariantViolated(f"imported twice: {item}")
            records[item.key] = (None, item)
        else:
            kind = KIND_OF[type(item)]
            getattr(part(kind.slot(item)), _LISTS[kind]).append(item)
    return parts


def unknown_accounts(writes: Writes) -> list[AccountId]:
    """The accounts of imported entries that are not imported with them: the node must already have them."""
    named = {entry.account_id for entry in writes.entries} | {credit.account_id for credit in writes.pending}
    return list(named - {account.id for account in writes.opened})


def completed(
    writes: Writes, known: Mapping[TransferId, Transfer], currencies: Mapping[AccountId, str], node: str, nodes: NodeMap
) -> Writes:
    """The import with its system entries, without transfers that the node has from an earlier part of it.

    Args:
        known: which of the transfers the node has, by id.
        currencies: those of `unknown_accounts`, as far as the node has them, by the account's id.

    Raises:
        InvariantViolated: an account is not there, or has another currency than its transfer; or the node has a
            transfer with this id that is another one.
    """
    every = {**currencies, **{account.id: account.currency for account in writes.opened}}
    of = {transfer.id: transfer for transfer in writes.transfers}
    lines: list[Entry | PendingCredit] = [*writes.entries, *writes.pending]
    for line in lines:
        currency = of[line.transfer_id].currency
        if every.get(line.account_id) != currency:
            raise InvariantViolated(f"transfer {line.transfer_id}: {line.account_id} is no {currency} account here")
    for transfer in writes.transfers:
        if known.get(transfer.id, of[transfer.id]) != transfer:
            raise InvariantViolated(f"transfer {transfer.id} is here already, and is another one")
    fresh = {transfer.id: transfer for transfer in writes.transfers if transfer.id not in known}
    system = [line for transfer in fresh.values() for line in nodes.system_lines(transfer, node)]
    return replace(writes, transfers=list(fresh.values()), system_entries=system)
