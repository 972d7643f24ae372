"""Packages for an environment of its own, by uv; by pip where uv does not get them, as in `scripts/bootstrap`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from wallet_gql.testing.patience import patience

_SECONDS = 240


def install_packages(python: Path, *wanted: str) -> None:
    """Install packages, named as pip's arguments, for that interpreter. Raises CalledProcessError."""
    try:
        _run("uv", "pip", "install", "--system-certs", "--python", str(python), "--quiet", *wanted)
    except subprocess.CalledProcessError:
        _run("pip", "--python", str(python), "install", "--quiet", *wanted)


def _run(*tool: str) -> None:
    """Run a tool of this environment, with the authorities of the machine, which the other tests do without."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SSL_CERT_")}
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    own = {name: text for name in names if (text := os.environ.get(f"WALLET_TEST_{name}"))}
    command = [sys.executable, "-m", *tool]
    subprocess.run(command, check=True, capture_output=True, timeout=patience(_SECONDS), env={**kept, **own})
