"""The one path of every verb that moves, reserves or releases money under an idempotency key.

A verb gives four things: its *shape* (the input, checked and fingerprinted), its *look-ups*, its *scope* and its
*rule*. `run` calls them in one order, so that all verbs keep the same promises:

1. Check the shape, once. Malformed input stores nothing under the key.
2. Do the look-ups. If one fails, first check the key: a key of another input is `IdempotencyKeyReused`, a stored answer
is returned, and a refusal is stored under the key like a refusal by the rule.
3. If the actor's home does not lead, write the key claim there.
4. Isolate the scope, and run the rule unless the key already has an answer. What the rule spends is counted against
the user's spending limits in the same commit (`planned`).
5. Return the answer, new or stored, as the verb's result.

`money_verbs` lists all of them, so that each promise is tested for every verb.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from inspect import isabstract
from typing import ClassVar, Final, Generic, TypeVar

from ..domain import spending
from ..domain.changes import Changes, Decide, ReadSet, Scope, Snapshot
from ..domain.codec import decode, encode
from ..domain.errors import (
    HoldNotFound,
    IdempotencyKeyReused,
    InDoubt,
    InvariantViolated,
    Rejected,
    TransferNotFound,
    Unavailable,
)
from ..domain.frozen import frozen
from ..domain.ids import UserId, actor_slot, is_id
from ..domain.model import Account, Hold, Receipt, Transfer
from ..idempotency import Answer, Attempt, Effect, Fresh, Refused, Replayed, claim, once, replay
from ..storage import Store
from .attempts import Means
from .lookups import header_of

A = TypeVar("A")
R = TypeVar("R")

_UNSEEN: Final = (HoldNotFound, TransferNotFound)
"""Raised by a look-up that finds nothing that concerns the actor. It is never remembered.

A caller that guesses ids must learn nothing, not even from what is stored under its keys; and guesses must not fill the
store.
"""

_ASK_THE_KEY: Final = (Unavailable, IdempotencyKeyReused, *_UNSEEN)
"""After these failures the stored answer is returned, if there is one."""


@frozen
class Posted(Generic[R]):
    """A money command that is in the books, now or earlier.

    `replayed`: the key was used before, and this is its first answer. `credited`: the payee's node has applied the
    credit.
    """

    result: R
    replayed: bool
    credited: bool
    accounts: tuple[Account, ...] = ()
    """Accounts that lost money or had it reserved, as the commit left them; one that is missing has to be read."""


@frozen
class Plan:
    """The result of the look-ups: the rule, and the scope that it decides on. The scope's home leads.

    `spends` is the currency in which the actor pays, or holds money for a payee, by this command; None if the command
    does neither. Spending limits count such commands.
    """

    now: datetime
    scope: Scope
    rule: Callable[[Snapshot], Changes]
    spends: str | None


@dataclass(slots=True)
class MoneyVerb(ABC, Generic[A, R]):
    """One request of a verb, with its input. The store decides an `A`; the caller gets an `R`."""

    actor: str

    operation: ClassVar[str]
    """The verb's name in fingerprints and receipts."""

    @abstractmethod
    def shape(self) -> Attempt:
        """Check the input and fingerprint it. Raises InvalidInput, InvalidAmount."""

    @abstractmethod
    async def look_up(self, means: Means, attempt: Attempt) -> Plan:
        """Read what the scope depends on. Raises Rejected, Unavailable."""

    @abstractmethod
    def decider(self, attempt: Attempt, plan: Plan) -> Decide[A]:
        """The function that the store runs on the scope: the rule, once per key."""

    @abstractmethod
    async def kept(self, store: Store, attempt: Attempt) -> A | None:
        """The answer stored under the key, at the leading slot as far as it is known; None if there is none.

        Raises:
            IdempotencyKeyReused, Unavailable.
        """

    @abstractmethod
    async def posted(self, means: Means, attempt: Attempt, decided: A, *, credited: bool) -> Posted[R]:
        """The caller's result. Raises the stored refusal; InDoubt: it was done, but cannot be read now."""


