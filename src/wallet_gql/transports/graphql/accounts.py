"""Users and their accounts."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Annotated

import strawberry

from ...domain import model
from ...domain.errors import AccountNotFound
from ...domain.errors import WalletError as DomainError
from ...domain.ids import AccountId, UserId
from ...domain.users import User as DomainUser
from ...verbs.history import EVERYTHING, balance_at
from ...verbs.parties import Direction, PartyKind, payee_called
from ...verbs.reading import open_holds
from ...verbs.summary import SummaryBy
from ..catalogue.lists import ListOrder
from .context import Context, Info
from .describe import about, argument, made_at, object_type, read_at
from .filters import HistoryFilterInput, filter_of
from .history import Entry, filtered_page_of, page_of, page_of_all
from .holds import Hold, listed_holds
from .merchants import Merchant, own_merchant
from .pages import After, Before, Connection, First, Last, OrderBy, asked, check_first
from .payments import TopUp, Withdrawal, top_ups_of, withdrawals_of
from .scalars import BigInt, CurrencyCode
from .security_events import SecurityEvent, events_of
from .sessions import Session, sessions_of
from .spending import SpendingLimits, spending_limits_of
from .statements import Statement, statement_of
from .summaries import Summary, summary_of
from .types import Money, Node, Versioned

log = logging.getLogger(__name__)


def _money(amount: str) -> dict[str, str]:
    """Where the parts of one of an account's amounts stand."""
    return {"minor_units": f"account.{amount}", "currency": "account.currency"}


@object_type
class Account(Node, Versioned):
    """Holds one currency for one user."""

    currency: CurrencyCode = read_at("account.currency", "The currency it holds.")
    state: model.AccountStatus = read_at("account.status", "What it may still do.")
    posted: Money = made_at(Money, "The balance: all entries together.", _money("posted_minor"))
    held: Money = made_at(Money, "The part of `posted` that is reserved for payees.", _money("held_minor"))
    available: Money = made_at(Money, "What can be spent now: `posted` less `held`.", _money("available_minor"))
    sequence: BigInt = read_at(
        "account.sequence",
        "Its newest entry; 0 if none. `posted` may already have credits whose entries follow within about a second. "
        "`accountEvents` goes on from here.",
    )
    created_at: datetime = read_at("account.created_at", "When it was opened, UTC.")
    account: strawberry.Private[model.Account]

    @strawberry.field
    def version(self) -> BigInt:
        """Grows with every change: entries, holds, `state`. Keep the answer with the greater one."""
        return BigInt(self.account.version)

    @strawberry.field
    async def history(
        self,
        info: Info,
        *,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        order_by: OrderBy = ListOrder.NEWEST_FIRST,
        where: Annotated[
            HistoryFilterInput | None, argument("Which entries to keep; all if absent.", name="filter")
        ] = None,
    ) -> Connection[Entry]:
        """What happened on the account, newest first.

        One page of a filtered history looks at 2,000 entries at most. So it may have fewer edges than `first`, even
        none, while `pageInfo.hasNextPage` is true: go on with `pageInfo.endCursor` until it is false.
        It is the same with `last`, `hasPreviousPage` and `startCursor`.
        """
        page = asked(first, after, last, before, order_by)
        if where is None:
            return await page_of(info.context.ledger, self.account, page)
        return await filtered_page_of(info.context.ledger, self.account, page, await filter_of(info.context, where))

    @strawberry.field
    async def balance_at(
        self, info: Info, at: Annotated[datetime, argument("The moment; in the future it is as of now.")]
    ) -> Money:
        """What `posted` was at a moment, with all entries of that very moment; zero before the first."""
        return Money.of(await balance_at(info.context.ledger.store, self.account, at), self.account.currency)

    @strawberry.field
    async def statement(
        self,
        info: Info,
        since: Annotated[datetime, argument("Where the span begins, inclusive.")],
        until: Annotated[datetime, argument("Where it ends, exclusive.")],
    ) -> Statement:
        """The account over a span of time: what it held before and after, and every entry between."""
        return await statement_of(info, self.account, since, until)

    @strawberry.field
    async def summary(
        self,
        info: Info,
        since: Annotated[datetime, argument("Where the span begins, inclusive.")],
        until: Annotated[datetime, argument("Where it ends, exclusive.")],
        by: Annotated[SummaryBy, argument("What to group the entries by.")],
    ) -> Summary:
        """What the account received and spent in a span of time, in groups: a chart in one field."""
        return await summary_of(info, self.account, since, until, by)

    @strawberry.field
    async def open_holds(
        self, info: Info, first: Annotated[int, argument("How many holds at most: 1 to 100.")]
    ) -> list[Hold]:
        """The newest open holds on the account. All of them together make `held`."""
        check_first(first)
        now = info.context.ledger.clock()
        found = await open_holds(info.context.wallet.store, self.account, now)
        return [Hold.of(hold, self.account.owner, now) for hold in found[:first]]

    @classmethod
    def of(cls, account: model.Account) -> Account:
        """An account as its owner sees it."""
        return cls(id=strawberry.ID(account.id), account=account)

    @classmethod
    async def find(cls, context: Context, user_id: UserId, account_id: str) -> Account | None:
        """One of the user's accounts. Raises Unavailable."""
        try:
            return cls.of(await context.ledger.account(user_id, AccountId(account_id)))
        except AccountNotFound:
            return None


