"""Credits on other nodes: sent after the leader's commit, taken in once, and found again if their sender dies.

The leader's commit leaves an *intent* for each credit. The payee's node takes a credit in as a pending one, beside the
transfer's header, whose unique key refuses a second one. So any number of processes may send the same credit at any
time: the leader, a recovering process, or a process that was asleep. After the credit was taken in, the intent is
closed. It needs no lease, for it changes no row of the payee: whoever next claims the account receives it.

A credit goes to the node that has the payee's slot now. While an intent is open, neither its payer's slot moves nor its
payee's (`moves.py`). So a node that has the slot and the header has the credit: the header cannot be the leader's own.

Each node has one queue of credits in this process, and one commit carries many of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import asyncpg

from ...background import log_once_a_minute
from ...domain.changes import Credit, State
from ...domain.errors import Contended, InDoubt, InvariantViolated, WalletError
from ...domain.ids import AccountId, TransferId, slot_of
from ...domain.model import Transfer
from ...failpoints import reach
from ..kit.credits import CREDIT_SECONDS
from ..kit.group_commit import BATCH_MAX
from ..kit.kinds import TRANSFER
from ..postgres import text as sql
from ..postgres.json_text import given
from ..postgres.learning import Learning
from ..postgres.node import PgNode
from ..postgres.placement import OtherEpoch, Placement

log = logging.getLogger("wallet_gql.redis")

LOOK_SECONDS: Final = 2.0
"""How long to wait for a node's list of open intents."""

SETTLE_SECONDS: Final = 5.0
"""How long a move waits for the credits of its slots."""

_SETTLE_PAUSE: Final = 0.02

TAKE_IN: Final = "SELECT wallet_credit($1)"


@dataclass(slots=True, eq=False)
class _Sending:
    """A credit on its way; `arrived` is true in the end if its node has it."""

    credit: Credit
    arrived: asyncio.Future[bool]
    until: float


