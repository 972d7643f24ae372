"""Background work: loops that no error ends, and log lines limited to one a minute for each cause."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from .domain.errors import WalletError

AGAIN_SECONDS: Final = 60.0
"""How long a cause is not logged again."""

SLOWEST_SECONDS: Final = 30.0
"""The longest pause after failures, for loops whose normal pause is shorter."""

_CAUSES_MAX: Final = 1_024
_logged: dict[tuple[str, str], tuple[float, int]] = {}
"""When each cause of each logger was logged last, and how often it came since."""


def log_once_a_minute(
    log: logging.Logger, level: int, cause: str, text: str, *, error: BaseException | None = None
) -> None:
    """Log `text`, unless the same cause was logged within the last minute; then only count it.

    The next line of the cause shows the count. `error` adds its traceback.
    """
    now = time.monotonic()
    key = (log.name, cause)
    logged_at, missed = _logged.get(key, (-AGAIN_SECONDS, 0))
    if now - logged_at < AGAIN_SECONDS:
        _logged[key] = (logged_at, missed + 1)
        return
    if len(_logged) >= _CAUSES_MAX:
        _logged.clear()
    _logged[key] = (now, 0)
    more = f" ({missed} more since the last line)" if missed else ""
    log.log(level, "%s%s", text, more, exc_info=error)


async def attempt(log: logging.Logger, name: str, step: Callable[[], Awaitable[object]]) -> bool:
    """Run one step of background work; returns whether it succeeded. Errors are logged; a cancellation is raised."""
    try:
        await step()
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        _log_failure(log, name, error)  # a library has cancelled its own work, not this task
    except Exception as error:  # noqa: BLE001 - background work outlives whatever its step raises
        _log_failure(log, name, error)
    else:
        return True
    return False


def _log_failure(log: logging.Logger, name: str, error: BaseException) -> None:
    kind = type(error).__name__
    if isinstance(error, WalletError) and error.retryable:
        log_once_a_minute(log, logging.WARNING, f"{name}: {kind}", f"{name} will be tried again: {error}")
    else:
        text = f"{name} failed and will be tried again: {kind}"
        log_once_a_minute(log, logging.ERROR, f"{name}: {kind}", text, error=error)


async def run_for_ever(
    log: logging.Logger,
    name: str,
    step: Callable[[], Awaitable[object]],
    *,
    every_seconds: float,
    slowest_seconds: float = SLOWEST_SECONDS,
    at_once: bool = False,
) -> None:
    """Run `step` every `every_seconds`, until the task is cancelled; no error ends the loop.

    After a failure the pause doubles, up to `slowest_seconds`; after a success it is `every_seconds` again. With
    `at_once` there is no pause before the first step.
    """
    pause = 0.0 if at_once else every_seconds
    while True:
        await asyncio.sleep(pause)
        done = await attempt(log, name, step)
        pause = every_seconds if done else max(every_seconds, min(2 * pause, slowest_seconds))
