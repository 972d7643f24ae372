"""A payment provider's answers as the flows see them: plain values, or the errors NoAnswer and Declined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...domain.topups import IntentSeen

MISSING: Final = "resource_missing"
"""Stripe's error code for an object that does not exist."""


class NoAnswer(Exception):
    """It is unknown whether the call had an effect. Conclude nothing from it; ask again."""


class Declined(Exception):
    """Stripe understood the call and will not do it: it had no effect. `reason` is Stripe's code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Intent:
    """A PaymentIntent, and the secret with which the customer's browser can pay it.

    The secret is sent to the customer only; it is neither stored nor logged.
    """

    seen: IntentSeen
    client_secret: str | None

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Intent({self.seen})"


@dataclass(frozen=True, slots=True)
class Movement:
    """One of Stripe's balance transactions; money that Stripe received is positive.

    `about` is the id of the object under which the ledger books it, empty if it is not the wallet's. `intent_id` is set
    if it belongs to a PaymentIntent, `top_up_id` if it is a charge that names its top-up (Stripe copies an intent's
    metadata to its charge, but not to refunds and disputes).
    """

    id: str
    kind: str
    about: str
    amount_minor: int
    fee_minor: int
    currency: str
    intent_id: str | None
    top_up_id: str = ""
