"""Pending credits on simulated nodes: received once and in order, counted everywhere, bounded; each mistake is noticed.

Every check runs on the product and passes; it runs on the product with one mistake, and fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.property._splits import split_payment
from wallet_gql.backends import memory as memory_module
from wallet_gql.backends.kit.receiving import RECEIVE_MAX
from wallet_gql.backends.memory import MemoryStore
from wallet_gql.backends.memory_node import MemoryNode
from wallet_gql.books import exchange
from wallet_gql.books.audit import audit
from wallet_gql.books.exchange import digest_of, export_lines, import_lines
from wallet_gql.domain.changes import Credit, Done, Outcome, ReadSet, Snapshot, State, Writes
from wallet_gql.domain.errors import AccountNotEmpty, Contended, InsufficientFunds, InvariantViolated
from wallet_gql.domain.ids import OPERATOR, AccountId
from wallet_gql.domain.model import Account, AccountStatus, PendingCredit
from wallet_gql.domain.money import BALANCE_MAX_MINOR
from wallet_gql.storage import PageRequest
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.patience import patience
from wallet_gql.testing.world import Person, World

MANY: Final = 2 * RECEIVE_MAX + 7
Check = Callable[[World], Awaitable[None]]


class Chance:
    """Chance that says the same every time."""

    def __init__(self, *, late: bool) -> None:
        self.late = late

    def random(self) -> float:
        """Below every share if credits are to arrive late, else above."""
        return 0.0 if self.late else 1.0


def memory_of(world: World) -> MemoryStore:
    """The store, with its insides."""
    assert isinstance(world.store, MemoryStore)
    return world.store


def chance(world: World, *, late: bool) -> None:
    """From now on all credits arrive late, or all in time; they stay pending until somebody locks the account."""
    store = memory_of(world)
    store._chance = Chance(late=late)  # type: ignore[assignment]  # as much of `Random` as the store uses
    store._settle_some = lambda: None  # type: ignore[method-assign]


async def pend(world: World, count: int, balance_minor: int = 0) -> tuple[Person, Person]:
    """A payer and a payee of two nodes, and so many credits of 1, 2, 3, … that are pending for the payee."""
    payer, payee = await world.people(2, balance_minor)
    await world.fund(payer, count * count)
    chance(world, late=False)
    for amount_minor in range(1, count + 1):
        assert (await world.pay(payer, payee, amount_minor)).credited
    return payer, payee


async def people_of_each_node(world: World) -> list[Person]:
    """A person of each node, in the order of the nodes."""
    found: dict[str, Person] = {}
    while len(found) < len(memory_of(world).nodes):
        (person,) = await world.people(1)
        found.setdefault(memory_of(world)._map.home(person.slot), person)
    return [found[name] for name in sorted(found)]


def pending_on(world: World, person: Person) -> list[PendingCredit]:
    """The person's pending credits as stored."""
    return memory_of(world)._node(person.account).pending_of([person.account])


async def entries_of(world: World, person: Person) -> list[int]:
    """The amounts of the person's entries, oldest first, as history shows them now."""
    page = await world.store.list_transfers(person.account, PageRequest(100, newest_first=False))
    return [line.entry.amount_minor for line in page.items]


async def received_once_and_in_order(world: World) -> None:
    """The next command on the account receives all of a few credits; history has them in the order of arrival."""
    payer, payee = await pend(world, 3)
    assert await entries_of(world, payee) == []
    await world.pay(payee, payer, 4)
    assert await entries_of(world, payee) == [1, 2, 3, -4]
    await world.pay(payee, payer, 1)
    assert await entries_of(world, payee) == [1, 2, 3, -4, -1]
    assert pending_on(world, payee) == []


async def part_of_every_balance(world: World) -> None:
    """Reads, totals and decisions count pending credits, and reads receive nothing. Each is a change of the version."""
    _, payee = await pend(world, 3)
    seen = await world.ledger.account(payee.id, payee.account)
    assert (seen.posted_minor, seen.sequence) == (6, 0)
    assert seen.version == memory_of(world)._node(payee.account).accounts[payee.account].version + 3
    (listed,) = [a for a in await world.ledger.accounts(payee.id) if a.id == payee.account]
    assert listed.posted_minor == 6
    assert all(total.customer_minor + total.system_minor == 0 for total in await world.store.totals())
    assert len(pending_on(world, payee)) == 3
    report = await audit(world.store)
    assert report.clean, report.findings
    await world.store.recover(10)
    assert (await world.ledger.account(payee.id, payee.account)).version >= seen.version


async def a_backlog_is_received_in_parts(world: World) -> None:
    """No commit receives more than its share. All of it precedes the next entry, and money of it is spent."""
    payer, payee = await pend(world, MANY)
    counts = count_received(memory_of(world)._node(payee.account))
    whole_minor = MANY * (MANY + 1) // 2
    with pytest.raises(InsufficientFunds):
        await world.pay(payee, payer, whole_minor + 1)
    assert counts == [RECEIVE_MAX, RECEIVE_MAX, MANY - 2 * RECEIVE_MAX]
    assert (await world.ledger.account(payee.id, payee.account)).posted_minor == whole_minor
    await world.pay(payee, payer, 1)
    page = await world.store.list_transfers(payee.account, PageRequest(2))
    assert [line.entry.amount_minor for line in page.items] == [-1, MANY]
    await world.pay(payee, payer, whole_minor - 1)
    assert (await world.ledger.account(payee.id, payee.account)).posted_minor == 0


