"""`wallet-gql lab report --publish`: what was published stays, whoever publishes next."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from tests.integration.test_lab_report import checked, loaded
from wallet_gql.lab.environment import describe
from wallet_gql.lab.publish import BEGIN, KINDS
from wallet_gql.transports.cli import app as cli

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
AT: Final = "2026-11-29T00:00:00+00:00"
COST: Final = {"perTransfer": {"syncs": 1.25}}
FAULT: Final = {"faults": {"kill": 3}, "clearSeconds": {"kill": [0.5, 0.25, 2]}, "anomalies": []}
POWER: Final = {"convicted": 19, "trials": 20, "interval": [0.7, 1], "seconds": [1], "found": "x|y"}


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Documentation that nothing of the lab was published in."""
    (tmp_path / "docs" / "evidence").mkdir(parents=True)
    shutil.copy(DOCS / "evidence" / "README.md", tmp_path / "docs" / "evidence")
    ours = (DOCS / "comparison.md").read_text(encoding="utf-8").partition(BEGIN)[0]
    (tmp_path / "docs" / "comparison.md").write_text(ours, encoding="utf-8")
    return tmp_path / "docs"


def publish(folder: Path, docs: Path, **results: Any) -> str:
    """Publish these results from a folder; the comparison afterwards."""
    folder.mkdir()
    for name, result in results.items():
        (folder / f"{name}.json").write_text(json.dumps(result))
    told = CliRunner().invoke(cli.app, ["lab", "report", str(folder), "--publish", str(docs)])
    assert told.exit_code == 0, told.output
    return (docs / "comparison.md").read_text(encoding="utf-8")


def results_of(*backends: str, p50: float) -> dict[str, Any]:
    """One result of each kind for each backend."""
    return {
        "check": {name: checked("PL-2", "holds") for name in backends},
        "load": {f"{name} transfer": {**loaded((p50, p50 - 1, p50 + 1)), "p99Ms": 40.0} for name in backends},
        "cost": {f"{name} cross=0 inFlight=1": COST for name in backends},
        "fault": {name: {**FAULT, "longestSilenceSeconds": 1} for name in backends},
        "power": {f"{name} forgets": POWER for name in backends},
        "environment": {"load.json": {**describe(), "at": AT}, **{name: {"version": "1"} for name in backends}},
    }


def test_columns_are_added_and_replaced_one_by_one(tmp_path: Path, docs: Path) -> None:
    """The second publication brings `b` anew, and `c`; `a` stays, and so does what is not the lab's."""
    before = (docs / "comparison.md").read_text(encoding="utf-8")
    publish(tmp_path / "one", docs, **results_of("a", "b", p50=5))
    first = next((docs / "evidence").glob("*-lab.md"))
    evidence = first.read_text(encoding="utf-8")
    page = publish(tmp_path / "two", docs, **results_of("b", "c", p50=7))
    assert page.startswith(before.rstrip())
    assert page.count(BEGIN) == 1
    told = page.partition(BEGIN)[2]
    assert told.count("| figure | `a` | `b` | `c` |") == len(KINDS)
    assert "median ms | 5 (4 to 6) | 7 (6 to 8) | 7 (6 to 8) |" in told
    assert "inFlight=1: syncs | 1.25 | 1.25 | 1.25 |" in told
    assert "| clear, longest s | 2.00 | 2.00 | 2.00 |" in told
    assert "| forgets | 19 of 20 | 19 of 20 | 19 of 20 |" in told
    assert "| convicted in less than 95% of the trials | none | none | none |" in told
    second = first.with_name(f"{first.stem}-2.md")
    assert told.count(f"[{first.stem[:10]}](evidence/{first.name})") == len(KINDS)
    assert told.count(f"(evidence/{second.name})") == 2 * len(KINDS)
    assert first.read_text(encoding="utf-8") == evidence
    index = (docs / "evidence" / "README.md").read_text(encoding="utf-8")
    for published in (first, second):
        assert f"]({published.name}) | the lab: check, load, cost, fault, power of" in index
    raw = json.loads((second.with_suffix("") / "load.json").read_text())
    assert [raw[f"{name} transfer"]["p50Ms"] for name in ("b", "c")] == [[7, 6, 8]] * 2


def test_nothing_is_published_where_there_is_nothing(tmp_path: Path, docs: Path) -> None:
    """No results, or no documentation: both are named."""
    (tmp_path / "empty").mkdir()
    for folder, where in ((tmp_path / "empty", docs), (tmp_path / "one", tmp_path / "nowhere")):
        told = CliRunner().invoke(cli.app, ["lab", "report", str(folder), "--publish", str(where)])
        assert told.exit_code != 0
    assert not list((docs / "evidence").glob("*-lab.md"))
