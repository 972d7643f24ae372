"""The two signals that stop a server: SIGINT and SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_STOPS: Final = (signal.SIGINT, signal.SIGTERM)

Next = Callable[[], None]
"""Calls the previous handler."""


@contextmanager
def on_stop(handle: Callable[[Next], None]) -> Iterator[None]:
    """Call `handle` on each stop signal instead of the previous handler, which it gets as its argument.

    Does nothing outside the main thread: Python sets signal handlers only there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _STOPS}

    def called(number: int, frame: FrameType | None) -> None:
        def call_next() -> None:
            handler = before[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)

        handle(call_next)

    for number in before:
        signal.signal(number, called)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
