"""After `add_a_backend.patch`: the package is found by its scheme and passes the shipped tests of the guarantees."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

PACKAGE = Path("wallet_toy")


def announce(site: Path) -> None:
    """What installing the package writes: its entry points, as its pyproject.toml says them."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    made = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    made.mkdir()
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (made / "entry_points.txt").write_text("\n".join(lines))


def main() -> None:
    """Run the suite as the package's author does."""
    announce(Path())
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "-o", "asyncio_mode=auto", "-k", "test_g"]
    path = os.pathsep.join([".", os.environ["PYTHONPATH"]])
    command = [sys.executable, "-m", "pytest", *options, str(PACKAGE / "test_toy.py")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout.splitlines()[-1], done.stdout


if __name__ == "__main__":
    main()
