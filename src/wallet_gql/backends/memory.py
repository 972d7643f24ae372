"""`memory://`: the reference model. Read this first; every other backend is tested against it.

`memory://?nodes=3` simulates three nodes: users hash to them, and credits cross through clearing entries. It runs in
one process and keeps nothing (G3 holds for the life of the process). It uses the same group commit as every backend.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from operator import itemgetter
from typing import Any

from ..domain.changes import Done, Outcome, Scope, State, Writes, credit_peer, decide_all
from ..domain.errors import ConfigurationError, InvariantViolated
from ..domain.ids import AccountId, HoldId, TransferId, UserId, is_clearing, slot_of
from ..domain.model import (
    Account,
    AccountFacts,
    Entry,
    Hold,
    HoldState,
    Receipt,
    Record,
    RecordKey,
    SystemEntry,
    Transfer,
)
from ..storage import (
    PAGE_MAX,
    Capabilities,
    HistoryLine,
    JournalItem,
    NodeTotal,
    Page,
    PageRequest,
    Recovered,
    ScanItem,
    ScanKind,
    ScanPage,
)
from ..urls import parse
from .kit.group_commit import Command
from .kit.imports import completed, sorted_by_node, unknown_accounts
from .kit.nodes import NodeMap
from .kit.store import GroupStore, PageAsked, page_of
from .kit.wanted import Wanted


class MemoryNode:
    """One node's tables."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.accounts: dict[AccountId, Account] = {}
        self.wallets: dict[UserId, list[AccountId]] = {}
        self.holds: dict[HoldId, Hold] = {}
        self.open_holds: dict[AccountId, dict[HoldId, Hold]] = {}
        self.transfers: dict[TransferId, Transfer] = {}
        self.reversed_minor: dict[TransferId, int] = {}
        self.entries: dict[AccountId, list[Entry]] = {}
        self.entries_of: dict[TransferId, list[Entry]] = {}
        self.system_entries_of: dict[TransferId, list[SystemEntry]] = {}
        self.receipts: dict[tuple[int, str, str], Receipt] = {}
        self.records: dict[RecordKey, Record] = {}

    def load(self, state: State, wanted: Wanted) -> None:
        """Load what is wanted and stored on this node into the state."""
        for account_id in wanted.accounts | wanted.credits:
            if account_id in self.accounts:
                state.load_account(self.accounts[account_id])
        for owner in wanted.wallets:
            if owner in self.wallets or owner not in state.wallets:
                state.load_wallet(owner, [self.accounts[i] for i in self.wallets.get(owner, ())])
        for account_id in wanted.accounts:
            for hold in self.open_holds.get(account_id, {}).values():
                if wanted.open_holds or (wanted.due_at is not None and hold.is_due(wanted.due_at)):
                    state.load_hold(hold)
        for hold_id in wanted.holds & self.holds.keys():
            state.load_hold(self.holds[hold_id])
        for transfer_id in wanted.transfers & self.transfers.keys():
            state.load_transfer(self.transfers[transfer_id], self.reversed_minor.get(transfer_id, 0))
        for name in wanted.receipts & self.receipts.keys():
            state.load_receipt(self.receipts[name])
        for key in wanted.records & self.records.keys():
            state.load_record(self.records[key])

    def check(self, writes: Writes) -> None:
        """Do what unique keys do in a database: refuse a second insert. Raises InvariantViolated."""
        if writes.opened:
            self._check_opened(writes)
        for table, keys in (
            (self.accounts, [account.id for account in writes.opened]),
            (self.transfers, [transfer.id for transfer in writes.transfers]),
            (self.holds, [hold.id for hold in writes.placed]),
            (self.receipts, [(r.slot, r.actor, r.key) for r in writes.receipts]),
            (self.records, [key for key, (before, _) in writes.records.items() if before is None]),
        ):
            _once(len(set(keys)) == len(keys) and not any(key in table for key in keys), keys)

    def _check_opened(self, writes: Writes) -> None:
        """No owner has two accounts in a currency that are not closed."""
        owners = {account.owner for account in writes.opened}
        accounts = {i: self.accounts[i] for owner in owners for i in self.wallets.get(owner, ())}
        accounts |= {i: after for i, (_, after) in writes.accounts.items() if i in accounts}
        in_use = [(a.owner, a.currency) for a in (*accounts.values(), *writes.opened) if not a.is_closed]
        _once(len(set(in_use)) == len(in_use), in_use)

    def write(self, writes: Writes) -> None:
        """Write all of a commit; `check` has passed."""
        self.accounts.update((account_id, after) for account_id, (_, after) in writes.accounts.items())
        for account in writes.opened:
            self.put_account(account)
        for transfer in writes.transfers:
            self.put_transfer(transfer)
        for entry in writes.entries:
            self.put_entry(entry)
        for line in writes.system_entries:
            self.system_entries_of.setdefault(line.transfer_id, []).append(line)
        for hold in (*writes.placed, *writes.closed):
            self.put_hold(hold)
        self.receipts.update(((r.slot, r.actor, r.key), r) for r in writes.receipts)
        for key, (_, record) in writes.records.items():
            if record is None:
                self.records.pop(key, None)
            else:
                self.records[key] = record

    def put_account(self, account: Account) -> None:
        """Add a new account."""
        self.accounts[account.id] = account
        self.entries[account.id] = []
        self.wallets.setdefault(account.owner, []).append(account.id)

    def put_entry(self, entry: Entry) -> None:
        """Add an entry at its sequence. Raises InvariantViolated if the sequence is taken."""
        entries = self.entries[entry.account_id]
        if not entries or entries[-1].sequence < entry.sequence:
            entries.append(entry)
        else:  # of an import
            place = bisect_left(entries, entry.sequence, key=lambda known: known.sequence)
            _once(entries[place].sequence != entry.sequence, entry)
            entries.insert(place, entry)
        self.entries_of.setdefault(entry.transfer_id, []).append(entry)

    def put_transfer(self, transfer: Transfer) -> None:
        """Add a transfer; a reversal also counts towards the transfer that it reverses."""
        self.transfers[transfer.id] = transfer
        if transfer.reverses is not None:
            before = self.reversed_minor.get(transfer.reverses, 0)
            self.reversed_minor[transfer.reverses] = before + transfer.amount_minor

    def put_hold(self, hold: Hold) -> None:
        """Add or replace a hold."""
        self.holds[hold.id] = hold
        still_open = self.open_holds.setdefault(hold.account_id, {})
        if hold.state is HoldState.OPEN:
            still_open[hold.id] = hold
        else:
            still_open.pop(hold.id, None)

    def all(self, kind: ScanKind) -> Iterable[tuple[object, Any]]:
        """Everything of a kind with its key. For a journal, these are the transfers."""
        tables: dict[ScanKind, Iterable[tuple[object, Any]]] = {
            "account": self.accounts.items(),
            "hold": self.holds.items(),
            "receipt": self.receipts.items(),
            "record": self.records.items(),
        }
        return tables[kind] if kind in tables else ((t.id, t) for t in self.transfers.values())

    def journal(self, transfer: Transfer) -> JournalItem:
        """A transfer with its entries on this node."""
        entries, lines = self.entries_of.get(transfer.id, ()), self.system_entries_of.get(transfer.id, ())
        return JournalItem(self.name, transfer, tuple(entries), tuple(lines))


