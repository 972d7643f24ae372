"""`postgres://`: rows sharded over one or several nodes by consistent hashing of the user id.

One node: `postgres://user@host/db`. Several: URLs joined by commas, each with a stable name as `?node=n1`; or
`postgres://?nodes=nodes.toml`, a file with `[nodes] n1 = "postgres://…"`.

Flush setting (G3): `synchronous_commit` and `fsync` must be on, else the store refuses to start. Isolation (G2): row
locks in one global order (node, then account id), taken before anything is read; READ COMMITTED; relative updates of
rows that must still be as loaded, under a CHECK. A command whose rows are on one node is one
local transaction; a credit on another node goes by two-phase commit (`_two_phase.py`), the leader's commit being the
decision.

Accounts that somebody else has locked are skipped: commands that need them leave the batch for a lane of their own, so
that one account in doubt never stalls its neighbours.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeVar

import orjson

from ..domain.changes import Done, Outcome, Scope, Snapshot, State, Writes, credit_peer, decide_all
from ..domain.codec import to_micros
from ..domain.errors import ConfigurationError, Contended, InvariantViolated, NodeUnavailable, WalletError
from ..domain.ids import AccountId, slot_of
from ..domain.model import AccountFacts, Entry, Hold, Receipt, Record
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
from . import _pg_text as sql
from . import _rows as rows
from ._base import GroupStore, page_of
from ._group_commit import BATCH_MAX, Command, Deferred, Wanted
from ._nodes import NodeMap
from ._pg_node import Lease, PgNode
from ._pg_setup import identify, parse_url, prepare_node
from ._two_phase import Branch, Gid, Recovery, commit_across, commit_one, fail_point

T = TypeVar("T")

log = logging.getLogger("wallet_gql.postgres")

ACROSS_MAX: Final = 64
"""The most commands of one batch that spans nodes."""

LOCK_MS_MAX: Final = 2_000
"""How long a batch waits for one lock, in milliseconds."""

RECOVER_EVERY_SECONDS: Final = 0.5

_RECOVER_MAX: Final = 1_000
_RIPE_SECONDS: Final = 0.1
_READ_SECONDS: Final = 5.0
_PATIENCE_SHARE: Final = 0.8
"""The server gives a lock up before the caller gives the server up: the first is contention, the second a dead node."""

_SILENT_SECONDS: Final = 0.5
"""How long a node that did not answer is not asked again, so that its callers hear of it before their deadlines."""

_COMMIT_SECONDS_MIN: Final = 0.05
"""With less than that nothing is begun, so that its caller hears a certain no before his deadline, not a doubt."""


@dataclass(frozen=True, slots=True)
class _Lane:
    """What commits together: a leader and the nodes it credits; `behind` names the account that is waited for."""

    leader: str
    others: tuple[str, ...]
    behind: AccountId | None = None


@dataclass(slots=True)
class _Part:
    """One node's part of a batch while it is decided."""

    lease: Lease
    state: State
    busy: list[tuple[AccountId, str]]