def count_received(node: MemoryNode) -> list[int]:
    """How many credits each commit receives, from now on."""
    counts: list[int] = []
    write = node.write

    def counted(writes: Writes) -> None:
        counts.append(len(writes.received))
        write(writes)

    node.write = counted  # type: ignore[method-assign]  # of this node alone
    return counts


async def credited_says_the_truth(world: World) -> None:
    """An answer says `credited` only when the payee can spend the money."""
    payer, payee = await world.people(2)
    await world.fund(payer, 10)
    chance(world, late=True)
    posted = await world.pay(payer, payee, 10)
    if posted.credited:
        await world.pay(payee, payer, 10)
    else:
        assert (await world.ledger.account(payee.id, payee.account)).posted_minor == 0


async def replays_say_the_truth(world: World) -> None:
    """A repeated command says `credited` only when all its payees have their money, also if its look-ups now fail."""
    payer, shop, other = await people_of_each_node(world)
    await world.fund(payer, 100)
    chance(world, late=True)
    again = await split_payment(world, payer, shop, other)
    assert not (await again()).credited
    chance(world, late=False)
    memory_of(world)._arrive(0)
    assert not (await again()).credited
    memory_of(world)._arrive(0)
    assert (await again()).credited


async def no_account_closes_under_a_credit(world: World) -> None:
    """Not while a credit is on its way, and not when it is pending."""
    payer, payee = await world.people(2)
    await world.fund(payer, 10)
    chance(world, late=True)
    await world.pay(payer, payee, 10)
    with pytest.raises(Contended):
        await world.ledger.set_account_status(OPERATOR, payee.account, AccountStatus.CLOSED)
    chance(world, late=False)
    memory_of(world)._arrive(0)
    with pytest.raises(AccountNotEmpty):
        await world.ledger.set_account_status(OPERATOR, payee.account, AccountStatus.CLOSED)


async def moves_with_the_ledger(world: World) -> None:
    """A credit that cannot be received is part of digest and export, and moves to other nodes; one node refuses it."""
    _, payee = await pend(world, 2)
    empty = (await digest_of(world.store)).text
    node = memory_of(world)._node(payee.account)
    stuck = node.pending[min(node.pending)]
    lines = [line async for line in export_lines(world.store)]
    async with MemoryStore("memory://?nodes=3") as other:
        assert (await import_lines(other, lambda: lines)).text == empty
        snapshot = await other.fetch(ReadSet(accounts=(payee.account,)))
        account = snapshot.account(payee.account)
        assert account is not None
        assert account.posted_minor == 3
        assert (await audit(other)).clean
    del node.pending[stuck.transfer_id]
    assert (await digest_of(world.store)).text != empty
    node.pending[stuck.transfer_id] = stuck
    async with MemoryStore() as single:
        with pytest.raises(InvariantViolated, match="never received"):
            await import_lines(single, lambda: lines)


async def an_impossible_credit_blocks_no_other(world: World) -> None:
    """A credit above 64 bits stays pending; those behind it are received."""
    payer, payee = await pend(world, 3, balance_minor=7)
    node = memory_of(world)._node(payee.account)
    first = next(iter(node.pending))
    node.pending[first] = replace(node.pending[first], amount_minor=BALANCE_MAX_MINOR)
    await world.pay(payee, payer, 1)
    assert [credit.transfer_id for credit in pending_on(world, payee)] == [first]
    assert await entries_of(world, payee) == [7, 2, 3, -1]
    node.pending[first] = replace(node.pending[first], amount_minor=1)


