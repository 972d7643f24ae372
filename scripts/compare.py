"""Compare the backends: run the conformance suite on each and write `docs/comparison.md`.

Every installed harness (`wallet_gql.testing.harness`) has a column, so a new backend is included without a change here.
If backends are named, their columns are made anew and the others stay as they are.
`wallet_gql.testing.report` says what a cell tells. A backend whose server is missing is shown as missing, not left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from wallet_gql.lab.publish import BEGIN
from wallet_gql.testing.harness import harness_names
from wallet_gql.testing.report import GROUPS, OTHER, Cell, group_of

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "comparison.md"
CAPABILITIES: Final = {
    "durable": "`durable`: what was answered survives a crash",
    "multi_process": "`multi_process`: several processes on one ledger",
    "spans_nodes": "`spans_nodes`: more than one node",
    "snapshot_reads": "`snapshot_reads`: a fetch across nodes sees one moment",
    "remote_credit": "`remote_credit`: credits on another node",
}

INTRODUCTION: Final = """\
What the conformance suite found on each backend. A *trial* is one race, one fault or one repetition; all calls within a
race are one trial.

- *0 of 53 independent, at most 5.5 % (95 %)*: none of 53 trials broke the promise. So, with 95 % confidence, at most
  5.5 % of such trials would.
- *not tried*: the backend gives the suite no means to try this.
- `-`: it was not run.

`make compare` makes the whole page anew, `make compare ARGS=sqlite` one column of it. Trials that kill processes and
servers are under [evidence](evidence/README.md)."""

SECONDS: Final = "time of all tests"
MADE: Final = "made on"
REMARK: Final = "remark"

Told = dict[str, str]
"""A column of the page: the text of each cell by the head of its row."""


@dataclass(slots=True)
class Column:
    """The tests of one backend."""

    name: str
    cells: dict[str, Cell] = field(default_factory=lambda: defaultdict(Cell))
    capabilities: dict[str, bool | str] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""

    @property
    def told(self) -> Told:
        """The column as it is printed."""
        groups = {head: self._text(group) for group, head in (*GROUPS.items(), (OTHER, OTHER)) if group in self.cells}
        capabilities = {head: self._capability(name) for name, head in CAPABILITIES.items()}
        made = datetime.now(UTC).strftime("%Y-%m-%d")
        remark = {REMARK: self.note} if self.note else {}
        return groups | capabilities | {SECONDS: f"{self.seconds:,.0f} s", MADE: made} | remark

    def _text(self, group: str) -> str:
        """One cell. A store that is not durable does not fail G3, because it does not promise it."""
        if group == "g3" and self.capabilities.get("durable") is False and not self.cells[group].failed:
            return "not promised"
        return self.cells[group].text

    def _capability(self, name: str) -> str:
        """What the store says of itself."""
        said = self.capabilities.get(name, "-")
        return {True: "yes", False: "no"}[said] if isinstance(said, bool) else said


def main() -> None:
    """Run the suites and write the page; exit code 1 if a guarantee is broken anywhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backends", nargs="*", help="harness names or storage URLs; all that are at hand by default")
    parser.add_argument("--jobs", default="2", help="how many tests run at once")
    options = parser.parse_args()
    columns = [_run(name, options.jobs) for name in options.backends or list(harness_names())]
    ours, begin, labs = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    known = _columns_of(ours) if options.backends else {}
    page = _page(known | {column.name: column.told for column in columns})
    PAGE.write_text(f"{page}\n{begin}{labs}" if labs else page, encoding="utf-8")
    broken = [column.name for column in columns if any(cell.failed for cell in column.cells.values())]
    print(f"written: {PAGE.relative_to(ROOT)}")
    sys.exit(f"broken promises: {', '.join(broken)}" if broken else 0)


def _run(name: str, jobs: str) -> Column:
    """The conformance suite of one backend, in a process of its own."""
    column = Column(name)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "-m", "", "-n", jobs, "--backend", name, "-o", "junit_family=xunit1", f"--junitxml={report}"]
        files = sorted(str(path) for path in (ROOT / "tests" / "integration").glob("test_conformance_*.py"))
        print(f"{name} …", flush=True)
        done = subprocess.run([sys.executable, "-m", "pytest", *options, *files], cwd=ROOT, check=False)
        if done.returncode not in (0, 1) or not report.exists():
            column.note = "could not be run"
            return column
        for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - written by the line above
            _count(column, case)
    return column


def _count(column: Column, case: ET.Element) -> None:
    column.seconds += float(case.get("time") or 0)
    said = {str(p.get("name")): str(p.get("value")) for p in case.iter("property")}
    outcome = "passed"
    if case.find("failure") is not None or case.find("error") is not None:
        outcome = "failed"
    elif (skipped := case.find("skipped")) is not None:
        outcome = "skipped"
        column.note = str(skipped.get("message"))
    column.cells[group_of(str(case.get("name")))].add(outcome, said)
    column.capabilities = json.loads(said["capabilities"]) if "capabilities" in said else column.capabilities


def _row(head: str, cells: Iterable[str]) -> str:
    return "| " + " | ".join([head, *cells]) + " |"


def _columns_of(page: str) -> dict[str, Told]:
    """The columns of a page that was made before, by name."""
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    (_, *names), *rows = table
    return {name.strip("`"): {row[0]: row[number] for row in rows} for number, name in enumerate(names, 1)}


def _page(columns: Mapping[str, Told]) -> str:
    """The page; a row that no column has is left out."""
    heads = [*GROUPS.values(), OTHER, *CAPABILITIES.values(), SECONDS, MADE, REMARK]
    rows = [head for head in heads if any(head in told for told in columns.values())]
    lines = [
        "# Comparison",
        "",
        "<!-- Made by scripts/compare.py. Do not edit. -->",
        "",
        *INTRODUCTION.splitlines(),
        "",
        _row("", (f"`{name}`" for name in columns)),
        "|" + "---|" * (len(columns) + 1),
        *(_row(head, (told.get(head, "-") for told in columns.values())) for head in rows),
        "",
        f"Made with Python {platform.python_version()} on {platform.system()}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
