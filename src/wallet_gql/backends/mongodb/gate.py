"""The write gate: one document that says whether writing is allowed, and one *fence* document per process.

A commit reads the gate in its snapshot and increments its own process's fence, so processes do not conflict with one
another. The closer writes `holder` into the gate and then increments every fence, outside of a transaction, so that the
server makes it wait for the commits in flight. After that, a commit with an older snapshot fails because its fence has
changed, and a newer one sees that the gate is closed. A process whose fence is missing creates one and starts again.

The gate is a lease on the server's clock, renewed while it is held. A writer that finds it expired opens it. A holder
that has lost the gate gets an error at the end, so an export that lost it never passes for one of a single moment.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pymongo
from pymongo.errors import DuplicateKeyError, PyMongoError

from ...background import run_for_ever
from ...domain.errors import Contended, Unavailable
from .client import MongoServer
from .documents import Document
from .errors import log, translate
from .schema import CONTROL, LOCKS

LEASE_SECONDS: Final = 15.0
CLOSE_SECONDS: Final = 10.0
_STEP_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.02

EXPIRED: Final[Document] = {"$lte": ["$until", "$$NOW"]}
_UNTIL: Final[Document] = {"$add": ["$$NOW", int(LEASE_SECONDS * 1000)]}


class Gate:
    """This process's fence, and the gate as its holder sees it."""

    def __init__(self, server: MongoServer) -> None:
        self._server = server
        self._control = server.database[CONTROL]
        self._locks = server.database[LOCKS]
        self.fence_id = f"fence:{secrets.token_hex(16)}"

    async def register(self) -> None:
        """Create this process's fence: before its first commit, and whenever the fence was dropped."""
        fields = {"$setOnInsert": {"slot": 0, "fence": 0}, "$currentDate": {"seen_at": True}}
        await self._locks.update_one({"_id": self.fence_id}, fields, upsert=True)

    async def rehearse(self) -> None:
        """Write to a document that nobody reads. Raises the driver's errors."""
        with suppress(DuplicateKeyError):  # another process may be rehearsing at the same moment
            await self._locks.update_one(
                {"_id": "rehearsal"}, {"$inc": {"times": 1}, "$setOnInsert": {"slot": 0}}, upsert=True
            )

    def bump(self) -> Document:
        """The update statement by which every commit increments its own process's fence."""
        changes = {"$inc": {"fence": 1}, "$currentDate": {"seen_at": True}}
        return {"q": {"_id": self.fence_id}, "u": changes}

    async def open_expired(self, holder: str) -> None:
        """Open the gate if this holder's lease has expired."""
        await self._control.update_one({"_id": "gate", "holder": holder, "$expr": EXPIRED}, {"$set": {"holder": None}})

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Hold back the commits of all processes.

        Raises:
            Contended: another process holds the gate, or the commits in flight do not end.
            Unavailable: the server does not answer; or, at the end, the gate was lost meanwhile.
        """
        holder = secrets.token_hex(16)
        try:
            await self._close(holder)
            renewing = asyncio.create_task(self._renew(holder))
            try:
                yield
            finally:
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)
        finally:
            kept = await self._release(holder)
        if not kept:
            raise Unavailable("the gate was lost while it was held, so others may have written")

    async def _close(self, holder: str) -> None:
        deadline = asyncio.get_running_loop().time() + CLOSE_SECONDS
        await self._patiently(lambda: self._take(holder), deadline, "somebody else holds the gate")
        await self._patiently(self._bump_all, deadline, "commits in flight do not end")

    async def _patiently(self, step: Any, deadline: float, reason: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                with pymongo.timeout(min(_STEP_SECONDS, max(deadline - loop.time(), 0.001))):
                    if await step():
                        return
            except Exception as error:
                if not isinstance(error, PyMongoError) or not error.timeout:
                    raise translate(error) from error
                await self._server.reap()
            if loop.time() >= deadline:
                raise Contended(reason)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _take(self, holder: str) -> bool:
        free = {"_id": "gate", "$or": [{"holder": None}, {"holder": holder}, {"$expr": EXPIRED}]}
        done = await self._control.update_one(free, [{"$set": {"holder": holder, "until": _UNTIL}}])
        return done.matched_count == 1

    async def _bump_all(self) -> bool:
        await self._locks.update_many({"seen_at": {"$exists": True}}, {"$inc": {"fence": 1}})
        return True

    async def _renew(self, holder: str) -> None:
        """Renew the lease for ever. If the gate was lost, `closed` finds out at its end."""

        async def renew() -> None:
            with pymongo.timeout(pause):
                await self._control.update_one({"_id": "gate", "holder": holder}, [{"$set": {"until": _UNTIL}}])

        pause = LEASE_SECONDS / 3
        await run_for_ever(log, "renewing the gate", renew, every_seconds=pause, slowest_seconds=pause)

    async def _release(self, holder: str) -> bool:
        """Open the gate. Returns whether this process still held it."""
        try:
            with pymongo.timeout(CLOSE_SECONDS):
                done = await self._control.update_one({"_id": "gate", "holder": holder}, {"$set": {"holder": None}})
        except Exception as error:
            raise translate(error) from error
        return done.matched_count == 1
