"""The recipes of CONTRIBUTING.md are true: each names all files to change, and its patch shows that they are enough."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
RECIPES: Final = ROOT / "tests" / "recipes"
COPIED: Final = (
    "src",
    "scripts",
    "docs",
    "examples",
    "tests/clients",
    "tests/integration",
    "tests/recipes",
    "tests/leaks.py",
    "pyproject.toml",
)
LEFT: Final = ("node_modules", "*.pyc.*")
"""Not copied: packages, and what another process is compiling. What is compiled is copied, for it saves seconds."""

FILES_MAX: Final = {"add_an_error": 4, "add_a_verb": 6, "add_a_record_kind": 3, "add_a_backend": 0}
"""How many of our files each recipe may touch. A recipe is a section of CONTRIBUTING.md, a patch and its checks."""

OURS: Final = "src/wallet_gql/"

GENERATED: Final = "tests/integration/test_catalogue.py"
"""Tests that are made from the lists of errors and operations, so that they hold for new ones too."""

each_recipe = pytest.mark.parametrize("name", sorted(FILES_MAX))


def touched(name: str) -> set[str]:
    """The files that a patch changes or makes."""
    text = (RECIPES / f"{name}.patch").read_text(encoding="utf-8")
    return set(re.findall(r"^\+\+\+ b/(\S+)$", text, re.MULTILINE))


def run(folder: Path, *command: str) -> None:
    """Run a command in the copy, with the copy's modules. Fails with its output."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def test_each_patch_is_a_recipe() -> None:
    """No patch, script or section stands alone."""
    sections = re.findall(r"^### (Add .+)$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {section.lower().replace(" ", "_") for section in sections} == set(FILES_MAX)
    for ending in ("patch", "py"):
        assert {file.stem for file in RECIPES.glob(f"*.{ending}") if file.stem != "__init__"} == set(FILES_MAX)


@each_recipe
def test_a_recipe_names_all_files(name: str) -> None:
    """The section lists the files of the patch, and they are few."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    title = name.replace("_", " ").capitalize()
    section = text.split(f"### {title}\n", 1)[1].split("\n#", 1)[0]
    changed = touched(name)
    assert set(re.findall(r"^\d+\. `(\S+)`", section, re.MULTILINE)) == {path.removeprefix(OURS) for path in changed}
    assert sum(path.startswith(OURS) for path in changed) <= FILES_MAX[name]


@pytest.mark.trial
@each_recipe
def test_a_recipe_works(name: str, tmp_path: Path) -> None:
    """Applied to a copy of the tree, everything is generated, the style is right and the recipe's checks pass."""
    for part in COPIED:
        target = tmp_path / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns(*LEFT))
        else:
            shutil.copy(ROOT / part, target)
    run(tmp_path, "git", "apply", "--whitespace=error", f"tests/recipes/{name}.patch")
    python, changed = sys.executable, sorted(touched(name))
    run(tmp_path, python, "-c", f"import wallet_gql; assert wallet_gql.__file__.startswith({str(tmp_path)!r})")
    run(tmp_path, python, "scripts/docs.py")
    run(tmp_path, python, f"tests/recipes/{name}.py")
    run(tmp_path, python, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", GENERATED)
    ours = [path for path in changed if path.startswith(OURS) and path.endswith(".py")]
    if ours:  # a package of somebody else has a style of its own
        run(tmp_path, python, "-m", "ruff", "check", *ours)
        run(tmp_path, python, "-m", "ruff", "format", "--check", *ours)
