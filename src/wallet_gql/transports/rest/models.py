"""The JSON of users, accounts, transfers and holds. Their building blocks are in `values`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import ConfigDict, Field, WithJsonSchema

from ...domain.annotations import Annotation
from ...domain.model import AccountStatus
from ...storage import PAGE_MAX
from ...verbs.attempts import REFERENCE_MAX
from ...verbs.ledger import HOLD_SECONDS_DEFAULT, HOLD_SECONDS_MAX
from ...verbs.parties import PartyKind
from .values import (
    BY_NAME,
    AccountIdText,
    Category,
    Count,
    CurrencyText,
    DirectionName,
    Given,
    GivenMoney,
    HoldIdText,
    HoldStateName,
    KeyText,
    Metadata,
    MinorUnits,
    Moment,
    Money,
    Ordered,
    Recipient,
    Reference,
    Sequence,
    Text,
    Told,
    TransferKindName,
    Version,
)

AccountStateName = Annotated[AccountStatus, BY_NAME]
PartyKindName = Annotated[PartyKind, BY_NAME]

LAST_MAX: Final = 20
"""The most entries per account in a list of accounts."""

# What comes in


class OpenAccount(Given):
    """Which account to open."""

    currency: CurrencyText = Field(description="The currency it shall hold.")


class FromAccount(Given):
    """Whom to pay what from one of your accounts."""

    from_account_id: AccountIdText = Field(description="Your account that pays.")
    to: Recipient = Field(description="Whom to pay.")
    amount: GivenMoney = Field(description="How much.")
    reference: Reference = ""


class Noted(Given):
    """What the payer notes about a payment."""

    category: Category = Field("", description="What you file it under, such as `groceries`; only you see it.")
    metadata: Metadata = Field({}, description="What else you note about it, by names of yours; only you see it.")

    def annotation(self) -> Annotation:
        """What the payer notes about it."""
        return Annotation(self.category, tuple(self.metadata.items()))


class Payment(FromAccount, Noted):
    """A payment from one of your accounts."""


class AnnotateTransfer(Given):
    """What to note about a transfer. What is null or left out stays as it is."""

    category: Category | None = Field(None, description="What you file it under; empty for nothing.")
    metadata: Metadata | None = Field(
        None, description="All that you note besides, by names of yours; it may be empty."
    )


class PlaceHold(FromAccount):
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


class AccountsQuery(Given):
    """Which accounts, and how much of their past."""

    first: Annotated[Count, Field(ge=1, le=PAGE_MAX)] = Field(20, description="How many accounts at most.")
    after: AccountIdText | None = Field(None, description="Only accounts behind this one: `next` of the page before.")
    entries: Annotated[Count, Field(ge=0, le=LAST_MAX)] = Field(5, description="How many last entries of each.")


class HistoryQuery(Ordered):
    """Which entries, of those that fit all that is given."""

    first: Annotated[Count, Field(ge=1, le=PAGE_MAX)] = Field(20, description="How many entries at most.")
    kind: list[TransferKindName] = Field([], description="Only these kinds; repeat it.")
    counterparty: Text | None = Field(None, description="Only with this other side, by username.")
    since: Moment | None = Field(None, description="Not earlier than this moment.")
    until: Moment | None = Field(None, description="Earlier than this moment.")
    min_minor_units: Count | None = Field(None, description="At least so much, without the sign.")
    max_minor_units: Count | None = Field(None, description="At most so much, without the sign.")
    reference: Annotated[Text, Field(max_length=REFERENCE_MAX)] | None = Field(
        None, description="Only with this part in the reference, in any case."
    )


class EntriesQuery(HistoryQuery):
    """Which part of an account's history."""

    after: Annotated[Count, Field(ge=1, le=10**18 - 1)] | None = Field(
        None, description="Only entries behind this one: `next` of the page before."
    )


class AllEntriesQuery(HistoryQuery):
    """Which part of the history of all accounts."""

    after: Text | None = Field(None, description="Only entries behind these: `next` of the page before.")


class HoldsQuery(Ordered):
    """Which holds."""

    first: Annotated[Count, Field(ge=1, le=PAGE_MAX)] = Field(20, description="How many holds at most.")
    after: HoldIdText | None = Field(None, description="Only holds behind this one: `next` of the page before.")
    direction: DirectionName | None = Field(None, description="`IN` for those that you may capture; both if left out.")
    state: list[HoldStateName] = Field([], description="Only in these states; repeat it.")


