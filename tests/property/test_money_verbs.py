"""The promises of every money verb about its key, from the table in `_money_verbs.py`: on one node and on three."""

from __future__ import annotations

import ast
import asyncio
import pkgutil
from collections.abc import AsyncIterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

import wallet_gql
from tests.property._money_verbs import ROWS, Row, Town, open_town, said
from wallet_gql.domain.errors import (
    IdempotencyKeyReused,
    InDoubt,
    InvalidAmount,
    InvalidInput,
    InvariantViolated,
    NotReversible,
    Rejected,
    Unavailable,
)
from wallet_gql.domain.ids import OPERATOR
from wallet_gql.domain.model import Receipt
from wallet_gql.integrations.stripe import verbs as stripe_verbs
from wallet_gql.transports.catalogue.operations import OPERATIONS
from wallet_gql.verbs import keyed
from wallet_gql.verbs.batches import AtomicBatchVerb, BatchItem, BatchMode, transfer_batch
from wallet_gql.verbs.keyed import money_verbs
from wallet_gql.verbs.lookups import To
from wallet_gql.verbs.transfers import TransferVerb

KEY: Final = "the-key"
AT_ONCE: Final = 8
ONE_INTENT: Final = {TransferVerb, AtomicBatchVerb}
"""A payment is the same one, whether it comes alone or as an item."""

each = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
looking = pytest.mark.parametrize("row", [row for row in ROWS if row.lost], ids=[row.name for row in ROWS if row.lost])


@pytest.fixture(params=[1, 3])
async def town(request: pytest.FixtureRequest) -> AsyncIterator[Town]:
    """On one node and on three."""
    async with open_town(request.param) as made:
        yield made


@pytest.fixture
async def nodes() -> AsyncIterator[Town]:
    """On three nodes."""
    async with open_town(3) as made:
        yield made


def test_every_money_verb_has_a_row() -> None:
    """A new verb that is not in the table fails here."""
    for package in ("verbs", "integrations.stripe"):
        found = import_module(f"wallet_gql.{package}")
        for module in pkgutil.iter_modules(found.__path__, f"{found.__name__}."):
            import_module(module.name)
    assert {row.verb for row in ROWS} == set(money_verbs())


def test_every_keyed_operation_runs_a_money_verb() -> None:
    """What the catalogue says moves money is a verb of the table, and only operators use the others."""
    ran = {operation.keyed for operation in OPERATIONS.values()} - {""}
    assert ran | {"deposit"} == {row.verb.operation for row in ROWS}


def test_nothing_else_makes_receipts_of_callers_keys() -> None:
    """The path of all verbs is the only place that runs a rule under a key, so a verb cannot be built beside it."""
    root = Path(wallet_gql.__file__).parent
    users = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if _uses_once(node)
    }
    assert users - {"idempotency/__init__.py"} == {"verbs/keyed.py"}


