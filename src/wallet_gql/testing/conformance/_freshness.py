"""Readers beside writers never see data older than an answered write (G7), and one fetch shows one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

from ...domain.changes import Changes, Decision, ReadSet, Scope, Snapshot
from ...domain.errors import InDoubt, Unavailable
from ...domain.model import Account, Record, RecordKey
from ...storage import PageRequest, Store
from ...verbs.ledger import To
from ..patience import insist
from ..raw import movement, number, receipt_of
from ..world import CURRENCY, Person, World
from ._protocol import closed, holding
from .suite import Suite

STEPS: Final = 30
STEPS_MAX: Final = 60
FETCHES: Final = 150
SHARING: Final = 6
"""How many people read at once."""
BASE_MINOR: Final = 1_000
KIND: Final = "step"

Look = Callable[[Store], Awaitable[int]]
"""Reads from a store, by one of its members, how many steps were taken."""


class Steps:
    """Commands that write to every table at once: after the n-th command each table shows n.

    A step pays 1 from the payer's account, counts in a record, writes a receipt, and replaces the open hold by one that
    is 1 larger. Its command does not check the receipt: if it were written twice, it would break the unique key.
    """

    def __init__(self, world: World, payer: Person, payee: Person, count: int = STEPS) -> None:
        """At most `count` steps. Payer and payee have had one entry each, of `BASE_MINOR`."""
        self._world, self.payer, self.payee = world, payer, payee
        self.record = RecordKey(KIND, f"of:{payer.id}", payer.slot)
        self.due_at = world.clock() + timedelta(seconds=1)
        self.moved = [movement(world, payer, payee, 1, world.key()) for _ in range(count)]
        self._receipts = [receipt_of(world, payer, moved.idempotency_key, moved) for moved in self.moved]
        self._holds = [holding(world, payer, payee, 1) for _ in range(count)]
        self.taken = 0
        """The highest step that was answered."""

    async def take(self, place: int, store: Store) -> int:
        """Take the next step by the command at `place`, which is used only once. Raises what `execute` raises."""
        moved, receipt = self.moved[place], self._receipts[place]
        world, payer = self._world, self.payer
        scope = Scope(
            payer.slot,
            accounts=(payer.account,),
            credits=(self.payee.account,),
            receipts=((payer.id, moved.idempotency_key),),
            records=(self.record,),
            open_holds=True,
        )

        def decide(snapshot: Snapshot) -> Decision[int]:
            n = number(snapshot.record(self.record)) + 1
            counted = Record(KIND, self.record.id, payer.slot, payer.id, n, {"n": n}, self.due_at)
            voided = tuple(closed(world, hold) for hold in snapshot.holds_of(payer.account))
            placed = replace(self._holds[place], amount_minor=n)
            written = Changes(
                transfers=(moved,), placed=(placed,), closed=voided, receipts=(receipt,), records=(counted,)
            )
            return Decision(written, n)

        n = (await store.execute(scope, decide)).result
        self.taken = max(self.taken, n)
        return n

    def looks(self) -> Mapping[str, Look]:
        """Every way to read the number of steps, by name."""
        payer = self.payer

        async def record(store: Store) -> int:
            return number((await store.fetch(ReadSet(records=(self.record,)))).record(self.record))

        async def account(store: Store) -> int:
            found = (await store.fetch(ReadSet(accounts=(payer.account,)))).account(payer.account)
            return found.sequence - 1 if found else 0

        async def wallet(store: Store) -> int:
            found = (await store.fetch(ReadSet(wallets=(payer.id,)))).wallet(payer.id)
            return sum(BASE_MINOR - one.posted_minor for one in found if one.id == payer.account)

        async def holds(store: Store) -> int:
            snapshot = await store.fetch(ReadSet(accounts=(payer.account,), open_holds=True))
            return sum(hold.amount_minor for hold in snapshot.holds_of(payer.account))

        async def history(store: Store) -> int:
            page = await store.list_transfers(payer.account, PageRequest(1))
            return page.items[0].entry.sequence - 1

        async def records(store: Store) -> int:
            page = await store.list_records(KIND, payer.id)
            return max(map(number, page.items), default=0)

        async def due(store: Store) -> int:
            found = await store.list_due(KIND, self.due_at, 10)
            return max((number(item) for item in found if isinstance(item, Record)), default=0)

        listed = (record, account, wallet, holds, history, records, due)
        return {look.__name__: look for look in listed}

    async def at_once(self, store: Store) -> dict[str, int]:
        """The number of steps that each table shows in one fetch; -1 for a missing account."""
        payer, payee = self.payer, self.payee
        keys = [moved.idempotency_key for moved in self.moved]
        snapshot = await store.fetch(
            ReadSet(
                accounts=(payer.account,),
                wallets=(payee.id,),
                transfers=tuple(moved.id for moved in self.moved),
                receipts=tuple((payer.slot, payer.id, key) for key in keys),
                records=(self.record,),
                open_holds=True,
            )
        )
        account = snapshot.account(payer.account)
        assert account is not None
        credited_minor = sum(one.posted_minor for one in snapshot.wallet(payee.id) if one.id == payee.account)
        return {
            "posted": BASE_MINOR - account.posted_minor,
            "sequence": account.sequence - 1,
            "held": account.held_minor,
            "open holds": sum(hold.amount_minor for hold in snapshot.holds_of(payer.account)),
            "credited": credited_minor - BASE_MINOR,
            "transfers": sum(snapshot.transfer(moved.id) is not None for moved in self.moved),
            "receipts": sum(snapshot.receipt(payer.id, key, payer.slot) is not None for key in keys),
            "record": number(snapshot.record(self.record)),
        }


class Freshness(Suite):
    """Readers that read repeatedly, through several store objects, beside writers."""

    async def test_g7_readers_see_what_others_have_just_written(self, world: World) -> None:
        """Every write that was answered before a read began is in its result: any store object, every way to read."""
        ann, bob = await world.people(2, BASE_MINOR)
        steps = Steps(world, ann, bob)
        stores = await world.stores(3)
        writing = True

        async def reads(store: Store, name: str, look: Look) -> None:
            while writing:
                least = steps.taken
                seen = await insist(lambda: look(store))
                assert seen >= least, f"{name} tells step {seen} after step {least} was answered"
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            for place, (name, look) in enumerate(steps.looks().items()):
                tasks.create_task(reads(stores[place % len(stores)], name, look))
            try:
                for place in range(STEPS):
                    with suppress(Unavailable, InDoubt):
                        await steps.take(place, stores[place % len(stores)])
            finally:
                writing = False
        assert steps.taken >= STEPS // 2
        world.trials += steps.taken

    async def test_g7_reads_that_share_a_round_trip(self, world: World) -> None:
        """Of many simultaneous reads of one store object, each gets its own result, none older than the read.

        Everybody pays another amount, and reads at once; meanwhile others repeat the same reads all the time.
        """
        *payers, payee = await world.people(SHARING + 1, BASE_MINOR)
        store, writing = world.store, True

        async def look(payer: Person) -> tuple[int, int, int, int]:
            reads = store.fetch(ReadSet(accounts=(payer.account,), records=(RecordKey(KIND, "none", payer.slot),)))
            newest = store.list_transfers(payer.account, PageRequest(2))
            oldest = store.list_transfers(payer.account, PageRequest(1, newest_first=False))
            snapshot, last, first = await asyncio.gather(reads, newest, oldest)
            account = snapshot.account(payer.account)
            assert account is not None
            entries = [line.entry for line in (*last.items, *first.items)]
            assert {entry.account_id for entry in entries} == {payer.account}
            assert entries[-1].sequence == 1
            return account.sequence, account.posted_minor, entries[0].sequence, entries[0].balance_minor

        async def reads(payer: Person) -> None:
            while writing:
                await insist(lambda: look(payer))
                await asyncio.sleep(0)

        async def pays(payer: Person, amount_minor: int) -> None:
            keys = [world.key() for _ in range(STEPS // 3)]
            for i, key in enumerate(keys, 1):
                await insist(partial(world.pay, payer, payee, amount_minor, key))
                left_minor = BASE_MINOR - i * amount_minor
                assert await insist(lambda: look(payer)) == (i + 1, left_minor) * 2

        async with asyncio.TaskGroup() as tasks:
            for payer in payers * 2:
                tasks.create_task(reads(payer))
            try:
                await asyncio.gather(*(pays(payer, place) for place, payer in enumerate(payers, 1)))
            finally:
                writing = False
        world.trials += SHARING * (STEPS // 3)

    async def test_g7_the_answer_tells_the_account_that_a_read_tells(self, world: World) -> None:
        """What a payment or hold answers of its payer's account is what a fetch shows afterwards; a replay tells none.

        Commands that share a commit each tell the account as they left it.
        """
        ann, bob = await world.people(2, BASE_MINOR)
        key = world.key()

        async def check(told: tuple[Account, ...]) -> None:
            snapshot = await world.store.fetch(ReadSet(accounts=(ann.account,)))
            assert told in ((), (snapshot.account(ann.account),))

        await check((await world.pay(ann, bob, 5, key)).accounts)
        held = await world.ledger.place_hold(
            ann.id, world.key(), source=ann.account, to=To(bob.account), amount_minor=7, currency=CURRENCY
        )
        await check(held.accounts)
        assert (await world.pay(ann, bob, 5, key)).accounts == ()
        together = await asyncio.gather(*(insist(partial(world.pay, ann, bob, 1, world.key())) for _ in range(SHARING)))
        told_minor = [account.posted_minor for posted in together for account in posted.accounts]
        assert len(set(told_minor)) == len(told_minor)
        assert set(told_minor) <= set(range(BASE_MINOR - 5 - SHARING, BASE_MINOR - 5))
        world.trials += SHARING

    async def test_capability_snapshot_reads(self, world: World) -> None:
        """A store that promises snapshot reads shows each command in all tables and nodes or in none, in one fetch."""
        ann, bob = await world.people(2, BASE_MINOR)
        steps = Steps(world, ann, bob, STEPS_MAX)
        stores = await world.stores(3)
        left = iter(range(STEPS_MAX))
        reading = True
        seen: list[dict[str, int]] = []

        async def writes(store: Store) -> None:
            for place in left:
                with suppress(Unavailable, InDoubt):
                    await steps.take(place, store)
                if place >= STEPS and len(seen) >= FETCHES:
                    break

        async def reads(store: Store) -> None:
            while reading:
                seen.append(await insist(lambda: steps.at_once(store)))
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            for store in stores * 2:
                tasks.create_task(reads(store))
            try:
                await asyncio.gather(*map(writes, stores))
            finally:
                reading = False
        if world.store.capabilities.snapshot_reads:
            assert [found for found in seen if len(set(found.values())) > 1] == []
            world.trials += steps.taken
        else:
            world.not_tried.append("snapshot reads, which it does not promise")
