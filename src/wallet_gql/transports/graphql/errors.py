"""Expected failures, as data: every error the ledger can answer with has a type, and every type is a `WalletError`.

A mutation's result is a union of its success and the errors that may come. Where an error has no type of its own in
that union it comes as `Refusal`. Resolvers just raise; `HANDLERS` turn what they raise into these types.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Self

import strawberry

from ...domain import errors as domain
from ...domain import model
from ..http.logs import log_answer
from .describe import about, enum_type, interface_type, object_type
from .scalars import CurrencyCode
from .types import Money


class ErrorCode(Enum):
    """The codes of `domain.errors` that a client may get as data."""

    INVALID_INPUT = domain.InvalidInput.code
    INVALID_AMOUNT = domain.InvalidAmount.code
    IDEMPOTENCY_KEY_REUSED = domain.IdempotencyKeyReused.code
    INSUFFICIENT_FUNDS = domain.InsufficientFunds.code
    LIMIT_EXCEEDED = domain.LimitExceeded.code
    CURRENCY_MISMATCH = domain.CurrencyMismatch.code
    SAME_ACCOUNT = domain.SameAccount.code
    ACCOUNT_NOT_FOUND = domain.AccountNotFound.code
    ACCOUNT_EXISTS = domain.AccountExists.code
    ACCOUNT_FROZEN = domain.AccountFrozen.code
    ACCOUNT_CLOSED = domain.AccountClosed.code
    ACCOUNT_NOT_EMPTY = domain.AccountNotEmpty.code
    PAYEE_NOT_FOUND = domain.PayeeNotFound.code
    PAYEE_CANNOT_RECEIVE = domain.PayeeCannotReceive.code
    NOT_PERMITTED = domain.NotPermitted.code
    HOLD_NOT_FOUND = domain.HoldNotFound.code
    HOLD_NOT_OPEN = domain.HoldNotOpen.code
    CAPTURE_EXCEEDS_HOLD = domain.CaptureExceedsHold.code
    TRANSFER_NOT_FOUND = domain.TransferNotFound.code
    NOT_REVERSIBLE = domain.NotReversible.code
    REVERSAL_EXCEEDS_ORIGINAL = domain.ReversalExceedsOriginal.code
    BATCH_ABORTED = domain.BatchAborted.code
    NOT_A_MERCHANT = domain.NotAMerchant.code
    MERCHANT_EXISTS = domain.MerchantExists.code
    FRESH_LOG_IN_REQUIRED = domain.FreshLogInRequired.code
    USERNAME_TAKEN = domain.UsernameTaken.code
    EMAIL_TAKEN = domain.EmailTaken.code
    INVALID_CREDENTIALS = domain.InvalidCredentials.code
    TOP_UP_NOT_FOUND = domain.TopUpNotFound.code
    WITHDRAWAL_NOT_FOUND = domain.WithdrawalNotFound.code
    PAYOUT_ACCOUNT_MISSING = domain.PayoutAccountMissing.code
    PAYMENTS_NOT_CONFIGURED = domain.PaymentsNotConfigured.code
    UNAVAILABLE = domain.Unavailable.code
    CONTENDED = domain.Contended.code
    RATE_LIMITED = domain.RateLimited.code
    NODE_UNAVAILABLE = domain.NodeUnavailable.code
    IN_DOUBT = domain.InDoubt.code


enum_type(
    ErrorCode,
    "What went wrong, for programs. Codes are never renamed; new ones may come.",
    {kind.code: kind.__doc__ or "" for kind in domain.error_classes()},
)


@interface_type
class WalletError:
    """What every error has. Match `... on WalletError` last, and errors added later are handled too."""

    code: ErrorCode = about("What went wrong, for programs.")
    message: str = about("What went wrong and what to do next, in English, for people.")
    retryable: bool = about("Whether the same request, with the same idempotency key, may succeed later.")

    @classmethod
    def of(cls, error: domain.WalletError) -> Self:
        """From what the ledger raised."""
        common: dict[str, Any] = {"code": ErrorCode(error.code), "message": error.message, "retryable": error.retryable}
        return cls(**common, **cls._data(error))

    @classmethod
    def _data(cls, _error: Any) -> dict[str, Any]:
        """The values of the fields that a type adds."""
        return {}


@object_type
class Refusal(WalletError):
    """The wallet said no and nothing was changed; `code` says why. A new attempt needs a new idempotency key."""


@object_type
class InvalidInput(WalletError):
    """A value has the wrong shape. Correct it; the idempotency key was not used up."""

    field: str = about("Which field of the input, such as `username` or `to.accountId`.")
    reason: str = about("What it must look like.")

    @classmethod
    def _data(cls, error: domain.InvalidInput) -> dict[str, Any]:
        return {"field": error.fields["field"], "reason": error.fields["reason"]}


@object_type
class InvalidAmount(WalletError):
    """The amount is zero, negative or too large. Correct it; the idempotency key was not used up."""

    amount: str = about("The amount as it was understood.")
    reason: str = about("What it must be.")

    @classmethod
    def _data(cls, error: domain.InvalidAmount) -> dict[str, Any]:
        return {"amount": error.fields["amount"], "reason": error.fields["reason"]}


@object_type
class IdempotencyKeyReused(WalletError):
    """The key was used before, with another input; nothing was done. Use a new key for each intent to pay."""

    idempotency_key: strawberry.ID = about("The key.")

    @classmethod
    def _data(cls, error: domain.IdempotencyKeyReused) -> dict[str, Any]:
        return {"idempotency_key": error.fields["key"]}


@object_type
class InsufficientFunds(WalletError):
    """The account has less available than the amount. Top up, then try again under a new key."""

    account_id: strawberry.ID = about("The account that was to pay.")
    available: Money = about("What could have been spent.")
    required: Money = about("What was asked for.")

    @classmethod
    def _data(cls, error: domain.InsufficientFunds) -> dict[str, Any]:
        fields: dict[str, Any] = error.fields
        available = Money.of(fields["available_minor"], fields["currency"])
        required = Money.of(fields["required_minor"], fields["currency"])
        return {"account_id": fields["account_id"], "available": available, "required": required}


@object_type
class CurrencyMismatch(WalletError):
    """The account holds another currency than the request names. Nothing is ever converted."""

    account_id: strawberry.ID = about("The account.")
    expected: CurrencyCode = about("What it holds.")
    given: CurrencyCode = about("What the request says.")

    @classmethod
    def _data(cls, error: domain.CurrencyMismatch) -> dict[str, Any]:
        return dict(error.fields)


@object_type
class AccountExists(WalletError):
    """You have an account in this currency already: one per user and currency. Use it."""

    account_id: strawberry.ID = about("The account you have.")
    currency: CurrencyCode = about("Its currency.")

    @classmethod
    def _data(cls, error: domain.AccountExists) -> dict[str, Any]:
        return dict(error.fields)


@object_type
class AccountNotEmpty(WalletError):
    """Money or open holds are left on the account, so that it cannot be closed. Empty it first."""

    account_id: strawberry.ID = about("The account.")
    posted: Money = about("The balance that is left.")
    held: Money = about("The part of it that open holds reserve.")

    @classmethod
    def _data(cls, error: domain.AccountNotEmpty) -> dict[str, Any]:
        return {"account_id": error.fields["account_id"], **_amounts(error, "posted", "held")}


@object_type
class PayeeNotFound(WalletError):
    """There is nobody of that name or id to be paid. Check the spelling; a new attempt needs a new key."""

    payee: str = about("Who was to be paid, as it was sent.")

    @classmethod
    def _data(cls, error: domain.PayeeNotFound) -> dict[str, Any]:
        return dict(error.fields)


@object_type
class PayeeCannotReceive(WalletError):
    """The payee has no open account in the currency. Ask them to open one; then pay under a new key."""

    payee: str = about("Who was to be paid, as it was sent.")
    currency: CurrencyCode = about("The currency that they have no open account in.")

    @classmethod
    def _data(cls, error: domain.PayeeCannotReceive) -> dict[str, Any]:
        return dict(error.fields)


@object_type
class HoldNotOpen(WalletError):
    """The hold was captured, voided or has expired before: each closes once. Place a new one."""

    hold_id: strawberry.ID = about("The hold.")
    state: model.HoldState = about("How it ended.")

    @classmethod
    def _data(cls, error: domain.HoldNotOpen) -> dict[str, Any]:
        return {"hold_id": error.fields["hold_id"], "state": model.HoldState(str(error.fields["state"]))}


@object_type
class CaptureExceedsHold(WalletError):
    """More was asked for than the hold reserves. The hold stays open; capture at most what is held."""

    hold_id: strawberry.ID = about("The hold.")
    held: Money | None = about("What it reserves; null in a refusal that an older version remembered.")
    requested: Money | None = about("What was asked for; null in a refusal that an older version remembered.")

    @classmethod
    def _data(cls, error: domain.CaptureExceedsHold) -> dict[str, Any]:
        return {"hold_id": error.fields["hold_id"], **_amounts(error, "held", "requested")}


@object_type
class ReversalExceedsOriginal(WalletError):
    """Less than that is left of the transfer to send back: its reversals add up to at most its amount."""

    transfer_id: strawberry.ID = about("The transfer.")
    remaining: Money | None = about("What can still be sent back; null in a refusal that an older version remembered.")
    requested: Money | None = about("What was asked for; null in a refusal that an older version remembered.")

    @classmethod
    def _data(cls, error: domain.ReversalExceedsOriginal) -> dict[str, Any]:
        return {"transfer_id": error.fields["transfer_id"], **_amounts(error, "remaining", "requested")}


@object_type
class BatchAborted(WalletError):
    """Another item of the ATOMIC batch was refused, so nothing moved. This item's key was not used up."""

    offender: int = about("Which item was refused: its place in the batch, counted from 0.")

    @classmethod
    def _data(cls, error: domain.BatchAborted) -> dict[str, Any]:
        return dict(error.fields)


