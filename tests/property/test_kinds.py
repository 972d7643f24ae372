"""The kinds of records: the stored form of each kind is pinned here, with all fields and with the fewest.

A difference is a new format: it needs a migration, and old ledgers must still be readable.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import bson
import pytest

from wallet_gql.backends.kit.kinds import ADDED, KIND_OF, KINDS, SCANNED, Kind
from wallet_gql.backends.mongodb.documents import CODECS
from wallet_gql.backends.relational import tables
from wallet_gql.backends.sqlite.text import STATEMENTS
from wallet_gql.domain import codec
from wallet_gql.domain.changes import Writes
from wallet_gql.domain.ids import AccountId, HoldId, TransferId, UserId
from wallet_gql.domain.model import (
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
from wallet_gql.storage import SCAN_KINDS

EARLY: Final = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LATE: Final = EARLY + timedelta(days=1)
AT, END = 1767323045678901, 1767409445678901
USER: Final = UserId("usr_0000000000017ff28000000000000001")
PAYER: Final = AccountId("acc_00000000000171238000000000000001")
PAYEE: Final = AccountId("acc_00000000000170078000000000000002")
MOVED: Final = TransferId("trf_00000000000271238000000000000001")
UNDONE: Final = TransferId("trf_00000000000270078000000000000002")
HELD: Final = HoldId("hld_00000000000371238000000000000001")
CASH: Final = AccountId("sys:cash:EUR")

Pinned = tuple[str, Any, tuple[Any, ...], dict[str, Any]]

PINNED: Final[list[Pinned]] = [
    (
        "account",
        Account(PAYER, USER, "EUR", EARLY, LATE, AccountStatus.FROZEN, 900, 100, 12),
        (PAYER, USER, "EUR", AT, END, "frozen", 900, 100, 12),
        {
            "_id": PAYER,
            "slot": 291,
            "owner": USER,
            "currency": "EUR",
            "created_at": AT,
            "changed_at": END,
            "status": "frozen",
            "posted_minor": 900,
            "held_minor": 100,
            "sequence": 12,
            "guard": 1,
        },
    ),
    (
        "entry",
        Entry(PAYER, 12, MOVED, -350, 550, EARLY),
        (PAYER, 12, MOVED, -350, 550, AT),
        {
            "_id": {"account_id": PAYER, "sequence": 12},
            "slot": 291,
            "transfer_id": MOVED,
            "amount_minor": -350,
            "balance_minor": 550,
            "at": AT,
        },
    ),
    (
        "system_entry",
        SystemEntry(CASH, MOVED, 350, EARLY),
        (MOVED, CASH, 350, AT),
        {
            "_id": {"transfer_id": MOVED, "account_id": CASH},
            "slot": 291,
            "currency": "EUR",
            "amount_minor": 350,
            "at": AT,
        },
    ),
    (
        "transfer full",
        Transfer(
            MOVED, TransferKind.CAPTURE, PAYER, PAYEE, 350, "EUR", EARLY, "usr", "key-1", 50, UNDONE, HELD, "rent"
        ),
        (MOVED, "capture", PAYER, PAYEE, 350, "EUR", AT, "usr", "key-1", 50, UNDONE, HELD, "rent"),
        {
            "_id": MOVED,
            "slot": 291,
            "kind": "capture",
            "debit_account_id": PAYER,
            "credit_account_id": PAYEE,
            "amount_minor": 350,
            "currency": "EUR",
            "at": AT,
            "actor": "usr",
            "idempotency_key": "key-1",
            "fee_minor": 50,
            "reference": "rent",
            "guard": 1,
            "reverses": UNDONE,
            "hold_id": HELD,
        },
    ),
    (
        "transfer sparse",
        Transfer(MOVED, TransferKind.TRANSFER, PAYER, PAYEE, 350, "EUR", EARLY, "usr", "key-1"),
        (MOVED, "transfer", PAYER, PAYEE, 350, "EUR", AT, "usr", "key-1", 0, None, None, ""),
        {
            "_id": MOVED,
            "slot": 291,
            "kind": "transfer",
            "debit_account_id": PAYER,
            "credit_account_id": PAYEE,
            "amount_minor": 350,
            "currency": "EUR",
            "at": AT,
            "actor": "usr",
            "idempotency_key": "key-1",
            "fee_minor": 0,
            "reference": "",
            "guard": 1,
        },
    ),
    (
        "hold full",
        Hold(HELD, PAYER, PAYEE, "usr", 350, "EUR", EARLY, LATE, HoldState.CAPTURED, 300, LATE, MOVED, "rent"),
        (HELD, PAYER, PAYEE, "usr", 350, "EUR", AT, END, "captured", 300, END, MOVED, "rent"),
        {
            "_id": HELD,
            "slot": 291,
            "account_id": PAYER,
            "payee_account_id": PAYEE,
            "closer": "usr",
            "amount_minor": 350,
            "currency": "EUR",
            "created_at": AT,
            "state": "captured",
            "captured_minor": 300,
            "reference": "rent",
            "guard": 1,
            "expires_at": END,
            "closed_at": END,
            "transfer_id": MOVED,
        },
    ),
    (
        "hold sparse",
        Hold(HELD, PAYER, PAYEE, "usr", 350, "EUR", EARLY, None),
        (HELD, PAYER, PAYEE, "usr", 350, "EUR", AT, None, "open", 0, None, None, ""),
        {
            "_id": HELD,
            "slot": 291,
            "account_id": PAYER,
            "payee_account_id": PAYEE,
            "closer": "usr",
            "amount_minor": 350,
            "currency": "EUR",
            "created_at": AT,
            "state": "open",
            "captured_minor": 0,
            "reference": "",
            "guard": 1,
        },
    ),
    (
        "receipt full",
        Receipt(291, "usr", "key-1", "transfer", "f1", EARLY, MOVED, '{"a":1}', 7),
        (291, "usr", "key-1", "transfer", "f1", AT, MOVED, '{"a":1}', 7),
        {
            "_id": {"slot": 291, "actor": "usr", "key": "key-1"},
            "slot": 291,
            "operation": "transfer",
            "fingerprint": "f1",
            "at": AT,
            "transfer_id": MOVED,
            "outcome": '{"a":1}',
            "leader": 7,
        },
    ),
    (
        "receipt sparse",
        Receipt(291, "usr", "key-1", "transfer", "f1", EARLY),
        (291, "usr", "key-1", "transfer", "f1", AT, None, None, None),
        {
            "_id": {"slot": 291, "actor": "usr", "key": "key-1"},
            "slot": 291,
            "operation": "transfer",
            "fingerprint": "f1",
            "at": AT,
        },
    ),
    (
        "record full",
        Record("user", "u1", 291, "ann", 3, {"b": [1, "ä"], "a": None}, LATE),
        ("user", "u1", 291, "ann", 3, '{"a":null,"b":[1,"\\u00e4"]}', END),
        {
            "_id": {"kind": "user", "id": "u1", "slot": 291},
            "slot": 291,
            "owner": "ann",
            "version": 3,
            "body": '{"a":null,"b":[1,"\\u00e4"]}',
            "guard": 1,
            "due_at": END,
        },
    ),
    (
        "record sparse",
        Record("user", "u1", 291, "ann", 1),
        ("user", "u1", 291, "ann", 1, "{}", None),
        {
            "_id": {"kind": "user", "id": "u1", "slot": 291},
            "slot": 291,
            "owner": "ann",
            "version": 1,
            "body": "{}",
            "guard": 1,
        },
    ),
]

IDS: Final = [name for name, *_ in PINNED]

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.mark.parametrize(("record", "row"), [(record, row) for _, record, row, _ in PINNED], ids=IDS)
def test_the_row_of_a_record_is_what_it_always_was(record: Any, row: tuple[Any, ...]) -> None:
    """SQL backends and the functions of the Postgres nodes read it by position."""
    kind = KIND_OF[type(record)]
    assert kind.to_row(record) == row
    assert kind.from_row(row) == record


@pytest.mark.parametrize(("record", "document"), [(record, kept) for _, record, _, kept in PINNED], ids=IDS)
def test_the_document_of_a_record_is_what_it_always_was(record: Any, document: dict[str, Any]) -> None:
    """Byte for byte, the order of the fields included."""
    found = CODECS[KIND_OF[type(record)].name]
    pinned = {name: bson.Int64(v) if _is_long(name, v) else v for name, v in document.items()}
    if "sequence" in (identity := document["_id"]):
        pinned["_id"] = {**identity, "sequence": bson.Int64(identity["sequence"])}
    assert bson.encode(found.write(record)) == bson.encode(pinned)
    assert found.read(bson.decode(bson.encode(pinned))) == record


def _is_long(name: str, value: object) -> bool:
    """Slots are small numbers; every other one has 64 bits."""
    return isinstance(value, int) and name not in ("slot", "leader")


@each_kind
def test_a_kind_has_every_field_of_its_record_once(kind: Kind[Any]) -> None:
    """And so have its table and its collection; the key comes first."""
    names = [column.name for column in kind.columns]
    assert sorted(names) == sorted(field.name for field in fields(kind.model))
    assert tuple(names[: len(kind.key)]) == kind.key
    table = tables.metadata.tables[kind.table]
    assert [column.name for column in table.columns] == names
    assert tuple(column.name for column in table.primary_key.columns) == kind.key
    assert CODECS[kind.name].collection == kind.table


def test_every_list_of_kinds_is_complete() -> None:
    """What is exported, scanned, added and kept in documents covers the same kinds."""
    assert {kind.name: kind.model for kind in KINDS} == codec.KINDS
    assert set(CODECS) == set(codec.KINDS)
    assert tuple(SCANNED) == SCAN_KINDS
    lists = {field.name for field in fields(Writes)}
    assert set(ADDED) == lists - {"accounts", "closed", "records", "credits", "pending", "received"}
    assert {kind.name for kind in ADDED.values()} == set(codec.KINDS) - {"record"}


@each_kind
def test_a_scan_begins_below_every_key(kind: Kind[Any]) -> None:
    """The lowest key has as many parts as the key, and the statement of its scan as many places and one more."""
    assert len(kind.lowest) == len(kind.key)
    for scan, scanned in SCANNED.items():
        if scanned is kind:
            assert STATEMENTS.scan(scan).count("?") == len(kind.key) + 1  # type: ignore[arg-type]  # a scan's name
