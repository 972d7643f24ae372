"""The benchmarks run, and refuse to print a figure that would be wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import history, ledger
from benchmarks.environment import describe
from wallet_gql.books.audit import Report
from wallet_gql.storage import Store
from wallet_gql.testing.patience import patience

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--rounds=1", "--seconds=0.05", "--warmup=0.02", "--accounts=4", "--in-flight=1,8", "--loop=asyncio")


def run(script: str, *arguments: str) -> str:
    """Run a benchmark by its path, as people do, with nothing of the tests on its path."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=patience(60), env={**kept, "COLUMNS": "200"}
    )

    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.trial
def test_the_ledger_benchmark_runs(tmp_path: Path) -> None:
    """Every cell has a figure with group commit and with batches of one; JSON and plot are written."""
    found = tmp_path / "found.json"
    plot = tmp_path / "plot.png"

    shown = run("ledger.py", *TINY, f"--folder={tmp_path}", f"--json={found}", f"--plot={plot}")

    kept = json.loads(found.read_text())
    assert "INVALID" not in shown
    assert len(kept["cells"]) == 2 * 3 * 2
    for cell in kept["cells"]:
        (measures,) = cell["rounds"]
        assert not cell["error"]
        assert all(measures[mode]["per_second"] > 0 and measures[mode]["cpu_us"] > 0 for mode in ledger.MODES)
        assert measures["single"]["batch_mean"] == 1
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:uvloop")
def test_a6_no_password_of_a_store_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither in the table nor in the file; what cannot be parsed is withheld."""

    async def fail(*_: object) -> dict[str, ledger.Measure]:
        return {mode: ledger.Measure(error="not tried") for mode in ledger.MODES}

    monkeypatch.setattr(ledger, "one_round", fail)
    found = tmp_path / "found.json"
    stores = ["postgres://me:s3cr3t@h.example/db", "postgres://me:s3cr3t#@h.example/db"]
    assert ledger.main([*stores, *TINY, f"--json={found}"]) == 1
    shown = capsys.readouterr().out + found.read_text()
    assert "h.example" in shown
    assert "withheld" in shown
    assert "s3cr3t" not in shown


@pytest.mark.filterwarnings("ignore::DeprecationWarning:uvloop")
def test_books_that_are_not_clean_have_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run whose audit finds anything is INVALID, and the benchmark fails."""

    async def find(_store: Store) -> Report:
        report = Report()
        report.add("acc_1", "is overdrawn")
        return report

    monkeypatch.setattr(ledger, "audit", find)
    found = tmp_path / "found.json"

    code = ledger.main(["memory", *TINY, "--loads=uniform", f"--folder={tmp_path}", f"--json={found}"])

    (first, *_) = json.loads(found.read_text())["cells"]
    assert code == 1
    assert "INVALID" in capsys.readouterr().out
    assert "acc_1 is overdrawn" in first["error"]
    assert first["rounds"][0]["grouped"]["per_second"] == 0


def test_the_history_benchmark_runs(tmp_path: Path) -> None:
    """Short and long histories are loaded, proved and measured."""
    found = tmp_path / "found.json"

    run(
        "history.py",
        *("memory", "sqlite", "--short=200", "--long=400", "--rounds=1", "--calls=3"),
        *(f"--folder={tmp_path}", f"--json={found}"),
    )

    figures = json.loads(found.read_text())["figures"]
    assert 2 * len(history.PLACES) == len(figures)
    assert all(figure["short_us"] > 0 and figure["long_us"] > 0 for figure in figures)


def test_the_statement_benchmark_runs(tmp_path: Path) -> None:
    """All three ways make the same transfers, and their books are clean."""
    found = tmp_path / "found.json"

    run("sqlite_layer.py", "--rounds=1", "--transfers=8", "--loop=asyncio", f"--folder={tmp_path}", f"--json={found}")

    series = json.loads(found.read_text())["series"]
    assert [way for _ in range(2) for way in ("plain", "text", "core")] == [one["way"] for one in series]
    assert all(len(one["wall_us"]) == 1 for one in series)


@pytest.mark.trial
def test_the_http_benchmark_runs(tmp_path: Path) -> None:
    """A server on Postgres answers all three requests, and the books are clean."""
    found = tmp_path / "found.json"

    tiny = ("--rounds=1", "--seconds=0.2", "--warmup=0.3", "--connections=1,4", "--users=4")
    run("graphql_http.py", "--alone", *tiny, f"--json={found}")

    told = json.loads(found.read_text())
    assert not told["wrong"]
    for cell in told["cells"]:
        (figures,) = cell["rounds"]
        assert figures["wallet"]["per_second"] > 0
        assert figures["wallet"]["cpu_us"] >= 0
        assert not figures["wallet"]["error"]
    assert {"transfer", "history", "viewer"} == {cell["request"] for cell in told["cells"]}


@pytest.mark.soak
def test_the_http_benchmark_compares_batches() -> None:
    """Those over GraphQL, sent at a pace, with the ledger's own."""
    tiny = ("--rounds=1", "--seconds=0.5", "--connections=2", "--users=4")

    assert re.search(r"median of the ratios: \d", run("graphql_http.py", "--batch", "--rate=5", *tiny))


def test_the_machine_is_described(tmp_path: Path) -> None:
    """Every result says what it was measured on."""
    described = describe(tmp_path)

    assert all(described.values())
    assert "ms p50" in described["fsync of 4 KiB"]


def test_the_placement_of_slots_is_simulated() -> None:
    """One row for each number of nodes; nothing moves but to the new node."""
    shown = run("placement.py", "--nodes=1,3", "--users=10000")
    assert "10,000 users" in shown
    assert shown.count("%") >= 2 * 4


@pytest.mark.soak
@pytest.mark.service("postgres")
def test_payments_beside_a_move_are_compared(tmp_path: Path) -> None:
    """With what they were before it, and the books are proved."""
    found = tmp_path / "found.json"
    shown = run("moves.py", "--entries=60", "--accounts=24", "--seconds=0.5", "--in-flight=4", f"--json={found}")
    kept = json.loads(found.read_text())["found"]
    assert re.search(r"[\d,]+ entries in [\d.]+ s: [\d,]+ entries/s", shown)
    assert kept["slots"] > 900
    assert kept["rows"] > 60 * 4
    assert kept["ratio"] > 0
