"""What goes to the wallet and what comes back. Written by generate.py. Do not edit."""

from __future__ import annotations

from typing import Literal, NotRequired, TypeAlias, TypedDict


class Account(TypedDict):
    """Holds one currency for you."""

    id: str
    currency: str
    state: Literal["OPEN", "FROZEN", "CLOSED"]
    posted: Money
    held: Money
    available: Money
    sequence: str
    version: str
    createdAt: str


class AccountWithEntries(TypedDict):
    """An account and what happened last on it."""

    id: str
    currency: str
    state: Literal["OPEN", "FROZEN", "CLOSED"]
    posted: Money
    held: Money
    available: Money
    sequence: str
    version: str
    createdAt: str
    entries: list[Entry]


class Accounts(TypedDict):
    """A page of your accounts, oldest first."""

    accounts: list[AccountWithEntries]
    next: str | None


class AllSpendingLimits(TypedDict):
    """What you may spend, in each currency that has limits."""

    spendingLimits: list[SpendingLimits]


class AnnotateTransfer(TypedDict):
    """What to note about a transfer. What is null or left out stays as it is."""

    category: NotRequired[str | None]
    metadata: NotRequired[dict[str, str] | None]


class BatchAnswer(TypedDict):
    """The batch was decided: look at each result. It is no success of every payment."""

    complete: bool
    results: list[BatchResult]


class BatchPayment(TypedDict):
    """One payment of a batch."""

    category: NotRequired[str]
    metadata: NotRequired[dict[str, str]]
    fromAccountId: str
    to: Recipient
    amount: GivenMoney
    reference: NotRequired[str]
    idempotencyKey: str


class BatchResult(TypedDict):
    """What became of one payment of a batch: it has a transfer or a refusal."""

    transfer: Transfer | None
    credited: bool
    replayed: bool
    refusal: Refusal | None


class BeginTopUp(TypedDict):
    """Money to bring in."""

    toAccountId: str
    amount: GivenMoney


class Begun(TypedDict):
    """You are logged in."""

    user: User
    token: str | None
    expiresAt: str


class Capture(TypedDict):
    """How much of a hold to take."""

    minorUnits: NotRequired[str | int | None]


class ChangePassword(TypedDict):
    """The old password and the new one."""

    oldPassword: str
    newPassword: str


class ClosedAccount(TypedDict):
    """The account is closed for good."""

    account: Account | None


class Currencies(TypedDict):
    """All currencies, by code."""

    currencies: list[Currency]


class Currency(TypedDict):
    """A currency that an account may hold."""

    code: str
    exponent: int


class DeadLetter(TypedDict):
    """An event that was given up; a replay from its sequence tells it again."""

    accountId: str
    sequence: str
    id: str
    transferId: str
    error: str
    createdAt: str


class DeadLetters(TypedDict):
    """Events that were given up, account by account."""

    deadLetters: list[DeadLetter]
    next: str | None


class Delivery(TypedDict):
    """How your webhook fares."""

    positions: list[Position]
    failures: int
    lastError: str | None
    nextAttemptAt: str | None
    deadLetterCount: int


class Ended(TypedDict):
    """What has ended, now or before."""

    ended: bool


class EndedSessions(TypedDict):
    """Your sessions have ended."""

    ended: int


class Entries(TypedDict):
    """A page of history."""

    entries: list[Entry]
    next: str | None


class Entry(TypedDict):
    """One line of an account's history: what a transfer did to this account."""

    sequence: str
    amount: Money
    balanceAfter: Money
    createdAt: str
    transfer: Transfer


class Event(TypedDict):
    """Something that happened to your access."""

    id: str
    kind: Literal[
        "SIGNED_UP",
        "LOGGED_IN",
        "LOG_IN_FAILED",
        "LOGGED_OUT",
        "SESSION_RENEWED",
        "SESSION_REVOKED",
        "SESSIONS_REVOKED",
        "PASSWORD_CHANGED",
        "PASSWORD_CHANGE_FAILED",
        "PASSWORD_RESET",
        "ACCOUNT_FROZEN",
        "ACCOUNT_UNFROZEN",
        "ACCOUNT_CLOSED",
        "SPENDING_LIMITS_CHANGED",
    ]
    createdAt: str
    address: str | None
    userAgent: str | None
    subject: str | None


class Events(TypedDict):
    """A page of your events."""

    events: list[Event]
    next: str | None


class GivenMoney(TypedDict):
    """An exact amount of one currency."""

    minorUnits: str | int
    currency: str


class GivenSplit(TypedDict):
    """Somebody who shares in a payment."""

    to: Recipient
    basisPoints: int


class Hold(TypedDict):
    """Money of the payer that is reserved for the payee."""

    id: str
    state: Literal["OPEN", "CAPTURED", "VOIDED", "EXPIRED"]
    direction: Literal["IN", "OUT"]
    payer: Party | None
    payee: Party | None
    accountId: str
    payeeAccountId: str
    amount: Money
    captured: Money
    transferId: str | None
    reference: str
    createdAt: str
    expiresAt: str | None
    closedAt: str | None
    version: str
    closable: bool


