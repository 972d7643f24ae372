"""The checker of histories: it accepts correct histories, and names each kind of damage."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from wallet_gql.domain.ids import OPERATOR, TransferId
from wallet_gql.domain.model import Account, HoldState, SystemEntry, Transfer
from wallet_gql.storage import JournalItem
from wallet_gql.testing.books import Books, faults, scan_all
from wallet_gql.testing.harness import harness_for
from wallet_gql.testing.history import Operation, Operations, Recorder, check, read_history
from wallet_gql.testing.patience import patience
from wallet_gql.testing.world import CURRENCY, World
from wallet_gql.testing.writer import Writer, ask

PEOPLE = 4
CLIENTS = 6
OPERATIONS = 160
SEEDS = (1, 2, 3)

Damage = Callable[[Operations, Books, random.Random], str]
"""Damages a sound history or its books, and answers the words in which the checker must complain."""


async def make_history(folder: Path, seed: int) -> tuple[Operations, Books]:
    """A sound history of some clients on a memory store of three nodes, and its books."""
    async with World(harness_for("memory-3"), folder, seed=seed) as world:
        people = await world.people(PEOPLE)
        known = {(t.actor, t.idempotency_key) for t in (await world.books()).transfers.values()}
        with Recorder(folder / "history.jsonl") as recorder:
            for actor, key in known:
                recorder.write("invoke", actor, key, verb="deposit")
            for person in people:
                asked = {"verb": "deposit", "account": person.account, "amount_minor": 300}
                await ask(world.ledger, recorder, OPERATOR, world.key(), asked)
            accounts = [a for a in await scan_all(world.store, "account") if isinstance(a, Account)]
            euros = [account for account in accounts if account.currency == CURRENCY]
            writer = Writer(world.ledger, recorder, euros, name="w", seed=seed)
            numbers = iter(range(OPERATIONS))
            await world.together(writer.run(lambda: next(numbers, None)) for _ in range(CLIENTS))
        return read_history([folder / "history.jsonl"]), await world.books()


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Operations, Books]]:
    """One sound history a seed."""
    return {seed: asyncio.run(make_history(tmp_path_factory.mktemp("history"), seed)) for seed in SEEDS}


def paid(operations: Operations, books: Books, drawn: random.Random) -> tuple[Operation, Transfer]:
    """An answered payment and its transfer."""
    found = [o for o in operations.values() if o.asked["verb"] == "transfer" and o.oks]
    operation = drawn.choice(found)
    return operation, books.transfers[operation.oks[0][1]]


def lose(operations: Operations, books: Books, drawn: random.Random) -> str:
    """An answered transfer is gone."""
    _, transfer = paid(operations, books, drawn)
    del books.transfers[transfer.id]
    for entries in books.entries.values():
        entries[:] = [entry for entry in entries if entry.transfer_id != transfer.id]
    return "the books have nothing"


def double(operations: Operations, books: Books, drawn: random.Random) -> str:
    """A retry paid again."""
    _, transfer = paid(operations, books, drawn)
    again = replace(transfer, id=TransferId(transfer.id[:-4] + "0000"))
    books.transfers[again.id] = again
    return "paid 2 times"


def refuse_what_was_paid(operations: Operations, books: Books, drawn: random.Random) -> str:
    """The client was told no, and the money went."""
    operation, _ = paid(operations, books, drawn)
    operation.oks.clear()
    operation.refusals.append("INSUFFICIENT_FUNDS")
    return "was refused (INSUFFICIENT_FUNDS) and paid"


def drop_an_entry(_: Operations, books: Books, drawn: random.Random) -> str:
    """A line is missing in the middle."""
    entries = drawn.choice([entries for entries in books.entries.values() if len(entries) > 5])
    del entries[drawn.randrange(1, len(entries) - 1)]
    return "a gap or a double"


def change_a_balance(_: Operations, books: Books, drawn: random.Random) -> str:
    """A balance after an entry is not what it folds to."""
    entries = drawn.choice([entries for entries in books.entries.values() if len(entries) > 5])
    place = drawn.randrange(len(entries))
    entries[place] = replace(entries[place], balance_minor=entries[place].balance_minor + 1)
    return "folded it is"


def change_the_account(_: Operations, books: Books, drawn: random.Random) -> str:
    """The account's own balance is off."""
    name = drawn.choice([name for name, account in books.accounts.items() if account.posted_minor])
    books.accounts[name] = replace(books.accounts[name], posted_minor=books.accounts[name].posted_minor + 5)
    return "its entries sum to"