@object_type
class User(Node, Versioned):
    """Somebody who signed up. Only the user sees this."""

    username: str = about("Others pay the user under this name.")
    email: str = about("The address the user logs in with; never shown to others.")
    created_at: datetime = about("When the user signed up, UTC.")
    user: strawberry.Private[DomainUser]

    @strawberry.field
    def version(self) -> BigInt:
        """Grows with every change of the user, also of the password. Keep the answer with the greater one."""
        return BigInt(self.user.version)

    @strawberry.field
    async def accounts(self, info: Info) -> list[Account]:
        """The user's accounts, oldest first: closed ones, too; one in use for each currency."""
        found = await info.context.ledger.accounts(UserId(self.id))
        await info.context.count_list("User.accounts", len(found))
        return [Account.of(account) for account in found]

    @strawberry.field
    async def spending_limits(self, info: Info) -> list[SpendingLimits]:
        """What the user may spend, in each currency that has limits, by currency."""
        return await spending_limits_of(info, UserId(self.id))

    @strawberry.field
    async def history(
        self,
        info: Info,
        *,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        order_by: OrderBy = ListOrder.NEWEST_FIRST,
        where: Annotated[
            HistoryFilterInput | None, argument("Which entries to keep; all if absent.", name="filter")
        ] = None,
    ) -> Connection[Entry]:
        """What happened on all accounts together, newest first; pages of a filter may be short, as an account's are."""
        page = asked(first, after, last, before, order_by)
        kept = EVERYTHING if where is None else await filter_of(info.context, where)
        return await page_of_all(info.context.ledger, UserId(self.id), page, kept)

    @strawberry.field
    async def holds(
        self,
        info: Info,
        *,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        order_by: OrderBy = ListOrder.NEWEST_FIRST,
        direction: Annotated[Direction | None, argument("`IN` for those that you may capture; both if absent.")] = None,
        states: Annotated[list[model.HoldState] | None, argument("In any of these; in all if absent.")] = None,
    ) -> Connection[Hold]:
        """The holds that the user placed, and those that others placed for the user, newest first.

        With `states` a page may be short, as that of a filtered history.
        """
        page = asked(first, after, last, before, order_by)
        return await listed_holds(info.context, UserId(self.id), page, direction, states)

    @strawberry.field
    async def sessions(
        self,
        info: Info,
        *,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        order_by: OrderBy = ListOrder.NEWEST_FIRST,
    ) -> Connection[Session]:
        """Where the user is logged in, newest first; `revokeSession` ends one."""
        return await sessions_of(info, UserId(self.id), asked(first, after, last, before, order_by))

    @strawberry.field
    async def security_events(
        self,
        info: Info,
        *,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        order_by: OrderBy = ListOrder.NEWEST_FIRST,
    ) -> Connection[SecurityEvent]:
        """What happened to the user's access, newest first: log-ins and failed ones, new passwords, ended sessions.

        Events are kept for 180 days.
        """
        return await events_of(info, UserId(self.id), asked(first, after, last, before, order_by))

    @strawberry.field
    async def top_ups(
        self,
        info: Info,
        *,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        order_by: OrderBy = ListOrder.NEWEST_FIRST,
    ) -> Connection[TopUp]:
        """The money that the user brought in, or began to, newest first."""
        return await top_ups_of(info.context, UserId(self.id), asked(first, after, last, before, order_by))

    @strawberry.field
    async def withdrawals(
        self,
        info: Info,
        *,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        order_by: OrderBy = ListOrder.NEWEST_FIRST,
    ) -> Connection[Withdrawal]:
        """The money that the user took out, or began to, newest first."""
        return await withdrawals_of(info.context, UserId(self.id), asked(first, after, last, before, order_by))

    @strawberry.field
    async def merchant(self, info: Info) -> Merchant | None:
        """The user as merchant, with how far the webhook has been told; null if the user is none."""
        return await own_merchant(info, UserId(self.id))

    @classmethod
    def of(cls, user: DomainUser) -> User:
        """A user as the user."""
        own = strawberry.ID(user.id)
        return cls(id=own, username=user.username, email=user.email, created_at=user.created_at, user=user)


@object_type
class Payee:
    """Whom a name stands for, to be shown before paying."""

    kind: PartyKind = about("What it is. Show it beside `name`.")
    name: str = about("What to show: a merchant's name, or the username.")
    username: str = about("Pay under this name.")
    currencies: list[CurrencyCode] = about("The currencies that can be paid to it now, sorted.")

    @classmethod
    async def find(cls, context: Context, username: str) -> Payee | None:
        """The payee of a name; None if there is none. Raises RateLimited, Unavailable."""
        called = await payee_called(context.wallet.store, username)
        if called is None:
            return None
        party, currencies = called
        codes = [CurrencyCode(code) for code in currencies]
        return cls(kind=party.kind, name=party.name, username=party.username or "", currencies=codes)


@object_type
class PublicUser:
    """What everybody who is logged in may know of a user: enough to pay the right one."""

    id: strawberry.ID = about("Opaque and permanent.")
    username: str = about("Others pay the user under this name.")
    created_at: datetime = about("When the user signed up, UTC.")

    @classmethod
    def of(cls, user: DomainUser) -> PublicUser:
        """A user as others see it."""
        return cls(id=strawberry.ID(user.id), username=user.username, created_at=user.created_at)


async def own_account(info: Info, user_id: UserId, account_id: AccountId) -> Account | None:
    """An account as it is after a command; None if it cannot be read: the command stands all the same."""
    try:
        return Account.of(await info.context.ledger.account(user_id, account_id))
    except DomainError as error:
        log.warning("account %s could not be read after a command: %s", account_id, error)
        return None
