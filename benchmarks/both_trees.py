"""Payments per second of this tree beside another one, load by load, in one interleaved run.

    git worktree add ../before COMMIT
    python benchmarks/both_trees.py ../before [redis_locks.py postgres_pgbench.py] [--turns 5] [--seconds 1.5]

Each turn runs each script once from each tree, one right after the other, in alternating order, each with its own
servers. Figures are medians over the turns; ratios are medians of each turn's own, with the least and the greatest.
The loads of pgbench itself are the same program in both trees: their ratios say how much the machine disturbs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, its sibling modules are found too

from benchmarks.environment import as_markdown, describe

HERE: Final = Path(__file__).resolve().parents[1]
SCRIPTS: Final = ("redis_locks.py", "postgres_pgbench.py")
MOST_SECONDS: Final = 900


def run(tree: Path, script: str, seconds: float, folder: Path) -> dict[str, float]:
    """Payments per second of each load of a script in a tree. SystemExit if it fails or must not be believed."""
    found = folder / "found.json"
    command = [
        sys.executable,
        str(tree / "benchmarks" / script),
        "--rounds=1",
        f"--seconds={seconds}",
        f"--json={found}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "COLUMNS": "200"}
    done = subprocess.run(
        command, cwd=tree, env=environment, check=False, capture_output=True, text=True, timeout=MOST_SECONDS
    )
    if done.returncode:
        raise SystemExit(f"INVALID: {' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return rates(json.loads(found.read_text(encoding="utf-8")))


def rates(told: dict[str, Any]) -> dict[str, float]:
    """The figures of either script's file."""
    if "loads" in told:
        return {load: figures[0]["per_second"] for load, figures in told["loads"].items()}
    return {
        f"{cell['load']}, {protocol}": figure["per_second"]
        for cell in told["cells"]
        for protocol, figure in cell["rounds"][0].items()
    }


def main() -> None:
    """Print a table for each script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("before", type=Path, help="the other tree")
    parser.add_argument("scripts", nargs="*", default=SCRIPTS, choices=[*SCRIPTS, SCRIPTS])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each load")
    options = parser.parse_args()
    trees = {"before": options.before.resolve(), "now": HERE}
    with tempfile.TemporaryDirectory() as name:
        print(as_markdown(describe(Path(name))), end="\n\n")
        for script in options.scripts:
            turns: list[dict[str, dict[str, float]]] = []
            for turn in range(options.turns):
                order = list(trees) if turn % 2 else list(reversed(trees))
                turns.append({which: run(trees[which], script, options.seconds, Path(name)) for which in order})
                print(f"{script}: turn {turn + 1} of {options.turns}", file=sys.stderr)
            print(
                f"| {script} | before /s | now /s | now to before | least | greatest |\n|---|---:|---:|---:|---:|---:|"
            )
            for load in (load for load in turns[0]["now"] if load in turns[0]["before"]):
                before, now = ([turn[which][load] for turn in turns] for which in trees)
                ratios = [mine / other for other, mine in zip(before, now, strict=True)]
                shown = (statistics.median(ratios), min(ratios), max(ratios))
                print(
                    f"| {load} | {statistics.median(before):,.0f} | {statistics.median(now):,.0f} "
                    f"| {' | '.join(f'{ratio:.2f}' for ratio in shown)} |"
                )
            print(flush=True)


if __name__ == "__main__":
    main()
