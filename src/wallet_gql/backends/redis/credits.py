"""Credits on other nodes: sent once the leader has committed, applied once, and found again if nobody is left to send.

The leader's commit leaves an *intent* for each. To apply it is idempotent: the payee's node keeps the transfer's header
under its id, and a second one is refused by that key. So any number of processes may send the same credit, at any time:
the one that led, one that recovers, one that woke up late. Then the intent is closed.

All credits for one node go through one queue of this process, many to a commit; rows that somebody else has delay only
their own credits.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ...domain.changes import Credit, State
from ...domain.errors import Contended, InDoubt, InvariantViolated, WalletError
from ...domain.ids import AccountId, TransferId, slot_of
from ...failpoints import reach
from ..kit.group_commit import BATCH_MAX
from ..kit.kinds import TRANSFER
from ..kit.nodes import NodeMap
from ..kit.wanted import Wanted
from ..postgres import text as sql
from ..postgres.node import PgNode
from .claim import claim, write
from .leases import PAUSE_SECONDS_MAX, Leases

log = logging.getLogger("wallet_gql.redis")

CREDIT_SECONDS: Final = 2.0
"""How long a credit is tried before it is left to the sweep, and so how long a reply may wait for it."""

LOOK_SECONDS: Final = 2.0
"""How long a node is asked for its open intents."""


def account_row(account_id: AccountId) -> str:
    """The name of an account's lease."""
    return f"a:{account_id}"


@dataclass(slots=True, eq=False)
class _Sending:
    """A credit on its way; `arrived` says in the end whether its node has it."""

    credit: Credit
    arrived: asyncio.Future[bool]
    until: float


