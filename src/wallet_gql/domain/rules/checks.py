"""Checks that several rules share: ownership of accounts, available money, due holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from ..changes import Snapshot
from ..commands import MoveMoney, Payee, PlaceHold
from ..errors import (
    AccountClosed,
    AccountFrozen,
    AccountNotFound,
    CurrencyMismatch,
    InsufficientFunds,
    PayeeCannotReceive,
    PayeeNotFound,
    SameAccount,
)
from ..ids import AccountId, actor_slot, is_system, slot_of
from ..model import Account, AccountStatus, Hold, HoldState, Transfer


def fee_minor(amount_minor: int, basis_points: int) -> int:
    """The fee on an amount: basis points (1/10,000) of it, rounded down, in the payee's favour."""
    return amount_minor * basis_points // 10_000


def due_minor(snapshot: Snapshot, account_id: AccountId, now: datetime) -> int:
    """The amount of due holds, which still counts as held. It can be spent at once, without waiting for the sweep."""
    return sum(hold.amount_minor for hold in snapshot.holds_of(account_id) if hold.is_due(now))


def free_minor(snapshot: Snapshot, account: Account, now: datetime) -> tuple[int, tuple[Hold, ...]]:
    """The amount that can be spent now, and the due holds that must be closed with the spending."""
    expired = expired_holds(snapshot, account.id, now)
    freed_minor = sum(hold.amount_minor for hold in expired) if expired else 0
    return account.available_minor + freed_minor, expired


def any_account(snapshot: Snapshot, account_id: AccountId) -> Account:
    """An account that the command acts on, whoever owns it. Raises AccountNotFound."""
    account = snapshot.account(account_id)
    if account is None:
        raise AccountNotFound(account_id)
    return account


def account_in(wallet: Iterable[Account], currency: str) -> Account | None:
    """A user's account in a currency: the one that is not closed, else the one that was opened last."""
    found = [account for account in wallet if account.currency == currency]
    return max(found, key=lambda account: (not account.is_closed, account.id), default=None)


def own_account(snapshot: Snapshot, account_id: AccountId, actor: str) -> Account:
    """An account of the actor's own. Raises AccountNotFound, also for other people's accounts."""
    if slot_of(account_id) != actor_slot(actor):  # an account in another slot is not the actor's, and not in the scope
        raise AccountNotFound(account_id)
    account = any_account(snapshot, account_id)
    if account.owner != actor:
        raise AccountNotFound(account_id)
    return account


def check_account_currency(account: Account, currency: str) -> None:
    """Raise CurrencyMismatch unless the account holds that currency."""
    if account.currency != currency:
        raise CurrencyMismatch(account.id, account.currency, currency)


def check_debit(account: Account, currency: str) -> None:
    """Raise AccountFrozen, AccountClosed or CurrencyMismatch unless the account can be debited in that currency."""
    if account.status is AccountStatus.FROZEN:
        raise AccountFrozen(account.id)
    if account.status is AccountStatus.CLOSED:
        raise AccountClosed(account.id)
    check_account_currency(account, currency)


def payee_account(snapshot: Snapshot, payee: Payee, currency: str) -> AccountId:
    """The account that the payee receives into. Raises PayeeNotFound, PayeeCannotReceive."""
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


def payer_and_payee(snapshot: Snapshot, command: MoveMoney | PlaceHold) -> tuple[Account, AccountId]:
    """The actor's account, and the account that the payee receives into.

    Raises:
        AccountNotFound, AccountFrozen, AccountClosed, CurrencyMismatch: about the payer's account.
        PayeeNotFound, PayeeCannotReceive, SameAccount: about the payee.
    """
    source = own_account(snapshot, command.source, command.actor)
    check_debit(source, command.currency)
    if command.payee.account_id == source.id:
        raise SameAccount(source.id)
    return source, payee_account(snapshot, command.payee, command.currency)


def owner_of(snapshot: Snapshot, account_id: AccountId) -> str | None:
    """The owner of an account, possibly on another node; None for a system account."""
    facts = None if is_system(account_id) else snapshot.facts(account_id)
    return facts.owner if facts else None


def expired_holds(snapshot: Snapshot, account_id: AccountId, now: datetime) -> tuple[Hold, ...]:
    """The account's expired holds, closed as expired."""
    still_open = snapshot.holds_of(account_id)
    return tuple([close_hold(hold, HoldState.EXPIRED, now) for hold in still_open if hold.is_due(now)])


def spend(snapshot: Snapshot, account: Account, amount_minor: int, now: datetime) -> tuple[Hold, ...]:
    """The due holds to close when `amount_minor` is spent. Raises InsufficientFunds."""
    spendable_minor, expired = free_minor(snapshot, account, now)
    if amount_minor > spendable_minor:
        raise InsufficientFunds(account.id, spendable_minor, amount_minor, account.currency)
    return expired


def close_hold(
    hold: Hold, state: HoldState, now: datetime, captured_minor: int = 0, moved: Transfer | None = None
) -> Hold:
    """The hold after it is closed; `moved` is the transfer that captured it."""
    at = max(now, hold.created_at)
    return replace(
        hold, state=state, closed_at=at, captured_minor=captured_minor, transfer_id=moved.id if moved else None
    )
