"""Pay, deposit, withdraw, reverse."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from ..changes import Changes, Snapshot
from ..commands import (
    MoveExternal,
    MoveMoney,
    Payee,
    ReverseTransfer,
)
from ..errors import (
    AccountClosed,
    LimitExceeded,
    NotPermitted,
    NotReversible,
    ReversalExceedsOriginal,
    TransferNotFound,
)
from ..ids import OPERATOR, AccountId, is_id
from ..model import AccountStatus, Transfer, TransferKind
from .checks import (
    any_account,
    check_account_currency,
    check_debit,
    own_account,
    owner_of,
    payee_account,
    payer_and_payee,
    spend,
)

DEPOSITED_BALANCE_MAX_MINOR: Final = 10**15
"""A deposit may not raise a balance above this.

Some 9,200 accounts with such a balance would have to pay one account to reach 64 bits, where posting refuses.
"""

_REVERSIBLE: Final = (TransferKind.TRANSFER, TransferKind.CAPTURE, TransferKind.PAYMENT, TransferKind.SPLIT)


def transfer(snapshot: Snapshot, command: MoveMoney, now: datetime) -> Changes:
    """Pay a payee.

    Raises:
        AccountNotFound, AccountFrozen, AccountClosed, CurrencyMismatch: about the payer's account.
        PayeeNotFound, PayeeCannotReceive, SameAccount: about the payee.
        InsufficientFunds: less than the amount is available.
    """
    source, target = payer_and_payee(snapshot, command)
    expired = spend(snapshot, source, command.amount_minor, now)
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
    """Bring money in from outside. A frozen account may receive, too.

    Raises:
        AccountNotFound, AccountClosed, CurrencyMismatch: about the account.
        LimitExceeded: the balance would exceed `DEPOSITED_BALANCE_MAX_MINOR`.
        NotPermitted: the actor is a user.
    """
    if is_id("usr", command.actor):
        raise NotPermitted("deposit", "an operator or a payment provider")
    account = any_account(snapshot, command.account_id)
    if account.status is AccountStatus.CLOSED:
        raise AccountClosed(account.id)
    check_account_currency(account, command.currency)
    if account.posted_minor + command.amount_minor > DEPOSITED_BALANCE_MAX_MINOR:
        raise LimitExceeded("the balance after a deposit, in minor units,", DEPOSITED_BALANCE_MAX_MINOR)
    return Changes(transfers=(_external(command, TransferKind.DEPOSIT, command.counterpart, account.id, now),))


def withdraw(snapshot: Snapshot, command: MoveExternal, now: datetime) -> Changes:
    """Send money out at once.

    An operator can take what reached an account after it was closed, where credits arrive later than they are decided.

    Raises:
        AccountNotFound, AccountFrozen, AccountClosed, CurrencyMismatch: about the account.
        InsufficientFunds: less than the amount is available.
    """
    if command.actor == OPERATOR:
        account = any_account(snapshot, command.account_id)
    else:
        account = own_account(snapshot, command.account_id, command.actor)
    if command.actor == OPERATOR and account.status is AccountStatus.CLOSED and account.posted_minor:
        check_account_currency(account, command.currency)
    else:
        check_debit(account, command.currency)
    expired = spend(snapshot, account, command.amount_minor, now)
    moved = _external(command, TransferKind.WITHDRAWAL, account.id, command.counterpart, now)
    return Changes(transfers=(moved,), closed=expired)


def reverse_transfer(
    snapshot: Snapshot, command: ReverseTransfer, now: datetime, *, kinds: Collection[TransferKind] = _REVERSIBLE
) -> Changes:
    """Send a received transfer back, in part or whole, as a new linked transfer. A fee is not returned.

    Led by the payee's home, which knows the credit's header and the reversals so far. Only `kinds` may be sent back.

    Raises:
        TransferNotFound: no such transfer reached the account.
        NotPermitted: the actor is neither the payee nor an operator.
        NotReversible: it is of another kind, such as a reversal or a deposit.
        AccountFrozen, AccountClosed: the payee's account. PayeeCannotReceive: the payer's is closed meanwhile.
        ReversalExceedsOriginal: less than that is left.
        InsufficientFunds: the payee has less than the amount available.
    """
    original = snapshot.transfer(command.original_id)
    source = snapshot.account(command.source)
    if original is None or source is None or original.credit_account_id != source.id:
        raise TransferNotFound(command.original_id)
    if command.actor not in (source.owner, OPERATOR):
        if owner_of(snapshot, command.target) == command.actor:
            raise NotPermitted("reverse this transfer", "its payee")
        raise TransferNotFound(original.id)
    if original.kind not in kinds:
        raise NotReversible(original.id, original.kind)
    check_debit(source, original.currency)
    payee_account(snapshot, Payee(command.target, command.target), original.currency)
    limit_minor = original.amount_minor if command.limit_minor is None else command.limit_minor
    left_minor = reversible_minor(snapshot, original, limit_minor)
    amount_minor = left_minor if command.amount_minor is None else command.amount_minor
    if left_minor == 0 or amount_minor > left_minor:
        raise ReversalExceedsOriginal(original.id, left_minor, amount_minor, original.currency)
    expired = spend(snapshot, source, amount_minor, now)
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


def is_reversible(transfer: Transfer) -> bool:
    """Whether its kind can be sent back."""
    return transfer.kind in _REVERSIBLE


def reversible_minor(snapshot: Snapshot, original: Transfer, limit_minor: int) -> int:
    """How much of a transfer its payee can still send back, in minor units, if it may send back `limit_minor` in all.

    0 for kinds of transfers that nobody sends back.
    """
    return limit_minor - snapshot.reversed_minor(original.id) if is_reversible(original) else 0


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
