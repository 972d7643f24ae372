"""Everything the wallet can say instead of yes.

```
WalletError
├ Rejected                  the ledger said no; no money moved; a new attempt needs a new key
│ ├ InvalidInput            malformed; never remembered under the key
│ ├ InvalidAmount           malformed; never remembered
│ ├ IdempotencyKeyReused    the key already belongs to another input; never remembered
│ ├ InsufficientFunds       ├ LimitExceeded          ├ CurrencyMismatch     ├ SameAccount
│ ├ AccountNotFound         ├ AccountExists          ├ AccountFrozen        ├ AccountClosed   ├ AccountNotEmpty
│ ├ PayeeNotFound           ├ PayeeCannotReceive     ├ NotPermitted
│ ├ HoldNotFound            ├ HoldNotOpen            ├ CaptureExceedsHold
│ ├ TransferNotFound        ├ NotReversible          └ ReversalExceedsOriginal
│ ├ TopUpNotFound           ├ WithdrawalNotFound     ├ PayoutAccountMissing
│ ├ PaymentsNotConfigured   no payment provider; never remembered
│ ├ BatchAborted            another item of the batch was refused; never remembered
│ ├ NotAMerchant            └ MerchantExists
│ ├ FreshLogInRequired      the session is too old for this; never remembered
│ ├ UsernameTaken           ├ EmailTaken             └ InvalidCredentials   (users, not money)
├ Unauthenticated           no valid session; log in, then send the same request with the same key
├ Unavailable               nothing changed; retry with the same key
│ ├ Contended               too busy in the time given
│ ├ RateLimited             too many requests; wait as long as it says
│ └ NodeUnavailable         a server of the store does not answer
├ InDoubt                   unknown; ask again with the same key, never with a new one
├ ConfigurationError        at start only
└ InvariantViolated         our bug; logged loudly, shown as an internal error
```

Every error has a stable `code`, its typed values in `fields`, and a message that says what to do next. What the store
cannot do is told in the same words whatever the cause; the cause is the error's `detail`, for the log. A refusal is
stored in a receipt as `(code, fields)` and comes back through `restore`.
"""

from __future__ import annotations

from typing import ClassVar

Field = str | int | None


class WalletError(Exception):
    """The root. `code` is stable and documented; `retryable` means: with the same idempotency key."""

    code: ClassVar[str] = "WALLET_ERROR"
    retryable: ClassVar[bool] = False
    detail: str = ""
    """For the log and for operators: what a driver said, say. No transport sends it; clients get `message`."""

    def __init__(self, message: str, **fields: Field) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields

    def __str__(self) -> str:
        """For the log: the message with the detail."""
        return f"{self.message} ({self.detail})" if self.detail else self.message


class Rejected(WalletError):
    """The ledger said no and no money moved. Correct the request and send it under a new key.

    `remembered` tells whether the refusal is kept under the key, so that a late duplicate cannot turn a no into a yes.
    """

    code = "REJECTED"
    remembered: ClassVar[bool] = True


class InvalidInput(Rejected):
    """A value has the wrong shape. Correct the named field; the key was not used up."""

    code = "INVALID_INPUT"
    remembered = False

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}", field=field, reason=reason)


class InvalidAmount(Rejected):
    """The amount is zero, negative, too large or not a whole number of minor units. The key was not used up."""

    code = "INVALID_AMOUNT"
    remembered = False

    def __init__(self, amount: str, reason: str) -> None:
        super().__init__(f"amount {amount}: {reason}", amount=amount, reason=reason)


class IdempotencyKeyReused(Rejected):
    """The key was used before with another input. Use a new key for each intent, the same one for its retries."""

    code = "IDEMPOTENCY_KEY_REUSED"
    remembered = False

    def __init__(self, key: str) -> None:
        super().__init__(f"idempotency key {key!r} was already used with another input; use a new key", key=key)


class InsufficientFunds(Rejected):
    """The account's available amount (posted minus held) is too small. Top up, then try again under a new key."""

    code = "INSUFFICIENT_FUNDS"

    def __init__(self, account_id: str, available_minor: int, required_minor: int, currency: str) -> None:
        super().__init__(
            f"account {account_id} has {available_minor} {currency} minor units available, {required_minor} are needed",
            account_id=account_id,
            available_minor=available_minor,
            required_minor=required_minor,
            currency=currency,
        )


