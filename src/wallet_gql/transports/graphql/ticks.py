"""Waiting for the next item of a source without waiting for ever, and ending tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def ticking(source: AsyncIterator[T], seconds: float) -> AsyncGenerator[T | None, None]:
    """The items of a source, and None whenever it was silent for `seconds`. Closes the source at the end."""
    pending: asyncio.Task[T] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(_next(source))
            done, _ = await asyncio.wait({pending}, timeout=seconds)
            if not done:
                yield None
                continue
            try:
                item = pending.result()
            except StopAsyncIteration:
                return
            finally:
                pending = None
            yield item
    finally:
        if pending is not None:
            await cancelled(pending)
        if isinstance(source, AsyncGenerator):
            await source.aclose()


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have cleaned up; ignore what they raise."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, Exception):
            await task


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source)
