"""A running `wallet-gql demo`, and what it printed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration._server import command, environment


@dataclass(slots=True)
class Demo:
    """A running demo and what it printed."""

    process: subprocess.Popen[str]
    lines: list[str]

    @property
    def command(self) -> str:
        """The ready curl."""
        return next(line for line in self.lines if line.startswith("curl "))

    @property
    def url(self) -> str:
        """Where it serves."""
        return self.lines[0].split("The wallet is at ")[1].split()[0]

    @property
    def other_url(self) -> str:
        """Where a second person has a tab of the same browser: the same server, with cookies of its own."""
        return next(line for line in self.lines if "in another tab" in line).split(" at ")[1].split()[0]

    def password(self, name: str) -> str:
        """What somebody logs in with."""
        return next(line.split()[-1] for line in self.lines if f"log-in {name}" in line)


@contextmanager
def running_demo(folder: Path) -> Iterator[Demo]:
    """A demo whose temporary files go into `folder`."""
    env = {**environment("sqlite:///unused.db"), "TMPDIR": str(folder)}
    process = subprocess.Popen(
        command("demo", "--port", "0", "--no-browser"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=env,
    )
    with process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if line.startswith("curl "):
                    break
            assert lines, process.stderr.read() if process.stderr else ""
            yield Demo(process, lines)
        finally:
            if process.poll() is None:
                process.kill()