class LimitExceeded(Rejected):
    """A limit of the wallet would be passed. Use a smaller amount under a new key."""

    code = "LIMIT_EXCEEDED"

    def __init__(self, limit: str, maximum: int) -> None:
        super().__init__(f"{limit} must not be greater than {maximum}", limit=limit, maximum=maximum)


class CurrencyMismatch(Rejected):
    """The account holds another currency than the request names. Nothing is ever converted."""

    code = "CURRENCY_MISMATCH"

    def __init__(self, account_id: str, expected: str, given: str) -> None:
        super().__init__(
            f"account {account_id} holds {expected}, the request says {given}",
            account_id=account_id,
            expected=expected,
            given=given,
        )


class SameAccount(Rejected):
    """Payer and payee are the same account. Choose another payee."""

    code = "SAME_ACCOUNT"

    def __init__(self, account_id: str) -> None:
        super().__init__(f"payer and payee are the same account {account_id}", account_id=account_id)


class AccountNotFound(Rejected):
    """There is no such account of yours. Other people's accounts look the same as absent ones."""

    code = "ACCOUNT_NOT_FOUND"

    def __init__(self, account_id: str) -> None:
        super().__init__(f"you have no account {account_id}; list yours with `viewer`", account_id=account_id)


class AccountExists(Rejected):
    """The user already has an account in this currency: one per user and currency."""

    code = "ACCOUNT_EXISTS"

    def __init__(self, account_id: str, currency: str) -> None:
        super().__init__(
            f"you already have the {currency} account {account_id}; use it", account_id=account_id, currency=currency
        )


class AccountFrozen(Rejected):
    """The account is frozen: no debits, holds or captures. Credits still arrive. Ask the operator."""

    code = "ACCOUNT_FROZEN"

    def __init__(self, account_id: str) -> None:
        super().__init__(f"account {account_id} is frozen; ask support", account_id=account_id)


class AccountClosed(Rejected):
    """The account is closed. Use another one."""

    code = "ACCOUNT_CLOSED"

    def __init__(self, account_id: str) -> None:
        super().__init__(f"account {account_id} is closed; use another account", account_id=account_id)


class AccountNotEmpty(Rejected):
    """Only an account at zero with no open holds can be closed. Move the money out first."""

    code = "ACCOUNT_NOT_EMPTY"

    def __init__(self, account_id: str, posted_minor: int, held_minor: int, currency: str) -> None:
        super().__init__(
            f"account {account_id} still has {posted_minor} posted and {held_minor} held {currency} minor units; "
            "empty it first",
            account_id=account_id,
            posted_minor=posted_minor,
            held_minor=held_minor,
            currency=currency,
        )


class PayeeNotFound(Rejected):
    """There is nobody of that name or id to be paid. Check the spelling."""

    code = "PAYEE_NOT_FOUND"

    def __init__(self, payee: str) -> None:
        super().__init__(f"there is no payee {payee}; check the spelling", payee=payee)


class PayeeCannotReceive(Rejected):
    """The payee has no open account in that currency. Ask them to open one, or send another currency."""

    code = "PAYEE_CANNOT_RECEIVE"

    def __init__(self, payee: str, currency: str) -> None:
        super().__init__(
            f"{payee} has no open {currency} account; ask them to open one", payee=payee, currency=currency
        )


class NotPermitted(Rejected):
    """You may see it, but this act belongs to somebody else (the payee, or an operator)."""

    code = "NOT_PERMITTED"

    def __init__(self, action: str, allowed: str) -> None:
        super().__init__(f"only {allowed} may {action}", action=action, allowed=allowed)


class HoldNotFound(Rejected):
    """There is no such hold that concerns you."""

    code = "HOLD_NOT_FOUND"

    def __init__(self, hold_id: str) -> None:
        super().__init__(f"there is no hold {hold_id} that you may see", hold_id=hold_id)


