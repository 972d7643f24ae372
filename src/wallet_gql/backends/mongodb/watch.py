"""Hints for watchers: a change stream of new entries, open only while something watches.

Nothing relies on the stream: if a hint is lost or late, the next poll finds the entry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from pymongo.errors import PyMongoError

from ...background import run_for_ever
from ...domain.ids import AccountId
from .client import MongoServer
from .errors import translate

log = logging.getLogger("wallet_gql.mongodb")

_AGAIN_SECONDS: Final = 1.0
_STAGES: list[dict[str, Any]] = [{"$match": {"operationType": "insert"}}, {"$project": {"documentKey": 1}}]


class Hints:
    """One change stream for all watchers of a store."""

    def __init__(self, server: MongoServer, hint: Callable[[Iterable[AccountId]], None]) -> None:
        self._server = server
        self._hint = hint
        self._watchers = 0
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def wanted(self) -> Iterator[None]:
        """Keep the stream open while inside."""
        self._watchers += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._follow())
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers and self._task is not None:
                self._task.cancel()
                self._task = None

    async def close(self) -> None:
        """End the stream."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _follow(self) -> None:
        """Follow the stream for ever; open a new one after each failure. Meanwhile watchers poll."""
        await run_for_ever(log, "the change stream", self._read, every_seconds=_AGAIN_SECONDS, at_once=True)

    async def _read(self) -> None:
        try:
            async with await self._server.database["entries"].watch(_STAGES) as stream:
                async for change in stream:
                    self._hint((AccountId(change["documentKey"]["_id"]["account_id"]),))
        except PyMongoError as error:
            raise translate(error) from error
