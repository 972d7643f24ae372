"""Credits on other nodes: sent after the leader's commit, applied once, and found again if their sender dies.

The leader's commit leaves an *intent* for each credit. Applying a credit is idempotent: the payee's node keeps the
transfer's header under its id, and the unique key refuses a second one. So any number of processes may send the same
credit at any time: the leader, a recovering process, or a process that was asleep. After the credit is applied, the
intent is closed.

Each node has one queue of credits in this process, and one commit carries many of them. A row that another process has
leased delays only the credits for that row.
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
from ..kit.credits import CREDIT_SECONDS
from ..kit.group_commit import BATCH_MAX
from ..kit.kinds import TRANSFER
from ..kit.nodes import NodeMap
from ..kit.wanted import Wanted
from ..postgres import text as sql
from ..postgres.node import PgNode
from .claim import claim, write
from .leases import PAUSE_SECONDS_MAX, Leases

log = logging.getLogger("wallet_gql.redis")

LOOK_SECONDS: Final = 2.0
"""How long to wait for a node's list of open intents."""


def account_row(account_id: AccountId) -> str:
    """The name of an account's lease."""
    return f"a:{account_id}"


@dataclass(slots=True, eq=False)
class _Sending:
    """A credit on its way; `arrived` is true in the end if its node has it."""

    credit: Credit
    arrived: asyncio.Future[bool]
    until: float


class Credits:
    """The credits that this process sends, and the unsent ones that it finds."""

    def __init__(self, nodes: Mapping[str, PgNode], homes: NodeMap, leases: Leases) -> None:
        """The `nodes` must be open."""
        self.hint: Callable[[Iterable[AccountId]], None] = lambda _: None
        """Called with the accounts that were credited."""
        self._nodes = nodes
        self.homes = homes
        self._leases = leases
        self._queues: dict[str, deque[_Sending]] = {name: deque() for name in nodes}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._pending: dict[TransferId, _Sending] = {}
        self._unclosed: dict[tuple[str, str], set[TransferId]] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[str, set[TransferId]] = {name: set() for name in nodes}
        self.unripe = False
        """Whether the last `settle` skipped an intent because it saw it for the first time."""

    def send(self, credits_: Iterable[Credit]) -> list[asyncio.Future[bool]]:
        """Start to apply decided credits. Returns one future per credit; a future never raises.

        A credit that is already on its way is not sent twice.
        """
        loop = asyncio.get_running_loop()
        sent = []
        for credit in credits_:
            sending = self._pending.get(credit.transfer.id)
            if sending is None:
                sending = _Sending(credit, loop.create_future(), loop.time() + CREDIT_SECONDS)
                self._pending[credit.transfer.id] = sending
                self._enqueue(self.homes.home(slot_of(credit.account_id)), sending)
            sent.append(sending.arrived)
        return sent

    def _enqueue(self, peer: str, sending: _Sending) -> None:
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
                except Exception as error:  # noqa: BLE001 - the credit is decided: the sweep finishes it
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
        """Apply the credits whose rows can be leased. Returns the transfers now credited. Raises WalletError."""
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
            async with self._nodes[peer].connection(deadline, aside=True) as connection:
                state = State(peer, self.homes.peer_of(peer))
                claimed = await claim(connection, self._leases, held, state, wanted)
                reach("redis.credit.claimed")
                done = _receive(state, free)
                if state.writes:
                    await write(connection, claimed)
                    self.hint(state.writes.accounts)
        reach("redis.credited")
        return done

    # Closing

    def _close_intent(self, leader: str, peer: str, transfer_id: TransferId) -> None:
        self._unclosed.setdefault((leader, peer), set()).add(transfer_id)
        if leader not in self._closing:
            self._closing[leader] = asyncio.get_running_loop().create_task(self._close_all(leader))

    async def _close_all(self, leader: str) -> None:
        """Close the intents of applied credits. A failure is harmless: the next sweep closes them."""
        try:
            while mine := [pair for pair in self._unclosed if pair[0] == leader]:
                for pair in mine:
                    names = self._unclosed.pop(pair)
                    await self._nodes[leader].rows(sql.CLOSE_INTENTS, pair[1], list(names), aside=True)
                    reach("redis.closed")
        except Exception as error:  # noqa: BLE001 - a failure is harmless, see the docstring
            log.info("intents on %s stay open for now: %s", leader, error)
        finally:
            del self._closing[leader]

    async def closed(self) -> None:
        """Wait until the intents of all applied credits are closed, or have failed to close."""
        while self._closing:
            await asyncio.wait(list(self._closing.values()))

    # Finding

    async def settle(self, limit: int, *, at_once: bool = False) -> int:
        """Send the credits of open intents, at most `limit` per pair of nodes. Returns how many were applied.

        Intents seen for the first time are left to their leader, unless `at_once`. A node that does not answer is
        skipped; its intents stay open until it is back.
        """
        self.unripe = False
        found = await asyncio.gather(*(self._open_on(name, limit, at_once=at_once) for name in self._nodes))
        sent = self.send(credit for part in found for credit in part)
        if sent:
            await asyncio.wait(sent)  # unlike gather, wait does not cancel the futures: others wait for them, too
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
        """The number of open intents on all nodes. Raises Unavailable."""
        found = await asyncio.gather(*(node.ask(sql.COUNT_INTENTS, aside=True) for node in self._nodes.values()))
        return sum(int(count) for count in found)


def _receive(state: State, credits_: Sequence[Credit]) -> set[TransferId]:
    """Post the credits that are not yet applied. Returns the transfers that are credited once this is written."""
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