class Credits:
    """What this process sends, and what it finds unsent."""

    def __init__(self, nodes: Mapping[str, PgNode], homes: NodeMap, leases: Leases) -> None:
        """All of them are open."""
        self.hint: Callable[[Iterable[AccountId]], None] = lambda _: None
        """Is told the accounts that were credited."""
        self._nodes = nodes
        self._homes = homes
        self._leases = leases
        self._queues: dict[str, deque[_Sending]] = {name: deque() for name in nodes}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._pending: dict[TransferId, _Sending] = {}
        self._unclosed: dict[tuple[str, str], set[TransferId]] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[str, set[TransferId]] = {name: set() for name in nodes}
        self.unripe = False
        """Whether the last `settle` left something alone because it saw it for the first time."""

    def send(self, credits_: Iterable[Credit]) -> list[asyncio.Future[bool]]:
        """Begin to apply decided credits; a future each, which never raises. One on its way is not sent twice."""
        loop = asyncio.get_running_loop()
        sent = []
        for credit in credits_:
            sending = self._pending.get(credit.transfer.id)
            if sending is None:
                sending = _Sending(credit, loop.create_future(), loop.time() + CREDIT_SECONDS)
                self._pending[credit.transfer.id] = sending
                self._enqueue(self._homes.home(slot_of(credit.account_id)), sending)
            sent.append(sending.arrived)
        return sent

    def _enqueue(self, peer: str, sending: _Sending) -> None:
        self._queues[peer].append(sending)
        if peer not in self._running:
            self._running[peer] = asyncio.get_running_loop().create_task(self._run(peer))

    async def close(self) -> None:
        """Let what is on its way arrive, for a while; intents that stay open are found by whoever recovers."""
        tasks = [*self._running.values(), *self._closing.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=CREDIT_SECONDS)
        for task in [*self._running.values(), *self._closing.values()]:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # Applying

    async def _run(self, peer: str) -> None:
        queue, me = self._queues[peer], secrets.token_hex(8)
        try:
            while queue:
                batch = [queue.popleft() for _ in range(min(len(queue), BATCH_MAX))]
                try:
                    done, again = await self._apply(peer, batch, me), True
                except (Contended, InDoubt) as error:
                    log.info("credits for %s are tried again: %s", peer, error)
                    done, again = set(), True
                except Exception as error:  # noqa: BLE001 - decided is decided; whatever failed, the sweep finishes it
                    log.warning("credits for %s are left to the sweep: %s", peer, error)
                    done, again = set(), False
                self._tell(peer, batch, done, again=again)
        finally:
            del self._running[peer]

    def _tell(self, peer: str, batch: Sequence[_Sending], done: set[TransferId], *, again: bool) -> None:
        now = asyncio.get_running_loop().time()
        for sending in batch:
            transfer_id = sending.credit.transfer.id
            arrived = transfer_id in done
            if not arrived and again and now < sending.until:
                self._queues[peer].append(sending)
                continue
            del self._pending[transfer_id]
            if not sending.arrived.done():
                sending.arrived.set_result(arrived)
            if arrived:
                self._close_intent(sending.credit.leader, peer, transfer_id)

    async def _apply(self, peer: str, batch: Sequence[_Sending], me: str) -> set[TransferId]:
        """Apply those whose rows can be had; answers the transfers whose credits are there now. Raises WalletError."""
        deadline = max(sending.until for sending in batch)
        wishes = [[account_row(sending.credit.account_id)] for sending in batch]
        async with self._leases.hold(peer, wishes, me) as held:
            if None not in held.busy:
                await self._leases.pause(held, PAUSE_SECONDS_MAX)
                return set()
            reach("redis.credit.leased")
            free = [sending.credit for sending, by in zip(batch, held.busy, strict=True) if by is None]
            wanted = Wanted(
                accounts={credit.account_id for credit in free}, transfers={credit.transfer.id for credit in free}
            )
            async with self._nodes[peer].lease(deadline, aside=True) as lease:
                state = State(peer, self._homes.peer_of(peer))
                claimed = await claim(lease, self._leases, held, state, wanted)
                reach("redis.credit.claimed")
                done = _receive(state, free)
                if state.writes:
                    await write(lease, claimed)
                    self.hint(state.writes.accounts)
        reach("redis.credited")
        return done

    # Closing

    def _close_intent(self, leader: str, peer: str, transfer_id: TransferId) -> None:
        self._unclosed.setdefault((leader, peer), set()).add(transfer_id)
        if leader not in self._closing:
            self._closing[leader] = asyncio.get_running_loop().create_task(self._close_all(leader))

    async def _close_all(self, leader: str) -> None:
        """Nobody waits for it, and what is not closed is found applied, and closed, by the next sweep."""
        try:
            while mine := [pair for pair in self._unclosed if pair[0] == leader]:
                for pair in mine:
                    names = self._unclosed.pop(pair)
                    await self._nodes[leader].rows(sql.CLOSE_INTENTS, pair[1], list(names), aside=True)
                    reach("redis.closed")
        except Exception as error:  # noqa: BLE001 - see above
            log.info("intents on %s stay open for now: %s", leader, error)
        finally:
            del self._closing[leader]

    async def closed(self) -> None:
        """Wait until what has arrived is closed, as far as that can be done now."""
        while self._closing:
            await asyncio.wait(list(self._closing.values()))

    # Finding

    async def settle(self, limit: int, *, at_once: bool = False) -> int:
        """Send credits that are found open, at most `limit` a pair of nodes; how many have arrived.

        Those seen for the first time are left to whoever leads them, unless `at_once`. A node that does not answer is
        passed over; what depends on it stays open until it is back.
        """
        self.unripe = False
        found = await asyncio.gather(*(self._open_on(name, limit, at_once=at_once) for name in self._nodes))
        sent = self.send(credit for part in found for credit in part)
        if sent:
            await asyncio.wait(sent)  # which, unlike gather, leaves them alone when it is cancelled: others wait, too
        await self.closed()
        return sum(arrived.result() for arrived in sent)

    async def _open_on(self, leader: str, limit: int, *, at_once: bool) -> list[Credit]:
        others = [name for name in self._nodes if name != leader]
        try:
            found = await self._nodes[leader].rows(sql.OPEN_INTENTS, others, limit, seconds=LOOK_SECONDS, aside=True)
        except WalletError as error:
            log.info("the sweep passes %s over: %s", leader, error)
            return []
        open_ = [TRANSFER.from_row(row) for row in found]
        ripe = [t for t in open_ if at_once or t.id in self._seen[leader]]
        self.unripe |= len(ripe) < len(open_)
        self._seen[leader] = {transfer.id for transfer in open_}
        return [Credit(t.credit_account_id, t.net_minor, t, leader) for t in ripe]

    async def open_intents(self) -> int:
        """How many are open on all nodes. Raises Unavailable."""
        found = await asyncio.gather(*(node.ask(sql.COUNT_INTENTS, aside=True) for node in self._nodes.values()))
        return sum(int(count) for count in found)


def _receive(state: State, credits_: Sequence[Credit]) -> set[TransferId]:
    """Post the credits that are not there yet; answers the transfers whose credits are there once this is written."""
    done: set[TransferId] = set()
    for credit in credits_:
        if credit.transfer.id not in state.transfers:
            try:
                state.receive(credit)
            except InvariantViolated:
                log.exception("the credit of %s can not be applied, and its intent stays open", credit.transfer.id)
                continue
        done.add(credit.transfer.id)
    return done
