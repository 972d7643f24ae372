"""`wallet-gql lab report`: one page that needs nothing else and says no more than the results do."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from wallet_gql.lab.report import write_report
from wallet_gql.transports.cli import app as cli

HOSTILE: Final = "<script>alert(1)</script>"


def checked(seen: str, verdict: str, *, faults: tuple[str, ...] = (), fractured: int = 0) -> dict[str, Any]:
    """What `lab check` keeps of one backend."""
    scope = {"claim": "PL-SS", "seen": seen, "verdict": verdict, "runs": 1, "anomaly": "G0, such as t -ww-> u"}
    run = {"outcomes": {}, "fractured": fractured, "wholeReads": 10, "faults": list(faults)}
    return {"holds": verdict == "holds", "scopes": {"node": scope}, "runs": {"1": run}}


def loaded(p50: tuple[float, float | None, float | None], **more: Any) -> dict[str, Any]:
    """What `lab load` keeps of one backend and cell."""
    figures: dict[str, Any] = {"p50Ms": p50, "perSecond": [100, 99, 101], "p99Ms": None, "rounds": [{}] * 6}
    return {"schedule": "0123456789abcdef", "valid": True, "wrong": [], **figures, **more}


def page_of(folder: Path, **results: Any) -> str:
    """The page about these results."""
    for name, result in results.items():
        (folder / f"{name}.json").write_text(json.dumps(result))
    return write_report(folder).read_text(encoding="utf-8")


class Balance(HTMLParser):
    """Notes elements that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Every element but the empty one waits for its end."""
        del attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """The latest must be the one that ends."""
        assert self.open.pop() == tag


def test_the_page_tells_what_the_commands_found(tmp_path: Path) -> None:
    """From the commands to the page: levels, figures, plots, the environment; nothing is loaded from elsewhere."""
    where = ["--out", str(tmp_path)]
    few = ["--operations", "30", "--rate", "1000", "--accounts", "8"]
    for command in (["check", "memory-3", "--repeats", "1", "--writes", "40"], ["load", "memory", "memory-3", *few]):
        told = CliRunner().invoke(cli.app, ["lab", *command, *where])
        assert told.exit_code == 0, told.output
    told = CliRunner().invoke(cli.app, ["lab", "report", str(tmp_path)])
    assert told.exit_code == 0, told.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    for words in ("across nodes", "PL-SS", "holds", "transfer theta=0", "check.json, last run", "loadAverage"):
        assert words in page
    assert not re.search(r"<script|<link|<img|\bsrc=|@import|url\(http", page)
    balance = Balance()
    balance.feed(page)
    assert balance.open == []


def test_faults_and_invalid_figures_are_not_hidden(tmp_path: Path) -> None:
    """They are named, and no backend with faults is praised."""
    check = {"good": checked("PL-SS", "holds"), "bad": checked("PL-0", "below its claim", faults=("lost trf_1",))}
    load = {"good transfer": loaded((5, 4, 6)), "bad transfer": loaded((1, 1, 1), valid=False, wrong=["books"])}
    page = page_of(tmp_path, check=check, load=load)
    assert "<code>good</code>: every read fits" in page
    assert "<code>bad</code>: <strong>faults were found" in page
    assert "lost trf_1" in page
    assert 'class="bad">below its claim' in page
    assert 'class="bad">INVALID</span> books' in page
    assert "answered soonest" not in page


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ((9, 8, 10), "<code>a</code> answered soonest"),
        ((6, 5.5, 10), "cannot be told apart"),
        ((9, None, None), ""),
    ],
)
def test_only_intervals_that_part_rank_backends(
    tmp_path: Path, other: tuple[float, float | None, float | None], words: str
) -> None:
    """Overlapping intervals rank nobody; without intervals nothing is said."""
    page = page_of(tmp_path, load={"b cell": loaded(other), "a cell": loaded((5, 4, 6))})
    assert words in page
    assert words or ("soonest" not in page and "told apart" not in page)


def test_what_results_say_is_text(tmp_path: Path) -> None:
    """Names, faults and facts cannot become elements."""
    bad = checked(HOSTILE, HOSTILE, faults=(HOSTILE,))
    load = {f"{HOSTILE} {HOSTILE}": loaded((1, 1, 1), wrong=[HOSTILE], valid=False)}
    page = page_of(tmp_path, check={HOSTILE: bad}, load=load, environment={HOSTILE: {HOSTILE: [HOSTILE]}})
    assert "<script" not in page


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    """With what to run first."""
    told = CliRunner().invoke(cli.app, ["lab", "report", str(tmp_path)])
    assert told.exit_code != 0
    assert not (tmp_path / "report.html").exists()
