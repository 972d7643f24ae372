"""Reads a whole store by its scans and lists everything that is wrong with it.

This is a second check, independent of `wallet_gql.books.audit`: it reads only by `scan` and `totals`, keeps everything
in memory, and shares no code with the rules. Nobody may write to the store while it reads.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ..domain.ids import is_system
from ..domain.merchants import Terms, refundable_minor, terms_key
from ..domain.model import Account, Entry, Hold, HoldState, Receipt, Record, Transfer, TransferKind
from ..storage import SCAN_KINDS, JournalItem, NodeTotal, ScanItem, ScanKind, Store

K = TypeVar("K")
V = TypeVar("V")

SCAN_PAGE: Final = 500


@dataclass(slots=True)
class Books:
    """Everything in a store. `transfers` joins the parts of a transfer that several nodes hold."""

    accounts: dict[str, Account] = field(default_factory=dict)
    journal: list[JournalItem] = field(default_factory=list)
    transfers: dict[str, Transfer] = field(default_factory=dict)
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    """By account, in sequence."""
    holds: dict[str, Hold] = field(default_factory=dict)
    receipts: dict[tuple[int, str, str], Receipt] = field(default_factory=dict)
    records: dict[tuple[str, str, int], Record] = field(default_factory=dict)
    totals: list[NodeTotal] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    """What a scan returned twice."""

    def node_of(self, account_id: str) -> str | None:
        """The node that holds an account's entries, by the journal; None if it has no entries."""
        for item in self.journal:
            if any(entry.account_id == account_id for entry in item.entries):
                return item.node
        return None

    def facts(self) -> set[object]:
        """Everything that is stored, for comparison: equal books have equal facts, in whatever order they were read."""
        kept = {_frozen(record) for record in self.records.values()}
        items = {
            (i.node, i.transfer, frozenset(i.entries), frozenset(i.system_entries), i.pending) for i in self.journal
        }
        return {*self.accounts.values(), *self.holds.values(), *self.receipts.values(), *kept, *items}


def _frozen(record: Record) -> tuple[object, ...]:
    body = tuple(sorted((name, repr(value)) for name, value in record.body.items()))
    return (*(record.kind, record.id, record.slot, record.owner, record.version, record.due_at), body)


async def scan_all(store: Store, kind: ScanKind, page: int = SCAN_PAGE) -> list[ScanItem]:
    """Every item of a kind, `page` at a time."""
    found: list[ScanItem] = []
    after: str | None = None
    while True:
        part = await store.scan(kind, after, page)
        found += part.items
        after = part.after
        if after is None:
            return found


async def read_books(store: Store, page: int = SCAN_PAGE) -> Books:
    """Read a store that nobody writes to. Raises Unavailable."""
    books = Books()
    for kind in SCAN_KINDS:
        for item in await scan_all(store, kind, page):
            _add(books, item)
    for entries in books.entries.values():
        entries.sort(key=lambda entry: entry.sequence)
    books.totals = list(await store.totals())
    return books


def _add(books: Books, item: ScanItem) -> None:
    if isinstance(item, JournalItem):
        books.journal.append(item)
        books.transfers[item.transfer.id] = item.transfer
        for entry in item.entries:
            books.entries.setdefault(entry.account_id, []).append(entry)
    elif isinstance(item, Account):
        _once(books, books.accounts, item.id, item)
    elif isinstance(item, Hold):
        _once(books, books.holds, item.id, item)
    elif isinstance(item, Receipt):
        _once(books, books.receipts, (item.slot, item.actor, item.key), item)
    else:
        _once(books, books.records, (item.kind, item.id, item.slot), item)


def _once(books: Books, known: dict[K, V], key: K, item: V) -> None:
    if key in known:
        books.doubled.append(str(key))
    known[key] = item


def faults(books: Books) -> list[str]:
    """Everything that is wrong, one line each; empty if the books are in order.

    Checked: entries have no gaps, and their balances fold and are never negative; accounts agree with their entries and
    open holds; every transfer has all its legs, once, and sums to zero on each node; each key has at most one transfer,
    and each transfer its receipt; each hold is captured at most once; reversals do not exceed what they reverse; every
    node sums to zero, and nothing is left in flight.
    """
    checks = (_accounts, _journal, _keys, _holds, _reversals, _totals)
    return [f"told twice: {name}" for name in books.doubled] + [fault for check in checks for fault in check(books)]


