"""Several workers under one parent: what happens when workers, their store or the parent go away."""

from __future__ import annotations

import os
import pty
import re
import signal
import sqlite3
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration._server import (
    START_SECONDS,
    Client,
    Person,
    Server,
    command,
    environment,
    new_key,
    run_cli,
    serving,
    settle_all,
)
from wallet_gql.backends.relational.migrations import VERSION_TABLE
from wallet_gql.testing.patience import patience
from wallet_gql.testing.servers.keeper import keep
from wallet_gql.transports.http.tls import write_certificate
from wallet_gql.transports.server import workers

pytestmark = pytest.mark.timeout(900)
"""Real processes start several times in a test, and may have to share the machine."""

WAIT_SECONDS: Final = 300
"""Far beyond what anything takes here: reached by a test that fails."""


def until(is_so: Callable[[], object], what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + patience(WAIT_SECONDS)
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def workers_of(server: Server) -> set[int]:
    """The process ids of the workers that live: children of the parent which were spawned by multiprocessing."""
    return {pid for pid in children_of(server.process.pid) if "spawn_main" in _command_line(pid)}


def children_of(parent: int) -> list[int]:
    """The ids of a process's children that have not ended."""
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _parent_of(folder) == parent]


def _parent_of(folder: Path) -> int | None:
    """The parent of a process that has not ended."""
    try:
        state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else int(parent)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def statuses(server: Server, path: str = "/readyz", times: int = 20) -> set[int]:
    """What new connections are answered; several at once, so that several workers have their turn."""
    address = urlsplit(server.url).netloc
    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(lambda _: _status(address, path), range(times)))


def _status(address: str, path: str) -> int:
    with closing(HTTPConnection(address, timeout=patience(START_SECONDS))) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def replace_worker(server: Server, number: int = signal.SIGKILL) -> int:
    """Kill one worker and wait for its successor; the id of the killed one."""
    before = workers_of(server)
    victim = min(before)
    os.kill(victim, number)
    until(lambda: len(now := workers_of(server)) == len(before) and victim not in now, "no successor")
    return victim


@contextmanager
def two_workers(folder: Path, **settings: str) -> Iterator[tuple[Server, Person, Person]]:
    """A server with two workers that both serve, and two people."""
    (folder / "data").mkdir()
    storage = f"sqlite:///{folder / 'data' / 'wallet.db'}"
    ann, bob = settle_all(storage, 1_000, 0)
    with serving(folder, workers="2", storage=storage, **settings) as server:
        until(lambda: server.log.count("the wallet is open now") == 2 and statuses(server) == {200}, "no two workers")
        yield server, ann, bob


@contextmanager
def folder_away(path: Path) -> Iterator[None]:
    """The store's folder has another name: who has the file open goes on, nobody else can open it."""
    path.parent.rename(path.parent.with_name("away"))
    yield
    path.parent.with_name("away").rename(path.parent)


@contextmanager
def newer_schema(path: Path) -> Iterator[None]:
    """A newer version has migrated the file: a fault of configuration to whoever opens it now."""

    def put(version: str) -> str:
        with closing(sqlite3.connect(path, timeout=patience(START_SECONDS))) as connection, connection:
            before: str = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()[0]
            connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = ?", (version,))
            return before

    before = put("9999")
    yield
    put(before)


@contextmanager
def no_ledger(path: Path) -> Iterator[None]:
    """The file looks like somebody else's."""

    def rename(before: str, after: str) -> None:
        with closing(sqlite3.connect(path, timeout=patience(START_SECONDS))) as connection, connection:
            connection.execute(f"ALTER TABLE {before} RENAME TO {after}")

    rename(VERSION_TABLE, "elsewhere")
    yield
    rename("elsewhere", VERSION_TABLE)


FAULTS: Final = [newer_schema, no_ledger]
"""What a worker that has opened the store does not notice, and one that opens it now does."""


@pytest.mark.trial
@pytest.mark.parametrize("fault", FAULTS)
def test_k1_a_restarted_worker_waits_for_its_store(
    tmp_path: Path, fault: Callable[[Path], AbstractContextManager[None]]
) -> None:
    """While another one serves it refuses nothing. When all wait they answer 503 in the usual shape."""
    with two_workers(tmp_path) as (server, ann, bob):
        with fault(server.path):
            replace_worker(server)
            until(lambda: _waiting(server) == 1, "nobody waits for the store")
            assert statuses(server, times=100) == {200}
            kill_all(server, workers_of(server))
            until(lambda: _waiting(server) >= 3, "not all wait")  # the first may say it again
            until(lambda: statuses(server) == {503}, "nobody answers")
            assert statuses(server, "/healthz") == {200}
            refusals = asked(server, ann)
            assert [(a.status_code, a.json()["code"], a.json()["retryable"]) for a in refusals] == [
                (503, "UNAVAILABLE", True)
            ] * 2
            assert {answer.headers["Retry-After"] for answer in refusals} == {"1"}
        until(lambda: statuses(server) == {200}, "the store is back and somebody still waits")
        with Client(server.url, ann.token) as client:
            assert client.transfer(**ann.pay(bob.username, 10, new_key()))["__typename"] == "TransferSuccess"
        assert server.stop() == 0


