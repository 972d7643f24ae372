"""Processes that a test run has started end with the run, also if it is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wallet_gql.testing.patience import wait_until
from wallet_gql.testing.servers.postgres import PostgresServer
from wallet_gql.testing.servers.process import ended, is_stopped

RUN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
from wallet_gql.testing.servers.process import ServerProcess, own_folder
folder = own_folder("kept-")
server = ServerProcess(["sh", "-c", "sleep 600 & echo $!; wait"], folder / "log")
while not (folder / "log").read_text().endswith("\\n"):
    time.sleep(0.01)
print(folder, server.pid, (folder / "log").read_text().strip(), flush=True)
if sys.argv[1] == "stay":
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, None], ids=str)
def test_servers_end_with_the_run_that_started_them(number: signal.Signals | None) -> None:
    """After a kill, SIGTERM, an interrupt or a normal end: the server, its children and its folder are gone."""
    command = [sys.executable, "-c", RUN, "stay" if number else "end"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        assert run.stdout is not None
        folder, *pids = run.stdout.readline().split()
        if number:
            run.send_signal(number)
    wait_until(lambda: all(ended(int(pid)) for pid in pids), 20, "a server lives on")
    wait_until(lambda: not Path(folder).exists(), 20, "its folder is still there")


def test_a_stopped_child_in_a_group_of_its_own_ends_too() -> None:
    """Such as Postgres has: once it is stopped it does not notice that its parent is gone."""
    stopped = "sh -c 'kill -STOP $$'"
    alone = RUN.replace("sleep 600 & echo $!; wait", f"setsid {stopped} & echo $!; wait")
    assert alone != RUN
    with subprocess.Popen([sys.executable, "-c", alone, "stay"], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pids = [int(pid) for pid in run.stdout.readline().split()[1:]]
        wait_until(lambda: is_stopped(pids[-1]), 20, "the child does not stop")
        run.kill()
    wait_until(lambda: all(map(ended, pids)), 20, "a process lives on")


def test_another_process_of_the_same_number_is_left_alone() -> None:
    """A number that belongs to a process that began later is not what was kept."""
    told = f"process {2**22 + 1}\n"  # there can be none of this number
    program = Path(sys.modules["wallet_gql.testing.servers.keeper"].__file__ or "")
    done = subprocess.run([sys.executable, "-I", "-S", str(program)], input=told, text=True, check=False)
    assert done.returncode == 0


def test_a_child_that_has_ended_keeps_no_other_from_being_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Postgres whose child ends while it is stopped: all others stop, and go on."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            server = PostgresServer.__new__(PostgresServer)
            monkeypatch.setattr(server, "_pids", lambda: [gone.pid, other.pid])
            server.pause()
            wait_until(lambda: is_stopped(other.pid), 20, "it goes on")
            server.resume()
            wait_until(lambda: not is_stopped(other.pid), 20, "it is stopped")
        finally:
            other.kill()