class HoldNotOpen(Rejected):
    """The hold was already captured, voided or has expired. Each hold closes once."""

    code = "HOLD_NOT_OPEN"

    def __init__(self, hold_id: str, state: str) -> None:
        super().__init__(f"hold {hold_id} is {state} and stays so; place a new one", hold_id=hold_id, state=state)


class CaptureExceedsHold(Rejected):
    """More than the held amount was asked for. Capture at most what was held."""

    code = "CAPTURE_EXCEEDS_HOLD"

    def __init__(self, hold_id: str, held_minor: int, requested_minor: int, currency: str | None = None) -> None:
        """`currency` is None in a refusal that was remembered before there was this field."""
        super().__init__(
            f"hold {hold_id} holds {_minor_units(held_minor, currency)}, {requested_minor} were asked for",
            hold_id=hold_id,
            held_minor=held_minor,
            requested_minor=requested_minor,
            currency=currency,
        )


class TransferNotFound(Rejected):
    """There is no such transfer that concerns you."""

    code = "TRANSFER_NOT_FOUND"

    def __init__(self, transfer_id: str) -> None:
        super().__init__(f"there is no transfer {transfer_id} that you may see", transfer_id=transfer_id)


class NotReversible(Rejected):
    """This kind of transfer is not reversed this way (a reversal, a deposit or a withdrawal)."""

    code = "NOT_REVERSIBLE"

    def __init__(self, transfer_id: str, kind: str) -> None:
        super().__init__(
            f"transfer {transfer_id} is a {kind}; it cannot be reversed", transfer_id=transfer_id, kind=kind
        )


class ReversalExceedsOriginal(Rejected):
    """Reversals of a transfer add up to at most its amount."""

    code = "REVERSAL_EXCEEDS_ORIGINAL"

    def __init__(
        self, transfer_id: str, remaining_minor: int, requested_minor: int, currency: str | None = None
    ) -> None:
        """`currency` is None in a refusal that was remembered before there was this field."""
        left = _minor_units(remaining_minor, currency)
        super().__init__(
            f"of transfer {transfer_id} {left} are left to reverse, not {requested_minor}",
            transfer_id=transfer_id,
            remaining_minor=remaining_minor,
            requested_minor=requested_minor,
            currency=currency,
        )


class BatchAborted(Rejected):
    """Another item of an ATOMIC batch was refused, so nothing moved. This item's key was not used up."""

    code = "BATCH_ABORTED"
    remembered = False

    def __init__(self, offender: int) -> None:
        super().__init__(f"item {offender} of the batch was refused, so none was executed", offender=offender)


class TopUpNotFound(Rejected):
    """There is no such top-up of yours."""

    code = "TOP_UP_NOT_FOUND"

    def __init__(self, top_up_id: str) -> None:
        super().__init__(f"you have no top-up {top_up_id}", top_up_id=top_up_id)


class WithdrawalNotFound(Rejected):
    """There is no such withdrawal of yours."""

    code = "WITHDRAWAL_NOT_FOUND"

    def __init__(self, withdrawal_id: str) -> None:
        super().__init__(f"you have no withdrawal {withdrawal_id}", withdrawal_id=withdrawal_id)


class PayoutAccountMissing(Rejected):
    """Nobody has said yet to which account your money is to be paid out. Ask support; then use a new key."""

    code = "PAYOUT_ACCOUNT_MISSING"

    def __init__(self, owner: str) -> None:
        super().__init__(f"user {owner} has no account to be paid out to; ask support", owner=owner)


class PaymentsNotConfigured(Rejected):
    """This wallet has no payment provider: nothing can be paid in or out. The key was not used up."""

    code = "PAYMENTS_NOT_CONFIGURED"
    remembered = False

    def __init__(self) -> None:
        super().__init__("this wallet has no payment provider; ask the operator")


class NotAMerchant(Rejected):
    """There is no merchant of that name. Pay a user by a transfer."""

    code = "NOT_A_MERCHANT"

    def __init__(self, payee: str) -> None:
        super().__init__(f"{payee} is no merchant; pay a user by a transfer", payee=payee)


class MerchantExists(Rejected):
    """You are a merchant already. Change what there is."""

    code = "MERCHANT_EXISTS"

    def __init__(self, merchant_id: str) -> None:
        super().__init__(f"{merchant_id} is a merchant already; update it instead", merchant_id=merchant_id)


