"""The one list of operations, each with its name and its refusals.

REST's table of routes (`rest.routes`), GraphQL's mutations and their unions (`graphql.operations`) and the names of
rate limits are made from `OPERATIONS`. Both APIs use the same name, except where a comment says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from ...domain.errors import (
    AccountClosed,
    AccountExists,
    AccountFrozen,
    AccountNotEmpty,
    AccountNotFound,
    BatchAborted,
    CaptureExceedsHold,
    Contended,
    CurrencyMismatch,
    EmailTaken,
    FreshLogInRequired,
    HoldNotFound,
    HoldNotOpen,
    IdempotencyKeyReused,
    InsufficientFunds,
    InvalidAmount,
    InvalidCredentials,
    InvalidInput,
    LimitExceeded,
    MerchantExists,
    NodeUnavailable,
    NotAMerchant,
    NotPermitted,
    NotReversible,
    PayeeCannotReceive,
    PayeeNotFound,
    PaymentsNotConfigured,
    PayoutAccountMissing,
    RateLimited,
    ReversalExceedsOriginal,
    SameAccount,
    SpendingLimitExceeded,
    TopUpNotFound,
    TransferNotFound,
    Unavailable,
    UsernameTaken,
    WalletError,
    WithdrawalNotFound,
)
from .errors import KEY_UNKNOWN, Code

Errors: TypeAlias = tuple[type[WalletError], ...]

OUTAGES: Final[Errors] = (Unavailable, Contended, NodeUnavailable, RateLimited)
"""The errors that every operation may answer with."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What both APIs say about one operation.

    `refusals` are the errors of its own rules; the transports add `OUTAGES`, `Unauthenticated` and `InDoubt`.
    """

    name: str
    refusals: Errors = ()
    keyed: str = ""
    """The `operation` of the money verb that it runs, under an idempotency key; empty if it moves no money."""
    session: bool = True
    """Whether it needs a session."""
    reads: bool = False
    """Whether it only reads, in both APIs: then a session that was checked a moment ago is enough."""
    codes: tuple[Code, ...] = ()
    """Refusals of REST that are not errors of the domain."""
    untyped: Errors = ()
    """Exceptions: refusals that GraphQL's union has no type for, so they come as `Refusal`."""
    unlisted: Errors = ()
    """Exceptions: refusals of its rule that neither API lists. GraphQL returns them as `Refusal`."""


_KEYED: Final[Errors] = (InvalidInput, InvalidAmount, IdempotencyKeyReused)
_PAYER: Final[Errors] = (AccountNotFound, AccountFrozen, AccountClosed, CurrencyMismatch)
_SPENDING: Final[Errors] = (InsufficientFunds, SpendingLimitExceeded)
_PAYEE: Final[Errors] = (PayeeNotFound, PayeeCannotReceive, SameAccount, *_SPENDING, LimitExceeded)
_PAYING: Final[Errors] = (*_KEYED, *_PAYER, *_PAYEE)
_PAYING_MERCHANT: Final[Errors] = (*_KEYED, NotAMerchant, *_PAYER, *_PAYEE)
_SENDING_BACK: Final[Errors] = (
    *_KEYED,
    TransferNotFound,
    NotPermitted,
    NotReversible,
    ReversalExceedsOriginal,
    InsufficientFunds,
    AccountFrozen,
    AccountClosed,
)
_OUTSIDE: Final[Errors] = (
    *_KEYED,
    PaymentsNotConfigured,
    AccountNotFound,
    AccountClosed,
    CurrencyMismatch,
    LimitExceeded,
)
_INPUT: Final[Errors] = (InvalidInput,)
_MERCHANT: Final[Errors] = (InvalidInput, NotAMerchant)

BATCH_ITEM: Final[Errors] = (*_PAYING, BatchAborted)
"""What one item of `transferBatch` may end in."""

