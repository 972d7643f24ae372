"""Converts records of the ledger to the models of REST, as the requesting user may see them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ...domain import model
from ...domain.errors import WalletError
from ...domain.ids import AccountId, UserId, is_system
from ...domain.security_events import SecurityEvent
from ...domain.users import User as DomainUser
from ...runtime import Wallet
from ...storage import HistoryLine
from ...verbs.ledger import Known, Posted
from ...verbs.reading import owners_of
from ..catalogue.errors import values_of
from . import models as told
from .values import Money

log = logging.getLogger(__name__)

SYSTEM: Final = "system"
"""The name of a counterparty that is not a user."""


@dataclass(frozen=True, slots=True)
class View:
    """One user's view of some transfers. All their users are looked up at once, in two reads."""

    user_id: UserId
    holders: dict[AccountId, DomainUser]

    @classmethod
    async def of(cls, wallet: Wallet, user_id: UserId, transfers: Iterable[model.Transfer]) -> View:
        """Look up the owners of the transfers' accounts."""
        named = [account for one in transfers for account in (one.debit_account_id, one.credit_account_id)]
        owners = await owners_of(wallet.store, named)
        users = await wallet.identity.users(set(owners.values())) if owners else {}
        return cls(user_id, {account_id: users[owner] for account_id, owner in owners.items() if owner in users})

    def transfer(self, one: model.Transfer, *, paid: bool | None = None) -> told.Transfer:
        """A transfer that the user paid or received. `paid` says which, if that is known."""
        if paid is None:
            paid = self._is_own(one.debit_account_id)
        own, other = one.debit_account_id, one.credit_account_id
        if not paid:
            own, other = other, own
        return told.Transfer(
            id=one.id,
            kind=one.kind,
            direction="out" if paid else "in",
            account_id=own,
            counterparty=self._counterparty(other),
            amount=Money.of(one.amount_minor, one.currency),
            fee=Money.of(one.fee_minor, one.currency),
            reference=one.reference,
            at=one.at,
            reverses_id=one.reverses,
            hold_id=one.hold_id,
        )

    def entry(self, line: HistoryLine) -> told.Entry:
        """A line of the user's history."""
        entry, currency = line.entry, line.transfer.currency
        return told.Entry(
            sequence=entry.sequence,
            amount=Money.of(entry.amount_minor, currency),
            balance_after=Money.of(entry.balance_minor, currency),
            at=entry.at,
            transfer=self.transfer(line.transfer),
        )

    def _is_own(self, account_id: AccountId) -> bool:
        holder = self.holders.get(account_id)
        return holder is not None and holder.id == self.user_id

    def _counterparty(self, account_id: AccountId) -> told.Counterparty | None:
        if is_system(account_id):
            return told.Counterparty(label=SYSTEM, username=None)
        holder = self.holders.get(account_id)
        return told.Counterparty(label=holder.username, username=holder.username) if holder else None


async def posted_view(wallet: Wallet, user_id: UserId, posted: Posted[model.Transfer], *, paid: bool) -> told.Posted:
    """A transfer that is in the books, also if the other side cannot be looked up now."""
    try:
        view = await View.of(wallet, user_id, [posted.result])
    except WalletError as error:
        log.warning("the parties could not be read after a transfer: %s", error)
        view = View(user_id, {})
    one = view.transfer(posted.result, paid=paid)
    return told.Posted(transfer=one, credited=posted.credited, replayed=posted.replayed)


async def outcome_view(wallet: Wallet, user_id: UserId, known: Known) -> told.Outcome:
    """The outcome of a key."""
    moved, refused = known.transfer, known.refusal
    view = await View.of(wallet, user_id, [moved] if moved else [])
    return told.Outcome(
        operation=known.operation,
        at=known.at,
        transfer=view.transfer(moved) if moved else None,
        hold=hold_view(known.hold) if known.hold else None,
        refusal=told.Refusal(code=refused.code, message=refused.message, **values_of(refused)) if refused else None,
    )


def user_view(user: DomainUser) -> told.User:
    """A user, as shown to the same user."""
    return told.User(id=user.id, username=user.username, email=user.email, created_at=user.created_at)


def event_view(event: SecurityEvent) -> told.Event:
    """A security event, as shown to its user."""
    visitor = event.visitor
    return told.Event(
        id=event.id,
        kind=event.kind,
        at=event.at,
        address=(visitor.address or None) if visitor else None,
        user_agent=(visitor.user_agent or None) if visitor else None,
        subject=event.subject,
    )


def account_view(account: model.Account) -> told.Account:
    """An account, as its owner sees it."""
    return told.Account(
        id=account.id,
        currency=account.currency,
        status=account.status,
        posted=Money.of(account.posted_minor, account.currency),
        held=Money.of(account.held_minor, account.currency),
        available=Money.of(account.available_minor, account.currency),
        created_at=account.created_at,
    )


def hold_view(hold: model.Hold) -> told.Hold:
    """A hold, as its payer and its payee see it."""
    return told.Hold(
        id=hold.id,
        state=hold.state,
        account_id=hold.account_id,
        payee_account_id=hold.payee_account_id,
        amount=Money.of(hold.amount_minor, hold.currency),
        captured=Money.of(hold.captured_minor, hold.currency),
        transfer_id=hold.transfer_id,
        reference=hold.reference,
        created_at=hold.created_at,
        expires_at=hold.expires_at,
        closed_at=hold.closed_at,
    )
