"""Several transfers in one request, each under its own key: all together (ATOMIC) or each by itself (INDEPENDENT).

An ATOMIC batch is decided once. If all items move, their receipts say so for ever. If one item is refused, the batch
stores a receipt of its own beside the refused item's. The key of the batch's receipt follows from the items, their keys
and their order, so the same batch always gets the same answer. The other items' keys stay free: a single transfer or
another batch may use them, and the refused batch never moves anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from ..domain.annotations import UNANNOTATED, Annotation
from ..domain.changes import Changes, Decide, Decision, ReadSet, Snapshot, Trial
from ..domain.errors import BatchAborted, InvalidInput, Rejected, WalletError, reasons
from ..domain.frozen import frozen
from ..domain.ids import AccountId, UserId
from ..domain.model import Transfer
from ..idempotency import Answer, Attempt, Refused, Replayed, fingerprint, refusal_receipt, replay
from ..storage import Store
from .attempts import Means
from .keyed import MoneyVerb, Plan, Posted, planned, run
from .ledger import Ledger
from .lookups import To
from .transfers import TransferVerb

BATCH_MAX: Final = 100
"""The most transfers of one batch."""


class BatchMode(StrEnum):
    """`atomic`: all or none. `independent`: each item has its own outcome."""

    ATOMIC = "atomic"
    INDEPENDENT = "independent"


@frozen
class BatchItem:
    """One transfer of a batch."""

    key: str
    source: AccountId
    to: To
    amount_minor: int
    currency: str
    reference: str = ""
    annotation: Annotation = UNANNOTATED


Outcome = Posted[Transfer] | WalletError


@frozen
class _Refusal:
    """Which item was refused, and why."""

    offender: int
    error: Rejected


_Decided = tuple[Answer[Transfer], ...] | _Refusal
"""The answers of all items, in their order, or the refusal of one."""


async def transfer_batch(
    ledger: Ledger, actor: UserId, items: Sequence[BatchItem], mode: BatchMode
) -> tuple[Outcome, ...]:
    """Pay several payees; outcomes come in the order of the items.

    In an ATOMIC batch with a refused item, that item's outcome is its error, which its receipt stores; the outcome of
    the other items is `BatchAborted`, and their keys are free. The same batch again has the same outcomes. If an item's
    key was used before, its first answer counts: a success as done, a refusal refuses the batch. In an INDEPENDENT
    batch every item is a transfer of its own, and its outcome may be any error.

    Raises:
        InvalidInput: no items, more than `BATCH_MAX`, one key twice, or a malformed item of an ATOMIC batch.
        InvalidAmount, IdempotencyKeyReused: about an item of an ATOMIC batch; nothing was executed.
        Unavailable, InDoubt: an ATOMIC batch; retry with the same keys.
    """
    if not 1 <= len(items) <= BATCH_MAX:
        raise InvalidInput("items", reasons.BATCH_SIZE(least=1, most=BATCH_MAX))
    if len({item.key for item in items}) != len(items):
        raise InvalidInput("items", reasons.BATCH_KEYS())
    fee = ledger.transfer_fee_basis_points
    verbs = [
        TransferVerb(
            actor, one.key, one.source, one.to, one.amount_minor, one.currency, one.reference, fee, one.annotation
        )
        for one in items
    ]
    if mode is BatchMode.INDEPENDENT:
        return tuple(await asyncio.gather(*(_alone(ledger, verb) for verb in verbs)))
    return (await run(ledger, AtomicBatchVerb(actor, verbs))).result


async def _alone(ledger: Ledger, verb: TransferVerb) -> Outcome:
    try:
        return await run(ledger, verb)
    except WalletError as error:
        return error


def item_error(place: int, error: InvalidInput) -> InvalidInput:
    """An item's error as an error of the batch: the field begins with `items.` and the item's index, from 0."""
    return InvalidInput(f"items.{place}.{error.field}", error.reason)


@dataclass(slots=True)
class AtomicBatchVerb(MoneyVerb[_Decided, tuple[Outcome, ...]]):
    """All transfers in one commit, or none."""

    verbs: Sequence[TransferVerb]
    attempts: list[Attempt] = field(default_factory=list, init=False)
    plans: list[Plan] = field(default_factory=list, init=False)

    operation = "transferBatch"

    def shape(self) -> Attempt:
        """See `MoneyVerb.shape`. The batch's attempt follows from the items' attempts."""
        for place, verb in enumerate(self.verbs):
            try:
                self.attempts.append(verb.shape())
            except InvalidInput as error:
                raise item_error(place, error) from error
        items = {str(place): f"{one.key} {one.fingerprint}" for place, one in enumerate(self.attempts)}
        given = fingerprint(self.operation, items)
        return Attempt(self.attempts[0].slot, self.actor, f"batch:{given}", self.operation, given)

    async def look_up(self, means: Means, attempt: Attempt) -> Plan:
        """Look up the payees of all items. The scope is the union of their scopes. Each item counts what it spends."""
        self.plans = [await planned(means, verb, one) for verb, one in zip(self.verbs, self.attempts, strict=True)]
        scopes = [plan.scope for plan in self.plans]
        own = dict.fromkeys(account for scope in scopes for account in scope.accounts)
        credited = dict.fromkeys(account for scope in scopes for account in scope.credits)
        records = dict.fromkeys(key for scope in scopes for key in scope.records)
        names = (attempt.name, *(one.name for one in self.attempts))
        scope = replace(
            scopes[-1], accounts=tuple(own), credits=tuple(credited), receipts=names, records=tuple(records)
        )
        return replace(self.plans[-1], scope=scope, spends=None)

    def decider(self, attempt: Attempt, plan: Plan) -> Decide[_Decided]:
        """See `MoneyVerb.decider`."""

        def decide(snapshot: Snapshot) -> Decision[_Decided]:
            known = self._known(snapshot, attempt)
            changes, decided = self._try(snapshot) if known is None else (Changes(), known)
            if isinstance(decided, _Refusal) and snapshot.receipt(*attempt.name) is None:
                refused = refusal_receipt(attempt, plan.now, BatchAborted(decided.offender))
                changes += Changes(receipts=(refused,))
            return Decision(changes, decided)

        return decide

    async def kept(self, store: Store, attempt: Attempt) -> _Decided | None:
        """See `MoneyVerb.kept`."""
        names = (attempt.name, *(one.name for one in self.attempts))
        found = await store.fetch(ReadSet(receipts=tuple((attempt.slot, *name) for name in names)))
        return self._known(found, attempt)

    async def posted(
        self, means: Means, attempt: Attempt, decided: _Decided, *, credited: bool
    ) -> Posted[tuple[Outcome, ...]]:
        """See `MoneyVerb.posted`."""
        del attempt
        if isinstance(decided, _Refusal):
            aborted = BatchAborted(decided.offender)
            outcomes = [decided.error if n == decided.offender else aborted for n in range(len(self.verbs))]
            return Posted(tuple(outcomes), replayed=False, credited=credited)
        three = zip(self.verbs, self.attempts, decided, strict=True)
        done = [await verb.posted(means, one, answer, credited=credited) for verb, one, answer in three]
        return Posted(tuple(done), replayed=all(one.replayed for one in done), credited=credited)

    def _known(self, snapshot: Snapshot, attempt: Attempt) -> _Decided | None:
        """The stored answer: the batch's own receipt, or those of all its items. None if some item has not been tried.

        All keys are checked before any item is tried, so that a stored refusal of a later item leaves the other keys
        free.
        """
        own = snapshot.receipt(*attempt.name, attempt.slot)
        if own is not None:
            decided = replay(own, attempt)
            assert isinstance(decided, Refused), "only a refused batch keeps a receipt of its own"
            offender = int(str(decided.error.fields["offender"]))
            refused = self._replayed(snapshot, offender)
            assert isinstance(refused, Refused), "a refused batch keeps the receipt of the refused item"
            return _Refusal(offender, refused.error)
        known = [self._replayed(snapshot, place) for place in range(len(self.attempts))]
        for place, answer in enumerate(known):
            if isinstance(answer, Refused):
                return _Refusal(place, answer.error)
        done = tuple(answer for answer in known if answer is not None)
        return done if len(done) == len(known) else None

    def _replayed(self, snapshot: Snapshot, place: int) -> Replayed | Refused | None:
        receipt = snapshot.receipt(*self.attempts[place].name, self.attempts[place].slot)
        return None if receipt is None else replay(receipt, self.attempts[place])

    def _try(self, snapshot: Snapshot) -> tuple[Changes, _Decided]:
        """Try each item on the result of those before it. The first refusal undoes all, and only it is stored."""
        trial = Trial(snapshot)
        changes = Changes()
        answers: list[Answer[Transfer]] = []
        for place, (verb, one, plan) in enumerate(zip(self.verbs, self.attempts, self.plans, strict=True)):
            decision = verb.decider(one, plan)(trial.snapshot)
            if isinstance(decision.result, Refused):
                return decision.changes, _Refusal(place, decision.result.error)
            trial.post(decision.changes)
            changes += decision.changes
            answers.append(decision.result)
        return changes, tuple(answers)