CHECKS: Final[tuple[Check, ...]] = (
    received_once_and_in_order,
    part_of_every_balance,
    a_backlog_is_received_in_parts,
    credited_says_the_truth,
    replays_say_the_truth,
    no_account_closes_under_a_credit,
    moves_with_the_ledger,
    an_impossible_credit_blocks_no_other,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_product_passes(check: Check, tmp_path: Path) -> None:
    """And the books are in order afterwards."""
    async with World(Harness("memory://?nodes=3&late=7"), tmp_path) as world:
        await check(world)


# The mistakes


def received_twice(patch: pytest.MonkeyPatch) -> None:
    """What was received stays pending."""
    write = MemoryNode.write
    patch.setattr(MemoryNode, "write", lambda node, writes: write(node, replace(writes, received=[])))


def received_out_of_order(patch: pytest.MonkeyPatch) -> None:
    """The newest first."""
    receive = State.receive_pending

    def backward(state: State, pending: Iterable[PendingCredit], *sums: Any) -> None:
        receive(state, [*pending][::-1], *sums)

    patch.setattr(State, "receive_pending", backward)


def left_out_of_a_balance(patch: pytest.MonkeyPatch) -> None:
    """Reads show what has entries."""
    patch.setattr(State, "seen", lambda _state, account: account)


def before_the_backlog(patch: pytest.MonkeyPatch) -> None:
    """A command that needs no pending money does not wait for it."""
    receive = State.receive_pending

    def hasty(state: State, pending: Iterable[PendingCredit], *sums: Any) -> None:
        receive(state, pending, *sums)
        state.backlog = set()

    patch.setattr(State, "receive_pending", hasty)


def left_out_of_the_totals(patch: pytest.MonkeyPatch) -> None:
    """The sums of a node have only what has entries."""
    totals = MemoryStore.totals

    async def short(store: MemoryStore) -> Any:
        kept = {node: node.pending for node in store.nodes.values()}
        for node in kept:
            node.pending = {}
        found = await totals(store)
        for node, pending in kept.items():
            node.pending = pending
        return found

    patch.setattr(MemoryStore, "totals", short)


def left_out_of_an_export(patch: pytest.MonkeyPatch) -> None:
    """The exported transfer has only entries."""
    to_line = exchange._to_line

    def short(item: Any) -> tuple[str, dict[str, Any]]:
        kind, plain = to_line(item)
        return kind, {name: value for name, value in plain.items() if name != "pending"}

    patch.setattr(exchange, "_to_line", short)


def left_out_of_the_audit(patch: pytest.MonkeyPatch) -> None:
    """The audit folds entries and compares them with the balance that clients see."""
    patch.setattr(Snapshot, "received_account", _seen)


def _seen(snapshot: Snapshot, account_id: AccountId) -> Account | None:
    account = snapshot._state.accounts.get(account_id)
    return None if account is None else snapshot._state.seen(account)


def credited_before_it_is_pending(patch: pytest.MonkeyPatch) -> None:
    """The answer says `credited` as soon as the payer's node has committed."""
    patch.setattr(memory_module, "_waiting_for", _answered_at_once)


def _answered_at_once(outcome: Outcome, *_: frozenset[str]) -> Outcome:
    return replace(outcome, peers=frozenset()) if isinstance(outcome, Done) else outcome


def credited_when_repeated(patch: pytest.MonkeyPatch) -> None:
    """A repeated command looks only at the credits of its own transfer, as its receipt names it."""
    patch.setattr(memory_module, "command_of", lambda transfer: transfer.id)


def closing_in_between(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks for credits on their way."""
    patch.setattr(MemoryStore, "_check_closing", lambda _store, _writes: None)


def everything_at_once(patch: pytest.MonkeyPatch) -> None:
    """One commit receives the whole backlog."""
    patch.setattr(memory_module, "RECEIVE_MAX", 10**9)


def stopped_by_an_impossible_credit(patch: pytest.MonkeyPatch) -> None:
    """The receiver tries it like any other."""

    def plain(state: State, pending: Iterable[PendingCredit], *_: Any) -> None:
        for credit in pending:
            state.writes.received.append(credit)
            account = state.accounts[credit.account_id]
            state.store_account(replace(account, posted_minor=account.posted_minor + credit.amount_minor))

    patch.setattr(State, "receive_pending", plain)


def no_header(patch: pytest.MonkeyPatch) -> None:
    """A credit arrives without the header that would refuse it a second time."""
    whole = State.pend

    def short(state: State, credit: Credit) -> None:
        whole(state, credit)
        state.writes = Writes(pending=state.writes.pending, system_entries=state.writes.system_entries)

    patch.setattr(State, "pend", short)


MISTAKES: Final[Mapping[Callable[[pytest.MonkeyPatch], None], Check]] = {
    received_twice: received_once_and_in_order,
    received_out_of_order: received_once_and_in_order,
    left_out_of_a_balance: part_of_every_balance,
    before_the_backlog: a_backlog_is_received_in_parts,
    left_out_of_the_totals: part_of_every_balance,
    left_out_of_an_export: moves_with_the_ledger,
    left_out_of_the_audit: part_of_every_balance,
    credited_before_it_is_pending: credited_says_the_truth,
    credited_when_repeated: replays_say_the_truth,
    closing_in_between: no_account_closes_under_a_credit,
    everything_at_once: a_backlog_is_received_in_parts,
    stopped_by_an_impossible_credit: an_impossible_credit_blocks_no_other,
    no_header: received_once_and_in_order,
}
"""Each with the check that notices it."""


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
async def test_a_mistake_is_noticed(
    mistake: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the check named above."""
    world = World(Harness("memory://?nodes=3&late=7"), tmp_path)
    await world.__aenter__()
    mistake(monkeypatch)
    with pytest.raises((Exception, pytest.fail.Exception)):
        await _run(MISTAKES[mistake], world)
    monkeypatch.undo()
    await world.__aexit__(AssertionError)


async def _run(check: Check, world: World) -> None:
    async with asyncio.timeout(patience(20)):
        await check(world)
        await world.check()
