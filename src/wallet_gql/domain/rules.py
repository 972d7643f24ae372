"""The rules of the wallet, one function a verb: (snapshot, command, now) -> Changes, or raises Rejected.

Every rule looks first at who acts, then at the state, then at the amount. A rule never sees a store, a clock or a
random number; `now` is the server's time at which the command was accepted.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from .changes import Changes, Snapshot
from .commands import (
    CaptureHold,
    ExpireHolds,
    MoveExternal,
    MoveMoney,
    OpenAccount,
    Payee,
    PlaceHold,
    ReverseTransfer,
    SetAccountStatus,
    VoidHold,
)
from .errors import (
    AccountClosed,
    AccountExists,
    AccountFrozen,
    AccountNotEmpty,
    AccountNotFound,
    CaptureExceedsHold,
    CurrencyMismatch,
    HoldNotFound,
    HoldNotOpen,
    InsufficientFunds,
    LimitExceeded,
    NotPermitted,
    NotReversible,
    PayeeCannotReceive,
    PayeeNotFound,
    ReversalExceedsOriginal,
    SameAccount,
    TransferNotFound,
)
from .ids import OPERATOR, AccountId, actor_slot, is_id, is_system, slot_of
from .model import Account, AccountStatus, Hold, HoldState, Transfer, TransferKind

DEPOSITED_BALANCE_MAX_MINOR: Final = 10**15
"""A deposit may not lift a balance above this: some 9,200 accounts as full as that would have to pay one to reach 64
bits, where posting refuses to go on."""


_REVERSIBLE: Final = (TransferKind.TRANSFER, TransferKind.CAPTURE, TransferKind.PAYMENT, TransferKind.SPLIT)

OPEN_HOLDS_MAX: Final = 500
"""The most open holds of one account: whoever spends from it may have to load and close all that are due."""


def fee_minor(amount_minor: int, basis_points: int) -> int:
    """The fee on an amount: basis points (1/10,000) of it, rounded down, so that the payee never loses a rounding."""
    return amount_minor * basis_points // 10_000


def due_minor(snapshot: Snapshot, account_id: AccountId, now: datetime) -> int:
    """What is still counted as held although the time of its holds is over: nobody needs to wait for the sweep."""
    return sum(hold.amount_minor for hold in snapshot.holds_of(account_id) if hold.is_due(now))


def free_minor(snapshot: Snapshot, account: Account, now: datetime) -> tuple[int, tuple[Hold, ...]]:
    """What an account can lose now, and the due holds that are to be closed when it does."""
    expired = _expired(snapshot, account.id, now)
    return account.available_minor + due_minor(snapshot, account.id, now), expired


def open_account(snapshot: Snapshot, command: OpenAccount, now: datetime) -> Changes:
    """Open an account at zero.

    Raises:
        AccountExists: the owner has one in this currency.
    """
    for account in snapshot.wallet(command.owner):
        if account.currency == command.currency:
            raise AccountExists(account.id, account.currency)
    return Changes(opened=(Account(command.account_id, command.owner, command.currency, now, now),))


def transfer(snapshot: Snapshot, command: MoveMoney, now: datetime) -> Changes:
    """Pay somebody.

    Raises:
        AccountNotFound, AccountFrozen, AccountClosed, CurrencyMismatch: about the payer's account.
        PayeeNotFound, PayeeCannotReceive, SameAccount: about the payee.
        InsufficientFunds: less than the amount is available.
    """
    source = _own_account(snapshot, command.source, command.actor)
    _check_debit(source, command.currency)
    if command.payee.account_id == source.id:
        raise SameAccount(source.id)
    target = _payee(snapshot, command.payee, command.currency)
    expired = _spend(snapshot, source, command.amount_minor, now)
    moved = Transfer(
        id=command.transfer_id,
        kind=TransferKind.TRANSFER,
        debit_account_id=source.id,
        credit_account_id=target,
        amount_minor=command.amount_minor,
        currency=command.currency,
        at=now,
        actor=command.actor,
        idempotency_key=command.key,
        fee_minor=command.fee_minor,
        reference=command.reference,
    )
    return Changes(transfers=(moved,), closed=expired)


def deposit(snapshot: Snapshot, command: MoveExternal, now: datetime) -> Changes:
    """Bring money in from outside. Frozen accounts receive too.

    Raises:
        AccountNotFound, AccountClosed, CurrencyMismatch: about the account.
        LimitExceeded: the balance would pass `DEPOSITED_BALANCE_MAX_MINOR`.
        NotPermitted: users do not make money.
    """
    if is_id("usr", command.actor):
        raise NotPermitted("deposit", "an operator or a payment provider")
    account = _any_account(snapshot, command.account_id)
    if account.status is AccountStatus.CLOSED:
        raise AccountClosed(account.id)
    _check_currency(account, command.currency)
    if account.posted_minor + command.amount_minor > DEPOSITED_BALANCE_MAX_MINOR:
        raise LimitExceeded("the balance after a deposit, in minor units,", DEPOSITED_BALANCE_MAX_MINOR)
    return Changes(transfers=(_external(command, TransferKind.DEPOSIT, command.counterpart, account.id, now),))


def withdraw(snapshot: Snapshot, command: MoveExternal, now: datetime) -> Changes:
    """Send money out at once.

    Raises:
        AccountNotFound, AccountFrozen, AccountClosed, CurrencyMismatch: about the account.
        InsufficientFunds: less than the amount is available.
    """
    if command.actor == OPERATOR:
        account = _any_account(snapshot, command.account_id)
    else:
        account = _own_account(snapshot, command.account_id, command.actor)
    _check_debit(account, command.currency)
    expired = _spend(snapshot, account, command.amount_minor, now)
    moved = _external(command, TransferKind.WITHDRAWAL, account.id, command.counterpart, now)
    return Changes(transfers=(moved,), closed=expired)


def place_hold(snapshot: Snapshot, command: PlaceHold, now: datetime) -> Changes:
    """Reserve money for a payee. The available amount is checked here, so that a capture cannot fail for lack of it.

    Raises:
        AccountNotFound, AccountFrozen, AccountClosed, CurrencyMismatch: about the payer's account.
        PayeeNotFound, PayeeCannotReceive, SameAccount: about the payee.
        LimitExceeded: the account has `OPEN_HOLDS_MAX` open holds. The scope must load them all.
        InsufficientFunds: less than the amount is available.
    """
    source = _own_account(snapshot, command.source, command.actor)
    _check_debit(source, command.currency)
    if command.payee.account_id == source.id:
        raise SameAccount(source.id)
    target = _payee(snapshot, command.payee, command.currency)
    still_open = [hold for hold in snapshot.holds_of(source.id) if not hold.is_due(now)]
    if len(still_open) >= OPEN_HOLDS_MAX:
        raise LimitExceeded("the number of open holds of one account", OPEN_HOLDS_MAX)
    expired = _spend(snapshot, source, command.amount_minor, now)
    placed = Hold(
        id=command.hold_id,
        account_id=source.id,
        payee_account_id=target,
        closer=command.closer or _owner_of(snapshot, target) or OPERATOR,
        amount_minor=command.amount_minor,
        currency=command.currency,
        created_at=now,
        expires_at=command.expires_at,
        reference=command.reference,
    )
    return Changes(placed=(placed,), closed=expired)


def capture_hold(snapshot: Snapshot, command: CaptureHold, now: datetime) -> Changes:
    """Take a hold's money. One capture closes the hold; what it leaves is released.

    Raises:
        HoldNotFound, NotPermitted: no such hold, or the actor is not its closer.
        HoldNotOpen: it was closed, or its time is over.
        AccountFrozen: the payer's account is frozen. PayeeCannotReceive: the payee's is closed.
        CaptureExceedsHold: more than was held.
    """
    hold, account = _closable_hold(snapshot, command, command.actor, now, "capture this hold")
    if account.status is AccountStatus.FROZEN:
        raise AccountFrozen(account.id)
    if not is_system(hold.payee_account_id):
        _payee(snapshot, Payee(hold.payee_account_id, hold.payee_account_id), hold.currency)
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
    """Give a hold's money back to its payer. Always allowed to the closer, also on a frozen account.

    Raises:
        HoldNotFound, NotPermitted: no such hold, or the actor is not its closer.
        HoldNotOpen: it was closed, or its time is over.
    """
    hold, _ = _closable_hold(snapshot, command, command.actor, now, "void this hold")
    return Changes(closed=(close_hold(hold, HoldState.VOIDED, now),))


def expire_holds(snapshot: Snapshot, command: ExpireHolds, now: datetime) -> Changes:
    """Close the account's holds whose time is over; none is no error."""
    return Changes(closed=_expired(snapshot, command.account_id, now))


