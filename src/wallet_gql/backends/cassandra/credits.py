"""Credits of other partitions: the debit's commit writes an intent, and the payee's partition commits the credit.

The payee's partition keeps the transfer's row under its id; a credit is not applied if that row exists. So any number
of processes may send one credit, at any time. When the credit has arrived, the intent is marked as done. Intents are
not deleted, because a queue of deleted rows is slow to read. Instead, each partition stores a version up to which all
intents are done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ...domain.changes import Credit, Decision, Scope, Snapshot, State
from ...domain.errors import InvariantViolated, WalletError
from ...domain.ids import TransferId, slot_of
from ...failpoints import FailpointError, reach
from ..kit.credits import CREDIT_SECONDS
from ..kit.kinds import TRANSFER
from .client import Client
from .errors import Failure
from .partition import Partition
from .tables import BUCKET, Op, bucketed, values_of

log = logging.getLogger("wallet_gql.cassandra")

_KEEP_EVERY: Final = 100
"""After this many versions, store the version up to which all intents are done."""


@dataclass(frozen=True, slots=True)
class Receive:
    """Used in place of a command's decision: apply this credit unless its transfer exists."""

    credit: Credit

    def __call__(self, snapshot: Snapshot) -> Decision[None]:
        """Never called: see `receive`."""
        raise InvariantViolated("a credit is received, not decided")

    @property
    def scope(self) -> Scope:
        """What must be loaded for it. Whether its transfer exists is checked together with all other new keys."""
        undone = self.credit.transfer.reverses
        home = slot_of(self.credit.account_id)
        return Scope(home, accounts=(self.credit.account_id,), transfers=() if undone is None else (undone,))

    def receive(self, state: State) -> None:
        """Apply the credit. Raises InvariantViolated if the account cannot take it."""
        if self.credit.transfer.id not in state.transfers:
            state.receive(self.credit)
            state.load_transfer(self.credit.transfer, 0)


@dataclass(frozen=True, slots=True)
class Intent:
    """A decided credit and the version of the leading partition that decided it; 0 if the version is not known."""

    credit: Credit
    version: int

    @property
    def done(self) -> Op:
        """The row that marks it as done."""
        leader = self.credit.leader
        return "done", [bucketed(leader, self.version), self.version, self.credit.transfer.id, True]


class Credits:
    """The credits that this process sends, and the unsent ones that it finds."""

    def __init__(
        self, client: Client, partitions: Mapping[str, Partition], deliver: Callable[[Receive], Awaitable[object]]
    ) -> None:
        """`deliver` commits a credit in the payee's partition."""
        self._client = client
        self._partitions = partitions
        self._deliver = deliver
        self._pending: dict[TransferId, asyncio.Task[bool]] = {}
        self._arrived: dict[str, list[Op]] = {}
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._low: dict[str, int] = {}
        self._kept: dict[str, int] = {}
        self._seen: dict[str, set[TransferId]] = {}

    async def open(self) -> None:
        """Read the versions up to which all intents are done. Raises Failure."""

        async def one(name: str) -> None:
            found = await self._client.ask("get_marker", f"{name} intents")
            self._low[name] = self._kept[name] = found[0][0] if found else 0

        await asyncio.gather(*map(one, self._partitions))

    async def close(self) -> None:
        """Wait up to `CREDIT_SECONDS` for the credits on their way."""
        for tasks in (self._pending, self._closing):
            if tasks:
                await asyncio.wait(list(tasks.values()), timeout=CREDIT_SECONDS)
            for task in list(tasks.values()):
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    # Sending

    def send(self, intents: Iterable[Intent]) -> list[asyncio.Task[bool]]:
        """Start to apply decided credits. Returns one task per credit, whose result says whether it has arrived.

        A credit that is already on its way is not sent twice.
        """
        loop = asyncio.get_running_loop()
        sent = []
        for intent in intents:
            name = intent.credit.transfer.id
            task = self._pending.get(name)
            if task is None:
                task = self._pending[name] = loop.create_task(self._send(intent))
                task.add_done_callback(lambda _, name=name: self._pending.pop(name, None))  # type: ignore[misc]  # bound
            sent.append(task)
        return sent

    async def _send(self, intent: Intent) -> bool:
        try:
            await self._deliver(Receive(intent.credit))
            reach("cassandra.credited")
        except WalletError as error:
            log.info("the credit of %s is left to the sweep: %s", intent.credit.transfer.id, error)
            return False
        except FailpointError:
            return True
        if intent.version:
            self._close_intent(intent)
        return True

    def _close_intent(self, intent: Intent) -> None:
        leader = intent.credit.leader
        self._arrived.setdefault(leader, []).append(intent.done)
        if leader not in self._closing:
            self._closing[leader] = asyncio.get_running_loop().create_task(self._close_all(leader))

    async def _close_all(self, leader: str) -> None:
        """Mark applied credits as done. A failure is harmless: the next sweep finds them applied and marks them."""
        try:
            while ops := self._arrived.pop(leader, None):
                await self._client.write(ops, 1)
        except Failure as error:
            log.info("intents of %s stay open for now: %s", leader, error)
        finally:
            del self._closing[leader]

    # Finding

    async def settle(self, limit: int) -> tuple[int, bool]:
        """Send the credits of open intents, at most `limit` per partition. Returns how many have arrived.

        Intents seen for the first time are left to their leader; it also returns whether there were any.
        """
        found = await asyncio.gather(*(self._ripe(partition, limit) for partition in self._partitions.values()))
        sent = self.send(intent for part, _ in found for intent in part)
        if sent:
            await asyncio.wait(sent)
        while self._closing:
            await asyncio.wait(list(self._closing.values()))
        return sum(task.result() for task in sent), any(unripe for _, unripe in found)

    async def _ripe(self, partition: Partition, limit: int) -> tuple[list[Intent], bool]:
        """The intents whose credits to send now, and whether others were left."""
        opened = await self.open_of(partition)
        seen = self._seen.get(partition.name, set())
        self._seen[partition.name] = {intent.credit.transfer.id for intent in opened}
        ripe = [intent for intent in opened if intent.credit.transfer.id in seen][:limit]
        return ripe, len(ripe) < len(opened)

    async def open_of(self, partition: Partition) -> list[Intent]:
        """The open intents of a partition, after its newest commit was spread. Raises Failure."""
        name = partition.name
        version, attempt, _ = await partition.newest()
        known = partition.known
        if known is None or (known.version, known.attempt) != (version, attempt):
            version = (await partition.read()).version
        low = self._low[name]
        if low >= version:
            return []
        keys = [bucketed(name, bucket * BUCKET) for bucket in range(low // BUCKET, version // BUCKET + 1)]
        listed = await asyncio.gather(*(self._client.ask("get_intent", key, low) for key in keys))
        opened = [_intent(row, name) for rows in listed for row in rows if not row[3]]
        await self._raise_low(name, min((intent.version - 1 for intent in opened), default=version))
        return opened

    async def _raise_low(self, name: str, low: int) -> None:
        self._low[name] = max(low, self._low[name])
        if low - self._kept[name] >= _KEEP_EVERY:
            self._kept[name] = low
            await self._client.write([("marker", [f"{name} intents", low])], low)


def _intent(row: tuple[object, ...], leader: str) -> Intent:
    version, _, header, _ = row
    transfer = TRANSFER.from_row(values_of(str(header)))
    credit = Credit(transfer.credit_account_id, transfer.net_minor, transfer, leader)
    return Intent(credit, int(str(version)))