def _waiting(server: Server) -> int:
    """How many workers have begun to wait for their store, by the log: each says it once a minute."""
    return server.log.count("the wallet cannot be opened")


def kill_all(server: Server, workers: set[int]) -> None:
    """Kill these workers and wait for their successors."""
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    until(lambda: len(now := workers_of(server)) == len(workers) and not now & workers, "no successors")


def asked(server: Server, person: Person) -> list[httpx.Response]:
    """One request to each API, each on a new connection."""
    head = {"Authorization": f"Bearer {person.token}"}
    url = server.url
    return [
        httpx.post(
            f"{url}/graphql", json={"query": "{ viewer { id } }"}, headers=head, timeout=patience(START_SECONDS)
        ),
        httpx.get(f"{url}/v1/user", headers=head, timeout=patience(START_SECONDS)),
    ]


@pytest.mark.trial
def test_k1_the_store_is_away(tmp_path: Path) -> None:
    """With every worker killed and the store away the server lives; it serves when the store is back."""
    with two_workers(tmp_path) as (server, _ann, _bob):
        with folder_away(server.path):
            kill_all(server, workers_of(server))
            until(lambda: statuses(server) == {503}, "not all wait")
        until(lambda: statuses(server) == {200}, "the store is back and somebody still waits")


@pytest.mark.trial
@pytest.mark.parametrize("all_wait", [False, True])
def test_who_waits_can_be_stopped(tmp_path: Path, all_wait: bool) -> None:
    """SIGTERM ends a server whose workers wait for their store."""
    with two_workers(tmp_path) as (server, _ann, _bob), newer_schema(server.path):
        if all_wait:
            kill_all(server, workers_of(server))
        else:
            replace_worker(server)
        until(lambda: _waiting(server) == (2 if all_wait else 1), "nobody waits for the store")
        assert server.stop() == 0


@pytest.mark.trial
def test_a_reload_without_a_store_keeps_the_workers(tmp_path: Path) -> None:
    """SIGHUP replaces a worker only by one that serves."""
    with two_workers(tmp_path) as (server, _ann, _bob):
        before = workers_of(server)
        with newer_schema(server.path):
            server.process.send_signal(signal.SIGHUP)
            until(lambda: "aborting the restart" in server.log, "the reload did not end")
            until(lambda: statuses(server) == {200}, "the old workers do not serve")  # a busy one may answer late
            assert workers_of(server) == before
        reload_until_new(server, before)
        until(lambda: statuses(server) == {200}, "not all serve")


def reload_until_new(server: Server, before: set[int]) -> None:
    """SIGHUP, again where a busy machine could not start a new worker in time."""
    while workers_of(server) & before:
        given_up = server.log.count("aborting the restart")
        server.process.send_signal(signal.SIGHUP)
        until(
            lambda: not workers_of(server) & before or server.log.count("aborting the restart") > given_up,  # noqa: B023 - called at once
            "the reload did not end",
        )
    until(lambda: len(workers_of(server)) == 2, "no two workers")


@pytest.mark.trial
def test_f10_a_worker_that_dies_again_and_again(tmp_path: Path) -> None:
    """Each death is a log line with process id and signal; successors come slower and slower; others serve on."""
    with two_workers(tmp_path) as (server, _ann, _bob):
        killed = [replace_worker(server, number) for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGKILL)]
        for pid, name in zip(killed, ("SIGKILL", "SIGSEGV", "SIGKILL"), strict=True):
            assert f"worker {pid} was killed by {name}; another one is started in " in server.log
        until(lambda: statuses(server) == {200}, "not all serve")


@pytest.mark.trial
def test_a_worker_that_hangs_delays_no_other(tmp_path: Path) -> None:
    """While one does not answer another is replaced, and a stop signal reaches the rest."""
    with two_workers(tmp_path) as (server, _ann, _bob):
        hanging, other = sorted(workers_of(server))
        os.kill(hanging, signal.SIGSTOP)
        try:
            os.kill(other, signal.SIGKILL)
            until(lambda: len(workers_of(server) - {hanging, other}) == 1, "no successor")
            os.kill(server.process.pid, signal.SIGTERM)
            until(lambda: workers_of(server) <= {hanging}, "the signal has not reached the successor")
            assert "did not answer" not in server.log
        finally:
            os.kill(hanging, signal.SIGCONT)
        server.process.wait()


