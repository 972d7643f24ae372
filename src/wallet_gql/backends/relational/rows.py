"""Rows of the relational tables to records of the domain and back, column by column in the tables' order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from ...domain.codec import from_micros, to_micros
from ...domain.model import (
    Account,
    AccountStatus,
    Entry,
    Hold,
    HoldState,
    Receipt,
    Record,
    SystemEntry,
    Transfer,
    TransferKind,
)

Row = Sequence[Any]

_STATUSES: Final = {status.value: status for status in AccountStatus}


def account_row(a: Account) -> Row:
    """As `accounts` has it."""
    at = to_micros(a.created_at), to_micros(a.changed_at)
    return (a.id, a.owner, a.currency, *at, a.status.value, a.posted_minor, a.held_minor, a.sequence)


def account_update(before: Account, after: Account) -> Row:
    """A relative update: by how much, the new values, and which row it must still be."""
    moved = after.posted_minor - before.posted_minor, after.held_minor - before.held_minor
    return (*moved, after.sequence, to_micros(after.changed_at), after.status.value, after.id, before.sequence)


def to_account(row: Row) -> Account:
    """From a row of `accounts`."""
    identity, owner, currency, created_at, changed_at, status, posted, held, sequence = row
    times = from_micros(created_at), from_micros(changed_at)
    return Account(identity, owner, currency, *times, _STATUSES[status], posted, held, sequence)


def entry_row(e: Entry) -> Row:
    """As `entries` has it."""
    return (e.account_id, e.sequence, e.transfer_id, e.amount_minor, e.balance_minor, to_micros(e.at))


def to_entry(row: Row) -> Entry:
    """From a row of `entries`."""
    account_id, sequence, transfer_id, amount, balance, at = row
    return Entry(account_id, sequence, transfer_id, amount, balance, from_micros(at))


def system_entry_row(e: SystemEntry) -> Row:
    """As `system_entries` has it."""
    return (e.transfer_id, e.account_id, e.amount_minor, to_micros(e.at))


def to_system_entry(row: Row) -> SystemEntry:
    """From a row of `system_entries`."""
    return SystemEntry(row[1], row[0], row[2], from_micros(row[3]))


def transfer_row(t: Transfer) -> Row:
    """As `transfers` has it."""
    head = (t.id, t.kind.value, t.debit_account_id, t.credit_account_id, t.amount_minor, t.currency, to_micros(t.at))
    return (*head, t.actor, t.idempotency_key, t.fee_minor, t.reverses, t.hold_id, t.reference)


def to_transfer(row: Row) -> Transfer:
    """From a row of `transfers`."""
    identity, kind, debit, credit, amount, currency, at, *rest = row
    return Transfer(identity, TransferKind(kind), debit, credit, amount, currency, from_micros(at), *rest)


def hold_row(h: Hold) -> Row:
    """As `holds` has it."""
    expires_at = None if h.expires_at is None else to_micros(h.expires_at)
    closed_at = None if h.closed_at is None else to_micros(h.closed_at)
    head = (h.id, h.account_id, h.payee_account_id, h.closer, h.amount_minor, h.currency, to_micros(h.created_at))
    return (*head, expires_at, h.state.value, h.captured_minor, closed_at, h.transfer_id, h.reference)


def to_hold(row: Row) -> Hold:
    """From a row of `holds`."""
    identity, account, payee, closer, amount, currency, created_at, expires_at, state, captured, closed_at, *rest = row
    return Hold(
        identity,
        account,
        payee,
        closer,
        amount,
        currency,
        from_micros(created_at),
        None if expires_at is None else from_micros(expires_at),
        HoldState(state),
        captured,
        None if closed_at is None else from_micros(closed_at),
        *rest,
    )


def receipt_row(r: Receipt) -> Row:
    """As `receipts` has it."""
    name = (r.slot, r.actor, r.key, r.operation, r.fingerprint)
    return (*name, to_micros(r.at), r.transfer_id, r.outcome, r.leader)


def to_receipt(row: Row) -> Receipt:
    """From a row of `receipts`."""
    slot, actor, key, operation, fingerprint, at, *rest = row
    return Receipt(slot, actor, key, operation, fingerprint, from_micros(at), *rest)


def record_row(r: Record) -> Row:
    """As `records` has it."""
    body = json.dumps(r.body, sort_keys=True, separators=(",", ":"))
    return (r.kind, r.id, r.slot, r.owner, r.version, body, None if r.due_at is None else to_micros(r.due_at))


def to_record(row: Row) -> Record:
    """From a row of `records`."""
    kind, identity, slot, owner, version, body, due_at = row
    return Record(
        kind, identity, slot, owner, version, json.loads(body), None if due_at is None else from_micros(due_at)
    )
