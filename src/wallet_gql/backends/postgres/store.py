"""`postgres://`: rows sharded over one or several nodes by consistent hashing of the user id.

One node: `postgres://user@host/db`. Several: URLs joined by commas, each with a stable name as `?node=n1`; or
`postgres://?nodes=nodes.toml`, a file with `[nodes] n1 = "postgres://…"`.

Flush setting (G3): `synchronous_commit` and `fsync` must be on, else the store refuses to start. Isolation (G2): row
locks, waited for in one global order (node, then account id), taken before anything is read; READ COMMITTED; relative
updates of rows that must still be as loaded, under a CHECK. A command whose rows are on one node is one local
transaction; a credit on another node goes by two-phase commit (`two_phase.py`), the leader's commit being the
decision.

Accounts that another transaction has locked do not stop a batch. Each batch takes its accounts in one of three ways:

| way      | used by                         | takes                                                          |
|----------|---------------------------------|----------------------------------------------------------------|
| skip     | ordinary lanes                  | the accounts that are free; other commands are deferred        |
| in order | lanes behind a locked account   | all accounts by id, waiting `BRIEF_MS` for each                |
| alone    | lanes behind a stuck account    | that account first, holding no other; then those that are free |

A command that was deferred more than `DEFERRALS_MAX` times waits in order and for up to `LOCK_MS_MAX`. So an account in
doubt delays the commands that need others only for a moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Hashable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal
from weakref import WeakValueDictionary

import asyncpg

from ...domain.changes import Done, Outcome, Scope, State, credit_peer, decide_all
from ...domain.errors import Contended, NodeUnavailable
from ...domain.frozen import frozen
from ...domain.ids import AccountId, slot_of
from ...domain.model import AccountFacts
from ...storage import Capabilities, Recovered
from ..kit.group_commit import BATCH_MAX, Command, Deferred, LanePolicy
from ..kit.wanted import Wanted
from . import node as nodes
from .commit import Branch
from .hot_accounts import HotAccounts
from .json_text import given
from .node import Connection, literal
from .setup import parse_url
from .sharded import PgStore
from .two_phase import Gid, Recovery, commit_across, commit_one, fail_point

ACROSS_MAX: Final = 64
"""The maximum number of commands in a batch that spans nodes."""

LOCK_MS_MAX: Final = 2_000
"""How long a batch waits for one lock, in milliseconds."""

BRIEF_MS: Final = 100
"""How long a batch waits for an account while it holds others, in milliseconds."""

DEFERRALS_MAX: Final = 3
"""A command that was deferred this often waits for all its accounts in order and for long.

Otherwise, where many accounts are always busy, it would rarely find one free while it holds another.
"""

PRUNE_EVERY_SECONDS: Final = 3_600.0

_RECOVER_MAX: Final = 1_000
_RIPE_SECONDS: Final = 0.1
_PATIENCE_SHARE: Final = 0.8
"""The server's lock timeout is shorter than the caller's deadline, so that contention is not taken for a dead node."""

_COMMIT_SECONDS_MIN: Final = 0.05
"""Below this, refuse: a late COMMIT would be InDoubt."""


_How = Literal["skip", "in order", "alone"]
"""How a batch takes its accounts: see the module."""


@frozen
class _Lane:
    """What commits together: a leader and the nodes it credits. A lane with `behind` waits for that account."""

    leader: str
    others: tuple[str, ...]
    behind: AccountId | None = None


def _batch_max(lane: Hashable) -> int:
    return ACROSS_MAX if isinstance(lane, _Lane) and lane.others else BATCH_MAX


@dataclass(slots=True)
class _Part:
    """One node's part of a batch while it is decided."""

    connection: Connection
    state: State
    busy: list[tuple[AccountId, str]]