class PostgresStore(GroupStore):
    """The ledger on Postgres nodes."""

    name = "postgres"

    def __init__(self, url: str) -> None:
        """See the module for URLs. Raises ConfigurationError."""
        super().__init__()
        self.groups.lane_max = lambda lane: ACROSS_MAX if isinstance(lane, _Lane) and lane.others else BATCH_MAX
        self._nodes = {name: PgNode(name, node_url) for name, node_url in parse_url(url).items()}
        self._map = NodeMap(list(self._nodes))
        self._epoch = 1
        self._cluster = ""
        self._silent: dict[str, float] = {}
        self._turns: dict[frozenset[str], asyncio.Lock] = {}
        self._recovery: Recovery | None = None
        self._recovering: asyncio.Task[None] | None = None
        many = len(self._nodes) > 1
        self.capabilities = Capabilities(
            durable=True, multi_process=True, spans_nodes=many, snapshot_reads=not many, remote_credit="atomic"
        )

    # Opening and closing

    async def _open(self) -> None:
        try:
            for name in self._map.names:
                node = self._nodes[name]
                try:
                    await node.open()
                    await prepare_node(node, two_phase=len(self._nodes) > 1)
                except NodeUnavailable as error:
                    remedy = "start it, or correct its URL"
                    raise ConfigurationError(f"node {name} does not answer ({error.__cause__!r}); {remedy}") from error
            self._cluster, self._epoch = await identify([self._nodes[name] for name in self._map.names])
        except BaseException:
            await self._close()
            raise
        self._recovery = Recovery(self._cluster, self._nodes)
        if len(self._nodes) > 1:
            self._recovering = asyncio.create_task(self._recover_for_ever(self._recovery))

    async def _recover_for_ever(self, recovery: Recovery) -> None:
        """Every process settles whatever any process left in doubt, as long as it runs."""
        while True:
            await asyncio.sleep(RECOVER_EVERY_SECONDS)
            try:
                await recovery.run(_RECOVER_MAX)
            except Exception:
                log.exception("recovery failed and will try again")

    async def _close(self) -> None:
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.gather(self._recovering, return_exceptions=True)
        await asyncio.gather(*(node.close() for node in self._nodes.values()))

    # Writing

    def _lane(self, scope: Scope) -> Hashable:
        return _Lane(self._map.home(scope.home), self._map.participants(scope))

    async def _commit(
        self, lane: Hashable, batch: Sequence[Command], wait_seconds: float
    ) -> Sequence[Outcome | Deferred]:
        assert isinstance(lane, _Lane)
        if wait_seconds < _COMMIT_SECONDS_MIN:
            raise Contended("there was no time left to try again")
        deadline = asyncio.get_running_loop().time() + wait_seconds * _PATIENCE_SHARE
        wanted = Wanted.of(command.scope for command in batch)
        async with AsyncExitStack() as stack:
            await self._take_turn(stack, lane, deadline)
            leases = await self._begin(stack, lock_order(lane.leader, lane.others), deadline)
            parts = {name: await self._load_part(lease, lane, wanted) for name, lease in leases.items()}
            fail_point("postgres.loaded")
            leader = parts[lane.leader]
            for name in lane.others:
                for account in parts[name].state.accounts.values():
                    facts = AccountFacts(account.id, account.owner, account.currency, account.status)
                    leader.state.facts[account.id] = facts
            outcomes = self._decide(lane, batch, parts)
            fail_point("postgres.decided")
            late = await self._write(lane, parts)
            self._hint(account_id for part in parts.values() for account_id in part.state.writes.accounts)
        return [_without_reached(outcome, late) for outcome in outcomes]

    async def _take_turn(self, stack: AsyncExitStack, lane: _Lane, deadline: float) -> None:
        """Of the lanes between the same nodes one commits at a time, else they would lock each other's accounts away.

        Batches that wait for an account have no turn to take: nobody waits for them. Raises Contended.
        """
        if not lane.others or lane.behind is not None:
            return
        turn = self._turns.setdefault(frozenset((lane.leader, *lane.others)), asyncio.Lock())
        try:
            async with asyncio.timeout_at(deadline):
                await stack.enter_async_context(turn)
        except TimeoutError as error:
            raise Contended("other batches between the same nodes took all the time given") from error

    async def _begin(self, stack: AsyncExitStack, names: Sequence[str], deadline: float) -> dict[str, Lease]:
        """Begin on every node before anything is locked on any: a node that hangs then keeps nobody else waiting."""
        now = asyncio.get_running_loop().time()
        for name in names:
            if self._silent.get(name, 0.0) > now:
                raise NodeUnavailable(name)
        leases = {name: await stack.enter_async_context(self._nodes[name].lease(deadline)) for name in names}
        patience_ms = max(int((deadline - asyncio.get_running_loop().time()) * 1000 * _PATIENCE_SHARE), 1)
        statement = f"BEGIN; SET LOCAL lock_timeout = {min(patience_ms, LOCK_MS_MAX)}"
        begun = await asyncio.gather(*(lease.begin(statement) for lease in leases.values()), return_exceptions=True)
        for name, failure in zip(leases, begun, strict=True):
            if isinstance(failure, NodeUnavailable) and isinstance(failure.__cause__, TimeoutError):
                self._silent[name] = asyncio.get_running_loop().time() + _SILENT_SECONDS
            if isinstance(failure, BaseException):
                raise failure
        return leases

    async def _load_part(self, lease: Lease, lane: _Lane, wanted: Wanted) -> _Part:
        """Lock and load on one node: all of the scope on the leader, the credited accounts elsewhere."""
        name = lease.node
        mine = {i for i in wanted.credits if self._map.home(slot_of(i)) == name}
        part = replace(wanted, credits=mine) if name == lane.leader else Wanted(accounts=mine)
        state = State(name, self._map.peer_of(name))
        found = await self._load(lease, state, part, "skip" if lane.behind is None else "wait")
        return _Part(lease, state, [(AccountId(i), owner) for i, owner in found.get("busy") or ()])

    async def _load(self, lease: Lease, state: State, wanted: Wanted, mode: str) -> dict[str, Any]:
        text = await lease.value("SELECT wallet_load($1, $2)", _wish(wanted, self._epoch), mode)
        found: dict[str, Any] = orjson.loads(text)
        _fill(state, wanted, found)
        return found

    def _decide(self, lane: _Lane, batch: Sequence[Command], parts: dict[str, _Part]) -> list[Outcome | Deferred]:
        """Run the decisions whose accounts are all here, defer the others, and hand the credits out."""
        busy = dict(pair for part in parts.values() for pair in part.busy)
        blocked = [_blocked(command.scope, busy) for command in batch]
        leader = parts[lane.leader].state
        free = [(command.scope, command.decide) for command, by in zip(batch, blocked, strict=True) if by is None]
        decided = iter(decide_all(leader, free))
        for credit in leader.writes.credits:
            parts[credit_peer(leader, credit)].state.receive(credit)
        return [next(decided) if by is None else Deferred(replace(lane, behind=by)) for by in blocked]

    async def _write(self, lane: _Lane, parts: dict[str, _Part]) -> frozenset[str]:
        """Commit what was decided; answers the nodes whose credits are still on their way."""
        leader = parts[lane.leader]
        if not leader.state.writes:
            for part in parts.values():
                await part.lease.do("ROLLBACK")
            return frozenset()
        touched = [parts[name] for name in lane.others if parts[name].state.writes]
        for name in lane.others:
            if not parts[name].state.writes:
                await parts[name].lease.do("ROLLBACK")
        if not touched:
            await commit_one(Branch(leader.lease, _given(leader.state.writes)))
            return frozenset()
        gid = Gid.new(self._cluster, lane.leader)
        branch = Branch(leader.lease, _given(leader.state.writes, decision=gid.attempt))
        others = [Branch(part.lease, _given(part.state.writes)) for part in touched]
        return await commit_across(gid, branch, others)

    # Reading

    async def fetch(self, scope: Scope) -> Snapshot:
        """See `Store.fetch`: each node's part is read at one moment; across nodes the moments may differ."""
        state = State("", lambda _: None)
        parts = self._split(Wanted.of([scope]))

        async def read(name: str, wanted: Wanted) -> None:
            deadline = asyncio.get_running_loop().time() + _READ_SECONDS
            async with self._nodes[name].lease(deadline) as lease:
                await self._load(lease, state, wanted, "read")

        await asyncio.gather(*(read(name, wanted) for name, wanted in parts.items()))
        return Snapshot(state, scope)

    def _split(self, wanted: Wanted) -> dict[str, Wanted]:
        """The same wish, by node."""
        parts: dict[str, Wanted] = {}

        def part(slot: int) -> Wanted:
            name = self._map.home(slot)
            if name not in parts:
                parts[name] = Wanted(due_at=wanted.due_at, open_holds=wanted.open_holds)
            return parts[name]

        for account_id in wanted.accounts:
            part(slot_of(account_id)).accounts.add(account_id)
        for account_id in wanted.credits:
            part(slot_of(account_id)).credits.add(account_id)
        for owner in wanted.wallets:
            part(slot_of(owner)).wallets.add(owner)
        for hold_id in wanted.holds:
            part(slot_of(hold_id)).holds.add(hold_id)
        for transfer_id in wanted.transfers:
            part(slot_of(transfer_id)).transfers.add(transfer_id)
        for receipt in wanted.receipts:
            part(receipt[0]).receipts.add(receipt)
        for key in wanted.records:
            part(key.slot).records.add(key)
        return parts

    def _home(self, identifier: str) -> PgNode:
        return self._nodes[self._map.home(slot_of(identifier))]

    async def list_entries(self, account_id: AccountId, page: PageRequest) -> Page[Entry]:
        """See `Store.list_entries`."""
        found = await self._home(account_id).rows(*sql.entries_page(account_id, page))
        return page_of([rows.to_entry(tuple(row)) for row in found], page.limit)

    async def list_transfers(self, account_id: AccountId, page: PageRequest) -> Page[HistoryLine]:
        """See `Store.list_transfers`."""
        found = [tuple(row) for row in await self._home(account_id).rows(*sql.history_page(account_id, page))]
        split = len(sql.ENTRY)
        lines = [HistoryLine(rows.to_entry(row[:split]), rows.to_transfer(row[split:])) for row in found]
        return page_of(lines, page.limit)

    async def list_records(self, kind: str, owner: str, *, after: str = "", limit: int = PAGE_MAX) -> Page[Record]:
        """See `Store.list_records`: a user's records may live in several slots."""
        found = await self._everywhere(lambda node: node.rows(sql.LIST_RECORDS, kind, owner, after, limit + 1))
        records = [[rows.to_record(tuple(row)) for row in part] for part in found]
        merged = heapq.merge(*records, key=lambda record: record.id)
        return page_of(list(merged)[: limit + 1], limit)

    async def list_due(self, kind: str, before: datetime, limit: int) -> Sequence[Hold | Record]:
        """See `Store.list_due`: nodes that do not answer are passed over, for a sweep comes back."""
        micros = to_micros(before)

        async def ask(node: PgNode) -> list[Any]:
            try:
                if kind == "hold":
                    return await node.rows(sql.DUE_HOLDS, micros, limit)
                return await node.rows(sql.DUE_RECORDS, kind, micros, limit)
            except WalletError:
                return []

        found = [tuple(row) for part in await self._everywhere(ask) for row in part]
        if kind == "hold":
            holds = [rows.to_hold(row) for row in found]
            return sorted(holds, key=lambda hold: (hold.expires_at or before, hold.id))[:limit]
        records = [rows.to_record(row) for row in found]
        return sorted(records, key=lambda record: (record.due_at or before, record.id))[:limit]

    async def _everywhere(self, ask: Callable[[PgNode], Awaitable[T]]) -> list[T]:
        return await asyncio.gather(*(ask(self._nodes[name]) for name in self._map.names))

    async def scan(self, kind: ScanKind, after: str | None, limit: int) -> ScanPage:
        """See `Store.scan`: node by node, by primary key."""
        statement, start, parse = sql.SCANS[kind]
        index, cursor = json.loads(after) if after else (0, list(start))
        node = self._nodes[self._map.names[index]]
        width = len(start)
        found = [tuple(row) for row in await node.rows(statement, *cursor, limit)]
        items = await self._journal(node, found) if kind == "journal" else [parse(row[width:]) for row in found]
        following = None
        if len(found) == limit:
            following = json.dumps([index, found[-1][:width]])
        elif index + 1 < len(self._map.names):
            following = json.dumps([index + 1, list(start)])
        return ScanPage(tuple(items), following)

    async def _journal(self, node: PgNode, found: Sequence[rows.Row]) -> list[ScanItem]:
        """Transfers with their entries of this node, each read after its header: entries are never edited."""
        transfers = [rows.to_transfer(row[1:]) for row in found]
        names = [transfer.id for transfer in transfers]
        entries: dict[str, list[Entry]] = {}
        for row in await node.rows(sql.ENTRIES_OF, names):
            entries.setdefault(row["transfer_id"], []).append(rows.to_entry(tuple(row)))
        system: dict[str, list[Any]] = {}
        for row in await node.rows(sql.SYSTEM_ENTRIES_OF, names):
            system.setdefault(row["transfer_id"], []).append(rows.to_system_entry(tuple(row)))
        return [JournalItem(node.name, t, tuple(entries.get(t.id, ())), tuple(system.get(t.id, ()))) for t in transfers]

    async def totals(self) -> Sequence[NodeTotal]:
        """See `Store.totals`."""
        found = await self._everywhere(lambda node: node.rows(sql.TOTALS))
        both = zip(self._map.names, found, strict=True)
        return [
            NodeTotal(name, row[0], *(int(value) for value in tuple(row)[1:])) for name, part in both for row in part
        ]

    # Maintenance

    @asynccontextmanager
    async def gate(self) -> AsyncIterator[None]:
        """See `Store.gate`: an advisory lock on every node that each commit shares, through PREPARE to its end."""
        async with AsyncExitStack() as stack:
            for name in self._map.names:
                deadline = asyncio.get_running_loop().time() + 3600
                lease = await stack.enter_async_context(self._nodes[name].lease(deadline))
                await lease.do("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
                await lease.do(sql.CLOSE_GATE)
            yield

    async def load_raw(self, items: Sequence[ScanItem]) -> None:
        """See `Store.load_raw`: one transaction per node."""
        by_node: dict[str, Writes] = {name: Writes() for name in self._map.names}
        for item in items:
            self._sort_in(item, by_node)
        for name, writes in by_node.items():
            if writes:
                deadline = asyncio.get_running_loop().time() + 60
                async with self._nodes[name].lease(deadline) as lease:
                    await self._import(lease, writes)

    def _sort_in(self, item: ScanItem, by_node: dict[str, Writes]) -> None:
        if isinstance(item, JournalItem):
            item.check()
            for entry in item.entries:
                by_node[self._map.home(slot_of(entry.account_id))].entries.append(entry)
            for name in {self._map.home(slot_of(entry.account_id)) for entry in item.entries}:
                by_node[name].transfers.append(item.transfer)
        elif isinstance(item, Hold):
            by_node[self._map.home(slot_of(item.id))].placed.append(item)
        elif isinstance(item, Record):
            by_node[self._map.home(item.slot)].records[item.key] = (None, item)
        elif isinstance(item, Receipt):
            by_node[self._map.home(item.slot)].receipts.append(item)
        else:
            by_node[self._map.home(slot_of(item.id))].opened.append(item)

    async def _import(self, lease: Lease, writes: Writes) -> None:
        """Write raw records; a transfer of which the node has another part already is not written twice."""
        await lease.do("BEGIN")
        owned = list({e.account_id for e in writes.entries} - {account.id for account in writes.opened})
        if await lease.value("SELECT count(*) FROM accounts WHERE id = ANY($1)", owned) != len(owned):
            raise InvariantViolated("an imported entry is of an unknown account")
        known = {
            row[0]
            for row in await lease.rows("SELECT id FROM transfers WHERE id = ANY($1)", [t.id for t in writes.transfers])
        }
        unique = {transfer.id: transfer for transfer in writes.transfers if transfer.id not in known}
        lines = [line for transfer in unique.values() for line in self._map.system_lines(transfer, lease.node)]
        fresh = replace(writes, transfers=list(unique.values()), system_entries=lines)
        try:
            await commit_one(Branch(lease, _given(fresh)))
        except WalletError as error:
            raise InvariantViolated(f"an item cannot be imported: {error}") from error

    async def recover(self, limit: int) -> Recovered:
        """See `Store.recover`: fence and settle prepared transactions, those seen for the first time after a moment."""
        assert self._recovery is not None
        done = await self._recovery.run(limit)
        if not self._recovery.unripe:
            return done
        await asyncio.sleep(_RIPE_SECONDS)
        more = await self._recovery.run(limit)
        return Recovered(done.committed + more.committed, done.rolled_back + more.rolled_back)

    async def ping(self) -> None:
        """Every node answers. Raises NodeUnavailable."""
        await self._everywhere(lambda node: node.ask("SELECT 1", seconds=2.0))


def lock_order(leader: str, others: Sequence[str]) -> list[str]:
    """The order in which every batch locks its nodes, whichever of them leads: opposite transfers never deadlock."""
    return sorted((leader, *others))


def _wish(wanted: Wanted, epoch: int) -> str:
    """What `wallet_load` is asked for."""
    return json.dumps(
        {
            "epoch": epoch,
            "accounts": [*wanted.accounts, *wanted.credits],
            "wallets": list(wanted.wallets),
            "holds": list(wanted.holds),
            "transfers": list(wanted.transfers),
            "receipts": list(wanted.receipts),
            "records": [(key.kind, key.id, key.slot) for key in wanted.records],
            "due_at": None if wanted.due_at is None else to_micros(wanted.due_at),
            "open_holds": wanted.open_holds,
        }
    )


def _fill(state: State, wanted: Wanted, found: dict[str, Any]) -> None:
    """Put what `wallet_load` brought into the state."""
    accounts = [rows.to_account(row) for row in found["accounts"] or ()]
    for account in accounts:
        state.load_account(account)
    for owner in wanted.wallets:
        state.load_wallet(owner, [account for account in accounts if account.owner == owner])
    for row in (*(found["open_holds"] or ()), *(found["holds"] or ())):
        state.load_hold(rows.to_hold(row))
    for row in found["transfers"] or ():
        state.load_transfer(rows.to_transfer(row[:-1]), row[-1])
    for row in found["receipts"] or ():
        state.load_receipt(rows.to_receipt(row))
    for row in found["records"] or ():
        record = rows.to_record(row)
        state.records[record.key] = record


def _given(writes: Writes, decision: str | None = None) -> str:
    """What `wallet_write` is given, as JSON text."""
    changed = writes.records.items()
    updated = [(before, after) for _, (before, after) in changed if before is not None and after is not None]
    given: dict[str, Any] = {
        "opened": [rows.account_row(account) for account in writes.opened],
        "accounts": [rows.account_update(before, after) for before, after in writes.accounts.values()],
        "transfers": [rows.transfer_row(transfer) for transfer in writes.transfers],
        "entries": [rows.entry_row(entry) for entry in writes.entries],
        "system_entries": [rows.system_entry_row(line) for line in writes.system_entries],
        "placed": [rows.hold_row(hold) for hold in writes.placed],
        "closed": [(*rows.hold_row(hold)[8:12], hold.id) for hold in writes.closed],
        "receipts": [rows.receipt_row(receipt) for receipt in writes.receipts],
        "created": [rows.record_row(after) for _, (before, after) in changed if before is None and after is not None],
        "updated": [(*rows.record_row(after), before.version) for before, after in updated],
        "removed": [(k.kind, k.id, k.slot) for k, (before, after) in changed if before is not None and after is None],
    }
    if decision is not None:
        given["decision"] = decision
    return orjson.dumps(given).decode()


def _blocked(scope: Scope, busy: dict[AccountId, str]) -> AccountId | None:
    """The first account of the scope that somebody else has locked."""
    if not busy:
        return None
    named: Iterable[AccountId] = (*scope.accounts, *scope.credits)
    by_name = next((account_id for account_id in named if account_id in busy), None)
    return by_name or next((i for i, owner in busy.items() if owner in scope.wallets), None)


def _without_reached(outcome: Outcome | Deferred, late: frozenset[str]) -> Outcome | Deferred:
    """Of a command's peers, those that still wait for its credit."""
    return Done(outcome.result, outcome.peers & late) if isinstance(outcome, Done) else outcome
