"""`wallet-gql lab …`. It imports what it needs when a command runs, for the extra `lab` may not be installed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ..domain.errors import ConfigurationError

if TYPE_CHECKING:
    from .check import Report

app = typer.Typer(
    name="lab",
    rich_markup_mode="rich",
    no_args_is_help=True,
    help="Compare backends: what their histories, loads and faults show. Needs the extra `wallet-gql[lab]`.",
    epilog="Example: wallet-gql lab check memory sqlite",
)

NEEDED: Final = ("scipy",)
FAULTS_SHOWN: Final = 10

Backends = Annotated[
    list[str] | None, typer.Argument(help="Harnesses' names or storage URLs; all that can be started here by default.")
]
Seed = Annotated[int, typer.Option(help="Decides every draw; the next repetition has the next seed.")]
Out = Annotated[Path | None, typer.Option(help="A folder for the results; created if it is missing.")]


@app.callback()
def _installed() -> None:
    """Refuse to begin without the libraries."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"{', '.join(missing)} missing; run: pip install 'wallet-gql[lab]'")


@app.command(epilog="Example:  wallet-gql lab check memory-3 sqlite --seed 7 --repeats 5 --out results")
def check(
    backends: Backends = None,
    *,
    seed: Seed = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Histories of each backend.")] = 3,
    writes: Annotated[int, typer.Option(min=1, help="Requests that move or reserve money, in each history.")] = 300,
    out: Out = None,
) -> None:
    """Judge histories: exit 1 if a backend breaks its claims, or claims less than it keeps."""
    from ..testing.harness import harness_names  # noqa: PLC0415 - the other commands need no harness
    from ..testing.servers.process import ServerMissing  # noqa: PLC0415 - same
    from .check import check as check_backend  # noqa: PLC0415 - needs the extra
    from .workload import Size  # noqa: PLC0415 - same

    names = backends or list(harness_names())
    reports: list[Report] = []
    missing: dict[str, str] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for name in names:
            task = progress.add_task(f"check {name}", total=repeats)
            step = partial(progress.advance, task)
            try:
                work = check_backend(name, range(seed, seed + repeats), Size(writes), out, step)
                reports.append(asyncio.run(work))
            except (ImportError, LookupError, ServerMissing) as error:
                missing[name] = str(error)
    Console().print(_levels(reports))
    _tell(reports, missing)
    if backends and missing:
        raise ConfigurationError(f"not tried: {', '.join(missing)}")
    if not all(report.holds for report in reports):
        raise typer.Exit(1)


def _levels(reports: Sequence[Report]) -> Table:
    table = Table(title="consistency, as Adya names it")
    for head in ("backend", "scope", "claims", "seen", "runs", "verdict"):
        table.add_column(head, justify="right" if head == "runs" else "left")
    for report in reports:
        for scope, verdict in report.verdicts.items():
            colour = "green" if verdict.text == "holds" else "red"
            values = (str(verdict.claim), str(verdict.seen), str(verdict.runs), f"[{colour}]{verdict.text}[/]")
            table.add_row(report.backend, scope, *values)
    return table


def _tell(reports: Sequence[Report], missing: Mapping[str, str]) -> None:
    for report in reports:
        for scope, verdict in report.verdicts.items():
            if verdict.anomaly:
                typer.echo(f"{report.backend}, {scope}: {verdict.anomaly}")
        for seed, run in report.runs.items():
            typer.echo(f"{report.backend}, seed {seed}: {run.summary}")
            typer.echo("".join(f"  FAULT {fault}\n" for fault in run.faults[:FAULTS_SHOWN]), nl=False)
            if len(run.faults) > FAULTS_SHOWN:
                typer.echo(f"  and {len(run.faults) - FAULTS_SHOWN} more")
    for name, why in missing.items():
        typer.echo(f"{name}: not tried: {why}")
