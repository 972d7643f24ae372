"""A store behind a faulty network: requests that never arrive, lost replies, answers out of order."""

from __future__ import annotations

import asyncio
import random
from typing import Any, TypeVar

from ..domain.changes import Decide, Scope
from ..domain.errors import Contended, InDoubt
from ..storage import TIMEOUT_SECONDS, Committed, Store

R = TypeVar("R")


class Flaky:
    """Wraps a store in a random faulty network. Only commands with a key fail, because only they can be retried.

    Of ten such commands, about one fails with Contended before it arrives, and two are carried out but answered with
    InDoubt. All are delayed by a few turns of the event loop, before and after.
    """

    def __init__(self, store: Store, seed: int) -> None:
        """`seed` decides what fails."""
        self._store = store
        self._random = random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        """Every other member is the store's own."""
        return getattr(self._store, name)

    async def execute(
        self, scope: Scope, decide: Decide[R], *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> Committed[R]:
        """See `Store.execute`."""
        await self._delay()
        if not scope.receipts:
            return await self._store.execute(scope, decide, timeout_seconds=timeout_seconds)
        dice = self._random.random()
        if dice < 0.1:
            raise Contended("the request got lost")
        done = await self._store.execute(scope, decide, timeout_seconds=timeout_seconds)
        await self._delay()
        if dice < 0.3:
            raise InDoubt("the reply got lost")
        return done

    async def _delay(self) -> None:
        for _ in range(self._random.choice((0, 0, 1, 2, 5))):
            await asyncio.sleep(0)
