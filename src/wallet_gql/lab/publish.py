"""Publishing a folder of results: a dated page of evidence, and columns in the comparison of all backends.

A page of evidence is never changed afterwards. The comparison is made from the raw figures of all that was published,
in the folder `comparison`: what was measured anew takes the place of what had the same name, and the rest stays.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any, Final

from .cost import columns, shown
from .power import ENOUGH, weak
from .results import merge, read

Results = Mapping[str, Any]
Row = tuple[str, Mapping[str, str]]
"""The head of a row, and its cells by backend."""

KINDS: Final = ("check", "load", "cost", "fault", "power")
BEGIN: Final = "<!-- lab: begin; made by `wallet-gql lab report --publish`. Do not edit. -->"
"""In the comparison: what follows is the lab's."""

WORDS: Final = (
    "What follows is measured by [the lab](lab.md), which tells what the words mean. `-`: there is no such figure."
)
SOURCE: Final = "evidence"
"""In a published figure: the page that it comes from."""


def publish(folder: Path, docs: Path) -> Path:
    """Publish the results of a folder into a checkout's documentation; returns the page of evidence.

    Raises FileNotFoundError if there are no results, or no documentation.
    """
    found = {kind: results for kind in KINDS if (results := read(folder, kind))}
    index, comparison = docs / "evidence" / "README.md", docs / "comparison.md"
    if not found or not index.exists() or not comparison.exists():
        raise FileNotFoundError(f"{folder} has no results, or {docs} has no comparison.md and evidence/README.md")
    environment = read(folder, "environment")
    date = max(str(facts["at"])[:10] for facts in environment.values() if "at" in facts)
    page = _new_page(index.parent, date)
    _write_evidence(page, folder, found, environment)
    backends = sorted({key.partition(" ")[0] for results in found.values() for key in results})
    with index.open("a", encoding="utf-8") as lines:
        lines.write(f"| [{date}]({page.name}) | the lab: {', '.join(found)} of {', '.join(backends)} |\n")
    for kind, results in found.items():
        (docs / "comparison").mkdir(exist_ok=True)
        named = {key: {**result, SOURCE: page.name} for key, result in results.items()}
        merge(docs / "comparison" / f"{kind}.json", named)
    merged = {kind: results for kind in KINDS if (results := read(docs / "comparison", kind))}
    text = comparison.read_text(encoding="utf-8").partition(BEGIN)[0].rstrip()
    comparison.write_text(f"{text}\n\n{BEGIN}\n\n{WORDS}\n\n{tables(merged)}", encoding="utf-8")
    return page


def _new_page(folder: Path, date: str) -> Path:
    """The first name of that day that nothing has."""
    names = (f"{date}-lab{'' if number == 1 else f'-{number}'}.md" for number in count(1))
    return next(page for name in names if not (page := folder / name).exists())


def _write_evidence(page: Path, folder: Path, found: Mapping[str, Results], environment: Results) -> None:
    raw = page.with_suffix("")
    raw.mkdir()
    for file in sorted(folder.glob("*.json")):
        shutil.copy(file, raw / file.name)
    facts = [each for each in environment.values() if "command" in each]
    last = max(facts, key=lambda each: str(each["at"]))
    commands = "\n".join(dict.fromkeys(f"{_command(each)}  # commit {each['commit']}" for each in facts))
    machine = f"{last['cpus']} x {last['cpu']}, {last['memory']}, {last['system']}, {last['python']}"
    loads = [float(each["loadAverage"]) for each in facts]
    told = (
        "The results of `wallet-gql lab`. Raw figures, with versions and settings of all "
        f"servers, are in [{raw.name}]({raw.name}/environment.json). The machine: {machine}; its load average was "
        f"{min(loads):.1f} to {max(loads):.1f} as the commands ended."
    )
    text = [f"# The lab, {str(last['at'])[:10]}", told, f"```sh\n{commands}\n```", tables(found)]
    page.write_text("\n\n".join(text), encoding="utf-8")


def tables(results: Mapping[str, Results]) -> str:
    """All results in Markdown: a section for each kind, and in it a column for each backend."""
    rows = {"check": _check, "load": _load, "cost": _cost, "fault": _fault, "power": _power}
    heads = {
        "check": "Levels of consistency",
        "load": "Latency and throughput",
        "cost": "What a transfer costs",
        "fault": "What faults do",
        "power": "Mutants that the check convicts",
    }
    parts = []
    for kind, found in results.items():
        told = [*rows[kind](found), *_sources(found)]
        parts += [f"## {heads[kind]}", _table(told)]
    return "\n\n".join(parts) + "\n"


