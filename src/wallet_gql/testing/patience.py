"""How long tests wait: seconds on an idle machine, stretched by how busy this machine is now.

A wait ends when its condition is true; its limit only tells a hang from slowness. So every limit in the tests is
`patience(seconds)`, with a number of seconds that would be generous on an idle machine:

```python
async with asyncio.timeout(patience(10)): ...
began = time.monotonic()
while not seen():                                     # measures again each time how busy the machine is
    assert time.monotonic() - began < patience(10)
```

Pytest's own time limit is stretched in the same way (`tests/conftest.py`). `WALLET_TEST_PATIENCE=3` multiplies all
limits, for a machine that is slow although nothing else runs on it: an emulator, a container with a small CPU quota.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from ..domain.errors import WalletError

T = TypeVar("T")

VARIABLE: Final = "WALLET_TEST_PATIENCE"
_LOAD: Final = Path("/proc/loadavg")

BACK_SECONDS: Final = 5.0
"""How long a node that is up may not answer: it is slow, or counts as silent a moment longer. For `insist`."""

PAUSE_SECONDS: Final = 0.005
"""Between two requests of `insist`."""


def patience(seconds: float) -> float:
    """The limit, in seconds, of a wait that takes at most `seconds` on an idle machine."""
    return seconds * slowness()


def slowness() -> float:
    """How many times longer work takes now than on an idle machine: at least 1, times `WALLET_TEST_PATIENCE`."""
    return float(os.environ.get(VARIABLE, "1")) * max(1.0, _wanting_to_run() / _processors())


def _wanting_to_run() -> float:
    """How many threads want a processor: the mean of the last minute or the present number, whichever is larger."""
    wanting = 0.0
    with suppress(OSError):
        wanting = os.getloadavg()[0]
    with suppress(OSError):  # only Linux has the present number, as the fourth field: running/all
        wanting = max(wanting, float(_LOAD.read_text(encoding="ascii").split()[3].partition("/")[0]))
    return wanting


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def within(seconds: float, command: Awaitable[T]) -> T:
    """Await with a time limit, in seconds on an idle machine. Raises TimeoutError."""
    async with asyncio.timeout(patience(seconds)):
        return await command


async def until(seen: Callable[[], bool], seconds: float, what: str, every_seconds: float = 0.01) -> float:
    """Poll until `seen` is true; returns how many seconds that took. Raises TimeoutError that names `what`."""
    began = time.monotonic()
    while not seen():
        if time.monotonic() - began > patience(seconds):
            raise TimeoutError(what)
        await asyncio.sleep(every_seconds)
    return time.monotonic() - began


def wait_until(seen: Callable[[], bool], seconds: float, what: str, every_seconds: float = 0.02) -> float:
    """`until` for synchronous code."""
    began = time.monotonic()
    while not seen():
        if time.monotonic() - began > patience(seconds):
            raise TimeoutError(what)
        time.sleep(every_seconds)
    return time.monotonic() - began


async def insist(ask: Callable[[], Awaitable[T]], seconds: float = 60.0, told: Counter[str] | None = None) -> T:
    """Repeat a request under one key until its answer is not retryable; `told` counts the codes of retryable answers.

    A busy store may answer any request with `Contended` or `InDoubt`, and a client then does the same. Raises the last
    WalletError.
    """
    began = time.monotonic()
    while True:
        try:
            return await ask()
        except WalletError as error:
            if not error.retryable or time.monotonic() - began > patience(seconds):
                raise
            if told is not None:
                told[error.code] += 1
            await asyncio.sleep(PAUSE_SECONDS)  # some refusals come without any wait, and others must go on


async def turns(count: int = 50) -> None:
    """Run everything that is ready on this loop, and what that makes ready: for tests without other processes."""
    for _ in range(count):
        await asyncio.sleep(0)
