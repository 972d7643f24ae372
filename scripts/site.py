#!/usr/bin/env python3
"""Build the documentation as a site, in build/site. Fails if a link or an anchor leads nowhere.

The pages keep their places in the repository, so that their links are the same there and here. Other files that they
link to come along. The tools are those of deploy/site.lock, in an environment of their own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
BUILD: Final = ROOT / "build"
SOURCE: Final = BUILD / "site-source"
TOOLS: Final = BUILD / "site-tools"
LOCK: Final = ROOT / "deploy" / "site.lock"
START: Final = ROOT / "README.md"

_LINK: Final = re.compile(r"(?<=\]\()(?P<path>[^)\s#:]+)(?P<rest>(?:#[^)\s]*)?)(?=\))")


def main() -> None:
    """Build it."""
    install()
    shutil.rmtree(SOURCE, ignore_errors=True)
    gather()
    command = [str(TOOLS / "bin" / "mkdocs"), "build", "--strict", "--clean"]  # with --quiet it would not be strict
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    print(f"site: {len(list((BUILD / 'site').rglob('*.html')))} pages in build/site")


def install() -> None:
    """Make the environment, unless the one that is there was made from this lock."""
    made_from = TOOLS / LOCK.name
    if made_from.exists() and made_from.read_bytes() == LOCK.read_bytes():
        return
    venv.create(TOOLS, clear=True, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(TOOLS / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(LOCK)], check=True)
    shutil.copy(LOCK, made_from)


def gather() -> None:
    """Copy every page that can be reached from the first one, and the files that they link to."""
    waiting, seen = [START, *sorted((ROOT / "docs").rglob("*.md"))], set()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        place = SOURCE / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            text = file.read_text(encoding="utf-8")
            waiting += linked(file, text)
            place.write_text(_LINK.sub(partial(to_page, file), text), encoding="utf-8")
        else:
            shutil.copy(file, place)


def linked(page: Path, text: str) -> Iterator[Path]:
    """The files that a page links to."""
    for match in _LINK.finditer(text):
        target = target_of(page, match["path"])
        if target.is_file():
            yield target


def target_of(page: Path, path: str) -> Path:
    """The file of a link; of a folder its README, if there is one."""
    target = (page.parent / path).resolve()
    return target / "README.md" if (target / "README.md").is_file() else target


def to_page(page: Path, match: re.Match[str]) -> str:
    """A link to a folder as one to its page; others as they are."""
    if (page.parent / match["path"]).is_dir() and target_of(page, match["path"]).is_file():
        return f"{match['path'].rstrip('/')}/README.md{match['rest']}"
    return match[0]


if __name__ == "__main__":
    main()
