"""The wallet starts on systems that lack something: what only Unix has, or a driver. What needs it says so."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import wallet_gql

PACKAGE = Path(wallet_gql.__file__).parent
UNIX_ONLY = frozenset({"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty", "uvloop"})

ON_SUCH_A_SYSTEM = f"""
import asyncio, sys
sys.modules.update(dict.fromkeys({sorted(UNIX_ONLY - {"posix", "uvloop"})!r}))
import wallet_gql
from wallet_gql.backends import open_store

async def open(url):
    async with open_store(url) as store:
        await store.ping()

asyncio.run(open(sys.argv[1]))
"""


def needed(path: Path) -> set[str]:
    """The modules of Unix that a module imports outside of any condition, `try` or function."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    named = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "" for node in body if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in named} & UNIX_ONLY


def test_no_module_needs_unix_to_be_imported() -> None:
    """Except for the tools of tests."""
    modules = [path for path in PACKAGE.rglob("*.py") if "testing" not in path.relative_to(PACKAGE).parts]
    assert {path.name: found for path in modules if (found := needed(path))} == {}


@pytest.mark.parametrize(
    ("url", "says"), [("memory://", ""), ("sqlite:///wallet.db", "ConfigurationError: sqlite:// needs file locks")]
)
def test_without_file_locks(url: str, says: str, tmp_path: Path) -> None:
    """Memory works, SQLite is refused with the remedy, and no file is made."""
    done = subprocess.run(
        [sys.executable, "-c", ON_SUCH_A_SYSTEM, url], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert says in done.stderr
    assert (done.returncode == 0) == (not says), done.stderr
    assert not list(tmp_path.iterdir())


WITHOUT_A_DRIVER = """
import sys
sys.modules[sys.argv[2]] = None
from wallet_gql.backends import open_store
open_store(sys.argv[1])
"""
DRIVERS = {
    "postgres://h/db": ("asyncpg", "wallet-gql[postgres]"),
    "redis+postgres://h/0,postgres://h/db?node=n1": ("redis", "wallet-gql[redis]"),
    "mongodb://h/db": ("pymongo", "wallet-gql[mongodb]"),
    "cassandra://h/keyspace": ("cassandra", "wallet-gql[cassandra]"),
    "outside://": ("outside_driver", "install what the package of this backend needs"),
}


@pytest.mark.parametrize("url", DRIVERS)
def test_d6_a_driver_that_is_missing(url: str, tmp_path: Path) -> None:
    """One error with the remedy, also for the backend of another package."""
    driver, remedy = DRIVERS[url]
    about = tmp_path / "outside-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[wallet_gql.backends]\noutside = outside:Store\n")
    (tmp_path / "outside.py").write_text("import outside_driver\n")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_DRIVER, url, driver],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    told = done.stderr.splitlines()[-1]
    assert "ConfigurationError" in told, done.stderr
    assert driver in told
    assert remedy in told
