"""The statements that every SQL backend runs, built once from the kinds of records; a `Dialect` says what differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from ...domain.ids import CLEARING_PREFIX
from ...storage import PageRequest, ScanKind
from ..kit.kinds import ENTRY, HOLD, RECORD, SCANNED, SYSTEM_ENTRY, TRANSFER, Kind

Statement = tuple[str, tuple[Any, ...]]
"""A statement's text and its values."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one SQL database differs from the others."""

    mark: Callable[[int], str]
    """The placeholder of a value, counted from 1."""
    among: Callable[[str, str], str]
    """Source text of the test that a column is in a list: given the column and the placeholder of the list."""
    listing: Callable[[Sequence[str]], object]
    """Convert a list to the one value that `among` takes."""
    join: str = "JOIN"
    """A join that reads the left table first."""
    pending: str = ""
    """The table of pending credits, if there is one."""
    by_owner: str = ""
    """Added after `records` where they are listed by owner, such as an index to use."""


def select(kind: Kind[Any], rest: str) -> str:
    """Select all columns of a kind."""
    return f"SELECT {kind.names()} FROM {kind.table} {rest}"  # noqa: S608 - names of our own tables


class Statements:
    """The reads that the SQL backends share."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        one, two, three = map(dialect.mark, range(1, 4))
        self.list_records = self._list("id > {}", "ASC")
        self.list_records_descending = self._list("id < {}", "DESC")
        self.due_holds = select(
            HOLD, f"WHERE state = 'open' AND expires_at <= {one} ORDER BY expires_at, id LIMIT {two}"
        )
        self.due_records = select(RECORD, f"WHERE kind = {one} AND due_at <= {two} ORDER BY due_at, id LIMIT {three}")
        self.entries_of = self._lines_of(f"WHERE {dialect.among('transfer_id', one)}")
        """Entries, and pending credits as entries of sequence 0: one statement, so at one moment."""
        self.system_entries_of = select(SYSTEM_ENTRY, f"WHERE {dialect.among('transfer_id', one)}")
        self.currencies = f"SELECT id, currency FROM accounts WHERE {dialect.among('id', one)}"  # noqa: S608 - own names
        self.transfers = select(TRANSFER, f"WHERE {dialect.among('id', one)}")
        self.known_transfers = f"SELECT id FROM transfers WHERE {dialect.among('id', one)}"  # noqa: S608 - own names
        self._scans = {kind.name: self._scan(kind) for kind in SCANNED.values()}
        columns = f"{ENTRY.names('e.')}, {TRANSFER.names('t.')}"
        both = f"entries AS e {dialect.join} transfers AS t ON t.id = e.transfer_id"
        self._history = self._pages(f"SELECT {columns} FROM {both}")  # noqa: S608 - own names

    def _lines_of(self, rest: str) -> str:
        entries, pending = select(ENTRY, rest), self.dialect.pending
        if not pending:
            return entries
        return f"{entries} UNION ALL SELECT account_id, 0, transfer_id, amount_minor, 0, at FROM {pending} {rest}"  # noqa: S608 - own names

    @property
    def totals(self) -> str:
        """The sums of each currency: customers' money, system entries, and the clearing entries among the latter."""
        pending = _PENDING.format(self.dialect.pending) if self.dialect.pending else ""
        return _TOTALS.format(pending=pending, clearing=CLEARING_PREFIX)

    def scan(self, kind: ScanKind) -> str:
        """Select the key and the columns of a kind above a key, in key order. Values: the key's parts and the limit."""
        return self._scans[SCANNED[kind].name]

    def history_page(self, account_id: str, page: PageRequest) -> Statement:
        """A page of entries plus one more, each with its transfer."""
        text = self._history[page.before is not None, page.after is not None, page.newest_first]
        bounds = (bound for bound in (page.before, page.after) if bound is not None)
        return text, (account_id, *bounds, page.limit + 1)

    def _list(self, behind: str, order: str) -> str:
        one, two, three, four = map(self.dialect.mark, range(1, 5))
        tests = f"kind = {one} AND owner = {two} AND {behind.format(three)}"
        return select(RECORD, f"{self.dialect.by_owner}WHERE {tests} ORDER BY id {order} LIMIT {four}")

    def _scan(self, kind: Kind[Any]) -> str:
        names = ", ".join(kind.key)
        marks = ", ".join(map(self.dialect.mark, range(1, len(kind.key) + 1)))
        rest = f"WHERE ({names}) > ({marks}) ORDER BY {names} LIMIT {self.dialect.mark(len(kind.key) + 1)}"
        return f"SELECT {names}, {kind.names()} FROM {kind.table} {rest}"  # noqa: S608 - names of our own tables

    def _pages(self, start: str) -> dict[tuple[bool, bool, bool], str]:
        """Keyset pages on (account_id, sequence), each an index seek.

        The key says whether there is a `before`, whether there is an `after`, and whether the newest come first.
        """
        texts: dict[tuple[bool, bool, bool], str] = {}
        for before, after, newest_first in product((False, True), repeat=3):
            tests = ["e.account_id = {}", *["e.sequence < {}"] * before, *["e.sequence > {}"] * after]
            where = " AND ".join(test.format(self.dialect.mark(n)) for n, test in enumerate(tests, 1))
            order, limit = "DESC" if newest_first else "ASC", self.dialect.mark(len(tests) + 1)
            texts[before, after, newest_first] = f"{start} WHERE {where} ORDER BY e.sequence {order} LIMIT {limit}"
        return texts


_PENDING: Final = """
  UNION ALL
  SELECT a.currency, p.amount_minor, 0, 0 FROM {} AS p JOIN accounts AS a ON a.id = p.account_id
"""

_TOTALS: Final = """
SELECT currency, sum(customer), sum(system), sum(clearing) FROM (
  SELECT currency, posted_minor AS customer, 0 AS system, 0 AS clearing FROM accounts
  {pending}
  UNION ALL
  SELECT substr(account_id, length(account_id) - 2) AS currency, 0, sum(amount_minor),
         sum(CASE WHEN account_id LIKE '{clearing}%' THEN amount_minor ELSE 0 END)
  FROM system_entries GROUP BY 1
) AS parts GROUP BY currency ORDER BY currency
"""
