"""Expected failures, as data: every error the ledger can answer with has a type, and every type is a `WalletError`.

A mutation's result is a union of its success and the errors that may come. Where an error has no type of its own in
that union it comes as `Refusal`. Resolvers just raise; `HANDLERS` turn what they raise into these types.

An error of the domain is a code in `ErrorCode`, and a `Refusal`, without a line here. `@error_type` gives it a type of
its own, with its values: a field `available` is made of `available_minor` and `currency`, any other of the value of its
name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any, Final, Self, TypeVar, dataclass_transform

import strawberry

from ...domain import errors as domain
from ...domain import model
from ...domain.spending import SpendingLimitKind
from ...domain.words import Tell
from ..catalogue.errors import ANSWERS
from ..http.language import message_of, tell
from ..http.logs import log_answer
from ..http.record import current
from .describe import about, enum_type, interface_type, object_type
from .scalars import CurrencyCode
from .types import Money


class ErrorCode(Enum):
    """The codes that a client may get as data."""

    vars().update((kind.code, kind.code) for kind in ANSWERS)


enum_type(
    ErrorCode,
    "What went wrong, for programs. Codes are never renamed; new ones may come.",
    {kind.code: kind.__doc__ or "" for kind in ANSWERS},
)


@interface_type
class WalletError:
    """What every error has. Match `... on WalletError` last, and errors added later are handled too."""

    code: ErrorCode = about("What went wrong, for programs.")
    message: str = about(
        "What went wrong and what to do next, for people, in the language that `Accept-Language` wants."
    )
    retryable: bool = about("Whether the same request, with the same idempotency key, may succeed later.")

    @classmethod
    def of(cls, error: domain.WalletError) -> Self:
        """From what the ledger raised."""
        common: dict[str, Any] = {
            "code": ErrorCode(error.code),
            "message": message_of(error),
            "retryable": error.retryable,
        }
        return cls(**common, **cls._data(error))

    @classmethod
    def _data(cls, error: domain.WalletError) -> dict[str, Any]:
        """The values of the fields that a type adds."""
        return {name: _value(error, name) for name in own_fields(cls)}


def own_fields(kind: type[WalletError]) -> list[str]:
    """The names of the fields that a type adds to `WalletError`'s."""
    common = {one.name for one in fields(WalletError)}
    return [one.name for one in fields(kind) if one.name not in common]


def _value(error: domain.WalletError, name: str) -> Any:
    """A value by the name of its field. An amount is None where the error does not know its currency."""
    if name in error.fields:
        return error.fields[name]
    amount_minor, currency = error.fields[f"{name}_minor"], error.fields["currency"]
    return None if currency is None else Money.of(int(amount_minor or 0), str(currency))


TYPES: Final[dict[type[domain.WalletError], type[WalletError]]] = {}
"""The type of an error class, and of its subclasses that have none of their own."""

E = TypeVar("E", bound=type[WalletError])


@dataclass_transform(kw_only_default=True, field_specifiers=(about, strawberry.field))
def error_type(kind: type[domain.WalletError]) -> Callable[[E], E]:
    """The type of an error of the domain."""

    def decorate(cls: E) -> E:
        made = object_type(cls)
        TYPES[kind] = made
        return made

    return decorate


def type_of(kind: type[domain.WalletError]) -> type[WalletError] | None:
    """The most specific type of an error class; None if clients never get it as data."""
    return next((TYPES[base] for base in kind.__mro__ if base in TYPES), None)


@error_type(domain.Rejected)
class Refusal(WalletError):
    """The wallet said no and nothing was changed; `code` says why.

    A new attempt needs a new idempotency key; only after `FRESH_LOG_IN_REQUIRED` send the same key.
    """


@object_type
class InputProblem:
    """One value of an input that is wrong."""

    path: list[str] = about(
        "Where it is in the `input`, such as `amount`, `currency`; an index of a list is a number, as text."
    )
    code: ErrorCode = about("What is wrong, for programs.")
    reason: str = about("Why, for programs that have texts of their own: see the docs of errors; new ones may come.")
    message: str = about("What it must look like, for people, in the language that `Accept-Language` wants.")

    @classmethod
    def of(cls, problem: domain.Problem, speak: Tell) -> InputProblem:
        """A problem of the domain, in the language of `speak`."""
        code = ErrorCode(problem.code)
        return cls(path=list(problem.path), code=code, reason=problem.reason, message=problem.text(speak))


@error_type(domain.InvalidInput)
class InvalidInput(WalletError):
    """Values have the wrong shape, or are taken. Correct all that is listed; the idempotency key was not used up."""

    problems: list[InputProblem] = about("All that can be told at once, at least one.")

    @classmethod
    def _data(cls, error: domain.WalletError) -> dict[str, Any]:
        assert isinstance(error, domain.InvalidInput | domain.InvalidAmount)
        speak = tell()
        return {"problems": [InputProblem.of(one, speak) for one in error.problems]}


TYPES[domain.InvalidAmount] = InvalidInput


@error_type(domain.IdempotencyKeyReused)
class IdempotencyKeyReused(WalletError):
    """The key was used before, with another input; nothing was done. Use a new key for each intent to pay."""

    idempotency_key: strawberry.ID = about("The key.")

    @classmethod
    def _data(cls, error: domain.WalletError) -> dict[str, Any]:
        return {"idempotency_key": error.fields["key"]}


@error_type(domain.InsufficientFunds)
class InsufficientFunds(WalletError):
    """The account has less available than the amount. Top up, then try again under a new key."""

    account_id: strawberry.ID = about("The account that was to pay.")
    available: Money = about("What could have been spent.")
    required: Money = about("What was asked for.")