def reverse_transfer(snapshot: Snapshot, command: ReverseTransfer, now: datetime) -> Changes:
    """Send a received transfer back, in part or whole, as a new linked transfer. A fee is not returned.

    Led by the payee's home, where the credit's header and the reversals so far are known.

    Raises:
        TransferNotFound: no such transfer reached the account.
        NotPermitted: the actor is neither the payee nor an operator.
        NotReversible: it is itself a reversal, a deposit or a withdrawal.
        AccountFrozen, AccountClosed: the payee's account. PayeeCannotReceive: the payer's is closed meanwhile.
        ReversalExceedsOriginal: less than that is left.
        InsufficientFunds: the payee has less than the amount available.
    """
    original = snapshot.transfer(command.original_id)
    source = snapshot.account(command.source)
    if original is None or source is None or original.credit_account_id != source.id:
        raise TransferNotFound(command.original_id)
    if command.actor not in (source.owner, OPERATOR):
        if _owner_of(snapshot, command.target) == command.actor:
            raise NotPermitted("reverse this transfer", "its payee")
        raise TransferNotFound(original.id)
    if original.kind not in _REVERSIBLE:
        raise NotReversible(original.id, original.kind)
    _check_debit(source, original.currency)
    _payee(snapshot, Payee(command.target, command.target), original.currency)
    limit_minor = original.amount_minor if command.limit_minor is None else command.limit_minor
    left_minor = limit_minor - snapshot.reversed_minor(original.id)
    amount_minor = left_minor if command.amount_minor is None else command.amount_minor
    if left_minor == 0 or amount_minor > left_minor:
        raise ReversalExceedsOriginal(original.id, left_minor, amount_minor, original.currency)
    expired = _spend(snapshot, source, amount_minor, now)
    moved = Transfer(
        id=command.transfer_id,
        kind=TransferKind.REVERSAL,
        debit_account_id=source.id,
        credit_account_id=command.target,
        amount_minor=amount_minor,
        currency=original.currency,
        at=now,
        actor=command.actor,
        idempotency_key=command.key,
        reverses=original.id,
        reference=command.reference,
    )
    return Changes(transfers=(moved,), closed=expired)


