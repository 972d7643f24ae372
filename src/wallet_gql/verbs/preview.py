"""What a payment or a hold would do if it were sent now. Nothing is written, and no key is used up."""

from __future__ import annotations

from typing import Any, Final

from ..domain import rules
from ..domain.changes import ReadSet, Scope
from ..domain.errors import Rejected
from ..domain.frozen import frozen
from ..domain.ids import AccountId
from ..domain.merchants import TERMS, Terms
from ..domain.rules import free_minor
from .attempts import Means
from .keyed import MoneyVerb, planned

KEY: Final = "preview"
"""The key of a verb that is only previewed."""


@frozen
class Preview:
    """What the payer pays, what of it the wallet keeps, and what is left to spend: minor units of `currency`.

    Of a hold: what is reserved, and what the wallet keeps if all of it is captured.
    """

    currency: str
    amount_minor: int
    fee_minor: int
    remaining_minor: int


async def preview(
    means: Means, verb: MoneyVerb[Any, Any], source: AccountId, *, capture_basis_points: int = 0
) -> Preview | Rejected:
    """What a verb that pays from `source` would do, by the rule that decides it; or why it would be refused.

    `capture_basis_points` is the fee of a capture where the hold agrees on none.

    Raises:
        Unavailable; RateLimited: too many look-ups by the sender of this request.
    """
    try:
        attempt = verb.shape()
        plan = await planned(means, verb, attempt)
        snapshot = await means.store.fetch(_reads(plan.scope))
        made = plan.rule(snapshot)
    except Rejected as error:
        return error
    account = snapshot.account(source)
    assert account is not None  # else the rule had refused it
    spendable_minor, _ = free_minor(snapshot, account, plan.now)
    held_minor = sum(one.amount_minor for one in made.placed)
    paid_minor = held_minor + sum(one.amount_minor for one in made.transfers)
    fee_minor = sum(one.fee_minor for one in made.transfers)
    if held_minor:
        agreed = (Terms.from_record(one).fee_basis_points for one in made.records if one.kind == TERMS)
        basis_points = next((one for one in agreed if one is not None), capture_basis_points)
        fee_minor += rules.fee_minor(held_minor, basis_points)
    return Preview(account.currency, paid_minor, fee_minor, spendable_minor - paid_minor)


def _reads(scope: Scope) -> ReadSet:
    """What a rule looks at: all of the scope but the receipts."""
    return ReadSet(
        accounts=scope.accounts,
        credits=scope.credits,
        wallets=scope.wallets,
        holds=scope.holds,
        transfers=scope.transfers,
        records=scope.records,
        due_at=scope.due_at,
        open_holds=scope.open_holds,
    )
