"""Work that is finished although its client has gone: half a command would be an unknown outcome for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Finishing:
    """The commands of one process that run; belongs to the event loop it runs on."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end, even where the server cancels whose client has hung up."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def finish(self) -> None:
        """Wait for the commands whose client did not."""
        await asyncio.gather(*self._running, return_exceptions=True)
