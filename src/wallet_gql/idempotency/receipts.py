"""Receipts: one effect and one answer for each key of each actor, however often and late it is retried.

The *receipt* commits with the effect, in the same `Changes`. If it had a commit of its own, a crash between the two
would pay twice. The order of checks is fixed: shape of the input, then the key, then the state. So a retry of a success
never gets "insufficient funds", "closed" or "already captured".

| the key was | the input is | answer |
|---|---|---|
| never seen | any | executed; success or refusal is kept under the key |
| seen, finished | the same | the first answer again, `replayed` |
| seen, finished | another | `IdempotencyKeyReused`, nothing executed |

Refusals that depend on the state (insufficient funds, a frozen account, an unknown payee) are stored, so that a late
duplicate cannot succeed after all. Malformed input and technical failures are not stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final, Generic, TypeVar

from ..domain.changes import Changes, Decision, Snapshot
from ..domain.errors import Field, IdempotencyKeyReused, InvariantViolated, Rejected, restore
from ..domain.frozen import frozen
from ..domain.ids import TransferId
from ..domain.model import Receipt
from .canonical import canonical

R = TypeVar("R")

FINGERPRINT_VERSION: Final = "1"


def fingerprint(operation: str, values: Mapping[str, str | int | bool | None]) -> str:
    """SHA-256 (hex) of the operation's name and the input as it was sent: usernames not resolved, without the key.

    Values that are None are left out, so that a new optional argument does not change old fingerprints.
    """
    given = {name: value for name, value in values.items() if value is not None}
    return hashlib.sha256(canonical([FINGERPRINT_VERSION, operation, given]).encode()).hexdigest()


@frozen
class Attempt:
    """One request under a key. `slot` is where its receipt is stored: the slot that leads."""

    slot: int
    actor: str
    key: str
    operation: str
    fingerprint: str

    @property
    def name(self) -> tuple[str, str]:
        """The name of its receipt in a `Scope`."""
        return (self.actor, self.key)


@frozen
class Effect(Generic[R]):
    """What a rule decided: its changes, its result, and the result as plain JSON data for the receipt."""

    changes: Changes
    result: R
    outcome: Mapping[str, object]
    transfer_id: TransferId | None = None


@frozen
class Fresh(Generic[R]):
    """The command was executed now."""

    result: R


@frozen
class Replayed:
    """The command was executed before. `outcome` is its stored answer, None if it was pruned; `transfer_id` stays."""

    outcome: Mapping[str, object] | None
    transfer_id: TransferId | None
    at: datetime


@frozen
class Refused:
    """The command was refused, now or before. Raise `error` after the commit, because the commit stores its receipt."""

    error: Rejected
    replayed: bool


Answer = Fresh[R] | Replayed | Refused


def once(
    snapshot: Snapshot,
    attempt: Attempt,
    now: datetime,
    rule: Callable[[Snapshot], Changes],
    effect: Callable[[Changes], Effect[R]],
) -> Decision[Answer[R]]:
    """Run the rule unless the attempt's key was used before; put its receipt into the same changes.

    `effect` says what the rule's changes answer, and how the receipt keeps that.

    Call it inside a decide function whose scope names the receipt (`attempt.name`).

    Raises:
        IdempotencyKeyReused: the key belongs to another input.
        Rejected: a refusal that is not remembered (malformed input).
    """
    before = snapshot.receipt(*attempt.name)
    if before is not None:
        return Decision(Changes(), replay(before, attempt))
    try:
        done = effect(rule(snapshot))
    except Rejected as error:
        if not error.remembered:
            raise
        return Decision(Changes(receipts=(refusal_receipt(attempt, now, error),)), Refused(error, replayed=False))
    receipt = _receipt(attempt, now, done.transfer_id, {"ok": done.outcome})
    return Decision(done.changes.with_receipt(receipt), Fresh(done.result))


def refusal_receipt(attempt: Attempt, now: datetime, error: Rejected) -> Receipt:
    """The receipt that remembers a refusal."""
    return _receipt(attempt, now, None, {"code": error.code, "fields": error.fields})


def side_receipt(attempt: Attempt, key: str, transfer_id: TransferId, now: datetime) -> Receipt:
    """The receipt of a further transfer in the same commit: each transfer needs a key of its own.

    `key` must be one that no caller can send: put the new transfer's id into it.
    """
    return _receipt(replace(attempt, key=key), now, transfer_id, {"ok": {"transfer": transfer_id}})


def claim(snapshot: Snapshot, attempt: Attempt, actor_slot: int, now: datetime) -> Decision[int]:
    """Claim the key at the home of an actor who is not the payer, before the leader decides; returns the leading slot.

    The claim is permanent and proves no outcome; only the leader's receipt does. Scope: home = the actor's slot.

    Raises:
        IdempotencyKeyReused: the key was used or claimed for another input.
    """
    before = snapshot.receipt(*attempt.name)
    if before is None:
        receipt = Receipt(
            actor_slot, attempt.actor, attempt.key, attempt.operation, attempt.fingerprint, now, leader=attempt.slot
        )
        return Decision(Changes(receipts=(receipt,)), attempt.slot)
    if before.fingerprint != attempt.fingerprint or before.leader is None:
        raise IdempotencyKeyReused(attempt.key)
    return Decision(Changes(), before.leader)


def _receipt(attempt: Attempt, now: datetime, transfer_id: TransferId | None, outcome: Mapping[str, object]) -> Receipt:
    name = (attempt.slot, attempt.actor, attempt.key, attempt.operation, attempt.fingerprint)
    return Receipt(*name, now, transfer_id, canonical(outcome))


def replay(before: Receipt, attempt: Attempt) -> Replayed | Refused:
    """The answer that a receipt keeps. Raises IdempotencyKeyReused if it belongs to another input."""
    if before.fingerprint != attempt.fingerprint or before.is_claim:
        raise IdempotencyKeyReused(attempt.key)
    if before.outcome is None:
        return Replayed(None, before.transfer_id, before.at)
    kept = json.loads(before.outcome)
    if "ok" in kept:
        return Replayed(kept["ok"], before.transfer_id, before.at)
    return Refused(_restore(kept), replayed=True)


def _restore(kept: dict[str, object]) -> Rejected:
    code, values = kept.get("code"), kept.get("fields")
    if not isinstance(code, str) or not isinstance(values, dict):
        raise InvariantViolated(f"a receipt's outcome is malformed: {kept!r}")
    fields: dict[str, Field] = values
    return restore(code, fields)
