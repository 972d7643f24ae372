"""What a payment would do if it were sent now. Nothing is written, and no key is used up."""

from __future__ import annotations

from typing import Any, Final

from ..domain.changes import ReadSet, Scope
from ..domain.errors import Rejected
from ..domain.frozen import frozen
from ..domain.ids import AccountId
from ..domain.rules import free_minor
from .attempts import Means
from .keyed import MoneyVerb, planned

KEY: Final = "preview"
"""The key of a verb that is only previewed."""


@frozen
class Preview:
    """What the payer pays, what of it the wallet keeps, and what is left to spend: minor units of `currency`."""

    currency: str
    amount_minor: int
    fee_minor: int
    remaining_minor: int


async def preview(means: Means, verb: MoneyVerb[Any, Any], source: AccountId) -> Preview | Rejected:
    """What a verb that pays from `source` would do, by the rule that decides it; or why it would be refused.

    Raises:
        Unavailable; RateLimited: too many look-ups by the sender of this request.
    """
    try:
        attempt = verb.shape()
        plan = await planned(means, verb, attempt)
        snapshot = await means.store.fetch(_reads(plan.scope))
        made = plan.rule(snapshot).transfers
    except Rejected as error:
        return error
    account = snapshot.account(source)
    assert account is not None  # else the rule had refused it
    spendable_minor, _ = free_minor(snapshot, account, plan.now)
    paid_minor = sum(one.amount_minor for one in made)
    fee_minor = sum(one.fee_minor for one in made)
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
