"""`libcurl.so.4` for a mongod on a machine without it: Debian's package, unpacked but not installed."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from ..patience import patience
from .process import own_folder

PACKAGE: Final = "libcurl4"
_SECONDS_MAX: Final = 180.0


@cache
def libcurl_folder() -> Path | None:
    """The folder that holds the library, for `LD_LIBRARY_PATH`; None if apt cannot fetch it. Needs no root."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    folder = own_folder("wallet-libcurl-")
    lists, cached = folder / "lists", folder / "cache"
    for made in (lists / "partial", cached / "archives" / "partial"):
        made.mkdir(parents=True)
    private = ("-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cached}", "-o", "APT::Sandbox::User=root")
    try:
        if not _fetch(folder, ()):  # this machine's package lists may be empty or old
            _run(folder, "apt-get", "-qq", *private, "update")
            if not _fetch(folder, private):
                return None
        (package,) = folder.glob(f"{PACKAGE}_*.deb")
        _run(folder, "dpkg-deb", "-x", str(package), str(folder))
        (library,) = folder.glob("usr/lib/*/libcurl.so.4")
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return library.parent


def _fetch(folder: Path, options: tuple[str, ...]) -> bool:
    try:
        _run(folder, "apt-get", "-qq", *options, "download", PACKAGE)
    except subprocess.CalledProcessError:
        return False
    return True


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=patience(_SECONDS_MAX))
