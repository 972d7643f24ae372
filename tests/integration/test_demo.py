"""`wallet-gql demo`: it starts, the command it prints works, and it leaves nothing behind."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration._server import LOG_IN, Client, command, environment


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


@contextmanager
def running(folder: Path) -> Iterator[Demo]:
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


def execute(pasted: str) -> Any:
    """Run the printed command in a shell; where there is no curl, send the very request that it describes."""
    if shutil.which("curl"):
        done = subprocess.run(["sh", "-c", pasted], check=True, capture_output=True, text=True, timeout=30)
        return json.loads(done.stdout)
    words = shlex.split(pasted)
    headers = dict(words[n + 1].split(": ", 1) for n, word in enumerate(words) if word == "-H")
    return httpx.post(words[2], headers=headers, content=words[-1].encode(), timeout=30).json()


@pytest.mark.smoke
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo(tmp_path: Path, number: signal.Signals) -> None:
    """The printed command moves money, once however often it is pasted; a signal ends it with 0 and no files left."""
    with running(tmp_path) as demo:
        assert list(tmp_path.iterdir()) != []
        first, second = (execute(demo.command)["data"]["transfer"] for _ in range(2))
        assert (first["__typename"], first["replayed"], second["replayed"]) == ("TransferSuccess", False, True)
        assert first["fromAccount"]["available"] == second["fromAccount"]["available"]
        assert first["fromAccount"]["available"]["currency"] == "EUR"
        assert second["transfer"] == first["transfer"]
        password = next(line.split()[-1] for line in demo.lines if "log-in bob" in line)
        with Client(demo.url) as client:
            answer = client.run(LOG_IN, {"input": {"login": "bob", "password": password}})
            assert answer["user"] == {"username": "bob"}
        demo.process.send_signal(number)
        assert demo.process.wait(timeout=30) == 0
        assert demo.process.stderr is not None
        assert "Traceback" not in demo.process.stderr.read()
    assert list(tmp_path.iterdir()) == []
