"""Place, capture, void and expire holds."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from ..changes import Changes, Snapshot
from ..commands import (
    CaptureHold,
    ExpireHolds,
    Payee,
    PlaceHold,
    VoidHold,
)
from ..errors import (
    AccountFrozen,
    CaptureExceedsHold,
    HoldNotFound,
    HoldNotOpen,
    LimitExceeded,
    NotPermitted,
)
from ..hold_lists import listings
from ..ids import OPERATOR, is_system
from ..model import Account, AccountStatus, Hold, HoldState, Transfer, TransferKind
from .checks import (
    close_hold,
    expired_holds,
    fee_minor,
    owner_of,
    payee_account,
    payer_and_payee,
    spend,
)

OPEN_HOLDS_MAX: Final = 500
"""The most open holds of one account: a command that spends from it may have to load and close all that are due."""


def place_hold(snapshot: Snapshot, command: PlaceHold, now: datetime) -> Changes:
    """Reserve money for a payee. The available amount is checked here, so that a capture cannot lack money.

    Raises:
        AccountNotFound, AccountFrozen, AccountClosed, CurrencyMismatch: about the payer's account.
        PayeeNotFound, PayeeCannotReceive, SameAccount: about the payee.
        LimitExceeded: the account has `OPEN_HOLDS_MAX` open holds. The scope must load them all.
        InsufficientFunds: less than the amount is available.
    """
    source, target = payer_and_payee(snapshot, command)
    still_open = [hold for hold in snapshot.holds_of(source.id) if not hold.is_due(now)]
    if len(still_open) >= OPEN_HOLDS_MAX:
        raise LimitExceeded("the number of open holds of one account", OPEN_HOLDS_MAX)
    expired = spend(snapshot, source, command.amount_minor, now)
    placed = Hold(
        id=command.hold_id,
        account_id=source.id,
        payee_account_id=target,
        closer=command.closer or owner_of(snapshot, target) or OPERATOR,
        amount_minor=command.amount_minor,
        currency=command.currency,
        created_at=now,
        expires_at=command.expires_at,
        reference=command.reference,
    )
    return Changes(placed=(placed,), closed=expired, records=listings(placed, source.owner))


def capture_hold(snapshot: Snapshot, command: CaptureHold, now: datetime) -> Changes:
    """Capture a hold. One capture closes the hold; the rest is released.

    Raises:
        HoldNotFound, NotPermitted: no such hold, or the actor is not its closer.
        HoldNotOpen: it is closed or has expired.
        AccountFrozen: the payer's account is frozen. PayeeCannotReceive: the payee's is closed.
        CaptureExceedsHold: more than was held.
    """
    hold, account = _closable_hold(snapshot, command, command.actor, now, "capture this hold")
    if account.status is AccountStatus.FROZEN:
        raise AccountFrozen(account.id)
    if not is_system(hold.payee_account_id):
        payee_account(snapshot, Payee(hold.payee_account_id, hold.payee_account_id), hold.currency)
    amount_minor = hold.amount_minor if command.amount_minor is None else command.amount_minor
    if amount_minor > hold.amount_minor:
        raise CaptureExceedsHold(hold.id, hold.amount_minor, amount_minor, hold.currency)
    moved = Transfer(
        id=command.transfer_id,
        kind=TransferKind.WITHDRAWAL if is_system(hold.payee_account_id) else TransferKind.CAPTURE,
        debit_account_id=hold.account_id,
        credit_account_id=hold.payee_account_id,
        amount_minor=amount_minor,
        currency=hold.currency,
        at=now,
        actor=command.actor,
        idempotency_key=command.key,
        fee_minor=0 if is_system(hold.payee_account_id) else fee_minor(amount_minor, command.fee_basis_points),
        hold_id=hold.id,
        reference=hold.reference,
    )
    captured = close_hold(hold, HoldState.CAPTURED, now, amount_minor, moved)
    return Changes(transfers=(moved,), closed=(captured,))


def void_hold(snapshot: Snapshot, command: VoidHold, now: datetime) -> Changes:
    """Release a hold's money to its payer. The closer may always do it, also on a frozen account.

    Raises:
        HoldNotFound, NotPermitted: no such hold, or the actor is not its closer.
        HoldNotOpen: it is closed or has expired.
    """
    hold, _ = _closable_hold(snapshot, command, command.actor, now, "void this hold")
    return Changes(closed=(close_hold(hold, HoldState.VOIDED, now),))


def expire_holds(snapshot: Snapshot, command: ExpireHolds, now: datetime) -> Changes:
    """Close the account's expired holds. It is no error if there are none."""
    return Changes(closed=expired_holds(snapshot, command.account_id, now))


def _closable_hold(
    snapshot: Snapshot, command: CaptureHold | VoidHold, actor: str, now: datetime, action: str
) -> tuple[Hold, Account]:
    hold = snapshot.hold(command.hold_id)
    account = snapshot.account(command.account_id)
    if hold is None or account is None or hold.account_id != account.id or actor not in (hold.closer, account.owner):
        raise HoldNotFound(command.hold_id)
    if actor != hold.closer:
        raise NotPermitted(action, "its payee")
    if hold.is_due(now):
        raise HoldNotOpen(hold.id, HoldState.EXPIRED)
    if hold.state is not HoldState.OPEN:
        raise HoldNotOpen(hold.id, hold.state)
    return hold, account
