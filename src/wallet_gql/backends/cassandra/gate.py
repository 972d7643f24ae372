"""The write gate: a commit writes its holder's name into every register.

A commit that was drafted on an older version fails; a process that reads the register again sees the name and waits.
The holder changes a number beside the name (a *beat*) every few seconds. A process that has seen the same beat for
`GATE_SECONDS` of its own clock opens the gate, so clocks are never compared. A holder that has lost the gate gets an
error at the end, so an export that lost it never passes for one of a single moment.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

from ...background import run_for_ever
from ...domain.errors import Unavailable
from .client import Client
from .errors import Failure, log, translate
from .partition import GATE_SECONDS, Draft, Partition, Register

CLOSE_SECONDS: Final = 10.0


class Gate:
    """The gate of one ledger, as its holder sees it."""

    def __init__(self, client: Client, partitions: Sequence[Partition]) -> None:
        """`partitions` are all partitions, in the order in which every process closes them."""
        self._client = client
        self._partitions = partitions

    @asynccontextmanager
    async def closed(self, settle: Callable[[str], Awaitable[None]]) -> AsyncIterator[None]:
        """Hold back every commit of every process; `settle` applies the credits on their way, through the gate.

        Raises:
            Contended: another process holds the gate, or credits on their way do not arrive.
            Unavailable: a partition does not answer; or, at the end, the gate was lost meanwhile.
        """
        holder = secrets.token_hex(16)
        kept = False
        try:
            deadline = asyncio.get_running_loop().time() + CLOSE_SECONDS
            first, *others = self._partitions
            await self._close(first, holder, deadline)  # if two processes close at once, one of them waits here
            await asyncio.gather(*(self._close(partition, holder, deadline) for partition in others))
            renewing = asyncio.create_task(self._renew(holder))
            try:
                await settle(holder)
                yield
            finally:
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)
        finally:
            kept = await self._open(holder)
        if not kept:
            raise Unavailable("the gate was lost while it was held, so others may have written")

    async def _close(self, partition: Partition, holder: str, deadline: float) -> None:
        async def draft(base: Register) -> Draft:
            return Draft(None, closes=None if base.gate == holder else holder)

        await partition.commit(draft, deadline, through=holder)

    async def _renew(self, holder: str) -> None:
        """Change the beat for ever. If the gate was lost, `closed` finds out at its end."""
        beats = count(1)

        async def beat() -> None:
            number = next(beats)
            await asyncio.gather(*(self._client.ask("beat", number, p.name, holder) for p in self._partitions))

        pause = GATE_SECONDS / 5
        await run_for_ever(log, "renewing the gate", beat, every_seconds=pause, slowest_seconds=pause)

    async def _open(self, holder: str) -> bool:
        """Open the gate. Returns whether this process still held it in every partition."""
        found = await asyncio.gather(*(self._open_one(p, holder) for p in self._partitions), return_exceptions=True)
        for failure in found:
            if isinstance(failure, BaseException):
                raise translate(failure) if isinstance(failure, Failure) else failure
        return all(found)

    async def _open_one(self, partition: Partition, holder: str) -> bool:
        partition.known = None
        (answer,) = await self._client.ask("open_gate", partition.name, holder)
        partition.known = None
        return bool(answer[0])
