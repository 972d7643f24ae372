"""REST for money in and out: `/v1/top-up` and `/v1/withdrawal`."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Final

from pydantic import Field

from ...domain import topups, withdrawals
from ...domain.ids import AccountId
from ...domain.topups import TopUpState
from ...domain.withdrawals import WithdrawalState
from ...storage import PAGE_MAX
from .routing import REPLAYED, Call, Operation, Reply
from .values import (
    BY_NAME,
    AccountIdText,
    Count,
    Given,
    GivenMoney,
    Money,
    Ordered,
    Reference,
    Told,
    TopUpIdText,
    Version,
    WithdrawalIdText,
)

# What comes in


class BeginTopUp(Given):
    """Money to bring in."""

    to_account_id: AccountIdText = Field(description="Your account that gets it.")
    amount: GivenMoney = Field(description="How much.")


class Withdraw(Given):
    """Money to take out, to your bank."""

    from_account_id: AccountIdText = Field(description="Your account that it leaves.")
    amount: GivenMoney = Field(description="How much.")
    reference: Reference = ""


class PageQuery(Ordered):
    """How long a page is."""

    first: Annotated[Count, Field(ge=1, le=PAGE_MAX)] = Field(20, description="How many at most.")


class TopUpsQuery(PageQuery):
    """Which page of top-ups."""

    after: TopUpIdText | None = Field(None, description="Only those behind this one: `next` of the page before.")


class WithdrawalsQuery(PageQuery):
    """Which page of withdrawals."""

    after: WithdrawalIdText | None = Field(None, description="Only those behind this one: `next` of the page before.")


# What goes out


class TopUp(Told):
    """Money on its way in. Only `SUCCEEDED` means that the account has it."""

    id: str
    state: Annotated[TopUpState, BY_NAME]
    amount: Money = Field(description="How much was asked for.")
    account_id: str = Field(description="The account that gets it.")
    transfer_id: str | None = Field(description="The transfer that brought it, once it has succeeded.")
    taken_back: Money = Field(description="What refunds and disputes took back of it and have not given up again.")
    failure: str | None = Field(description="Why the provider did not take it, in the provider's words.")
    created_at: datetime
    version: Version


class TopUpAnswer(Told):
    """The top-up as it is now, and what it is paid with."""

    top_up: TopUp
    client_secret: str | None = Field(
        description="What the provider's library in the browser pays it with; null if there is nothing to pay, or the "
        "provider does not answer now. Keep it out of logs, URLs and storage."
    )
    replayed: bool = Field(description="Whether the key was used before: then nothing was done now.")


class TopUps(Told):
    """A page of your top-ups."""

    top_ups: list[TopUp]
    next: str | None = Field(description="Pass it as `after` to go on; null at the end.")


class Withdrawal(Told):
    """Money on its way out. Until it is `PAID` or `FAILED` it is held."""

    id: str
    state: Annotated[WithdrawalState, BY_NAME]
    amount: Money
    account_id: str = Field(description="The account that it leaves.")
    hold_id: str = Field(description="The hold that keeps the money until it has left.")
    transfer_id: str | None = Field(description="The transfer by which it left, once it was paid.")
    failure: str | None = Field(description="Why it did not work, in the provider's words.")
    created_at: datetime
    version: Version


class WithdrawalAnswer(Told):
    """The withdrawal as it is now."""

    withdrawal: Withdrawal
    replayed: bool = Field(description="Whether the key was used before: then nothing was done now.")


class Withdrawals(Told):
    """A page of your withdrawals."""

    withdrawals: list[Withdrawal]
    next: str | None = Field(description="Pass it as `after` to go on; null at the end.")


async def begin_top_up(call: Call, given: BeginTopUp) -> Reply:
    """Begin to bring money in. The account gets it when the payment provider says that it was paid, not before."""
    user_id, amount = await call.user_id(), given.amount
    top_ups = call.wallet.payments.top_ups
    account_id = AccountId(given.to_account_id)
    started = await top_ups.request(user_id, await call.key(), account_id, amount.minor_units, amount.currency)
    body = TopUpAnswer(
        top_up=top_up_view(started.top_up), client_secret=started.client_secret, replayed=started.replayed
    )
    return _keyed(body, f"/v1/top-up/{started.top_up.id}", replayed=started.replayed)


async def read_top_up(call: Call, _: None) -> Reply:
    """One of your top-ups."""
    return Reply(top_up_view(await call.wallet.payments.top_ups.get(await call.user_id(), call.path("top_up_id"))))


async def list_top_ups(call: Call, given: TopUpsQuery) -> Reply:
    """Your top-ups, newest first."""
    found, user_id = call.wallet.payments.top_ups, await call.user_id()
    page = await found.list(user_id, after=given.after or "", limit=given.first, backward=given.backward)
    body = [top_up_view(one) for one in given.turned(page.items)]
    return Reply(TopUps(top_ups=body, next=body[-1].id if page.has_more else None))


async def withdraw(call: Call, given: Withdraw) -> Reply:
    """Take money out, to your bank. It is held at once, and leaves when the bank has it, some days later.

    The password must have been given in the last 15 minutes.
    """
    session = await call.caller.fresh_session()
    asked = await call.wallet.payments.withdrawals.request(
        session.user_id,
        await call.key(),
        AccountId(given.from_account_id),
        given.amount.minor_units,
        given.amount.currency,
        reference=given.reference,
    )
    body = WithdrawalAnswer(withdrawal=withdrawal_view(asked.withdrawal), replayed=asked.replayed)
    return _keyed(body, f"/v1/withdrawal/{asked.withdrawal.id}", replayed=asked.replayed)


async def read_withdrawal(call: Call, _: None) -> Reply:
    """One of your withdrawals."""
    found = await call.wallet.payments.withdrawals.get(await call.user_id(), call.path("withdrawal_id"))
    return Reply(withdrawal_view(found))


async def list_withdrawals(call: Call, given: WithdrawalsQuery) -> Reply:
    """Your withdrawals, newest first."""
    found, user_id = call.wallet.payments.withdrawals, await call.user_id()
    page = await found.list(user_id, after=given.after or "", limit=given.first, backward=given.backward)
    body = [withdrawal_view(one) for one in given.turned(page.items)]
    return Reply(Withdrawals(withdrawals=body, next=body[-1].id if page.has_more else None))


def top_up_view(one: topups.TopUp) -> TopUp:
    """A top-up, as its user sees it."""
    return TopUp(
        id=one.id,
        state=one.state,
        amount=Money.of(one.amount_minor, one.currency),
        account_id=one.account_id,
        transfer_id=one.transfer_id,
        taken_back=Money.of(one.taken_back_minor, one.currency),
        failure=one.reason if one.state is TopUpState.FAILED else None,
        created_at=one.created_at,
        version=str(one.version),
    )


def withdrawal_view(one: withdrawals.Withdrawal) -> Withdrawal:
    """A withdrawal, as its user sees it."""
    return Withdrawal(
        id=one.id,
        state=one.state,
        amount=Money.of(one.amount_minor, one.currency),
        account_id=one.account_id,
        hold_id=one.hold_id,
        transfer_id=one.transfer_id,
        failure=one.reason or None,
        created_at=one.created_at,
        version=str(one.version),
    )


def _keyed(body: Told, location: str, *, replayed: bool) -> Reply:
    headers = {"Location": location}
    if replayed:
        return Reply(body, HTTPStatus.OK, {**headers, REPLAYED: "true"})
    return Reply(body, HTTPStatus.CREATED, headers)


_CREATED, _OK = HTTPStatus.CREATED, HTTPStatus.OK

OPERATIONS: Final = (
    Operation("POST", "/v1/top-up", begin_top_up, {_CREATED: TopUpAnswer, _OK: TopUpAnswer}, BeginTopUp),
    Operation("GET", "/v1/top-up", list_top_ups, {_OK: TopUps}, query=TopUpsQuery),
    Operation("GET", "/v1/top-up/{top_up_id}", read_top_up, {_OK: TopUp}),
    Operation("POST", "/v1/withdrawal", withdraw, {_CREATED: WithdrawalAnswer, _OK: WithdrawalAnswer}, Withdraw),
    Operation("GET", "/v1/withdrawal", list_withdrawals, {_OK: Withdrawals}, query=WithdrawalsQuery),
    Operation("GET", "/v1/withdrawal/{withdrawal_id}", read_withdrawal, {_OK: Withdrawal}),
)
