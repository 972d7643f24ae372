"""Writing down what a long trial found, as a dated page under `docs/evidence/`."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "evidence"


def write_evidence(name: str, title: str, command: str, text: str) -> Path:
    """Write `docs/evidence/DATE-NAME.md`; a page of the same day is replaced."""
    now = datetime.now(UTC)
    load = f"{os.getloadavg()[0]:.1f}"
    page = FOLDER / f"{now:%Y-%m-%d}-{name}.md"
    page.write_text(
        f"# {title}, {now:%Y-%m-%d}\n\n```sh\n{command}\n```\n\n{text}\n\n"
        f"Python {platform.python_version()} on {platform.system()} {platform.release()}, "
        f"{os.cpu_count()} cores, load average {load} at the end.\n",
        encoding="utf-8",
    )
    return page