@dataclass(slots=True)
class OneKey(MoneyVerb[Answer[R], R]):
    """A verb under one idempotency key, whose receipt keeps the answer."""

    result_field: ClassVar[str]
    """Where the receipt's outcome names the result; `transfer_id` is of the receipt itself."""
    key: str

    def stored(self, kept: Replayed) -> object:
        """What the receipt stores of a result of this verb; None if it is another verb's."""
        return kept.transfer_id if self.result_field == "transfer_id" else (kept.outcome or {}).get(self.result_field)

    @abstractmethod
    def effect(self, changes: Changes) -> Effect[R]:
        """The result of the rule's changes, and its form in the receipt."""

    @abstractmethod
    async def restore(self, means: Means, kept: Replayed) -> R | None:
        """The result that a receipt stores; None if it stores none. Raises Unavailable."""

    def decider(self, attempt: Attempt, plan: Plan) -> Decide[Answer[R]]:
        """See `MoneyVerb.decider`."""
        return partial(once, attempt=attempt, now=plan.now, rule=plan.rule, effect=self.effect)

    async def kept(self, store: Store, attempt: Attempt) -> Answer[R] | None:
        """See `MoneyVerb.kept`."""
        home = actor_slot(attempt.actor)
        try:
            receipt = await find_receipt(store, home, attempt.name)
        except Unavailable:
            if attempt.slot == home:
                raise
            receipt = await find_receipt(store, attempt.slot, attempt.name)
        else:
            if receipt is not None and receipt.leader is not None and receipt.fingerprint == attempt.fingerprint:
                receipt = await find_receipt(store, receipt.leader, attempt.name)
        return None if receipt is None else replay(receipt, attempt)

    async def posted(self, means: Means, attempt: Attempt, decided: Answer[R], *, credited: bool) -> Posted[R]:
        """See `MoneyVerb.posted`."""
        if isinstance(decided, Refused):
            raise decided.error
        if isinstance(decided, Fresh):
            return Posted(decided.result, replayed=False, credited=credited)
        try:
            first = await self.restore(means, decided)
        except Unavailable as error:  # Unavailable would say that nothing has changed
            raise InDoubt(str(error)) from error
        if first is None and self.stored(decided):
            raise InvariantViolated(f"what the receipt of key {attempt.key!r} names cannot be found")
        if first is None:  # the key was used by another verb, with an input that has the same fingerprint
            raise IdempotencyKeyReused(attempt.key)
        return Posted(first, replayed=True, credited=credited)


async def run(means: Means, verb: MoneyVerb[A, R]) -> Posted[R]:
    """Execute the verb, once per key.

    Raises:
        InvalidInput, InvalidAmount, IdempotencyKeyReused: about the request itself.
        Rejected: by the rule or a look-up, now or when the key was first used.
        Unavailable, InDoubt: ask again with the same key.
    """
    attempt = verb.shape()
    try:
        plan = await planned(means, verb, attempt)
        if plan.scope.home != attempt.slot:
            home, attempt = attempt.slot, replace(attempt, slot=plan.scope.home)
            await _claim(means, attempt, home)
        done = await means.store.execute(plan.scope, verb.decider(attempt, plan), timeout_seconds=means.timeout_seconds)
    except _ASK_THE_KEY:
        kept = await verb.kept(means.store, attempt)
        if kept is None:
            raise
        return await verb.posted(means, attempt, kept, credited=False)
    posted = await verb.posted(means, attempt, done.result, credited=done.credited)
    if posted.replayed or not done.accounts:  # a replay shows the account as it is now
        return posted
    return Posted(posted.result, replayed=False, credited=posted.credited, accounts=done.accounts)


async def planned(means: Means, verb: MoneyVerb[A, R], attempt: Attempt) -> Plan:
    """Run the look-ups, and let the plan count what it spends.

    If a look-up refuses, the plan's rule raises that refusal at the actor's home, which remembers it.
    """
    try:
        plan = await verb.look_up(means, attempt)
    except _UNSEEN:
        raise
    except Rejected as error:
        return Plan(means.clock(), Scope(attempt.slot, receipts=(attempt.name,)), _refusing(error), None)
    return plan if plan.spends is None else _limited(means, attempt.actor, plan, plan.spends)


