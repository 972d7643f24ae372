"""One page about a folder of results: tables, plots and plain words, in a single HTML file that needs nothing else."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any, Final

from matplotlib.figure import Figure

from .. import __version__
from .cost import columns, shown
from .power import ENOUGH, weak
from .results import read

Results = Mapping[str, Any]

SCOPES: Final = {"account": "one account", "node": "one node", "across": "across nodes"}
STRICT: Final = "PL-SS"
_STYLE: Final = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { border: 1px solid #ccc; padding: .25rem .6rem; text-align: left; vertical-align: top }
td:not(:last-child) { white-space: nowrap } figure { margin: 0 }
td.n { text-align: right; font-variant-numeric: tabular-nums } .bad { color: #b00020; font-weight: 600 }
svg { max-width: 100%; height: auto } code { background: #f4f4f4; padding: 0 .2rem }
"""


def write_report(folder: Path) -> Path:
    """Write `report.html` into a folder of results and return it. Raises FileNotFoundError if there are no results."""
    sections = {"check": _check, "load": _load, "cost": _cost, "fault": _fault, "power": _power}
    found = {name: results for name in sections if (results := read(folder, name))}
    if not found:
        raise FileNotFoundError(f"{folder} has no results; run `wallet-gql lab check --out {folder}` first")
    parts = ["<h1>Backends of wallet-gql, compared</h1>"]
    for name, results in found.items():
        parts += sections[name](results)
    parts += _environment(read(folder, "environment"))
    page = folder / "report.html"
    head = f'<meta charset="utf-8"><title>wallet-gql lab</title><style>{_STYLE}</style>'
    page.write_text(f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>', "utf-8")
    return page


def _check(results: Results) -> list[str]:
    rows = []
    for backend, result in results.items():
        for scope, verdict in result["scopes"].items():
            words = escape(verdict["verdict"])
            words = words if words == "holds" else f'<span class="bad">{words}</span>'
            claim, seen, anomaly = (escape(verdict[name] or "") for name in ("claim", "seen", "anomaly"))
            rows.append([escape(backend), SCOPES[scope], claim, seen, str(verdict["runs"]), words, anomaly])
    heads = ("backend", "scope", "claims", "seen", "runs", "verdict", "what was seen")
    parts = ["<h2>What somebody may see while payments run</h2>", *_words_of_levels(results)]
    parts.append(_table("Levels of consistency, as Adya names them", heads, rows))
    for backend, result in results.items():
        faults = [fault for run in result["runs"].values() for fault in run["faults"]]
        if faults:
            listed = "".join(f"<li>{escape(fault)}</li>" for fault in faults)
            parts.append(f'<p class="bad">{escape(backend)}: what no backend may show</p><ul>{listed}</ul>')
    bars = {backend: (100 * _fractured(result), None, None) for backend, result in results.items()}
    return [*parts, _bars("Fractured reads of all accounts", "% of reads", bars)]


def _fractured(result: Results) -> float:
    runs = result["runs"].values()
    fractured = sum(int(run["fractured"]) for run in runs)
    return fractured / max(1, sum(int(run["wholeReads"]) for run in runs))


def _words_of_levels(results: Results) -> list[str]:
    """Which uses each backend suits, by these histories."""
    levels = {name: {verdict["seen"] for verdict in result["scopes"].values()} for name, result in results.items()}
    strict = [name for name, seen in levels.items() if seen == {STRICT}]
    faulty = [name for name, result in results.items() if any(run["faults"] for run in result["runs"].values())]
    weaker = [name for name in results if name not in strict and name not in faulty]
    said = []
    if strict:
        said.append(f"{_list(strict)}: every read fits one order of all payments, and no read was out of date.")
    if weaker:
        said.append(
            f"{_list(weaker)}: payments are decided on isolated state as everywhere, but a read may see a part of a "
            "payment or miss what was just done, where the table says so. Sums over several accounts need care there."
        )
    if faulty:
        said.append(f"{_list(faulty)}: <strong>faults were found</strong>, which no backend may show.")
    return [f"<p>{line}</p>" for line in said]


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"<code>{escape(name)}</code>" for name in names)