class HoldAnswer(TypedDict):
    """The hold, as it was when this key was first sent."""

    hold: Hold
    replayed: bool


class HoldForMerchant(TypedDict):
    """Money to reserve for a merchant, who captures it."""

    fromAccountId: str
    merchant: str
    amount: GivenMoney
    reference: NotRequired[str]
    expiresInSeconds: NotRequired[int]


class Holds(TypedDict):
    """A page of your holds."""

    holds: list[Hold]
    next: str | None


class Joined(TypedDict):
    """You have joined, and are logged in unless `session` was `NONE`."""

    user: User
    token: str | None
    expiresAt: str | None


class Limits(TypedDict):
    """The most that may be spent. Null: no limit."""

    payment: Money | None
    day: Money | None
    newPayee: Money | None


class LogIn(TypedDict):
    """Who wants a session."""

    login: str
    password: str
    session: NotRequired[Literal["COOKIE", "BEARER"]]


class LogOutEverywhere(TypedDict):
    """Which sessions to spare."""

    keepThis: NotRequired[bool]


class Merchant(TypedDict):
    """You as merchant."""

    name: str
    feeBasisPoints: int
    webhookUrl: str | None
    createdAt: str
    delivery: Delivery | None


class MerchantSecret(TypedDict):
    """You as merchant, and the new secret that signs the events (Standard Webhooks)."""

    merchant: Merchant
    webhookSecret: str


class Money(TypedDict):
    """An exact amount of one currency. Calculate with `minorUnits`; show `decimal`."""

    minorUnits: str
    currency: str
    decimal: str


class OpenAccount(TypedDict):
    """Which account to open."""

    currency: str


class Outcome(TypedDict):
    """What a key stands for."""

    operation: str
    createdAt: str
    transfer: Transfer | None
    hold: Hold | None
    refusal: Refusal | None


class Party(TypedDict):
    """Somebody on one side of a transfer or a hold."""

    kind: Literal["USER", "MERCHANT", "WALLET"]
    name: str
    username: str | None


class PayMerchant(TypedDict):
    """A payment to a merchant from one of your accounts."""

    category: NotRequired[str]
    metadata: NotRequired[dict[str, str]]
    fromAccountId: str
    merchant: str
    amount: GivenMoney
    splits: NotRequired[list[GivenSplit]]
    reference: NotRequired[str]


class Payee(TypedDict):
    """Whom a name stands for, to be shown before paying."""

    kind: Literal["USER", "MERCHANT", "WALLET"]
    name: str
    username: str
    currencies: list[str]


class Payment(TypedDict):
    """A payment from one of your accounts."""

    category: NotRequired[str]
    metadata: NotRequired[dict[str, str]]
    fromAccountId: str
    to: Recipient
    amount: GivenMoney
    reference: NotRequired[str]


class PaymentAnswer(TypedDict):
    """The money moved, now or when this key was first sent."""

    payment: Transfer
    splits: list[Transfer] | None
    credited: bool
    replayed: bool


class PlaceHold(TypedDict):
    """Money to reserve for a payee, who captures or voids it; the payer waits for its end."""

    fromAccountId: str
    to: Recipient
    amount: GivenMoney
    reference: NotRequired[str]
    expiresInSeconds: NotRequired[int]


class Position(TypedDict):
    """How far you have been told of an account."""

    accountId: str
    sequence: str


class Posted(TypedDict):
    """The money moved, now or when this key was first sent."""

    transfer: Transfer
    credited: bool
    replayed: bool


class Preview(TypedDict):
    """What a payment would do if it were sent now. Nothing is reserved: the payment itself may come out otherwise."""

    refusal: Refusal | None
    amount: Money | None
    fee: Money | None
    received: Money | None
    remaining: Money | None


class PreviewPayment(TypedDict):
    """A payment that is not made yet."""

    fromAccountId: str
    to: PreviewRecipient
    amount: GivenMoney


class PreviewRecipientAccountId(TypedDict):
    """One way to say it."""

    accountId: str


class PreviewRecipientUsername(TypedDict):
    """One way to say it."""

    username: str


class PreviewRecipientMerchant(TypedDict):
    """One way to say it."""

    merchant: str


PreviewRecipient: TypeAlias = PreviewRecipientAccountId | PreviewRecipientUsername | PreviewRecipientMerchant


class PublicMerchant(TypedDict):
    """What everybody who is logged in may know of a merchant."""

    username: str
    name: str


class RecipientAccountId(TypedDict):
    """One way to say it."""

    accountId: str


class RecipientUsername(TypedDict):
    """One way to say it."""

    username: str


Recipient: TypeAlias = RecipientAccountId | RecipientUsername


class Refusal(TypedDict):
    """A refusal, with its own values beside these members."""

    code: str
    message: str
    retryable: bool


class RegisterMerchant(TypedDict):
    """What a merchant begins with."""

    name: str
    webhookUrl: NotRequired[str | None]


