"""What REST answers instead of yes: every error of the domain has its status here, and its form is RFC 9457's.

| status | it means |
|---|---|
| 400 | malformed; correct it, the idempotency key was not used up |
| 401 | log in first, or the log-in was wrong |
| 403 | it belongs to somebody else, or another site sent it |
| 404 | there is nothing of that name that concerns you |
| 409 | the state of things forbids it now: funds, a frozen account, a closed hold, a taken name |
| 422 | the request contradicts something that will not change, or an earlier use of the key |
| 429 | too many requests: wait as long as `Retry-After` says, then retry with the same key |
| 500 | our bug; the log has it under the same request id |
| 503 | nothing changed; retry with the same key, after `Retry-After` |
| 504 | unknown whether it happened; ask again with the same key, never with a new one |
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import orjson
from starlette.responses import Response

from ...domain import errors as domain
from ...domain.errors import Field, WalletError
from ..http.logs import REQUEST_ID
from ..http.problems import MEDIA_TYPE

STATUS: Final[Mapping[type[WalletError], HTTPStatus]] = {
    domain.InvalidInput: HTTPStatus.BAD_REQUEST,
    domain.InvalidAmount: HTTPStatus.BAD_REQUEST,
    domain.InvalidCredentials: HTTPStatus.UNAUTHORIZED,
    domain.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    domain.NotPermitted: HTTPStatus.FORBIDDEN,
    domain.FreshLogInRequired: HTTPStatus.FORBIDDEN,
    domain.AccountNotFound: HTTPStatus.NOT_FOUND,
    domain.PayeeNotFound: HTTPStatus.NOT_FOUND,
    domain.NotAMerchant: HTTPStatus.NOT_FOUND,
    domain.HoldNotFound: HTTPStatus.NOT_FOUND,
    domain.TransferNotFound: HTTPStatus.NOT_FOUND,
    domain.TopUpNotFound: HTTPStatus.NOT_FOUND,
    domain.WithdrawalNotFound: HTTPStatus.NOT_FOUND,
    domain.PayoutAccountMissing: HTTPStatus.CONFLICT,
    domain.PaymentsNotConfigured: HTTPStatus.CONFLICT,
    domain.InsufficientFunds: HTTPStatus.CONFLICT,
    domain.AccountExists: HTTPStatus.CONFLICT,
    domain.AccountFrozen: HTTPStatus.CONFLICT,
    domain.AccountClosed: HTTPStatus.CONFLICT,
    domain.AccountNotEmpty: HTTPStatus.CONFLICT,
    domain.PayeeCannotReceive: HTTPStatus.CONFLICT,
    domain.HoldNotOpen: HTTPStatus.CONFLICT,
    domain.ReversalExceedsOriginal: HTTPStatus.CONFLICT,
    domain.BatchAborted: HTTPStatus.CONFLICT,
    domain.UsernameTaken: HTTPStatus.CONFLICT,
    domain.MerchantExists: HTTPStatus.CONFLICT,
    domain.EmailTaken: HTTPStatus.CONFLICT,
    domain.IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    domain.LimitExceeded: HTTPStatus.UNPROCESSABLE_ENTITY,
    domain.CurrencyMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    domain.SameAccount: HTTPStatus.UNPROCESSABLE_ENTITY,
    domain.CaptureExceedsHold: HTTPStatus.UNPROCESSABLE_ENTITY,
    domain.NotReversible: HTTPStatus.UNPROCESSABLE_ENTITY,
    domain.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    domain.Contended: HTTPStatus.SERVICE_UNAVAILABLE,
    domain.NodeUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    domain.RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    domain.InDoubt: HTTPStatus.GATEWAY_TIMEOUT,
    domain.ConfigurationError: HTTPStatus.INTERNAL_SERVER_ERROR,
    domain.InvariantViolated: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The one table: error class -> status. A class without a line of its own is a test failure."""

RETRY_SECONDS: Final = 1
"""What `Retry-After` says where the error does not know better."""

CHALLENGE: Final = 'Bearer realm="wallet"'
"""What `WWW-Authenticate` says beside 401."""

_MINOR: Final = "_minor"


def camel(name: str) -> str:
    """`available_minor` -> `availableMinor`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def is_money(name: str) -> bool:
    """Whether a field counts minor units, and so is told as text of digits: JavaScript would round a large number."""
    return name.endswith(_MINOR)


def values_of(error: WalletError) -> dict[str, Field]:
    """An error's own values, as a client sees them."""
    return {
        camel(name): str(value) if is_money(name) and value is not None else value
        for name, value in error.fields.items()
    }


def fields_of(kind: type[WalletError]) -> dict[str, str]:
    """The names of an error class's values and their types (`str`, `int`, …): what its constructor takes, it tells.

    Except a `detail`, which is for the log.
    """
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return {parameter.name: str(parameter.annotation) for parameter in parameters if parameter.name != "detail"}


def problem(error: WalletError) -> Response:
    """The response: `{type, title, status, detail, code, retryable, requestId}` and the error's own values.

    Raises:
        WalletError: the same one, if it is our own bug and must not be shown.
    """
    status = STATUS[type(error)]
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        raise error
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status,
        "detail": error.message,
        "code": error.code,
        "requestId": REQUEST_ID.get(),
        "retryable": error.retryable,
        **values_of(error),
    }
    headers = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = CHALLENGE
    if error.retryable:
        headers["Retry-After"] = str(error.fields.get("retry_after_seconds", RETRY_SECONDS))
    return Response(orjson.dumps(body), status, headers, MEDIA_TYPE)
