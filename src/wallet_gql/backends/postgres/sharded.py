"""What all backends on sharded Postgres nodes share: opening, reading, import, the gate, and the sweep.

Subclasses say how a command commits: two-phase commit in `store.py`, leases and intents in `redis/store.py`.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from typing import ClassVar, Final, Literal, TypeVar

from ...background import run_for_ever
from ...domain.changes import Decide, Outcome, Scope, State, Writes
from ...domain.errors import ConfigurationError, Contended, InvariantViolated, Unavailable, WalletError
from ...domain.frozen import frozen
from ...domain.ids import AccountId, TransferId, is_system, slot_of
from ...domain.model import AccountFacts, AccountStatus
from ...storage import TIMEOUT_SECONDS, Away, Capabilities, Committed, NodeVitals, Recovered
from ...urls import hidden
from ..kit.credits import CREDIT_SECONDS, replied
from ..kit.group_commit import Command, Deferred, LanePolicy
from ..kit.imports import completed, unknown_accounts
from ..kit.kinds import TRANSFER
from ..kit.nodes import NodeMap
from ..kit.wanted import Wanted
from . import text as sql
from .commit import Branch, decide
from .json_text import given
from .moves import Moves
from .node import PATIENCE, Connection, PgNode
from .placement import OtherEpoch, Placement, Told, not_yet
from .receiving import Receiving
from .setup import identify, identity_of, usable
from .two_phase import Recovery
from .upgrade import are_due, identity_if_any, prepare_node, settling
from .vitals import check_held, vitals_of, why_away

log = logging.getLogger("wallet_gql.postgres")

R = TypeVar("R")

RECOVER_EVERY_SECONDS: Final = 0.5
PRUNE_EVERY_SECONDS: Final = 3_600.0
LEARN_EVERY_SECONDS: Final = 5.0
"""How often a process that nobody uses reads the placement, so that it says so if it cannot reach a new node."""

_IMPORT_SECONDS: Final = 60.0
"""How long one node's part of an import may take."""

_GATE_SECONDS: Final = 10.0
"""How long `gate` waits for one node's commits to end; how long it stays closed has no bound."""

COMMIT_SECONDS_MIN: Final = 0.05
"""Below this, refuse: a late COMMIT would be InDoubt."""


@frozen
class Lane:
    """What commits together on a leader. A lane with `behind` waits for that row.

    `others` are the nodes that its commands credit: part of the commit with two-phase commit, asked before it under
    leases. All commands go by one placement, `homes`.
    """

    homes: Placement
    leader: str
    others: tuple[str, ...] = ()
    behind: Hashable = None


@frozen
class Elsewhere:
    """A lane of commands that must wait for a newer placement than this one, and then go to other lanes."""

    homes: Placement


