"""Finishes commands whose clients have hung up: cancelling them would only make their outcomes unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Finishing:
    """The running commands of one process, on one event loop."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a command to its end, even if the server cancels the request because its client has hung up."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def finish(self) -> None:
        """Wait for the commands whose clients have hung up."""
        await asyncio.gather(*self._running, return_exceptions=True)
