"""Refusals about accounts, transfers and holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..words import Tell, Worded, fill
from .base import Category, Rejected


@dataclass(frozen=True, slots=True)
class Problem:
    """One value of an input that is wrong: where it is, why, and what it must look like."""

    path: tuple[str, ...]
    code: str
    message: str

    @property
    def reason(self) -> str:
        """Why, for programs: more exact than the code."""
        return self.message.reason if isinstance(self.message, Worded) else self.code

    def at(self, path: tuple[str, ...]) -> Problem:
        """The same at another place."""
        return Problem(path, self.code, self.message)

    def text(self, tell: Tell) -> str:
        """The message in the language of `tell`, as far as it is known what it is made of."""
        text = self.message
        return tell(text.words, text.values) if isinstance(text, Worded) else text


class InvalidInput(Rejected):
    """Values have the wrong shape. Correct the named fields; the key was not used up."""

    code = "INVALID_INPUT"
    category = Category.MALFORMED
    remembered = False
    words = "{field}: {reason}"
    field: str
    reason: str
    problems: tuple[Problem, ...] = ()
    """All that can be told at once. `field` and `reason` are of the first."""

    def __post_init__(self) -> None:
        if not self.problems:
            self.problems = (Problem(tuple(self.field.split(".")), self.code, self.reason),)
        super().__post_init__()

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> InvalidInput:
        """The error of some problems, at least one."""
        return cls(".".join(problems[0].path), problems[0].message, tuple(problems))

    def text(self, tell: Tell = fill) -> str:
        """All problems, each with its path."""
        each = ({"field": ".".join(one.path), "reason": one.message} for one in self.problems)
        return "; ".join(tell(self.words, one) for one in each)


class InvalidAmount(Rejected):
    """The amount is zero, negative, too large or not a whole number of minor units. The key was not used up."""

    code = "INVALID_AMOUNT"
    category = Category.MALFORMED
    remembered = False
    words = "amount {amount}: {reason}"
    amount: str
    reason: str

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong, as for `InvalidInput`. The path is the end of that in any input."""
        return (Problem(("minorUnits",), self.code, self.reason),)


class IdempotencyKeyReused(Rejected):
    """The key was used before with another input. Use a new key for each intent, the same one for its retries."""

    code = "IDEMPOTENCY_KEY_REUSED"
    category = Category.CONTRADICTION
    remembered = False
    words = "this idempotency key was already used with another input; use a new one"
    key: str


class InsufficientFunds(Rejected):
    """The account's available amount (posted minus held) is too small. Top up, then try again under a new key."""

    code = "INSUFFICIENT_FUNDS"
    category = Category.CONFLICT
    words = "{required} is needed, and {available} is available"
    account_id: str
    available_minor: int
    required_minor: int
    currency: str


class LimitExceeded(Rejected):
    """A limit of the wallet would be passed. Use a smaller amount under a new key."""

    code = "LIMIT_EXCEEDED"
    category = Category.CONTRADICTION
    words = "{limit} must not be greater than {maximum}"
    limit: str
    maximum: int


class SpendingLimitExceeded(Rejected):
    """A spending limit of yours would be passed. Pay what remains of it, or wait, under a new key."""

    code = "SPENDING_LIMIT_EXCEEDED"
    category = Category.CONFLICT
    words = "of your spending limit of {maximum} ({limit}) {remaining} remains"
    limit: str
    """`payment`, `day` or `newPayee`."""
    maximum_minor: int
    remaining_minor: int
    currency: str
    free_at: str | None
    """When all of it is free again, UTC, RFC 3339; None for a limit of each payment."""


class CurrencyMismatch(Rejected):
    """The account holds another currency than the request names. Nothing is ever converted."""

    code = "CURRENCY_MISMATCH"
    category = Category.CONTRADICTION
    words = "the account holds {expected}, the request says {given}"
    account_id: str
    expected: str
    given: str


class SameAccount(Rejected):
    """Payer and payee are the same account. Choose another payee."""

    code = "SAME_ACCOUNT"
    category = Category.CONTRADICTION
    words = "payer and payee are the same account; choose another payee"
    account_id: str


class AccountNotFound(Rejected):
    """There is no such account of yours. Other people's accounts look the same as absent ones."""

    code = "ACCOUNT_NOT_FOUND"
    category = Category.NOT_FOUND
    words = "you have no such account"
    account_id: str


