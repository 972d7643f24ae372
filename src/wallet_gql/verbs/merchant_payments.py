"""Paying a merchant, at once or by a hold.

The payer's home leads. The merchant's record is read from the merchant's home before, so the fee is the one in force
when the server accepted the payment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ..domain import commands, rules
from ..domain import merchants as domain
from ..domain.annotations import UNANNOTATED, Annotation
from ..domain.changes import Changes, Scope, Snapshot
from ..domain.frozen import frozen
from ..domain.ids import AccountId, UserId, parse_account_id
from ..domain.merchants import terms_key
from ..idempotency import Attempt, side_receipt
from .annotations import annotating
from .attempts import Means, money_scope, new_attempt, new_transfer_id
from .holds import PlaceHoldVerb, placing
from .keyed import Moves, Plan
from .lookups import To, check_payee, find_merchant, find_payee


@frozen
class Split:
    """One split of a payment: `basis_points` (1/10,000) of the amount."""

    to: To
    basis_points: int


@dataclass(slots=True)
class PayMerchantVerb(Moves):
    """Pay a merchant, by username; the payees of `splits` are paid in the same commit."""

    source: AccountId
    merchant: str
    amount_minor: int
    currency: str
    splits: Sequence[Split]
    reference: str
    annotation: Annotation = UNANNOTATED
    """What the payer notes about it, and about each split."""
    merchant_id: UserId | None = field(default=None, init=False)
    """The merchant's id, once it was looked up."""

    operation = "payMerchant"

    def shape(self) -> Attempt:
        """See `MoneyVerb.shape`."""
        parse_account_id(self.source, "fromAccountId")
        domain.check_splits([split.basis_points for split in self.splits])
        values: dict[str, str | None] = {"from": self.source, "merchant": self.merchant, "reference": self.reference}
        values |= self.annotation.checked().fingerprinted()
        for place, split in enumerate(self.splits):
            check_payee(split.to)
            values[f"split{place}"] = f"{split.to.account_id or ''}|{split.to.username or ''}|{split.basis_points}"
        return new_attempt(self.actor, self.key, self.operation, values, self.amount_minor, self.currency)

    async def look_up(self, means: Means, attempt: Attempt) -> Plan:
        """Look up the merchant and the payees of the splits."""
        payee, found = await find_merchant(means.store, self.merchant, self.currency)
        self.merchant_id = found.id if found else None
        shared = [await find_payee(means.store, split.to, self.currency) for split in self.splits]
        now = means.clock()
        parts = []
        for place, (split, to) in enumerate(zip(self.splits, shared, strict=True)):
            transfer_id = new_transfer_id(means, attempt.slot, now)
            parts.append(commands.SplitPart(transfer_id, f"split:{place}:{transfer_id}", to, split.basis_points))
        command = commands.PayMerchant(
            transfer_id=new_transfer_id(means, attempt.slot, now),
            actor=self.actor,
            key=attempt.key,
            source=self.source,
            payee=payee,
            is_merchant=found is not None,
            fee_basis_points=found.fee_basis_points if found else 0,
            amount_minor=self.amount_minor,
            currency=self.currency,
            splits=tuple(parts),
            reference=self.reference,
        )

        def rule(snapshot: Snapshot) -> Changes:
            receipts = (side_receipt(attempt, part.key, part.transfer_id, now) for part in parts)
            return rules.merchants.pay_merchant(snapshot, command, now) + Changes(receipts=tuple(receipts))

        scope = _with_parts(money_scope(attempt, self.source, payee.account_id, now), command)
        ids = (command.transfer_id, *(part.transfer_id for part in parts))
        return annotating(Plan(now, scope, rule, self.currency), self.annotation, self.actor, self.source, *ids)


def _with_parts(scope: Scope, command: commands.PayMerchant) -> Scope:
    """The scope of a payment, extended by the splits' payees, their receipts, and the terms."""
    named = (split.payee.account_id for split in command.splits)
    payees = dict.fromkeys(account for account in named if account is not None and account not in scope.accounts)
    credited = dict.fromkeys((*scope.credits, *payees))
    receipts = (*scope.receipts, *((command.actor, split.key) for split in command.splits))
    ids = (command.transfer_id, *(split.transfer_id for split in command.splits)) if command.splits else ()
    records = tuple(terms_key(transfer_id) for transfer_id in ids)
    return replace(scope, credits=tuple(credited), receipts=receipts, records=records)


class PayMerchantByHoldVerb(PlaceHoldVerb):
    """Reserve money for a merchant, who captures it, all or less, with the fee that is in force now."""

    __slots__ = ()
    operation = "payMerchantByHold"

    async def look_up(self, means: Means, attempt: Attempt) -> Plan:
        """Look up the merchant."""
        payee, found = await find_merchant(means.store, self.to.username or "", self.currency)
        now = means.clock()
        hold = self.command(means, attempt, payee, now)
        command = commands.HoldForMerchant(hold, found is not None, found.fee_basis_points if found else 0)
        scope = money_scope(attempt, self.source, payee.account_id, now)
        scope = placing(replace(scope, records=(terms_key(hold.hold_id),)), hold.hold_id)
        return Plan(now, scope, partial(rules.merchants.place_hold, command=command, now=now), self.currency)
