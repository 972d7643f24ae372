"""Starting, pausing and killing server processes; as root they run as a plain user."""

from __future__ import annotations

import atexit
import errno
import os
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..patience import patience, wait_until
from .keeper import children, keep, keep_folder

PLAIN_USER: Final = "nobody"
"""The user that servers run as if the tests run as root: several servers refuse to run as root."""

_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_PORTS_BEGIN: Final = 10_240
_chance: Final = random.SystemRandom()  # tests seed the common one, and would draw the same ports at once


class ServerMissing(Exception):
    """There is no such server on this machine; the message says what to install or set."""


def free_port() -> int:
    """A loopback port that is free now, and that only a server which is given it will take."""
    (port,) = free_ports(1, 1)
    return port


def free_ports(wanted: int, nodes: int) -> list[int]:
    """Ports that nobody listens on, on any of the nodes' addresses. Raises ServerMissing where those are not ours."""
    found: list[int] = []
    while len(found) < wanted:
        port = _drawn_port()
        if port not in found and all(_is_free(f"127.0.0.{node}", port) for node in range(1, nodes + 1)):
            found.append(port)
    return found


def _is_free(address: str, port: int) -> bool:
    """Whether nobody listens there. Raises ServerMissing where nobody can."""
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            remedy = "give the loopback interface more addresses"
            raise ServerMissing(f"{address} cannot be listened on ({error}); {remedy}") from error
    return True


def _drawn_port() -> int:
    """A port that the system gives to no connection by itself.

    A server listens some time after its port was chosen, and again after it was killed. Meanwhile another process could
    be given one of the others, for any connection that it makes.
    """
    with suppress(OSError, ValueError, IndexError):
        first_of_the_system = int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
        if first_of_the_system > _PORTS_BEGIN:
            return _chance.randrange(_PORTS_BEGIN, first_of_the_system)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def own_folder(prefix: str) -> Path:
    """A new folder owned by the server's user, removed when this process ends, also by a kill."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    keep_folder(folder)
    folder.chmod(0o755)
    give(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def give(folder: Path) -> None:
    """Make the server's user own a folder."""
    if os.getuid() == 0:
        user = pwd.getpwnam(PLAIN_USER)
        os.chown(folder, user.pw_uid, user.pw_gid)


def processor_seconds(pid: int) -> float:
    """User and system time of a process, its children, and those of its children that have ended. Raises OSError."""
    own, ended_children = _ticks(pid)
    running = 0
    for child in children(pid):
        with suppress(OSError):  # ended meanwhile: the next look finds it in its parent's sum
            running += _ticks(child)[0]
    return (own + ended_children + running) / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> tuple[int, int]:
    """The process's own time, and that of children that it has waited for (`man 5 proc`, fields 14 to 17)."""
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    user, system, waited_user, waited_system = map(int, fields[11:15])
    return user + system, waited_user + waited_system


def ended(pid: int) -> bool:
    """Whether a process is gone, or is a zombie that was not waited for yet."""
    try:
        os.kill(pid, 0)
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except FileNotFoundError:  # gone meanwhile, or no /proc on this system
        return Path("/proc/self/stat").exists()


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal, as the third field of its `stat` tells (`man 5 proc`)."""
    path = Path("/proc") / str(pid) / "stat"
    with suppress(OSError):
        return path.read_text().rpartition(")")[2].split()[0] == "T"
    return False


def wait_until_ended(pids: Sequence[int], seconds: float = 10.0) -> None:
    """Wait for killed processes to be gone. Raises TimeoutError."""
    for pid in pids:
        wait_until(lambda pid=pid: ended(pid), seconds, f"process {pid} does not end", 0.005)  # type: ignore[misc]  # bound per process


def identity() -> dict[str, object]:
    """What `subprocess` needs to run as the server's user."""
    if os.getuid() != 0:
        return {}
    user = pwd.getpwnam(PLAIN_USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def within_reach(program: Path, *beside: Path) -> Path:
    """A path where the server's user can run a program, or a folder of programs; a copy if only root can reach it.

    A copy is needed for a checkout in root's home, which no other user may enter. `beside` names what is copied along.
    """
    if os.getuid() != 0 or all(parent.stat().st_mode & stat.S_IXOTH for parent in program.resolve().parents):
        return program
    folder = own_folder("wallet-programs-")
    subprocess.run(["cp", "-a", "--", program, *beside, folder], check=True)  # noqa: S607 - any cp will do
    return folder / program.name


class ServerProcess:
    """A server in its own process group, which can be stopped and killed as a whole; it dies with this process."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        """Start it; its output goes to `log`. `environment` is added to this process's own."""
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
                **identity(),  # type: ignore[call-overload]  # user and group, or nothing
            )
        keep(self._process.pid)
        atexit.register(self.kill)

    def wait_for_start(self, answers: Callable[[], bool], seconds: float, log: Path) -> None:
        """Wait until the server answers. Raises RuntimeError with the end of its log, also if the server ends."""
        with suppress(TimeoutError):
            wait_until(lambda: not self.running or answers(), seconds, "no answer")
            if self.running:
                return
        raise RuntimeError(f"{self._process.args[0]} did not start: {log.read_text(errors='replace')[-2000:]}")

    @property
    def pid(self) -> int:
        """The main process's id."""
        return int(self._process.pid)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL to the whole group; return when the main process is gone."""
        if self.running:
            self.signal(signal.SIGKILL)
            self._process.wait(patience(10))

    def pause(self) -> None:
        """SIGSTOP to the whole group."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT to the whole group."""
        self.signal(signal.SIGCONT)


class OwnServer:
    """A server with data in a folder of its own; its process can be killed, stopped and started again."""

    def __init__(self, folder: Path) -> None:
        """Nothing is started yet."""
        self.folder = folder
        self.paused = False
        self.faults = 0
        """How often it was killed or stopped."""
        self._process: ServerProcess | None = None

    @property
    def running(self) -> bool:
        """Whether its process is there, stopped or not."""
        return self._process is not None and self._process.running

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self.faults += 1
            self._process.kill()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and does not answer."""
        assert self._process is not None
        self.faults += 1
        self._process.pause()
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.resume()
        self.paused = False

    def stop(self) -> None:
        """End it and delete its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