class PostgresStore(PgStore):
    """The ledger on Postgres nodes."""

    name = "postgres"
    protocol = "two-phase commit"

    def __init__(self, url: str) -> None:
        """See the module for URLs. Raises ConfigurationError."""
        super().__init__(parse_url(url), LanePolicy(_batch_max, self._turn))
        self._turns: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()
        self._waiting = {
            (name, long): asyncio.Semaphore(waiting_max(node))
            for name, node in self._nodes.items()
            for long in (False, True)
        }
        self._hot = HotAccounts(time.monotonic)
        self._recovery: Recovery | None = None
        self._prune_at = 0.0
        many = len(self._nodes) > 1
        self.capabilities = Capabilities(
            durable=True, multi_process=True, spans_nodes=many, snapshot_reads=not many, remote_credit="atomic"
        )

    async def _opened(self) -> None:
        self._recovery = Recovery(self._cluster, self._nodes)

    async def _sweep(self) -> None:
        assert self._recovery is not None
        await self._recovery.run(_RECOVER_MAX)
        now = asyncio.get_running_loop().time()
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_EVERY_SECONDS
            await self._recovery.prune()

    # Writing

    def _lane(self, scope: Scope) -> Hashable:
        behind = self._hot.awaited((*scope.accounts, *scope.credits))
        return _Lane(self._map.home(scope.home), self._map.participants(scope), behind)

    async def _commit(
        self, lane: Hashable, batch: Sequence[Command], wait_seconds: float
    ) -> Sequence[Outcome | Deferred]:
        assert isinstance(lane, _Lane)
        if wait_seconds < _COMMIT_SECONDS_MIN:
            raise Contended("there was no time left to try again")
        deadline = asyncio.get_running_loop().time() + wait_seconds * _PATIENCE_SHARE
        if lane.behind is None:
            return await self._once(lane, batch, deadline, "skip") or ()
        insists = any(command.deferrals > DEFERRALS_MAX for command in batch)
        if self._hot.is_stuck(lane.behind) and not insists:
            return await self._once(lane, batch, deadline, "alone") or ()
        outcomes = await self._once(lane, batch, deadline, "in order", LOCK_MS_MAX if insists else BRIEF_MS)
        if outcomes is not None:
            return outcomes
        if insists:
            for command in batch:
                command.deferrals = 0
        if insists or deadline - asyncio.get_running_loop().time() < _COMMIT_SECONDS_MIN:
            raise Contended("one of the accounts was locked all the time given")
        outcomes = await self._once(lane, batch, deadline, "alone", BRIEF_MS) or ()
        # The batch waited for this account a moment ago, among other accounts, and did not get it.
        behind = (outcome.lane.behind for outcome in outcomes if isinstance(outcome, Deferred))  # type: ignore[attr-defined]  # lanes of ours
        self._hot.stuck(behind)
        return outcomes

    async def _once(
        self, lane: _Lane, batch: Sequence[Command], deadline: float, how: _How, wait_ms: int = LOCK_MS_MAX
    ) -> Sequence[Outcome | Deferred] | None:
        """One transaction on each of the lane's nodes. None if it was to wait in order, and an account was not free.

        Waits up to `wait_ms` for each account.
        """
        wanted = Wanted.of(command.scope for command in batch)
        async with AsyncExitStack() as stack:
            connections = await self._begin(stack, lock_order(lane.leader, lane.others), deadline)
            parts = await self._take(lane, connections, wanted, how, min(wait_ms, _patience_ms(deadline)))
            if parts is None:
                return None
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

    @asynccontextmanager
    async def _turn(self, lane: Hashable) -> AsyncIterator[None]:
        """Let one lane at a time commit between the same nodes and behind the same account.

        Otherwise lanes would lock each other's accounts. Only a few batches that wait for an account may hold
        connections to a node, so that other batches find connections however many accounts are locked. Batches that
        wait for a stuck account take long and have a limit of their own. A command that waits here too long fails at
        its deadline.
        """
        assert isinstance(lane, _Lane)
        names = lock_order(lane.leader, lane.others)
        async with AsyncExitStack() as stack:
            if lane.others:  # the lock lives as long as a lane holds it or waits for it
                turn = self._turns.setdefault((*names, lane.behind), asyncio.Lock())
                await stack.enter_async_context(turn)
            while lane.behind is not None:
                turns = await stack.enter_async_context(AsyncExitStack())
                long = self._hot.is_stuck(lane.behind)
                for name in names:  # in one order, so that no two lanes wait for each other
                    await turns.enter_async_context(self._waiting[name, long])
                if long == self._hot.is_stuck(lane.behind):
                    break
                await turns.aclose()  # it has changed while this lane waited
            yield

    async def _begin(self, stack: AsyncExitStack, names: Sequence[str], deadline: float) -> dict[str, Connection]:
        """Begin on every node before locking on any: then a node that hangs keeps no lock of another one waiting."""
        connections = {name: await stack.enter_async_context(self._nodes[name].connection(deadline)) for name in names}
        statement = f"BEGIN; SET LOCAL lock_timeout = {_patience_ms(deadline)}"
        begun = await asyncio.gather(*(one.begin(statement) for one in connections.values()), return_exceptions=True)
        for name, failure in zip(connections, begun, strict=True):
            if isinstance(failure, NodeUnavailable) and isinstance(failure.__cause__, TimeoutError):
                self._nodes[name].silent()
            if isinstance(failure, BaseException):
                raise failure
        return connections

    async def _take(
        self, lane: _Lane, connections: Mapping[str, Connection], wanted: Wanted, how: _How, wait_ms: int
    ) -> dict[str, _Part] | None:
        """Lock and load on each node. None if it was to wait in order, and an account was not free in time.

        A batch that waits alone holds nothing while it waits, and then takes only accounts that are free. This excludes
        deadlocks: in order, no batch needs an account before those that it holds; alone, it needs no second one.
        """
        if how == "alone":
            await self._await(connections, lane.behind, wait_ms)
        mode = "wait" if how == "in order" else "skip"
        try:
            return {
                name: await self._load_part(connection, lane, wanted, mode, wait_ms)
                for name, connection in connections.items()
            }
        except Contended as error:
            if how != "in order" or not isinstance(error.__cause__, asyncpg.LockNotAvailableError):
                raise
        # An explicit ROLLBACK frees the locks of the other nodes now, not when they notice a lost connection.
        await asyncio.gather(*(connection.do("ROLLBACK") for connection in connections.values()))
        return None

    async def _await(self, connections: Mapping[str, Connection], account_id: AccountId | None, wait_ms: int) -> None:
        """Lock one account. Raises Contended."""
        assert account_id is not None
        connection = connections[self._map.home(slot_of(account_id))]
        lock = f"SELECT FROM accounts WHERE id = {literal(account_id)} FOR UPDATE"
        after = f"SET LOCAL lock_timeout = {_patience_ms(connection.deadline)}"
        try:
            await connection.do(f"SET LOCAL lock_timeout = {wait_ms}; {lock}; {after}")
        except Contended as error:
            if isinstance(error.__cause__, asyncpg.LockNotAvailableError) and wait_ms >= BRIEF_MS:
                self._hot.stuck([account_id])
            raise
        self._hot.free(account_id)

    async def _load_part(self, connection: Connection, lane: _Lane, wanted: Wanted, mode: str, wait_ms: int) -> _Part:
        """Lock and load on one node: all of the scope on the leader, the credited accounts elsewhere."""
        name = connection.node
        mine = {i for i in wanted.credits if self._map.home(slot_of(i)) == name}
        part = replace(wanted, credits=mine) if name == lane.leader else Wanted(accounts=mine)
        state = State(name, self._map.peer_of(name))
        found = await self._load(connection, state, part, mode, patience_ms=wait_ms)
        return _Part(connection, state, [(AccountId(i), owner) for i, owner in found.get("busy") or ()])

    def _decide(self, lane: _Lane, batch: Sequence[Command], parts: dict[str, _Part]) -> list[Outcome | Deferred]:
        """Run the decisions whose accounts are all loaded, defer the others, and give each node's part its credits."""
        busy = dict(pair for part in parts.values() for pair in part.busy)
        blocked = [_blocked(command.scope, busy) for command in batch]
        self._hot.saw({by for by in blocked if by is not None})
        leader = parts[lane.leader].state
        free = [(command.scope, command.decide) for command, by in zip(batch, blocked, strict=True) if by is None]
        decided = iter(decide_all(leader, free))
        for credit in leader.writes.credits:
            parts[credit_peer(leader, credit)].state.receive(credit)
        return [next(decided) if by is None else Deferred(replace(lane, behind=by)) for by in blocked]

    async def _write(self, lane: _Lane, parts: dict[str, _Part]) -> frozenset[str]:
        """Commit what was decided. Returns the nodes that have not confirmed their credits yet."""
        leader = parts[lane.leader]
        if not leader.state.writes:
            for part in parts.values():
                await part.connection.do("ROLLBACK")
            return frozenset()
        touched = [parts[name] for name in lane.others if parts[name].state.writes]
        for name in lane.others:
            if not parts[name].state.writes:
                await parts[name].connection.do("ROLLBACK")
        if not touched:
            await commit_one(Branch(leader.connection, given(leader.state.writes)))
            return frozenset()
        gid = Gid.new(self._cluster, lane.leader)
        branch = Branch(leader.connection, given(leader.state.writes))
        others = [Branch(part.connection, given(part.state.writes)) for part in touched]
        return await commit_across(gid, branch, others)

    async def recover(self, limit: int) -> Recovered:
        """See `Store.recover`: fence and settle prepared transactions; new ones only at a second look."""
        assert self._recovery is not None
        done = await self._recovery.run(limit)
        if not self._recovery.unripe:
            return done
        await asyncio.sleep(_RIPE_SECONDS)
        more = await self._recovery.run(limit)
        return Recovered(done.committed + more.committed, done.rolled_back + more.rolled_back)


