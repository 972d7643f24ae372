"""Money out: request a withdrawal, and fold what the provider reports about it.

Two calls move money at the provider: a transfer to the customer's connected account, then a payout from there to the
bank. A third call, the transfer's reversal, undoes the first. The hold is captured when the payout is paid, and voided
when all the money is back. A call without an answer changes nothing here: the provider is asked again.

Before such a call, a process commits a *lease*, which keeps all others from calling. The refusal of a call counts only
if its lease is still the last one taken.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from ..changes import Changes, Snapshot
from ..commands import PlaceHold
from ..errors import AccountNotFound, InvariantViolated, PayoutAccountMissing
from ..ids import TransferId, actor_slot, slot_of
from ..model import Hold, HoldState, Transfer, TransferKind
from ..payments import (
    PROVIDER,
    Alarm,
    Step,
    effect_receipt,
    next_look,
    stripe_account,
)
from ..provider_amounts import Direction, check_provider_amount
from ..withdrawals import (
    OPEN,
    WATCHED_FOR,
    PayoutSeen,
    Withdrawal,
    WithdrawalState,
    paid_key,
    payout_account_key,
    returned_key,
)
from .checks import close_hold
from .holds import place_hold

# The first and the longest wait before the provider is asked again.
_FIRST_SECONDS: Final = {WithdrawalState.IN_TRANSIT: 300, WithdrawalState.PAID: 6 * 3600}
_MOST_SECONDS: Final = {WithdrawalState.IN_TRANSIT: 6 * 3600, WithdrawalState.PAID: 24 * 3600}


def request_withdrawal(snapshot: Snapshot, withdrawal: Withdrawal, hold: PlaceHold, now: datetime) -> Changes:
    """Reserve the money by a hold that only this flow closes, and record the withdrawal and where it goes.

    Raises:
        InvalidInput, InvalidAmount: what the provider does not pay out.
        PayoutAccountMissing: nobody has said where the owner's money goes.
        Rejected: what `rules.place_hold` says.
    """
    check_provider_amount(withdrawal.amount_minor, withdrawal.currency, Direction.OUT)
    known = snapshot.record(payout_account_key(withdrawal.owner))
    if known is None:
        raise PayoutAccountMissing(withdrawal.owner)
    withdrawal = replace(withdrawal, destination=str(known.body["account"]))
    if slot_of(withdrawal.account_id) != actor_slot(hold.actor):
        raise AccountNotFound(withdrawal.account_id)
    changes = place_hold(snapshot, hold, now)
    return changes + Changes(records=(look_again(withdrawal, now).to_record().after(None),))


def look_again(withdrawal: Withdrawal, now: datetime) -> Withdrawal:
    """Set when to ask the provider again, because it did not answer or reported nothing new.

    Never, if the flow is over; a paid withdrawal is watched for `WATCHED_FOR`. Not before the lease has ended.
    """
    state = withdrawal.state
    is_paid = state is WithdrawalState.PAID
    if not (is_paid or state in OPEN) or (is_paid and now - withdrawal.created_at >= WATCHED_FOR):
        return replace(withdrawal, due_at=None)
    bounds = _FIRST_SECONDS.get(state, 15), _MOST_SECONDS.get(state, 3600)
    due_at = next_look(now, withdrawal.looks, *bounds)
    if withdrawal.leased_until is not None:
        due_at = max(due_at, withdrawal.leased_until)
    return replace(withdrawal, looks=withdrawal.looks + 1, due_at=due_at)


def take_lease(withdrawal: Withdrawal, seen: Withdrawal, lease: int, until: datetime) -> Withdrawal:
    """Take the lease to call the provider, until `until`; do nothing if the record was written since `seen`.

    `seen` is the withdrawal, not leased, as the caller read it before it asked whether the call had been made already.
    `lease` is a unique name.
    """
    if withdrawal.version != seen.version:
        return withdrawal
    return replace(withdrawal, lease=lease, leased_until=until, due_at=until)


def end_lease(withdrawal: Withdrawal, lease: int) -> Withdrawal:
    """End a lease whose call was answered, so that other processes may call."""
    return replace(withdrawal, leased_until=None) if withdrawal.lease == lease else withdrawal


def fold_sent(withdrawal: Withdrawal, sent_id: str, now: datetime) -> Step[Withdrawal]:
    """Fold the provider's answer that it has moved the money to the connected account.

    If the withdrawal has failed meanwhile, its money is available again, so the sent money is taken back.
    """
    if withdrawal.state is WithdrawalState.REQUESTED:
        return Step(_goes_on(withdrawal, WithdrawalState.SENT, now, sent_id=sent_id))
    if withdrawal.sent_id == sent_id:
        return Step(withdrawal)
    alarm = Alarm(sent_id, f"it was sent although the withdrawal is {withdrawal.state}", withdrawal.id)
    if withdrawal.sent_id is not None:
        return Step(withdrawal, alarm=alarm)
    return Step(_goes_on(withdrawal, WithdrawalState.UNDOING, now, sent_id=sent_id), alarm=alarm)


def fold_refusal(
    snapshot: Snapshot, withdrawal: Withdrawal, asked: Withdrawal, reason: str, now: datetime
) -> Step[Withdrawal]:
    """Fold the provider's final refusal of a call: undo what was done before it.

    `asked` is the withdrawal as it was leased for the call. If its state has changed or another lease was taken since,
    the refusal proves nothing: another call may have been carried out. The scope names account and hold.
    """
    asked_in = asked.state
    if (withdrawal.state, withdrawal.lease) != (asked_in, asked.lease):
        return Step(withdrawal)
    if asked_in is WithdrawalState.REQUESTED:
        return _fail(snapshot, replace(withdrawal, reason=reason), now)
    if asked_in is WithdrawalState.SENT:
        return Step(_goes_on(withdrawal, WithdrawalState.UNDOING, now, reason=reason))
    alarm = Alarm(withdrawal.sent_id or "", f"it cannot go on from {asked_in}: {reason}", withdrawal.id)
    return Step(look_again(withdrawal, now), alarm=alarm)


def fold_unreadable(withdrawal: Withdrawal, reason: str, now: datetime) -> Step[Withdrawal]:
    """Fold the refusal of a query, which proves nothing about earlier calls: raise an alarm and ask again later."""
    alarm = Alarm(withdrawal.payout_id or withdrawal.sent_id or "", f"it cannot be read: {reason}", withdrawal.id)
    return Step(look_again(withdrawal, now), alarm=alarm)


def mismatch(withdrawal: Withdrawal, seen: PayoutSeen) -> str | None:
    """Why a payout does not belong to this withdrawal; None if it does."""
    if seen.withdrawal_id != withdrawal.id or withdrawal.payout_id not in (None, seen.id):
        known = withdrawal.payout_id or "not known"
        return f"it names {seen.withdrawal_id or 'no withdrawal'}, whose payout is {known}"
    if seen.destination != withdrawal.destination:
        return f"it goes to {seen.destination or 'nobody'}, not to {withdrawal.destination}"
    if (seen.amount_minor, seen.currency) != (withdrawal.amount_minor, withdrawal.currency):
        asked = f"{withdrawal.amount_minor} {withdrawal.currency}"
        return f"it is for {seen.amount_minor} {seen.currency} minor units, {asked} were asked for"
    return None


def fold_payout(
    snapshot: Snapshot, withdrawal: Withdrawal, seen: PayoutSeen, now: datetime, transfer_id: TransferId
) -> Step[Withdrawal]:
    """Fold the payout as the provider shows it. `paid` may later become `failed`, but not the other way round.

    The scope names account, hold and the receipt of `paid_key`.
    """
    wrong = mismatch(withdrawal, seen)
    if wrong is not None:
        return Step(withdrawal, alarm=Alarm(seen.id, wrong, withdrawal.id))
    withdrawal = replace(withdrawal, payout_id=seen.id)
    on_its_way = withdrawal.state in (WithdrawalState.SENT, WithdrawalState.IN_TRANSIT)
    if seen.status in ("failed", "canceled"):
        return Step(_bounced(withdrawal, f"the payout {seen.status}", now))
    if seen.status == "paid" and on_its_way:
        return _capture(snapshot, withdrawal, now, transfer_id)
    if withdrawal.state is WithdrawalState.SENT:
        return Step(_goes_on(withdrawal, WithdrawalState.IN_TRANSIT, now))
    if withdrawal.state in (WithdrawalState.IN_TRANSIT, WithdrawalState.PAID):
        return Step(look_again(withdrawal, now))
    reason = f"it is {seen.status} although the withdrawal is {withdrawal.state}"
    return Step(withdrawal, alarm=Alarm(seen.id, reason, withdrawal.id))


def _bounced(withdrawal: Withdrawal, reason: str, now: datetime) -> Withdrawal:
    if withdrawal.state in (WithdrawalState.SENT, WithdrawalState.IN_TRANSIT):
        return _goes_on(withdrawal, WithdrawalState.UNDOING, now, reason=reason)
    if withdrawal.state is WithdrawalState.PAID:
        return _goes_on(withdrawal, WithdrawalState.RETURNING, now, reason=reason)
    return withdrawal


def fold_undone(snapshot: Snapshot, withdrawal: Withdrawal, now: datetime, transfer_id: TransferId) -> Step[Withdrawal]:
    """Fold the reversal of the transfer at the provider: the customer gets the money back.

    The scope names account, hold, `withdrawal.transfer_id` and the receipt of `returned_key`.
    """
    if withdrawal.state is WithdrawalState.UNDOING:
        return _fail(snapshot, withdrawal, now)
    if withdrawal.state is WithdrawalState.RETURNING:
        return _give_back(snapshot, withdrawal, now, transfer_id)
    return Step(withdrawal)


def _goes_on(withdrawal: Withdrawal, state: WithdrawalState, now: datetime, **values: Any) -> Withdrawal:
    return look_again(replace(withdrawal, state=state, looks=0, **values), now)


def _hold_of(snapshot: Snapshot, withdrawal: Withdrawal) -> Hold:
    hold = snapshot.hold(withdrawal.hold_id)
    if hold is None or hold.state is not HoldState.OPEN:
        raise InvariantViolated(f"withdrawal {withdrawal.id} is {withdrawal.state}, but its hold is {hold}")
    return hold


def _fail(snapshot: Snapshot, withdrawal: Withdrawal, now: datetime) -> Step[Withdrawal]:
    failed = replace(withdrawal, state=WithdrawalState.FAILED, due_at=None)
    hold = snapshot.hold(withdrawal.hold_id)
    if hold is not None and hold.state is HoldState.VOIDED:  # the withdrawal had failed before; see `fold_sent`
        return Step(failed)
    voided = close_hold(_hold_of(snapshot, withdrawal), HoldState.VOIDED, now)
    return Step(failed, Changes(closed=(voided,)))


def _capture(snapshot: Snapshot, withdrawal: Withdrawal, now: datetime, transfer_id: TransferId) -> Step[Withdrawal]:
    """Capture the hold, because the bank has the money: also from a frozen account, as the money has left."""
    hold = _hold_of(snapshot, withdrawal)
    if snapshot.receipt(PROVIDER, paid_key(withdrawal)) is not None:
        return Step(withdrawal)
    moved = Transfer(
        id=transfer_id,
        kind=TransferKind.WITHDRAWAL,
        debit_account_id=hold.account_id,
        credit_account_id=hold.payee_account_id,
        amount_minor=hold.amount_minor,
        currency=hold.currency,
        at=now,
        actor=PROVIDER,
        idempotency_key=paid_key(withdrawal),
        hold_id=hold.id,
        reference=hold.reference,
    )
    captured = close_hold(hold, HoldState.CAPTURED, now, hold.amount_minor, moved)
    after = _goes_on(withdrawal, WithdrawalState.PAID, now, transfer_id=moved.id)
    receipt = effect_receipt(moved, "withdraw", withdrawal.id)
    return Step(after, Changes(transfers=(moved,), closed=(captured,), receipts=(receipt,)))


def _give_back(snapshot: Snapshot, withdrawal: Withdrawal, now: datetime, transfer_id: TransferId) -> Step[Withdrawal]:
    if snapshot.receipt(PROVIDER, returned_key(withdrawal)) is not None:
        return Step(withdrawal)
    moved = Transfer(
        id=transfer_id,
        kind=TransferKind.REVERSAL,
        debit_account_id=stripe_account(withdrawal.currency),
        credit_account_id=withdrawal.account_id,
        amount_minor=withdrawal.amount_minor,
        currency=withdrawal.currency,
        at=now,
        actor=PROVIDER,
        idempotency_key=returned_key(withdrawal),
        reverses=withdrawal.transfer_id,
    )
    after = replace(withdrawal, state=WithdrawalState.RETURNED, due_at=None)
    receipt = effect_receipt(moved, "returnWithdrawal", withdrawal.id)
    return Step(after, Changes(transfers=(moved,), receipts=(receipt,)))