def lose_a_held_amount(_: Operations, books: Books, drawn: random.Random) -> str:
    """The account forgot an open hold, or has one too many if there is none in these books."""
    name = drawn.choice([name for name, account in books.accounts.items() if account.held_minor] or [*books.accounts])
    books.accounts[name] = replace(books.accounts[name], held_minor=0 if books.accounts[name].held_minor else 5)
    return "its open holds sum to"


def reorder(operations: Operations, books: Books, drawn: random.Random) -> str:
    """What was answered before another was asked stands behind it."""
    pairs: list[tuple[str, int]] = []
    for name, entries in books.entries.items():
        whose = [books.transfers[entry.transfer_id] for entry in entries]
        keyed = [operations[t.actor, t.idempotency_key] for t in whose]
        pairs += ((name, i) for i, (a, b) in enumerate(pairwise(keyed)) if a.answered_at < b.invoked_at)
    name, place = drawn.choice(pairs)
    entries = books.entries[name]
    entries[place], entries[place + 1] = entries[place + 1], entries[place]
    return "was asked, and comes after it"


def invent(operations: Operations, books: Books, drawn: random.Random) -> str:
    """A transfer that no client asked for."""
    operation, _ = paid(operations, books, drawn)
    del operations[operation.actor, operation.key]
    return "nobody asked for it"


def answer_differently(operations: Operations, books: Books, drawn: random.Random) -> str:
    """A replay told another transfer."""
    operation, _ = paid(operations, books, drawn)
    operation.oks.append((operation.answered_at, "trf_other", True))
    return "answered with different results"


def answer_twice_as_new(operations: Operations, books: Books, drawn: random.Random) -> str:
    """Two calls under one key were both told that they did it."""
    operation, transfer = paid(operations, books, drawn)
    operation.oks += [(operation.answered_at, transfer.id, False)] * 2
    return "answered as new more than once"


def change_an_amount(operations: Operations, books: Books, drawn: random.Random) -> str:
    """The books have another amount than was asked for."""
    _, transfer = paid(operations, books, drawn)
    books.transfers[transfer.id] = replace(transfer, amount_minor=transfer.amount_minor + 1)
    return "asked for amount_minor"


def change_a_payee(operations: Operations, books: Books, drawn: random.Random) -> str:
    """Somebody else got the money."""
    _, transfer = paid(operations, books, drawn)
    other = drawn.choice(
        [name for name in books.accounts if name not in (transfer.debit_account_id, transfer.credit_account_id)]
    )
    books.transfers[transfer.id] = replace(transfer, credit_account_id=books.accounts[other].id)
    return "asked for credit_account_id"


def refuse_in_other_words(operations: Operations, books: Books, drawn: random.Random) -> str:
    """A remembered refusal changed."""
    del books
    operation = drawn.choice([o for o in operations.values() if o.refusals])
    operation.refusals.append("ACCOUNT_FROZEN")
    return "refused in different words"


def place_a_hold_twice(_: Operations, books: Books, drawn: random.Random) -> str:
    """Two keys stand for one hold."""
    placing = [name for name, receipt in books.receipts.items() if receipt.operation == "placeHold"]
    one, other = drawn.sample([name for name in placing if '"ok"' in (books.receipts[name].outcome or "")], 2)
    books.receipts[one] = replace(books.receipts[one], outcome=books.receipts[other].outcome)
    return "was placed 2 times"


def forget_a_holds_key(_: Operations, books: Books, drawn: random.Random) -> str:
    """A hold whose receipt is gone could be placed again."""
    placing = [name for name, receipt in books.receipts.items() if receipt.operation == "placeHold"]
    del books.receipts[drawn.choice([name for name in placing if '"ok"' in (books.receipts[name].outcome or "")])]
    return "has no key"


def keep_a_voided_hold(operations: Operations, books: Books, drawn: random.Random) -> str:
    """A void that was answered did not happen."""
    operation = drawn.choice([o for o in operations.values() if o.asked["verb"] == "void" and o.oks])
    name = operation.asked["hold"]
    books.holds[name] = replace(books.holds[name], state=HoldState.OPEN, closed_at=None)
    return "was answered as voided"


def forget_a_receipt(operations: Operations, books: Books, drawn: random.Random) -> str:
    """A transfer whose receipt is gone could be paid again."""
    _, transfer = paid(operations, books, drawn)
    del books.receipts[transfer.slot, transfer.actor, transfer.idempotency_key]
    return "has no receipt of its key"


