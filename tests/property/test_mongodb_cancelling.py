"""A cancelled command of MongoDB's driver leaves its lock as it was."""

from __future__ import annotations

import asyncio
import importlib
import sys

from pymongo import lock

from wallet_gql.backends.mongodb.cancelling import make_safe
from wallet_gql.testing.patience import turns

importlib.import_module("wallet_gql.backends.mongodb.client")  # makes the driver safe


async def is_free_after_a_cancelled_wait() -> bool:
    """Wait as the driver does, with the lock held elsewhere as the wait times out, and cancel the waiter then."""
    mutex = lock._async_create_lock()
    condition = lock._async_create_condition(mutex)

    async def command() -> None:
        async with mutex:
            await lock._async_cond_wait(condition, 0.001)

    waiting = asyncio.create_task(command())
    await turns(1)
    async with mutex:  # free, for the waiter has given it back
        await asyncio.sleep(0.05)  # the wait is over, and wants the lock back
        waiting.cancel()  # and the lock is given back before the waiter runs again
    await asyncio.gather(waiting, return_exceptions=True)
    await turns()
    return not mutex.locked()


async def test_a_cancelled_wait_leaves_the_lock_free() -> None:
    """Otherwise every later command would wait for ever."""
    assert await is_free_after_a_cancelled_wait()


async def test_only_before_python_3_12_the_driver_as_it_is_keeps_it() -> None:
    """If this fails, the driver has been mended: `backends/mongodb/cancelling.py` can go."""
    try:
        importlib.reload(lock)
        assert await is_free_after_a_cancelled_wait() is (sys.version_info >= (3, 12))
    finally:
        make_safe()