_USERS: Final = (
    Operation("signUp", (InvalidInput, UsernameTaken, EmailTaken), session=False),
    Operation("changePassword", (InvalidInput, InvalidCredentials, RateLimited)),
    Operation("logIn", (InvalidInput, InvalidCredentials, RateLimited), session=False),
    Operation("renewSession", _INPUT, untyped=_INPUT),
    Operation("logOut", _INPUT, session=False, untyped=_INPUT),
    Operation("logOutEverywhere", _INPUT),
    Operation("revokeSession", _INPUT),
    Operation("listSessions", _INPUT, reads=True),
    Operation("readUser", _INPUT, reads=True),
    Operation("listEvents", _INPUT, reads=True),
    Operation("viewer", reads=True),
    Operation("user", reads=True),
    Operation("payee", (InvalidInput, PayeeNotFound), reads=True),
)
_ACCOUNTS: Final = (
    Operation("openAccount", (InvalidInput, AccountExists, LimitExceeded)),
    Operation("closeAccount", (InvalidInput, AccountNotFound, AccountFrozen, AccountClosed, AccountNotEmpty)),
    Operation("listAccounts", _INPUT, reads=True),
    Operation("readAccount", (InvalidInput, AccountNotFound), reads=True),
    Operation("listEntries", (InvalidInput, AccountNotFound), reads=True),
    Operation("listHistory", _INPUT, reads=True),
    Operation("readStatement", (InvalidInput, AccountNotFound), reads=True),
    Operation("exportStatement", (InvalidInput, AccountNotFound), reads=True),
    Operation("readSummary", (InvalidInput, AccountNotFound), reads=True),
    Operation("listSpendingLimits", _INPUT, reads=True),
    Operation("setSpendingLimits", (InvalidInput, InvalidAmount, FreshLogInRequired)),
    Operation("account", reads=True),
    Operation("accountEvents"),
    Operation("viewerEvents", _INPUT),
)
_MONEY: Final = (
    Operation("transfer", _PAYING, keyed="transfer"),
    Operation("transferBatch", _KEYED, keyed="transferBatch"),
    Operation("findTransfer", (InvalidInput, IdempotencyKeyReused), codes=(KEY_UNKNOWN,), reads=True),
    Operation("transferByIdempotencyKey", reads=True),
    Operation("preview", (InvalidInput, InvalidAmount), reads=True),
    Operation("readTransfer", (InvalidInput, TransferNotFound), reads=True),
    Operation("annotateTransfer", (InvalidInput, TransferNotFound)),
    Operation(
        "reverseTransfer", (*_SENDING_BACK, LimitExceeded), keyed="reverseTransfer", unlisted=(PayeeCannotReceive,)
    ),
    Operation("placeHold", _PAYING, keyed="placeHold"),
    Operation("readHold", (InvalidInput, HoldNotFound), reads=True),
    Operation("listHolds", _INPUT, reads=True),
    Operation("hold", reads=True),
    Operation(
        "captureHold",
        (
            *_KEYED,
            HoldNotFound,
            NotPermitted,
            HoldNotOpen,
            CaptureExceedsHold,
            AccountFrozen,
            PayeeCannotReceive,
            PayeeNotFound,
            LimitExceeded,
        ),
        keyed="captureHold",
        untyped=(PayeeNotFound,),
    ),
    Operation(
        "voidHold", (InvalidInput, HoldNotFound, NotPermitted, IdempotencyKeyReused, HoldNotOpen), keyed="voidHold"
    ),
)
_OUTSIDE_MONEY: Final = (
    Operation("topUp", _OUTSIDE, keyed="topUp"),
    Operation("beginTopUp", _OUTSIDE, keyed="topUp"),  # REST's name of GraphQL's mutation `topUp`
    Operation("listTopUps", _INPUT, reads=True),
    Operation("readTopUp", (InvalidInput, TopUpNotFound), reads=True),
    Operation(
        "withdraw",
        (*_OUTSIDE, AccountFrozen, *_SPENDING, PayoutAccountMissing, FreshLogInRequired),
        keyed="withdraw",
    ),
    Operation("listWithdrawals", _INPUT, reads=True),
    Operation("readWithdrawal", (InvalidInput, WithdrawalNotFound), reads=True),
    Operation("withdrawal", reads=True),
)
_MERCHANTS: Final = (
    Operation("registerMerchant", (InvalidInput, MerchantExists)),
    Operation("readMerchant", _MERCHANT, reads=True),
    Operation("updateMerchant", _MERCHANT),
    Operation("rotateWebhookSecret", _MERCHANT, untyped=_INPUT),
    Operation("replayEvents", (*_MERCHANT, AccountNotFound)),
    Operation("listDeadLetters", _MERCHANT, reads=True),
    Operation("findMerchant", _MERCHANT, reads=True),
    Operation("merchant", reads=True),
    Operation("payMerchant", _PAYING_MERCHANT, keyed="payMerchant"),
    Operation("holdForMerchant", _PAYING_MERCHANT, keyed="payMerchantByHold"),  # GraphQL's `payMerchant` with `hold`
    Operation(
        "refundPayment",
        (*_SENDING_BACK, PayeeCannotReceive, PayeeNotFound, LimitExceeded),
        keyed="reverseTransfer",
        untyped=(PayeeCannotReceive, PayeeNotFound),
    ),
)
_REST_OF_GRAPHQL: Final = (
    Operation("node", reads=True),
    Operation("nodes", reads=True),
    Operation("currencies", _INPUT, session=False, reads=True),
    Operation("backend", session=False, reads=True),
)


def _by_name(operations: Iterable[Operation]) -> dict[str, Operation]:
    found: dict[str, Operation] = {}
    for operation in operations:
        assert operation.name not in found, f"{operation.name} is in the catalogue twice"
        found[operation.name] = operation
    return found


OPERATIONS: Final[Mapping[str, Operation]] = _by_name(
    (*_USERS, *_ACCOUNTS, *_MONEY, *_OUTSIDE_MONEY, *_MERCHANTS, *_REST_OF_GRAPHQL)
)
"""All operations by name. GraphQL's queries and mutations of the same name, such as `transfer`, share one entry."""

NAMES: Final = frozenset(OPERATIONS)
"""The names that `WALLET_RATE_LIMITS` accepts, in addition to its groups."""

HASHING: Final = ("logIn", "signUp", "changePassword")
"""The operations that hash a password."""

PASSWORD_COST: Final = 2_000
"""The cost of hashing a password, in fields of an answer with as much processor time."""

LIST_SIZE: Final = 10
"""How many items are counted for a list whose length nobody named."""

FILTER_COST: Final = 1_000
"""The additional cost of a filter: a filtered page may examine 2,000 entries."""

CATEGORY_COST: Final = 5_000
"""The additional cost of a summary by category: it reads what was noted about each of up to 5,000 entries."""

READS: Final = frozenset(name for name, operation in OPERATIONS.items() if operation.reads)
"""What only reads."""

KEYED: Final = frozenset(name for name, operation in OPERATIONS.items() if operation.keyed)
"""The operations that move money."""
