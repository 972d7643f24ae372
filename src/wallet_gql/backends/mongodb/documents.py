"""Documents of the MongoDB backend to records of the domain and back.

Every whole number of 64 bits (money, sequences, versions, microseconds since 1970) is written as BSON `long`, never as
`double`; the validators of `schema.py` refuse anything else. Every document carries the `slot` of what it
belongs to: the shard key, should there ever be shards. A key of several parts is the `_id` itself, as an embedded
document in a fixed order, so that uniqueness costs no second index. A field that is None is left out.

`guard` counts the commits whose scope held the record, whether or not they changed it: what makes two such commits
collide (snapshot isolation alone would let them pass each other).
"""

from __future__ import annotations

import json
from typing import Any

from bson.int64 import Int64

from ...domain.codec import from_micros, to_micros
from ...domain.errors import InvariantViolated
from ...domain.ids import slot_of
from ...domain.model import (
    Account,
    AccountStatus,
    Entry,
    Hold,
    HoldState,
    Receipt,
    Record,
    RecordKey,
    SystemEntry,
    Transfer,
    TransferKind,
)

Document = dict[str, Any]


def text(value: object) -> str:
    """The value, which must be plain text: nothing that a caller sends can become an operator in a filter."""
    if not isinstance(value, str):
        raise InvariantViolated(f"a filter wants text and was given {type(value).__name__}")
    return str(value)


def entry_id(account_id: str, sequence: int) -> Document:
    """The `_id` of an entry: an account's entries lie side by side, in order."""
    return {"account_id": text(account_id), "sequence": Int64(sequence)}


def system_entry_id(transfer_id: str, account_id: str) -> Document:
    """The `_id` of a system entry: one per transfer and system account."""
    return {"transfer_id": text(transfer_id), "account_id": text(account_id)}


def receipt_id(slot: int, actor: str, key: str) -> Document:
    """The `_id` of a receipt (G4)."""
    return {"slot": int(slot), "actor": text(actor), "key": text(key)}


def record_id(key: RecordKey) -> Document:
    """The `_id` of a record."""
    return {"kind": text(key.kind), "id": text(key.id), "slot": int(key.slot)}


def account_document(a: Account) -> Document:
    """As `accounts` has it."""
    return {
        "_id": a.id,
        "slot": a.slot,
        "owner": a.owner,
        "currency": a.currency,
        "created_at": Int64(to_micros(a.created_at)),
        "changed_at": Int64(to_micros(a.changed_at)),
        "status": a.status.value,
        "posted_minor": Int64(a.posted_minor),
        "held_minor": Int64(a.held_minor),
        "sequence": Int64(a.sequence),
        "guard": Int64(1),
    }


def to_account(d: Document) -> Account:
    """From a document of `accounts`."""
    return Account(
        d["_id"],
        d["owner"],
        d["currency"],
        from_micros(int(d["created_at"])),
        from_micros(int(d["changed_at"])),
        AccountStatus(d["status"]),
        int(d["posted_minor"]),
        int(d["held_minor"]),
        int(d["sequence"]),
    )


def account_moves(before: Account, after: Account) -> Document:
    """The update from one state of an account to the next: relative, so that the validator sees the true result."""
    return {
        "$inc": {
            "posted_minor": Int64(after.posted_minor - before.posted_minor),
            "held_minor": Int64(after.held_minor - before.held_minor),
            "guard": Int64(1),
        },
        "$set": {
            "sequence": Int64(after.sequence),
            "changed_at": Int64(to_micros(after.changed_at)),
            "status": after.status.value,
        },
    }


def entry_document(e: Entry) -> Document:
    """As `entries` has it."""
    return {
        "_id": entry_id(e.account_id, e.sequence),
        "slot": slot_of(e.account_id),
        "transfer_id": e.transfer_id,
        "amount_minor": Int64(e.amount_minor),
        "balance_minor": Int64(e.balance_minor),
        "at": Int64(to_micros(e.at)),
    }


def to_entry(d: Document) -> Entry:
    """From a document of `entries`."""
    name, at = d["_id"], from_micros(int(d["at"]))
    amounts = int(d["amount_minor"]), int(d["balance_minor"])
    return Entry(name["account_id"], int(name["sequence"]), d["transfer_id"], *amounts, at)


def system_entry_document(e: SystemEntry) -> Document:
    """As `system_entries` has it."""
    return {
        "_id": system_entry_id(e.transfer_id, e.account_id),
        "slot": slot_of(e.transfer_id),
        "currency": e.currency,
        "amount_minor": Int64(e.amount_minor),
        "at": Int64(to_micros(e.at)),
    }