def set_account_status(snapshot: Snapshot, command: SetAccountStatus, now: datetime) -> Changes:
    """Freeze or unfreeze (operators), or close (owner or operator, at zero with no open holds).

    Raises:
        AccountNotFound: no such account of the actor's. NotPermitted: only operators freeze.
        AccountClosed: it is closed already, for good. AccountNotEmpty: money or holds are left.
    """
    account = _any_account(snapshot, command.account_id)
    if command.actor != OPERATOR:
        _own_account(snapshot, command.account_id, command.actor)
        if command.status is not AccountStatus.CLOSED:
            raise NotPermitted("freeze or unfreeze an account", "an operator")
    if account.status is AccountStatus.CLOSED:
        raise AccountClosed(account.id)
    expired = _expired(snapshot, account.id, now)
    held_minor = account.held_minor - due_minor(snapshot, account.id, now)
    if command.status is AccountStatus.CLOSED and (account.posted_minor or held_minor):
        raise AccountNotEmpty(account.id, account.posted_minor, held_minor, account.currency)
    return Changes(statuses=((account.id, command.status),), closed=expired)


def _any_account(snapshot: Snapshot, account_id: AccountId) -> Account:
    account = snapshot.account(account_id)
    if account is None:
        raise AccountNotFound(account_id)
    return account


def _own_account(snapshot: Snapshot, account_id: AccountId, actor: str) -> Account:
    if slot_of(account_id) != actor_slot(actor):  # then it is somebody else's, and the scope does not have it
        raise AccountNotFound(account_id)
    account = _any_account(snapshot, account_id)
    if account.owner != actor:
        raise AccountNotFound(account_id)
    return account


def _check_currency(account: Account, currency: str) -> None:
    if account.currency != currency:
        raise CurrencyMismatch(account.id, account.currency, currency)


def _check_debit(account: Account, currency: str) -> None:
    if account.status is AccountStatus.FROZEN:
        raise AccountFrozen(account.id)
    if account.status is AccountStatus.CLOSED:
        raise AccountClosed(account.id)
    _check_currency(account, currency)


def _payee(snapshot: Snapshot, payee: Payee, currency: str) -> AccountId:
    if payee.account_id is None and not payee.known:
        raise PayeeNotFound(payee.name)
    if payee.account_id is None:
        raise PayeeCannotReceive(payee.name, currency)
    if is_system(payee.account_id):
        return payee.account_id
    facts = snapshot.facts(payee.account_id)
    if facts is None:
        raise PayeeNotFound(payee.name)
    if facts.currency != currency or facts.status is AccountStatus.CLOSED:
        raise PayeeCannotReceive(payee.name, currency)
    return facts.id


def _owner_of(snapshot: Snapshot, account_id: AccountId) -> str | None:
    facts = None if is_system(account_id) else snapshot.facts(account_id)
    return facts.owner if facts else None


def _expired(snapshot: Snapshot, account_id: AccountId, now: datetime) -> tuple[Hold, ...]:
    return tuple(close_hold(hold, HoldState.EXPIRED, now) for hold in snapshot.holds_of(account_id) if hold.is_due(now))


def _spend(snapshot: Snapshot, account: Account, amount_minor: int, now: datetime) -> tuple[Hold, ...]:
    """The due holds to close when spending `amount_minor`; raises InsufficientFunds."""
    spendable_minor, expired = free_minor(snapshot, account, now)
    if amount_minor > spendable_minor:
        raise InsufficientFunds(account.id, spendable_minor, amount_minor, account.currency)
    return expired


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


def close_hold(
    hold: Hold, state: HoldState, now: datetime, captured_minor: int = 0, moved: Transfer | None = None
) -> Hold:
    """The hold as it is once it is closed; `moved` is the transfer that captured it."""
    at = max(now, hold.created_at)
    return replace(
        hold, state=state, closed_at=at, captured_minor=captured_minor, transfer_id=moved.id if moved else None
    )


def _external(
    command: MoveExternal, kind: TransferKind, debit: AccountId, credit: AccountId, now: datetime
) -> Transfer:
    return Transfer(
        id=command.transfer_id,
        kind=kind,
        debit_account_id=debit,
        credit_account_id=credit,
        amount_minor=command.amount_minor,
        currency=command.currency,
        at=now,
        actor=command.actor,
        idempotency_key=command.key,
        reference=command.reference,
    )
