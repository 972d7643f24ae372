"""Ends the servers of a test run or benchmark when the run dies, also by SIGTERM or SIGKILL.

The first `keep` starts a helper process, which reads from a pipe what to end. The pipe closes exactly when this process
dies; then the helper kills what still runs. (`PR_SET_PDEATHSIG` is not enough: it fires when the *thread* that started
the server ends, exists only on Linux, and does not reach Postgres' children.)

This file is also the helper's program, so it imports nothing of the package.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

_lock: Final = threading.Lock()
_helper: subprocess.Popen[bytes] | None = None


def keep(pid: int) -> None:
    """Kill this process, or its whole group if it leads one, once the calling process has died."""
    _tell(f"process {pid}")


def keep_folder(folder: Path) -> None:
    """Remove this folder once the calling process has died, after all processes were killed."""
    _tell(f"folder {folder}")


def _tell(line: str) -> None:
    global _helper  # noqa: PLW0603 - one helper for the whole process
    with _lock:
        if _helper is None:
            # In its own session, so that Ctrl-C at the terminal does not reach it.
            _helper = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            atexit.register(_finish, _helper)
        assert _helper.stdin is not None
        _helper.stdin.write(f"{line}\n".encode())
        _helper.stdin.flush()


def _finish(helper: subprocess.Popen[bytes]) -> None:
    """At a normal exit, let the helper end what is left, and wait for it."""
    with suppress(BrokenPipeError):
        helper.communicate()


# The helper


def _born(pid: int) -> str:
    """When a process started, to tell it from a later one with the same id; empty if there is no such process."""
    if not Path("/proc/self/stat").exists():
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    with suppress(OSError):
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]
    return ""


def children(parent: int) -> list[int]:
    """The processes that a process has started and that have not ended."""
    if not Path("/proc/self/stat").exists():
        command = ["ps", "-A", "-o", "pid=,ppid="]
        listed = subprocess.run(command, capture_output=True, check=True).stdout.splitlines()
        return [int(pid) for pid, of in map(bytes.split, listed) if int(of) == parent]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has ended meanwhile
            # The second field is the program's name in brackets; it may contain anything, also brackets and spaces.
            state, of = (process / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(of) == parent and state != "Z":
                found.append(int(process.name))
    return found


def _end(pid: int) -> None:
    """Kill it, and its children: those of Postgres are in groups of their own, and one that is stopped lives on."""
    for each in [pid, *children(pid)]:
        with suppress(ProcessLookupError):
            if os.getpgid(each) == each:
                os.killpg(each, signal.SIGKILL)
            else:
                os.kill(each, signal.SIGKILL)


def _serve(lines: IO[str]) -> None:
    """Remember what to end until the pipe closes; then end it, newest first."""
    processes: dict[int, str] = {}
    folders: list[str] = []
    for line in lines:
        kind, _, name = line.rstrip("\n").partition(" ")
        if kind == "folder":
            folders.append(name)
        else:
            processes[int(name)] = _born(int(name))
    for pid, born in reversed(processes.items()):
        if born and _born(pid) == born:
            _end(pid)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _serve(sys.stdin)