@pytest.mark.trial
@pytest.mark.parametrize("drain_seconds", ["0", "300"])
def test_b7_workers_end_with_their_parent(tmp_path: Path, drain_seconds: str) -> None:
    """After kill -9 of the parent its workers end by themselves, whatever the time to drain; the port is free again."""
    with two_workers(tmp_path, drain_seconds=drain_seconds) as (server, _ann, _bob):
        workers = workers_of(server)
        server.process.kill()
        server.process.wait()
        until(lambda: not any(_parent_of(Path(f"/proc/{pid}")) for pid in workers), "a worker lives on")
        assert server.log.count("the parent process is gone") == 2
        port = str(urlsplit(server.url).port)
        with serving(tmp_path, "--port", port, storage=server.storage) as again:
            assert statuses(again) == {200}


def test_b7_a_worker_notices_the_end_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops itself as soon as the parent can be joined; alone, without a parent, it does nothing."""
    told = threading.Event()

    def kill(pid: int, number: int) -> None:
        assert (pid, number) == (os.getpid(), signal.SIGTERM)
        told.set()
        threading.Event().wait()  # the process would end; the thread that watches is a daemon

    monkeypatch.setattr("os.kill", kill)
    workers.end_with_parent()
    monkeypatch.setattr("multiprocessing.parent_process", lambda: SimpleNamespace(join=lambda: None))
    workers.end_with_parent()
    assert told.wait(patience(30))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_first_start_refuses(tmp_path: Path, workers: str) -> None:
    """A store that cannot be opened is reported at once, in one line, for any number of workers."""
    storage = f"sqlite:///{tmp_path}/absent/wallet.db"
    done = run_cli(tmp_path, "serve", "--port", "0", storage=storage, workers=workers)
    assert done.returncode == 2
    assert "check that the folder exists" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.trial
def test_a_hang_up_ends_no_request(tmp_path: Path) -> None:
    """SIGHUP to a server with one worker, and to a worker of several: each serves on, and stops when told to."""
    with serving(tmp_path) as server:
        assert server.log.count(" in mode test on sqlite:///") == 1
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "SIGHUP is ignored" in server.log or server.process.poll() is not None, "nothing is logged")
        assert server.process.poll() is None
        assert statuses(server) == {200}
        assert server.stop() == 0
    with two_workers(tmp_path) as (server, _ann, _bob):
        assert server.log.count(" in mode test on sqlite:///") == 1
        before = workers_of(server)
        for pid in before:
            os.kill(pid, signal.SIGHUP)
        assert statuses(server) == {200}
        assert workers_of(server) == before


@pytest.mark.trial
@pytest.mark.parametrize("ignores", [False, True])
def test_a_server_ends_with_its_terminal(tmp_path: Path, ignores: bool) -> None:
    """Closing the window sends SIGHUP, too. Then nobody could stop the server any more, unless it is to ignore that."""
    ours, theirs = pty.openpty()
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            ["env", f"--{'ignore' if ignores else 'default'}-signal=HUP", *command("serve", "--port", "0")],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(f"sqlite:///{tmp_path / 'wallet.db'}"),
            start_new_session=True,
        )
    os.close(theirs)
    keep(process.pid)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"Listening on ")
            ignored = re.search(
                r"^SigIgn:\s*(\w+)$", Path(f"/proc/{process.pid}/status").read_text("ascii"), re.MULTILINE
            )
            assert ignored is not None
            assert bool(int(ignored[1], 16) >> (signal.SIGHUP - 1) & 1) is ignores
            os.close(ours)
            process.send_signal(signal.SIGTERM if ignores else signal.SIGHUP)
            assert process.wait(patience(60)) == 0
        finally:
            process.kill()


@pytest.mark.trial
def test_a_renewed_certificate_is_served_after_a_hang_up(tmp_path: Path) -> None:
    """With several workers; the server does not stop for it."""
    folders = [tmp_path / "old", tmp_path / "new"]
    for folder in folders:
        folder.mkdir()
    made = [write_certificate(folder) for folder in folders]
    used = [tmp_path / path.name for path in made[0]]

    def install(files: tuple[Path, Path]) -> None:
        for source, target in zip(files, used, strict=True):
            target.write_bytes(source.read_bytes())

    install(made[0])
    options = ("--tls-cert", str(used[0]), "--tls-key", str(used[1]))
    with serving(tmp_path, *options, workers="2") as server:
        port = urlsplit(server.url).port or 0

        def served() -> str:
            return ssl.get_server_certificate(("127.0.0.1", port), timeout=patience(START_SECONDS))

        until(lambda: len(workers_of(server)) == 2, "no two workers")
        assert served() == made[0][0].read_text()
        install(made[1])
        reload_until_new(server, workers_of(server))
        assert served() == made[1][0].read_text()
