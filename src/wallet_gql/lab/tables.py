"""The tables that the commands print."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from rich.markup import escape
from rich.table import Table

from .check import Report
from .cost import Cost, columns, shown
from .fault import Suffered
from .load import Measured
from .power import Power
from .schedule import Shape


def latencies(shape: Shape, results: Sequence[Measured]) -> Table:
    """One cell of a load."""
    first = results[0]
    sent = f"{shape.rate:g}/s, from the intended time" if first.clients is None else f"{first.clients} clients, closed"
    where = f"theta {shape.theta:g}, reads {shape.reads:g}, cross {shape.cross:g}"
    table = Table(title=f"{shape.mix} over {first.api}, {sent}; {where}; schedule {first.digest[:12]}")
    for head in ("backend", "p50 ms", "p99 ms", "x base", "done/s", "refused", "unanswered"):
        table.add_column(head, justify="left" if head == "backend" else "right", no_wrap=True)
    for one in results:
        if one.wrong:
            table.add_row(one.backend, "[red]INVALID[/]", *[""] * 5)
            typer.echo("".join(f"{one.backend}: {what}\n" for what in one.wrong), err=True, nl=False)
            continue
        p99_ms = one.all_latencies.p99_ms
        base = "" if one is first or first.wrong else str(one.against(first))
        shares = [f"{one.share(outcome):.1%}" for outcome in ("refused", "unknown")]
        p99 = f"{p99_ms:.3g}" if p99_ms else "too few"
        table.add_row(one.backend, str(one.p50_ms), p99, base, str(one.per_second), *shares)
    return table


def costs(cells: Sequence[Cost]) -> Table:
    """What a transfer costs, a row for each cell."""
    heads = columns([cell.figures for cell in cells])
    table = Table(title="each transfer; - is not measured")
    for head in ("backend", "cross", "in flight", *heads):
        table.add_column(head, justify="left" if head == "backend" else "right")
    for cell in cells:
        where = (cell.backend, f"{cell.cross:g}", str(cell.in_flight))
        table.add_row(*where, *(shown(cell.figures.get(head), "-") for head in heads))
    return table


def clear_times(found: Sequence[Suffered]) -> Table:
    """What each backend went through."""
    table = Table(title="clear: seconds after a fault until every request that waited was answered")
    for head in ("backend", "faults", "clear, median", "clear, longest", "longest silence s", "answered", "anomalies"):
        table.add_column(head, justify="left" if head == "backend" else "right")
    for told in found:
        clear = told.clear
        seconds = (clear[len(clear) // 2], clear[-1], told.silent_seconds) if clear else ()
        times = [f"{time:.2f}" for time in seconds] or ["-"] * 3
        answered = sum(count for name, count in told.outcomes.items() if not name.endswith("unknown"))
        table.add_row(told.backend, str(told.faults.total()), *times, f"{answered:,}", str(len(told.wrong)))
    return table


def levels(reports: Sequence[Report]) -> Table:
    """The verdict on each claim."""
    table = Table(title="consistency, as Adya names it")
    for head in ("backend", "scope", "claims", "seen", "runs", "verdict"):
        table.add_column(head, justify="right" if head == "runs" else "left")
    for report in reports:
        for scope, verdict in report.verdicts.items():
            colour = "green" if verdict.text == "holds" else "red"
            values = (str(verdict.claim), str(verdict.seen), str(verdict.runs), f"[{colour}]{verdict.text}[/]")
            table.add_row(report.backend, scope, *values)
    return table


def mutants(backend: str, found: Sequence[Power]) -> Table:
    """How often each mutant was convicted."""
    table = Table(title=f"mutants of {backend}")
    for head in ("mutant", "convicted", "95 % interval", "median s", "found"):
        table.add_column(head, overflow="ellipsis", no_wrap=True)
    for one in found:
        low, high = one.bounds
        seconds = "-" if one.median_seconds is None else f"{one.median_seconds:.1f}"
        told = (f"{one.convicted} of {one.trials}", f"{low:.2f} to {high:.2f}", seconds, escape(one.found[:60]))
        table.add_row(one.mutant, *told)
    return table
