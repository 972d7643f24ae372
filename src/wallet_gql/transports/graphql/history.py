"""The history of one account or of all: keyset pages, newest first, of all entries or those that a filter keeps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import strawberry

from ...domain.ids import UserId
from ...domain.model import Account
from ...storage import HistoryLine, PageRequest
from ...verbs.history import HistoryFilter, page_of_histories, page_of_history
from ...verbs.ledger import Ledger
from .cursors import before_of, place_of
from .describe import object_type
from .pages import Connection, Edge, check_first, connection
from .scalars import BigInt
from .transfers import Transfer
from .types import Money


@object_type
class Entry:
    """One line of an account's history: what a transfer did to this account."""

    line: strawberry.Private[HistoryLine]
    owned: strawberry.Private[Account]

    @strawberry.field
    def sequence(self) -> BigInt:
        """Its place in the account's order: 1, 2, 3 … without gaps."""
        return BigInt(self.line.entry.sequence)

    @strawberry.field
    def at(self) -> datetime:
        """When it was entered, UTC; never earlier than the entry before."""
        return self.line.entry.at

    @strawberry.field
    def amount(self) -> Money:
        """What the account gained, or lost if it is negative."""
        return Money.of(self.line.entry.amount_minor, self.owned.currency)

    @strawberry.field
    def balance_after(self) -> Money:
        """The posted balance right after this entry."""
        return Money.of(self.line.entry.balance_minor, self.owned.currency)

    @strawberry.field
    def transfer(self) -> Transfer:
        """The transfer it belongs to."""
        return Transfer.of(self.line.transfer, self.owned.owner, self.owned.id, self.owned)


def entry_edge(line: HistoryLine, account: Account) -> Edge[Entry]:
    """An entry and where it stands, as the account's owner sees it."""
    return Edge(place=line.entry.sequence, node=Entry(line=line, owned=account))


async def page_of(ledger: Ledger, account: Account, first: int, after: str | None) -> Connection[Entry]:
    """The first `first` (1 to 100) entries behind the cursor `after`. Raises BadRequest, Unavailable."""
    check_first(first)
    before = before_of(after)
    page = await ledger.history(account, PageRequest(first, before=before))
    goes_on_below = page.items[-1].entry.sequence if page.has_more else None
    return connection_of(account, page.items, is_first=before is None, goes_on_below=goes_on_below)


async def filtered_page_of(
    ledger: Ledger, account: Account, first: int, after: str | None, where: HistoryFilter
) -> Connection[Entry]:
    """Up to `first` of the entries that `where` keeps; a page may be short. Raises BadRequest, Unavailable."""
    check_first(first)
    before = before_of(after)
    page = await page_of_history(ledger.store, account, first, before=before, where=where)
    return connection_of(account, page.lines, is_first=before is None, goes_on_below=page.next_sequence)


def connection_of(
    account: Account, lines: Sequence[HistoryLine], *, is_first: bool, goes_on_below: int | None
) -> Connection[Entry]:
    """Make a connection of lines. The next page begins below the sequence `goes_on_below`; None at the end."""
    edges = [entry_edge(line, account) for line in lines]
    return connection(edges, is_first=is_first, has_more=goes_on_below is not None, goes_on_at=goes_on_below)


async def page_of_all(
    ledger: Ledger, owner: UserId, first: int, after: str | None, where: HistoryFilter
) -> Connection[Entry]:
    """Up to `first` entries of all the user's accounts that `where` keeps. Raises BadRequest, Unavailable."""
    check_first(first)
    accounts = {account.id: account for account in await ledger.accounts(owner)}
    place = None if after is None else place_of(after, accounts)
    page = await page_of_histories(ledger.store, [*accounts.values()], first, place=place, where=where)
    edges = [Edge(place=at, node=Entry(line=one, owned=accounts[one.entry.account_id])) for one, at in page.lines]
    end = page.goes_on
    return connection(edges, is_first=after is None, has_more=end is not None, goes_on_at=end)
