"""Reads return exactly what was written: the longest texts, case, four-byte characters, microseconds, sums.

The lengths are those of `wallet_gql.testing.data`, which the guide for authors shows.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle, islice
from typing import Any, Final

import pytest

from ...domain.annotations import ANNOTATION, PAIR_NAME_MAX, PAIR_VALUE_MAX, UNANNOTATED, Annotation, Side
from ...domain.changes import Changes, ReadSet, Scope
from ...domain.errors import InsufficientFunds
from ...domain.ids import OPERATOR
from ...domain.model import MICROSECOND, AccountStatus, Receipt, Record, RecordKey, Transfer
from ...domain.money import BALANCE_MAX_MINOR
from ...storage import PAGE_MAX, PageRequest
from ...verbs.annotations import annotate, annotations_of
from ...verbs.ledger import To
from ..data import TEXTS, Text
from ..patience import insist
from ..raw import endow, movement, receipt_of, written
from ..world import CURRENCY, Person, World
from ._protocol import closed, holding
from .suite import Suite, kinds

PLAIN: Final = "".join(map(chr, range(0x21, 0x7F)))
ANY: Final = "\U0001f600\U00020000e\u0301\u00e9\u4f60\u0130\u00dfZz \\'\"%_\u200d\uffff\U0010fffd"
"""Four-byte characters; an accent composed and not; letters with unusual case rules; characters of query languages."""

LIKE: Final = ("rent", "Rent", "RENT", "rent2", "ren", "r_nt", "r%nt", "ren't", 'ren"t', "r\\nt", "rent-", "$rent")
"""Names that some stores confuse with one another."""

LATEST: Final = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def longest(text: Text, begin: str = "") -> str:
    """A text of the greatest length. `begin` makes it different from others; its last character is upper case."""
    rest = text.length - len(begin) - 1
    return begin + "".join(islice(cycle(PLAIN if text.plain else ANY), rest)) + "Z"


class Data(Suite):
    """One test for each way in which a store may change what it was given."""

    async def test_data_texts_of_the_greatest_length(self, world: World) -> None:
        """Every text that others choose comes back whole and unchanged, by every way to read."""
        ann, bob = await world.people(2, 1_000)
        moved, receipt, record = _longest(world, ann, bob)
        texts = TEXTS["holds"]
        hold = replace(
            holding(world, ann, bob, 7), closer=longest(texts["closer"]), reference=longest(texts["reference"])
        )
        names = {"accounts": (ann.account,), "receipts": ((receipt.actor, receipt.key),), "records": (record.key,)}
        scope = Scope(ann.slot, credits=(bob.account,), **names)  # type: ignore[arg-type]
        await world.execute(scope, Changes(transfers=(moved,), placed=(hold,), receipts=(receipt,), records=(record,)))

        found = await world.store.fetch(
            ReadSet(
                transfers=(moved.id,),
                holds=(hold.id,),
                receipts=((ann.slot, receipt.actor, receipt.key),),
                records=(record.key,),
            )
        )
        assert found.transfer(moved.id) == moved
        assert found.hold(hold.id) == hold
        assert found.receipt(receipt.actor, receipt.key, ann.slot) == receipt
        assert found.record(record.key) == record
        await world.settle()
        for person in (ann, bob):
            assert (await world.store.list_transfers(person.account, PageRequest(1))).items[0].transfer == moved
        assert (await world.store.list_records(record.kind, record.owner)).items == (record,)
        assert list(await world.store.list_due(record.kind, LATEST, 10)) == [record]
        books = await world.books()
        assert (books.transfers[moved.id], books.holds[hold.id]) == (moved, hold)
        assert books.records[record.kind, record.id, record.slot] == record

    async def test_data_keys_that_differ_in_one_byte_are_two(self, world: World) -> None:
        """Keys, ids and owners are compared byte for byte: each pays once, and is found as itself."""
        ann, bob = await world.people(2, 1_000)
        end = longest(TEXTS["receipts"]["key"])
        keys = (*LIKE, end, f"{end[:-1]}z")
        paid = [await world.pay(ann, bob, 1, key) for key in keys]
        assert [posted.replayed for posted in paid] == [False] * len(keys)
        again = [await world.pay(ann, bob, 1, key) for key in keys]
        assert [posted.replayed for posted in again] == [True] * len(keys)
        assert [posted.result for posted in again] == [posted.result for posted in paid]
        assert await world.balance(ann) == (1_000 - len(keys), 0)

    async def test_data_records_that_differ_in_one_byte_are_two(self, world: World) -> None:
        """The same for kinds, ids and owners of records; a list is in the order of code points."""
        ann = await world.person()
        owners = (*LIKE, "Zoe\u0301", "Zo\u00e9", "\U0001f600", "\U0001f601")
        for owner in owners:
            await world.put(Record("Like", f"of-{owner.encode().hex()}", ann.slot, owner, 1, {"is": owner}))
        for name in LIKE:
            await world.put(Record("like", name, ann.slot, "owner", 1, {"is": name}))
            await world.put(Record(f"k{name}", "id", ann.slot, "owner", 1, {"is": name}))
        for owner in owners:
            (found,) = (await world.store.list_records("Like", owner)).items
            assert found.body == {"is": owner}
        for name in LIKE:
            for key in (RecordKey("like", name, ann.slot), RecordKey(f"k{name}", "id", ann.slot)):
                kept = await world.record(key)
                assert kept is not None
                assert kept.body == {"is": name}
            assert len((await world.store.list_records(f"k{name}", "owner")).items) == 1
        listed = (await world.store.list_records("like", "owner", limit=PAGE_MAX)).items
        assert [record.id for record in listed] == sorted(LIKE)
        assert (await world.store.list_records("like", "owner", descending=True)).items == listed[::-1]

    async def test_data_a_record_changes_hands(self, world: World) -> None:
        """A record that another owner gets is listed with that one alone, also when it comes back."""
        ann = await world.person()
        for version, owner in enumerate(("one", "two", "two", "one"), 1):
            record = Record("handed", "it", ann.slot, owner, version)
            await world.put(record)
            for name in ("one", "two"):
                assert (await world.store.list_records("handed", name)).items == ((record,) if name == owner else ())

    async def test_data_every_change_of_an_account_counts(self, world: World) -> None:
        """Its version grows, also where nothing is entered: holds, a freeze. Answers are put in order by it."""
        ann, bob = await world.people(2, 1_000)
        versions = [(await world.account(ann)).version]
        for _ in range(2):
            await world.pay(ann, bob, 1)
            versions.append((await world.account(ann)).version)
            held = await world.hold(ann, bob, 1)
            versions.append((await world.account(ann)).version)
            await world.ledger.void_hold(bob.id, world.key(), held.id)
            versions.append((await world.account(ann)).version)
            for status in (AccountStatus.FROZEN, AccountStatus.OPEN):
                await world.ledger.set_account_status(OPERATOR, ann.account, status)
                versions.append((await world.account(ann)).version)
            await world.pay(bob, ann, 1)
            versions.append((await world.account(ann)).version)
        assert versions == sorted(set(versions))

    async def test_data_times_to_the_microsecond(self, world: World) -> None:
        """Times keep their microseconds, also in the check whether a record is due."""
        ann, bob = await world.people(2, 1_000)
        for micros in (1, 10, 500_000, 999_999):
            world.clock.now = world.clock.now.replace(microsecond=micros) + timedelta(seconds=1)
            moved = (await world.pay(ann, bob, 1)).result
            placed = await world.hold(ann, bob, 1)
            account = await world.account(ann)
            (line,) = (await world.store.list_transfers(ann.account, PageRequest(1))).items
            hold = (await world.store.fetch(ReadSet(holds=(placed.id,)))).hold(placed.id)
            assert {moved.at, line.entry.at, line.transfer.at} == {world.clock.now}
            assert account.changed_at == world.clock.now + MICROSECOND  # the hold is a change without an entry
            assert hold is not None
            assert (hold.created_at, hold.expires_at) == (placed.created_at, placed.expires_at)
        times = [world.clock.now + timedelta(microseconds=after) for after in range(4)]
        for place, at in enumerate((*times, LATEST)):
            await world.put(Record("timed", f"t{place}", ann.slot, "owner", 1, {}, at))
        for place, at in enumerate(times):
            due = await world.store.list_due("timed", at, 10)
            assert [record.due_at for record in due if isinstance(record, Record)] == times[: place + 1]
        assert len(await world.store.list_due("timed", LATEST, 10)) == len(times) + 1

    async def test_data_sums_up_to_64_bits(self, world: World) -> None:
        """Amounts, balances, holds and sums are exact beyond the precision of a float, up to 2^63 - 1."""
        ann, bob = await world.people(2)
        large_minor = 2**62 + 1
        for person, amount_minor in ((ann, large_minor), (bob, BALANCE_MAX_MINOR - large_minor)):
            await endow(world, person, amount_minor)
        hold = holding(world, ann, bob, large_minor)
        own = Scope(ann.slot, accounts=(ann.account,), holds=(hold.id,))
        await world.execute(own, Changes(placed=(hold,)))
        assert await world.balance(ann) == (large_minor, large_minor)
        await world.execute(own, Changes(closed=(closed(world, hold),)))
        assert await world.balance(ann) == (large_minor, 0)
        totals = [total for total in await world.store.totals() if total.currency == CURRENCY]
        assert sum(total.customer_minor for total in totals) == BALANCE_MAX_MINOR
        assert sum(total.system_minor for total in totals) == -BALANCE_MAX_MINOR

    async def test_data_notes_on_a_transfer(self, world: World) -> None:
        """A payment and its payer's notes are one commit; each side's are its own, and changes at once all count."""
        ann, bob = await world.people(2, 1_000)
        noted = Annotation("groceries", ((ANY[:PAIR_NAME_MAX], ANY[:PAIR_VALUE_MAX]), ("invoice", "42")))
        given: dict[str, Any] = {"source": ann.account, "to": To(bob.account), "currency": CURRENCY}
        key = world.key()
        paid, again = [
            await world.ledger.transfer(ann.id, key, amount_minor=5, annotation=noted, **given) for _ in range(2)
        ]
        assert (paid.replayed, again.replayed, again.result) == (False, True, paid.result)
        with pytest.raises(InsufficientFunds):
            await world.ledger.transfer(ann.id, world.key(), amount_minor=1_000, annotation=noted, **given)
        own, other = Side(ann.account, paid.result.id), Side(bob.account, paid.result.id)
        kept = Annotation(noted.category, tuple(sorted(noted.metadata)), 1)
        assert await annotations_of(world.store, (own, other)) == {own: kept, other: UNANNOTATED}
        ledgers = [world.ledger_on(store) for store in await world.stores(2)]
        named: list[tuple[Person, str | None, tuple[tuple[str, str], ...] | None]] = [
            (ann, "rent", None), (ann, None, ()), (bob, "income", None), (bob, None, (("a", "1"),)),
        ]  # fmt: skip
        commands = [
            insist(partial(annotate, ledger, person.id, own.transfer_id, category, metadata))
            for ledger in ledgers
            for person, category, metadata in named
        ]
        assert kinds(await world.together(commands)) == ["ok"] * len(commands)
        assert await annotations_of(world.store, (own, other)) == {
            own: Annotation("rent", (), 3), other: Annotation("income", (("a", "1"),), 2),
        }  # fmt: skip
        assert sum(record.kind == ANNOTATION for record in (await world.books()).records.values()) == 2

    async def test_data_bodies_of_every_shape(self, world: World) -> None:
        """A record's body is plain JSON: nested, empty, large numbers, and text of any kind in names and values."""
        ann = await world.person()
        body = {
            "": {}, ANY: [ANY, "", None, True, False, [[]], {"a": {"b": [1, 2**53 + 1, -(2**63), 2**63 - 1]}}],
            "$set": 1, "a.b": 2, "float": 0.1, "control": "\x00\x1f",
        }  # fmt: skip
        key = RecordKey("body", "one", ann.slot)
        await world.put(written(key, 1, **body))
        found = await world.record(key)
        assert found is not None
        assert found.body == body


def _longest(world: World, payer: Person, payee: Person) -> tuple[Transfer, Receipt, Record]:
    """A payment, its receipt and a record, with the longest texts that others may choose."""
    texts = TEXTS["receipts"]
    actor, key = longest(texts["actor"], "op:"), longest(texts["key"])
    moved = replace(
        movement(world, payer, payee, 5, key), actor=actor, reference=longest(TEXTS["transfers"]["reference"])
    )
    receipt = replace(
        receipt_of(world, payer, key, moved),
        actor=actor,
        operation=longest(texts["operation"]),
        fingerprint=longest(texts["fingerprint"]),
        outcome=longest(texts["outcome"]),
    )
    texts = TEXTS["records"]
    body = {"text": longest(Text(texts["body"].length // 12, plain=False))}  # in JSON a character takes up to 12
    named = (longest(texts["kind"]), longest(texts["id"]), payer.slot, longest(texts["owner"]))
    return moved, receipt, Record(*named, 1, body, LATEST)
