"""Writes the results of a long trial to a dated page under `docs/evidence/`."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "evidence"


def write_evidence(name: str, title: str, command: str, text: str) -> Path:
    """Write `docs/evidence/DATE-NAME.md`, or `…-2.md` and so on where an earlier run has left such a page.

    A run that writes several times, for it may be interrupted, writes the same page anew.
    """
    now = datetime.now(UTC)
    load = f"{os.getloadavg()[0]:.1f}"
    page = _page(name)
    page.write_text(
        f"# {title}, {now:%Y-%m-%d}\n\n```sh\n{command}\n```\n\n{text}\n\n"
        f"Python {platform.python_version()} on {platform.system()} {platform.release()}, "
        f"{os.cpu_count()} cores, load average {load} at the end.\n",
        encoding="utf-8",
    )
    return page


@cache
def _page(name: str) -> Path:
    """This process's page of that name."""
    stem = f"{datetime.now(UTC):%Y-%m-%d}-{name}"
    names = (f"{stem}.md", *(f"{stem}-{number}.md" for number in range(2, 100)))
    return next(page for page in map(FOLDER.joinpath, names) if not page.exists())
