"""An account's history: entries in a keyset connection, newest first, all entries or those that a filter keeps.

A cursor means "below this sequence". So a page costs the same everywhere in the history, and entries that arrive while
a client pages cause no gap and no duplicate.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import strawberry

from ...domain.model import Account
from ...storage import PAGE_MAX, HistoryLine, PageRequest
from ...verbs.history import HistoryFilter, page_of_history
from ...verbs.ledger import Ledger
from .describe import about, object_type
from .failures import BadRequest
from .scalars import BigInt
from .transfers import Transfer
from .types import Money

_VERSION: Final = b"1"
_CURSOR: Final = re.compile(rf"{_VERSION.decode()}:(?P<sequence>[1-9][0-9]{{0,17}})", re.ASCII)


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


@object_type
class EntryEdge:
    """An entry and where it stands."""

    line: strawberry.Private[HistoryLine]
    owned: strawberry.Private[Account]

    @strawberry.field
    def cursor(self) -> str:
        """Opaque; pass it as `after` to go on behind this entry."""
        return to_cursor(self.line.entry.sequence)

    @strawberry.field
    def node(self) -> Entry:
        """The entry."""
        return Entry(line=self.line, owned=self.owned)


@object_type
class PageInfo:
    """Where a page stands."""

    has_next_page: bool = about(
        "Whether there are older entries; with a filter: whether there are older entries left to look at, of which the "
        "filter may keep none."
    )
    has_previous_page: bool = about("Whether there are newer entries: true on every page but the first.")
    start_cursor: str | None = about("The first edge's cursor; null on an empty page.")
    end_cursor: str | None = about(
        "Pass it as `after` to get the next page. The last edge's cursor; on a short page of a filtered history the "
        "place where the search stopped, even if the page is empty."
    )


@object_type
class EntryConnection:
    """A page of history, newest first."""

    edges: list[EntryEdge] = about("The entries of this page.")
    page_info: PageInfo = about("Where this page stands.")


async def page_of(ledger: Ledger, account: Account, first: int, after: str | None) -> EntryConnection:
    """The first `first` (1 to 100) entries behind the cursor `after`. Raises BadRequest, Unavailable."""
    check_first(first)
    before = before_of(after)
    page = await ledger.history(account, PageRequest(first, before=before))
    goes_on_below = page.items[-1].entry.sequence if page.has_more else None
    return connection_of(account, page.items, is_first=before is None, goes_on_below=goes_on_below)


async def filtered_page_of(
    ledger: Ledger, account: Account, first: int, after: str | None, where: HistoryFilter
) -> EntryConnection:
    """Up to `first` of the entries that `where` keeps; a page may be short. Raises BadRequest, Unavailable."""
    check_first(first)
    before = before_of(after)
    page = await page_of_history(ledger.store, account, first, before=before, where=where)
    return connection_of(account, page.lines, is_first=before is None, goes_on_below=page.next_sequence)


def connection_of(
    account: Account, lines: Sequence[HistoryLine], *, is_first: bool, goes_on_below: int | None
) -> EntryConnection:
    """Make a connection of lines. The next page begins below the sequence `goes_on_below`; None at the end."""
    cursors = [to_cursor(line.entry.sequence) for line in (*lines[:1], *lines[-1:])]
    last = cursors[-1] if cursors else None
    info = PageInfo(
        has_next_page=goes_on_below is not None,
        has_previous_page=not is_first,
        start_cursor=cursors[0] if cursors else None,
        end_cursor=last if goes_on_below is None else to_cursor(goes_on_below),
    )
    return EntryConnection(edges=[EntryEdge(line=line, owned=account) for line in lines], page_info=info)


def check_first(first: int) -> None:
    """Raise BadRequest unless a page may have this size."""
    if not 1 <= first <= PAGE_MAX:
        raise BadRequest(f"first must be 1 to {PAGE_MAX}, not {first}")


def before_of(after: str | None) -> int | None:
    """The sequence that a page begins below; None for the first page. Raises BadRequest."""
    return None if after is None or after is strawberry.UNSET else from_cursor(after)


def to_cursor(sequence: int) -> str:
    """The cursor of an entry: base64 of a version and its sequence, in which digits make no `+` and no `/`."""
    return binascii.b2a_base64(b"%b:%d" % (_VERSION, sequence), newline=False).decode().rstrip("=")


def from_cursor(cursor: str) -> int:
    """The sequence of a cursor. Raises BadRequest."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        match = _CURSOR.fullmatch(base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii"))
    except (UnicodeError, binascii.Error):
        match = None
    if match is None:
        raise BadRequest("after is no cursor of this wallet; take one from a page's pageInfo or edges")
    return int(match["sequence"])
