"""The folder of results: JSON files with one part for each backend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
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
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(known | dict(parts), indent=1) + "\n", encoding="utf-8")
    draft.replace(file)  # whoever is killed here leaves the file as it was


def keep(out: Path | None, name: str, parts: Mapping[str, Any]) -> None:
    """Put a command's parts into the folder, if there is one, with the environment of the command."""
    if out is None:
        return
    from .environment import describe  # noqa: PLC0415 - only for results that are kept

    out.mkdir(parents=True, exist_ok=True)
    merge(out / name, parts)
    merge(out / "environment.json", {name: describe()})


def keep_servers(out: Path | None, backends: Sequence[str]) -> None:
    """What serves these backends, beside the environment of the commands. Not inside an event loop."""
    if out is None:
        return
    from .environment import servers_of  # noqa: PLC0415 - as above

    out.mkdir(parents=True, exist_ok=True)
    merge(out / "environment.json", {name: asyncio.run(servers_of(name)) for name in backends})
