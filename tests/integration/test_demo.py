"""`wallet-gql demo`: it starts, the command it prints works, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.integration._demo import running_demo
from tests.integration._server import LOG_IN, Client
from wallet_gql.testing.patience import patience

ROOT: Final = Path(__file__).resolve().parents[2]
UV: Final = str(Path(sys.executable).with_name("uv"))
"""What `make bootstrap` installs packages with; it has a cache of its own."""


def execute(pasted: str) -> Any:
    """Run the printed command in a shell; where there is no curl, send the very request that it describes."""
    if shutil.which("curl"):
        done = subprocess.run(["sh", "-c", pasted], check=True, capture_output=True, text=True, timeout=patience(30))
        return json.loads(done.stdout)
    words = shlex.split(pasted)
    headers = dict(words[n + 1].split(": ", 1) for n, word in enumerate(words) if word == "-H")
    return httpx.post(words[2], headers=headers, content=words[-1].encode(), timeout=patience(30)).json()


@pytest.mark.smoke
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo(tmp_path: Path, number: signal.Signals) -> None:
    """The printed command moves money, once however often it is pasted; a signal ends it with 0 and no files left."""
    with running_demo(tmp_path) as demo:
        assert list(tmp_path.iterdir()) != []
        first, second = (execute(demo.command)["data"]["transfer"] for _ in range(2))
        assert (first["__typename"], first["replayed"], second["replayed"]) == ("TransferSuccess", False, True)
        assert first["fromAccount"]["available"] == second["fromAccount"]["available"]
        assert first["fromAccount"]["available"]["currency"] == "EUR"
        assert second["transfer"] == first["transfer"]
        with Client(demo.url) as client:
            answer = client.run(LOG_IN, {"input": {"login": "bob", "password": demo.password("bob")}})
            assert answer["user"] == {"username": "bob"}
        demo.process.send_signal(number)
        assert demo.process.wait(timeout=patience(30)) == 0
        assert demo.process.stderr is not None
        assert "Traceback" not in demo.process.stderr.read()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.smoke
def test_newcomers_path() -> None:
    """`scripts/newcomer.py` walks from `make demo` to the payment in the history, and starts the demo once more."""
    walked = subprocess.run(
        [sys.executable, ROOT / "scripts" / "newcomer.py", "--here"],
        check=False,
        capture_output=True,
        text=True,
        timeout=patience(110),
    )
    assert walked.returncode == 0, walked.stdout + walked.stderr
    steps = re.findall(r"^newcomer: (.+?) +\d+\.\d s$", walked.stdout, re.MULTILINE)
    assert steps == ["make demo", "log in", "pay", "history", "make demo, again"]
    assert "seen: -5.00 EUR to bob, in the history" in walked.stdout


@pytest.mark.soak
def test_newcomers_path_on_the_page(tmp_path: Path) -> None:
    """From a clone, with a new HOME and warm caches: a payment from one tab is in the other within 90 seconds."""
    tools = {"PIP_CACHE_DIR": [sys.executable, "-m", "pip", "cache", "dir"], "UV_CACHE_DIR": [UV, "cache", "dir"]}
    caches = {name: subprocess.check_output(tool, text=True).strip() for name, tool in tools.items()}
    walked = subprocess.run(
        [sys.executable, ROOT / "scripts" / "newcomer.py", "--page", "--limit", str(patience(90))],
        check=False,
        capture_output=True,
        text=True,
        timeout=patience(180),
        env={**os.environ, **caches, "HOME": str(tmp_path)},
    )
    assert walked.returncode == 0, walked.stdout + walked.stderr
    assert "seen: 5.00 EUR to bob, in his tab at once" in walked.stdout
