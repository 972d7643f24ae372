"""The JSON of users, accounts, transfers and holds. Their building blocks are in `values`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from ...domain.model import AccountStatus, HoldState, TransferKind
from ...domain.security_events import EventKind
from ...domain.users import EMAIL_MAX, PASSWORD_MAX, PASSWORD_MIN
from ...storage import PAGE_MAX
from ...verbs.ledger import HOLD_SECONDS_DEFAULT, HOLD_SECONDS_MAX
from ...verbs.parties import Direction, PartyKind
from .values import (
    AccountIdText,
    Count,
    CurrencyText,
    EventIdText,
    Given,
    GivenMoney,
    MinorUnits,
    Moment,
    Money,
    Recipient,
    Reference,
    Text,
    Told,
)

LAST_MAX: Final = 20
"""The most entries per account in a list of accounts."""

# What comes in


class SignUp(Given):
    """Who wants to join."""

    username: Annotated[Text, WithJsonSchema({"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.-]{2,31}$"})] = (
        Field(description="3 to 32 letters, digits, dots, dashes or underscores; others pay you under it.")
    )
    email: Annotated[Text, WithJsonSchema({"type": "string", "format": "email", "maxLength": EMAIL_MAX})] = Field(
        description="An e-mail address; nobody else sees it."
    )
    password: Annotated[
        Text, WithJsonSchema({"type": "string", "minLength": PASSWORD_MIN, "maxLength": PASSWORD_MAX})
    ] = Field(description=f"{PASSWORD_MIN} to {PASSWORD_MAX} characters, hard to guess.")


class LogIn(Given):
    """Who wants a session."""

    login: Text = Field(description="The username or the e-mail address.")
    password: Text = Field(description="The password.")
    session: Literal["cookie", "bearer"] = Field(
        "cookie",
        description="`cookie`: for browsers, in a cookie that scripts cannot read. `bearer`: for other clients, the "
        "token comes in the answer.",
    )


class OpenAccount(Given):
    """Which account to open."""

    currency: CurrencyText = Field(description="The currency it shall hold.")


class Payment(Given):
    """A payment from one of your accounts."""

    from_account_id: AccountIdText = Field(description="Your account that pays.")
    to: Recipient = Field(description="Whom to pay.")
    amount: GivenMoney = Field(description="How much.")
    reference: Reference = ""


class PlaceHold(Payment):
    """Money to reserve for a payee, who captures or voids it; the payer waits for its end."""

    expires_in_seconds: Annotated[
        int, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": HOLD_SECONDS_MAX})
    ] = Field(HOLD_SECONDS_DEFAULT, description="How long it lasts, counted from its acceptance.")


class Capture(Given):
    """How much of a hold to take."""

    minor_units: MinorUnits | None = Field(None, description="In the hold's minor unit; all of it if left out.")


class Reverse(Given):
    """How much of a received transfer to send back."""

    minor_units: MinorUnits | None = Field(None, description="In the transfer's minor unit; all that is left if none.")
    reference: Reference = ""


class NoQuery(Given):
    """No parameters."""


class AccountsQuery(Given):
    """Which accounts, and how much of their past."""

    first: Annotated[Count, Field(ge=1, le=PAGE_MAX)] = Field(20, description="How many accounts at most.")
    after: AccountIdText | None = Field(None, description="Only accounts behind this one: `next` of the page before.")
    entries: Annotated[Count, Field(ge=0, le=LAST_MAX)] = Field(5, description="How many last entries of each.")


class EntriesQuery(Given):
    """Which part of an account's history."""

    first: Annotated[Count, Field(ge=1, le=PAGE_MAX)] = Field(20, description="How many entries at most.")
    before: Annotated[Count, Field(ge=1, le=10**18 - 1)] | None = Field(
        None, description="Only entries with a smaller sequence: `next` of the page before."
    )
    kind: list[Annotated[TransferKind, Field(strict=False)]] = Field([], description="Only these kinds; repeat it.")
    since: Moment | None = Field(None, description="Not earlier than this moment.")
    until: Moment | None = Field(None, description="Earlier than this moment.")


class EventsQuery(Given):
    """Which of your security events."""

    first: Annotated[Count, Field(ge=1, le=PAGE_MAX)] = Field(20, description="How many events at most.")
    after: EventIdText | None = Field(None, description="Only events older than this one: `next` of the page before.")


class KeyQuery(Given):
    """Which key to ask about."""

    idempotency_key: Annotated[
        Text, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"})
    ] = Field(description="The key of the first request, as it was sent.")


# What goes out


class User(Told):
    """You."""

    id: str
    username: str = Field(description="Others pay you under this name.")
    email: str = Field(description="Never shown to others.")
    created_at: datetime


