"""Pages, lists and watching: reads return what was written, each item once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from itertools import product

from ...domain.changes import ReadSet
from ...domain.ids import make_account_id
from ...domain.model import Entry, HoldState, Record
from ...domain.users import user_key
from ...records import Swept
from ...storage import PAGE_MAX, HistoryLine, PageRequest, Store
from ..patience import within
from ..world import Person, World
from .suite import Suite, kinds


class Reading(Suite):
    """The reading half of the protocol."""

    async def test_read_every_page_of_history(self, world: World) -> None:
        """A page is a slice of the account's entries, for every order, bound and limit, also at and beyond the ends."""
        ann, bob = await world.people(2, 1_000)
        for _ in range(11):
            await world.pay(ann, bob, 1)
        whole = (await world.books()).entries[ann.account]
        assert [entry.sequence for entry in whole] == list(range(1, 13))
        bounds = (None, 0, 1, 2, 6, 11, 12, 13, 14, 10_000)
        for newest_first in (True, False):
            for limit in (1, 3, 12, PAGE_MAX):
                for before in bounds:
                    for after in bounds:
                        request = PageRequest(limit, before, after, newest_first)
                        await _check_page(world.store, ann, whole, request)

    async def test_read_lines_carry_their_transfers(self, world: World) -> None:
        """Each line of history has the header of its transfer, on the payer's side and on the payee's."""
        ann, bob = await world.people(2, 1_000)
        placed = await world.hold(ann, bob, 50)
        moved = [await world.paid(ann, bob, amount_minor) for amount_minor in range(1, 6)]
        moved.append((await world.ledger.capture_hold(bob.id, world.key(), placed.id)).result)
        moved.append((await world.ledger.reverse_transfer(bob.id, world.key(), moved[0].id)).result)
        await world.settle()
        for person in (ann, bob):
            lines = (await world.store.list_transfers(person.account, PageRequest(PAGE_MAX))).items
            assert [line.transfer for line in lines[:-1]] == moved[::-1]
            assert all(line.entry.transfer_id == line.transfer.id for line in lines)

    async def test_read_pages_while_entries_are_added(self, world: World) -> None:
        """Paging in either direction beside writers shows each entry of the start exactly once, with no gap."""
        ann, bob = await world.people(2, 10_000)
        await world.together(world.pay(ann, bob, 1) for _ in range(30))
        adding = [asyncio.ensure_future(world.pay(ann, bob, 1)) for _ in range(200)]
        backward = await _sequences(_walk(world.store, ann, 7, newest_first=True))
        forward = await _sequences(_walk(world.store, ann, 7, newest_first=False))
        assert kinds(await world.together(adding)) == ["ok"] * 200
        assert backward == list(range(backward[0], 0, -1))
        assert backward[0] >= 31
        assert forward == list(range(1, len(forward) + 1))
        assert len(forward) >= len(backward)
        assert await _sequences(_walk(world.store, ann, PAGE_MAX, newest_first=False)) == list(range(1, 232))

    async def test_read_an_account_without_entries(self, world: World) -> None:
        """The history of an empty or unknown account is an empty page."""
        ann = await world.person()
        for account_id in (ann.account, make_account_id(ann.slot, 1, 1)):
            for request in (PageRequest(5), PageRequest(5, before=3), PageRequest(5, after=3, newest_first=False)):
                page = await world.store.list_transfers(account_id, request)
                assert (page.items, page.has_more) == ((), False)

    async def test_read_records_of_an_owner(self, world: World) -> None:
        """An owner's records of a kind come page by page in the order of their ids, up or down, from all slots."""
        people = await world.people(4)
        expected: list[Record] = []
        for i in range(12):
            person = people[i % len(people)]
            record = Record("list", f"r{i * 7 % 12:02}", person.slot, "owner", 1, {"i": i})
            await world.put(record)
            expected.append(record)
            await world.put(replace(record, kind="other"))
            await world.put(replace(record, id=f"s{i}", owner="somebody"))
        for limit, descending in product((1, 5, 12, PAGE_MAX), (False, True)):
            expected.sort(key=lambda record: record.id, reverse=descending)
            found: list[Record] = []
            more, after = True, ""
            while more:
                page = await world.store.list_records("list", "owner", after=after, limit=limit, descending=descending)
                assert len(page.items) <= limit
                found += page.items
                more, after = page.has_more, found[-1].id
            assert found == expected

    async def test_read_of_several_slots_at_once(self, world: World) -> None:
        """One fetch shows accounts, holds, transfers, receipts and records of many users, and which are absent."""
        people = await world.people(6, 1_000)
        payers, payee = people[:-1], people[-1]
        keys = {payer.id: world.key() for payer in payers}
        paid = [(await world.pay(payer, payee, 10, key=keys[payer.id])).result for payer in payers]
        held = [await world.hold(payer, payee, 5) for payer in payers]
        names = [(payer.slot, payer.id, keys[payer.id]) for payer in payers]
        reads = ReadSet(
            accounts=tuple(payer.account for payer in payers),
            credits=tuple(person.account for person in people),
            holds=tuple(hold.id for hold in held),
            transfers=tuple(one.id for one in paid),
            receipts=(*names, *((slot, owner, "never used") for slot, owner, _ in names)),
            records=tuple(user_key(person.id) for person in people),
            open_holds=True,
        )
        found = await world.store.fetch(reads)
        for payer, moved, hold in zip(payers, paid, held, strict=True):
            account, receipt = found.account(payer.account), found.receipt(payer.id, keys[payer.id], payer.slot)
            assert account is not None
            assert receipt is not None
            assert (account.posted_minor, account.held_minor, receipt.transfer_id) == (990, 5, moved.id)
            assert (found.transfer(moved.id), found.hold(hold.id)) == (moved, hold)
            assert found.holds_of(payer.account) == (hold,)
            assert found.receipt(payer.id, "never used", payer.slot) is None
        facts = [found.facts(person.account) for person in people]
        assert [one and one.owner for one in facts] == [person.id for person in people]
        assert all(found.record(user_key(person.id)) for person in people)

    async def test_read_what_is_due(self, world: World) -> None:
        """Only expired open holds and due records are listed, oldest first, up to the limit."""
        ann, bob = await world.people(2, 1_000)
        holds = [await world.hold(ann, bob, 10, seconds=seconds) for seconds in (50, 10, 40, 20, 30)]
        await world.ledger.void_hold(bob.id, world.key(), holds[3].id)
        start = world.clock()
        for i, seconds in enumerate((50, 10, 40, 20, 30)):
            due_at = start + timedelta(seconds=seconds)
            await world.put(Record("due", f"r{i}", (ann, bob)[i % 2].slot, "owner", 1, {}, due_at))
        await world.put(Record("due", "never", ann.slot, "owner", 1, {}))

        async def due(kind: str, seconds: float, limit: int = 100) -> list[str]:
            found = await world.store.list_due(kind, start + timedelta(seconds=seconds), limit)
            return [item.id for item in found]

        first, second, third, fourth = (holds[i].id for i in (1, 4, 2, 0))
        assert await due("hold", 9.999) == []
        assert await due("hold", 10) == [first]
        assert await due("hold", 45) == [first, second, third]
        assert await due("hold", 45, limit=2) == [first, second]
        assert await due("hold", 1_000) == [first, second, third, fourth]
        assert await due("due", 30) == ["r1", "r3", "r4"]
        assert await due("due", 1_000, limit=4) == ["r1", "r3", "r4", "r2"]
        assert await due("nothing", 1_000) == []

    async def test_read_the_sweep_closes_what_is_due(self, world: World) -> None:
        """A swept hold is expired and its money available again; a hold without an end stays open."""
        ann, bob = await world.people(2, 1_000)
        placed = [await world.hold(ann, bob, 100, seconds=10 * i) for i in range(1, 4)]
        world.clock.advance(20)
        assert (await world.account(ann)).held_minor == 100
        assert await world.ledger.expire_due_holds() == Swept(done=2)
        states = [(await world.ledger.hold(ann.id, hold.id)).state for hold in placed]
        assert states == [HoldState.EXPIRED, HoldState.EXPIRED, HoldState.OPEN]
        assert await world.balance(ann) == (1_000, 100)

    async def test_read_watch_tells_each_entry_once(self, world: World) -> None:
        """A watcher gets every entry once, in order, as it commits, and can resume where another one stopped."""
        ann, bob = await world.people(2, 10_000)
        writers = [world.ledger_on(store) for store in await world.stores(2)]
        writing = asyncio.ensure_future(
            world.together(world.pay(ann, bob, 1, ledger=writers[i % len(writers)]) for i in range(150))
        )
        seen: list[int] = []
        for upto in (40, 90, 151):
            lines = world.store.watch(ann.account, len(seen))
            seen += [line.entry.sequence for line in await within(20, _take(lines, upto - len(seen)))]
        await writing
        assert seen == list(range(1, 152))

    async def test_read_several_watchers(self, world: World) -> None:
        """Watchers of payer and payee, on this and on another store object, each get every entry."""
        ann, bob = await world.people(2, 1_000)
        stores = await world.stores(2)
        watching = [
            asyncio.ensure_future(within(20, _take(store.watch(person.account, 0), 21)))
            for store in stores
            for person in (ann, bob)
        ]
        await asyncio.sleep(0.01)
        await world.together(world.pay(ann, bob, 1) for _ in range(20))
        await world.settle()
        for lines in await asyncio.gather(*watching):
            assert [line.entry.sequence for line in lines] == list(range(1, 22))


