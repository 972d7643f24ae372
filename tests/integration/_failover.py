"""Clients that pay while servers of the store are lost and come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from wallet_gql.domain.errors import Unavailable, WalletError
from wallet_gql.storage import check_writable
from wallet_gql.testing.patience import insist, until
from wallet_gql.testing.world import Person, World

BACK_SECONDS: Final = 5.0
"""How soon payments and readiness are back after the store has returned."""

BALANCE: Final = 100_000
"""What each person has at first, in minor units."""

RETRYABLE: Final = {"NODE_UNAVAILABLE", "UNAVAILABLE", "CONTENDED", "IN_DOUBT"}
"""What a client may be told meanwhile."""


class Load:
    """Clients that pay both ways between two people until they are told to stop."""

    def __init__(self, world: World, left: Person, right: Person) -> None:
        self.errors: Counter[str] = Counter()
        self.answered = 0
        self.net_minor = 0
        """What went from left to right, in minor units."""
        self._world = world
        self._people = (left, right)
        self._ended = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Four clients. Raises what is not retryable."""
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(self._client(number))
            try:
                yield
            finally:
                self._ended = True

    async def _client(self, number: int) -> None:
        payer, payee = self._people if number % 2 else self._people[::-1]
        while not self._ended:
            await insist(partial(self._pay, payer, payee, self._world.key()), told=self.errors)
            self.answered += 1
            self.net_minor += 1 if number % 2 else -1

    async def _pay(self, payer: Person, payee: Person, key: str) -> None:
        try:
            await self._world.pay(payer, payee, 1, key=key)
        except WalletError:
            await asyncio.sleep(0.02)  # as a client does
            raise

    async def check(self) -> None:
        """Every answered payment is in the books once, and no other. Each person began with 100,000."""
        left, right = self._people
        assert await insist(partial(self._world.balance, left)) == (BALANCE - self.net_minor, 0)
        assert await insist(partial(self._world.balance, right)) == (BALANCE + self.net_minor, 0)

    async def progress(self, seconds: float = 30.0) -> float:
        """Wait until every client has been answered again. Returns the seconds."""
        wanted = self.answered + 8
        return await until(lambda: self.answered >= wanted, seconds, f"no payment is answered: {self.errors}")


async def ready(world: World) -> bool:
    """Whether every part of the store can write."""
    try:
        await check_writable(world.store)
    except Unavailable:
        return False
    return True
