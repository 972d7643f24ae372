"""Compare the backends: run the conformance suite on each and write `docs/comparison.md`.

Every installed harness (`wallet_gql.testing.harness`) has a column, so a new backend is included without a change here.
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
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

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


@dataclass(slots=True)
class Column:
    """One backend."""

    name: str
    cells: dict[str, Cell] = field(default_factory=lambda: defaultdict(Cell))
    capabilities: dict[str, bool | str] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""

    def text(self, group: str) -> str:
        """One cell. A store that is not durable does not fail G3, because it does not promise it."""
        if self.note and not self.cells:
            return "-"
        if group == "g3" and self.capabilities.get("durable") is False and not self.cells[group].failed:
            return "not promised"
        return self.cells[group].text

    def capability(self, name: str) -> str:
        """What the store says of itself."""
        said = self.capabilities.get(name, "-")
        return {True: "yes", False: "no"}[said] if isinstance(said, bool) else said


def main() -> None:
    """Run the suites and write the page; exit code 1 if a guarantee is broken anywhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backends", nargs="*", help="harness names or storage URLs; all that are at hand by default")
    names = parser.parse_args().backends or list(harness_names())
    columns = [_run(name) for name in names]
    PAGE.write_text(_page(columns), encoding="utf-8")
    broken = [column.name for column in columns if any(cell.failed for cell in column.cells.values())]
    print(f"written: {PAGE.relative_to(ROOT)}")
    sys.exit(f"broken promises: {', '.join(broken)}" if broken else 0)


def _run(name: str) -> Column:
    """The conformance suite of one backend, in a process of its own."""
    column = Column(name)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "-n", "2", "--backend", name, "-o", "junit_family=xunit1", f"--junitxml={report}"]
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


def _page(columns: list[Column]) -> str:
    rows = [*GROUPS, *([OTHER] if any(column.cells[OTHER].text != "-" for column in columns) else [])]
    head = ["", *(f"`{column.name}`" for column in columns)]
    lines = [
        "# Comparison",
        "",
        "<!-- Made by scripts/compare.py. Do not edit. -->",
        "",
        "What the conformance suite found on each backend. A trial is one race, fault or repetition; calls within one",
        "race count as one. *0 of 53 independent, at most 5.5 % (95 %)* means: none of 53 trials broke the promise, so",
        "with 95 % confidence at most 5.5 % of such trials would. *Not tried* names what a backend gave no means to",
        "try. `make compare` makes this page anew. Killed processes and servers are under",
        "[evidence](evidence/README.md).",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    lines += [f"| {GROUPS.get(group, OTHER)} | " + " | ".join(c.text(group) for c in columns) + " |" for group in rows]
    for name, words in CAPABILITIES.items():
        lines.append(f"| {words} | " + " | ".join(column.capability(name) for column in columns) + " |")
    seconds = [f"{column.seconds:,.0f} s" for column in columns]
    lines.append("| time of all tests | " + " | ".join(seconds) + " |")
    lines += ["", *(f"- `{column.name}`: {column.note}" for column in columns if column.note)]
    made = datetime.now(UTC).strftime("%Y-%m-%d")
    lines += ["", f"Made on {made} with Python {platform.python_version()} on {platform.system()}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
