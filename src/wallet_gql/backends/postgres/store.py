"""`postgres://`: rows sharded over one or several nodes by consistent hashing of the user id.

One node: `postgres://user@host/db`. Several: URLs joined by commas, each with a stable name as `?node=n1`; or
`postgres://?nodes=nodes.toml`, a file with `[nodes] n1 = "postgres://…"`.

Flush setting (G3): `synchronous_commit` and `fsync` must be on, else the store refuses to start. Isolation (G2): row
locks on the leader alone, waited for in the order of account ids, taken before anything is read; READ COMMITTED;
relative updates of rows that must still be as loaded, under a CHECK. A command whose rows are on one node is one local
transaction; a credit on another node is inserted there by two-phase commit (`two_phase.py`), the leader's commit being
the decision. It stays pending until its account is next locked.

Accounts and records that another transaction has locked do not stop a batch: it takes those that are free, and defers
the commands that need others to a lane that waits. Such a lane first locks all its rows in order, records before
accounts, and waits up to `BRIEF_MS` for each; if that fails, it takes what is free, too, and defers the others to lanes
*behind* the locked rows, one for each. So a row that stays locked delays commands that need others only for a moment.
New commands for an account that was found locked again and again begin where the last ones went.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final, TypeVar
from weakref import WeakValueDictionary

import asyncpg

from ...domain.changes import Done, Outcome, Scope, State, credit_peer, decide_all
from ...domain.errors import Contended, NodeUnavailable
from ...domain.ids import AccountId, TransferId
from ...domain.model import RecordKey
from ...failpoints import before_decision
from ...storage import Recovered
from ..kit.credits import Arrivals, sending
from ..kit.group_commit import BATCH_MAX, Command, Deferred, LanePolicy
from ..kit.wanted import Wanted, answered, command_of
from . import node as nodes
from .commit import Branch
from .json_text import given
from .moves import Moves
from .node import Connection
from .placement import Placement
from .receiving import RECEIVE_SECONDS
from .sharded import COMMIT_SECONDS_MIN, Lane, PgStore
from .two_phase import Gid, commit_across, commit_one

R = TypeVar("R")

ACROSS_MAX: Final = 64
"""The maximum number of commands in a batch that spans nodes."""

BRIEF_MS: Final = 100
"""How long a batch waits for a row, in milliseconds: it may hold others."""

SIGHTINGS: Final = 3
"""How often an account is found locked, before new commands wait for it first. Apart from others they are few."""

LOCKED_SECONDS: Final = 0.25
"""How long an account counts as locked after it was last found so."""

Row = AccountId | RecordKey
"""What a batch locks."""

ANY: Final = AccountId("")
"""Commands first wait together, behind whatever row: mostly all are soon free. Alone they would make small batches."""

_NEVER: Final = (0, ANY, 0.0)

Credits = dict[TransferId, str]
"""The credits of one command on other nodes, and these nodes."""

_RECOVER_MAX: Final = 1_000
_RIPE_SECONDS: Final = 0.1


def _batch_max(lane: Hashable) -> int:
    return ACROSS_MAX if isinstance(lane, Lane) and lane.others else BATCH_MAX


class PostgresStore(PgStore):
    """The ledger on Postgres nodes."""

    name = "postgres"
    protocol = "two-phase commit"
    remote = "atomic"

    def __init__(self, url: str) -> None:
        """See the module for URLs. Raises ConfigurationError."""
        super().__init__(url, LanePolicy(_batch_max, self._turn, self._only_moves))
        self._turns: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()
        self._waiting: dict[str, asyncio.Semaphore] = {}
        self._locked: dict[AccountId, tuple[int, AccountId, float]] = {}
        """Accounts that were lately found locked: how often, the row to wait behind, and until when that counts."""

    async def _opened(self) -> None:
        await super()._opened()
        self.moves = Moves(self._cluster, self._nodes, self._recovery)

    async def _sweep(self) -> None:
        await asyncio.gather(self._recovery.run(_RECOVER_MAX), self._receive(0))

    # Writing

    def _behind(self, scope: Scope, others: Sequence[str]) -> Hashable:
        """Where the last commands went that found one of these accounts locked, if it was found so again and again.

        Otherwise each command would lock its other rows first and then fail, and others would fail on these. Behind an
        account of its own waits who has waited in vain behind any; if there are two, opposite payments take the same.
        """
        if not self._locked:
            return None
        now = asyncio.get_running_loop().time()
        named = scope.accounts if others else (*scope.accounts, *scope.credits)
        found = (self._locked.get(account_id, _NEVER) for account_id in named)
        return max((row for times, row, until in found if times >= SIGHTINGS and until > now), default=None)

    async def _commit_lane(self, lane: Lane, batch: Sequence[Command], deadline: float) -> Sequence[Outcome | Deferred]:
        if lane.behind is not None:
            outcomes = await self._once(lane, batch, deadline, waits=True)
            if outcomes is not None:
                return outcomes
            if deadline - asyncio.get_running_loop().time() < COMMIT_SECONDS_MIN:
                raise Contended("a row was locked all the time given")
        return await self._once(lane, batch, deadline, waits=False) or ()

    async def _once(
        self, lane: Lane, batch: Sequence[Command], deadline: float, *, waits: bool
    ) -> Sequence[Outcome | Deferred] | None:
        """One transaction on the leader, prepared ones on the others. None if it waited for a row in vain."""
        wanted = Wanted.of(command.scope for command in batch)
        state = State(lane.leader, lane.homes.peer_of(lane.leader))
        async with AsyncExitStack() as stack:
            others: dict[str, Connection] = {}
            for name in lock_order(lane.leader, lane.others):
                others[name] = await stack.enter_async_context(self._nodes[name].connection(deadline))
            leader = others.pop(lane.leader)
            await self._begin(lane.homes, leader, others, state, wanted)
            busy = await self._take(lane.homes, leader, state, wanted, waits=waits)
            if busy is None:
                return None
            before_decision("postgres.loaded")
            outcomes = self._decide(lane, batch, state, busy)
            before_decision("postgres.decided")
            sent = await self._credits(lane.homes, leader, state) if self.capabilities.spans_nodes else {}
            late = await self._write(lane.homes, leader, others, state)
        self._hint(state.writes.accounts)
        if not sent:
            return outcomes
        fresh = {credit.transfer.id for credit in state.writes.credits}
        named = ([sent.get(name, {}) for name in answered(command.scope, state)] for command in batch)
        return [self._answer(outcome, late, fresh, credits_) for outcome, credits_ in zip(outcomes, named, strict=True)]

    @asynccontextmanager
    async def _turn(self, lane: Hashable) -> AsyncIterator[None]:
        """Let one lane at a time commit between the same nodes and behind the same row.

        This makes larger batches. Only a few lanes that wait for a row may hold connections to a node, so that
        others find connections however many rows are locked. A command that waits here too long fails at its
        deadline.
        """
        async with AsyncExitStack() as stack:
            if not isinstance(lane, Lane):
                await stack.enter_async_context(super()._turn(lane))
                yield
                return
            names = lock_order(lane.leader, lane.others)
            if lane.others:  # the lock lives as long as a lane holds it or waits for it
                turn = self._turns.setdefault((*names, lane.behind), asyncio.Lock())
                await stack.enter_async_context(turn)
            for name in names if lane.behind is not None else ():
                free = self._waiting.setdefault(name, asyncio.Semaphore(waiting_max(self._nodes[name])))
                await stack.enter_async_context(free)
            yield

    async def _begin(
        self, homes: Placement, leader: Connection, others: Mapping[str, Connection], state: State, wanted: Wanted
    ) -> None:
        """Begin on the leader, and ask the other nodes for what decisions may know of the accounts that they credit.

        Nothing is locked yet, so a node that hangs keeps no account waiting.
        """
        begin = leader.begin(f"BEGIN; SET LOCAL lock_timeout = {leader.patience_ms()}")
        asked = (self._facts(homes, connection, wanted.credits) for connection in others.values())
        answers = await asyncio.gather(begin, *asked, return_exceptions=True)
        for name, answer in zip((leader.node, *others), answers, strict=True):
            if isinstance(answer, NodeUnavailable) and isinstance(answer.__cause__, TimeoutError):
                self._nodes[name].silent()
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            state.facts.update(answer or ())

    async def _take(
        self, homes: Placement, leader: Connection, state: State, wanted: Wanted, *, waits: bool
    ) -> dict[Row, str] | None:
        """Lock and load on the leader. Returns the rows that others have locked, with the owners of accounts.

        None if it was to wait, and a row was not free in time. All batches wait in one order, so none needs a row
        before those that it holds: there are no deadlocks.
        """
        local = {account_id for account_id in wanted.credits if account_id not in state.facts}
        try:
            mine = replace(wanted, credits=local)
            mode = "wait" if waits else "skip"
            found = await self._load(homes, leader, state, mine, mode, patience_ms=leader.patience_ms(BRIEF_MS))
        except Contended as error:
            if not waits or not isinstance(error.__cause__, asyncpg.LockNotAvailableError):
                raise
            return None
        busy: dict[Row, str] = {AccountId(account_id): owner for account_id, owner in found["busy"] or ()}
        busy.update((RecordKey(*key), "") for key in found["busy_records"] or ())
        return busy

    def _decide(
        self, lane: Lane, batch: Sequence[Command], state: State, busy: dict[Row, str]
    ) -> list[Outcome | Deferred]:
        """Run the decisions whose rows are all locked, and defer the others."""
        blocked = [_blocked(command.scope, busy) for command in batch]
        free = [(command.scope, command.decide) for command, by in zip(batch, blocked, strict=True) if by is None]
        decided = iter(decide_all(state, free))
        apart = lane.behind is not None
        self._found_locked({by: by if apart else ANY for by in blocked if isinstance(by, str)})
        return [next(decided) if by is None else Deferred(replace(lane, behind=by if apart else ANY)) for by in blocked]

    def _found_locked(self, behind: Mapping[AccountId, AccountId]) -> None:
        """Note the accounts that others have locked, and the rows behind which commands for these wait now."""
        now = asyncio.get_running_loop().time()
        known = {account_id: one for account_id, one in self._locked.items() if one[-1] > now}
        for account_id, row in behind.items():
            times, before, _ = known.get(account_id, _NEVER)
            known[account_id] = times + 1, max(row, before), now + LOCKED_SECONDS
        self._locked = known

    async def _credits(self, homes: Placement, leader: Connection, state: State) -> dict[TransferId, Credits]:
        """What the commands that receipts name have credited on other nodes, by the first transfer of each command.

        It is read before the commit, so that nothing can fail between the commit and the answers.
        """
        written = {transfer.id: transfer for transfer in state.writes.transfers}
        named = {receipt.transfer_id for receipt in state.receipts.values() if receipt.transfer_id is not None}
        found = await self._credits_of(homes, leader, named - written.keys())
        sent: dict[object, Credits] = {}
        for credit in state.writes.credits:
            sent.setdefault(command_of(credit.transfer), {})[credit.transfer.id] = credit_peer(state, credit)
        if sent:
            found |= {name: sent.get(command_of(transfer), {}) for name, transfer in written.items()}
        return found

    def _answer(
        self, outcome: Outcome | Deferred, late: frozenset[str], fresh: set[TransferId], credits_: Iterable[Credits]
    ) -> Outcome | Deferred:
        """Name the peers that have not confirmed the command's credits; ask them if any was sent before this commit."""
        if not isinstance(outcome, Done):
            return outcome
        homes = {name: home for some in credits_ for name, home in some.items()}
        if homes.keys() <= fresh:
            return Done(outcome.result, late & outcome.peers.union(homes.values()), outcome.accounts)
        return sending(outcome, list(homes.items()), self._arrivals)

    def _arrivals(self, credits_: Sequence[tuple[TransferId, str]]) -> Arrivals:
        return [asyncio.create_task(self._have_arrived(dict(credits_)))]

    async def _write(
        self, homes: Placement, leader: Connection, others: Mapping[str, Connection], state: State
    ) -> frozenset[str]:
        """Commit what was decided. Returns the nodes that have not confirmed their credits yet."""
        if not state.writes:
            await leader.do("ROLLBACK")
            return frozenset()
        branch = Branch(leader, given(state.writes))
        remote = {name: State(name, homes.peer_of(name)) for name in others}
        for credit in state.writes.credits:
            remote[credit_peer(state, credit)].pend(credit)
        branches = [
            Branch(others[name], given(part.writes, epoch=homes.epochs[name]))
            for name, part in remote.items()
            if part.writes
        ]
        if not branches:
            await commit_one(branch)
            return frozenset()
        return await commit_across(Gid.new(self._cluster, leader.node), branch, branches)

    async def recover(self, limit: int) -> Recovered:
        """See `Store.recover`: settle prepared transactions, new ones only at a second look.

        Then receive what is pending: afterwards nothing is, except where somebody keeps an account locked.
        """
        done, unripe = await self._recovery.run(limit)
        if unripe:
            await asyncio.sleep(_RIPE_SECONDS)
            more, _ = await self._recovery.run(limit)
            done = Recovered(done.committed + more.committed, done.rolled_back + more.rolled_back)
        if len(self._nodes) > 1:
            await self._receive(RECEIVE_SECONDS)
        return done


def waiting_max(node: nodes.PgNode) -> int:
    """How many lanes that wait for a row may hold a connection to a node."""
    return max(node.pool_max // 4, 1)


def lock_order(leader: str, others: Sequence[str]) -> list[str]:
    """The order in which every batch takes connections and turns, so that no two lanes wait for each other."""
    return sorted((leader, *others))


def _blocked(scope: Scope, busy: dict[Row, str]) -> Row | None:
    """The first row of the scope that another transaction has locked."""
    if not busy:
        return None
    named: Iterable[Row] = (*scope.accounts, *scope.credits, *scope.records)
    by_name = next((account_id for account_id in named if account_id in busy), None)
    return by_name or next((i for i, owner in busy.items() if owner in scope.wallets), None)
