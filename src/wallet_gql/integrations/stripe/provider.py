"""What the flows are told by a payment provider, whoever that is: values without secrets, and two ways of no answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...domain.topups import IntentSeen

MISSING: Final = "resource_missing"
"""Stripe's code for what it does not have."""


class NoAnswer(Exception):
    """It is not known whether the call had an effect. Nothing may be concluded from it; ask again."""


class Declined(Exception):
    """Stripe understood the call and will not do it: it had no effect. `reason` is Stripe's code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Intent:
    """A PaymentIntent: what may be concluded from it, and the secret with which the customer's browser can pay it.

    The secret goes to the customer alone: it is neither stored nor logged.
    """

    seen: IntentSeen
    client_secret: str | None

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Intent({self.seen})"


@dataclass(frozen=True, slots=True)
class Movement:
    """One of Stripe's balance transactions, signed as Stripe's balance: what came in is positive.

    `about` names the object that the ledger's effects are named after, empty if it is none of ours; `intent_id` is set
    where it belongs to a PaymentIntent, and `top_up_id` where a charge says for which top-up it is (Stripe copies an
    intent's metadata to its charge, not to refunds and disputes).
    """

    id: str
    kind: str
    about: str
    amount_minor: int
    fee_minor: int
    currency: str
    intent_id: str | None
    top_up_id: str = ""