def to_system_entry(d: Document) -> SystemEntry:
    """From a document of `system_entries`."""
    name = d["_id"]
    return SystemEntry(name["account_id"], name["transfer_id"], int(d["amount_minor"]), from_micros(int(d["at"])))


def transfer_document(t: Transfer) -> Document:
    """As `transfers` has it."""
    document: Document = {
        "_id": t.id,
        "slot": t.slot,
        "kind": t.kind.value,
        "debit_account_id": t.debit_account_id,
        "credit_account_id": t.credit_account_id,
        "amount_minor": Int64(t.amount_minor),
        "currency": t.currency,
        "at": Int64(to_micros(t.at)),
        "actor": t.actor,
        "idempotency_key": t.idempotency_key,
        "fee_minor": Int64(t.fee_minor),
        "reference": t.reference,
        "guard": Int64(1),
    }
    return document | _present(reverses=t.reverses, hold_id=t.hold_id)


def to_transfer(d: Document) -> Transfer:
    """From a document of `transfers`."""
    return Transfer(
        d["_id"],
        TransferKind(d["kind"]),
        d["debit_account_id"],
        d["credit_account_id"],
        int(d["amount_minor"]),
        d["currency"],
        from_micros(int(d["at"])),
        d["actor"],
        d["idempotency_key"],
        int(d["fee_minor"]),
        d.get("reverses"),
        d.get("hold_id"),
        d["reference"],
    )


def hold_document(h: Hold) -> Document:
    """As `holds` has it."""
    document: Document = {
        "_id": h.id,
        "slot": slot_of(h.id),
        "account_id": h.account_id,
        "payee_account_id": h.payee_account_id,
        "closer": h.closer,
        "amount_minor": Int64(h.amount_minor),
        "currency": h.currency,
        "created_at": Int64(to_micros(h.created_at)),
        "state": h.state.value,
        "captured_minor": Int64(h.captured_minor),
        "reference": h.reference,
        "guard": Int64(1),
    }
    times = _present(expires_at=_micros(h.expires_at), closed_at=_micros(h.closed_at))
    return document | times | _present(transfer_id=h.transfer_id)


def hold_closing(h: Hold) -> Document:
    """The update that closes an open hold."""
    closed = {
        "state": h.state.value,
        "captured_minor": Int64(h.captured_minor),
        "closed_at": _micros(h.closed_at),
    }
    return {"$set": closed | _present(transfer_id=h.transfer_id), "$inc": {"guard": Int64(1)}}


def to_hold(d: Document) -> Hold:
    """From a document of `holds`."""
    expires_at, closed_at = d.get("expires_at"), d.get("closed_at")
    return Hold(
        d["_id"],
        d["account_id"],
        d["payee_account_id"],
        d["closer"],
        int(d["amount_minor"]),
        d["currency"],
        from_micros(int(d["created_at"])),
        None if expires_at is None else from_micros(int(expires_at)),
        HoldState(d["state"]),
        int(d["captured_minor"]),
        None if closed_at is None else from_micros(int(closed_at)),
        d.get("transfer_id"),
        d["reference"],
    )


def receipt_document(r: Receipt) -> Document:
    """As `receipts` has it."""
    document: Document = {
        "_id": receipt_id(r.slot, r.actor, r.key),
        "slot": r.slot,
        "operation": r.operation,
        "fingerprint": r.fingerprint,
        "at": Int64(to_micros(r.at)),
    }
    return document | _present(transfer_id=r.transfer_id, outcome=r.outcome, leader=r.leader)


def to_receipt(d: Document) -> Receipt:
    """From a document of `receipts`."""
    name = d["_id"]
    answer = d.get("transfer_id"), d.get("outcome"), d.get("leader")
    words = d["operation"], d["fingerprint"], from_micros(int(d["at"]))
    return Receipt(int(name["slot"]), name["actor"], name["key"], *words, *answer)


def record_document(r: Record) -> Document:
    """As `records` has it. The body is JSON text: what callers put into it never is a field name of ours."""
    document: Document = {
        "_id": record_id(r.key),
        "slot": r.slot,
        "owner": r.owner,
        "version": Int64(r.version),
        "body": json.dumps(r.body, sort_keys=True, separators=(",", ":")),
        "guard": Int64(1),
    }
    return document | _present(due_at=_micros(r.due_at))


def to_record(d: Document) -> Record:
    """From a document of `records`."""
    name, due_at = d["_id"], d.get("due_at")
    times = None if due_at is None else from_micros(int(due_at))
    numbers = int(name["slot"]), d["owner"], int(d["version"])
    return Record(name["kind"], name["id"], *numbers, json.loads(d["body"]), times)


def _micros(at: Any) -> Int64 | None:
    return None if at is None else Int64(to_micros(at))


def _present(**values: object) -> Document:
    return {name: value for name, value in values.items() if value is not None}