def _load(results: Results) -> list[str]:
    cells: dict[str, dict[str, Results]] = {}
    for name, result in results.items():
        backend, _, cell = name.partition(" ")
        cells.setdefault(f"{cell}, schedule {result['schedule'][:12]}", {})[backend] = result
    words = (
        "Latency counts from the time at which an operation was due, unless clients waited for one another. The bars "
        "are medians of the rounds, with 95 % intervals. Compare backends of one plot only: they ran one schedule."
    )
    parts = [f"<h2>How long operations take</h2><p>{words}</p>"]
    for cell, by_backend in cells.items():
        rows = [[escape(backend), *_figures(result)] for backend, result in by_backend.items()]
        heads = ("backend", "p50 ms", "95 % interval", "p99 ms", "done/s", "rounds")
        valid = {backend: result["p50Ms"] for backend, result in by_backend.items() if result["valid"]}
        parts += [f"<h3>{escape(cell)}</h3>", *_fastest(valid), _table("", heads, rows, numbers_from=1)]
        if valid:
            parts.append(_bars("Median latency", "ms", valid))
    return parts


def _figures(result: Results) -> list[str]:
    if not result["valid"]:
        return [f'<span class="bad">INVALID</span> {escape("; ".join(result["wrong"]))}', "", "", "", ""]
    median, low, high = result["p50Ms"]
    bounds = "" if low is None else f"{low:.3g} to {high:.3g}"
    p99 = "too few" if result["p99Ms"] is None else f"{result['p99Ms']:.3g}"
    return [f"{median:.3g}", bounds, p99, f"{result['perSecond'][0]:.3g}", str(len(result["rounds"]))]


def _fastest(valid: Mapping[str, Sequence[float | None]]) -> list[str]:
    """Which backend answered soonest, if the intervals do not overlap."""
    ranked = sorted(valid.items(), key=lambda item: item[1][0] or 0.0)
    if len(ranked) < 2 or None in (ranked[0][1][2], ranked[1][1][1]):
        return []
    (first, best), (second, next_best) = ranked[:2]
    if (best[2] or 0.0) < (next_best[1] or 0.0):
        return [f"<p>{_list([first])} answered soonest.</p>"]
    return [f"<p>{_list([first, second])} cannot be told apart: their intervals overlap.</p>"]


def _cost(results: Results) -> list[str]:
    heads = columns([result["perTransfer"] for result in results.values()])
    rows = []
    for name, result in results.items():
        backend, _, cell = name.partition(" ")
        figures = (shown(result["perTransfer"].get(head)) for head in heads)
        rows.append([escape(backend), escape(cell), *map(escape, figures)])
    words = (
        "Syncs, bytes, commits and round trips do not depend on how fast the machine is; processor time does. Clients "
        "in flight share commits and syncs. Log bytes are those of the write-ahead log or journal; wire bytes pass "
        "between the wallet and its servers, in both directions."
    )
    table = _table("Each transfer", ("backend", "cell", *heads), rows, numbers_from=2)
    return [f"<h2>What a transfer costs</h2><p>{words}</p>", table]


