"""Place, capture and void holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from ..domain import commands, rules
from ..domain.changes import Scope
from ..domain.errors import InvalidInput, reasons
from ..domain.hold_lists import listing_keys
from ..domain.ids import AccountId, HoldId, make_hold_id, parse_account_id, parse_hold_id, slot_of
from ..domain.merchants import terms_key
from ..idempotency import Attempt
from .attempts import Means, milliseconds, money_scope, new_attempt, new_transfer_id
from .keyed import Moves, Plan, ShowsHold
from .lookups import To, check_payee, find_payee, hold_seen_by

HOLD_SECONDS_MAX: Final = 30 * 24 * 3600
HOLD_SECONDS_DEFAULT: Final = 7 * 24 * 3600


def check_hold_seconds(seconds: int) -> None:
    """Raise InvalidInput unless a hold may last so long."""
    if not 1 <= seconds <= HOLD_SECONDS_MAX:
        raise InvalidInput("expiresInSeconds", reasons.RANGE(least=1, most=HOLD_SECONDS_MAX))


def placing(scope: Scope, hold_id: HoldId) -> Scope:
    """The scope of a command that places a hold: also the payer's open holds, and the records that list the new one."""
    return replace(scope, open_holds=True, records=(*scope.records, *listing_keys(hold_id)))


@dataclass(slots=True)
class PlaceHoldVerb(ShowsHold):
    """Reserve money for a payee, for `expires_in_seconds` from the time at which the server accepts it."""

    source: AccountId
    to: To
    amount_minor: int
    currency: str
    expires_in_seconds: int
    reference: str

    operation = "placeHold"

    def shape(self) -> Attempt:
        """See `MoneyVerb.shape`."""
        parse_account_id(self.source, "fromAccountId")
        check_payee(self.to)
        check_hold_seconds(self.expires_in_seconds)
        values = {"from": self.source, "toAccount": self.to.account_id, "toUsername": self.to.username}
        values |= {"reference": self.reference, "expiresInSeconds": str(self.expires_in_seconds)}
        return new_attempt(self.actor, self.key, self.operation, values, self.amount_minor, self.currency)

    async def look_up(self, means: Means, attempt: Attempt) -> Plan:
        """Look up the payee."""
        payee = await find_payee(means.store, self.to, self.currency)
        now = means.clock()
        command = self.command(means, attempt, payee, now)
        scope = placing(money_scope(attempt, self.source, payee.account_id, now), command.hold_id)
        return Plan(now, scope, partial(rules.place_hold, command=command, now=now), self.currency)

    def command(self, means: Means, attempt: Attempt, payee: commands.Payee, now: datetime) -> commands.PlaceHold:
        """The rule's input."""
        return commands.PlaceHold(
            hold_id=make_hold_id(attempt.slot, milliseconds(now), means.entropy()),
            actor=self.actor,
            key=attempt.key,
            source=self.source,
            payee=payee,
            amount_minor=self.amount_minor,
            currency=self.currency,
            expires_at=now + timedelta(seconds=self.expires_in_seconds),
            reference=self.reference,
        )


@dataclass(slots=True)
class CaptureHoldVerb(Moves):
    """Capture a hold, all of it or `amount_minor`; the rest is released."""

    hold_id: HoldId
    amount_minor: int | None
    fee_basis_points: int

    operation = "captureHold"

    def shape(self) -> Attempt:
        """See `MoneyVerb.shape`."""
        parse_hold_id(self.hold_id)
        return new_attempt(self.actor, self.key, self.operation, {"hold": self.hold_id}, self.amount_minor)

    async def look_up(self, means: Means, attempt: Attempt) -> Plan:
        """Look up the hold. The payer's home leads."""
        hold = await hold_seen_by(means.store, self.actor, self.hold_id)
        now, home = means.clock(), slot_of(hold.id)
        command = commands.CaptureHold(
            transfer_id=new_transfer_id(means, home, now),
            actor=self.actor,
            key=attempt.key,
            hold_id=hold.id,
            account_id=hold.account_id,
            payee_account_id=hold.payee_account_id,
            amount_minor=self.amount_minor,
            fee_basis_points=self.fee_basis_points,
        )
        scope = money_scope(attempt, hold.account_id, hold.payee_account_id, now, home=home)
        scope = replace(scope, holds=(hold.id,), records=(terms_key(hold.id),))
        return Plan(now, scope, partial(rules.merchants.capture_hold, command=command, now=now), None)


@dataclass(slots=True)
class VoidHoldVerb(ShowsHold):
    """Release a hold's money to its payer."""

    hold_id: HoldId

    operation = "voidHold"

    def shape(self) -> Attempt:
        """See `MoneyVerb.shape`."""
        parse_hold_id(self.hold_id)
        return new_attempt(self.actor, self.key, self.operation, {"hold": self.hold_id})

    async def look_up(self, means: Means, attempt: Attempt) -> Plan:
        """Look up the hold. The payer's home leads."""
        hold = await hold_seen_by(means.store, self.actor, self.hold_id)
        now = means.clock()
        command = commands.VoidHold(self.actor, attempt.key, hold.id, hold.account_id)
        scope = replace(money_scope(attempt, hold.account_id, None, now, home=slot_of(hold.id)), holds=(hold.id,))
        return Plan(now, scope, partial(rules.void_hold, command=command, now=now), None)
