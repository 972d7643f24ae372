"""`wallet-gql lab all`: every command, one page, and an exit code for all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.integration.mutants import MUTANTS
from wallet_gql.transports.cli import app as cli


@pytest.mark.trial
def test_everything_is_run_and_put_on_one_page(tmp_path: Path) -> None:
    """On the store in memory, which has no means for faults: the page has a section for each command."""
    few = ["--operations", "12", "--transfers", "12", "--faults", "1", "--out", str(tmp_path)]
    told = CliRunner().invoke(cli.app, ["lab", "all", "memory", *few])
    assert told.exit_code == 0, told.output
    names = {path.name for path in tmp_path.glob("*.json")}
    assert names == {f"{name}.json" for name in ("check", "load", "cost", "fault", "environment")}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in ("What somebody may see", "How long operations take", "What a transfer costs", "What faults do"):
        assert words in page


@pytest.mark.soak
def test_one_fault_fails_it_all_and_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that loses count: the other commands run all the same, and the page is written."""
    MUTANTS["reads_from_a_cache"](monkeypatch)
    few = ["--operations", "12", "--transfers", "12", "--faults", "1", "--out", str(tmp_path)]
    told = CliRunner().invoke(cli.app, ["lab", "all", "sqlite", *few])
    assert told.exit_code == 1
    assert "something is wrong: check" in told.output
    assert (tmp_path / "report.html").exists()
