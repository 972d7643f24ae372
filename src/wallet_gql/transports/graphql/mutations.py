"""What can be done. Resolvers return success and raise everything else; `errors.HANDLERS` make data of it.

Every field is nullable, so that a failure in one mutation of a document does not take the answers of those before it,
which have committed.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Annotated, TypeAlias

import strawberry

from ...domain.errors import InvalidInput as InvalidInputError
from ...domain.errors import WalletError as DomainError
from ...domain.ids import AccountId, UserId, is_id
from ...domain.users import SessionKind
from ...ledger import To
from ..auth import clear_cookie, set_cookie
from .accounts import Account, User
from .context import Info
from .describe import about, argument, enum_type, input_type, object_type
from .errors import (
    AccountExists,
    CurrencyMismatch,
    IdempotencyKeyReused,
    InDoubt,
    InsufficientFunds,
    InvalidAmount,
    InvalidInput,
    Refusal,
    Unavailable,
)
from .scalars import BigInt, CurrencyCode
from .types import Transfer

log = logging.getLogger(__name__)

enum_type(
    SessionKind,
    "How a session is kept.",
    {
        "COOKIE": "For browsers: in the cookie `__Host-wallet`, which scripts cannot read. Ends after 30 idle minutes "
        "or 12 hours.",
        "BEARER": "For other clients: the token comes in the answer and goes into `Authorization: Bearer …`. Lasts 30 "
        "days.",
    },
)


@input_type
class SignUpInput:
    """Who wants to join."""

    username: str = about("3 to 32 letters, digits, dots, dashes or underscores; others pay you under it.")
    email: str = about("An e-mail address; nobody else sees it.")
    password: str = about("8 to 128 characters.")


@input_type
class LogInInput:
    """Who wants a session."""

    login: str = about("The username or the e-mail address.")
    password: str = about("The password.")
    session: SessionKind = strawberry.field(description="How the session is kept.", default=SessionKind.COOKIE)


@input_type
class OpenAccountInput:
    """Which account to open."""

    currency: CurrencyCode = about("The currency it shall hold.")


@input_type
class MoneyInput:
    """An exact amount of one currency."""

    minor_units: BigInt = about("The amount in the currency's minor unit: 1230 is 12.30 EUR. Greater than zero.")
    currency: CurrencyCode = about("The currency; it must be the account's.")


@strawberry.input(one_of=True, description="Whom to pay: exactly one of these.")
class Recipient:
    """Whom to pay: exactly one of these."""

    account_id: strawberry.Maybe[strawberry.ID] = about("An account by its id.")
    username: strawberry.Maybe[str] = about("A user, into the account that holds the currency.")


@input_type
class TransferInput:
    """A payment from one of your accounts."""

    idempotency_key: strawberry.ID = about(
        "1 to 255 printable ASCII characters, such as a UUID. Make one for each intent to pay and send it with every "
        "retry: however often the request arrives, the money moves once."
    )
    from_account_id: strawberry.ID = about("Your account that pays.")
    to: Recipient = about("Whom to pay.")
    amount: MoneyInput = about("How much.")
    reference: str | None = strawberry.field(
        description="What it is for, at most 140 characters; the payee sees it.", default=""
    )


@object_type
class SignUpSuccess:
    """You have joined. Log in next."""

    user: User | None = about("You.")


@object_type
class LogInSuccess:
    """You have a session."""

    user: User | None = about("You.")
    token: str | None = about("For a `BEARER` session, told only now. Null for a `COOKIE` session.")
    expires_at: datetime = about("When the session ends unless it is used before, UTC.")


@object_type
class LogOutSuccess:
    """You have no session any more."""

    ended: bool = about("Whether there was one.")


@object_type
class OpenAccountSuccess:
    """The account is open."""

    account: Account | None = about("The account, at zero.")


@object_type
class TransferSuccess:
    """The money moved, now or when this key was first sent."""

    transfer: Transfer | None = about("The transfer; on a replay the one that the key first made.")
    replayed: bool = about("Whether the key was used before: then nothing was done now.")
    credited: bool = about("Whether the payee has it already; if not, it is certain and on its way.")
    account_id: strawberry.Private[AccountId]
    viewer_id: strawberry.Private[UserId]

    @strawberry.field
    async def from_account(self, info: Info) -> Account | None:
        """Your account as it is now. Null if it could not be read: the transfer stands all the same."""
        try:
            return Account.of(await info.context.ledger.account(self.viewer_id, self.account_id))
        except DomainError as error:
            log.warning("the payer's account could not be read after a transfer: %s", error)
            return None


SignUpResult: TypeAlias = Annotated[
    SignUpSuccess | InvalidInput | Refusal | Unavailable | InDoubt,
    strawberry.union("SignUpResult", description="What `signUp` answers."),
]
LogInResult: TypeAlias = Annotated[
    LogInSuccess | Refusal | Unavailable | InDoubt,
    strawberry.union("LogInResult", description="What `logIn` answers."),
]
LogOutResult: TypeAlias = Annotated[
    LogOutSuccess | Refusal | Unavailable | InDoubt,
    strawberry.union("LogOutResult", description="What `logOut` answers."),
]
OpenAccountResult: TypeAlias = Annotated[
    OpenAccountSuccess | AccountExists | InvalidInput | Refusal | Unavailable | InDoubt,
    strawberry.union("OpenAccountResult", description="What `openAccount` answers."),
]
TransferResult: TypeAlias = Annotated[
    TransferSuccess
    | InsufficientFunds
    | CurrencyMismatch
    | InvalidAmount
    | InvalidInput
    | IdempotencyKeyReused
    | Refusal
    | Unavailable
    | InDoubt,
    strawberry.union("TransferResult", description="What `transfer` answers."),
]


@object_type
class Mutation:
    """Everything that writes. Mutations of one document run one after the other, each commits on its own."""

    @strawberry.mutation
    async def sign_up(
        self, info: Info, given: Annotated[SignUpInput, argument("Who wants to join.", name="input")]
    ) -> SignUpResult | None:
        """Create a user. Refused with `USERNAME_TAKEN` or `EMAIL_TAKEN`."""
        user = await info.context.wallet.identity.sign_up(given.username, given.email, given.password)
        return SignUpSuccess(user=User.of(user))

    @strawberry.mutation
    async def log_in(
        self, info: Info, given: Annotated[LogInInput, argument("Who wants a session.", name="input")]
    ) -> LogInResult | None:
        """Start a session. Refused with `INVALID_CREDENTIALS`. At most once in a document."""
        made = await info.context.wallet.identity.log_in(given.login, given.password, given.session)
        if given.session is SessionKind.COOKIE:
            set_cookie(info.context.response, made.token)
        token = made.token if given.session is SessionKind.BEARER else None
        return LogInSuccess(user=User.of(made.user), token=token, expires_at=made.session.expires_at)

    @strawberry.mutation
    async def log_out(self, info: Info) -> LogOutResult | None:
        """End the session at once, on every server. Without a session there is nothing to do, and that is no error."""
        ended = await info.context.caller.log_out()
        clear_cookie(info.context.response)
        return LogOutSuccess(ended=ended)

    @strawberry.mutation
    async def open_account(
        self, info: Info, given: Annotated[OpenAccountInput, argument("Which account to open.", name="input")]
    ) -> OpenAccountResult | None:
        """Open an account of yours, one per currency."""
        context = info.context
        return OpenAccountSuccess(
            account=Account.of(await context.ledger.open_account(await context.user_id(), given.currency))
        )

    @strawberry.mutation
    async def transfer(
        self, info: Info, given: Annotated[TransferInput, argument("The payment.", name="input")]
    ) -> TransferResult | None:
        """Pay somebody. Safe to repeat with the same idempotency key. At most five in a document."""
        user_id = await info.context.user_id()
        if not is_id("acc", given.from_account_id):
            raise InvalidInputError("fromAccountId", "an account id such as acc_0193…")
        source = AccountId(given.from_account_id)
        posted = await info.context.ledger.transfer(
            user_id,
            given.idempotency_key,
            source=source,
            to=_recipient(given.to),
            amount_minor=given.amount.minor_units,
            currency=given.amount.currency,
            reference=given.reference or "",
        )
        return TransferSuccess(
            transfer=Transfer.of(posted.result, user_id),
            replayed=posted.replayed,
            credited=posted.credited,
            account_id=source,
            viewer_id=user_id,
        )


def _recipient(to: Recipient) -> To:
    if to.account_id is not None:
        return To(account_id=AccountId(to.account_id.value))
    return To(username=to.username.value if to.username is not None else None)
