"""Scans, totals, import and the gate: what audits and copies a whole ledger sees each item once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest

from ...books.audit import audit
from ...books.exchange import check_finished, export_lines, import_lines
from ...domain.changes import Changes, Scope
from ...domain.errors import ConfigurationError, InvariantViolated, Unavailable, WalletError
from ...domain.ids import OPERATOR, SLOTS
from ...domain.model import Account, AccountStatus, Hold, Record, RecordKey
from ...storage import SCAN_KINDS, JournalItem, ScanItem, Store
from ..books import faults, read_books, scan_all
from ..raw import between_systems, counter_key, increment, written
from ..world import CURRENCY, Person, World
from .suite import Suite, kinds

SLOTS_TRIED: Final = 100  # as many drawn slots leave out none of a few nodes
GATED_SECONDS: Final = 0.3  # what a command inside the gate is given


class Copying(Suite):
    """Reading all of a ledger, and writing it elsewhere."""

    async def test_read_scans_tell_everything_once(self, world: World) -> None:
        """For every page size, a scan returns each item of its kind once."""
        await _populate(world)
        await world.settle()
        whole = {kind: await scan_all(world.store, kind) for kind in SCAN_KINDS}
        assert all(whole.values())
        for kind in SCAN_KINDS:
            for page in (1, 3, len(whole[kind]), len(whole[kind]) + 1):
                found = await scan_all(world.store, kind, page)
                assert sorted(map(_name, found)) == sorted(map(_name, whole[kind]))
                assert len(set(map(_name, found))) == len(found)

    async def test_read_a_scan_beside_writers_misses_nothing(self, world: World) -> None:
        """A scan returns everything that exists from its beginning to its end, while other items come and go."""
        people = await world.people(5, 1_000)
        keys = {key.id: key for i, p in enumerate(people * 8) for key in [counter_key(p, f"r{i}")]}
        for key in keys.values():
            await world.put(written(key, 1))
        found: set[str] = set()
        removed: set[str] = set()
        after: str | None = None
        while True:
            page = await world.store.scan("record", after, 3)
            found |= {item.id for item in page.items if isinstance(item, Record)}
            after = page.after
            if after is None:
                break
            for name in sorted(found & keys.keys() - removed)[:1]:
                await world.execute(Scope(keys[name].slot, records=(keys[name],)), Changes(removed=(keys[name],)))
                await world.put(written(counter_key(people[0], f"new{len(removed)}"), 1))
                removed.add(name)
        assert keys.keys() - removed - found == set()

    async def test_read_totals(self, world: World) -> None:
        """Each node and currency sums to zero at any moment; customers' balances add up to what was deposited."""
        ann, bob, cem = await world.people(3, 1_000)
        await world.ledger.withdraw(bob.id, world.key(), bob.account, 100, CURRENCY)
        writing = asyncio.ensure_future(
            world.together(world.pay(*((ann, cem) if i % 2 else (cem, bob)), 7) for i in range(100))
        )
        while not writing.done():
            totals = await world.store.totals()
            assert not [t for t in totals if t.customer_minor + t.system_minor]
            await asyncio.sleep(0)
        assert kinds(await writing) == ["ok"] * 100
        await world.settle()
        totals = [total for total in await world.store.totals() if total.currency == CURRENCY]
        assert sum(total.customer_minor for total in totals) == 2_900
        assert sum(total.clearing_minor for total in totals) == 0

    async def test_read_an_import_that_did_not_end_is_refused(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever opens the half ledger is told, and so is the next import; after a whole import nobody is."""
        await _populate(world)
        await world.settle()
        lines = [line async for line in export_lines(world.store)]
        async with world.sibling("half") as half:
            load, count = half.store.load_raw, 0

            async def load_once(items: Sequence[ScanItem]) -> None:
                nonlocal count
                count += 1
                if count > 1:
                    raise Unavailable("the import ends here")
                await load(items)

            monkeypatch.setattr(half.store, "load_raw", load_once)
            with pytest.raises(Unavailable, match="ends here"):
                await import_lines(half.store, lambda: lines)
            monkeypatch.undo()
            for opening in (check_finished(half.store), import_lines(half.store, lambda: lines)):
                with pytest.raises(ConfigurationError, match="was not finished: empty this database"):
                    await opening
        async with world.sibling("whole") as whole:
            assert (await import_lines(whole.store, lambda: lines)).text == json.loads(lines[-1])["digest"]
            await check_finished(whole.store)

    async def test_read_an_import_is_the_same_ledger(self, world: World) -> None:
        """Loading all scanned items into a fresh store, in any order within a kind, gives the same, working ledger."""
        ann, bob, placed = await _populate(world)
        original = await world.books()
        async with world.sibling("copy") as copy:
            for kind in SCAN_KINDS:
                items = await scan_all(world.store, kind)
                world.random.shuffle(items)
                for start in range(0, len(items), 7):
                    await copy.store.load_raw(items[start : start + 7])
            books = await copy.books()
            assert not faults(books)
            assert books.facts() == original.facts()
            assert (await audit(copy.store)).clean
            assert (await copy.pay(ann, bob, 10, "first")).replayed
            copy.clock.now = world.clock.now
            await copy.ledger.capture_hold(bob.id, copy.key(), placed.id)
            assert not (await copy.pay(ann, bob, 10, "later")).replayed

    async def test_read_an_import_refuses_what_is_there(self, world: World) -> None:
        """Loading an item that exists already is refused, for every kind."""
        await _populate(world)
        for kind in SCAN_KINDS:
            item = (await scan_all(world.store, kind))[-1]
            with pytest.raises(InvariantViolated):
                await world.store.load_raw([item])

    async def test_read_an_import_refuses_contradictions(self, world: World) -> None:
        """Entries that do not follow from their header, or whose account is absent or of another currency, are refused.

        So is another transfer under the id of one that is there.
        """
        await _populate(world)
        await world.settle()
        accounts = await scan_all(world.store, "account")
        journal = await scan_all(world.store, "journal")
        item = next(item for item in journal if isinstance(item, JournalItem) and item.entries)
        entry = item.entries[0]
        more = replace(entry, amount_minor=entry.amount_minor + 1, balance_minor=entry.balance_minor + 1)
        async with world.sibling("without") as empty:
            with pytest.raises(InvariantViolated):
                await empty.store.load_raw([item])
            own = [one for one in accounts if isinstance(one, Account)]
            others = [replace(one, currency="CHF") if one.id == entry.account_id else one for one in own]
            await empty.store.load_raw(others)
            with pytest.raises(InvariantViolated):
                await empty.store.load_raw([item])
            await _start_anew(empty)
        async with world.sibling("wrong") as copy:
            await copy.store.load_raw(accounts)
            with pytest.raises(InvariantViolated):
                await copy.store.load_raw([replace(item, entries=(more, *item.entries[1:]))])
            both = next((one for one in journal if isinstance(one, JournalItem) and len(one.entries) > 1), None)
            if both is not None:  # else every transfer here has its accounts on two nodes
                await copy.store.load_raw([replace(both, entries=both.entries[:1])])
                other = replace(both.transfer, reference="another")
                with pytest.raises(InvariantViolated):
                    await copy.store.load_raw([replace(both, transfer=other, entries=both.entries[1:])])
            await _start_anew(copy)

    async def test_read_the_gate_holds_every_writer_back(self, world: World) -> None:
        """Inside the gate no commit of any store object succeeds; afterwards the waiting commands go on."""
        ann, bob = await world.people(2, 1_000)
        ledgers = [world.ledger_on(store) for store in await world.stores(2)]
        for _ in range(3):
            commands = [world.pay(ann, bob, 1, ledger=ledgers[i % len(ledgers)]) for i in range(20)]
            writing = asyncio.ensure_future(world.together(commands))
            await asyncio.sleep(world.random.random() * 0.003)
            async with world.store.gate():
                before = (await read_books(world.store)).facts()
                await asyncio.sleep(0.05)
                assert (await read_books(world.store)).facts() == before
            assert kinds(await writing) == ["ok"] * 20
        assert await world.balance(ann) == (940, 0)

    async def test_read_the_gate_is_closed_in_every_slot(self, world: World) -> None:
        """Inside the gate no command of another store object succeeds, on whichever node its home is."""
        other = (await world.stores(2))[-1]
        keys = [RecordKey("test", f"slot{slot}", slot) for slot in world.random.sample(range(SLOTS), SLOTS_TRIED)]
        commands = [_count_up(other, key) for key in keys]
        async with world.store.gate():
            outcomes = await asyncio.gather(*commands, return_exceptions=True)
            written_meanwhile = [key for key in keys if await world.record(key) is not None]
        assert written_meanwhile == []
        assert [outcome for outcome in outcomes if not isinstance(outcome, WalletError)] == []


async def _count_up(store: Store, key: RecordKey) -> object:
    return await store.execute(Scope(key.slot, records=(key,)), increment(key), timeout_seconds=GATED_SECONDS)


async def _start_anew(world: World) -> None:
    """Continue with an empty ledger: the present one is half imported and must not be checked."""
    world.harness = world.harness.sibling()
    world.folder = world.folder / "anew"
    world.folder.mkdir()
    await world.harness.start(world.folder)
    await world.reopen()


def _name(item: ScanItem) -> tuple[str, ...]:
    if isinstance(item, JournalItem):
        return (item.node, item.transfer.id)
    if hasattr(item, "id"):
        return (str(item.id), str(getattr(item, "kind", "")), str(item.slot if hasattr(item, "slot") else ""))
    return (str(item.slot), item.actor, item.key)


async def _populate(world: World) -> tuple[Person, Person, Hold]:
    """Write some of everything: open and closed holds, reversals, refusals, claims, records, a frozen account."""
    ann, bob, cem = await world.people(3, 1_000)
    await world.pay(ann, bob, 10, "first")
    paid = [(await world.pay(*pair, 10 + i)).result for i, pair in enumerate(((ann, bob), (bob, cem), (cem, ann)) * 3)]
    await world.ledger.reverse_transfer(bob.id, world.key(), paid[0].id, amount_minor=4)
    await world.ledger.reverse_transfer(OPERATOR, world.key(), paid[1].id)
    holds = [await world.hold(ann, bob, 20, seconds=60 * (i + 1)) for i in range(4)]
    await world.ledger.capture_hold(bob.id, world.key(), holds[1].id, amount_minor=5)
    await world.ledger.void_hold(bob.id, world.key(), holds[2].id)
    world.clock.advance(90)
    await world.ledger.expire_due_holds()
    await world.together([world.pay(ann, bob, 10**9)])
    await world.ledger.set_account_status(OPERATOR, cem.account, AccountStatus.FROZEN)
    await world.identity().sign_up("somebody", "some@example.org", "a good password")
    for person in (ann, bob, cem):
        await between_systems(world, person, 30)
    await world.put(Record("due", "r", ann.slot, "owner", 1, {"a": [1, {"b": None}]}, world.clock()))
    return ann, bob, holds[3]
