"""Several worker processes under one parent, which replaces dead ones; after repeated deaths it waits longer."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from socket import socket
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import uvicorn
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from ... import failpoints, metrics
from ...settings import Mode, Settings
from ..http.siblings import Siblings

if TYPE_CHECKING:
    from starlette.applications import Starlette

log = logging.getLogger(__name__)

HEALTH_SECONDS: Final = 60
"""How long a worker may take to answer its parent. On a busy machine a new worker needs much of it to start."""

RELOAD_SECONDS: Final = 30
"""How long a new worker may take to serve during a reload; the parent replaces no other one meanwhile."""

STEADY_SECONDS: Final = 60
"""A worker that lived this long is replaced at once; after a shorter life, its replacement is delayed."""

DELAY_MAX_SECONDS: Final = 30

_ANSWER_SECONDS: Final = 1.0
"""How long the parent waits for one answer at a time."""

_SIGNAL_SECONDS: Final = 1.0
"""The pause between two signals that a worker sends to itself."""


def worker_app(settings: Settings, path: Path, measures: Path | None, *, wait: bool) -> Starlette:
    """The application of one worker; with `wait` it serves only after its wallet is open.

    `path` is of `Siblings`, `measures` the folder of `metrics`.
    """
    from ...runtime import settle_memory  # noqa: PLC0415 - the parent asks a worker only after this module is loaded
    from .app import create_app, playground  # noqa: PLC0415 - same

    if sys.platform != "win32":
        signal.signal(
            signal.SIGHUP, signal.SIG_IGN
        )  # it may reach all processes of a group; only the parent acts on it
    end_with_parent()
    metrics.start_like_parent(measures)
    if settings.mode is Mode.TEST:
        failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    app = create_app(settings, playground(settings), Siblings(path), wait=wait)
    settle_memory()
    return app


def end_with_parent() -> None:
    """Stop this worker when its parent is gone, even if it was killed: nobody else would stop or replace it.

    Running requests are finished. A second signal skips the wait of `drain_seconds`.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        log.warning("the parent process is gone, so this worker stops")
        while True:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_SIGNAL_SECONDS)

    threading.Thread(target=watch, name="wallet-parent", daemon=True).start()


@dataclass(slots=True)
class _Life:
    """One worker process: when it started, how many before it died young, and when its successor starts.

    `heard_at` is when it last answered its parent, or started; `is_asked` says whether a ping is not answered yet.
    """

    began: float
    young_deaths: int = 0
    successor_at: float | None = None
    heard_at: float = field(default_factory=time.monotonic)
    is_asked: bool = False


class Workers(Multiprocess):
    """The parent. SIGTERM and SIGINT stop all workers; SIGHUP replaces them one by one.

    `config_of` makes uvicorn's configuration for an application. All workers use the settings that the parent started
    with.
    """

    def __init__(
        self, settings: Settings, config_of: Callable[[partial[Starlette]], uvicorn.Config], listener: socket
    ) -> None:
        self._file = NamedTemporaryFile(prefix="wallet-workers-")  # noqa: SIM115 - removed when the server ends
        app = partial(worker_app, settings, Path(self._file.name), metrics.folder())
        self._at_once = config_of(partial(app, wait=False))
        self._when_open = config_of(partial(app, wait=True))
        self._when_open.timeout_worker_healthcheck = RELOAD_SECONDS
        super().__init__(self._at_once, [listener])
        self.is_broken = False
        self._has_served = False
        self._lives: WeakKeyDictionary[Process, _Life] = WeakKeyDictionary()

    def restart_all(self) -> None:
        """Replace the workers one by one; if a new one cannot open the store in time, keep the old ones."""
        self.config = self._when_open
        try:
            super().restart_all()
        finally:
            self.config = self._at_once

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have died or do not answer; none while the server stops."""
        if self.should_exit.is_set():
            return
        for index, process in enumerate(self.processes):
            life = self._lives.setdefault(process, _Life(time.monotonic()))
            if life.successor_at is not None:
                if time.monotonic() >= life.successor_at:
                    self._replace(index, life)
            elif not self._answers(process, life):
                self._bury(process, life)

    def _answers(self, process: Process, life: _Life) -> bool:
        """Whether a worker lives and has answered within `HEALTH_SECONDS`. Also notes whether it serves.

        Waits only a moment for the answer: a worker that hangs must delay neither signals nor other workers.
        """
        if not process.process.is_alive():
            return False
        if not life.is_asked:
            process.parent_conn.send(b"ping")
            life.is_asked = True
        if process.parent_conn.poll(_ANSWER_SECONDS):
            self._has_served |= bool(process.parent_conn.recv())
            life.is_asked, life.heard_at = False, time.monotonic()
        return time.monotonic() - life.heard_at < HEALTH_SECONDS

    def _bury(self, process: Process, life: _Life) -> None:
        """Log how a worker ended, and set when its successor starts. Only a failed first start ends the server."""
        is_hung = process.process.is_alive()
        process.kill()
        process.join()
        code = process.exitcode or 0
        metrics.WORKER_DEATHS.add()
        metrics.flush()
        end = f"did not answer for {HEALTH_SECONDS} s and was killed" if is_hung else _end_of(code)
        if code > 0 and not self._has_served:
            log.error("worker %s %s before any had served; the server stops", process.pid, end)
            self.is_broken = True
            self.should_exit.set()
            return
        is_young = time.monotonic() - life.began < STEADY_SECONDS
        life.young_deaths = life.young_deaths + 1 if is_young else 0
        delay = min(DELAY_MAX_SECONDS, 2 ** (life.young_deaths - 2)) if life.young_deaths > 1 else 0
        life.successor_at = time.monotonic() + delay
        log.warning("worker %s %s; another one is started in %d s", process.pid, end, delay)

    def _replace(self, index: int, life: _Life) -> None:
        process = Process(self.config, self.sockets)
        process.start()
        self.processes[index] = process
        self._lives[process] = _Life(time.monotonic(), life.young_deaths)
        log.warning("worker %s was started", process.pid)


def _end_of(code: int) -> str:
    """How a process with this exit code ended; negative codes are signals."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