@object_type
class PayoutAccountMissing(WalletError):
    """Nobody has said yet to which account your money is to be paid out. Ask support; then use a new key."""


@object_type
class PaymentsNotConfigured(WalletError):
    """This wallet has no payment provider: nothing can be paid in or out. The key was not used up."""


@object_type
class Unavailable(WalletError):
    """Nothing was changed: too busy, or a server does not answer. Send it again with the same idempotency key."""


@object_type
class RateLimited(WalletError):
    """Too many requests in too short a time. Nothing was changed; wait, then send it again with the same key."""

    retry_after_seconds: int = about("How long to wait.")

    @classmethod
    def _data(cls, error: domain.RateLimited) -> dict[str, Any]:
        return dict(error.fields)


@object_type
class InDoubt(WalletError):
    """Unknown whether it happened. Ask again with the same idempotency key, never with a new one."""


@dataclass(frozen=True, slots=True)
class Handler:
    """Strawberry's exception handler: it applies where the field's union has `error_type`."""

    exception_type: type[domain.WalletError]
    error_type: type[WalletError]

    def handle(self, exception: domain.WalletError, *, field: object, info: Any) -> WalletError:
        """The exception as data."""
        del field
        log_answer(info.field_name, exception)
        return self.error_type.of(exception)


HANDLERS: Final = (
    Handler(domain.InvalidInput, InvalidInput),
    Handler(domain.InvalidAmount, InvalidAmount),
    Handler(domain.IdempotencyKeyReused, IdempotencyKeyReused),
    Handler(domain.InsufficientFunds, InsufficientFunds),
    Handler(domain.CurrencyMismatch, CurrencyMismatch),
    Handler(domain.AccountExists, AccountExists),
    Handler(domain.AccountNotEmpty, AccountNotEmpty),
    Handler(domain.PayeeNotFound, PayeeNotFound),
    Handler(domain.PayeeCannotReceive, PayeeCannotReceive),
    Handler(domain.HoldNotOpen, HoldNotOpen),
    Handler(domain.CaptureExceedsHold, CaptureExceedsHold),
    Handler(domain.ReversalExceedsOriginal, ReversalExceedsOriginal),
    Handler(domain.BatchAborted, BatchAborted),
    Handler(domain.PayoutAccountMissing, PayoutAccountMissing),
    Handler(domain.PaymentsNotConfigured, PaymentsNotConfigured),
    Handler(domain.Rejected, Refusal),
    Handler(domain.RateLimited, RateLimited),
    Handler(domain.Unavailable, Unavailable),
    Handler(domain.InDoubt, InDoubt),
)
"""The first that applies wins, so the general ones stand last."""


def as_data(error: domain.WalletError) -> WalletError:
    """An error as the most telling type there is, for places where no union decides.

    Raises:
        WalletError: the error itself, if clients never get it as data: no session, or our own bug.
    """
    for handler in HANDLERS:
        if isinstance(error, handler.exception_type):
            return handler.error_type.of(error)
    raise error


def _amounts(error: domain.WalletError, *names: str) -> dict[str, Money | None]:
    """An error's amounts; None where it does not know their currency."""
    currency = error.fields["currency"]
    amounts = {name: int(error.fields[f"{name}_minor"] or 0) for name in names}
    return {name: Money.of(minor, str(currency)) if currency else None for name, minor in amounts.items()}
