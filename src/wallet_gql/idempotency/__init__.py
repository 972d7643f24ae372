"""Idempotency keys: one effect and one answer for each key of each actor, however often and late it is retried.

`receipts` is for the wallet's money verbs: the receipt is part of the commit that moves the money. `guard` does it for
any async function, over any store, and `asgi` for any ASGI application, by the header `Idempotency-Key`. Other services
can use both; they need no framework.
"""

from .guard import Guard
from .keys import KEY_MAX, canonical_key, check_key, key_of
from .receipts import (
    FINGERPRINT_VERSION,
    Answer,
    Attempt,
    Effect,
    Fresh,
    Refused,
    Replayed,
    claim,
    fingerprint,
    once,
    refusal_receipt,
    replay,
    side_receipt,
)
from .turns import Completer, Effects, Joined, NothingDone, Outcome, Settled, StillRunning, Turn, Unfinished

__all__ = [
    "FINGERPRINT_VERSION",
    "KEY_MAX",
    "Answer",
    "Attempt",
    "Completer",
    "Effect",
    "Effects",
    "Fresh",
    "Guard",
    "Joined",
    "NothingDone",
    "Outcome",
    "Refused",
    "Replayed",
    "Settled",
    "StillRunning",
    "Turn",
    "Unfinished",
    "canonical_key",
    "check_key",
    "claim",
    "fingerprint",
    "key_of",
    "once",
    "refusal_receipt",
    "replay",
    "side_receipt",
]