class FreshLogInRequired(Rejected):
    """The password was given too long ago for this. Log in anew, then send the same request with the same key."""

    code = "FRESH_LOG_IN_REQUIRED"
    remembered = False

    def __init__(self, minutes: int) -> None:
        super().__init__(
            f"this needs a log-in of the last {minutes} minutes; log in anew, then send it again with the same key",
            minutes=minutes,
        )


class UsernameTaken(Rejected):
    """Somebody has this username. Choose another."""

    code = "USERNAME_TAKEN"

    def __init__(self, username: str) -> None:
        super().__init__(f"the username {username} is taken; choose another", username=username)


class EmailTaken(Rejected):
    """An account with this e-mail address exists. Log in instead."""

    code = "EMAIL_TAKEN"

    def __init__(self, email: str) -> None:
        super().__init__(f"the e-mail address {email} is already registered; log in instead", email=email)


class InvalidCredentials(Rejected):
    """Unknown user or wrong password: the two are never told apart."""

    code = "INVALID_CREDENTIALS"

    def __init__(self) -> None:
        super().__init__("unknown user or wrong password; check both")


class Unauthenticated(WalletError):
    """No session, or one that has expired or was ended. Log in, then repeat the request with the same key."""

    code = "UNAUTHENTICATED"

    def __init__(self) -> None:
        super().__init__("log in first: there is no valid session")


class Unavailable(WalletError):
    """Nothing changed. Retry with the same idempotency key."""

    code = "UNAVAILABLE"
    retryable = True
    words: ClassVar[str] = "the wallet cannot do this now"
    """What clients are told: of each class the same, so that nothing a backend says can reach them."""

    def __init__(self, detail: str = "") -> None:
        """`detail` is for the log alone."""
        super().__init__(f"{self.words}; nothing changed: retry, with the same idempotency key where there is one")
        self.detail = detail


class Contended(Unavailable):
    """Too many commands wanted the same rows in the time given. Nothing changed; retry with the same key."""

    code = "CONTENDED"
    words = "too busy in the time given"


class RateLimited(Unavailable):
    """Too many requests in too short a time. Nothing changed; wait as long as it says, then retry with the same key."""

    code = "RATE_LIMITED"
    words = "too many requests: wait {} seconds"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__()
        self.message = self.message.format(retry_after_seconds)
        self.fields = {"retry_after_seconds": retry_after_seconds}


class NodeUnavailable(Unavailable):
    """A server of the store does not answer. Nothing changed; retry with the same key."""

    code = "NODE_UNAVAILABLE"
    words = "a server of the wallet does not answer"


class InDoubt(WalletError):
    """The outcome is unknown: it may have happened. Ask again with the same key, never with a new one."""

    code = "IN_DOUBT"
    retryable = True

    def __init__(self, detail: str = "") -> None:
        """`detail` is for the log alone."""
        super().__init__("it may have happened: ask again with the same idempotency key, never with a new one")
        self.detail = detail


class ConfigurationError(WalletError):
    """The wallet cannot start like this. The message names each fault and its remedy."""

    code = "CONFIGURATION"


class InvariantViolated(WalletError):
    """A bug of ours: a rule or a backend broke a promise. Nothing is written; operators are told."""

    code = "INTERNAL"


def error_classes(root: type[WalletError] = WalletError) -> list[type[WalletError]]:
    """Every error class below `root`, parents before children, in the order of definition."""
    found: list[type[WalletError]] = []
    for child in root.__subclasses__():
        found += [child, *error_classes(child)]
    return found


def _minor_units(amount_minor: int, currency: str | None) -> str:
    return f"{amount_minor} {currency} minor units" if currency else f"{amount_minor} minor units"


def restore(code: str, fields: dict[str, Field]) -> Rejected:
    """The refusal that a receipt remembers, as it was first raised.

    Raises:
        InvariantViolated: the stored code is unknown to this version.
    """
    for kind in error_classes(Rejected):
        if kind.code == code and issubclass(kind, Rejected):
            return kind(**fields)  # type: ignore[arg-type]  # each class takes exactly the fields it stores
    raise InvariantViolated(f"a receipt remembers the unknown refusal {code!r}")
