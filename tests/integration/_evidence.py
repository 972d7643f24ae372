"""Writing down what a long trial found, as a dated page under `docs/evidence/`."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "evidence"


def write_evidence(name: str, title: str, command: str, text: str) -> Path:
    """Write `docs/evidence/DATE-NAME.md`; `…-2.md` and so on, where the day has such a page already."""
    now = datetime.now(UTC)
    load = f"{os.getloadavg()[0]:.1f}"
    stem = f"{now:%Y-%m-%d}-{name}"
    names = (f"{stem}.md", *(f"{stem}-{number}.md" for number in range(2, 100)))
    page = next(page for page in map(FOLDER.joinpath, names) if not page.exists())
    page.write_text(
        f"# {title}, {now:%Y-%m-%d}\n\n```sh\n{command}\n```\n\n{text}\n\n"
        f"Python {platform.python_version()} on {platform.system()} {platform.release()}, "
        f"{os.cpu_count()} cores, load average {load} at the end.\n",
        encoding="utf-8",
    )
    return page
