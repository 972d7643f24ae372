"""The folder of results: JSON files with one part for each backend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read(folder: Path, name: str) -> dict[str, Any]:
    """The results of one command, by backend and cell; empty if there are none."""
    file = folder / f"{name}.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def merge(file: Path, parts: Mapping[str, Any]) -> None:
    """Put the parts into the file, in place of those with the same names; the others stay."""
    known = read(file.parent, file.stem)
    file.write_text(json.dumps(known | dict(parts), indent=1) + "\n", encoding="utf-8")
