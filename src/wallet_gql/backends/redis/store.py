"""`redis+postgres://`: the sharded rows of the Postgres backend, with Redis leases in place of two-phase commit.

`redis+postgres://[user:password@]host:6379/0,postgres://user@host/db?node=n1,…`: a Redis, a comma, and any URL of the
Postgres backend; `rediss+postgres://` talks TLS to the Redis. Nodes may forbid prepared transactions.

Nodes are written one after another. First the payees' nodes say what decisions may know of them. On the leader, for all
its commands, whichever nodes they credit: lease the rows of a batch, claim them with a fencing token, read,
decide, and commit in one statement with an intent for each credit on another node. That commit is the decision. Each
other node takes its credits in as pending ones, which needs no lease. Then the intent is closed. If a process dies on
the way, any other process finishes the work (`credits.py`). Whoever next claims the payee's account receives its
pending credits.

Leases lower contention; the database gives safety: a token that is claimed in the row before it is read, unique keys,
relative updates of rows that must still be as loaded, and a CHECK. So losing the Redis, its memory, or a lease costs
time and never money. Flush setting (G3): as in the Postgres backend.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from typing import Final, TypeVar

from ...background import log_once_a_minute
from ...domain.changes import Credit, Failed, Outcome, Scope, State, decide_all
from ...domain.errors import Contended, NodeUnavailable, Unavailable
from ...domain.ids import AccountId, TransferId, UserId, is_system, slot_of
from ...domain.model import AccountFacts
from ...failpoints import after_decision, before_decision
from ...storage import Away, Recovered
from ..kit.credits import sending
from ..kit.group_commit import Command, Deferred, LanePolicy
from ..kit.kinds import TRANSFER
from ..kit.wanted import Wanted, answered, command_of
from ..postgres import text as sql
from ..postgres.node import LOCK_MS_MAX, SILENT_SECONDS, Connection
from ..postgres.placement import Placement
from ..postgres.receiving import RECEIVE_SECONDS
from ..postgres.sharded import Lane, PgStore
from .claim import Claimed, claim, write
from .credits import Credits
from .leases import Held, Leases, account_row
from .moves import LeaseMoves
from .url import parse_redis_url

log = logging.getLogger("wallet_gql.redis")

R = TypeVar("R")

_RECOVER_MAX: Final = 1_000
_RIPE_SECONDS: Final = 0.1
_GATE_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 2.0
"""How long a node may take for what is read before a commit."""
_RECEIVE_MS: Final = 100
"""How long the receiver waits for rows that somebody has locked, in milliseconds: it has leased others."""


class RedisStore(PgStore):
    """The ledger on Postgres nodes, under Redis leases."""

    name = "redis"
    protocol = "leases"
    remote = "eventual"

    def __init__(self, url: str) -> None:
        """See the module for URLs. Raises ConfigurationError."""
        address, nodes = parse_redis_url(url)
        super().__init__(nodes, LanePolicy(turn=self._turn, only_moves=self._only_moves))
        self.leases = Leases(address)
        self._credits: Credits | None = None
        self._silent: dict[str, float] = {}
        """Until when a node that did not answer is not asked again: callers then hear of it before their deadlines."""

    async def _opened(self) -> None:
        await super()._opened()
        await self.leases.open(self._cluster)
        self._credits = Credits(self._nodes, self._learning)
        self._credits.hint = self._hint
        self.moves = LeaseMoves(self._cluster, self._nodes, self._recovery, self._credits, self.leases)

    async def _sweep(self) -> None:
        assert self._credits is not None
        async with asyncio.TaskGroup() as both:
            both.create_task(self._credits.settle(_RECOVER_MAX))
            both.create_task(self._receive(0))

    async def _finish(self) -> None:
        if self._credits is not None:
            await self._credits.close()
        await self.leases.close()

    # Writing

    def _only_moves(self, lane: Hashable) -> bool:
        return super()._only_moves(lane) or (isinstance(lane, Lane) and bool(lane.others))

    async def _commit_lane(self, lane: Lane, batch: Sequence[Command], deadline: float) -> Sequence[Outcome | Deferred]:
        """All commands of a leader commit in one lane.

        Those that credit other nodes come through a lane with these `others` first. It only reads the facts of the
        payees, so a node that does not answer delays nobody else.
        """
        if lane.others:
            facts = await self._facts_elsewhere(lane, batch, deadline)
            for command in batch:
                command.facts = {name: facts[name] for name in command.scope.credits if name in facts}
            return [_late(command) or Deferred(replace(lane, others=())) for command in batch]
        wallets = await self._accounts_of(lane, batch, deadline)
        wishes = [self._rows(lane, command.scope, wallets) for command in batch]
        async with self._hold(lane, wishes, deadline) as held:
            before_decision("redis.leased")
            free = [command for command, by in zip(batch, held.busy, strict=True) if by is None]
            decided = iter(await self._lead(lane, held, free, deadline) if free else ())
        return [next(decided) if by is None else Deferred(replace(lane, behind=by)) for by in held.busy]

    def _hold(self, lane: Lane, wishes: Sequence[Sequence[str]], deadline: float) -> AbstractAsyncContextManager[Held]:
        if lane.behind is None:
            return self.leases.hold(lane.leader, wishes)
        return self.leases.wait(lane.leader, wishes, deadline)

    def _rows(self, lane: Lane, scope: Scope, wallets: dict[UserId, list[AccountId]]) -> list[str]:
        """The leases that a command needs on its leader: the rows it may update and the wallets it may add to."""
        own = [i for i in scope.credits if not is_system(i) and lane.homes.home(slot_of(i)) == lane.leader]
        found = {account_row(i) for i in (*scope.accounts, *own)}
        for owner in scope.wallets:
            found |= {f"w:{owner}", *(account_row(i) for i in wallets.get(owner, ()))}
        return sorted(found | {f"r:{key.slot}:{key.kind}:{key.id}" for key in scope.records})

    async def _accounts_of(
        self, lane: Lane, batch: Sequence[Command], deadline: float
    ) -> dict[UserId, list[AccountId]]:
        """The accounts of the wallets in the batch, as known now. The claim reads them again and finds newer ones."""
        wanted = Wanted(wallets={owner for command in batch for owner in command.scope.wallets})
        state = State(lane.leader, lane.homes.peer_of(lane.leader))
        if wanted.wallets:
            await self._look(lane.leader, lambda it: self._load(lane.homes, it, state, wanted, "read"), deadline)
        return state.wallets

    async def _facts_elsewhere(
        self, lane: Lane, batch: Sequence[Command], deadline: float
    ) -> dict[AccountId, AccountFacts]:
        """What decisions may know about accounts on the other nodes. Raises NodeUnavailable."""
        names = {name for command in batch for name in command.scope.credits if not is_system(name)}
        now = asyncio.get_running_loop().time()
        until = now + (deadline - now) / 2  # the other half is for the commit
        looks = (self._look(node, lambda it: self._facts(lane.homes, it, names), until) for node in lane.others)
        answers = await asyncio.gather(*looks, return_exceptions=True)
        found: dict[AccountId, AccountFacts] = {}
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            found |= answer
        return found

    async def _look(self, node: str, read: Callable[[Connection], Awaitable[R]], deadline: float) -> R:
        """Read without locks, for at most `_LOOK_SECONDS`. A node that was just silent is not asked.

        Raises:
            Contended: no connection became free, or the deadline came so soon that this proves nothing.
            NodeUnavailable: it does not answer.
        """
        loop = asyncio.get_running_loop()
        if self._silent.get(node, 0.0) > loop.time():
            raise NodeUnavailable(node)
        until = min(deadline, loop.time() + _LOOK_SECONDS)
        async with self._nodes[node].connection(until) as connection:
            given = until - loop.time()
            try:
                return await read(connection)
            except (Contended, NodeUnavailable) as error:
                if given < SILENT_SECONDS or not isinstance(error.__cause__, TimeoutError):
                    raise
                self._silent[node] = loop.time() + SILENT_SECONDS
                raise NodeUnavailable(node) from error

    async def _lead(self, lane: Lane, held: Held, batch: Sequence[Command], deadline: float) -> list[Outcome]:
        """Claim, read, decide and commit on the leader, then send the credits."""
        state = State(lane.leader, lane.homes.peer_of(lane.leader))
        wanted = Wanted.of(command.scope for command in batch)
        wanted.credits = {i for i in wanted.credits if lane.homes.home(slot_of(i)) == lane.leader}
        async with self._nodes[lane.leader].connection(deadline) as connection:
            epoch = lane.homes.epochs[lane.leader]
            claimed = await self._claim(lane.homes, connection, held, state, wanted)
            before_decision("redis.claimed")
            both = [_decide(state, command) for command in batch]
            before_decision("redis.decided")
            on_their_way = await self._on_their_way(connection, lane, batch, state)
            if state.writes:
                intents = [(lane.homes.home(slot_of(c.account_id)), c.transfer.id) for c in state.writes.credits]
                await write(connection, claimed, intents, epoch=epoch)
                after_decision("redis.committed")
        self._hint(state.writes.accounts)
        sent = []
        for command, (outcome, credits_) in zip(batch, both, strict=True):
            again = [credit for name in answered(command.scope, state) for credit in on_their_way.get(name, ())]
            each = {credit.transfer.id: credit for credit in (*credits_, *again)}
            sent.append(self._sent(outcome, list(each.values())))
        return sent

    async def _claim(
        self,
        homes: Placement,
        connection: Connection,
        held: Held,
        state: State,
        wanted: Wanted,
        *,
        most_ms: int = LOCK_MS_MAX,
    ) -> Claimed:
        epoch = homes.epochs[connection.node]
        asked = self._wish(wanted, "claim", epoch, patience_ms=connection.patience_ms(most_ms))
        return await claim(connection, self.leases, held, state, wanted, asked=asked)

    async def _on_their_way(
        self, connection: Connection, lane: Lane, batch: Sequence[Command], state: State
    ) -> dict[TransferId, list[Credit]]:
        """The credits that the batch sends, and the open credits of commands that its receipts name.

        They come by the first transfers of the commands. Sending them again lets a replayed answer say whether the
        payees have been credited.
        """
        sent: dict[tuple[object, ...], list[Credit]] = {}
        for credit in state.writes.credits:
            sent.setdefault(command_of(credit.transfer), []).append(credit)
        found = {transfer.id: sent.get(command_of(transfer), []) for transfer in state.writes.transfers}
        names = {name for command in batch for name in answered(command.scope, state)}
        earlier = await self._credits_of(lane.homes, connection, names - found.keys())
        homes = {name: home for credits_ in earlier.values() for name, home in credits_.items()}
        rows = await connection.rows(sql.OPEN_AMONG, list({*homes.values()}), list(homes)) if homes else ()
        opened = {transfer.id: transfer for transfer in map(TRANSFER.from_row, rows)}
        for first, credits_ in earlier.items():
            open_ = (opened[name] for name in credits_ if name in opened)
            found[first] = [Credit(t.credit_account_id, t.net_minor, t, lane.leader) for t in open_]
        return found

    def _sent(self, outcome: Outcome, credits_: Sequence[Credit]) -> Outcome:
        """Send the credits of a decided command."""
        assert self._credits is not None
        return sending(outcome, credits_, self._credits.send)

    # Recovery and maintenance

    async def recover(self, limit: int) -> Recovered:
        """See `Store.recover`. Sends open credits; those seen for the first time only after `_RIPE_SECONDS`.

        Then receives what is pending: afterwards nothing is, except where somebody keeps an account leased.
        """
        assert self._credits is not None
        credited, unripe = await self._credits.settle(limit)
        if unripe:
            await asyncio.sleep(_RIPE_SECONDS)
            more, _ = await self._credits.settle(limit)
            credited += more
        if self.capabilities.spans_nodes:
            await self._receive(RECEIVE_SECONDS)
        return Recovered(credited=credited)

    async def _receive_some(
        self, homes: Placement, connection: Connection, names: set[AccountId]
    ) -> tuple[set[AccountId], bool]:
        """See `Receiving`. An account that somebody locks without a lease keeps no other one waiting.

        Inside the gate nobody can commit, so whoever has leases there is not waited for.
        """
        rows = [["gate"]] if connection.holds_gate else [[account_row(name)] for name in names]
        async with AsyncExitStack() as stack:
            try:
                held = await stack.enter_async_context(self.leases.hold(connection.node, rows))
            except Unavailable as error:  # it is the Redis, and the connection is sound
                if connection.holds_gate:
                    raise
                log_once_a_minute(log, logging.WARNING, "receiver", f"pending credits wait for their entries: {error}")
                return set(), True
            busy = held.busy * len(names) if connection.holds_gate else held.busy
            free = {name for name, by in zip(names, busy, strict=True) if by is None}
            try:
                return await self._receive_claimed(homes, connection, held, free), len(free) < len(names)
            except Contended:
                if len(names) == 1:
                    return set(), True
        parts = [await self._receive_some(homes, connection, {name}) for name in names]
        return {name for left, _ in parts for name in left}, any(busy for _, busy in parts)

    async def _receive_claimed(
        self, homes: Placement, connection: Connection, held: Held, names: set[AccountId]
    ) -> set[AccountId]:
        if not names:
            return set()
        state = State(connection.node, homes.peer_of(connection.node))
        claimed = await self._claim(homes, connection, held, state, Wanted(accounts=names), most_ms=_RECEIVE_MS)
        if state.writes:
            await write(connection, claimed, epoch=homes.epochs[connection.node])
        return self._received_of(state, claimed.found)

    async def _quieten(self) -> None:
        """Wait until no credit is on its way. Raises Contended."""
        assert self._credits is not None
        loop = asyncio.get_running_loop()
        until = loop.time() + _GATE_SECONDS
        while await self._credits.open_intents():
            if loop.time() > until:
                raise Contended("credits are on their way to a node that does not take them")
            await self._credits.settle(_RECOVER_MAX, at_once=True)

    async def ping(self) -> Away:
        """The nodes that cannot write now. Raises Unavailable if none can, or the Redis cannot."""
        away, _ = await asyncio.gather(super().ping(), self.leases.ping())
        return away


def _late(command: Command) -> Failed | None:
    """Refuses a command that has spent most of its time: a commit with it would have to hurry for all others, too."""
    now = asyncio.get_running_loop().time()
    spent, left = now - command.began, command.deadline - now
    return Failed(Contended("the payees' nodes were slow to answer")) if left < spent / 3 else None


def _decide(state: State, command: Command) -> tuple[Outcome, list[Credit]]:
    """Decide one command. Returns its outcome and the credits that it sends to other nodes."""
    before = len(state.writes.credits)
    state.facts = dict(command.facts or ())  # its own: those of another command may be older
    (outcome,) = decide_all(state, [(command.scope, command.decide)])
    return outcome, state.writes.credits[before:]
