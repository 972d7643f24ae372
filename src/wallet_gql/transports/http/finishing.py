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
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()  # in place of `shield`, which takes one more turn of the loop
        task = loop.create_task(_into(outcome, work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await outcome

    async def finish(self) -> None:
        """Wait for the commands whose clients have hung up."""
        await asyncio.gather(*self._running, return_exceptions=True)


async def _into(outcome: asyncio.Future[T], work: Coroutine[Any, Any, T]) -> None:
    """Run a command; hand its outcome to whoever still waits for it."""
    try:
        result = await work
    except Exception as error:  # noqa: BLE001 - every error is the caller's
        if not outcome.done():
            outcome.set_exception(error)
    else:
        if not outcome.done():
            outcome.set_result(result)
    finally:
        outcome.cancel()  # only if it is not known: the loop is closing
