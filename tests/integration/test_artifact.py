"""The short claims of `docs/artifact.md`, by the commands that stand there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from wallet_gql.lab.schedule import Shape, digest, draw
from wallet_gql.transports.cli import app as cli

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "artifact.md"
SECTIONS: Final = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
SHORT: Final = [section for section in SECTIONS if "test_artifact.py" in section]


@pytest.mark.soak
@pytest.mark.parametrize("section", SHORT, ids=[section.partition(".")[0] for section in SHORT])
def test_a_short_claim_holds(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page expects is what the command prints."""
    monkeypatch.setenv("COLUMNS", "200")
    (command,) = re.findall(r"^wallet-gql (.+)$", section, re.MULTILINE)
    told = CliRunner().invoke(cli.app, shlex.split(command))
    assert told.exit_code == 0, told.output
    expected = re.sub(r"\s+", " ", section.partition("Expected: ")[2])
    if bounds := re.findall(r"from ([\d.]+) to ([\d.]+)", expected):
        syncs = [line.split("│")[4].strip() for line in told.output.splitlines() if line.startswith("│")]
        assert len(syncs) == len(bounds)
        for value, (low, high) in zip(syncs, bounds, strict=True):
            if shutil.which("strace"):  # clients share fewer flushes where the machine is busy
                assert float(low) <= float(value) <= 2 * float(high)
    for words in re.findall(r"`([^`]+)`", expected):
        assert (words in told.output) is (f"no `{words}`" not in expected), f"{words}: {told.output}"
    if "five lines" in expected:
        assert len(re.findall(r"PL-SS +│ +\d+ +│ +holds", told.output)) == 5
        assert set(re.findall(r"(\d+) of \d+ reads of all accounts are fractured", told.output)) == {"0"}


def test_the_page_names_the_schedules_that_are_drawn() -> None:
    """Those of the first claim, without running them."""
    shown = re.findall(r"`schedule ([0-9a-f]{12})` for theta ([\d.]+)", SECTIONS[0])
    drawn = [digest(draw(Shape(operations=200, rate=1000, theta=float(theta))))[:12] for _, theta in shown]
    assert drawn == [text for text, _ in shown]
    assert len(drawn) == 2


def test_every_claim_says_what_to_expect_and_how_long_it_takes() -> None:
    """In each section, in the order of their numbers."""
    assert [int(section.partition(".")[0]) for section in SECTIONS] == list(range(1, len(SECTIONS) + 1))
    for section in SECTIONS:
        assert re.search(r"^Expected.*?\d+ minutes?[.;]", section, re.MULTILINE | re.DOTALL), section
