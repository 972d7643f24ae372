"""Whether another process of this server lives."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any, Final

_SYNCHRONIZE: Final = 0x0010_0000
_WAIT_TIMEOUT: Final = 0x102
"""What Windows calls the right to wait for a process, and that it has not ended yet."""


def lives(pid: int) -> bool:
    """Whether a process of this server has this id: one of somebody else has got the id of one that has ended."""
    if sys.platform == "win32":
        return _lives_on_windows(pid)  # there, `os.kill` would send Ctrl+C
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _lives_on_windows(pid: int) -> bool:
    untyped: Any = ctypes
    kernel = untyped.windll.kernel32
    handle = kernel.OpenProcess(_SYNCHRONIZE, 0, pid)
    if not handle:
        return False
    try:
        return bool(kernel.WaitForSingleObject(handle, 0) == _WAIT_TIMEOUT)
    finally:
        kernel.CloseHandle(handle)
