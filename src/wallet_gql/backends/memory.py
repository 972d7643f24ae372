"""`memory://`: the reference model. Read this first; every other backend is tested against it.

`memory://?nodes=3` simulates three nodes: users hash to them, and credits cross through clearing entries. With a seed,
as in `memory://?nodes=3&late=7`, some credits arrive after the answer, and stay pending until the account is next
locked or the receiver runs. It runs in one process and keeps nothing (G3 holds for the life of the process). It uses
the same group commit as every backend.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import islice
from operator import itemgetter
from typing import Final

from ..domain.changes import Done, Outcome, Scope, State, Writes, credit_peer, decide_all
from ..domain.errors import ConfigurationError, Contended
from ..domain.ids import AccountId, is_clearing, slot_of
from ..domain.model import (
    AccountFacts,
    Hold,
    Record,
)
from ..storage import (
    PAGE_MAX,
    Away,
    Capabilities,
    HistoryLine,
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
from .kit.receiving import RECEIVE_MAX
from .kit.store import GroupStore, PageAsked, page_of
from .kit.wanted import Wanted, answered, command_of
from .memory_node import MemoryNode

LATE_SHARE: Final = 0.5
"""With a seed: the share of credits that arrive late, and of commits before which something is received."""


class MemoryStore(GroupStore):
    """The reference store: dictionaries."""

    name = "memory"

    def __init__(self, url: str = "memory://") -> None:
        """`memory://` or `memory://?nodes=N&late=SEED` with N from 1 to 16. Raises ConfigurationError."""
        super().__init__()
        where = parse(url)
        where.check_parameters(frozenset({"nodes", "late"}))
        if where.hosts or where.path:
            raise ConfigurationError("memory:// has no host and no path: write memory://, or memory://?nodes=3")
        count = where.parameters.get("nodes", "1")
        if not count.isdecimal() or not 1 <= int(count) <= 16:  # noqa: PLR2004 - a bound, named in the message
            raise ConfigurationError("memory://?nodes=…: nodes is a whole number from 1 to 16")
        self._map = NodeMap([f"n{i}" for i in range(1, int(count) + 1)])
        self.nodes = {name: MemoryNode(name) for name in self._map.names}
        self.writing = asyncio.Lock()
        """Held by the current writer."""
        late = where.parameters.get("late")
        self._chance = None if late is None else random.Random(late)  # noqa: S311 - a seeded simulation
        self._on_their_way: list[tuple[MemoryNode, Writes]] = []
        """Decided credits that have not arrived at their nodes."""
        self.capabilities = Capabilities(
            durable=False,
            multi_process=False,
            spans_nodes=len(self.nodes) > 1,
            snapshot_reads=late is None,
            remote_credit="atomic" if late is None else "eventual",
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
        self._settle_some()
        leader = self.nodes[str(lane)]
        state = State(leader.name, self._map.peer_of(leader.name))
        wanted = Wanted.of(command.scope for command in batch)
        leader.load(state, wanted)
        pending = list(filter(state.has_room, leader.pending_of(state.accounts)))
        state.receive_pending(pending[:RECEIVE_MAX], (credit.account_id for credit in pending[RECEIVE_MAX:]))
        for account_id in wanted.credits:
            account = self._node(account_id).accounts.get(account_id)
            if account is not None and account_id not in state.accounts:
                state.facts[account_id] = AccountFacts(account.id, account.owner, account.currency, account.status)
        outcomes = decide_all(state, [(command.scope, command.decide) for command in batch])
        self._check_closing(state.writes)
        leader.check(state.writes)
        leader.write(state.writes)
        sent = self._send(state)
        self._hint((*state.writes.accounts, *(credit.account_id for credit in state.writes.credits)))
        late: dict[object, set[str]] = {}
        for peer, writes in self._on_their_way:
            late.setdefault(command_of(writes.transfers[0]), set()).add(peer.name)
        firsts = ([leader.transfers[name] for name in answered(command.scope, state)] for command in batch)
        peers = (frozenset[str]().union(*(late.get(command_of(first), ()) for first in some)) for some in firsts)
        return [_waiting_for(outcome, sent, some) for outcome, some in zip(outcomes, peers, strict=True)]

    def _check_closing(self, writes: Writes) -> None:
        """An account is not closed while a credit is on its way to it. Raises Contended."""
        closing = {i for i, (before, after) in writes.accounts.items() if after.is_closed and not before.is_closed}
        if any(credit.account_id in closing for _, sent in self._on_their_way for credit in sent.pending):
            raise Contended("a credit is on its way to the account")

    # Credits on other nodes

    def _send(self, state: State) -> frozenset[str]:
        """Send the decided credits, all at once or by chance later. Returns the nodes that wait for some."""
        late: set[str] = set()
        for credit in state.writes.credits:
            peer = self.nodes[credit_peer(state, credit)]
            remote = State(peer.name, self._map.peer_of(peer.name))
            remote.pend(credit)
            self._on_their_way.append((peer, remote.writes))
            if self._chance is None:
                self._settle(arriving=1)
            elif self._chance.random() < LATE_SHARE:
                late.add(peer.name)
            else:
                self._arrive(len(self._on_their_way) - 1)
        return frozenset(late)

    def _arrive(self, place: int) -> None:
        peer, writes = self._on_their_way.pop(place)
        peer.check(writes)
        peer.write(writes)

    def _settle_some(self) -> None:
        """What other processes would have done since the last commit: the first credits arrive, some are received."""
        if self._chance is not None and self._chance.random() < LATE_SHARE:
            self._settle(arriving=self._chance.randrange(len(self._on_their_way) + 1))

    def _settle(self, arriving: int) -> int:
        """Let credits arrive, then receive those that are pending, a bounded number on each node. Returns how many."""
        for _ in range(arriving):
            self._arrive(0)
        received = 0
        for node in self.nodes.values():
            state = State(node.name, self._map.peer_of(node.name))
            for credit in node.pending.values():
                state.load_account(node.accounts[credit.account_id])
            state.receive_pending(list(islice(filter(state.has_room, node.pending.values()), RECEIVE_MAX)))
            node.write(state.writes)
            self._hint(state.writes.accounts)
            received += len(state.writes.received)
        return received

    async def _fetch(self, wanted: Wanted) -> State:
        """See `GroupStore._fetch`: one moment of all nodes, after giving way to others as real stores do."""
        await asyncio.sleep(0)
        state = State("", lambda _: None)
        for node in self.nodes.values():
            node.load(state, wanted)
            for credit in node.pending_of(state.accounts):
                minor, count = state.pending.get(credit.account_id, (0, 0))
                state.pending[credit.account_id] = minor + credit.amount_minor, count + 1
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
            for credit in node.pending.values():
                sums[node.name, node.accounts[credit.account_id].currency][0] += credit.amount_minor
            for line in (line for lines in node.system_entries_of.values() for line in lines):
                row = sums.setdefault((node.name, line.currency), [0, 0, 0])
                row[1] += line.amount_minor
                row[2] += line.amount_minor if is_clearing(line.account_id) else 0
        return [NodeTotal(*key, *row) for key, row in sorted(sums.items())]

    async def load_raw(self, items: Sequence[ScanItem]) -> None:
        """See `Store.load_raw`."""
        for name, writes in sorted_by_node(items, self._map, keeps_pending=len(self.nodes) > 1).items():
            node = self.nodes[name]
            known = [node.accounts[each] for each in unknown_accounts(writes) if each in node.accounts]
            currencies = {account.id: account.currency for account in known}
            fresh = completed(writes, node.transfers, currencies, name, self._map)
            node.check(fresh)
            node.write(fresh)

    async def recover(self, limit: int) -> Recovered:
        """See `Store.recover`: credits that are late arrive, and pending ones are received."""
        arriving = min(limit, len(self._on_their_way))
        received = self._settle(arriving)
        while received:
            received = self._settle(arriving=0)
        return Recovered(credited=arriving)

    async def ping(self) -> Away:
        """Return at once: memory is always ready."""
        return {}


def _waiting_for(outcome: Outcome, late: frozenset[str], repeated: frozenset[str]) -> Outcome:
    """Name the peers to which a credit is still on its way: of what the command did, or of what it repeats."""
    return (
        Done(outcome.result, outcome.peers & late | repeated, outcome.accounts)
        if isinstance(outcome, Done)
        else outcome
    )