def _accounts(books: Books) -> Iterator[str]:
    held: Counter[str] = Counter()
    for hold in books.holds.values():
        held[hold.account_id] += hold.amount_minor if hold.state is HoldState.OPEN else 0
    for account in books.accounts.values():
        entries = books.entries.get(account.id, [])
        yield from _fold(account.id, entries)
        if len(entries) != account.sequence:
            yield f"{account.id} says {account.sequence} entries, there are {len(entries)}"
        folded = sum(entry.amount_minor for entry in entries)
        if folded != account.posted_minor:
            yield f"{account.id} says posted {account.posted_minor}, its entries sum to {folded}"
        if held[account.id] != account.held_minor:
            yield f"{account.id} says held {account.held_minor}, its open holds sum to {held[account.id]}"
    yield from (f"entries of the unknown account {name}" for name in books.entries.keys() - books.accounts.keys())


def _fold(account_id: str, entries: list[Entry]) -> Iterator[str]:
    balance_minor = 0
    for place, entry in enumerate(entries, start=1):
        balance_minor += entry.amount_minor
        if entry.sequence != place:
            yield f"{account_id} has entry {entry.sequence} in place {place}: a gap or a double"
            return
        if entry.balance_minor != balance_minor or balance_minor < 0:
            yield f"{account_id} entry {place} says balance {entry.balance_minor}, folded it is {balance_minor}"


def _journal(books: Books) -> Iterator[str]:
    legs: dict[str, Counter[str]] = defaultdict(Counter)
    told = Counter((item.node, item.transfer.id) for item in books.journal)
    yield from (f"{name} was told {count} times by node {node}" for (node, name), count in told.items() if count > 1)
    for item in books.journal:
        amounts = [line.amount_minor for line in (*item.lines, *item.system_entries)]
        if sum(amounts) or not amounts:
            yield f"{item.transfer.id} does not sum to zero on node {item.node}"
        for entry in item.lines:
            legs[item.transfer.id][entry.account_id] += entry.amount_minor
    for transfer in books.transfers.values():
        expected = Counter({name: minor for name, minor in transfer.legs() if not is_system(name)})
        if legs[transfer.id] != expected:
            yield f"{transfer.id} moved {dict(legs[transfer.id])}, its header says {dict(expected)}"


def _keys(books: Books) -> Iterator[str]:
    paid = Counter((transfer.actor, transfer.idempotency_key) for transfer in books.transfers.values())
    yield from (f"key {key!r} of {actor} paid {count} times" for (actor, key), count in paid.items() if count > 1)
    named = {receipt.transfer_id: receipt for receipt in books.receipts.values() if receipt.transfer_id is not None}
    for transfer in books.transfers.values():
        receipt = named.get(transfer.id)
        if receipt is None or (receipt.actor, receipt.key) != (transfer.actor, transfer.idempotency_key):
            yield f"{transfer.id} has no receipt of its key {transfer.idempotency_key!r}"
    yield from (f"a receipt names the missing {name}" for name in named.keys() - books.transfers.keys())


def _holds(books: Books) -> Iterator[str]:
    captures: dict[str, list[Transfer]] = defaultdict(list)
    for transfer in books.transfers.values():
        if transfer.hold_id is not None:
            captures[transfer.hold_id].append(transfer)
    for hold in books.holds.values():
        taken = captures.pop(hold.id, [])
        if [(t.id, t.amount_minor) for t in taken] != ([(hold.transfer_id, hold.captured_minor)] if taken else []):
            yield f"{hold.id} was captured by {len(taken)} transfers, it says {hold.transfer_id}"
        if (hold.state is HoldState.CAPTURED) != bool(taken):
            yield f"{hold.id} is {hold.state} with {len(taken)} captures"
    yield from (f"the unknown hold {name} was captured" for name in captures)


def _reversals(books: Books) -> Iterator[str]:
    undone: Counter[str] = Counter()
    for transfer in books.transfers.values():
        if transfer.kind is TransferKind.REVERSAL:
            undone[transfer.reverses or ""] += transfer.amount_minor
    for name, minor in undone.items():
        original = books.transfers.get(name)
        if original is None:
            yield f"{minor} of {name} were reversed, which is not there"
            continue
        key = terms_key(original.id)
        limit_minor = refundable_minor(original, Terms.from_record(books.records.get((key.kind, key.id, key.slot))))
        if minor > limit_minor:
            yield f"{minor} of {name} were reversed, it moved {limit_minor}"


def _totals(books: Books) -> Iterator[str]:
    in_flight: Counter[str] = Counter()
    for total in books.totals:
        in_flight[total.currency] += total.clearing_minor
        if total.customer_minor + total.system_minor:
            off_minor = total.customer_minor + total.system_minor
            yield f"node {total.node} sums to {off_minor} {total.currency}, not to zero"
    yield from (f"{minor} {currency} are still in flight" for currency, minor in in_flight.items() if minor)