def _fault(results: Results) -> list[str]:
    rows = []
    for backend, result in results.items():
        kinds = ", ".join(f"{count} {kind}" for kind, count in result["faults"].items()) or "none"
        times = _clear(result)
        clear = [f"{times[len(times) // 2]:.2f}", f"{times[-1]:.2f}"] if times else ["", ""]
        wrong = "<br>".join(map(escape, result["anomalies"]))
        found = f'<span class="bad">{wrong}</span>' if wrong else "none"
        rows.append([escape(backend), escape(kinds), *clear, f"{result['longestSilenceSeconds']:.2f}", found])
    words = (
        "Servers were killed and stopped, connections failed, clocks stepped and writing processes were killed, while "
        "clients paid. <em>Clear</em> is the time after a fault until every request that had no answer then got one. "
        "Whatever a fault does, no payment may be lost or made twice."
    )
    heads = ("backend", "faults", "clear, median s", "clear, longest s", "longest silence s", "anomalies")
    longest = {name: [times[-1], None, None] for name, result in results.items() if (times := _clear(result))}
    plot = [_bars("Longest clear time", "s", longest)] if longest else []
    return [f"<h2>What faults do</h2><p>{words}</p>", _table("Faults under load", heads, rows), *plot]


def _power(results: Results) -> list[str]:
    rows = []
    for name, result in results.items():
        backend, _, mutant = name.partition(" ")
        low, high = result["interval"]
        seconds = f"{median(result['seconds']):.1f}" if result["seconds"] else ""
        told = (f"{result['convicted']} of {result['trials']}", f"{low:.2f} to {high:.2f}", seconds, result["found"])
        rows.append([escape(backend), escape(mutant), *map(escape, told)])
    words = (
        "The check was run on products that were broken on purpose. A mistake that it convicts under every seed would "
        "not stay hidden from it; one that it rarely convicts needs more histories, or another test."
    )
    heads = ("backend", "mutant", "convicted", "95 % interval", "median s", "found")
    named = "; ".join(f"{name}: {', '.join(mutants) or 'none'}" for name, mutants in weak(results).items())
    rarely = f"<p>Convicted in less than {ENOUGH:.0%} of the trials: {escape(named)}.</p>"
    return [f"<h2>How much a clean check is worth</h2><p>{words}</p>", _table("Mutants", heads, rows), rarely]


def _clear(result: Results) -> list[float]:
    """The clear times of all kinds, the shortest first."""
    return sorted(took for some in result["clearSeconds"].values() for took in some)


def _environment(environment: Mapping[str, Results]) -> list[str]:
    parts = ["<h2>What the figures depend on</h2>"]
    for name, facts in environment.items():
        rows = [[escape(key), escape(_fact(value))] for key, value in facts.items() if key != "packages"]
        parts.append(_table(f"{name}, last run", ("", ""), rows))
    where = "Raw figures are beside this page; <code>environment.json</code> has the versions of all packages."
    return [*parts, f"<p>{where} Made by wallet-gql {escape(__version__)}.</p>"]


def _fact(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers_from: int = 99) -> str:
    def cell(place: int, text: str) -> str:
        return f'<td class="n">{text}</td>' if place >= numbers_from else f"<td>{text}</td>"

    lines = ["".join(cell(place, text) for place, text in enumerate(row)) for row in rows]
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(f"<tr>{line}</tr>" for line in (head, *lines))
    return f"<table><caption>{escape(caption)}</caption>{body}</table>"


def _bars(title: str, unit: str, values: Mapping[str, Sequence[float | None]]) -> str:
    """Horizontal bars with intervals, as SVG. `values` are median, low and high; the bounds may be None."""
    names = list(values)[::-1]
    middles = [values[name][0] or 0.0 for name in names]
    bounds = [(values[name][1], values[name][2]) for name in names]
    left = [middle - (low if low is not None else middle) for middle, (low, _) in zip(middles, bounds, strict=True)]
    right = [(high if high is not None else middle) - middle for middle, (_, high) in zip(middles, bounds, strict=True)]
    figure = Figure(figsize=(8, 0.9 + 0.42 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(names, middles, xerr=[left, right], color="#4c78a8", ecolor="#222", capsize=3, height=0.6)
    axes.bar_label(bars, [f"{middle:.3g}" for middle in middles], padding=4)
    axes.set_xlabel(unit)
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(left=0)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    text = drawn.getvalue()
    return f'<figure role="img" aria-label="{escape(title)}">{text[text.index("<svg") :]}</figure>'
