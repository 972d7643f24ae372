"""Converts records of the ledger to the models of REST, as the requesting user may see them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...domain import model
from ...domain.errors import WalletError
from ...domain.ids import AccountId, UserId
from ...domain.security_events import SecurityEvent
from ...domain.users import User as DomainUser
from ...runtime import Wallet
from ...storage import HistoryLine
from ...verbs.ledger import Known, Posted
from ...verbs.parties import Direction, Party, parties_of
from ..catalogue.errors import values_of
from . import models as told
from .values import Money

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    """One user's view of some transfers and holds. All their parties are looked up at once, in two reads."""

    user_id: UserId
    parties: Mapping[AccountId, Party]

    @classmethod
    async def of(cls, wallet: Wallet, user_id: UserId, shown: Iterable[model.Transfer | model.Hold]) -> View:
        """Look up the owners of the accounts on both sides."""
        return cls(user_id, await parties_of(wallet.store, [side for one in shown for side in _sides(one)]))

    @classmethod
    async def after(cls, wallet: Wallet, user_id: UserId, shown: Iterable[model.Transfer | model.Hold]) -> View:
        """The view of what is in the books already: also where the parties cannot be looked up now."""
        try:
            return await cls.of(wallet, user_id, shown)
        except WalletError as error:
            log.warning("the parties could not be read after a command: %s", error)
            return cls(user_id, {})

    def transfer(self, one: model.Transfer, *, paid: bool | None = None) -> told.Transfer:
        """A transfer that the user paid or received. `paid` says which, if that is known."""
        own, other = _sides(one)
        if paid is None:
            party = self.parties.get(own)
            paid = party is not None and party.user_id == self.user_id
        if not paid:
            own, other = other, own
        return told.Transfer(
            id=one.id,
            kind=one.kind,
            direction=Direction.OUT if paid else Direction.IN,
            account_id=own,
            counterparty=self._party(other),
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

    def hold(self, hold: model.Hold) -> told.Hold:
        """A hold that the user placed or may close."""
        return told.Hold(
            id=hold.id,
            state=hold.state,
            direction=Direction.IN if hold.closer == self.user_id else Direction.OUT,
            payer=self._party(hold.account_id),
            payee=self._party(hold.payee_account_id),
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

    def _party(self, account_id: AccountId) -> told.Party | None:
        party = self.parties.get(account_id)
        return told.Party(kind=party.kind, name=party.name, username=party.username) if party else None


def _sides(one: model.Transfer | model.Hold) -> tuple[AccountId, AccountId]:
    """The account that pays, and the one that receives."""
    if isinstance(one, model.Transfer):
        return one.debit_account_id, one.credit_account_id
    return one.account_id, one.payee_account_id


async def posted_view(wallet: Wallet, user_id: UserId, posted: Posted[model.Transfer], *, paid: bool) -> told.Posted:
    """A transfer that is in the books."""
    view = await View.after(wallet, user_id, [posted.result])
    one = view.transfer(posted.result, paid=paid)
    return told.Posted(transfer=one, credited=posted.credited, replayed=posted.replayed)


async def held_view(wallet: Wallet, user_id: UserId, posted: Posted[model.Hold]) -> told.HoldAnswer:
    """A hold that is in the books."""
    view = await View.after(wallet, user_id, [posted.result])
    return told.HoldAnswer(hold=view.hold(posted.result), replayed=posted.replayed)


async def outcome_view(wallet: Wallet, user_id: UserId, known: Known) -> told.Outcome:
    """The outcome of a key."""
    moved, held, refused = known.transfer, known.hold, known.refusal
    view = await View.of(wallet, user_id, [one for one in (moved, held) if one])
    return told.Outcome(
        operation=known.operation,
        at=known.at,
        transfer=view.transfer(moved) if moved else None,
        hold=view.hold(held) if held else None,
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
