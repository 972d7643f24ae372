"""Node programs: what a folder's lock names is installed once, then they are run one by one."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration._server import Person
from wallet_gql.testing.patience import patience

ROOT: Final = Path(__file__).resolve().parents[2]
CLIENTS: Final = ROOT / "tests" / "clients"
SCHEMA: Final = ROOT / "schema.graphql"
INSTALL_SECONDS: Final = 300
RUN_SECONDS: Final = 90

_MODULES: Final = CLIENTS / "node_modules"


def program(name: str) -> str:
    """A program of node's on PATH; without it the test is skipped."""
    found = shutil.which(name)
    return found or pytest.skip(f"no {name} on PATH (make test-deps installs one)")  # CI forbids skips


def install(folder: Path = CLIENTS) -> None:
    """Install what the lock names, unless it is there; of several test processes one does it and the others wait."""
    npm = program("npm")
    wanted = sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / "node_modules" / ".installed"
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with (build / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        # Scripts of packages are not run: what is needed comes ready made.
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(
            command, check=False, cwd=folder, capture_output=True, text=True, timeout=patience(INSTALL_SECONDS)
        )
        assert done.returncode == 0, done.stdout + done.stderr
        stamp.write_text(wanted)


def run(script: str, **environment: str) -> Any:
    """What a script reports: its last line, as JSON."""
    done = run_program([program("node"), str(CLIENTS / script)], CLIENTS, environment)
    return json.loads(done.splitlines()[-1])


def run_program(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """What a program writes; it must end with 0."""
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=patience(RUN_SECONDS),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_client(script: str, url: str, person: Person, payee: str, count: int) -> Any:
    """What a client reports that acts for somebody, and follows so many entries of the account."""
    return run(script, URL=url, TOKEN=person.token, ACCOUNT=person.account_id, PAYEE=payee, COUNT=str(count))


def relay_compiler() -> str:
    """The compiler, as a script of node's."""
    return str(_MODULES / ".bin" / "relay-compiler")
