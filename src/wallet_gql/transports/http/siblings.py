"""Whether another worker of the same server serves. A worker without its store must not take requests from it.

All workers accept connections from one socket, and a refusal is quicker than any answer: a worker that can only refuse
would take most of the connections.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

if sys.platform != "win32":
    import fcntl


class Siblings:
    """A file that each worker locks, shared, while its wallet is open.

    The system removes the lock when the process ends, however it ends. On Windows no sibling is ever seen.
    """

    def __init__(self, path: Path) -> None:
        """`path` is the same file for all workers of a server. Raises OSError."""
        self._file: Final = path.open("ab")  # open until the process ends

    def serve(self) -> None:
        """From now on this worker serves."""
        if sys.platform != "win32":
            fcntl.flock(self._file, fcntl.LOCK_SH)

    def another_serves(self) -> bool:
        """Whether a worker serves; this one must not. Another one that asks at the same time may be taken for one."""
        if sys.platform == "win32":
            return False
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return False
