"""How to extend the lab: each page names all files of its patch, and the patch is enough for its command."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from wallet_gql.testing.patience import patience

ROOT: Final = Path(__file__).resolve().parents[2]
SEEN: Final = {"workload": ("cancel over ledger", "memory", "sqlite"), "fault": ("postgres", "2", "0")}
"""What the output of the page's command must have, in this order."""


@pytest.mark.trial
@pytest.mark.parametrize(
    "what", ["workload", pytest.param("fault", marks=[pytest.mark.service("postgres"), pytest.mark.soak])]
)
def test_a_recipe_of_the_lab_works(what: str, tmp_path: Path) -> None:
    """Applied to a copy of the product, the command of the page knows the new name, and finds nothing wrong."""
    page = (ROOT / "docs" / f"adding-a-{what}.md").read_text(encoding="utf-8")
    patch = ROOT / "tests" / "recipes" / "lab" / f"add_a_{what}.patch"
    changed = set(re.findall(r"^\+\+\+ b/(\S+)$", patch.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"^\d+\. `(\S+)`", page, re.MULTILINE)) == changed
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.pyc.*"))
    subprocess.run(["git", "apply", "--whitespace=error", str(patch)], cwd=tmp_path, check=True)
    (command,) = re.findall(r"^wallet-gql (lab .+)$", page, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-m", "wallet_gql", *shlex.split(command)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=patience(100),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(".*".join(SEEN[what]), done.stdout, re.DOTALL), done.stdout
