"""Makes it safe to cancel a command of the driver under Python 3.11.

The driver waits for a change of its topology, or for a connection, with `asyncio.wait_for(condition.wait(), seconds)`.
Before Python 3.12 that runs `condition.wait()` in a task of its own. If the caller is cancelled just as the seconds are
over, the caller goes on without the driver's lock, and the task takes the lock and keeps it. From then on every command
of the client waits for that lock, and so does closing it: the process never uses MongoDB again. Callers are cancelled
at each deadline, and most often while the primary is away.

So the driver is given the `wait_for` of Python 3.12, which waits in the caller's own task.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from pymongo import lock

T = TypeVar("T")


async def wait_for(work: Coroutine[Any, Any, T], seconds: float | None) -> T:
    """Wait in this task. Raises TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        return await work


def make_safe() -> None:
    """Replace what the driver waits with, where that is needed."""
    if sys.version_info < (3, 12):
        vars(lock)["wait_for"] = wait_for
