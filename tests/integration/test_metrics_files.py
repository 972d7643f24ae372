"""The files behind the metrics: what happens when they cannot be written, and when a process ends."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client import mmap_dict

from tests.integration._metrics import Scrape, touch
from wallet_gql import background, metrics, processes, runtime
from wallet_gql.identity.passwords import Passwords
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience

ROOT: Final = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _every_cause_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_logged", {})


@pytest.fixture
def port() -> Iterator[int]:
    """Metrics of this process, served on this port."""
    with metrics.serving("127.0.0.1", 0) as port:
        yield port


def scraped(port: int) -> Scrape:
    """The metrics now."""
    metrics.flush()
    return Scrape(httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=patience(30)).text)


def no_space(*_given: object) -> None:
    """As the library's files on a full disk."""
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("metric", metrics.ALL, ids=lambda metric: metric.name)
@pytest.mark.usefixtures("port")
def test_a_full_disk_fails_nobody(
    metric: metrics.Metric, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither giving a metric a value nor flushing raises; the log says what is lost, and later values count."""
    with monkeypatch.context() as full:
        full.setattr(mmap_dict.MmapedDict, "_init_value", no_space)
        full.setattr(mmap_dict.MmapedDict, "write_value", no_space)
        touch(metric)
        metrics.flush()
    assert "metrics cannot be written: OSError: [Errno 28] No space left on device" in caplog.text
    caplog.clear()
    touch(metric)
    metrics.flush()
    assert not caplog.records


def test_what_was_not_written_is_forgotten_at_the_end() -> None:
    """Values of one measuring are not written into the next one, nor anywhere when there is none."""
    with metrics.serving("127.0.0.1", 0):
        for metric in metrics.ALL:
            touch(metric)
    for metric in metrics.ALL:
        touch(metric)
        metric.flush()
    with metrics.serving("127.0.0.1", 0) as port:
        assert not any(("x" in dict(labels).values()) for found in scraped(port).samples.values() for labels in found)


async def test_a_folder_of_somebody_else_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The library's own variable in the environment starts no measuring."""
    monkeypatch.setenv(metrics.VARIABLE, str(tmp_path / "missing"))
    async with open_wallet(load_settings(storage="memory://", mode="test")):
        assert metrics.folder() is None
    assert not [line for line in caplog.records if line.levelno >= logging.WARNING]


async def test_background_work_that_has_died_does_not_stop_the_clean_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything is closed, and the log says what had ended."""
    closed = []
    close = Passwords.close

    def closing(self: Passwords) -> None:
        closed.append(self)
        close(self)

    async def dying(*_given: Any, **_options: Any) -> None:
        raise FileNotFoundError("its folder")

    monkeypatch.setattr(Passwords, "close", closing)
    monkeypatch.setattr(runtime, "run_for_ever", dying)
    async with open_wallet(load_settings(storage="memory://", mode="test")):
        await asyncio.sleep(0)
    assert len(closed) == 1
    assert "background work had ended" in caplog.text


_PROCESS: Final = """
import sys
from pathlib import Path
from tests.integration._metrics import touch
from wallet_gql import metrics

metrics.start(Path(sys.argv[1]))
for metric in metrics.ALL:
    touch(metric)
metrics.flush()
"""


def test_files_of_ended_processes_become_one(port: int) -> None:
    """A worker that dies again and again leaves no files; what it counted stays and its levels go."""
    folder = metrics.folder()
    assert folder is not None
    before = scraped(port)
    for times in (1, 2, 3):
        run = [sys.executable, "-c", _PROCESS, str(folder)]
        subprocess.run(run, check=True, timeout=patience(60), cwd=ROOT)
        (folder / "counter_999999999.db").touch()  # killed before it had any content
        found = scraped(port)
        ids = {path.stem.rpartition("_")[2] for path in folder.glob("*.db")}
        assert ids == {str(os.getpid()), "0"}
        for metric in metrics.ALL:
            labels = dict.fromkeys(metric.labels, "x")
            if isinstance(metric, metrics.Count):
                assert found.sum(f"{metric.name}_total", **labels) == times
            elif isinstance(metric, metrics.Spread):
                assert found.sum(f"{metric.name}_sum", **labels) == times
                assert found.sum(f"{metric.name}_bucket", **labels, le="+Inf") == times
            else:
                assert found.sum(metric.name, **labels) == before.sum(metric.name, **labels)


def test_a_worker_that_begins_fails_no_scrape(port: int) -> None:
    """Each of its files is empty for a moment."""
    folder = metrics.folder()
    assert folder is not None
    before = scraped(port)
    kinds = {path.stem.rpartition("_")[0] for path in folder.glob("*.db")}
    with subprocess.Popen(["sleep", "600"]) as worker:
        try:
            for kind in kinds:
                (folder / f"{kind}_{worker.pid}.db").touch()
            assert kinds
            assert scraped(port).samples.keys() == before.samples.keys()
            assert all((folder / f"{kind}_{worker.pid}.db").exists() for kind in kinds)
        finally:
            worker.kill()


@pytest.mark.parametrize(("error", "lives"), [(None, True), (ProcessLookupError(), False), (PermissionError(), False)])
def test_a_process_of_somebody_else_is_none_of_ours(
    error: OSError | None, *, lives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id of a worker that has ended may be given to any process."""

    def kill(_pid: int, _signal: int) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(os, "kill", kill)
    assert processes.lives(4_711) is lives


def test_a_worker_without_the_folder_measures_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It serves all the same: somebody may have cleaned up `/tmp`."""
    metrics.start_like_parent(tmp_path / "missing")
    assert metrics.folder() is None
    assert "this worker measures nothing" in caplog.text