def _uses_once(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return "once" in {name.name for name in node.names}
    return isinstance(node, ast.Attribute) and node.attr == "once"


@each
async def test_the_same_again_is_the_first_answer(town: Town, row: Row) -> None:
    """One effect, however often it is sent."""
    await row.allow(town)
    first, fresh = said(await row.call(town, KEY, ""))
    before = await town.receipts()

    assert not fresh
    for _ in range(2):
        assert said(await row.call(town, KEY, "")) == (first, True)
    assert await town.receipts() == before


@each
async def test_a_key_of_another_input_is_refused(town: Town, row: Row) -> None:
    """Whether the first was done or refused."""
    with pytest.raises(Rejected):
        await _refused(town, row, KEY)
    with pytest.raises(IdempotencyKeyReused):
        await row.call(town, KEY, "other")
    await row.allow(town)
    await row.call(town, "done", "")
    with pytest.raises(IdempotencyKeyReused):
        await row.call(town, "done", "other")


ALIKE: Final = [
    (first, second)
    for first in ROWS
    for second in ROWS
    if first.verb is not second.verb
    and first.verb.operation == second.verb.operation
    and {first.verb, second.verb} != ONE_INTENT
]
"""Pairs of verbs that a fingerprint cannot tell apart if the input is the same."""


@pytest.mark.parametrize(("first", "second"), ALIKE, ids=[f"{a.name}, then {b.name}" for a, b in ALIKE])
async def test_a_key_of_another_verb_is_refused(town: Town, first: Row, second: Row) -> None:
    """Even where both verbs have one operation and one input, as the two ways to withdraw have."""
    for row in (first, second):
        await row.allow(town)
    await first.call(town, KEY, "")
    before = await town.receipts()
    with suppress(Rejected):
        await second.call(town, KEY, "")
        assert len({one.actor for one in await town.receipts() if one.key == KEY}) == 2, "it was no other actor's key"
        return
    assert await town.receipts() == before


@each
async def test_a_result_that_is_lost_is_no_other_verbs(town: Town, row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """The money has moved, so nobody may be told to use another key."""
    await row.allow(town)
    first, _ = said(await row.call(town, KEY, ""))

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(keyed, "header_of", nothing)
    monkeypatch.setattr(stripe_verbs, "read_flow", nothing)
    with suppress(InvariantViolated):
        assert said(await row.call(town, KEY, "")) == (first, True)  # the receipt holds all of it


@each
async def test_a_refusal_of_the_state_is_remembered(town: Town, row: Row) -> None:
    """A late duplicate cannot turn a no into a yes; a new key can."""
    with pytest.raises(Rejected) as first:
        await _refused(town, row, KEY)
    await row.allow(town)
    with pytest.raises(Rejected) as again:
        await row.call(town, KEY, "")

    assert first.value.code == again.value.code == row.code
    assert first.value.fields == again.value.fields
    assert not said(await row.call(town, "new", ""))[1]


async def _refused(town: Town, row: Row, key: str) -> None:
    await row.refuse(town)
    await row.call(town, key, "")


@each
async def test_malformed_input_uses_up_no_key(town: Town, row: Row) -> None:
    """It is told, and the key can be used for the corrected input."""
    await row.allow(town)
    before = await town.receipts()
    with pytest.raises((InvalidInput, InvalidAmount)):
        await row.call(town, KEY, "malformed")
    assert await town.receipts() == before
    assert not said(await row.call(town, KEY, ""))[1]


@each
async def test_duplicates_at_once_have_one_effect(town: Town, row: Row) -> None:
    """All get the same answer, and one of them did it."""
    await row.allow(town)
    answers = [said(one) for one in await asyncio.gather(*(row.call(town, KEY, "") for _ in range(AT_ONCE)))]

    assert {name for name, _ in answers} == {answers[0][0]}
    assert sum(not replayed for _, replayed in answers) == 1


@looking
async def test_a_key_of_another_input_goes_before_a_failed_look_up(town: Town, row: Row) -> None:
    """Else the same request would have two answers, by what can be found."""
    await row.allow(town)
    await row.call(town, KEY, "")
    with pytest.raises(IdempotencyKeyReused):
        await row.call(town, KEY, "lost")


@looking
async def test_what_does_not_concern_the_actor_leaves_nothing(town: Town, row: Row) -> None:
    """A guess is answered like what is not there, and no key remembers it."""
    await row.allow(town)
    before = await town.receipts()
    with pytest.raises(Rejected) as lost:
        await row.call(town, KEY, "lost")

    assert lost.value.code == row.lost
    assert await town.receipts() == before
    assert not said(await row.call(town, KEY, ""))[1]


@each
async def test_the_kept_answer_is_given_while_other_nodes_are_away(nodes: Town, row: Row) -> None:
    """As long as the node answers that keeps it, whichever else is away: the payee's, the payer's, a name's."""
    await row.allow(nodes)
    first, _ = said(await row.call(nodes, KEY, ""))
    homes = _homes(nodes, await nodes.receipts())
    for away in nodes.store.names:
        nodes.store.away = away
        if away == homes["answer"]:
            with pytest.raises(Unavailable):
                await row.call(nodes, KEY, "")
        else:
            assert said(await row.call(nodes, KEY, "")) == (first, True)
        if away != homes["actor"]:
            with pytest.raises(IdempotencyKeyReused):
                await row.call(nodes, KEY, "other")


@each
async def test_a_kept_refusal_is_given_while_other_nodes_are_away(nodes: Town, row: Row) -> None:
    """A no is as certain as a yes."""
    with pytest.raises(Rejected):
        await _refused(nodes, row, KEY)
    homes = _homes(nodes, await nodes.receipts())
    for away in set(nodes.store.names) - {homes["answer"]}:
        nodes.store.away = away
        with pytest.raises(Rejected) as again:
            await row.call(nodes, KEY, "")
        assert again.value.code == row.code


@each
async def test_an_unavailable_node_uses_up_no_key(nodes: Town, row: Row) -> None:
    """Nothing was done, and the same key does it when the node is back."""
    await row.allow(nodes)
    answer = ""
    for away in (*nodes.store.names, None):
        nodes.store.away = away
        try:
            found, replayed = said(await row.call(nodes, KEY, ""))
        except Unavailable:
            continue
        assert replayed == (answer == found)
        answer = found
    assert answer


@each
async def test_what_was_done_is_never_told_as_nothing_changed(town: Town, row: Row) -> None:
    """A store that fails right after the commit, or right after it has found the key: the answer, or a doubt."""
    await row.allow(town)
    town.store.fails_after_commit = True
    first, replayed = said(await row.call(town, KEY, ""))
    assert not replayed
    town.store.revive()
    town.store.fails_after_commit = True
    with suppress(InDoubt):
        assert said(await row.call(town, KEY, "")) == (first, True)
    town.store.revive()
    assert said(await row.call(town, KEY, "")) == (first, True)


async def test_a_batch_that_moved_something_is_never_told_as_nothing_changed(town: Town) -> None:
    """Its first item was paid before, and that payment cannot be read once the second one is in the books."""
    ann, bob = town.users["ann"], To(town.accounts["bob"])
    items = [BatchItem(key, town.accounts["ann"], bob, 100, "EUR") for key in ("first", "second")]
    await transfer_batch(town.ledger, ann, items[:1], BatchMode.ATOMIC)
    before = await town.available("ann")
    town.store.fails_after_commit = True
    with pytest.raises(InDoubt):
        await transfer_batch(town.ledger, ann, items, BatchMode.ATOMIC)
    town.store.revive()
    assert await town.available("ann") == before - 100
    assert [said(one)[1] for one in await transfer_batch(town.ledger, ann, items, BatchMode.ATOMIC)] == [True, True]


def _homes(town: Town, receipts: list[Receipt]) -> dict[str, str]:
    """The node that keeps the answer to `KEY`, and the one that its actor's keys are on."""
    of_key = [one for one in receipts if one.key == KEY]
    answer = next(one for one in of_key if not one.is_claim)
    home = next((one for one in of_key if one.is_claim), answer)
    return {"answer": town.store.home(answer.slot), "actor": town.store.home(home.slot)}


# Refusals of look-ups


async def test_what_left_the_wallet_cannot_be_reversed_for_ever(town: Town) -> None:
    """The look-up knows, no home of a payee can be asked: the refusal is remembered all the same."""
    left = (await town.ledger.withdraw(OPERATOR, "out", town.accounts["ann"], 100, "EUR")).result.id
    for _ in range(2):
        with pytest.raises(NotReversible):
            await town.ledger.reverse_transfer(town.users["ann"], KEY, left)
    known = await town.ledger.outcome(town.users["ann"], KEY)
    assert known is not None
    assert known.refusal is not None
    assert known.refusal.code == NotReversible.code


async def test_only_payments_are_refunded(town: Town) -> None:
    """Bob may send back what Ann paid him, but as a reversal; the refusal is remembered under its key."""
    for _ in range(2):
        with pytest.raises(NotReversible):
            await town.merchants.refund(town.users["bob"], KEY, town.paid[0])
    assert not (await town.ledger.reverse_transfer(town.users["bob"], "another", town.paid[0])).replayed
