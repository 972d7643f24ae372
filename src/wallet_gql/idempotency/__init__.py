"""Idempotency keys: one effect and one answer for each key of each actor, whatever is retried, and when.

`receipts` is how the wallet does it: the receipt is a part of the money's own commit. `guard` puts the same promise
around any async function, over any store, and `asgi` around any ASGI application that gets the header
`Idempotency-Key`: both are for other services too, and need no framework.
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
