"""What the wallet can do: each function makes a call, which a client runs. Written by generate.py. Do not edit."""

from __future__ import annotations

from typing import Literal

from .core import Call, new_key, segment
from .models import (
    Account,
    Accounts,
    AllSpendingLimits,
    AnnotateTransfer,
    BatchAnswer,
    BeginTopUp,
    Begun,
    Capture,
    ChangePassword,
    ClosedAccount,
    Currencies,
    DeadLetters,
    Delivery,
    Ended,
    EndedSessions,
    Entries,
    Events,
    Hold,
    HoldAnswer,
    HoldForMerchant,
    Holds,
    Joined,
    LogIn,
    LogOutEverywhere,
    Merchant,
    MerchantSecret,
    OpenAccount,
    Outcome,
    Payee,
    Payment,
    PaymentAnswer,
    PayMerchant,
    PlaceHold,
    Posted,
    Preview,
    PreviewPayment,
    PublicMerchant,
    RegisterMerchant,
    ReplayEvents,
    Reverse,
    Sessions,
    SetSpendingLimits,
    SignUp,
    SpendingLimits,
    Statement,
    Summary,
    TopUp,
    TopUpAnswer,
    TopUps,
    Transfer,
    TransferBatch,
    UpdateMerchant,
    User,
    Withdraw,
    Withdrawal,
    WithdrawalAnswer,
    Withdrawals,
)


def sign_up(body: SignUp) -> Call[Joined]:
    """Create a user, and log in. If the answer is lost log in; if that is refused, sign up again."""
    return Call("POST", "/v1/user", body=body)


def read_user() -> Call[User]:
    """The user who asks."""
    return Call("GET", "/v1/user", is_safe=True)


def change_password(body: ChangePassword) -> Call[User]:
    """Choose a new password and end all other sessions. Refused with `INVALID_CREDENTIALS` if the old is wrong."""
    return Call("PUT", "/v1/user/password", body=body)


def log_in(body: LogIn) -> Call[Begun]:
    """Start a session: in a cookie for browsers, as a bearer token for other clients. It cannot be replayed."""
    return Call("POST", "/v1/session", body=body)