def capture_twice(_: Operations, books: Books, drawn: random.Random) -> str:
    """Two transfers took the money of one hold."""
    transfer = drawn.choice([t for t in books.transfers.values() if t.hold_id])
    again = replace(transfer, id=TransferId(transfer.id[:-4] + "0000"), idempotency_key="again")
    books.transfers[again.id] = again
    return "was captured by 2 transfers"


def lose_a_leg(operations: Operations, books: Books, drawn: random.Random) -> str:
    """The payee never got it."""
    _, transfer = paid(operations, books, drawn)
    payee = transfer.credit_account_id
    for place, item in enumerate(books.journal):
        if item.transfer.id == transfer.id:
            kept = tuple(entry for entry in item.entries if entry.account_id != payee)
            books.journal[place] = replace(item, entries=kept)
    return "its header says"


def make_money(_: Operations, books: Books, drawn: random.Random) -> str:
    """A node's entries do not sum to zero."""
    place = drawn.choice([i for i, item in enumerate(books.journal) if item.system_entries])
    item: JournalItem = books.journal[place]
    line: SystemEntry = item.system_entries[0]
    books.journal[place] = replace(item, system_entries=(replace(line, amount_minor=line.amount_minor + 1),))
    return "does not sum to zero"


DAMAGES: tuple[Damage, ...] = (
    lose,
    double,
    refuse_what_was_paid,
    drop_an_entry,
    change_a_balance,
    change_the_account,
    lose_a_held_amount,
    reorder,
    invent,
    answer_differently,
    answer_twice_as_new,
    change_an_amount,
    change_a_payee,
    refuse_in_other_words,
    place_a_hold_twice,
    forget_a_holds_key,
    keep_a_voided_hold,
    forget_a_receipt,
    capture_twice,
    lose_a_leg,
    make_money,
)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sound_history_passes(histories: dict[int, tuple[Operations, Books]], seed: int) -> None:
    """Nothing is found where nothing is wrong, in a history that has every verb, refusals and replays."""
    operations, books = histories[seed]
    assert check(operations, books) == []
    assert faults(books) == []
    verbs = Counter(operation.asked["verb"] for operation in operations.values())
    assert set(verbs) == {"transfer", "hold", "capture", "void", "reverse", "deposit", "withdraw"}
    assert any(operation.refusals for operation in operations.values())
    assert any(replayed for operation in operations.values() for _, _, replayed in operation.oks)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("seed", SEEDS)
def test_damage_is_found(histories: dict[int, tuple[Operations, Books]], seed: int, damage: Damage) -> None:
    """Each kind of damage, at a drawn place, is found and named."""
    operations, books = deepcopy(histories[seed])
    words = damage(operations, books, random.Random(seed))
    found = faults(books) + check(operations, books)
    assert any(words in fault for fault in found), found


def test_a_line_cut_off_counts_as_not_written(tmp_path: Path) -> None:
    """The half line of a killed process is no answer."""
    path = tmp_path / "history.jsonl"
    with Recorder(path) as recorder:
        recorder.write("invoke", "ann", "key", verb="transfer")
        recorder.write("ok", "ann", "key", made="trf_1", replayed=False)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    (operation,) = read_history([path]).values()
    assert not operation.answered
    path.write_bytes(whole)
    (operation,) = read_history([path]).values()
    assert operation.answered


@pytest.mark.trial
def test_many_operations_are_checked_in_seconds() -> None:
    """The checker is linear: a hundred thousand operations take about a second, so a million fit in a minute."""
    books = Books()
    operations: Operations = {}
    numbers = count()
    for number in range(100_000):
        operation = Operation("ann", f"key-{number}", {"verb": "transfer"}, next(numbers))
        operation.oks.append((next(numbers), f"trf-{number}", False))
        operations["ann", operation.key] = operation
        account = f"acc-{number % 10}"
        transfer = SimpleNamespace(
            id=f"trf-{number}", actor="ann", idempotency_key=operation.key, credit_account_id="acc-payee"
        )
        books.transfers[transfer.id] = transfer  # type: ignore[assignment]
        entry = SimpleNamespace(account_id=account, transfer_id=transfer.id)
        books.entries.setdefault(account, []).append(entry)  # type: ignore[arg-type]
    began = time.monotonic()
    assert check(operations, books) == []
    assert time.monotonic() - began < patience(20)
