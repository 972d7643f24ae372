"""Describes the machine that a benchmark ran on, without which its figures mean nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from wallet_gql import __version__

_SYNCS: Final = 200
_BLOCK: Final = b"\0" * 4096


def describe(folder: Path) -> dict[str, str]:
    """Machine, versions and the disk under `folder`, as a table to print and to keep."""
    sync_p50, sync_p99 = sync_latency_ms(folder)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "wallet-gql": f"{__version__}, commit {_commit()}",
        "CPU": f"{os.cpu_count()} x {_cpu()}",
        "system": f"{platform.system()} {_kernel()} {platform.machine()}",
        "load average": f"{os.getloadavg()[0]:.2f} in the minute before",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "SQLite": sqlite3.sqlite_version,
        "filesystem": _filesystem(folder),
        "fsync of 4 KiB": f"{sync_p50:.3f} ms p50, {sync_p99:.3f} ms p99",
    }


def as_markdown(described: dict[str, str]) -> str:
    """The same as a Markdown table."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in described.items())])


def sync_latency_ms(folder: Path) -> tuple[float, float]:
    """How long one appended block takes to be synced to disk: p50 and p99 in milliseconds."""
    took: list[float] = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            file.write(_BLOCK)
            file.flush()
            start = time.perf_counter()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - start) * 1000)
    return statistics.median(took), quantile(took, 0.99)


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` of the values lie (nearest rank)."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _kernel() -> str:
    """Its version without the builder's own suffix."""
    return platform.release().partition("-")[0]


def _filesystem(folder: Path) -> str:
    """The type of the filesystem of `folder`: that of the mount with the longest path above it."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    above = [(fields[1], fields[2]) for fields in mounts if folder.resolve().is_relative_to(fields[1])]
    return max(above, key=lambda mount: len(mount[0]))[1] if above else "unknown"


def _commit() -> str:
    """The commit that was measured; `+` when the working tree differed from it."""
    where = Path(__file__).parent
    try:
        short = _git("rev-parse", "--short", "HEAD", where=where)
        return short + ("+" if _git("status", "--porcelain", "--", "../src", where=where) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str, where: Path) -> str:
    command = ["git", *arguments]  # from PATH, wherever it is
    return subprocess.run(command, cwd=where, capture_output=True, check=True, text=True).stdout.strip()