class Credits:
    """The credits that this process sends, and the unsent ones that it finds."""

    def __init__(self, nodes: Mapping[str, PgNode], learning: Learning) -> None:
        """The `nodes` must be open. Credits go by the placement that is learned."""
        self.hint: Callable[[Iterable[AccountId]], None] = lambda _: None
        """Called with the accounts that were credited."""
        self._nodes = nodes
        self._learning = learning
        self._queues: defaultdict[str, deque[_Sending]] = defaultdict(deque)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._pending: dict[TransferId, _Sending] = {}
        self._unclosed: defaultdict[str, set[TransferId]] = defaultdict(set)
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[str, set[TransferId]] = {}

    def send(self, credits_: Iterable[Credit]) -> list[asyncio.Future[bool]]:
        """Start to send decided credits. Returns one future per credit; a future never raises.

        A credit that is already on its way is not sent twice.
        """
        loop = asyncio.get_running_loop()
        sent = []
        for credit in credits_:
            sending = self._pending.get(credit.transfer.id)
            if sending is None:
                sending = _Sending(credit, loop.create_future(), loop.time() + CREDIT_SECONDS)
                self._pending[credit.transfer.id] = sending
                self._enqueue(sending)
            sent.append(sending.arrived)
        return sent

    def _enqueue(self, sending: _Sending) -> None:
        """Send it to the node that has the payee's slot. If no node says so, the sweep tries again."""
        slot = slot_of(sending.credit.account_id)
        if self._learning.known.unowned >> slot & 1:
            self._end(sending, arrived=False)
            return
        peer = self._learning.known.home(slot)
        self._queues[peer].append(sending)
        if peer not in self._running:
            self._running[peer] = asyncio.get_running_loop().create_task(self._run(peer))

    async def close(self) -> None:
        """Wait up to `CREDIT_SECONDS` for the credits on their way; recovery finds the intents that stay open."""
        tasks = [*self._running.values(), *self._closing.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=CREDIT_SECONDS)
        for task in [*self._running.values(), *self._closing.values()]:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # Sending

    async def _run(self, peer: str) -> None:
        queue = self._queues[peer]
        try:
            while queue:
                homes, batch = self._learning.known, self._batch(peer)
                try:
                    done, again = await self._take_in(homes, peer, batch) if batch else set(), False
                except OtherEpoch:
                    await self._learning.learn(homes)
                    done, again = set(), True
                except (Contended, InDoubt) as error:
                    log.info("credits for %s are tried again: %s", peer, error)
                    done, again = set(), True
                except Exception as error:  # noqa: BLE001 - the credit is decided: the sweep finishes it
                    text = f"credits for {peer} are left to the sweep: {error}"
                    log_once_a_minute(log, logging.WARNING, f"credits for {peer}", text)
                    done, again = set(), False
                self._tell(batch, done, again=again)
        finally:
            del self._running[peer]

    def _batch(self, peer: str) -> list[_Sending]:
        """The next credits for a node. Those whose slots have moved meanwhile go to other queues."""
        queue, homes = self._queues[peer], self._learning.known
        batch = []
        for sending in [queue.popleft() for _ in range(min(len(queue), BATCH_MAX))]:
            slot = slot_of(sending.credit.account_id)
            if homes.home(slot) == peer and not homes.unowned >> slot & 1:
                batch.append(sending)
            else:
                self._enqueue(sending)
        return batch

    def _tell(self, batch: Sequence[_Sending], done: set[TransferId], *, again: bool) -> None:
        now = asyncio.get_running_loop().time()
        for sending in batch:
            transfer_id = sending.credit.transfer.id
            arrived = transfer_id in done
            if not arrived and again and now < sending.until:
                self._enqueue(sending)
                continue
            self._end(sending, arrived=arrived)
            if arrived:
                self._close_intent(sending.credit.leader, transfer_id)

    def _end(self, sending: _Sending, *, arrived: bool) -> None:
        del self._pending[sending.credit.transfer.id]
        if not sending.arrived.done():
            sending.arrived.set_result(arrived)

    async def _take_in(self, homes: Placement, peer: str, batch: Sequence[_Sending]) -> set[TransferId]:
        """Have the peer take credits in. Returns the transfers that it now has.

        Raises:
            Contended: another process sends one of them at this moment; or the peer takes too long. OtherEpoch: it has
                other slots by now. Unavailable: it does not answer.
        """
        state = State(peer, homes.peer_of(peer))
        for sending in batch:
            state.pend(sending.credit)
        state.writes.transfers.sort(key=attrgetter("id"))  # in one order, for others may send the same
        reach("redis.crediting")
        async with self._nodes[peer].connection(max(sending.until for sending in batch), aside=True) as connection:
            text = given(state.writes, epoch=homes.epochs[peer], patience_ms=connection.patience_ms())
            try:
                lost = set(await connection.value(TAKE_IN, text))
            except InvariantViolated as error:
                if isinstance(error.__cause__, asyncpg.UniqueViolationError):
                    raise Contended("another process sends the same credits") from error
                raise
        reach("redis.credited")
        if lost:
            text = f"node {peer} has no accounts for the credits of {', '.join(sorted(lost))}: their intents stay open"
            log_once_a_minute(log, logging.ERROR, f"lost on {peer}", text)
        self.hint({sending.credit.account_id for sending in batch})
        return {sending.credit.transfer.id for sending in batch} - lost

    # Closing

    def _close_intent(self, leader: str, transfer_id: TransferId) -> None:
        self._unclosed[leader].add(transfer_id)
        if leader not in self._closing:
            self._closing[leader] = asyncio.get_running_loop().create_task(self._close_all(leader))

    async def _close_all(self, leader: str) -> None:
        """Close the intents of credits that were taken in. A failure is harmless: the next sweep closes them."""
        try:
            while names := self._unclosed.pop(leader, None):
                await self._nodes[leader].rows(sql.CLOSE_INTENTS, self._peers(leader), list(names), aside=True)
                reach("redis.closed")
        except Exception as error:  # noqa: BLE001 - a failure is harmless, see the docstring
            log.info("intents on %s stay open for now: %s", leader, error)
        finally:
            del self._closing[leader]

    def _peers(self, leader: str) -> list[str]:
        """The nodes that intents of a leader may name: also those that are gone."""
        return [name for name in self._learning.known.members if name != leader]

    async def closed(self) -> None:
        """Wait until the intents of all credits that were taken in are closed, or have failed to close."""
        while self._closing:
            await asyncio.wait(list(self._closing.values()))

    # Finding

    async def settle(self, limit: int, *, at_once: bool = False) -> tuple[int, bool]:
        """Send the credits of open intents, at most `limit` per pair of nodes. Returns how many were taken in.

        Intents seen for the first time are left to their leader, unless `at_once`; it also returns whether there were
        any. A node that does not answer is skipped; its intents stay open until it is back.
        """
        names = self._learning.known.names
        found = await asyncio.gather(*(self._open_on(name, limit, at_once=at_once) for name in names))
        sent = self.send(credit for part, _ in found for credit in part)
        if sent:
            await asyncio.wait(sent)  # unlike gather, wait does not cancel the futures: others wait for them, too
        await self.closed()
        return sum(arrived.result() for arrived in sent), any(unripe for _, unripe in found)

    async def _open_on(self, leader: str, limit: int, *, at_once: bool) -> tuple[list[Credit], bool]:
        """The credits to send now, and whether others were left because they were seen for the first time."""
        asked = (self._peers(leader), limit)
        try:
            found = await self._nodes[leader].rows(sql.OPEN_INTENTS, *asked, seconds=LOOK_SECONDS, aside=True)
        except WalletError as error:
            log.info("the sweep passes %s over: %s", leader, error)
            return [], False
        open_ = [TRANSFER.from_row(row) for row in found]
        seen = self._seen.get(leader, set())
        ripe = [t for t in open_ if at_once or t.id in seen]
        self._seen[leader] = {transfer.id for transfer in open_}
        return _credits(leader, ripe), len(ripe) < len(open_)

    async def settle_slots(self, slots: Sequence[int]) -> None:
        """Send every credit from or to these slots that is open now.

        Raises:
            Contended: one of them did not arrive in time. Unavailable: a node does not answer.
        """
        until = asyncio.get_running_loop().time() + SETTLE_SECONDS
        left = await self._open_of(slots)
        while left:
            if asyncio.get_running_loop().time() > until:
                raise Contended("credits from or to slots that move do not arrive")
            await asyncio.wait(self.send(left.values()))
            await self.closed()
            found = await self._open_of(slots)
            left = {name: credit for name, credit in left.items() if name in found}
            if left:
                await asyncio.sleep(_SETTLE_PAUSE)

    async def _open_of(self, slots: Sequence[int]) -> dict[TransferId, Credit]:
        texts = [f"{slot:03x}" for slot in slots]

        async def on(leader: str) -> list[Credit]:
            found = await self._nodes[leader].rows(sql.INTENTS_OF, texts, aside=True)
            return _credits(leader, map(TRANSFER.from_row, found))

        found = await asyncio.gather(*map(on, self._learning.known.names))
        return {credit.transfer.id: credit for some in found for credit in some}

    async def open_intents(self) -> int:
        """The number of open intents on all nodes. Raises Unavailable."""
        nodes = (self._nodes[name] for name in self._learning.known.names)
        found = await asyncio.gather(*(node.ask(sql.COUNT_INTENTS, aside=True) for node in nodes))
        return sum(int(count) for count in found)


def _credits(leader: str, transfers: Iterable[Transfer]) -> list[Credit]:
    return [Credit(t.credit_account_id, t.net_minor, t, leader) for t in transfers]
