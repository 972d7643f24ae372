"""Open an account; freeze, unfreeze and close it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from ..changes import Changes, Snapshot
from ..commands import (
    OpenAccount,
    SetAccountStatus,
)
from ..errors import (
    AccountClosed,
    AccountExists,
    AccountFrozen,
    AccountNotEmpty,
    LimitExceeded,
    NotPermitted,
)
from ..ids import OPERATOR
from ..model import Account, AccountStatus
from .checks import (
    account_in,
    any_account,
    due_minor,
    expired_holds,
    own_account,
)

CLOSED_ACCOUNTS_MAX: Final = 100
"""Per user, in all currencies: a payment to a username reads all of that user's accounts."""


def open_account(snapshot: Snapshot, command: OpenAccount, now: datetime) -> Changes:
    """Open an account at zero. Closed accounts in the same currency do not count.

    Raises:
        AccountExists: the owner has one in this currency that is not closed.
        LimitExceeded: the owner has closed `CLOSED_ACCOUNTS_MAX` accounts.
    """
    wallet = snapshot.wallet(command.owner)
    if (account := account_in(wallet, command.currency)) is not None and not account.is_closed:
        raise AccountExists(account.id, account.currency, account.status.value)
    if sum(account.is_closed for account in wallet) >= CLOSED_ACCOUNTS_MAX:
        raise LimitExceeded("the number of closed accounts of one user", CLOSED_ACCOUNTS_MAX)
    return Changes(opened=(Account(command.account_id, command.owner, command.currency, now, now),))


def set_account_status(snapshot: Snapshot, command: SetAccountStatus, now: datetime) -> Changes:
    """Freeze or unfreeze (operators), or close (owner or operator, at zero with no open holds).

    Raises:
        AccountNotFound: no such account of the actor's. NotPermitted: only operators freeze.
        AccountFrozen: it is frozen, and the actor is no operator: opening another one would evade the freeze.
        AccountClosed: it is closed already, for good. AccountNotEmpty: money or holds are left.
    """
    account = any_account(snapshot, command.account_id)
    if command.actor != OPERATOR:
        own_account(snapshot, command.account_id, command.actor)
        if command.status is not AccountStatus.CLOSED:
            raise NotPermitted("freeze or unfreeze an account", "an operator")
        if account.status is AccountStatus.FROZEN:
            raise AccountFrozen(account.id)
    if account.status is AccountStatus.CLOSED:
        raise AccountClosed(account.id)
    expired = expired_holds(snapshot, account.id, now)
    held_minor = account.held_minor - due_minor(snapshot, account.id, now)
    if command.status is AccountStatus.CLOSED and (account.posted_minor or held_minor):
        raise AccountNotEmpty(account.id, account.posted_minor, held_minor, account.currency)
    return Changes(statuses=((account.id, command.status),), closed=expired)
