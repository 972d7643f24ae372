"""`wallet-gql lab compare`: says "faster" only where the bounds of both figures leave no doubt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.integration.test_lab_report import checked, loaded
from wallet_gql.lab.compare import Change, compare_folders, ratio_of, verdict_on
from wallet_gql.lab.stats import Interval
from wallet_gql.transports.cli import app as cli


def kept(folder: Path, **results: Any) -> Path:
    """A folder with these results."""
    folder.mkdir()
    for name, result in results.items():
        (folder / f"{name}.json").write_text(json.dumps(result))
    return folder


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (Interval(2, 1.9, 2.1), "faster"),
        (Interval(9, 8, 10), "slower"),
        (Interval(6, 5.5, 6.5), "cannot be told apart"),
        (Interval(2), "too few rounds"),
    ],
)
def test_only_bounds_that_leave_out_one_are_a_change(after: Interval, verdict: str) -> None:
    """The ratio's bounds are as wide as both figures' together."""
    ratio = ratio_of(Interval(5, 4, 6), after)
    assert ratio.median == after.median / 5
    assert verdict_on(ratio) == verdict


def test_two_folders_are_put_side_by_side(tmp_path: Path) -> None:
    """Everything that both have, of every command; what only one has is left out."""
    cost = {"transfers": 10, "perTransfer": {"syncs": 2.0, "commits": None}}
    rates = {"trials": 20, "convicted": 20, "interval": [0.83, 1.0]}
    before = kept(
        tmp_path / "before",
        check={"a": checked("PL-SS", "holds"), "gone": checked("PL-SS", "holds")},
        load={"a x": loaded((5, 4, 6)), "a y": loaded((5, 4, 6)), "a z": loaded((1, 1, 1), valid=False)},
        cost={"a x": cost},
        fault={"a": {"anomalies": []}},
        power={"a gap": rates},
    )
    after = kept(
        tmp_path / "after",
        check={"a": checked("PL-2", "holds")},
        load={"a x": loaded((2, 1, 3)), "a y": loaded((5, 4, 6), schedule="another"), "a z": loaded((1, 1, 1))},
        cost={"a x": {**cost, "perTransfer": {"syncs": 1.0, "commits": 1.0}}},
        fault={"a": {"anomalies": ["lost"]}},
        power={"a gap": {**rates, "convicted": 0, "interval": [0.0, 0.17]}},
    )
    changes = {change.what: change for change in compare_folders(before, after)}
    assert {what: change.verdict for what, change in changes.items()} == {
        "a, level, node": "differs",
        "a x, p50 ms": "faster",
        "a y, p50 ms": "other schedule",
        "a z, p50 ms": "invalid",
        "a x, syncs": "one run each",
        "a, anomalies under faults": "anomalies",
        "a gap, convicted": "differs",
    }
    assert changes["a x, syncs"] == Change("a x, syncs", "2", "1", "0.5", "one run each")
    told = CliRunner().invoke(cli.app, ["lab", "compare", str(before), str(after)])
    assert told.exit_code == 0, told.output
    assert "faster" in told.output


def test_folders_without_anything_in_common_are_refused(tmp_path: Path) -> None:
    """It says so instead of printing nothing."""
    before = kept(tmp_path / "before", fault={"a": {"anomalies": []}})
    with pytest.raises(FileNotFoundError, match="no results of the same"):
        compare_folders(before, kept(tmp_path / "after"))
    assert CliRunner().invoke(cli.app, ["lab", "compare", str(before), str(tmp_path / "nowhere")]).exit_code == 1
