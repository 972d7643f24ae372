"""The benchmark of leases against two-phase commit runs, proves its books, and prints every figure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.redis_locks import PROTOCOLS
from wallet_gql.testing.patience import patience

pytestmark = [pytest.mark.backend("redis-3"), pytest.mark.service("redis"), pytest.mark.trial]

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "redis_locks.py"


def test_the_benchmark_runs(tmp_path: Path) -> None:
    """Each load has both protocols' figures, taken in one run."""
    found = tmp_path / "found.json"
    options = ("--rounds=1", "--seconds=0.1", "--warmup=0.1", f"--json={found}", "--only", "all across", "one payee")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=patience(100),
        env=environment,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "INVALID" not in done.stdout
    kept = json.loads(found.read_text())
    assert [cell["load"] for cell in kept["cells"]] == ["all across", "one payee"]
    for cell in kept["cells"]:
        (both,) = cell["rounds"]
        assert set(both) == set(PROTOCOLS)
        assert all(figure["per_second"] > 0 and figure["postgres_trips"] > 0 for figure in both.values())
        assert both["leases"]["redis_trips"] > 0 == both["two-phase commit"]["redis_trips"]
