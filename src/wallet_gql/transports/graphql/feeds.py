"""What happens on an account, read once for all who watch it in this process.

While somebody watches, one task follows the account's entries (`Store.watch`), and reads the account after each of them
and at least every so many seconds. Whoever watches waits for its turns, and reads only what it has missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from contextvars import Context
from typing import Final

from ...domain.ids import AccountId
from ...domain.model import Account
from ...storage import PAGE_MAX, HistoryLine
from ...verbs.ledger import Ledger
from ...verbs.whole import lines_above
from .ticks import cancelled, ticking

CHECK_SECONDS: Final = 1.0
"""How long a revoked session, a hold or a freeze may go unnoticed while there are no entries."""


class Feed:
    """The turns of one account: what was read last, for all who watch it."""

    def __init__(self, ledger: Ledger, account: Account) -> None:
        """Begins behind the newest entry of `account`; turns begin with `start`."""
        self.account = account
        self.number = 0
        """How many turns there were."""
        self.watchers = 0
        self.is_over = False
        self._ledger = ledger
        self._lines: deque[HistoryLine] = deque(maxlen=PAGE_MAX)
        self._failure: Exception | None = None
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())

    async def end(self) -> None:
        """Stop reading."""
        assert self._task is not None
        await cancelled(self._task)

    async def turn_after(self, number: int) -> int | None:
        """The number of the newest turn once it is above `number`; None at the end. Raises what the reads raised."""
        while self.number <= number and not self.is_over:
            await self._moved.wait()
        if self._failure is not None:
            raise self._failure
        return None if self.is_over else self.number

    async def lines_above(self, account: Account, sequence: int) -> list[HistoryLine]:
        """The next lines of `account`, oldest first; read only if they were not read for all. Raises Unavailable."""
        if self._lines and self._lines[0].sequence <= sequence + 1:
            return [line for line in self._lines if sequence < line.sequence <= account.sequence]
        return list(await lines_above(self._ledger.store, account, sequence))

    async def _run(self) -> None:
        account_id, owner = AccountId(self.account.id), self.account.owner
        lines = self._ledger.store.watch(account_id, self.account.sequence)
        try:
            async with aclosing(ticking(lines, CHECK_SECONDS)) as ticks:
                async for line in ticks:
                    self.account = await self._ledger.account(owner, account_id)
                    if line is not None:
                        self._lines.append(line)
                    self._turn()
        except Exception as error:  # noqa: BLE001 - every error is passed to those who wait
            self._failure = error
        finally:
            self.is_over = True
            self._turn()

    def _turn(self) -> None:
        self.number += 1
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


class Feeds:
    """The feeds of one process; belongs to the process's event loop."""

    def __init__(self) -> None:
        self._open: dict[str, Feed] = {}

    @asynccontextmanager
    async def of(self, ledger: Ledger, account: Account) -> AsyncIterator[Feed]:
        """The feed of an account while inside; the last one who leaves ends it."""
        feed = self._open.get(account.id)
        if feed is None or feed.is_over:
            feed = self._open[account.id] = Feed(ledger, account)
            feed.start()
        feed.watchers += 1
        try:
            yield feed
        finally:
            feed.watchers -= 1
            if not feed.watchers:
                if self._open.get(account.id) is feed:
                    del self._open[account.id]
                await feed.end()