async def _check_page(store: Store, person: Person, whole: list[Entry], request: PageRequest) -> None:
    """Compare a page with the corresponding slice of the whole."""
    low, high = request.after or 0, request.before if request.before is not None else len(whole) + 1
    inside = [entry for entry in whole if low < entry.sequence < high]
    expected = (inside[::-1] if request.newest_first else inside)[: request.limit]
    page = await store.list_transfers(person.account, request)
    assert [line.entry for line in page.items] == expected, request
    assert page.has_more == (len(inside) > request.limit), request


async def _walk(store: Store, person: Person, limit: int, *, newest_first: bool) -> AsyncIterator[Entry]:
    """The whole history, page by page, from one end to the other."""
    end: int | None = None
    while True:
        before, after = (end, None) if newest_first else (None, end)
        request = PageRequest(limit, before=before, after=after, newest_first=newest_first)
        page = await store.list_transfers(person.account, request)
        for line in page.items:
            yield line.entry
            end = line.entry.sequence
        if not page.has_more:
            return
        await asyncio.sleep(0)


async def _sequences(entries: AsyncIterator[Entry]) -> list[int]:
    return [entry.sequence async for entry in entries]


async def _take(lines: AsyncIterator[HistoryLine], wanted: int) -> list[HistoryLine]:
    found: list[HistoryLine] = []
    async with aclosing(lines) as open_lines:  # type: ignore[type-var]
        async for line in open_lines:
            found.append(line)
            if len(found) == wanted:
                break
    return found
