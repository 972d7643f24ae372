"""The customers' money verbs: record a top-up, hold the money of a withdrawal. The flows call Stripe afterwards."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...domain import rules
from ...domain.changes import Changes, Snapshot
from ...domain.commands import Payee, PlaceHold
from ...domain.ids import (
    AccountId,
    TopUpId,
    UserId,
    WithdrawalId,
    make_hold_id,
    make_top_up_id,
    make_withdrawal_id,
    parse_account_id,
)
from ...domain.payments import PROVIDER, stripe_account
from ...domain.topups import TopUp, top_up_key
from ...domain.withdrawals import Withdrawal, payout_account_key, withdrawal_key
from ...idempotency import Attempt, Effect, Replayed
from ...verbs.attempts import Means, milliseconds, money_scope, new_attempt
from ...verbs.holds import placing
from ...verbs.keyed import OneKey, Plan
from .desk import read_flow


@dataclass(slots=True)
class TopUpVerb(OneKey[TopUp]):
    """Record a requested top-up. `live` says whether the provider moves real money."""

    account_id: AccountId
    amount_minor: int
    currency: str
    live: bool

    operation = "topUp"
    result_field = "topUp"

    def shape(self) -> Attempt:
        """See `MoneyVerb.shape`."""
        parse_account_id(self.account_id, "toAccountId")
        money = self.amount_minor, self.currency
        return new_attempt(self.actor, self.key, self.operation, {"account": self.account_id}, *money)

    async def look_up(self, means: Means, attempt: Attempt) -> Plan:
        """Nothing has to be read."""
        now = means.clock()
        top_up_id = make_top_up_id(attempt.slot, milliseconds(now), means.entropy())
        owner = UserId(self.actor)
        top_up = TopUp(top_up_id, owner, self.account_id, self.amount_minor, self.currency, now, live=self.live)
        scope = replace(money_scope(attempt, self.account_id, None, now), records=(top_up.key,))
        return Plan(now, scope, lambda snapshot: rules.topups.request_top_up(snapshot, top_up, owner, now), None)

    def effect(self, changes: Changes) -> Effect[TopUp]:
        """See `OneKey.effect`."""
        top_up = TopUp.from_record(changes.records[0])
        return Effect(changes, top_up, {"topUp": top_up.id})

    async def restore(self, means: Means, kept: Replayed) -> TopUp | None:
        """See `OneKey.restore`."""
        named = self.stored(kept)
        if not isinstance(named, str):
            return None
        return await read_flow(means.store, top_up_key(TopUpId(named)), TopUp.from_record)


@dataclass(slots=True)
class WithdrawalVerb(OneKey[Withdrawal]):
    """Hold the money of a withdrawal. `live` says whether the provider moves real money."""

    account_id: AccountId
    amount_minor: int
    currency: str
    reference: str
    live: bool

    operation = "withdraw"
    result_field = "withdrawal"

    def shape(self) -> Attempt:
        """See `MoneyVerb.shape`."""
        parse_account_id(self.account_id, "fromAccountId")
        values = {"account": self.account_id, "reference": self.reference}
        return new_attempt(self.actor, self.key, self.operation, values, self.amount_minor, self.currency)

    async def look_up(self, means: Means, attempt: Attempt) -> Plan:
        """Nothing has to be read."""
        now, owner = means.clock(), UserId(self.actor)
        at_ms = milliseconds(now)
        hold = PlaceHold(
            hold_id=make_hold_id(attempt.slot, at_ms, means.entropy()),
            actor=owner,
            key=attempt.key,
            source=self.account_id,
            payee=Payee("the bank", stripe_account(self.currency)),
            amount_minor=self.amount_minor,
            currency=self.currency,
            expires_at=None,
            closer=PROVIDER,
            reference=self.reference,
        )
        withdrawal = Withdrawal(
            id=make_withdrawal_id(attempt.slot, at_ms, means.entropy()),
            owner=owner,
            account_id=self.account_id,
            hold_id=hold.hold_id,
            amount_minor=self.amount_minor,
            currency=self.currency,
            destination="",
            created_at=now,
            live=self.live,
        )
        records = (withdrawal.key, payout_account_key(owner))
        scope = replace(money_scope(attempt, self.account_id, None, now), records=records)
        scope = placing(scope, hold.hold_id)

        def rule(snapshot: Snapshot) -> Changes:
            return rules.withdrawals.request_withdrawal(snapshot, withdrawal, hold, now)

        return Plan(now, scope, rule, self.currency)

    def effect(self, changes: Changes) -> Effect[Withdrawal]:
        """See `OneKey.effect`."""
        withdrawal = Withdrawal.from_record(changes.records[-1])
        return Effect(changes, withdrawal, {"withdrawal": withdrawal.id})

    async def restore(self, means: Means, kept: Replayed) -> Withdrawal | None:
        """See `OneKey.restore`."""
        named = self.stored(kept)
        if not isinstance(named, str):
            return None
        return await read_flow(means.store, withdrawal_key(WithdrawalId(named)), Withdrawal.from_record)