class PgStore(Receiving):
    """A ledger on named Postgres nodes; subclasses commit and recover."""

    name: str
    protocol: ClassVar[Literal["two-phase commit", "leases"]]
    """How commits reach several nodes. For two-phase commit the nodes must allow prepared transactions."""
    remote: ClassVar[Literal["atomic", "eventual"]]
    """`Capabilities.remote_credit`."""

    def __init__(self, url: str, policy: LanePolicy) -> None:
        """`url` is that of one or several nodes, or of a file that lists them. Raises ConfigurationError."""
        super().__init__(url, policy)
        many = len(self._nodes) > 1
        self.capabilities = Capabilities(
            durable=True, multi_process=True, spans_nodes=many, snapshot_reads=not many, remote_credit=self.remote
        )
        self._cluster = ""
        self._recovering: asyncio.Task[None] | None = None
        self._recovery: Recovery
        self.moves: Moves
        """The steps of a move of slots, once the store is open."""
        self._prune_at = 0.0
        self._learn_at = 0.0

    # Opening and closing

    async def _open(self) -> None:
        many = len(self._nodes) > 1
        two_phase = many and self.protocol == "two-phase commit"
        try:
            nodes = await self._reach()
            due = await are_due(nodes, two_phase=two_phase, migrates=self.migrates)
            async with settling(nodes, two_phase=two_phase) if due else nullcontext():
                for node in nodes:
                    with usable(node):
                        await prepare_node(node, migrates=self.migrates)
            told = await identify(nodes, self.protocol, migrates=self.migrates)
            self._cluster = next(iter(told.values())).cluster_id
            await self._begin_placement(told, two_phase=two_phase)
            await self._opened()
        except BaseException:
            await self._close()
            raise
        if many:
            self._recovering = asyncio.create_task(self._recover_for_ever())

    async def _reach(self) -> list[PgNode]:
        """Open the nodes. Those that are listed and not part of the ledger yet are left out, also if they are down.

        Raises ConfigurationError.
        """
        known: dict[str, Told | None] = {}
        faults: dict[str, ConfigurationError] = {}
        for name, node in self._nodes.items():
            known[name] = None
            try:
                with usable(node):
                    await node.open()
                    if len(self._nodes) > 1:
                        known[name] = await identity_if_any(node)
            except ConfigurationError as error:
                faults[name] = error
        for name in not_yet(known):
            why = hidden(f"; {faults.pop(name).message}") if name in faults else ""
            text = "node %s is listed and is not part of the ledger yet: wallet-gql nodes add %s%s"
            log.warning(text, name, name, why)
            await self._nodes.pop(name).close()
        for fault in faults.values():
            raise fault
        return list(self._nodes.values())

    async def _begin_placement(self, told: Mapping[str, Told], *, two_phase: bool) -> None:
        """Learn which node has which slot, and the nodes that only the ledger names. Raises ConfigurationError."""
        try:
            await self._learning.begin(told, two_phase=two_phase)
        except Unavailable as error:
            text = f"a node that was added cannot be used, or a move is under way: {error.detail or error.message}"
            raise ConfigurationError(f"{text}; start the node, or try again") from error

    async def _opened(self) -> None:
        """Set up what else the backend needs, `moves` among it. The nodes are open and belong together."""
        self._recovery = Recovery(self._cluster, self._nodes)

    async def _finish(self) -> None:
        """Close what `_opened` set up. The sweep has ended and the nodes are still open."""

    @abstractmethod
    async def recover(self, limit: int) -> Recovered:
        """See `Store.recover`."""

    @abstractmethod
    async def _sweep(self) -> None:
        """Settle the commits that any process left unfinished, as far as possible now."""

    async def _sweep_moves(self) -> None:
        """End what a move that has stopped has left. Remove old decisions."""
        now, homes = asyncio.get_running_loop().time(), self.placement
        if homes.moving or homes.left:
            await self._learning.learn_now()  # a batch between two nodes does not wait for a third one that is down
            await self._finish_moves(self.placement)
        elif homes.unmet or now >= self._learn_at:
            self._learn_at = now + LEARN_EVERY_SECONDS
            await self._learning.learn_now()
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_EVERY_SECONDS
            await self._recovery.prune()

    async def _finish_moves(self, homes: Placement) -> None:
        await self.moves.finish(homes)

    async def _recover_for_ever(self) -> None:
        """Sweep for ever: every process settles what any process left unfinished.

        Moves have a loop of their own: a batch whose target is down slows its own loop, and no commit of other nodes.
        """
        await asyncio.gather(
            run_for_ever(log, "recovery", self._sweep, every_seconds=RECOVER_EVERY_SECONDS),
            run_for_ever(log, "ending moves", self._sweep_moves, every_seconds=RECOVER_EVERY_SECONDS),
        )

    async def _close(self) -> None:
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.gather(self._recovering, return_exceptions=True)
        await self._finish()
        await self._learning.close()
        await asyncio.gather(*(node.close() for node in self._nodes.values()))

    # Reading

    async def _credits_of(
        self, homes: Placement, leader: Connection, names: Collection[TransferId]
    ) -> dict[TransferId, dict[TransferId, str]]:
        """The credits of commands on other nodes, with these nodes, by the commands' first transfers.

        Raises:
            Unavailable, Contended.
        """
        found: dict[TransferId, dict[TransferId, str]] = {name: {} for name in names}
        for first, name, payee in await leader.rows(sql.CREDITS_OF, list(names)) if names else ():
            home = leader.node if is_system(payee) else homes.home(slot_of(payee))
            if home != leader.node:
                found[first][name] = home
        return found

    async def _have_arrived(self, credits_: Mapping[TransferId, str]) -> bool:
        """Whether all credits are on their nodes. A node that does not answer soon has not got them."""

        async def has(node: str) -> bool:
            names = [name for name, home in credits_.items() if home == node]
            try:
                known = await self._nodes[node].rows(self.statements.known_transfers, names, seconds=CREDIT_SECONDS)
            except WalletError:
                return False
            return len(known) == len(names)

        return all(await asyncio.gather(*map(has, set(credits_.values()))))

    # Writing

    async def execute(
        self, scope: Scope, decide: Decide[R], *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> Committed[R]:
        """See `Store.execute`. The reply waits until the payees' nodes have the credits, up to `CREDIT_SECONDS`."""
        return await replied(super().execute(scope, decide, timeout_seconds=timeout_seconds), timeout_seconds)

    def _lane(self, scope: Scope) -> Hashable:
        homes = self.placement
        if homes.awaits(scope):
            return Elsewhere(homes)
        others = homes.participants(scope)
        return Lane(homes, homes.home(scope.home), others, self._behind(scope, others))

    def _behind(self, scope: Scope, others: Sequence[str]) -> Hashable:
        """The row that a new command waits for first; by default none."""
        return None

    async def _commit(
        self, lane: Hashable, batch: Sequence[Command], wait_seconds: float
    ) -> Sequence[Outcome | Deferred]:
        if not isinstance(lane, Lane) or lane.homes is not self.placement:
            return self._again(batch)
        if wait_seconds < COMMIT_SECONDS_MIN:
            raise Contended("there was no time left to try again")
        try:
            return await self._commit_lane(lane, batch, asyncio.get_running_loop().time() + wait_seconds * PATIENCE)
        except OtherEpoch:  # certainly nothing was written
            return [Deferred(Elsewhere(lane.homes)) for _ in batch]

    @abstractmethod
    async def _commit_lane(self, lane: Lane, batch: Sequence[Command], deadline: float) -> Sequence[Outcome | Deferred]:
        """See `_commit`. Also raises OtherEpoch, if a node has other slots by now and nothing was written."""

    async def _facts(
        self, homes: Placement, connection: Connection, names: Iterable[AccountId]
    ) -> dict[AccountId, AccountFacts]:
        """The facts of those accounts that are on the connection's node, read without locks. Raises Unavailable."""
        mine = [name for name in names if homes.home(slot_of(name)) == connection.node]
        rows = await connection.rows_soon(sql.FACTS, mine, homes.epochs[connection.node])
        return {name: AccountFacts(name, owner, currency, AccountStatus(word)) for name, owner, currency, word in rows}

    @asynccontextmanager
    async def _turn(self, lane: Hashable) -> AsyncIterator[None]:
        """See `LanePolicy.turn`. Commands of the lane `Elsewhere` wait for a newer placement."""
        if isinstance(lane, Elsewhere):
            await self._learning.learn(lane.homes)
        yield

    def _only_moves(self, lane: Hashable) -> bool:
        """See `LanePolicy.only_moves`."""
        return isinstance(lane, Elsewhere)

    def _again(self, batch: Sequence[Command]) -> list[Deferred]:
        """Send commands to the lanes that they belong to by now."""
        return [Deferred(self._lane(command.scope)) for command in batch]

    # Maintenance

    @asynccontextmanager
    async def gate(self) -> AsyncIterator[None]:
        """See `Store.gate`: an advisory lock on every node, which each commit shares until its end.

        Inside it nothing is pending, except for credits that no account can take, and no slot moves.

        Raises:
            Contended: slots are moving, or it cannot be had. Unavailable: at the end, it was lost meanwhile.
        """
        until = asyncio.get_running_loop().time() + _GATE_SECONDS
        while True:
            async with AsyncExitStack() as stack:
                homes, held = self.placement, list[tuple[PgNode, Connection]]()
                if await self._close_gates(stack, homes, held):
                    yield
                    await check_held(held)
                    return
            if asyncio.get_running_loop().time() > until:
                raise Contended("slots are moving between nodes")
            await self._learning.learn(homes)

    async def _close_gates(
        self, stack: AsyncExitStack, homes: Placement, held: list[tuple[PgNode, Connection]]
    ) -> bool:
        """Close every node's gate. Returns whether the placement is still this one, with no slot on its way.

        The sessions that hold them are added to `held`.
        """
        for name in homes.names:
            deadline = asyncio.get_running_loop().time() + _GATE_SECONDS
            connection = await stack.enter_async_context(self._nodes[name].connection(deadline))
            connection.doubtful = True  # the lock ends with the session
            await connection.do(sql.CLOSE_GATE)
            held.append((self._nodes[name], connection))
            connection.holds_gate = True
        await self._quieten()
        for _, connection in held:
            connection.deadline = asyncio.get_running_loop().time() + _GATE_SECONDS
            try:
                if await self._receive_all(connection, connection.deadline):
                    raise Contended(f"accounts of node {connection.node} were locked all the time given")
            except OtherEpoch:
                return False
        told = await asyncio.gather(*(identity_of(self._nodes[name]) for name in homes.names))
        still = {one.name: one.epoch for one in told if one is not None} == homes.epochs
        return still and not homes.moving and not homes.left

    async def _quieten(self) -> None:
        """Inside the gate, before what is pending is received: wait until nothing is on its way. Raises Contended."""

    async def _check_epoch(self, homes: Placement, connection: Connection) -> None:
        """Until the transaction ends the node's slots stay as known. Raises Unavailable if they are others by now."""
        try:
            await self._load(homes, connection, State(connection.node, lambda _: None), Wanted(), "skip")
        except OtherEpoch as error:
            raise Unavailable(error.detail) from error

    async def _import(self, node: str, writes: Writes, homes: NodeMap) -> None:
        assert isinstance(homes, Placement)
        if homes.moving:
            raise Contended("slots are moving between nodes")
        deadline = asyncio.get_running_loop().time() + _IMPORT_SECONDS
        async with self._nodes[node].connection(deadline) as connection:
            await connection.begin("BEGIN")
            await self._check_epoch(homes, connection)
            headers = await connection.rows(self.statements.transfers, [transfer.id for transfer in writes.transfers])
            known = {transfer.id: transfer for transfer in map(TRANSFER.from_row, headers)}
            currencies = dict(await connection.rows(self.statements.currencies, unknown_accounts(writes)))
            fresh = completed(writes, known, currencies, node, homes)
            try:
                await decide(Branch(connection, given(fresh)))
            except WalletError as error:
                raise InvariantViolated(f"an item cannot be imported: {error}") from error

    def _present(self) -> list[PgNode]:
        return [self._nodes[name] for name in self.placement.names]

    async def vitals(self) -> Sequence[NodeVitals]:
        """See `Observed.vitals`."""
        found = await asyncio.gather(*map(vitals_of, self._present()))
        return [one for some in found for one in some]

    async def ping(self) -> Away:
        """The nodes that cannot write now, and those that this process has not reached. Raises Unavailable: all."""
        names = [node.name for node in self._present()]
        found = await asyncio.gather(*map(why_away, self._present()))
        away = {name: error for name, error in zip(names, found, strict=True) if error is not None}
        if len(away) == len(names):
            raise away[names[0]]
        why = "was added to the ledger, and this process has not reached it; each server must have its URL and password"
        return away | {name: Unavailable(f"node {name} {why}") for name in self.placement.unmet}