enum_type(
    SpendingLimitKind,
    "What a spending limit is for.",
    {
        "PAYMENT": "Each payment, withdrawal or hold; a payment with its splits is one.",
        "DAY": "All of a UTC day together.",
        "NEW_PAYEE": "All that one payee gets in the 24 hours after the first payment or hold.",
    },
)


@error_type(domain.SpendingLimitExceeded)
class SpendingLimitExceeded(WalletError):
    """A spending limit of yours would be passed. Pay what remains of it, or wait, under a new key."""

    limit: SpendingLimitKind = about("Which limit.")
    maximum: Money = about("The limit.")
    remaining: Money = about("What remains of it.")
    free_at: datetime | None = about("When all of it is free again, UTC; null for a limit of each payment.")

    @classmethod
    def _data(cls, error: domain.WalletError) -> dict[str, Any]:
        found, at = super()._data(error), error.fields["free_at"]
        free_at = None if at is None else datetime.fromisoformat(str(at))
        return {**found, "limit": SpendingLimitKind(str(error.fields["limit"])), "free_at": free_at}


@error_type(domain.CurrencyMismatch)
class CurrencyMismatch(WalletError):
    """The account holds another currency than the request names. Nothing is ever converted."""

    account_id: strawberry.ID = about("The account.")
    expected: CurrencyCode = about("What it holds.")
    given: CurrencyCode = about("What the request says.")


@error_type(domain.AccountExists)
class AccountExists(WalletError):
    """You have an account in this currency that is not closed. Use it, or close it before you open another."""

    account_id: strawberry.ID = about("The account you have.")
    currency: CurrencyCode = about("Its currency.")
    account_state: model.AccountStatus = about("What it may still do.")


@error_type(domain.AccountNotEmpty)
class AccountNotEmpty(WalletError):
    """Money or open holds are left on the account, so that it cannot be closed. Empty it first."""

    account_id: strawberry.ID = about("The account.")
    posted: Money = about("The balance that is left.")
    held: Money = about("The part of it that open holds reserve.")


@error_type(domain.PayeeNotFound)
class PayeeNotFound(WalletError):
    """There is nobody of that name or id to be paid. Check the spelling; a new attempt needs a new key."""

    payee: str = about("Who was to be paid, as it was sent.")


@error_type(domain.PayeeCannotReceive)
class PayeeCannotReceive(WalletError):
    """The payee has no open account in the currency. Ask them to open one; then pay under a new key."""

    payee: str = about("Who was to be paid, as it was sent.")
    currency: CurrencyCode = about("The currency that they have no open account in.")


@error_type(domain.HoldNotOpen)
class HoldNotOpen(WalletError):
    """The hold was captured, voided or has expired before: each closes once. Place a new one."""

    hold_id: strawberry.ID = about("The hold.")
    state: model.HoldState = about("How it ended.")

    @classmethod
    def _data(cls, error: domain.WalletError) -> dict[str, Any]:
        return {**super()._data(error), "state": model.HoldState(str(error.fields["state"]))}


@error_type(domain.CaptureExceedsHold)
class CaptureExceedsHold(WalletError):
    """More was asked for than the hold reserves. The hold stays open; capture at most what is held."""

    hold_id: strawberry.ID = about("The hold.")
    held: Money | None = about("What it reserves; null in a refusal that an older version remembered.")
    requested: Money | None = about("What was asked for; null in a refusal that an older version remembered.")


@error_type(domain.ReversalExceedsOriginal)
class ReversalExceedsOriginal(WalletError):
    """Less than that is left of the transfer to send back: its reversals add up to at most its amount."""

    transfer_id: strawberry.ID = about("The transfer.")
    remaining: Money | None = about("What can still be sent back; null in a refusal that an older version remembered.")
    requested: Money | None = about("What was asked for; null in a refusal that an older version remembered.")


@error_type(domain.BatchAborted)
class BatchAborted(WalletError):
    """Another item of the ATOMIC batch was refused, so nothing moved. This item's key was not used up."""

    offender: int = about("Which item was refused: its place in the batch, counted from 0.")


@error_type(domain.PayoutAccountMissing)
class PayoutAccountMissing(WalletError):
    """Nobody has said yet to which account your money is to be paid out. Ask support; then use a new key."""


@error_type(domain.PaymentsNotConfigured)
class PaymentsNotConfigured(WalletError):
    """This wallet has no payment provider: nothing can be paid in or out. The key was not used up."""


@error_type(domain.Unavailable)
class Unavailable(WalletError):
    """Nothing was changed: too busy, or a server does not answer. Send it again with the same idempotency key."""


@error_type(domain.RateLimited)
class RateLimited(WalletError):
    """Too many requests in too short a time. Nothing was changed; wait, then send it again with the same key."""

    retry_after_seconds: int = about("How long to wait.")


@error_type(domain.InDoubt)
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
        current().fail(exception.code, verb=info.field_name, place=str(info.path.as_list()[0]))
        log_answer(info.field_name, exception)
        return self.error_type.of(exception)


HANDLERS: Final = tuple(
    Handler(kind, TYPES[kind]) for kind in sorted(TYPES, key=lambda kind: len(kind.__mro__), reverse=True)
)
"""The first that applies wins, so subclasses stand before their parents."""


def as_data(error: domain.WalletError) -> WalletError:
    """An error as the most specific type there is, for places where no union decides.

    Raises:
        WalletError: the error itself, if clients never get it as data: no session, or our own bug.
    """
    found = type_of(type(error))
    if found is None:
        raise error
    return found.of(error)
