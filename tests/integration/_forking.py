"""Starts processes of the wallet by forking one that has imported it already: importing is most of what they cost.

`Forked` is used like `subprocess.Popen`, for commands that begin with `python -m wallet_gql`. A helper process imports
the wallet once and forks for each of them. The command sees what it would see if Python had just started: its
arguments, environment, folder, files and its name as `__main__`. `WALLET_TEST_FORKS=0` starts new Pythons instead.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any, Final

from wallet_gql.testing.servers.keeper import keep

ROOT: Final = Path(__file__).resolve().parents[2]
MODULE: Final = "wallet_gql"
COMMAND: Final = [sys.executable, "-m", MODULE]
REQUEST_BYTES_MAX: Final = 65_536
FILES: Final = 3
"""How many files a process gets: what it reads, what it writes, its errors."""


def can_fork(command: list[str], environment: dict[str, str]) -> bool:
    """Whether the helper can start it: it is a command of the wallet, and Python's own settings are the helper's."""
    wanted = os.environ.get("WALLET_TEST_FORKS") != "0" and sys.platform == "linux"
    return wanted and command[: len(COMMAND)] == COMMAND and _of_python(environment) == _of_python(_INHERITED)


def _of_python(environment: dict[str, str]) -> dict[str, str]:
    """The variables that Python and the C library read when they start."""
    return {name: value for name, value in environment.items() if name.startswith(("PYTHON", "LANG", "LC_", "TZ"))}


def start(command: list[str], *, env: dict[str, str], **options: Any) -> subprocess.Popen[str]:
    """A process of the wallet; the options are those of `Popen`. Its output is text."""
    made = Forked if can_fork(command, env) else subprocess.Popen
    return made(command, env=env, text=True, **options)


class Forked(subprocess.Popen[str]):
    """A child of the helper. The helper waits for it, since only a parent can."""

    def _execute_child(self, *given: Any) -> None:
        """See `Popen`: the arguments that this needs have had the same places since Python 3.11."""
        command, folder, environment, pipes, new_session = given[0], given[5], given[6], given[10:16], given[21]
        ends = [own if pipe == -1 else pipe for own, pipe in enumerate((pipes[0], pipes[3], pipes[5]))]
        request = {"arguments": command[2:], "folder": str(Path(folder or "").absolute()), "environment": environment}
        try:
            self.pid = _helper().start({**request, "new_session": new_session}, ends)
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]  # Popen's own

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """See `Popen`: its id and status if it has ended; without WNOHANG, wait for that."""
        if not wait_flags & os.WNOHANG:
            watched = os.pidfd_open(self.pid)
            select.select([watched], [], [])
            os.close(watched)
        return _helper().ended(self.pid)

    def _internal_poll(self, *_: object, **__: object) -> int | None:
        """See `Popen`: its exit code if it has ended."""
        if self.returncode is None:
            pid, status = self._try_wait(os.WNOHANG)
            if pid == self.pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class _Helper:
    """The process that forks, as its user sees it. One request at a time."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                env=_INHERITED,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        keep(process.pid)
        self._process = process
        self._lock = threading.Lock()

    def start(self, request: dict[str, Any], files: list[int]) -> int:
        """Fork; returns the new process's id."""
        return int(self._ask(request, files)[0])

    def ended(self, pid: int) -> tuple[int, int]:
        """As `os.waitpid` with WNOHANG."""
        found, status = self._ask({"ended": pid}, [])
        return found, status

    def _ask(self, request: dict[str, Any], files: list[int]) -> list[int]:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            answer = self._socket.recv(REQUEST_BYTES_MAX)
        assert answer, "the process that forks has ended"
        found: list[int] = json.loads(answer)
        return found


@cache
def _helper() -> _Helper:
    return _Helper()


_INHERITED: Final = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
"""The helper's environment: none of the caller's settings of the wallet, and nothing that a test sets meanwhile."""


# The helper's own side


def _serve(asked: socket.socket) -> dict[str, Any]:
    """Answer requests until the caller is gone. In a forked process: return what it shall do."""
    while True:
        raw, files, *_ = socket.recv_fds(asked, REQUEST_BYTES_MAX, FILES)
        if not raw:
            os._exit(0)
        request: dict[str, Any] = json.loads(raw)
        if "ended" in request:
            asked.send(json.dumps(_waited(request["ended"])).encode())
            continue
        pid = os.fork()
        if not pid:
            asked.close()
            for number, file in enumerate(files):
                os.dup2(file, number)
            os.closerange(FILES, max(*files, FILES) + 1)
            return request
        for file in files:
            os.close(file)
        asked.send(json.dumps([pid]).encode())


def _waited(pid: int) -> tuple[int, int]:
    """As `os.waitpid` with WNOHANG. Of two threads that ask at once, one is told."""
    try:
        return os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0, 0


def _become(request: dict[str, Any]) -> None:
    """Run the command. It takes SIGHUP as in a terminal, also if the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if request["new_session"]:
        os.setsid()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        mode, buffering = "w" if number else "r", 1 if name == "stderr" else -1
        opened = open(number, mode, buffering, before.encoding, before.errors, closefd=False)  # noqa: SIM115 - for all its life
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = request["folder"]
    sys.argv = request["arguments"]
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)


def main() -> None:
    """Import what the commands need, then fork on request."""
    import wallet_gql.backends.sqlite.store  # noqa: PLC0415 - the caller has no use for these
    import wallet_gql.transports.cli  # noqa: PLC0415
    import wallet_gql.transports.server.checks  # noqa: PLC0415
    import wallet_gql.transports.server.serving  # noqa: F401, PLC0415

    gc.freeze()  # else each process would copy all of it when it first collects garbage, and when it ends
    _become(_serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
