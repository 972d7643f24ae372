"""Money in: request a top-up, and fold what the provider reports about it.

Only `fold_intent` and `clawbacks.fold_clawback` move money. Their input is the provider's object, never what a client
sends.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ..changes import Changes, Snapshot
from ..commands import MoveExternal
from ..errors import AccountClosed, AccountNotFound, CurrencyMismatch, LimitExceeded, Rejected
from ..ids import TransferId, actor_slot, slot_of
from ..model import AccountStatus
from ..payments import (
    PROVIDER,
    Alarm,
    Step,
    effect_receipt,
    next_look,
    stripe_account,
)
from ..provider_amounts import Direction, check_provider_amount
from ..topups import (
    ABANDONED_AFTER,
    OPEN,
    IntentSeen,
    Lot,
    TopUp,
    TopUpState,
)
from .transfers import DEPOSITED_BALANCE_MAX_MINOR, deposit


def request_top_up(snapshot: Snapshot, top_up: TopUp, actor: str, now: datetime) -> Changes:
    """Record that money is expected. A frozen account may receive, too.

    Raises:
        InvalidInput, InvalidAmount: the provider does not accept the amount or currency.
        AccountNotFound, AccountClosed, CurrencyMismatch: about the account.
        LimitExceeded: the balance would exceed the limit for deposits.
    """
    check_provider_amount(top_up.amount_minor, top_up.currency, Direction.IN)
    if slot_of(top_up.account_id) != actor_slot(actor):  # an account in another slot is not the actor's
        raise AccountNotFound(top_up.account_id)
    account = snapshot.account(top_up.account_id)
    if account is None or account.owner != actor:
        raise AccountNotFound(top_up.account_id)
    if account.status is AccountStatus.CLOSED:
        raise AccountClosed(account.id)
    if account.currency != top_up.currency:
        raise CurrencyMismatch(account.id, account.currency, top_up.currency)
    if account.posted_minor + top_up.amount_minor > DEPOSITED_BALANCE_MAX_MINOR:
        raise LimitExceeded("the balance after a deposit, in minor units,", DEPOSITED_BALANCE_MAX_MINOR)
    return Changes(records=(replace(top_up, due_at=next_look(now, 0, 15, 3600)).to_record().after(None),))


def look_again(top_up: TopUp, now: datetime) -> TopUp:
    """Set when to ask the provider again, as it did not answer or reported nothing new; never, if the flow is over."""
    if top_up.state not in OPEN:
        return replace(top_up, due_at=None)
    first_seconds = 15 if top_up.state is TopUpState.CREATED else 60
    due_at = next_look(now, top_up.looks, first_seconds, 3600)
    return replace(top_up, looks=top_up.looks + 1, due_at=due_at)


def refuse(top_up: TopUp, reason: str) -> TopUp:
    """Record that the provider refused the top-up, and created nothing."""
    if top_up.state is not TopUpState.CREATED:
        return top_up
    return replace(top_up, state=TopUpState.FAILED, reason=reason, due_at=None)


def is_abandoned(top_up: TopUp, now: datetime) -> bool:
    """Whether the top-up is too old to be paid."""
    return top_up.state is TopUpState.AWAITING_PAYMENT and now - top_up.created_at >= ABANDONED_AFTER


def mismatch(top_up: TopUp, seen: IntentSeen) -> str | None:
    """Why an intent does not belong to this top-up; None if it does."""
    if seen.top_up_id != top_up.id or top_up.intent_id not in (None, seen.id):
        return f"it names {seen.top_up_id or 'no top-up'}, whose intent is {top_up.intent_id or 'not known'}"
    if seen.currency != top_up.currency:
        return f"it is in {seen.currency}, {top_up.currency} was asked for"
    if seen.amount_minor != top_up.amount_minor:
        return f"it is for {seen.amount_minor} minor units, {top_up.amount_minor} were asked for"
    if is_paid(seen) and seen.received_minor != top_up.amount_minor:
        return f"{seen.received_minor} minor units were received, {top_up.amount_minor} were asked for"
    return None


def is_paid(seen: IntentSeen) -> bool:
    """Whether the provider has the customer's money."""
    return seen.status == "succeeded"


def credit_key(intent_id: str) -> str:
    """The (object, effect) of a top-up's credit."""
    return f"{intent_id}/credited"


def fold_intent(
    snapshot: Snapshot, top_up: TopUp, seen: IntentSeen, now: datetime, transfer_id: TransferId
) -> Step[TopUp]:
    """Fold the intent as the provider shows it: credit it once, mark it as cancelled, or keep waiting.

    The scope names the account and the receipt of `credit_key(seen.id)`.
    """
    wrong = mismatch(top_up, seen)
    if wrong is not None:
        return _put_aside(top_up, seen, wrong)
    if top_up.state in (TopUpState.SUCCEEDED, TopUpState.QUARANTINED):
        return Step(top_up)
    if is_paid(seen):
        return _credit(snapshot, top_up, seen, now, transfer_id)
    if seen.status == "canceled":
        return Step(replace(top_up, state=TopUpState.CANCELED, intent_id=seen.id, due_at=None))
    return Step(look_again(_awaiting(top_up, seen), now))


def _awaiting(top_up: TopUp, seen: IntentSeen) -> TopUp:
    if top_up.state not in (TopUpState.CREATED, TopUpState.FAILED):  # failed: one call was refused, and another was not
        return top_up
    return replace(top_up, state=TopUpState.AWAITING_PAYMENT, intent_id=seen.id, reason="", looks=0)


def _put_aside(top_up: TopUp, seen: IntentSeen, reason: str) -> Step[TopUp]:
    """Raise the alarm. If it is about this top-up's own intent, stop waiting for that intent."""
    is_own = top_up.intent_id in (None, seen.id) and seen.top_up_id == top_up.id
    if is_own and top_up.state not in (TopUpState.SUCCEEDED, TopUpState.QUARANTINED):
        top_up = replace(top_up, state=TopUpState.QUARANTINED, intent_id=seen.id, reason=reason, due_at=None)
    return Step(top_up, alarm=Alarm(seen.id, reason, top_up.id))


def _credit(snapshot: Snapshot, top_up: TopUp, seen: IntentSeen, now: datetime, transfer_id: TransferId) -> Step[TopUp]:
    key = credit_key(seen.id)
    if snapshot.receipt(PROVIDER, key) is not None:
        return Step(top_up)
    money = (stripe_account(top_up.currency), top_up.amount_minor, top_up.currency)
    command = MoveExternal(transfer_id, PROVIDER, key, top_up.account_id, *money)
    try:
        changes = deposit(snapshot, command, now)
    except Rejected as error:  # closed meanwhile, or too full: an operator has to send the money back
        return _put_aside(top_up, seen, f"it is paid, but cannot be credited: {error.message}")
    after = replace(
        top_up,
        state=TopUpState.SUCCEEDED,
        intent_id=seen.id,
        transfer_id=transfer_id,
        lots=(Lot(transfer_id, top_up.amount_minor),),
        due_at=None,
    )
    return Step(after, changes + Changes(receipts=(effect_receipt(changes.transfers[0], "topUp", top_up.id),)))
