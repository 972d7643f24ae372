"""How REST answers an error of the wallet: as problem details (RFC 9457), with the status of its category.

| status | it means |
|---|---|
| 400 | malformed; correct it, the idempotency key was not used up |
| 401 | log in first, or the log-in was wrong |
| 403 | the act belongs to somebody else, or another site sent the request |
| 404 | there is nothing of that name that concerns you |
| 409 | the present state forbids it: funds, a frozen account, a closed hold, a taken name |
| 422 | the request contradicts something that will not change, or an earlier use of the key |
| 429 | too many requests: wait as long as `Retry-After` says, then retry with the same key |
| 500 | our bug; the log has it under the same request id |
| 503 | nothing changed; retry with the same key, after `Retry-After` |
| 504 | unknown whether it happened; ask again with the same key, never with a new one |
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.responses import Response

from ...domain.errors import Category, WalletError
from ..catalogue.errors import status_of, values_of
from .language import message_of, tell
from .problems import answer

RETRY_SECONDS: Final = 1
"""The value of `Retry-After`, in seconds, for errors that name no time."""

CHALLENGE: Final = 'Bearer realm="wallet"'
"""The value of `WWW-Authenticate` in an answer with 401."""


def problem(error: WalletError) -> Response:
    """The response to an error, with its own values.

    Raises:
        WalletError: the given error, if it is our own bug and must not be shown.
    """
    if error.category is Category.INTERNAL:
        raise error
    status = status_of(type(error))
    headers = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = CHALLENGE
    if error.retryable:
        headers["Retry-After"] = str(error.fields.get("retry_after_seconds", RETRY_SECONDS))
    values = values_of(error, tell())
    return answer(status, error.code, message_of(error), values, headers, retryable=error.retryable)
