"""Verifies that a webhook is Stripe's: HMAC-SHA256 over the time and the raw body, with any of the valid secrets.

The header is `t=UNIX_SECONDS,v1=HEX[,v1=HEX…]`; while a secret is being rotated Stripe signs with both.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

TOLERANCE_SECONDS: Final = 300
"""How far a signature's time may be in the past or the future."""

_SCHEME: Final = "v1"
_SIGNATURES_MAX: Final = 16
_MOMENT: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


class BadSignature(Exception):
    """The request is not Stripe's, or too old. The message says why, and contains nothing of the request."""


def sign(raw: bytes, secret: str, at: int) -> str:
    """The header for a body; `at` is Unix time in seconds."""
    return f"t={at},{_SCHEME}={_digest(raw, secret, str(at))}"


def verify(raw: bytes, header: str | None, secrets: Sequence[str], now: int) -> None:
    """Raise BadSignature unless the body was signed with one of the secrets, within `TOLERANCE_SECONDS`."""
    if not header:
        raise BadSignature("it has no signature")
    parts = [part.strip().partition("=") for part in header.split(",")]
    moments = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == _SCHEME][:_SIGNATURES_MAX]
    if len(moments) != 1 or _MOMENT.fullmatch(moments[0]) is None or not given:
        raise BadSignature("its signature is malformed")
    expected = [_digest(raw, secret, moments[0]) for secret in secrets]
    pairs = [(one, other) for one in expected for other in given]
    if not any([hmac.compare_digest(one.encode(), other.encode()) for one, other in pairs]):  # noqa: C419 - all of them
        raise BadSignature("its signature is by none of the secrets, or the body was changed")
    if abs(now - int(moments[0])) > TOLERANCE_SECONDS:
        raise BadSignature(f"it was signed more than {TOLERANCE_SECONDS} seconds ago or ahead")


def _digest(raw: bytes, secret: str, at: str) -> str:
    return hmac.new(secret.encode(), at.encode() + b"." + raw, hashlib.sha256).hexdigest()
