"""What the figures of a run depend on: the machine, the versions, the command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from shutil import which
from typing import Any, Final

from .. import __version__
from ..testing.harness import harness_for

DIRTY: Final = "-dirty"
"""What `commit` ends with if the sources were changed since."""


def describe() -> dict[str, Any]:
    """For JSON. Versions of all installed packages are in it, so also those of drivers and of servers from wheels."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["wallet-gql", *sys.argv[1:]],
        "walletGql": __version__,
        "commit": commit(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "cpu": _field(Path("/proc/cpuinfo"), "model name"),
        "memory": _field(Path("/proc/meminfo"), "MemTotal"),
        "loadAverage": os.getloadavg()[0],
        "packages": {str(each.metadata["Name"]): each.version for each in distributions()},
    }


async def servers_of(backend: str) -> dict[str, str]:
    """What a backend's servers say of their versions and settings. Raises ServerMissing."""
    with tempfile.TemporaryDirectory() as folder:
        harness = harness_for(backend)
        await harness.start(Path(folder))
        try:
            async with harness.open():  # which makes the ledger
                return dict(await harness.about())
        finally:
            await harness.stop()


def commit() -> str | None:
    """The commit of the sources, with `-dirty` if they were changed since; None if they are in no repository."""
    git = which("git")
    if git is None:
        return None
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - git itself
    return done.stdout.strip() or None


def _field(file: Path, name: str) -> str | None:
    if not file.exists():
        return None
    lines = (line.partition(":") for line in file.read_text(encoding="utf-8").splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), None)
