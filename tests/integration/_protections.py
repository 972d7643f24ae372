"""Takes a protection of the product away, in a process of its own, and sees a test fail that a page names for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from wallet_gql.testing.patience import patience

ROOT: Final = Path(__file__).resolve().parents[2]
HOOK: Final = ROOT / "tests" / "plugins" / "mutated"
BOUND_SECONDS: Final = 60
TESTS_FAILED: Final = 1
"""pytest's exit code when tests have failed; collection errors and usage errors have others."""

OPTIONS: Final = ("-x", "-q", "-m", "", "--assert=plain", "-p", "pytest_asyncio.plugin", "-p", "pytest_timeout")
"""Of the inner pytest: the named test whatever its tier, and no more plugins than it needs."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """In a module of the package, `old` becomes `new`; then `test`, which the row names, fails."""

    module: str
    old: str
    new: str
    test: str


def each_mutation(rows: Mapping[str, Mutation | str]) -> pytest.MarkDecorator:
    """Run a test for each mutation, with the names of the rows that share it."""
    found: dict[Mutation, list[str]] = {}
    for name, one in rows.items():
        if isinstance(one, Mutation):
            found.setdefault(one, []).append(name)
    return pytest.mark.parametrize("mutation", [pytest.param(one, id="_".join(names)) for one, names in found.items()])


def tests_named_by(page: str) -> dict[str, set[str]]:
    """The tests that each row of the page's tables names, by its first cell."""
    text = (ROOT / page).read_text(encoding="utf-8")
    parts = [part for part in re.split(r"^## ", text, flags=re.MULTILINE) if "| test" in part]
    rows = [line.split("|") for part in parts for line in part.splitlines() if line.startswith("|") and "::" in line]
    return {cells[1].strip(): set(re.findall(r"`([\w/]+\.py::[\w:]+)`", "|".join(cells))) for cells in rows}


def check_rows(page: str, rows: Mapping[str, Mutation | str]) -> None:
    """Every row of the page has a mutation whose test it names, and which fits its module; or names the given test."""
    told = tests_named_by(page)
    assert set(rows) == set(told)
    for name, one in rows.items():
        test = one.test if isinstance(one, Mutation) else one
        assert test in told[name], f"row {name} does not name {test}"
        if isinstance(one, Mutation):
            assert _text_of(one.module).count(one.old) == 1, f"row {name}: {one.old!r}"


def _text_of(module: str) -> str:
    path = ROOT / "src" / "wallet_gql" / module.replace(".", "/")
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


def check_noticed(mutation: Mutation, compiled: Path) -> None:
    """The test fails with the mutation. `compiled` is where all such processes keep what they have compiled.

    The mutated module is compiled by each. No process runs longer than a minute on an idle machine.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "PYTHONPATH": str(HOOK),
        "PYTHONPYCACHEPREFIX": str(compiled),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "MUTATION": json.dumps([f"wallet_gql.{mutation.module}", mutation.old, mutation.new]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, f"tests/{mutation.test}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=patience(BOUND_SECONDS),
        check=False,
    )
    assert done.returncode == TESTS_FAILED, done.stdout[-3_000:] + done.stderr[-1_000:]
    assert " failed" in done.stdout  # an error of a fixture alone would be none of the test's
