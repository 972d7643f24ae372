"""`wallet-gql lab cost`: figures that somebody outside the store has counted, and "not measured" where nobody could."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from wallet_gql.lab.cost import COMMON, SERVER_CPU, Cost, columns, cost, shown
from wallet_gql.lab.environment import servers_of
from wallet_gql.testing.harness import HARNESSES, harness_for
from wallet_gql.testing.missing import server_or_skip
from wallet_gql.testing.patience import wait_until, within
from wallet_gql.testing.proxy import Proxy
from wallet_gql.testing.servers.process import processor_seconds
from wallet_gql.transports.cli import app as cli

PAGE_BYTES = 4_096
"""What SQLite writes at least for a commit."""


SETTINGS: Final = {"journal_mode": "wal", "synchronous": "2"}


def test_costs_are_kept_and_shown(tmp_path: Path) -> None:
    """A transfer on SQLite waits for a flush; clients in flight share it; in memory nobody counts. The page says so."""
    told = CliRunner().invoke(cli.app, ["lab", "cost", "memory", "sqlite", "--transfers", "32", "--out", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert "not measured" in told.output
    kept: dict[str, dict[str, Any]] = json.loads((tmp_path / "cost.json").read_text())
    assert list(kept) == [f"{name} cross=0 inFlight={n}" for name in ("memory", "sqlite") for n in (1, 16)]
    memory, _, alone, together = (cell["perTransfer"] for cell in kept.values())
    assert {name for name, figure in memory.items() if figure is not None} == {"client CPU us"}
    assert alone["client CPU us"] > 0
    assert alone[SERVER_CPU] is None
    if shutil.which("strace"):
        assert alone["syncs"] >= 1
        assert alone["log bytes"] >= PAGE_BYTES
        assert together["syncs"] < alone["syncs"]
        assert together["log bytes"] < alone["log bytes"]
    told_of = json.loads((tmp_path / "environment.json").read_text())
    assert told_of["memory"] == {}
    assert {name: told_of["sqlite"][name] for name in ("journal_mode", "synchronous")} == SETTINGS
    CliRunner().invoke(cli.app, ["lab", "report", str(tmp_path)])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What a transfer costs" in page
    assert "not measured" in page


def test_impossible_cells_are_refused() -> None:
    """Before anything runs."""
    for wrong in (["--cross", "2"], ["--in-flight", "0"], ["--cross", "half"]):
        assert CliRunner().invoke(cli.app, ["lab", "cost", "memory", *wrong]).exit_code != 0


async def costs(backend: str, folder: Path) -> list[Cost]:
    """Of a few transfers, one after another, first on one node and then between two."""
    with server_or_skip():
        return await cost(harness_for(backend), folder, [0, 1], [1], transfers=24)


def check_counted(cell: Cost) -> None:
    """Every answer waited for a flush, a commit and the server; figures are those of the transfers alone."""
    figures = cell.figures
    for name in ("syncs", "commits", "round trips"):
        figure = figures[name]
        if figure is not None:
            assert figure >= 0.5, (cell, name)  # servers flush now and then by themselves, which is subtracted
    for name in ("log bytes", "wire bytes", "client CPU us"):
        figure = figures[name]
        assert figure is None or figure > 100, (cell, name)


@pytest.mark.soak
@pytest.mark.service("postgres")
async def test_results_say_which_server_it_was() -> None:
    """Its version, and what durability depends on."""
    told = await servers_of("postgres")
    assert re.match(r"\d+", told["server_version"])
    assert (told["fsync"], told["synchronous_commit"], told["max_prepared_transactions"]) == ("on", "on", "64")


@pytest.mark.trial
@pytest.mark.service("postgres")
async def test_a_transfer_between_nodes_costs_more(tmp_path: Path) -> None:
    """By two-phase commit: more flushes, commits and round trips than on one node."""
    near, far = await costs("postgres-3", tmp_path)
    for cell in (near, far):
        check_counted(cell)
    # Not the bytes of the log: after a checkpoint, which comes at any time, each page is logged whole once.
    for name in ("syncs", "commits", "round trips", "wire bytes"):
        here, there = near.figures[name], far.figures[name]
        assert here is not None
        assert there is not None
        assert here < there, name


@pytest.mark.soak
@pytest.mark.parametrize("backend", sorted(set(HARNESSES) - {"memory", "memory-3"}))
async def test_every_backend_is_counted(backend: str, tmp_path: Path) -> None:
    """Each durable one by some flushes, and those with servers by proxies and processor time."""
    for cell in await costs(backend, tmp_path):
        check_counted(cell)
        assert cell.figures["syncs"] is not None, cell.why
        assert (cell.figures["round trips"] is None) == (backend == "sqlite")
    assert any("version" in name for name in await servers_of(backend))


async def test_a_proxy_counts_what_passes() -> None:
    """Requests sent together are one round trip; bytes count in both directions."""
    ended = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        for _ in range(3):
            writer.write(b"ask")
            assert await reader.readexactly(3) == b"ask"
        writer.close()
        await writer.wait_closed()
        await within(10, ended.wait())
        assert (proxy.round_trips, proxy.wire_bytes) == (3, 18)


def test_processor_time_is_that_of_a_process_and_its_children() -> None:
    """A process that does nothing but wait for a child that works."""
    work = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    process = subprocess.Popen([sys.executable, "-c", work], start_new_session=True)
    try:
        first = processor_seconds(process.pid)
        wait_until(lambda: processor_seconds(process.pid) > first + 0.3, 30, "no processor time is counted")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_figures_nobody_has_are_named() -> None:
    """Columns are the common ones, then the backends' own; a figure is short."""
    assert columns([{"syncs": 1.0}, {"Redis commands": 2.0}]) == [*COMMON, SERVER_CPU, "Redis commands"]
    assert [shown(figure) for figure in (None, 0.0, 1.034, 3452.4)] == ["not measured", "0", "1.03", "3,452"]
