"""Converts records of the ledger to the models of REST, as the requesting user may see them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ...domain import model
from ...domain.annotations import UNANNOTATED, Annotation, Side
from ...domain.errors import WalletError
from ...domain.ids import AccountId, UserId
from ...domain.model import HoldState
from ...runtime import Wallet
from ...storage import HistoryLine
from ...verbs.hold_lists import state_at, version_of
from ...verbs.ledger import Known, Posted
from ...verbs.parties import Direction, Party, parties_with
from ..catalogue.errors import values_of
from ..http.language import message_of, tell
from . import models as told
from .values import Money

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    """One user's view of some transfers and holds. All their parties are looked up at once, in two reads."""

    user_id: UserId
    now: datetime
    parties: Mapping[AccountId, Party]
    notes: Mapping[Side, Annotation] | None = field(default_factory=dict)
    """What the user has noted about the transfers; None if that cannot be read now."""

    @classmethod
    async def of(cls, wallet: Wallet, user_id: UserId, shown: Iterable[model.Transfer | model.Hold]) -> View:
        """Look up the owners of the accounts on both sides, and what the user has noted."""
        asked = tuple(shown)
        own: dict[Side, model.RecordKey] = {}

        def noted(owners: Mapping[AccountId, UserId]) -> Iterable[model.RecordKey]:
            own.update((side, side.key) for side in _ends(asked) if owners.get(side.account_id) == user_id)
            return own.values()

        accounts = [account_id for one in asked for account_id in _sides(one)]
        parties, found = await parties_with(wallet.store, accounts, noted)
        notes = {side: Annotation.from_record(found.record(key)) for side, key in own.items()} if found else {}
        return cls(user_id, wallet.ledger.clock(), parties, notes)

    @classmethod
    async def after(cls, wallet: Wallet, user_id: UserId, shown: Iterable[model.Transfer | model.Hold]) -> View:
        """The view of what is in the books already: also where parties and notes cannot be looked up now."""
        try:
            return await cls.of(wallet, user_id, shown)
        except WalletError as error:
            log.warning("the parties could not be read after a command: %s", error)
            return cls(user_id, wallet.ledger.clock(), {}, None)

    def transfer(self, one: model.Transfer, *, paid: bool | None = None) -> told.Transfer:
        """A transfer that the user paid or received. `paid` says which, if that is known."""
        own, other = _sides(one)
        if paid is None:
            party = self.parties.get(own)
            paid = party is not None and party.user_id == self.user_id
        if not paid:
            own, other = other, own
        noted = (self.notes or {}).get(Side(own, one.id), UNANNOTATED)
        return told.Transfer(
            id=one.id,
            kind=one.kind,
            direction=Direction.OUT if paid else Direction.IN,
            account_id=own,
            counterparty=self.party(other),
            amount=Money.of(one.amount_minor, one.currency),
            fee=Money.of(one.fee_minor, one.currency),
            reference=one.reference,
            created_at=one.at,
            reverses_id=one.reverses,
            hold_id=one.hold_id,
            category=noted.category or None,
            metadata=None if self.notes is None else dict(noted.metadata),
        )

    def entry(self, line: HistoryLine) -> told.Entry:
        """A line of the user's history."""
        entry, currency = line.entry, line.transfer.currency
        return told.Entry(
            sequence=str(entry.sequence),
            amount=Money.of(entry.amount_minor, currency),
            balance_after=Money.of(entry.balance_minor, currency),
            created_at=entry.at,
            transfer=self.transfer(line.transfer, paid=entry.account_id == line.transfer.debit_account_id),
        )

    def hold(self, hold: model.Hold) -> told.Hold:
        """A hold that the user placed or may close; that its time is over counts before any sweep."""
        state = state_at(hold, self.now)
        return told.Hold(
            id=hold.id,
            state=state,
            direction=Direction.IN if hold.closer == self.user_id else Direction.OUT,
            payer=self.party(hold.account_id),
            payee=self.party(hold.payee_account_id),
            account_id=hold.account_id,
            payee_account_id=hold.payee_account_id,
            amount=Money.of(hold.amount_minor, hold.currency),
            captured=Money.of(hold.captured_minor, hold.currency),
            transfer_id=hold.transfer_id,
            reference=hold.reference,
            created_at=hold.created_at,
            expires_at=hold.expires_at,
            closed_at=hold.expires_at if state is HoldState.EXPIRED else hold.closed_at,
            version=str(version_of(hold, state)),
            closable=state is HoldState.OPEN and hold.closer == self.user_id,
        )

    def party(self, account_id: AccountId) -> told.Party | None:
        """Whose an account is; None if that is not known."""
        party = self.parties.get(account_id)
        return told.Party(kind=party.kind, name=party.name, username=party.username) if party else None


def _sides(one: model.Transfer | model.Hold) -> tuple[AccountId, AccountId]:
    """The account that pays, and the one that receives."""
    if isinstance(one, model.Transfer):
        return one.debit_account_id, one.credit_account_id
    return one.account_id, one.payee_account_id


def _ends(shown: Iterable[model.Transfer | model.Hold]) -> Iterator[Side]:
    """Both sides of each transfer."""
    for one in shown:
        if isinstance(one, model.Transfer):
            yield from (Side(account_id, one.id) for account_id in _sides(one))


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
        created_at=known.at,
        transfer=view.transfer(moved) if moved else None,
        hold=view.hold(held) if held else None,
        refusal=refusal_view(refused) if refused else None,
    )


def refusal_view(error: WalletError) -> told.Refusal:
    """A refusal inside an answer."""
    values = values_of(error, tell())
    return told.Refusal(code=error.code, message=message_of(error), retryable=error.retryable, **values)


def account_view(account: model.Account) -> told.Account:
    """An account, as its owner sees it."""
    return told.Account(
        id=account.id,
        currency=account.currency,
        state=account.status,
        posted=Money.of(account.posted_minor, account.currency),
        held=Money.of(account.held_minor, account.currency),
        available=Money.of(account.available_minor, account.currency),
        sequence=str(account.sequence),
        version=str(account.version),
        created_at=account.created_at,
    )