class Session(Told):
    """You are logged in."""

    user: User
    token: str | None = Field(description="For `bearer`, told only now; goes into `Authorization: Bearer …`.")
    expires_at: datetime = Field(description="When the session ends unless it is used before.")


class Event(Told):
    """Something that happened to your access."""

    id: str
    kind: EventKind
    at: datetime
    address: str | None = Field(description="The IP address it came from; null if it came from none.")
    user_agent: str | None = Field(description="What the client called itself, shortened; null if nothing.")
    subject: str | None = Field(description="The id of the session or account that it was done to; null for others.")


class Events(Told):
    """A page of your events."""

    events: list[Event]
    next: str | None = Field(description="`after` of the next page; null at the end.")


class Party(Told):
    """Somebody on one side of a transfer or a hold."""

    kind: PartyKind = Field(description="What it is. Show it beside `name`, which anybody could choose.")
    name: str = Field(description="What to show: a merchant's name, or a username; `system` for the wallet.")
    username: str | None = Field(description="Whom one can pay under this name; null for the wallet.")


class Transfer(Told):
    """One movement of money, as one of its two parties sees it. It never changes."""

    id: str
    kind: TransferKind
    direction: Direction = Field(description="Whether you received or paid it.")
    account_id: str = Field(description="Your account.")
    counterparty: Party | None = Field(description="The other side; null if it is not known any more.")
    amount: Money = Field(description="What left the payer's account.")
    fee: Money = Field(description="The part of `amount` that the wallet kept; the payee received the rest.")
    reference: str
    at: datetime = Field(description="When it was decided.")
    reverses_id: str | None = Field(description="The transfer that this one sends back.")
    hold_id: str | None = Field(description="The hold that this one captured.")


class Entry(Told):
    """One line of an account's history: what a transfer did to this account."""

    sequence: int = Field(ge=1, description="Its place in the account's order: 1, 2, 3 … without gaps.")
    amount: Money = Field(description="What the account gained, or lost if it is negative.")
    balance_after: Money
    at: datetime = Field(description="When it was entered; never earlier than the entry before.")
    transfer: Transfer


class Entries(Told):
    """A page of history, newest first."""

    entries: list[Entry]
    next: int | None = Field(description="Pass it as `before` to go on; null at the end. A filtered page may be short.")


class Account(Told):
    """Holds one currency for you."""

    id: str
    currency: str
    status: AccountStatus
    posted: Money = Field(description="The balance: all entries together.")
    held: Money = Field(description="The part of `posted` that is reserved for payees.")
    available: Money = Field(description="What can be spent now: `posted` less `held`.")
    created_at: datetime


class AccountWithEntries(Account):
    """An account and what happened last on it."""

    entries: list[Entry] = Field(description="The last entries, newest first.")


class Accounts(Told):
    """A page of your accounts, oldest first."""

    accounts: list[AccountWithEntries]
    next: str | None = Field(description="Pass it as `after` to go on; null at the end.")


class Posted(Told):
    """The money moved, now or when this key was first sent."""

    transfer: Transfer
    credited: bool = Field(description="Whether the payee has it already; if not, it is certain and on its way.")
    replayed: bool = Field(description="Whether the key was used before: then nothing was done now.")


class Hold(Told):
    """Money of the payer that is reserved for the payee."""

    id: str
    state: HoldState
    direction: Direction = Field(description="`out` if it is your money, `in` if it is reserved for you.")
    payer: Party | None = Field(description="Whose money it is; null if that is not known any more.")
    payee: Party | None = Field(description="Whom it is reserved for; null if that is not known any more.")
    account_id: str = Field(description="The account whose money is reserved.")
    payee_account_id: str = Field(description="The account it is reserved for.")
    amount: Money
    captured: Money = Field(description="What the payee took.")
    transfer_id: str | None = Field(description="The transfer that captured it.")
    reference: str
    created_at: datetime
    expires_at: datetime | None
    closed_at: datetime | None


class HoldAnswer(Told):
    """The hold, as it was when this key was first sent."""

    hold: Hold
    replayed: bool = Field(description="Whether the key was used before: then nothing was done now.")


class Refusal(Told):
    """A refusal that is kept under a key."""

    model_config = ConfigDict(extra="allow")

    code: str
    message: str


class Outcome(Told):
    """What a key stands for."""

    operation: str = Field(description="What was asked for under it, such as `transfer` or `placeHold`.")
    at: datetime = Field(description="When it was decided.")
    transfer: Transfer | None = Field(description="The transfer it made; null for a hold or a refusal.")
    hold: Hold | None = Field(description="The hold it placed or voided, as it is now.")
    refusal: Refusal | None = Field(description="Why it was refused, if it was.")
