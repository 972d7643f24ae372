"""Users and their accounts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import strawberry

from ...domain import model
from ...domain.ids import UserId
from ...domain.users import User as DomainUser
from .context import Info
from .describe import about, argument, object_type
from .history import EntryConnection, page_of
from .scalars import CurrencyCode
from .types import Money, Node


@object_type
class Account(Node):
    """Holds one currency for one user."""

    currency: CurrencyCode = about("The currency it holds.")
    status: model.AccountStatus = about("What it may still do.")
    posted: Money = about("The balance: all entries together.")
    held: Money = about("The part of `posted` that is reserved for payees.")
    available: Money = about("What can be spent now: `posted` less `held`.")
    created_at: datetime = about("When it was opened, UTC.")
    account: strawberry.Private[model.Account]

    @strawberry.field
    async def history(
        self,
        info: Info,
        first: Annotated[int, argument("How many entries at most: 1 to 100.")],
        after: Annotated[str | None, argument("Only entries older than the one with this cursor.")] = strawberry.UNSET,
    ) -> EntryConnection:
        """What happened on the account, newest first."""
        behind = None if after is strawberry.UNSET else after
        return await page_of(info.context.ledger, self.account, first, behind)

    @classmethod
    def of(cls, account: model.Account) -> Account:
        """An account as its owner sees it."""
        return cls(
            id=strawberry.ID(account.id),
            currency=CurrencyCode(account.currency),
            status=account.status,
            posted=Money.of(account.posted_minor, account.currency),
            held=Money.of(account.held_minor, account.currency),
            available=Money.of(account.available_minor, account.currency),
            created_at=account.created_at,
            account=account,
        )


@object_type
class User(Node):
    """Somebody who signed up. Only the user sees this."""

    username: str = about("Others pay the user under this name.")
    email: str = about("The address the user logs in with; never shown to others.")
    created_at: datetime = about("When the user signed up, UTC.")

    @strawberry.field
    async def accounts(self, info: Info) -> list[Account]:
        """The user's accounts, oldest first; at most one per currency."""
        return [Account.of(account) for account in await info.context.ledger.accounts(UserId(self.id))]

    @classmethod
    def of(cls, user: DomainUser) -> User:
        """A user as the user."""
        return cls(id=strawberry.ID(user.id), username=user.username, email=user.email, created_at=user.created_at)
