"""Money in and out, as its owner sees it: how far it has come, and what to show meanwhile."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import strawberry

from ...domain import topups, withdrawals
from ...domain.errors import TopUpNotFound, WithdrawalNotFound
from ...domain.ids import UserId, is_id
from ..http.record import current
from .context import Context, Info
from .describe import about, enum_type, object_type
from .holds import Hold
from .later import ACCOUNT, found, later
from .pages import Asked, Connection, Edge, connection
from .scalars import BigInt
from .transfers import Transfer
from .types import Money, Node, Versioned

enum_type(
    topups.TopUpState,
    "How far a top-up has come. Only `SUCCEEDED` means that the account has the money, whatever the browser was told.",
    {
        "CREATED": "Noted; the payment provider does not know it yet, or has not answered. Show: preparing.",
        "AWAITING_PAYMENT": "Pay it with `clientSecret`. Having paid, show: on its way.",
        "SUCCEEDED": "The provider has the money, and the account too.",
        "CANCELED": "Nobody has paid it in time, or it was cancelled. Begin another one.",
        "FAILED": "The provider did not take it; `failure` says why. Nothing was paid. Begin another one.",
        "QUARANTINED": "What was paid is not what was asked for: support looks at it. Nothing is lost.",
    },
)

enum_type(
    withdrawals.WithdrawalState,
    "How far a withdrawal has come. Until it is `PAID` or `FAILED` its money is held.",
    {
        "REQUESTED": "The money is held; the provider has not moved anything yet, or has not answered. Show: pending.",
        "SENT": "The provider has it. Show: pending.",
        "IN_TRANSIT": "On its way to the bank; this takes days. Show: on its way.",
        "PAID": "The bank has it. For some days banks may yet give it back.",
        "UNDOING": "It did not work; the money is being fetched back and is held until then. Show: pending.",
        "FAILED": "It did not work; the money is available again. `failure` says why.",
        "RETURNING": "The bank gave it back; it is being fetched. Show: coming back.",
        "RETURNED": "The bank gave it back, and the account has it again.",
    },
)


@object_type
class TopUp(Node, Versioned):
    """Money on its way in."""

    state: topups.TopUpState = about("How far it has come.")
    amount: Money = about("How much was asked for.")
    taken_back: Money = about("What refunds and disputes took back of it, and have not given up again.")
    failure: str | None = about("Why the provider did not take it, in the provider's words.")
    created_at: datetime = about("When it was asked for, UTC.")
    top_up: strawberry.Private[topups.TopUp]

    @strawberry.field
    def version(self) -> BigInt:
        """Grows with every change. Keep the answer with the greater one."""
        return BigInt(self.top_up.version)

    @later(ACCOUNT)
    async def account(self, info: Info) -> Any:
        """The account that gets it."""
        return await found(ACCOUNT).find(info.context, self.top_up.owner, self.top_up.account_id)

    @strawberry.field
    async def transfer(self, info: Info) -> Transfer | None:
        """The transfer that brought it, once it has succeeded."""
        return await Transfer.find(info.context, self.top_up.owner, self.top_up.transfer_id or "")

    @strawberry.field
    async def client_secret(self, info: Info) -> str | None:
        """What the provider's library in the browser pays it with, while it awaits payment; null if it cannot be had.

        Keep it out of logs, URLs and storage.
        """
        current().has_secret = True
        return await info.context.wallet.payments.top_ups.client_secret(self.top_up)

    @classmethod
    def of(cls, top_up: topups.TopUp) -> TopUp:
        """A top-up as its owner sees it."""
        return cls(
            id=strawberry.ID(top_up.id),
            state=top_up.state,
            amount=Money.of(top_up.amount_minor, top_up.currency),
            taken_back=Money.of(top_up.taken_back_minor, top_up.currency),
            failure=top_up.reason if top_up.state is topups.TopUpState.FAILED else None,
            created_at=top_up.created_at,
            top_up=top_up,
        )

    @classmethod
    async def find(cls, context: Context, user_id: UserId, top_up_id: str) -> TopUp | None:
        """One of the user's top-ups. Raises Unavailable."""
        try:
            return cls.of(await context.wallet.payments.top_ups.get(user_id, top_up_id))
        except TopUpNotFound:
            return None


@object_type
class Withdrawal(Node, Versioned):
    """Money on its way out, to the bank account that is known of you."""

    state: withdrawals.WithdrawalState = about("How far it has come.")
    amount: Money = about("How much.")
    failure: str | None = about("Why it did not work, in the provider's words; null unless it failed or came back.")
    created_at: datetime = about("When it was asked for, UTC.")
    withdrawal: strawberry.Private[withdrawals.Withdrawal]

    @strawberry.field
    def version(self) -> BigInt:
        """Grows with every change. Keep the answer with the greater one."""
        return BigInt(self.withdrawal.version)

    @later(ACCOUNT)
    async def account(self, info: Info) -> Any:
        """The account that it leaves."""
        return await found(ACCOUNT).find(info.context, self.withdrawal.owner, self.withdrawal.account_id)

    @strawberry.field
    async def hold(self, info: Info) -> Hold | None:
        """The hold that keeps the money until it has left."""
        return await Hold.find(info.context, self.withdrawal.owner, self.withdrawal.hold_id)

    @strawberry.field
    async def transfer(self, info: Info) -> Transfer | None:
        """The transfer by which it left, once it was paid."""
        return await Transfer.find(info.context, self.withdrawal.owner, self.withdrawal.transfer_id or "")

    @classmethod
    def of(cls, withdrawal: withdrawals.Withdrawal) -> Withdrawal:
        """A withdrawal as its owner sees it."""
        return cls(
            id=strawberry.ID(withdrawal.id),
            state=withdrawal.state,
            amount=Money.of(withdrawal.amount_minor, withdrawal.currency),
            failure=withdrawal.reason or None,
            created_at=withdrawal.created_at,
            withdrawal=withdrawal,
        )

    @classmethod
    async def find(cls, context: Context, user_id: UserId, withdrawal_id: str) -> Withdrawal | None:
        """One of the user's withdrawals. Raises Unavailable."""
        try:
            return cls.of(await context.wallet.payments.withdrawals.get(user_id, withdrawal_id))
        except WithdrawalNotFound:
            return None


async def top_ups_of(context: Context, user_id: UserId, asked: Asked) -> Connection[TopUp]:
    """A page of the user's top-ups, newest first. Raises BadRequest, Unavailable."""
    asked.checked(partial(is_id, "top"))
    flows, after = context.wallet.payments.top_ups, asked.cursor or ""
    page = await flows.list(user_id, after=after, limit=asked.size, backward=asked.is_backward)
    edges = [Edge(place=one.id, node=TopUp.of(one)) for one in page.items]
    return connection(edges, asked, has_more=page.has_more)


async def withdrawals_of(context: Context, user_id: UserId, asked: Asked) -> Connection[Withdrawal]:
    """A page of the user's withdrawals, newest first. Raises BadRequest, Unavailable."""
    asked.checked(partial(is_id, "wdr"))
    flows, after = context.wallet.payments.withdrawals, asked.cursor or ""
    page = await flows.list(user_id, after=after, limit=asked.size, backward=asked.is_backward)
    edges = [Edge(place=one.id, node=Withdrawal.of(one)) for one in page.items]
    return connection(edges, asked, has_more=page.has_more)
