"""What is published: the wheel and the source distribution, made and checked as a release makes them."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Final

import pytest

from wallet_gql import __version__
from wallet_gql.testing.patience import patience

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "src" / "wallet_gql"

pytestmark = pytest.mark.trial


def run(*command: str | Path, **environment: str) -> str:
    """Run a command to its end. Fails with its output."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=patience(120),
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheel, made from the source distribution, and that; twine has checked their metadata and the description."""
    folder = tmp_path_factory.mktemp("package")
    venv.create(folder / "tools", with_pip=False)  # some systems have no ensurepip
    python = folder / "tools" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "pip", "build", "twine")
    run(python, "-m", "build", "--quiet", "--outdir", folder / "dist")
    made = sorted((folder / "dist").iterdir(), key=lambda path: path.suffix)
    assert [path.suffix for path in made] == [".gz", ".whl"]
    run(python, "-m", "twine", "check", "--strict", *made)
    return made


def test_the_wheel_has_the_whole_package(published: list[Path]) -> None:
    """Every file of the package is in it, also the SQL, the scripts and the pages; and nothing but the package is."""
    with zipfile.ZipFile(published[1]) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
    files = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == {path.relative_to(PACKAGE.parent).as_posix() for path in files}


def test_what_is_installed_runs(published: list[Path], tmp_path: Path) -> None:
    """The command of the wheel, on a path where the working tree is not."""
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path, published[1])
    told = run(tmp_path / "bin" / "wallet-gql", "--version", PYTHONPATH=str(tmp_path))
    assert told.strip() == __version__
    where = run(sys.executable, "-c", "import wallet_gql; print(wallet_gql.__file__)", PYTHONPATH=str(tmp_path))
    assert Path(where.strip()).is_relative_to(tmp_path)
