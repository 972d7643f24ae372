"""Records survive the conversion to BSON and back, and every read on the hot paths uses an index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import bson
import pytest
from bson.int64 import Int64
from hypothesis import given
from hypothesis import strategies as st

from wallet_gql.backends.mongodb import documents as docs
from wallet_gql.backends.mongodb.documents import Document
from wallet_gql.backends.mongodb.store import MongoStore
from wallet_gql.domain.ids import make_account_id, make_hold_id, make_transfer_id, make_user_id, system_account
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
from wallet_gql.domain.money import BALANCE_MAX_MINOR
from wallet_gql.storage import PageRequest
from wallet_gql.testing.world import World

AT = datetime(2026, 1, 1, tzinfo=UTC)
slots = st.integers(0, 4095)
amounts = st.integers(1, BALANCE_MAX_MINOR)
times = st.integers(-(10**15), 10**15).map(lambda micros: AT + timedelta(microseconds=micros))
texts = st.text(max_size=20).filter(lambda text: "\0" not in text)
words = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)


account_ids = st.builds(make_account_id, slots, st.just(1), amounts)
transfer_ids = st.builds(make_transfer_id, slots, st.just(1), amounts)
hold_ids = st.builds(make_hold_id, slots, st.just(1), amounts)
optional_texts = st.none() | texts
signed = amounts | amounts.map(lambda minor: -minor)
bodies = st.dictionaries(texts, st.none() | st.integers() | texts, max_size=4)


@st.composite
def accounts(draw: st.DrawFn) -> Account:
    """Accounts in every state, up to the largest balance."""
    posted = draw(amounts)
    at: tuple[Any, ...] = draw(times), draw(times)
    state: tuple[Any, ...] = draw(st.sampled_from(AccountStatus)), posted, draw(st.integers(0, posted)), draw(amounts)
    return Account(draw(account_ids), make_user_id(1, posted), "EUR", *at, *state)


@st.composite
def transfers(draw: st.DrawFn) -> Transfer:
    """Transfers with and without what they are linked to."""
    amount, slot = draw(st.integers(1, 10**15)), draw(slots)
    ends: Any = make_account_id(slot, 1, 1), make_account_id(slot, 1, 2)
    links: Any = draw(st.none() | transfer_ids), draw(st.none() | hold_ids), draw(texts)
    tail: Any = "EUR", draw(times), "op:operator", draw(words), draw(st.integers(0, amount - 1))
    make: Any = Transfer  # too many stars for a type checker
    return cast("Transfer", make(draw(transfer_ids), draw(st.sampled_from(TransferKind)), *ends, amount, *tail, *links))


@st.composite
def holds(draw: st.DrawFn) -> Hold:
    """Holds in every state, with and without an end."""
    state, amount, created = draw(st.sampled_from(HoldState)), draw(amounts), draw(times)
    closed = None if state is HoldState.OPEN else draw(times)
    moved = draw(transfer_ids) if state is HoldState.CAPTURED else None
    names: Any = draw(hold_ids), draw(account_ids), draw(account_ids), "usr"
    tail: Any = state, draw(st.integers(0, amount)), closed, moved, draw(texts)
    make: Any = Hold  # too many stars for a type checker
    return cast("Hold", make(*names, amount, "EUR", created, draw(st.none() | times), *tail))


entries = st.builds(Entry, account_ids, amounts, transfer_ids, signed, amounts, times)
lines = st.builds(SystemEntry, st.just(system_account("cash", "EUR")), transfer_ids, signed, times)
answers: tuple[Any, ...] = st.none() | transfer_ids, optional_texts, st.none() | slots
receipts = st.builds(Receipt, slots, words, words, words, words, times, *answers)
records = st.builds(Record, words, words, slots, words, st.integers(1, 10**6), bodies, st.none() | times)


@given(data=st.data())
@pytest.mark.parametrize(
    ("drawn", "write", "read"),
    [
        (accounts(), docs.ACCOUNT.write, docs.ACCOUNT.read),
        (entries, docs.ENTRY.write, docs.ENTRY.read),
        (lines, docs.SYSTEM_ENTRY.write, docs.SYSTEM_ENTRY.read),
        (transfers(), docs.TRANSFER.write, docs.TRANSFER.read),
        (holds(), docs.HOLD.write, docs.HOLD.read),
        (receipts, docs.RECEIPT.write, docs.RECEIPT.read),
        (records, docs.RECORD.write, docs.RECORD.read),
    ],
    ids=["account", "entry", "system entry", "transfer", "hold", "receipt", "record"],
)
def test_a_record_comes_back_as_it_went(
    data: st.DataObject,
    drawn: st.SearchStrategy[Any],
    write: Callable[[Any], Document],
    read: Callable[[Document], Any],
) -> None:
    """Through BSON and back, with every amount as `long` on the way and as a plain int afterwards."""
    record = data.draw(drawn)
    document = bson.decode(bson.encode(write(record)))
    for name, value in document.items():
        if name.endswith("_minor") or name in ("at", "sequence", "version"):
            assert type(value) is Int64
    again = read(document)
    assert again == record
    assert Int64 not in {type(getattr(again, field.name)) for field in fields(again)}


# Along an index


@pytest.mark.backend("mongodb")
async def test_nothing_but_scans_and_sums_reads_more_than_it_gives(world: World) -> None:
    """The server's own profile of payments, pages, lists and sweeps: no collection scan, few documents looked at."""
    ann, bob = await world.people(2, 100_000)
    for _ in range(6):
        await world.together(world.pay(ann, bob, 1) for _ in range(50))
    await world.together(world.hold(ann, bob, 1) for _ in range(50))
    assert isinstance(world.store, MongoStore)
    database = world.store._database
    await database.command("profile", 2)
    placed = await world.hold(ann, bob, 5, seconds=1)
    await world.ledger.capture_hold(bob.id, world.key(), placed.id)
    moved = (await world.pay(ann, bob, 7)).result
    await world.ledger.reverse_transfer(bob.id, world.key(), moved.id)
    for request in (PageRequest(5), PageRequest(5, before=200), PageRequest(5, after=200, newest_first=False)):
        await world.store.list_transfers(ann.account, request)
    await world.ledger.accounts(ann.id)
    await world.store.list_records("user", ann.id)
    await world.store.list_due("hold", world.clock(), 10)
    await world.store.list_due("withdrawal", world.clock(), 10)
    await database.command("profile", 0)
    # `meta` and `locks` have no other index to offer; the ledger's collections all have.
    seen = await database["system.profile"].find({"op": {"$in": ["query", "command", "update", "getmore"]}}).to_list()
    await database.drop_collection("system.profile")
    assert len(seen) > 20
    scans = [one for one in seen if "COLLSCAN" in one.get("planSummary", "")]
    assert not scans, [one["command"] for one in scans]
    greedy = [one for one in seen if one.get("docsExamined", 0) > max(30, one.get("nreturned", 0))]
    assert not greedy, [(one["docsExamined"], one["command"]) for one in greedy]
