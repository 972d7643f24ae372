"""One effect and one answer for each key of each actor: the named traps, and further mistakes with keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ... import failpoints
from ...domain.errors import (
    AccountFrozen,
    IdempotencyKeyReused,
    InsufficientFunds,
    InvalidAmount,
    InvalidInput,
    PayeeNotFound,
)
from ...domain.ids import OPERATOR, AccountId
from ...domain.model import AccountStatus
from ...verbs.ledger import Ledger, Posted, To
from ..world import CURRENCY, Person, World
from .suite import PARALLEL, Suite, failpoints_of, kinds, raised


class Idempotency(Suite):
    """Keys and receipts through the ledger's verbs."""

    async def test_trap_state_is_not_checked_before_the_key(self, world: World) -> None:
        """A retry of a success returns that success, even if the state would refuse the request now."""
        ann, bob = await world.people(2, 1_000)
        ledger = world.ledger
        first, second = await world.hold(ann, bob, 100), await world.hold(ann, bob, 100)
        paid = (await world.pay(ann, bob, 50)).result
        commands: list[Callable[[], Awaitable[Posted[Any]]]] = [
            lambda: ledger.capture_hold(bob.id, "capture", first.id),
            lambda: ledger.void_hold(bob.id, "void", second.id),
            lambda: ledger.reverse_transfer(bob.id, "reverse", paid.id),
            lambda: ledger.deposit(OPERATOR, "deposit", ann.account, 7, CURRENCY),
            lambda: _hold(ledger, ann, bob, 100, "hold"),
            lambda: ledger.withdraw(ann.id, "withdraw", ann.account, 7, CURRENCY),
            lambda: world.pay(ann, bob, 800, "pay"),
        ]
        answers = [await command() for command in commands]
        assert not any(answer.replayed for answer in answers)
        balances = await world.balance(ann), await world.balance(bob)
        assert balances[0] == (100, 100)

        for status in (AccountStatus.OPEN, AccountStatus.FROZEN):
            for person in (ann, bob):
                await ledger.set_account_status(OPERATOR, person.account, status)
            for command, answer in zip(commands, answers, strict=True):
                again = await command()
                assert again.replayed
                assert again.result == answer.result
        assert (await world.balance(ann), await world.balance(bob)) == balances

    async def test_trap_state_is_not_checked_before_the_key_on_a_closed_account(self, world: World) -> None:
        """A retry of the payment that emptied an account has the same answer after the account was closed."""
        ann, bob = await world.people(2, 1_000)
        moved = (await world.pay(ann, bob, 1_000, "last")).result
        await world.ledger.set_account_status(ann.id, ann.account, AccountStatus.CLOSED)
        again = await world.pay(ann, bob, 1_000, "last")
        assert (again.result, again.replayed) == (moved, True)

    async def test_trap_the_key_is_kept_inside_the_moneys_commit(self, world: World) -> None:
        """Whatever point of a commit fails, and however the store ends, the same key pays once."""
        ann, bob = await world.people(2, 1_000)
        keys = [world.key() for _ in range(20)]
        points = failpoints_of(world)
        for i, key in enumerate(keys):
            failpoints.arm(f"{points[i % len(points)]}=fail@1" if points else "")
            await world.together([world.pay(ann, bob, 10, key)])
            failpoints.arm("")
            if i % 2:
                await world.together([world.pay(ann, bob, 10, key)])
        await world.check()
        if world.store.capabilities.durable:
            await world.kill()
        outcomes = await world.together(world.pay(ann, bob, 10, key) for key in [*keys, *keys])
        assert kinds(outcomes) == ["ok"] * 40
        assert await world.balance(ann) == (800, 0)

    async def test_trap_identical_purchases_under_two_keys_are_two(self, world: World) -> None:
        """Two genuine payments of the same amount to the same payee at the same time are both made."""
        ann, bob = await world.people(2, 1_000)
        outcomes = await world.together(world.pay(ann, bob, 10) for _ in range(PARALLEL))
        assert kinds(outcomes) == ["ok"] * PARALLEL
        assert not any(outcome.replayed for outcome in outcomes)
        assert len({outcome.result.id for outcome in outcomes}) == PARALLEL
        assert await world.balance(ann) == (1_000 - 10 * PARALLEL, 0)

    async def test_one_key_in_parallel_has_one_effect(self, world: World) -> None:
        """The same request sent 50 times at once is executed once, for every verb; the others are replays."""
        ann, bob = await world.people(2, 1_000)
        ledgers = [world.ledger_on(store) for store in await world.stores(3)]
        captured, voided = await world.hold(ann, bob, 100), await world.hold(ann, bob, 100)
        paid = (await world.pay(ann, bob, 100)).result
        verbs: list[Callable[[Ledger], Awaitable[Posted[Any]]]] = [
            lambda ledger: world.pay(ann, bob, 10, "pay", ledger),
            lambda ledger: _hold(ledger, ann, bob, 10, "hold"),
            lambda ledger: ledger.capture_hold(bob.id, "capture", captured.id, amount_minor=60),
            lambda ledger: ledger.void_hold(bob.id, "void", voided.id),
            lambda ledger: ledger.reverse_transfer(bob.id, "reverse", paid.id, amount_minor=30),
            lambda ledger: ledger.withdraw(ann.id, "withdraw", ann.account, 10, CURRENCY),
            lambda ledger: ledger.deposit(OPERATOR, "deposit", ann.account, 10, CURRENCY),
        ]
        for verb in verbs:
            outcomes = await world.together(verb(ledgers[i % len(ledgers)]) for i in range(PARALLEL))
            assert kinds(outcomes) == ["ok"] * PARALLEL
            assert [outcome.replayed for outcome in outcomes].count(False) == 1
            assert len({outcome.result for outcome in outcomes}) == 1
        assert await world.balance(ann) == (1_000 - 100 - 10 - 60 + 30, 10)

    async def test_one_key_with_another_input_is_refused(self, world: World) -> None:
        """A used key with another amount, payee, reference or verb is refused, whichever request was first."""
        ann, bob, cem = await world.people(3, 1_000)
        ledger = world.ledger
        await world.pay(ann, bob, 10, "key")
        others: list[Awaitable[object]] = [
            world.pay(ann, bob, 11, "key"),
            world.pay(ann, cem, 10, "key"),
            _transfer(ledger, ann, To(bob.account), "key", reference="another"),
            _transfer(ledger, ann, To(username="nobody"), "key"),
            _hold(ledger, ann, bob, 10, "key"),
            ledger.withdraw(ann.id, "key", ann.account, 10, CURRENCY),
        ]
        outcomes = await world.together(others)
        assert kinds(outcomes) == ["IDEMPOTENCY_KEY_REUSED"] * len(others)
        assert await world.balance(ann) == (990, 0)

    async def test_one_key_with_other_inputs_in_parallel(self, world: World) -> None:
        """Of 50 different requests under one key at once, one is executed."""
        ann, bob = await world.people(2, 10_000)
        ledgers = [world.ledger_on(store) for store in await world.stores(3)]
        outcomes = await world.together(
            world.pay(ann, bob, 1 + i, "key", ledgers[i % len(ledgers)]) for i in range(PARALLEL)
        )
        assert kinds(outcomes) == ["IDEMPOTENCY_KEY_REUSED"] * (PARALLEL - 1) + ["ok"]

    async def test_one_key_for_two_leaders_in_parallel(self, world: World) -> None:
        """A key used at once for captures or deposits led by different homes has one effect, because of key claims."""
        payers = await world.people(4, 1_000)
        merchant = await world.person()
        holds = [await world.hold(payer, merchant, 100) for payer in payers]
        ledgers = [world.ledger_on(store) for store in await world.stores(2)]
        outcomes = await world.together(
            ledgers[i % len(ledgers)].capture_hold(merchant.id, "key", holds[i % 4].id) for i in range(PARALLEL)
        )
        winners = {o.result.id for o in outcomes if isinstance(o, Posted)}
        assert len(winners) == 1
        assert set(kinds(outcomes)) == {"ok", "IDEMPOTENCY_KEY_REUSED"}
        assert await world.balance(merchant) == (100, 0)

        before = [await world.balance(payer) for payer in payers]
        outcomes = await world.together(
            ledgers[i % len(ledgers)].deposit(OPERATOR, "key", payers[i % 4].account, 5, CURRENCY)
            for i in range(PARALLEL)
        )
        assert set(kinds(outcomes)) == {"ok", "IDEMPOTENCY_KEY_REUSED"}
        after = [await world.balance(payer) for payer in payers]
        assert sum(a[0] - b[0] for a, b in zip(after, before, strict=True)) == 5

    async def test_a_remembered_refusal_stays_a_refusal(self, world: World) -> None:
        """A late duplicate of a refused request gets the same refusal, even if its cause has gone."""
        ann, bob = await world.people(2, 100)
        refused = await raised(world.pay(ann, bob, 500, "poor"))
        assert isinstance(refused, InsufficientFunds)
        unknown = await raised(_transfer(world.ledger, ann, To(username="late-comer"), "unknown"))
        assert isinstance(unknown, PayeeNotFound)
        await world.ledger.set_account_status(OPERATOR, ann.account, AccountStatus.FROZEN)
        frozen = await raised(world.pay(ann, bob, 1, "frozen"))
        assert isinstance(frozen, AccountFrozen)

        await world.ledger.set_account_status(OPERATOR, ann.account, AccountStatus.OPEN)
        await world.fund(ann, 10_000)
        await world.identity().sign_up("late-comer", "late@example.org", "a good password")
        if world.store.capabilities.durable:
            await world.reopen()
        for before, command in (
            (refused, world.pay(ann, bob, 500, "poor")),
            (unknown, _transfer(world.ledger, ann, To(username="late-comer"), "unknown")),
            (frozen, world.pay(ann, bob, 1, "frozen")),
        ):
            again = await raised(command)
            assert (again.code, again.fields, str(again)) == (before.code, before.fields, str(before))
        assert await world.balance(ann) == (10_100, 0)

    async def test_malformed_input_is_not_remembered(self, world: World) -> None:
        """A key sent with a malformed request is still free for the corrected one."""
        ann, bob = await world.people(2, 100)
        for amount_minor in (0, -1, 10**18):
            assert isinstance(await raised(world.pay(ann, bob, amount_minor, "key")), InvalidAmount)
        bad_id: AccountId = AccountId("acc_nonsense")
        assert isinstance(await raised(_transfer(world.ledger, ann, To(bad_id), "key")), InvalidInput)
        long = _transfer(world.ledger, ann, To(bob.account), "key", reference="x" * 1_000)
        assert isinstance(await raised(long), InvalidInput)
        assert not (await world.pay(ann, bob, 10, "key")).replayed
        for key in ("", "é", "x" * 256, "line\nbreak"):
            assert isinstance(await raised(world.pay(ann, bob, 1, key or " \n")), InvalidInput)
        assert await world.balance(ann) == (90, 0)

    async def test_a_fault_is_not_remembered(self, world: World) -> None:
        """A key whose request met a busy or failing store is executed on the next request."""
        ann, bob = await world.people(2, 100)
        await world.harness.pause(world.store)
        await raised(world.pay(ann, bob, 10, "key", world.ledger_on(world.store, timeout_seconds=0.1)))
        await world.harness.resume(world.store)
        await world.pay(ann, bob, 10, "key")
        assert await world.balance(ann) == (90, 0)

    async def test_keys_belong_to_their_actor(self, world: World) -> None:
        """The same key of two people is two keys, even if one acts on what the other leads."""
        ann, bob = await world.people(2, 1_000)
        outcomes = await world.together([world.pay(ann, bob, 10, "key"), world.pay(bob, ann, 20, "key")])
        assert kinds(outcomes) == ["ok", "ok"]
        placed = await world.hold(ann, bob, 100)
        await _hold(world.ledger, ann, bob, 5, "capture")
        await world.ledger.capture_hold(bob.id, "capture", placed.id)
        assert await world.balance(ann) == (1_000 - 10 + 20 - 100, 5)

    async def test_an_unknown_thing_never_hides_a_used_key(self, world: World) -> None:
        """The key is consulted before a failed look-up is reported."""
        ann, bob = await world.people(2, 1_000)
        await world.pay(ann, bob, 10, "key")
        hold = await world.hold(ann, bob, 10)
        absent = type(hold.id)(hold.id[:-4] + "0000")
        with pytest.raises(IdempotencyKeyReused):
            await world.ledger.void_hold(ann.id, "key", absent)
        with pytest.raises(IdempotencyKeyReused):
            await _transfer(world.ledger, ann, To(username="nobody"), "key")


async def _hold(ledger: Ledger, payer: Person, payee: Person, amount_minor: int, key: str) -> Posted[Any]:
    return await ledger.place_hold(
        payer.id, key, source=payer.account, to=To(payee.account), amount_minor=amount_minor, currency=CURRENCY
    )


async def _transfer(ledger: Ledger, payer: Person, to: To, key: str, reference: str = "") -> Posted[Any]:
    """Pay ten cents."""
    return await ledger.transfer(
        payer.id, key, source=payer.account, to=to, amount_minor=10, currency=CURRENCY, reference=reference
    )