def list_sessions(
    *,
    order_by: Literal["NEWEST_FIRST", "OLDEST_FIRST"] | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Call[Sessions]:
    """Where you are logged in, newest first."""
    return Call("GET", "/v1/session", query={"orderBy": order_by, "first": first, "after": after}, is_safe=True)


def log_out() -> Call[None]:
    """End the session at once, on every server. Without a session there is nothing to do, and that is no error."""
    return Call("DELETE", "/v1/session", is_safe=True)


def renew_session() -> Call[Begun]:
    """Get a new token for your session; the old one ends at once. A bearer token lasts another 30 days."""
    return Call("POST", "/v1/session/renewal")


def log_out_everywhere(body: LogOutEverywhere) -> Call[EndedSessions]:
    """End all your sessions at once, on every server; `{"keepThis": true}` spares the one of this request."""
    return Call("POST", "/v1/session/end-all", body=body)


def revoke_session(session_id: str) -> Call[Ended]:
    """End one of your sessions at once, on every server. An id that is none of yours is no error."""
    return Call("DELETE", f"/v1/session/{segment(session_id)}", is_safe=True)


def list_events(
    *,
    order_by: Literal["NEWEST_FIRST", "OLDEST_FIRST"] | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Call[Events]:
    """What happened to your access, newest first: log-ins and failed ones, new passwords, ended sessions, freezes."""
    return Call("GET", "/v1/event", query={"orderBy": order_by, "first": first, "after": after}, is_safe=True)


def list_accounts(*, first: int | None = None, after: str | None = None, entries: int | None = None) -> Call[Accounts]:
    """Your accounts, oldest first, each with its balance and its last entries."""
    return Call("GET", "/v1/account", query={"first": first, "after": after, "entries": entries}, is_safe=True)


def open_account(body: OpenAccount) -> Call[Account]:
    """Open an account of yours: one per currency, besides closed ones."""
    return Call("POST", "/v1/account", body=body)


def read_account(account_id: str) -> Call[Account]:
    """One of your accounts."""
    return Call("GET", f"/v1/account/{segment(account_id)}", is_safe=True)


def close_account(account_id: str) -> Call[ClosedAccount]:
    """Close an account of yours for good, at zero and without open holds. It moves no money, so it needs no key.

    If the answer is lost send it again: `ACCOUNT_CLOSED` then says that it is done.
    """
    return Call("POST", f"/v1/account/{segment(account_id)}/close")


def list_history(
    *,
    order_by: Literal["NEWEST_FIRST", "OLDEST_FIRST"] | None = None,
    first: int | None = None,
    kind: tuple[Literal["TRANSFER", "DEPOSIT", "WITHDRAWAL", "CAPTURE", "REVERSAL", "PAYMENT", "SPLIT"], ...] = (),
    counterparty: str | None = None,
    since: str | None = None,
    until: str | None = None,
    min_minor_units: int | None = None,
    max_minor_units: int | None = None,
    reference: str | None = None,
    after: str | None = None,
) -> Call[Entries]:
    """What happened on all your accounts together, newest first."""
    return Call(
        "GET",
        "/v1/entry",
        query={
            "orderBy": order_by,
            "first": first,
            "kind": kind,
            "counterparty": counterparty,
            "since": since,
            "until": until,
            "minMinorUnits": min_minor_units,
            "maxMinorUnits": max_minor_units,
            "reference": reference,
            "after": after,
        },
        is_safe=True,
    )


def list_entries(
    account_id: str,
    *,
    order_by: Literal["NEWEST_FIRST", "OLDEST_FIRST"] | None = None,
    first: int | None = None,
    kind: tuple[Literal["TRANSFER", "DEPOSIT", "WITHDRAWAL", "CAPTURE", "REVERSAL", "PAYMENT", "SPLIT"], ...] = (),
    counterparty: str | None = None,
    since: str | None = None,
    until: str | None = None,
    min_minor_units: int | None = None,
    max_minor_units: int | None = None,
    reference: str | None = None,
    after: int | None = None,
) -> Call[Entries]:
    """What happened on an account, newest first. Entries that arrive while you page shift nothing."""
    return Call(
        "GET",
        f"/v1/account/{segment(account_id)}/entry",
        query={
            "orderBy": order_by,
            "first": first,
            "kind": kind,
            "counterparty": counterparty,
            "since": since,
            "until": until,
            "minMinorUnits": min_minor_units,
            "maxMinorUnits": max_minor_units,
            "reference": reference,
            "after": after,
        },
        is_safe=True,
    )


def read_statement(
    account_id: str,
    *,
    since: str,
    until: str,
    order_by: Literal["NEWEST_FIRST", "OLDEST_FIRST"] | None = None,
    first: int | None = None,
    after: int | None = None,
) -> Call[Statement]:
    """An account over a span of time: what it held before and after, and its entries between, newest first."""
    return Call(
        "GET",
        f"/v1/account/{segment(account_id)}/statement",
        query={"orderBy": order_by, "since": since, "until": until, "first": first, "after": after},
        is_safe=True,
    )


def export_statement(account_id: str, *, since: str, until: str) -> Call[str]:
    """The entries of an account over a span of time as CSV, oldest first, at most 5,000."""
    return Call(
        "GET", f"/v1/account/{segment(account_id)}/statement.csv", query={"since": since, "until": until}, is_safe=True
    )


def read_summary(
    account_id: str, *, since: str, until: str, by: Literal["MONTH", "COUNTERPARTY", "KIND", "CATEGORY"]
) -> Call[Summary]:
    """What an account received and spent in a span of time, in groups: a chart in one request."""
    return Call(
        "GET",
        f"/v1/account/{segment(account_id)}/summary",
        query={"since": since, "until": until, "by": by},
        is_safe=True,
    )


def transfer(body: Payment, *, key: str | None = None) -> Call[Posted]:
    """Pay somebody from one of your accounts."""
    return Call("POST", "/v1/transfer", body=body, key=key or new_key(), is_safe=True)


def find_transfer(*, idempotency_key: str) -> Call[Outcome]:
    """What became of one of your keys. Not finding it proves nothing: the request may still be on its way."""
    return Call("GET", "/v1/transfer", query={"idempotencyKey": idempotency_key}, is_safe=True)


def read_transfer(transfer_id: str) -> Call[Transfer]:
    """A transfer that you paid or received."""
    return Call("GET", f"/v1/transfer/{segment(transfer_id)}", is_safe=True)


def annotate_transfer(transfer_id: str, body: AnnotateTransfer) -> Call[Transfer]:
    """Note something about a transfer that you paid or received. Only you see it; the other side has its own notes.

    The same again changes nothing.
    """
    return Call("PATCH", f"/v1/transfer/{segment(transfer_id)}", body=body)


def reverse_transfer(transfer_id: str, body: Reverse, *, key: str | None = None) -> Call[Posted]:
    """Send a transfer that you received back, all that is left of it or a part."""
    return Call("POST", f"/v1/transfer/{segment(transfer_id)}/reversal", body=body, key=key or new_key(), is_safe=True)


def place_hold(body: PlaceHold, *, key: str | None = None) -> Call[HoldAnswer]:
    """Reserve money of yours for a payee, who captures or voids it."""
    return Call("POST", "/v1/hold", body=body, key=key or new_key(), is_safe=True)


def list_holds(
    *,
    order_by: Literal["NEWEST_FIRST", "OLDEST_FIRST"] | None = None,
    first: int | None = None,
    after: str | None = None,
    direction: Literal["IN", "OUT"] | None = None,
    state: tuple[Literal["OPEN", "CAPTURED", "VOIDED", "EXPIRED"], ...] = (),
) -> Call[Holds]:
    """The holds that you placed, and those that others placed for you, newest first."""
    return Call(
        "GET",
        "/v1/hold",
        query={"orderBy": order_by, "first": first, "after": after, "direction": direction, "state": state},
        is_safe=True,
    )


def read_hold(hold_id: str) -> Call[Hold]:
    """A hold that you placed or may close."""
    return Call("GET", f"/v1/hold/{segment(hold_id)}", is_safe=True)


def capture_hold(hold_id: str, body: Capture, *, key: str | None = None) -> Call[Posted]:
    """Take the money of a hold that names you payee, all of it or a part; the rest is released."""
    return Call("POST", f"/v1/hold/{segment(hold_id)}/capture", body=body, key=key or new_key(), is_safe=True)


def void_hold(hold_id: str, *, key: str | None = None) -> Call[HoldAnswer]:
    """Give the money of a hold that names you payee back to its payer."""
    return Call("POST", f"/v1/hold/{segment(hold_id)}/void", key=key or new_key(), is_safe=True)


def currencies() -> Call[Currencies]:
    """All currencies that an account may hold, by code. Needs no session."""
    return Call("GET", "/v1/currency", is_safe=True)


def payee(*, username: str) -> Call[Payee]:
    """Whom a payment to this name would pay, and in which currencies."""
    return Call("GET", "/v1/payee", query={"username": username}, is_safe=True)


def preview(body: PreviewPayment) -> Call[Preview]:
    """What a payment would do if it were sent now: the fee, what remains, or why it would be refused."""
    return Call("POST", "/v1/preview", body=body, is_safe=True)


def transfer_batch(body: TransferBatch) -> Call[BatchAnswer]:
    """Pay several people. Safe to repeat with the same keys, which are in the body: the header is not used.

    A payment whose key was used before counts as what it was. To the rate limits each one is a payment.
    """
    return Call("POST", "/v1/transfer/batch", body=body, is_safe=True)


def begin_top_up(body: BeginTopUp, *, key: str | None = None) -> Call[TopUpAnswer]:
    """Begin to bring money in. The account gets it when the payment provider says that it was paid, not before."""
    return Call("POST", "/v1/top-up", body=body, key=key or new_key(), is_safe=True)


def list_top_ups(
    *,
    order_by: Literal["NEWEST_FIRST", "OLDEST_FIRST"] | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Call[TopUps]:
    """Your top-ups, newest first."""
    return Call("GET", "/v1/top-up", query={"orderBy": order_by, "first": first, "after": after}, is_safe=True)


def read_top_up(top_up_id: str) -> Call[TopUp]:
    """One of your top-ups."""
    return Call("GET", f"/v1/top-up/{segment(top_up_id)}", is_safe=True)


def withdraw(body: Withdraw, *, key: str | None = None) -> Call[WithdrawalAnswer]:
    """Take money out, to your bank. It is held at once, and leaves when the bank has it, some days later.

    The password must have been given in the last 15 minutes.
    """
    return Call("POST", "/v1/withdrawal", body=body, key=key or new_key(), is_safe=True)


def list_withdrawals(
    *,
    order_by: Literal["NEWEST_FIRST", "OLDEST_FIRST"] | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Call[Withdrawals]:
    """Your withdrawals, newest first."""
    return Call("GET", "/v1/withdrawal", query={"orderBy": order_by, "first": first, "after": after}, is_safe=True)


def read_withdrawal(withdrawal_id: str) -> Call[Withdrawal]:
    """One of your withdrawals."""
    return Call("GET", f"/v1/withdrawal/{segment(withdrawal_id)}", is_safe=True)


def register_merchant(body: RegisterMerchant) -> Call[MerchantSecret]:
    """Become a merchant, once. If the answer is lost make a new secret."""
    return Call("POST", "/v1/merchant", body=body)


def read_merchant() -> Call[Merchant]:
    """You as merchant, and how far your webhook has been told."""
    return Call("GET", "/v1/merchant", is_safe=True)


def update_merchant(body: UpdateMerchant) -> Call[Merchant]:
    """Change your name or webhook. Events that waited meanwhile are told now."""
    return Call("PATCH", "/v1/merchant", body=body)


def rotate_webhook_secret() -> Call[MerchantSecret]:
    """Make a new webhook secret. For 24 hours events are signed by both."""
    return Call("POST", "/v1/merchant/secret")


def replay_events(body: ReplayEvents) -> Call[Delivery]:
    """Tell the events of an account again, from an entry on. They have the same ids as before."""
    return Call("POST", "/v1/merchant/replay", body=body)


def list_dead_letters(
    *,
    order_by: Literal["NEWEST_FIRST", "OLDEST_FIRST"] | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Call[DeadLetters]:
    """Events that were given up, account by account, newest first."""
    return Call(
        "GET", "/v1/merchant/dead-letter", query={"orderBy": order_by, "first": first, "after": after}, is_safe=True
    )


def find_merchant(*, username: str) -> Call[PublicMerchant]:
    """What everybody may know of a merchant."""
    return Call("GET", "/v1/merchant/public", query={"username": username}, is_safe=True)


def pay_merchant(body: PayMerchant, *, key: str | None = None) -> Call[PaymentAnswer]:
    """Pay a merchant; with splits all payees are paid in one commit, or none."""
    return Call("POST", "/v1/payment", body=body, key=key or new_key(), is_safe=True)


def hold_for_merchant(body: HoldForMerchant, *, key: str | None = None) -> Call[HoldAnswer]:
    """Reserve money for a merchant, who captures all or a part of it, with the fee that is in force now."""
    return Call("POST", "/v1/payment/hold", body=body, key=key or new_key(), is_safe=True)


def refund_payment(transfer_id: str, body: Reverse, *, key: str | None = None) -> Call[Posted]:
    """Refund a payment that you received, all that is left of it or a part; refunds add up to at most its total."""
    return Call("POST", f"/v1/payment/{segment(transfer_id)}/refund", body=body, key=key or new_key(), is_safe=True)


def list_spending_limits() -> Call[AllSpendingLimits]:
    """What you may spend, in each currency that has limits, by currency."""
    return Call("GET", "/v1/spending-limit", is_safe=True)


def set_spending_limits(body: SetSpendingLimits) -> Call[SpendingLimits]:
    """Set your own limits: what is lower holds at once, what is higher after 24 hours.

    All three are set: one that is left out is lifted after 24 hours. A raise that still waits is dropped. Refused with
    `FRESH_LOG_IN_REQUIRED` unless the password was given in the last 15 minutes. The same again changes nothing.
    """
    return Call("PUT", "/v1/spending-limit", body=body)
