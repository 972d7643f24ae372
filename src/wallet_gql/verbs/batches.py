"""Several transfers in one request: each under its own key, all together (ATOMIC) or each for itself (INDEPENDENT)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Final

from ..domain import commands, rules
from ..domain.changes import Changes, Decision, Scope, Snapshot, Trial
from ..domain.errors import BatchAborted, InvalidInput, WalletError
from ..domain.ids import AccountId, UserId, make_transfer_id, parse_account_id
from ..domain.model import Transfer
from ..idempotency import Answer, Attempt, Effect, Refused, once
from .attempts import check_money, milliseconds, money_scope
from .ledger import Ledger, Posted, To

BATCH_MAX: Final = 100
"""The most transfers of one batch."""


class BatchMode(StrEnum):
    """`atomic`: all or none. `independent`: each item has its own outcome."""

    ATOMIC = "atomic"
    INDEPENDENT = "independent"


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One transfer of a batch."""

    key: str
    source: AccountId
    to: To
    amount_minor: int
    currency: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class _Prepared:
    attempt: Attempt
    command: commands.MoveMoney


Outcome = Posted[Transfer] | WalletError
_Answers = tuple[Answer[Transfer], ...]


async def transfer_batch(
    ledger: Ledger, actor: UserId, items: Sequence[BatchItem], mode: BatchMode
) -> tuple[Outcome, ...]:
    """Pay several payees; outcomes come in the order of the items.

    In an ATOMIC batch the refused item has its error and, under its key, its receipt; the others are `BatchAborted` and
    their keys are free. An item whose key was used before counts as what it was: a success as done, a refusal refuses
    the batch. In an INDEPENDENT batch every item is a transfer of its own, and errors of any kind are its outcome.

    Raises:
        InvalidInput: no items, more than `BATCH_MAX`, or one key twice.
        InvalidAmount, IdempotencyKeyReused: about an item of an ATOMIC batch; nothing was executed.
        Unavailable, InDoubt: an ATOMIC batch; retry with the same keys.
    """
    if not 1 <= len(items) <= BATCH_MAX:
        raise InvalidInput("items", f"1 to {BATCH_MAX} transfers")
    if len({item.key for item in items}) != len(items):
        raise InvalidInput("items", "each transfer needs an idempotency key of its own")
    if mode is BatchMode.INDEPENDENT:
        return tuple(await asyncio.gather(*(_alone(ledger, actor, item) for item in items)))
    return await _together(ledger, actor, items)


async def _alone(ledger: Ledger, actor: UserId, item: BatchItem) -> Outcome:
    try:
        return await ledger.transfer(
            actor,
            item.key,
            source=item.source,
            to=item.to,
            amount_minor=item.amount_minor,
            currency=item.currency,
            reference=item.reference,
        )
    except WalletError as error:
        return error


async def _together(ledger: Ledger, actor: UserId, items: Sequence[BatchItem]) -> tuple[Outcome, ...]:
    now = ledger.clock()
    prepared = [await _prepare(ledger, actor, item, now) for item in items]
    scope = _joined([money_scope(p.attempt, p.command.source, p.command.payee.account_id, now) for p in prepared])

    def decide(snapshot: Snapshot) -> Decision[_Answers]:
        return _decide(snapshot, prepared, now)

    committed = await ledger.store.execute(scope, decide, timeout_seconds=ledger.timeout_seconds)
    answers = committed.result
    offender = next((n for n, answer in enumerate(answers) if isinstance(answer, Refused)), None)
    if offender is None:
        both = zip(answers, prepared, strict=True)
        return tuple([await ledger.posted(answer, p.attempt, credited=committed.credited) for answer, p in both])
    refused = answers[offender]
    assert isinstance(refused, Refused)
    return tuple(refused.error if n == offender else BatchAborted(offender) for n in range(len(items)))


async def _prepare(ledger: Ledger, actor: UserId, item: BatchItem, now: datetime) -> _Prepared:
    check_money(item.amount_minor, item.currency, item.reference)
    parse_account_id(item.source, "fromAccountId")
    amount = item.amount_minor, item.currency, item.reference
    attempt = ledger.transfer_attempt(actor, item.key, item.source, item.to, *amount)
    command = commands.MoveMoney(
        transfer_id=make_transfer_id(attempt.slot, milliseconds(now), ledger.entropy()),
        actor=actor,
        key=item.key,
        source=item.source,
        payee=await ledger.payee(item.to, item.currency),
        amount_minor=item.amount_minor,
        currency=item.currency,
        fee_minor=rules.fee_minor(item.amount_minor, ledger.transfer_fee_basis_points),
        reference=item.reference,
    )
    return _Prepared(attempt, command)


def _joined(scopes: Sequence[Scope]) -> Scope:
    """One scope for all items; an account that one item debits and another credits counts as the actor's own."""
    own = dict.fromkeys(account for scope in scopes for account in scope.accounts)
    credited = dict.fromkeys(account for scope in scopes for account in scope.credits)
    receipts = tuple(name for scope in scopes for name in scope.receipts)
    return replace(scopes[0], accounts=tuple(own), credits=tuple(credited), receipts=receipts)


def _decide(snapshot: Snapshot, prepared: Sequence[_Prepared], now: datetime) -> Decision[_Answers]:
    """Each item on what those before it changed; the first refusal undoes all, and only it is remembered."""
    trial = Trial(snapshot)
    changes = Changes()
    answers: list[Answer[Transfer]] = []
    for item in prepared:
        decision = once(trial.snapshot, item.attempt, now, partial(_effect, trial.snapshot, item.command, now))
        answers.append(decision.result)
        if isinstance(decision.result, Refused):
            return Decision(decision.changes, tuple(answers))
        trial.post(decision.changes)
        changes += decision.changes
    return Decision(changes, tuple(answers))


def _effect(snapshot: Snapshot, command: commands.MoveMoney, now: datetime) -> Effect[Transfer]:
    changes = rules.transfer(snapshot, command, now)
    moved = changes.transfers[0]
    return Effect(changes, moved, {"transfer": moved.id}, moved.id)