class KeyQuery(Given):
    """Which key to ask about."""

    idempotency_key: KeyText = Field(description="The key of the first request, as it was sent.")


# What goes out


class Party(Told):
    """Somebody on one side of a transfer or a hold."""

    kind: PartyKindName = Field(description="What it is. Show it beside `name`, which anybody could choose.")
    name: str = Field(description="What to show: a merchant's name, or a username; `system` for the wallet.")
    username: str | None = Field(description="Whom one can pay under this name; null for the wallet.")


class Transfer(Told):
    """One movement of money, as one of its two parties sees it. Only what you note about it changes."""

    id: str
    kind: TransferKindName
    direction: DirectionName = Field(description="Whether you received or paid it.")
    account_id: str = Field(description="Your account.")
    counterparty: Party | None = Field(description="The other side; null if it is not known any more.")
    amount: Money = Field(description="What left the payer's account.")
    fee: Money = Field(description="The part of `amount` that the wallet kept; the payee received the rest.")
    reference: str
    created_at: datetime = Field(description="When it was decided.")
    reverses_id: str | None = Field(description="The transfer that this one sends back.")
    hold_id: str | None = Field(description="The hold that this one captured.")
    category: str | None = Field(
        description="What you filed it under; null if nothing, and where `metadata` is. The other side never sees it."
    )
    metadata: dict[str, str] | None = Field(
        description="What else you have noted about it; null only where it cannot be read now. The other side never "
        "sees it."
    )


class Entry(Told):
    """One line of an account's history: what a transfer did to this account."""

    sequence: Sequence = Field(description="Its place in the account's order: 1, 2, 3 … without gaps.")
    amount: Money = Field(description="What the account gained, or lost if it is negative.")
    balance_after: Money
    created_at: datetime = Field(description="When it was entered; never earlier than the entry before.")
    transfer: Transfer


class Entries(Told):
    """A page of history."""

    entries: list[Entry]
    next: str | None = Field(description="Pass it as `after` to go on; null at the end. A filtered page may be short.")


class Account(Told):
    """Holds one currency for you."""

    id: str
    currency: str
    state: AccountStateName
    posted: Money = Field(description="The balance: all entries together.")
    held: Money = Field(description="The part of `posted` that is reserved for payees.")
    available: Money = Field(description="What can be spent now: `posted` less `held`.")
    sequence: Sequence = Field(
        description="Its newest entry; 0 if none. `posted` may already have credits whose entries come a moment later."
    )
    version: Version
    created_at: datetime


class ClosedAccount(Told):
    """The account is closed for good."""

    account: Account | None = Field(description="The account; null if it could not be read: it is closed all the same.")


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
    state: HoldStateName = Field(description="What became of it; `EXPIRED` as soon as its time is over.")
    direction: DirectionName = Field(description="`OUT` if it is your money, `IN` if it is reserved for you.")
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
    version: Version
    closable: bool = Field(description="Whether you may capture or void it now: you are its payee, and it is open.")


class Holds(Told):
    """A page of your holds."""

    holds: list[Hold]
    next: str | None = Field(
        description="Pass it as `after` to go on; null at the end. A page of some states may be short."
    )


class HoldAnswer(Told):
    """The hold, as it was when this key was first sent."""

    hold: Hold
    replayed: bool = Field(description="Whether the key was used before: then nothing was done now.")


class Refusal(Told):
    """A refusal, with its own values beside these members."""

    model_config = ConfigDict(extra="allow")

    code: str
    message: str
    retryable: bool = Field(description="Whether the same request, with the same key, may succeed later.")


class Outcome(Told):
    """What a key stands for."""

    operation: str = Field(description="What was asked for under it, such as `transfer` or `placeHold`.")
    created_at: datetime = Field(description="When it was decided.")
    transfer: Transfer | None = Field(description="The transfer it made; null for a hold or a refusal.")
    hold: Hold | None = Field(description="The hold it placed or voided, as it is now.")
    refusal: Refusal | None = Field(description="Why it was refused, if it was.")