def _command(facts: Results) -> str:
    """The command that was run, with the folder of its results by its last name."""
    words = [str(word) for word in facts["command"]]
    return " ".join(
        Path(word).name if before == "--out" else word for before, word in zip(["", *words], words, strict=False)
    )


def _table(rows: Sequence[Row]) -> str:
    names = sorted({name for _, cells in rows for name in cells})
    lines = [["figure", *(f"`{name}`" for name in names)], ["---"] * (len(names) + 1)]
    lines += [[head, *(cells.get(name, "-") for name in names)] for head, cells in rows]
    escaped = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _by_cell(results: Results) -> dict[str, dict[str, Results]]:
    """Results by cell, then by backend."""
    found: dict[str, dict[str, Results]] = {}
    for key, result in results.items():
        backend, _, cell = key.partition(" ")
        found.setdefault(cell, {})[backend] = result
    return found


def _sources(results: Results) -> list[Row]:
    """Which pages the figures of a backend come from, if they are of several."""
    found: dict[str, list[str]] = {}
    for key, result in results.items():
        if SOURCE in result:
            found.setdefault(key.partition(" ")[0], []).append(result[SOURCE])
    told = {
        name: ", ".join(f"[{page[:10]}](evidence/{page})" for page in dict.fromkeys(pages))
        for name, pages in found.items()
    }
    return [("measured on", told)] if told else []


def _check(results: Results) -> Iterable[Row]:
    scopes = {"account": "one account", "node": "one node", "across": "across nodes"}
    for scope, head in scopes.items():
        told = {name: result["scopes"][scope] for name, result in results.items() if scope in result["scopes"]}
        yield head, {name: f"{one['seen']} ({one['verdict']}, {one['runs']} runs)" for name, one in told.items()}
    faults = {name: sum(len(run["faults"]) for run in result["runs"].values()) for name, result in results.items()}
    yield "what no backend may show", {name: str(number) for name, number in faults.items()}


def _load(results: Results) -> Iterable[Row]:
    by_schedule: dict[str, dict[str, Results]] = {}
    for cell, told in _by_cell(results).items():
        for name, result in told.items():
            by_schedule.setdefault(f"{cell}, schedule {result['schedule'][:12]}", {})[name] = result
    for cell, told in by_schedule.items():
        yield f"{cell}: median ms", {name: _interval(one, "p50Ms") for name, one in told.items()}
        p99 = {name: one["p99Ms"] for name, one in told.items() if one["valid"] and one["p99Ms"] is not None}
        if p99:
            yield f"{cell}: p99 ms", {name: f"{value:.3g}" for name, value in p99.items()}
        yield f"{cell}: done/s", {name: _interval(one, "perSecond") for name, one in told.items()}


def _interval(result: Results, name: str) -> str:
    if not result["valid"]:
        return "INVALID"
    median, low, high = result[name]
    return f"{median:.3g}" + ("" if low is None else f" ({low:.3g} to {high:.3g})")


def _cost(results: Results) -> Iterable[Row]:
    for cell, told in _by_cell(results).items():
        for head in columns([one["perTransfer"] for one in told.values()]):
            yield f"{cell}: {head}", {name: shown(one["perTransfer"].get(head)) for name, one in told.items()}


def _fault(results: Results) -> Iterable[Row]:
    clear = {name: sorted(chain(*one["clearSeconds"].values())) for name, one in results.items()}
    yield "faults", {name: str(sum(one["faults"].values())) for name, one in results.items()}
    yield "clear, median s", {name: f"{times[len(times) // 2]:.2f}" for name, times in clear.items() if times}
    yield "clear, longest s", {name: f"{times[-1]:.2f}" for name, times in clear.items() if times}
    yield "anomalies", {name: str(len(one["anomalies"])) for name, one in results.items()}


def _power(results: Results) -> Iterable[Row]:
    for mutant, told in _by_cell(results).items():
        yield mutant, {name: f"{one['convicted']} of {one['trials']}" for name, one in told.items()}
    named = {name: ", ".join(mutants) for name, mutants in weak(results).items()}
    yield (
        f"convicted in less than {ENOUGH:.0%} of the trials",
        {name: mutants or "none" for name, mutants in named.items()},
    )
