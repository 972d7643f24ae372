"""Merchants: what everybody sees of them, and what they see of themselves and of their events."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry

from ...domain.ids import AccountId, UserId
from ...domain.merchants import Delivery
from ...domain.merchants import Merchant as DomainMerchant
from ...integrations.webhooks.dead_letters import DeadLetter as DomainLetter
from ...integrations.webhooks.dead_letters import is_letter_id
from ..catalogue.lists import ListOrder
from .context import Info
from .describe import about, object_type
from .later import ACCOUNT, found, later
from .pages import After, Before, Connection, Edge, First, Last, OrderBy, asked, connection
from .scalars import BigInt
from .transfers import Transfer
from .types import PublicMerchant


@object_type
class EventPosition:
    """How far the merchant has been told of an account."""

    sequence: BigInt = about("The last entry that was told; zero if none was.")
    account_id: strawberry.Private[AccountId]
    merchant_id: strawberry.Private[UserId]

    @later(ACCOUNT)
    async def account(self, info: Info) -> Any:
        """The merchant's account."""
        return await found(ACCOUNT).find(info.context, self.merchant_id, self.account_id)


@object_type
class DeadLetter:
    """An event that was given up. `replayEvents` from its sequence tells it again."""

    sequence: BigInt = about("The entry that was not told.")
    id: strawberry.ID = about("The event's `webhook-id`.")
    error: str = about("What went wrong the last time.")
    created_at: datetime = about("When it was given up, UTC.")
    letter: strawberry.Private[DomainLetter]
    merchant_id: strawberry.Private[UserId]

    @later(ACCOUNT)
    async def account(self, info: Info) -> Any:
        """The merchant's account."""
        return await found(ACCOUNT).find(info.context, self.merchant_id, self.letter.account_id)

    @strawberry.field
    async def transfer(self, info: Info) -> Transfer | None:
        """The entry's transfer."""
        return await Transfer.find(info.context, self.merchant_id, self.letter.transfer_id)

    @classmethod
    def of(cls, letter: DomainLetter, merchant_id: UserId) -> DeadLetter:
        """As the merchant sees it."""
        return cls(
            sequence=BigInt(letter.sequence),
            id=strawberry.ID(letter.event_id),
            error=letter.error,
            created_at=letter.at,
            letter=letter,
            merchant_id=merchant_id,
        )


@object_type
class EventDelivery:
    """How the merchant's webhook fares."""

    failures: int = about("How often the next event has failed in a row.")
    last_error: str | None = about("What went wrong the last time; null if it arrived since.")
    next_attempt_at: datetime | None = about("When the webhook is looked at next, UTC; null while it is off.")
    dead_letter_count: int = about("How many events were given up and not replayed.")
    delivery: strawberry.Private[Delivery]

    @strawberry.field
    async def positions(self, info: Info) -> list[EventPosition]:
        """How far each account has been told; an account that is absent, not at all."""
        told = sorted(self.delivery.positions.items())
        await info.context.count_list("EventDelivery.positions", len(told))
        merchant_id = self.delivery.merchant_id
        return [EventPosition(account_id=one, sequence=BigInt(last), merchant_id=merchant_id) for one, last in told]

    @strawberry.field
    async def dead_letters(
        self,
        info: Info,
        *,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        order_by: OrderBy = ListOrder.NEWEST_FIRST,
    ) -> Connection[DeadLetter]:
        """Events that were given up, account by account, newest first."""
        page, merchant_id = asked(first, after, last, before, order_by).checked(is_letter_id), self.delivery.merchant_id
        found = await info.context.wallet.webhooks.dead_letters(
            merchant_id, after=page.cursor or "", limit=page.size, backward=page.is_backward
        )
        edges = [Edge(place=letter.id, node=DeadLetter.of(letter, merchant_id)) for letter in found.items]
        return connection(edges, page, has_more=found.has_more, total=self.delivery.dead)

    @classmethod
    def of(cls, delivery: Delivery) -> EventDelivery:
        """As the merchant sees it."""
        return cls(
            failures=delivery.attempts,
            last_error=delivery.last_error or None,
            next_attempt_at=delivery.due_at,
            dead_letter_count=delivery.dead,
            delivery=delivery,
        )


@object_type
class Merchant:
    """A user who takes payments. Only the merchant sees this."""

    name: str = about("The name that payers see.")
    fee_basis_points: int = about("What the wallet keeps of each payment, in 1/10,000; rounded down.")
    webhook_url: str | None = about("Where events go; null: nowhere.")
    created_at: datetime = about("When the user became a merchant, UTC.")
    merchant_id: strawberry.Private[UserId]

    @strawberry.field
    async def delivery(self, info: Info) -> EventDelivery | None:
        """How far the merchant has been told of its entries."""
        delivery = await info.context.wallet.webhooks.delivery(self.merchant_id)
        return EventDelivery.of(delivery) if delivery else None

    @classmethod
    def of(cls, merchant: DomainMerchant) -> Merchant:
        """As the merchant."""
        return cls(
            name=merchant.name,
            fee_basis_points=merchant.fee_basis_points,
            webhook_url=merchant.webhook_url,
            created_at=merchant.created_at,
            merchant_id=merchant.id,
        )


async def own_merchant(info: Info, user_id: UserId) -> Merchant | None:
    """The user as merchant; None if the user is none."""
    merchant = await info.context.wallet.merchants.merchant(user_id)
    return Merchant.of(merchant) if merchant else None


async def find_merchant(info: Info, username: str) -> PublicMerchant | None:
    """A merchant by name; None if there is none."""
    merchant = await info.context.wallet.merchants.find(username)
    return PublicMerchant(username=username.lower(), name=merchant.name) if merchant else None
