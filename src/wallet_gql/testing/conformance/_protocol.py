"""What a decision must not do (I2 of the design): every backend refuses it as InvariantViolated and writes nothing.

Each bad command runs alone, then in a batch with good commands, none of which may be affected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ...domain.changes import Changes, Decide, Decision, Scope, Snapshot
from ...domain.errors import InvariantViolated
from ...domain.ids import OPERATOR, AccountId, make_account_id, make_hold_id
from ...domain.model import Account, AccountStatus, Hold, HoldState, Record, Transfer
from ..raw import counter_key, movement, paying, receipt_of, written
from ..world import CURRENCY, Person, World
from .suite import Suite, kinds

CROWD = 4


async def refuses(world: World, scope: Scope, changes: Changes | Decide[object]) -> None:
    """Assert that a command is refused as InvariantViolated, writes nothing and does not affect other commands."""
    decide: Decide[object] = changes if callable(changes) else lambda _: Decision(changes, None)
    before = (await world.books()).facts()
    with pytest.raises(InvariantViolated):
        await world.store.execute(scope, decide)
    assert (await world.books()).facts() == before, "a refused command has written something"

    ann, bob = await world.people(2, 1_000)
    good = [world.pay(ann, bob, 10) for _ in range(2 * CROWD)]
    bad = [world.store.execute(scope, decide) for _ in range(CROWD)]
    outcomes = await world.together([*good[:CROWD], *bad, *good[CROWD:]])
    assert kinds(outcomes[:CROWD] + outcomes[2 * CROWD :]) == ["ok"] * 2 * CROWD
    assert kinds(outcomes[CROWD : 2 * CROWD]) == ["INTERNAL"] * CROWD
    assert await world.balance(ann) == (1_000 - 20 * CROWD, 0)


def holding(world: World, payer: Person, payee: Person, amount_minor: int) -> Hold:
    """Place a hold by a raw command."""
    now = world.clock()
    hold_id = make_hold_id(payer.slot, 1_767_225_600_000, world.entropy())
    return Hold(hold_id, payer.account, payee.account, payee.id, amount_minor, CURRENCY, now, None)


def closed(world: World, hold: Hold, **values: object) -> Hold:
    """The hold, voided."""
    return replace(hold, state=HoldState.VOIDED, closed_at=world.clock(), **values)  # type: ignore[arg-type]


def opened(world: World, owner: Person, slot: int, currency: str, **values: object) -> Account:
    """An account to be opened by a raw command."""
    account_id = make_account_id(slot, 1_767_225_600_000, world.entropy())
    return replace(Account(account_id, owner.id, currency, world.clock(), world.clock()), **values)  # type: ignore[arg-type]


class Protocol(Suite):
    """One test per forbidden act."""

    async def test_i2_a_scope_outside_its_home(self, world: World) -> None:
        """A scope that locks records of another slot is refused before anything is loaded."""
        ann, bob = await world.people(2, 1_000)
        for scope in (
            Scope(ann.slot, accounts=(ann.account, bob.account)),
            Scope(ann.slot, wallets=(bob.id,)),
            Scope(ann.slot, records=(counter_key(bob),)),
            Scope(ann.slot, holds=(make_hold_id(bob.slot, 1, 1),)),
        ):
            await refuses(world, scope, Changes())

    async def test_i2_a_debit_outside_the_home_slot(self, world: World) -> None:
        """Money leaves only accounts of the leading slot, whatever the header says."""
        ann, bob = await world.people(2, 1_000)
        scope, _ = paying(world, ann, bob, 100)
        taken = replace(
            movement(world, ann, bob, 100, "taken"), debit_account_id=bob.account, credit_account_id=ann.account
        )
        await refuses(world, replace(scope, accounts=(ann.account,)), Changes(transfers=(taken,)))

    async def test_i2_a_transfer_led_by_another_slot(self, world: World) -> None:
        """A transfer's id carries the slot that leads it."""
        ann, bob = await world.people(2, 1_000)
        scope, changes = paying(world, ann, bob, 100)
        foreign = replace(changes.transfers[0], id=movement(world, bob, ann, 1, "x").id)
        await refuses(world, scope, replace(changes, transfers=(foreign,)))

    async def test_i2_a_credit_that_the_scope_does_not_name(self, world: World) -> None:
        """Only accounts named in the scope are credited, at home and elsewhere."""
        ann, bob = await world.people(2, 1_000)
        scope, changes = paying(world, ann, bob, 100)
        await refuses(world, replace(scope, credits=()), changes)

    async def test_i2_a_credit_to_nobody(self, world: World) -> None:
        """A credit never opens an account: a credit to an absent account is refused."""
        ann, bob = await world.people(2, 1_000)
        absent = make_account_id(bob.slot, 1, 1)
        scope, changes = paying(world, ann, bob, 100)
        lost = replace(changes.transfers[0], credit_account_id=absent)
        await refuses(world, replace(scope, credits=(absent,)), replace(changes, transfers=(lost,)))

    async def test_i2_a_credit_in_another_currency(self, world: World) -> None:
        """A credit never converts currencies."""
        ann, bob = await world.people(2, 1_000)
        dollars = (await world.ledger.open_account(bob.id, "USD")).id
        scope, changes = paying(world, ann, bob, 100)
        converted = replace(changes.transfers[0], credit_account_id=dollars)
        await refuses(world, replace(scope, credits=(dollars,)), replace(changes, transfers=(converted,)))

    async def test_i2_an_overdraft(self, world: World) -> None:
        """No account goes below what it holds, even if a rule allows it."""
        ann, bob = await world.people(2, 1_000)
        await world.hold(ann, bob, 600)
        scope, changes = paying(world, ann, bob, 401)
        await refuses(world, scope, changes)
        scope, changes = paying(world, ann, bob, 400)
        await world.execute(scope, changes)
        assert await world.balance(ann) == (600, 600)

    async def test_i2_a_hold_above_the_balance(self, world: World) -> None:
        """No more is held than is posted."""
        ann, bob = await world.people(2, 1_000)
        scope = Scope(ann.slot, accounts=(ann.account,))
        await refuses(world, scope, Changes(placed=(holding(world, ann, bob, 1_001),)))

    @pytest.mark.parametrize(
        "where", ["account", "wallet", "hold", "transfer", "receipt", "record", "facts", "holds_of"]
    )
    async def test_i2_a_look_outside_the_scope(self, world: World, where: str) -> None:
        """A decision sees only what its scope names, even if another command of the batch loaded more."""
        ann, bob = await world.people(2, 1_000)
        placed = await world.hold(ann, bob, 100)
        moved = (await world.pay(ann, bob, 100)).result
        key = counter_key(ann)
        looks: dict[str, Callable[[Snapshot], object]] = {
            "account": lambda snapshot: snapshot.account(ann.account),
            "wallet": lambda snapshot: snapshot.wallet(ann.id),
            "hold": lambda snapshot: snapshot.hold(placed.id),
            "transfer": lambda snapshot: snapshot.transfer(moved.id),
            "receipt": lambda snapshot: snapshot.receipt(ann.id, moved.idempotency_key),
            "record": lambda snapshot: snapshot.record(key),
            "facts": lambda snapshot: snapshot.facts(bob.account),
            "holds_of": lambda snapshot: snapshot.holds_of(ann.account),
        }

        def look(snapshot: Snapshot) -> Decision[object]:
            return Decision(Changes(), looks[where](snapshot))

        await refuses(world, Scope(ann.slot, open_holds=True), look)

    async def test_i2_a_hold_closed_twice(self, world: World) -> None:
        """A hold closes once: neither again later nor twice in one command."""
        ann, bob = await world.people(2, 1_000)
        first, other = await world.hold(ann, bob, 100), await world.hold(ann, bob, 300)
        scope = Scope(ann.slot, accounts=(ann.account,), holds=(first.id, other.id))
        await refuses(world, scope, Changes(closed=(closed(world, first), closed(world, first))))
        await world.execute(scope, Changes(closed=(closed(world, first),)))
        await refuses(world, scope, Changes(closed=(closed(world, first),)))
        assert await world.balance(ann) == (1_000, 300)

    async def test_i2_a_hold_closed_as_another_than_it_was(self, world: World) -> None:
        """Closing a hold releases exactly the held amount, from the account that holds it."""
        ann, bob = await world.people(2, 1_000)
        dollars = (await world.ledger.open_account(ann.id, "USD")).id
        placed = await world.hold(ann, bob, 100)
        await world.hold(ann, bob, 300)
        scope = Scope(ann.slot, accounts=(ann.account, dollars), holds=(placed.id,))
        for amount_minor in (1, 400):
            await refuses(world, scope, Changes(closed=(closed(world, placed, amount_minor=amount_minor),)))
        await refuses(world, scope, Changes(closed=(closed(world, placed, account_id=dollars),)))
        assert await world.balance(ann) == (1_000, 400)

    async def test_i2_a_hold_placed_twice(self, world: World) -> None:
        """A hold's id is used once: neither again later nor twice in one command."""
        ann, bob = await world.people(2, 1_000)
        scope = Scope(ann.slot, accounts=(ann.account,))
        new = holding(world, ann, bob, 100)
        await refuses(world, scope, Changes(placed=(new, new)))
        await world.execute(scope, Changes(placed=(new,)))
        await refuses(world, scope, Changes(placed=(new,)))
        assert await world.balance(ann) == (1_000, 100)

    async def test_i2_a_transfer_posted_twice(self, world: World) -> None:
        """A transfer's id is used once: neither again later nor twice in one command."""
        ann, bob = await world.people(2, 1_000)
        scope, changes = paying(world, ann, bob, 100)
        await refuses(world, scope, replace(changes, transfers=changes.transfers * 2))
        await world.execute(scope, changes)
        key = world.key()
        again = replace(changes.transfers[0], idempotency_key=key)
        scope = replace(scope, receipts=((ann.id, key),))
        await refuses(world, scope, Changes(transfers=(again,), receipts=(receipt_of(world, ann, key, again),)))
        assert await world.balance(ann) == (900, 0)

    async def test_i2_a_second_account_in_a_currency(self, world: World) -> None:
        """One account per user and currency: neither a second one later nor two in one command."""
        ann = await world.person(1_000)
        scope = Scope(ann.slot, wallets=(ann.id,))
        second = opened(world, ann, ann.slot, CURRENCY)
        await refuses(world, scope, Changes(opened=(second,)))
        twins = opened(world, ann, ann.slot, "USD"), opened(world, ann, ann.slot, "USD")
        await refuses(world, scope, Changes(opened=twins))

    async def test_i2_an_account_opened_after_closing(self, world: World) -> None:
        """A closed account does not count: another is opened, also in the batch that closes it; one only is in use."""
        ann, bob = await world.people(2, 1_000)
        for turn in range(4):
            before = (await world.ledger.open_account(ann.id, "USD")).id
            shut = world.ledger.set_account_status(ann.id, before, AccountStatus.CLOSED)
            opening = [world.ledger.open_account(ann.id, "USD") for _ in range(CROWD)]
            outcomes = await world.together([*opening[:turn], shut, *opening[turn:]])
            assert kinds(outcomes).count("ok") in (1, 2)
            assert set(kinds(outcomes)) <= {"ok", "ACCOUNT_EXISTS"}
            dollars = [account for account in await world.ledger.accounts(ann.id) if account.currency == "USD"]
            used = [account.id for account in dollars if not account.is_closed]
            assert before not in used
            assert len(used) == kinds(outcomes).count("ok") - 1
            for account_id in used:
                await world.ledger.deposit(OPERATOR, world.key(), account_id, 5, "USD")
                await world.ledger.withdraw(OPERATOR, world.key(), account_id, 5, "USD")
                await world.ledger.set_account_status(ann.id, account_id, AccountStatus.CLOSED)
        scope = Scope(ann.slot, wallets=(ann.id,))
        await world.execute(scope, Changes(opened=(opened(world, ann, ann.slot, "USD"),)))
        await refuses(world, scope, Changes(opened=(opened(world, ann, ann.slot, "USD"),)))
        assert await world.balance(bob) == (1_000, 0)

    async def test_i2_an_account_opened_over_another(self, world: World) -> None:
        """An account's id is used once, even if the new account has another currency."""
        ann = await world.person(1_000)
        over = replace(opened(world, ann, ann.slot, "USD"), id=ann.account)
        await refuses(world, Scope(ann.slot, wallets=(ann.id,)), Changes(opened=(over,)))

    async def test_i2_an_account_opened_with_money_or_abroad(self, world: World) -> None:
        """An account begins at zero, in its owner's slot, for an owner whose wallet the scope names."""
        ann, bob = await world.people(2, 1_000)
        scope = Scope(ann.slot, wallets=(ann.id,))
        await refuses(world, scope, Changes(opened=(opened(world, ann, ann.slot, "USD", posted_minor=5),)))
        await refuses(world, scope, Changes(opened=(opened(world, ann, bob.slot, "USD"),)))
        await refuses(world, scope, Changes(opened=(opened(world, bob, bob.slot, "USD"),)))
        await refuses(world, Scope(ann.slot), Changes(opened=(opened(world, ann, ann.slot, "USD"),)))

    async def test_i2_an_account_opened_for_another_slots_user(self, world: World) -> None:
        """No account is opened for a user of another slot, even if another command of the batch loaded that wallet."""
        ann, bob = await world.people(2, 1_000)
        scope = Scope(ann.slot, wallets=(ann.id,))
        stray = Changes(opened=(opened(world, bob, ann.slot, "USD"),))
        looks = [world.ledger.open_account(bob.id, CURRENCY) for _ in range(CROWD)]
        outcomes = await world.together([*looks, world.execute(scope, stray)])
        assert kinds(outcomes) == ["ACCOUNT_EXISTS"] * CROWD + ["INTERNAL"]
        assert all(account.currency != "USD" for account in await world.ledger.accounts(ann.id))

    async def test_i2_a_status_outside_the_scope(self, world: World) -> None:
        """Only accounts named in the scope are frozen or closed."""
        ann, bob = await world.people(2, 1_000)
        scope = Scope(ann.slot, credits=(bob.account,))
        frozen: tuple[AccountId, AccountStatus] = (bob.account, AccountStatus.FROZEN)
        await refuses(world, scope, Changes(statuses=(frozen,)))
        await refuses(world, Scope(ann.slot), Changes(statuses=((ann.account, AccountStatus.FROZEN),)))

    async def test_i2_a_receipt_outside_the_scope_or_twice(self, world: World) -> None:
        """A receipt is written in the home slot, under a name of the scope, once."""
        ann, bob = await world.people(2, 1_000)
        key = world.key()
        mine = receipt_of(world, ann, key)
        scope = Scope(ann.slot, receipts=((ann.id, key),))
        await refuses(world, Scope(ann.slot), Changes(receipts=(mine,)))
        await refuses(world, scope, Changes(receipts=(replace(mine, slot=bob.slot),)))
        await refuses(world, scope, Changes(receipts=(mine, mine)))

    async def test_i2_a_key_claimed_away_from_home(self, world: World) -> None:
        """A key claim is written only at its actor's home."""
        ann, bob = await world.people(2, 1_000)
        key = world.key()
        claim = replace(receipt_of(world, bob, key), slot=ann.slot, outcome=None, leader=bob.slot)
        await refuses(world, Scope(ann.slot, receipts=((bob.id, key),)), Changes(receipts=(claim,)))

    async def test_i2_a_record_version_doubled_or_skipped(self, world: World) -> None:
        """A record is written as the next version: never the same, an older, or a later one."""
        ann = await world.person()
        key = counter_key(ann)
        scope = Scope(ann.slot, records=(key,))
        await refuses(world, scope, Changes(records=(written(key, 2),)))
        await refuses(world, scope, Changes(records=(written(key, 1, n=1), written(key, 1, n=2))))
        await world.execute(scope, Changes(records=(written(key, 1, n=1),)))
        for version in (0, 1, 3):
            await refuses(world, scope, Changes(records=(written(key, version),)))
        assert await world.record(key) == written(key, 1, n=1)

    async def test_i2_a_record_outside_the_scope(self, world: World) -> None:
        """A record is written or removed only if the scope names it, and removed only if it exists, once."""
        ann, bob = await world.people(2)
        key = counter_key(ann)
        await world.put(written(key, 1))
        scope = Scope(ann.slot, records=(key,))
        stray: Record = written(counter_key(bob), 1)
        await refuses(world, Scope(ann.slot), Changes(records=(written(key, 2),)))
        await refuses(world, scope, Changes(records=(stray,)))
        await refuses(world, scope, Changes(removed=(counter_key(ann, "absent"),)))
        await refuses(world, Scope(ann.slot), Changes(removed=(key,)))

    async def test_i2_a_record_removed_twice(self, world: World) -> None:
        """Removing a record twice in one command is refused, and moves no money with it."""
        ann, bob = await world.people(2, 1_000)
        key = counter_key(ann)
        await world.put(written(key, 1))
        scope, changes = paying(world, ann, bob, 100)
        await refuses(world, replace(scope, records=(key,)), changes + Changes(removed=(key, key)))

    async def test_i2_what_is_not_a_decision(self, world: World) -> None:
        """A decide function that does not return a decision fails alone, with nothing written."""
        ann, bob = await world.people(2, 1_000)
        moved: Transfer = movement(world, ann, bob, 1, "x")

        def decide(_: Snapshot) -> Decision[None]:
            return moved  # type: ignore[return-value]

        with pytest.raises(AttributeError):
            await world.store.execute(Scope(ann.slot), decide)
        assert await world.balance(ann) == (1_000, 0)
