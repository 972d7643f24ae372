"""Counts flushes: what a process has written survives a kill, but only what was flushed survives a power failure.

A store that writes files itself is traced by strace; servers are asked for their counters.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .patience import patience, until, wait_until

CALLS: Final = ("fsync", "fdatasync", "msync", "syncfs", "sync", "sync_file_range")
COUNTER_SECONDS: Final = 5.0
"""How late a server's counter may be."""

_PR_SET_PTRACER: Final = 0x59616D61
_ANYBODY: Final = ctypes.c_ulong(-1)


@dataclass(slots=True)
class Flushes:
    """The number of flushes, set when the counting block has ended; `why` says why they could not be counted."""

    count: int | None = None
    why: str = ""


@contextmanager
def traced_flushes(folder: Path, pid: int | None = None) -> Iterator[Flushes]:
    """Count the calls of a process, by default this one, that flush a file below `folder`, mapped or all files."""
    counted = Flushes()
    program = shutil.which("strace")
    if program is None:
        counted.why = "strace is not installed"
        yield counted
        return
    with tempfile.TemporaryDirectory() as place:
        trace = Path(place) / "trace"
        command = [program, "-f", "-qq", "-y", "-o", str(trace), "-e", f"trace={','.join(CALLS)}"]
        _allow_tracing()
        traced = pid or os.getpid()
        tracing = subprocess.Popen([*command, "-p", str(traced)], stderr=subprocess.DEVNULL)
        try:
            if not _attached(tracing, traced):
                counted.why = f"strace may not trace process {traced}"
            yield counted
        finally:
            tracing.terminate()  # then it detaches from this process and ends
            tracing.wait(patience(10))
        if not counted.why:
            flushed = re.findall(rf"\b(?:{'|'.join(CALLS)})\((?:\d+<([^>]*)>)?", trace.read_text(errors="replace"))
            counted.count = sum(not path or Path(path).is_relative_to(folder) for path in flushed)


def _allow_tracing() -> None:
    """Allow a child to trace this process on systems where only parents may (Yama's `ptrace_scope`)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)


def _attached(tracing: subprocess.Popen[bytes], pid: int) -> bool:
    """Wait until every thread of a process is traced; False if the tracer has ended instead."""

    def everywhere() -> bool:
        status = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        return tracing.poll() is not None or all("\nTracerPid:\t0\n" not in text for text in status)

    with suppress(OSError, TimeoutError):
        wait_until(everywhere, 10, "strace does not attach", 0.005)
        return tracing.poll() is None
    return False


async def counted_by_server(ask: Callable[[], int], before: int, least: int) -> Flushes:
    """The growth of a server's counter since `before`, as soon as it is `least`, or after `COUNTER_SECONDS`."""
    counted = Flushes(0)

    def enough() -> bool:
        counted.count = ask() - before
        return counted.count >= least

    with suppress(TimeoutError):
        await until(enough, COUNTER_SECONDS, "the counter does not grow", 0.1)
    return counted