class MemoryStore(GroupStore):
    """The reference store: dictionaries."""

    name = "memory"

    def __init__(self, url: str = "memory://") -> None:
        """`memory://` or `memory://?nodes=N` with N from 1 to 16. Raises ConfigurationError."""
        super().__init__()
        where = parse(url)
        where.check_parameters(frozenset({"nodes"}))
        if where.hosts or where.path:
            raise ConfigurationError("memory:// has no host and no path: write memory://, or memory://?nodes=3")
        count = where.parameters.get("nodes", "1")
        if not count.isdecimal() or not 1 <= int(count) <= 16:  # noqa: PLR2004 - a bound, named in the message
            raise ConfigurationError("memory://?nodes=…: nodes is a whole number from 1 to 16")
        self._map = NodeMap([f"n{i}" for i in range(1, int(count) + 1)])
        self.nodes = {name: MemoryNode(name) for name in self._map.names}
        self.writing = asyncio.Lock()
        """Held by the current writer."""
        self.capabilities = Capabilities(
            durable=False, multi_process=False, spans_nodes=len(self.nodes) > 1, snapshot_reads=True
        )

    async def _open(self) -> None:
        pass

    async def _close(self) -> None:
        pass

    def _node(self, identifier: str) -> MemoryNode:
        return self.nodes[self._map.home(slot_of(identifier))]

    def _lane(self, scope: Scope) -> Hashable:
        return self._map.home(scope.home)

    @asynccontextmanager
    async def gate(self) -> AsyncIterator[None]:
        """See `Store.gate`."""
        async with self.writing:
            yield

    async def _commit(self, lane: Hashable, batch: Sequence[Command], wait_seconds: float) -> list[Outcome]:
        async with self.writing:
            return self._commit_now(lane, batch)

    def _commit_now(self, lane: Hashable, batch: Sequence[Command]) -> list[Outcome]:
        leader = self.nodes[str(lane)]
        state = State(leader.name, self._map.peer_of(leader.name))
        wanted = Wanted.of(command.scope for command in batch)
        leader.load(state, wanted)
        for account_id in wanted.credits:
            account = self._node(account_id).accounts.get(account_id)
            if account is not None and account_id not in state.accounts:
                state.facts[account_id] = AccountFacts(account.id, account.owner, account.currency, account.status)
        outcomes = decide_all(state, [(command.scope, command.decide) for command in batch])
        leader.check(state.writes)
        leader.write(state.writes)
        for credit in state.writes.credits:
            peer = self.nodes[credit_peer(state, credit)]
            remote = State(peer.name, self._map.peer_of(peer.name))
            remote.load_account(peer.accounts[credit.account_id])
            remote.receive(credit)
            peer.write(remote.writes)
        self._hint((*state.writes.accounts, *(credit.account_id for credit in state.writes.credits)))
        return [_applied(outcome) for outcome in outcomes]

    async def _fetch(self, wanted: Wanted) -> State:
        """See `GroupStore._fetch`: one moment of all nodes, after giving way to others as real stores do."""
        await asyncio.sleep(0)
        state = State("", lambda _: None)
        for node in self.nodes.values():
            node.load(state, wanted)
        return state

    async def _pages(self, asked: Sequence[PageAsked]) -> list[Page[HistoryLine]]:
        """See `GroupStore._pages`."""
        return [self._page(*one) for one in asked]

    def _page(self, account_id: AccountId, page: PageRequest) -> Page[HistoryLine]:
        node = self._node(account_id)
        entries = node.entries.get(account_id, [])
        low, high = page.after or 0, len(entries) if page.before is None else min(max(page.before - 1, 0), len(entries))
        if page.newest_first:
            rows = entries[max(low, high - page.limit - 1) : high][::-1]
        else:
            rows = entries[low : min(high, low + page.limit + 1)]
        return page_of([HistoryLine(entry, node.transfers[entry.transfer_id]) for entry in rows], page.limit)

    async def list_records(
        self, kind: str, owner: str, *, after: str = "", limit: int = PAGE_MAX, descending: bool = False
    ) -> Page[Record]:
        """See `Store.list_records`."""
        everything = (r for node in self.nodes.values() for r in node.records.values())
        found = sorted((r for r in everything if (r.kind, r.owner) == (kind, owner)), key=lambda r: r.id)
        if descending:
            return page_of([r for r in reversed(found) if not after or r.id < after], limit)
        return page_of([r for r in found if r.id > after], limit)

    async def list_due(self, kind: str, before: datetime, limit: int) -> Sequence[Hold | Record]:
        """See `Store.list_due`."""
        due: list[tuple[datetime, str, Hold | Record]] = []
        if kind == "hold":
            holds = (h for node in self.nodes.values() for h in node.holds.values() if h.is_due(before))
            due = [(h.expires_at, h.id, h) for h in holds if h.expires_at is not None]
        else:
            records = (r for node in self.nodes.values() for r in node.records.values() if r.kind == kind)
            due = [(r.due_at, r.id, r) for r in records if r.due_at is not None and r.due_at <= before]
        return [item for _, _, item in sorted(due, key=lambda row: row[:2])[:limit]]

    async def scan(self, kind: ScanKind, after: str | None, limit: int) -> ScanPage:
        """See `Store.scan`. Goes node by node, in key order; the cursor is the last key's text."""
        await asyncio.sleep(0)
        index, _, last = (after or "0 ").partition(" ")
        node = self.nodes[self._map.names[int(index)]]
        keyed = sorted(((repr(key), item) for key, item in node.all(kind) if repr(key) > last), key=itemgetter(0))[
            :limit
        ]
        items = tuple(node.journal(item) if kind == "journal" else item for _, item in keyed)
        if len(items) == limit:
            return ScanPage(items, f"{index} {keyed[-1][0]}")
        return ScanPage(items, f"{int(index) + 1} " if int(index) + 1 < len(self.nodes) else None)

    async def totals(self) -> Sequence[NodeTotal]:
        """See `Store.totals`: one moment of all nodes."""
        sums: dict[tuple[str, str], list[int]] = {}
        for node in self.nodes.values():
            for account in node.accounts.values():
                sums.setdefault((node.name, account.currency), [0, 0, 0])[0] += account.posted_minor
            for line in (line for lines in node.system_entries_of.values() for line in lines):
                row = sums.setdefault((node.name, line.currency), [0, 0, 0])
                row[1] += line.amount_minor
                row[2] += line.amount_minor if is_clearing(line.account_id) else 0
        return [NodeTotal(*key, *row) for key, row in sorted(sums.items())]

    async def load_raw(self, items: Sequence[ScanItem]) -> None:
        """See `Store.load_raw`."""
        for name, writes in sorted_by_node(items, self._map).items():
            node = self.nodes[name]
            for account_id in unknown_accounts(writes):
                if account_id not in node.accounts:
                    raise InvariantViolated(f"an imported entry is of the unknown account {account_id}")
            fresh = completed(writes, node.transfers, name, self._map)
            node.check(fresh)
            node.write(fresh)

    async def recover(self, limit: int) -> Recovered:
        """Return at once: a commit contains no await, so nothing is ever in doubt."""
        return Recovered()

    async def ping(self) -> None:
        """Return at once: memory is always ready."""


def _once(new: bool, item: object) -> None:  # noqa: FBT001 - reads as an assertion
    if not new:
        raise InvariantViolated(f"imported twice: {item}")


def _applied(outcome: Outcome) -> Outcome:
    """Mark the outcome as credited: credits on other nodes are applied before the reply."""
    return Done(outcome.result, accounts=outcome.accounts) if isinstance(outcome, Done) and outcome.peers else outcome
