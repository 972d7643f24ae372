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
WRITE: Final = "pwrite64"
COUNTER_SECONDS: Final = 5.0
"""How late a server's counter may be."""

_PR_SET_PTRACER: Final = 0x59616D61
_ANYBODY: Final = ctypes.c_ulong(-1)


@dataclass(slots=True)
class Flushes:
    """The number of flushes, set when the counting block has ended; `why` says why they could not be counted."""

    count: int | None = None
    why: str = ""
    log_bytes: int | None = None
    """What was written into the log's files, where the writes are traced."""


@contextmanager
def traced_flushes(folder: Path, pid: int | None = None, log_suffix: str | None = None) -> Iterator[Flushes]:
    """Count the calls of a process, by default this one, that flush a file below `folder`, mapped or all files.

    With `log_suffix` the bytes that it writes to files whose names end so are counted, too.
    """
    counted = Flushes()
    program = shutil.which("strace")
    if program is None:
        counted.why = "strace is not installed"
        yield counted
        return
    with tempfile.TemporaryDirectory() as place:
        trace = Path(place) / "trace"
        calls = CALLS if log_suffix is None else (*CALLS, WRITE)
        command = [program, "-f", "-qq", "-y", "-o", str(trace), "-s", "0", "-e", f"trace={','.join(calls)}"]
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
            folder = folder.resolve()  # as the trace has it
            text = trace.read_text(errors="replace")
            flushed = re.findall(rf"\b(?:{'|'.join(CALLS)})\((?:\d+<([^>]*)>)?", text)
            counted.count = sum(not path or Path(path).is_relative_to(folder) for path in flushed)
            if log_suffix is not None:
                written = re.findall(rf'\b{WRITE}\(\d+<([^>]*)>, ""\.*, (\d+)', text)
                counted.log_bytes = sum(int(size) for path, size in written if path.endswith(log_suffix))


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