def _limited(means: Means, actor: str, plan: Plan, currency: str) -> Plan:
    """The plan, within the user's spending limits. Currencies without limits and operators are left alone."""
    defaults = means.spending_limits.get(currency)
    if defaults is None or not is_id("usr", actor):
        return plan
    user_id = UserId(actor)

    def rule(snapshot: Snapshot) -> Changes:
        changes = plan.rule(snapshot)
        counted = spending.spend(snapshot, user_id, currency, defaults, changes, plan.now)
        return Changes(records=counted) + changes  # first, as verbs find their own record at the end

    records = spending.keys_of(user_id, currency, plan.scope.credits)
    return replace(plan, scope=replace(plan.scope, records=(*plan.scope.records, *records)), rule=rule)


def _refusing(error: Rejected) -> Callable[[Snapshot], Changes]:
    def rule(_: Snapshot) -> Changes:
        raise error

    return rule


async def _claim(means: Means, attempt: Attempt, home: int) -> None:
    """Claim the key at the actor's home before the leader is asked. Raises IdempotencyKeyReused, Unavailable."""
    now = means.clock()
    scope = Scope(home, receipts=(attempt.name,))
    claimed = await means.store.execute(
        scope, lambda snapshot: claim(snapshot, attempt, home, now), timeout_seconds=means.timeout_seconds
    )
    assert claimed.result == attempt.slot, "the leader follows from the fingerprinted input"


async def find_receipt(store: Store, slot: int, name: tuple[str, str]) -> Receipt | None:
    """The receipt of a key in a slot; it may be a key claim. Raises Unavailable."""
    return (await store.fetch(ReadSet(receipts=((slot, *name),)))).receipt(*name, slot)


async def outcome_of(store: Store, actor: str, key: str) -> Receipt | None:
    """The receipt of a key at its leading slot; None if the key has no answer. Raises Unavailable."""
    found = await find_receipt(store, actor_slot(actor), (actor, key))
    if found is not None and found.leader is not None:
        found = await find_receipt(store, found.leader, (actor, key))
    return found


class Moves(OneKey[Transfer]):
    """A verb that returns its first transfer; the receipt links to it."""

    __slots__ = ()
    result_field = "transfer_id"

    def effect(self, changes: Changes) -> Effect[Transfer]:
        """See `OneKey.effect`."""
        moved = changes.transfers[0]
        return Effect(changes, moved, {"transfer": moved.id}, moved.id)

    async def restore(self, means: Means, kept: Replayed) -> Transfer | None:
        """See `OneKey.restore`."""
        return await header_of(means.store, kept.transfer_id) if kept.transfer_id else None


class ShowsHold(OneKey[Hold]):
    """A verb that returns a hold in its new state; the receipt stores that."""

    __slots__ = ()
    result_field = "hold"

    def effect(self, changes: Changes) -> Effect[Hold]:
        """See `OneKey.effect`."""
        hold = (changes.placed or changes.closed)[0]
        return Effect(changes, hold, {"hold": encode(hold)})

    async def restore(self, means: Means, kept: Replayed) -> Hold | None:
        """See `OneKey.restore`."""
        del means
        shown = self.stored(kept)
        return decode(Hold, shown) if isinstance(shown, dict) else None


def money_verbs() -> list[type]:
    """The class of every money verb that is loaded."""
    found: list[type] = []
    waiting: list[type] = [MoneyVerb]
    for verb in waiting:
        waiting += verb.__subclasses__()
        # A dataclass with slots is a second class; in some releases of Python the first one is never collected.
        is_current = getattr(sys.modules[verb.__module__], verb.__name__, None) is verb
        if is_current and not isabstract(verb) and verb not in found:
            found.append(verb)
    return found
