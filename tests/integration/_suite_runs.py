"""Runs of the conformance suite in a process of its own: on outside backends, and on mutants of the product."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from wallet_gql.testing.patience import patience

ROOT = Path(__file__).resolve().parents[2]


def announce(folder: Path, backends: Mapping[str, str]) -> Path:
    """Make what an installed package would leave behind: a dist-info that announces URL schemes."""
    info = folder / "toys-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    lines = [f"{scheme} = {target}" for scheme, target in backends.items()]
    (info / "entry_points.txt").write_text("\n".join(["[wallet_gql.backends]", *lines, ""]))
    return folder


def run_suite(*options: str, path: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with the options; `path` is searched for packages, `variables` go into the environment."""
    search = os.pathsep.join(filter(None, [str(path) if path else "", os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "-n", "0", *options]
    environment = {**os.environ, "PYTHONPATH": search, **variables}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=patience(110), check=False
    )
