"""The history of one account or of all: keyset pages, newest first, of all entries or those that a filter keeps."""

from __future__ import annotations

from datetime import datetime

import strawberry

from ...domain.ids import UserId
from ...domain.model import Account
from ...storage import HistoryLine, PageRequest
from ...verbs.history import EVERYTHING, HistoryFilter, page_of_histories
from ...verbs.ledger import Ledger
from .cursors import place_of, sequence_of
from .describe import made_at, object_type, read_at
from .pages import Asked, Connection, Edge, connection
from .scalars import BigInt
from .transfers import Transfer
from .types import Money


@object_type
class Entry:
    """One line of an account's history: what a transfer did to this account."""

    line: strawberry.Private[HistoryLine]
    owned: strawberry.Private[Account]

    @strawberry.field
    def id(self) -> strawberry.ID:
        """Opaque and permanent."""
        return strawberry.ID(f"ent_{self.owned.id.removeprefix('acc_')}_{self.line.sequence}")

    sequence: BigInt = read_at("line.sequence", "Its place in the account's order: 1, 2, 3 … without gaps.")
    created_at: datetime = read_at("line.at", "When it was entered, UTC; never earlier than the entry before.")
    amount: Money = made_at(
        Money,
        "What the account gained, or lost if it is negative.",
        {"minor_units": "line.amount_minor", "currency": "owned.currency"},
    )
    balance_after: Money = made_at(
        Money,
        "The posted balance right after this entry.",
        {"minor_units": "line.balance_minor", "currency": "owned.currency"},
    )
    transfer: Transfer = made_at(
        Transfer,
        "The transfer it belongs to.",
        {
            "id": "line.transfer_id",
            "viewer_id": "owned.owner",
            "account_id": "owned.id",
            "transfer": "line.transfer",
            "transfer.reference": "line.reference",
            "owned": "owned",
        },
    )


def entry_edge(line: HistoryLine, account: Account) -> Edge[Entry]:
    """An entry and where it stands, as the account's owner sees it."""
    return Edge(place=line.sequence, node=Entry(line=line, owned=account))


async def page_of(ledger: Ledger, account: Account, asked: Asked) -> Connection[Entry]:
    """A page of the account's entries. Raises BadRequest, Unavailable."""
    return await page_between(ledger, account, asked, 1, account.sequence)


async def page_between(ledger: Ledger, account: Account, asked: Asked, lowest: int, highest: int) -> Connection[Entry]:
    """A page of the entries from one sequence to another, both inclusive. Raises BadRequest, Unavailable."""
    place, below, above = sequence_of(asked.cursor), highest + 1, lowest - 1
    if place is not None:
        below, above = (below, max(place, above)) if asked.is_backward else (min(place, below), above)
    reach = PageRequest(asked.size, before=below, after=above, newest_first=not asked.is_backward)
    page = await ledger.history(account, reach)
    lines = page.items[::-1] if asked.is_backward else page.items
    edges = [entry_edge(line, account) for line in lines]
    return connection(edges, asked, has_more=page.has_more, total=max(highest - lowest + 1, 0))


async def filtered_page_of(ledger: Ledger, account: Account, asked: Asked, where: HistoryFilter) -> Connection[Entry]:
    """A page of the entries that `where` keeps; it may be short. Raises BadRequest, Unavailable."""
    sequence = sequence_of(asked.cursor)
    place = None if sequence is None else {account.id: sequence}
    page = await page_of_histories(
        ledger.store, (account,), asked.size, place=place, where=where, backward=asked.is_backward
    )
    edges = [entry_edge(line, account) for line, _ in page.lines]
    end = None if page.goes_on is None else page.goes_on[account.id]
    return connection(edges, asked, has_more=end is not None, goes_on_at=end)


async def page_of_all(ledger: Ledger, owner: UserId, asked: Asked, where: HistoryFilter) -> Connection[Entry]:
    """A page of the entries of all the user's accounts that `where` keeps. Raises BadRequest, Unavailable."""
    accounts = {account.id: account for account in await ledger.accounts(owner)}
    place = None if asked.cursor is None else place_of(asked.cursor, accounts)
    page = await page_of_histories(
        ledger.store, [*accounts.values()], asked.size, place=place, where=where, backward=asked.is_backward
    )
    edges = [Edge(place=at, node=Entry(line=one, owned=accounts[one.entry.account_id])) for one, at in page.lines]
    end = page.goes_on
    total = sum(account.sequence for account in accounts.values()) if where == EVERYTHING else None
    return connection(edges, asked, has_more=end is not None, goes_on_at=end, total=total)