class AccountExists(Rejected):
    """The user has an account in this currency that is not closed. Only an operator can unfreeze a frozen one."""

    code = "ACCOUNT_EXISTS"
    category = Category.CONFLICT
    words = "you already have a {currency} account, which is {account_state}; close it before you open another"
    account_id: str
    currency: str
    account_state: str


class AccountFrozen(Rejected):
    """The account is frozen: no debits, holds or captures. Credits still arrive. Ask the operator."""

    code = "ACCOUNT_FROZEN"
    category = Category.CONFLICT
    words = "the account is frozen; ask support"
    account_id: str


class AccountClosed(Rejected):
    """The account is closed. Use another one."""

    code = "ACCOUNT_CLOSED"
    category = Category.CONFLICT
    words = "the account is closed; use another one"
    account_id: str


class AccountNotEmpty(Rejected):
    """Only an account at zero with no open holds can be closed. Move the money out first."""

    code = "ACCOUNT_NOT_EMPTY"
    category = Category.CONFLICT
    words = "the account still has {posted}, of which {held} is reserved; empty it first"
    account_id: str
    posted_minor: int
    held_minor: int
    currency: str


class PayeeNotFound(Rejected):
    """There is nobody of that name or id to be paid. Check the spelling."""

    code = "PAYEE_NOT_FOUND"
    category = Category.NOT_FOUND
    words = "there is no payee {payee}; check the spelling"
    payee: str


class PayeeCannotReceive(Rejected):
    """The payee has no open account in that currency. Ask them to open one, or send another currency."""

    code = "PAYEE_CANNOT_RECEIVE"
    category = Category.CONFLICT
    words = "{payee} has no open {currency} account; ask them to open one"
    payee: str
    currency: str


ACTS: Final = {"deposit": "make a deposit"}
"""How an act is told where its name alone would read as a thing."""


class NotPermitted(Rejected):
    """You may see it, but this act belongs to somebody else (the payee, or an operator)."""

    code = "NOT_PERMITTED"
    category = Category.FORBIDDEN
    words = "only {allowed} may {action}"
    action: str
    allowed: str

    def shown(self) -> dict[str, object]:
        """See `WalletError.shown`. What is kept of a refusal stays as it always was."""
        return {**super().shown(), "action": ACTS.get(self.action, self.action)}


class HoldNotFound(Rejected):
    """There is no such hold that concerns you."""

    code = "HOLD_NOT_FOUND"
    category = Category.NOT_FOUND
    words = "there is no such hold that you may see"
    hold_id: str


class HoldNotOpen(Rejected):
    """The hold was already captured, voided or has expired. Each hold closes once."""

    code = "HOLD_NOT_OPEN"
    category = Category.CONFLICT
    words = "the hold is {state} and stays so; place a new one"
    hold_id: str
    state: str


class CaptureExceedsHold(Rejected):
    """More than the held amount was asked for. Capture at most what was held."""

    code = "CAPTURE_EXCEEDS_HOLD"
    category = Category.CONTRADICTION
    words = "the hold reserves {held}, and {requested} was asked for"
    hold_id: str
    held_minor: int
    requested_minor: int
    currency: str | None = None
    """None in a refusal that was stored before this field existed."""


class TransferNotFound(Rejected):
    """There is no such transfer that concerns you."""

    code = "TRANSFER_NOT_FOUND"
    category = Category.NOT_FOUND
    words = "there is no such transfer that you may see"
    transfer_id: str


class NotReversible(Rejected):
    """This kind of transfer is not reversed this way (a reversal, a deposit or a withdrawal)."""

    code = "NOT_REVERSIBLE"
    category = Category.CONTRADICTION
    words = "a {kind} cannot be sent back"
    transfer_id: str
    kind: str


class ReversalExceedsOriginal(Rejected):
    """Reversals of a transfer add up to at most its amount."""

    code = "REVERSAL_EXCEEDS_ORIGINAL"
    category = Category.CONFLICT
    words = "{remaining} of this transfer can still be sent back, not {requested}"
    transfer_id: str
    remaining_minor: int
    requested_minor: int
    currency: str | None = None
    """None in a refusal that was stored before this field existed."""


class BatchAborted(Rejected):
    """Another item of an ATOMIC batch was refused, so nothing moved. This item's key was not used up."""

    code = "BATCH_ABORTED"
    category = Category.CONFLICT
    remembered = False
    words = "item {offender} of the batch was refused, so none was executed"
    offender: int