def _patience_ms(deadline: float) -> int:
    """How long to wait for a lock, in milliseconds, so that a refusal arrives before the deadline."""
    left_ms = (deadline - asyncio.get_running_loop().time()) * 1000 * _PATIENCE_SHARE
    return min(max(int(left_ms), 1), LOCK_MS_MAX)


def waiting_max(node: nodes.PgNode) -> int:
    """How many batches that wait for an account may hold a connection to a node; as many again for stuck ones."""
    return max(node.pool_max // 4, 1)


def lock_order(leader: str, others: Sequence[str]) -> list[str]:
    """The order in which every batch locks its nodes, whichever of them leads: opposite transfers never deadlock."""
    return sorted((leader, *others))


def _blocked(scope: Scope, busy: dict[AccountId, str]) -> AccountId | None:
    """The first account of the scope that another transaction has locked."""
    if not busy:
        return None
    named: Iterable[AccountId] = (*scope.accounts, *scope.credits)
    by_name = next((account_id for account_id in named if account_id in busy), None)
    return by_name or next((i for i, owner in busy.items() if owner in scope.wallets), None)


def _without_reached(outcome: Outcome | Deferred, late: frozenset[str]) -> Outcome | Deferred:
    """Keep only those of a command's peers that have not confirmed its credit."""
    if isinstance(outcome, Done) and outcome.peers:
        return Done(outcome.result, outcome.peers & late, outcome.accounts)
    return outcome