class ReplayEvents(TypedDict):
    """From where to tell events again."""

    accountId: str
    fromSequence: str | int


class Reverse(TypedDict):
    """How much of a received transfer to send back."""

    minorUnits: NotRequired[str | int | None]
    reference: NotRequired[str]


class Session(TypedDict):
    """A log-in that has not ended. Its id is no credential: it only names the session."""

    id: str
    kind: Literal["COOKIE", "BEARER"]
    createdAt: str
    lastSeenAt: str
    expiresAt: str
    address: str | None
    userAgent: str | None
    current: bool


class Sessions(TypedDict):
    """A page of your sessions."""

    sessions: list[Session]
    next: str | None


class SetSpendingLimits(TypedDict):
    """All of your own limits in a currency, in its minor unit. Null or absent: none of your own."""

    currency: str
    payment: NotRequired[str | int | None]
    day: NotRequired[str | int | None]
    newPayee: NotRequired[str | int | None]


class SignUp(TypedDict):
    """Who wants to join."""

    username: str
    email: str
    password: str
    session: NotRequired[Literal["COOKIE", "BEARER", "NONE"]]


class SpendingLimits(TypedDict):
    """What you may spend in a currency."""

    currency: str
    limits: Limits
    own: Limits
    raised: Limits | None
    raisedAt: str | None
    spent: Money
    remaining: Money | None
    dayEndsAt: str


class Statement(TypedDict):
    """An account over a span of time: `opening` and all entries together make `closing`."""

    entries: list[Entry]
    next: str | None
    since: str
    until: str
    opening: Money
    closing: Money


class Summary(TypedDict):
    """What an account received and spent in a span of time."""

    complete: bool
    groups: list[SummaryGroup]


class SummaryGroup(TypedDict):
    """Some entries of an account, added up."""

    count: int
    received: Money
    spent: Money
    month: str | None
    kind: Literal["TRANSFER", "DEPOSIT", "WITHDRAWAL", "CAPTURE", "REVERSAL", "PAYMENT", "SPLIT"] | None
    category: str | None
    counterparty: Party | None


class TopUp(TypedDict):
    """Money on its way in. Only `SUCCEEDED` means that the account has it."""

    id: str
    state: Literal["CREATED", "AWAITING_PAYMENT", "SUCCEEDED", "CANCELED", "FAILED", "QUARANTINED"]
    amount: Money
    accountId: str
    transferId: str | None
    takenBack: Money
    failure: str | None
    createdAt: str
    version: str


class TopUpAnswer(TypedDict):
    """The top-up as it is now, and what it is paid with."""

    topUp: TopUp
    clientSecret: str | None
    replayed: bool


class TopUps(TypedDict):
    """A page of your top-ups."""

    topUps: list[TopUp]
    next: str | None


class Transfer(TypedDict):
    """One movement of money, as one of its two parties sees it. Only what you note about it changes."""

    id: str
    kind: Literal["TRANSFER", "DEPOSIT", "WITHDRAWAL", "CAPTURE", "REVERSAL", "PAYMENT", "SPLIT"]
    direction: Literal["IN", "OUT"]
    accountId: str
    counterparty: Party | None
    amount: Money
    fee: Money
    reference: str
    createdAt: str
    reversesId: str | None
    holdId: str | None
    category: str | None
    metadata: dict[str, str] | None


class TransferBatch(TypedDict):
    """Several payments, each under an idempotency key of its own."""

    mode: Literal["ATOMIC", "INDEPENDENT"]
    items: list[BatchPayment]


class UpdateMerchant(TypedDict):
    """What to change; what is left out stays."""

    name: NotRequired[str | None]
    webhookUrl: NotRequired[str | None]
    webhook: NotRequired[bool | None]


class User(TypedDict):
    """You."""

    id: str
    username: str
    email: str
    createdAt: str
    version: str


class ViewerEvent(TypedDict):
    """What has changed since the event before. Replace what you have of the same id."""

    cursor: str
    snapshot: bool
    accounts: list[Account]
    entries: list[Entry]
    holds: list[Hold]
    topUps: list[TopUp]
    withdrawals: list[Withdrawal]


class Withdraw(TypedDict):
    """Money to take out, to your bank."""

    fromAccountId: str
    amount: GivenMoney
    reference: NotRequired[str]


class Withdrawal(TypedDict):
    """Money on its way out. Until it is `PAID` or `FAILED` it is held."""

    id: str
    state: Literal["REQUESTED", "SENT", "IN_TRANSIT", "PAID", "UNDOING", "FAILED", "RETURNING", "RETURNED"]
    amount: Money
    accountId: str
    holdId: str
    transferId: str | None
    failure: str | None
    createdAt: str
    version: str


class WithdrawalAnswer(TypedDict):
    """The withdrawal as it is now."""

    withdrawal: Withdrawal
    replayed: bool


class Withdrawals(TypedDict):
    """A page of your withdrawals."""

    withdrawals: list[Withdrawal]
    next: str | None
