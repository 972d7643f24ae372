"""Moving money at once: pay, deposit, withdraw, reverse and refund."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import ClassVar

from ..domain import commands, merchants, rules
from ..domain.annotations import UNANNOTATED, Annotation
from ..domain.changes import Changes, Snapshot
from ..domain.errors import Contended, NotReversible
from ..domain.ids import (
    AccountId,
    TransferId,
    is_id,
    is_system,
    parse_account_id,
    parse_transfer_id,
    slot_of,
    system_account,
)
from ..domain.model import CASH
from ..idempotency import Attempt
from .annotations import annotating
from .attempts import Means, money_scope, new_attempt, new_transfer_id
from .keyed import Moves, Plan
from .lookups import To, check_payee, find_payee, in_use, terms_of, transfer_seen_by


@dataclass(slots=True)
class TransferVerb(Moves):
    """Pay from one's own account."""

    source: AccountId
    to: To
    amount_minor: int
    currency: str
    reference: str
    fee_basis_points: int
    annotation: Annotation = UNANNOTATED
    """What the payer notes about it."""

    operation = "transfer"

    def shape(self) -> Attempt:
        """See `MoneyVerb.shape`."""
        parse_account_id(self.source, "fromAccountId")
        check_payee(self.to)
        noted = self.annotation.checked().fingerprinted()
        to = {"toAccount": self.to.account_id, "toUsername": self.to.username}
        values = {"from": self.source, **to, "reference": self.reference, **noted}
        return new_attempt(self.actor, self.key, self.operation, values, self.amount_minor, self.currency)

    async def look_up(self, means: Means, attempt: Attempt) -> Plan:
        """Look up the payee."""
        payee = await find_payee(means.store, self.to, self.currency)
        now = means.clock()
        command = commands.MoveMoney(
            transfer_id=new_transfer_id(means, attempt.slot, now),
            actor=self.actor,
            key=attempt.key,
            source=self.source,
            payee=payee,
            amount_minor=self.amount_minor,
            currency=self.currency,
            fee_minor=rules.fee_minor(self.amount_minor, self.fee_basis_points),
            reference=self.reference,
        )
        scope = money_scope(attempt, self.source, payee.account_id, now)
        plan = Plan(now, scope, partial(rules.transfer, command=command, now=now), self.currency)
        return annotating(plan, self.annotation, self.actor, self.source, command.transfer_id)


@dataclass(slots=True)
class ExternalVerb(Moves):
    """Base of `DepositVerb` and `WithdrawVerb`: an account, and the node's cash account."""

    account_id: AccountId
    amount_minor: int
    currency: str
    reference: str

    spends: ClassVar[bool]
    """Whether the money leaves the account."""

    @staticmethod
    @abstractmethod
    def rule(snapshot: Snapshot, command: commands.MoveExternal, now: datetime) -> Changes:
        """The rule of `domain.rules`."""

    def shape(self) -> Attempt:
        """See `MoneyVerb.shape`."""
        parse_account_id(self.account_id)
        values = {"account": self.account_id, "reference": self.reference}
        return new_attempt(self.actor, self.key, self.operation, values, self.amount_minor, self.currency)

    async def look_up(self, means: Means, attempt: Attempt) -> Plan:
        """Read nothing. For an operator the account's home leads."""
        now = means.clock()
        home = attempt.slot if is_id("usr", self.actor) else slot_of(self.account_id)
        command = commands.MoveExternal(
            transfer_id=new_transfer_id(means, home, now),
            actor=self.actor,
            key=attempt.key,
            account_id=self.account_id,
            counterpart=system_account(CASH, self.currency),
            amount_minor=self.amount_minor,
            currency=self.currency,
            reference=self.reference,
        )
        scope = money_scope(attempt, self.account_id, None, now, home=home)
        return Plan(now, scope, partial(self.rule, command=command, now=now), self.currency if self.spends else None)


class DepositVerb(ExternalVerb):
    """Bring money in from outside. For operators."""

    __slots__ = ()
    operation = "deposit"
    spends = False

    @staticmethod
    def rule(snapshot: Snapshot, command: commands.MoveExternal, now: datetime) -> Changes:
        """See `rules.deposit`."""
        return rules.deposit(snapshot, command, now)


class WithdrawVerb(ExternalVerb):
    """Send money out at once."""

    __slots__ = ()
    operation = "withdraw"
    spends = True

    @staticmethod
    def rule(snapshot: Snapshot, command: commands.MoveExternal, now: datetime) -> Changes:
        """See `rules.withdraw`."""
        return rules.withdraw(snapshot, command, now)


@dataclass(slots=True)
class ReverseVerb(Moves):
    """Send a received transfer back: a part, or all that has not been sent back yet."""

    transfer_id: TransferId
    amount_minor: int | None
    reference: str

    operation = "reverseTransfer"
    named: ClassVar[str] = "transferId"
    """The name of the transfer's id in the input."""

    def shape(self) -> Attempt:
        """See `MoneyVerb.shape`."""
        parse_transfer_id(self.transfer_id, self.named)
        values = {"transfer": self.transfer_id, "reference": self.reference}
        return new_attempt(self.actor, self.key, self.operation, values, self.amount_minor)

    async def look_up(self, means: Means, attempt: Attempt) -> Plan:
        """Look up the transfer and its terms. The payee's home leads."""
        original = await transfer_seen_by(means.store, self.actor, self.transfer_id)
        source = original.credit_account_id
        if is_system(source):  # a withdrawal: a system account has no home that could lead the command
            raise NotReversible(original.id, original.kind)
        terms = await terms_of(means.store, original)
        now, home = means.clock(), slot_of(source)
        command = commands.ReverseTransfer(
            transfer_id=new_transfer_id(means, home, now),
            actor=self.actor,
            key=attempt.key,
            original_id=original.id,
            source=source,
            target=await in_use(means.store, merchants.returned_to(original, terms)),
            amount_minor=self.amount_minor,
            reference=self.reference,
            limit_minor=merchants.refundable_minor(original, terms),
        )
        scope = money_scope(attempt, source, command.target, now, home=home)
        scope = replace(scope, transfers=(original.id,))
        return Plan(now, scope, partial(self._arrived, command=command, now=now), None)

    def rule(self, snapshot: Snapshot, command: commands.ReverseTransfer, now: datetime) -> Changes:
        """See `rules.reverse_transfer`."""
        return rules.reverse_transfer(snapshot, command, now)

    def _arrived(self, snapshot: Snapshot, command: commands.ReverseTransfer, now: datetime) -> Changes:
        if snapshot.transfer(command.original_id) is None:  # its payer's home has it, so it will arrive: do not refuse
            raise Contended("the transfer has not reached its payee yet")
        return self.rule(snapshot, command, now)


class RefundVerb(ReverseVerb):
    """Refund a payment: a merchant's reversal, of payments only. It shares its keys with reversals."""

    __slots__ = ()
    named = "paymentId"

    def rule(self, snapshot: Snapshot, command: commands.ReverseTransfer, now: datetime) -> Changes:
        """See `rules.merchants.refund`."""
        return rules.merchants.refund(snapshot, command, now)
