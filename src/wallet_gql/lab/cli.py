"""`wallet-gql lab …`. It imports what it needs when a command runs, for the extra `lab` may not be installed."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from ..domain.errors import ConfigurationError
from .results import keep, keep_servers
from .schedule import KINDS, Api, Mix, Shape

if TYPE_CHECKING:
    from .check import Report
    from .cost import Cost
    from .fault import Suffered
    from .power import Power

app = typer.Typer(
    name="lab",
    rich_markup_mode="rich",
    no_args_is_help=True,
    help="Compare backends: what their histories, loads, costs and faults show. Needs the extra `wallet-gql\\[lab]`.",
    epilog="Example: wallet-gql lab check memory sqlite",
)

NEEDED: Final = ("hdrh", "matplotlib", "scipy")
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
    repeats: Annotated[int, typer.Option(min=1, help="Histories of each backend; more if none shows what it may.")] = 3,
    writes: Annotated[int, typer.Option(min=1, help="Requests that move or reserve money, in each history.")] = 300,
    out: Out = None,
) -> None:
    """Judge histories: exit 1 if a backend breaks its claims, or claims less than it keeps."""
    from . import tables  # noqa: PLC0415 - needs the extra
    from .check import check as check_backend  # noqa: PLC0415 - needs the extra
    from .workload import Size  # noqa: PLC0415 - same

    async def work(name: str, step: Step) -> Report:
        report = await check_backend(name, range(seed, seed + repeats), Size(writes), out, step)
        keep(out, "check.json", {name: report.plain()})
        return report

    reports, missing = _each(backends, "check", repeats, work, out)
    _console().print(tables.levels(reports))
    _tell(reports)
    _name_missing(backends, missing)
    if not all(report.holds for report in reports):
        raise typer.Exit(1)


Step = Callable[[], object]
T = TypeVar("T")


def _each(
    backends: Sequence[str] | None,
    what: str,
    steps: int,
    work: Callable[[str, Step], Coroutine[None, None, T]],
    out: Path | None = None,
) -> tuple[list[T], dict[str, str]]:
    """What the work finds of each backend, with progress on a terminal; and why others could not be started."""
    from ..testing.harness import harness_for, harness_names  # noqa: PLC0415 - not in production
    from ..testing.servers.process import ServerMissing  # noqa: PLC0415 - same

    found: list[T] = []
    missing: dict[str, str] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for name in backends or harness_names():
            task = progress.add_task(f"{what} {name}", total=steps)
            try:
                harness_for(name)
            except (ImportError, LookupError) as error:  # a LookupError of the work itself is a mistake in it
                missing[name] = str(error)
                continue
            try:
                found.append(asyncio.run(work(name, partial(progress.advance, task))))
                keep_servers(out, [name])
            except (ImportError, ServerMissing) as error:
                missing[name] = str(error)
    return found, missing


def _name_missing(backends: Sequence[str] | None, missing: Mapping[str, str]) -> None:
    """Say which backends were not tried. Raises ConfigurationError if they were named."""
    for name, why in missing.items():
        typer.echo(f"{name}: not tried: {why}")
    if backends and missing:
        raise ConfigurationError(f"not tried: {', '.join(missing)}")


def _numbers(text: str) -> list[float]:
    try:
        return [float(value) for value in text.split(",")]
    except ValueError as error:
        raise ConfigurationError(f"not numbers: {text}") from error


Shares = Annotated[str, typer.Option(help="A number from 0 to 1, or several with commas: each is a cell.")]


@app.command(
    epilog="Example:  wallet-gql lab load memory sqlite --mix smallbank --rate 200 --theta 0,0.8 --out results"
)
def load(
    backends: Annotated[list[str], typer.Argument(help="Harnesses' names or storage URLs; the first is the base.")],
    *,
    mix: Annotated[Mix, typer.Option(help="What is asked for.")] = "transfer",
    theta: Annotated[str, typer.Option(help="How unequal accounts are: 0 is equal, 1.2 very hot.")] = "0",
    reads: Shares = "0",
    cross: Shares = "0.5",
    rate: Annotated[float, typer.Option(help="Operations a second that are sent, whatever is answered.")] = 100.0,
    closed: Annotated[int | None, typer.Option(min=1, help="Instead: so many clients that wait for answers.")] = None,
    operations: Annotated[int, typer.Option(min=1, help="In each round.")] = 1_200,
    accounts: Annotated[int, typer.Option(help="At least 8, divisible by 4.")] = 32,
    rounds: Annotated[int, typer.Option(min=6, help="Of each backend, interleaved.")] = 6,
    api: Annotated[Api, typer.Option(help="The verbs of the ledger, or requests to the whole application.")] = "ledger",
    seed: Seed = 1,
    out: Out = None,
) -> None:
    """Measure latency under a load that was drawn beforehand; exit 1 if the figures of a backend are invalid."""
    from ..testing.harness import harness_for  # noqa: PLC0415 - the other commands need no harness
    from ..testing.servers.process import ServerMissing  # noqa: PLC0415 - same
    from . import tables  # noqa: PLC0415 - needs the extra
    from .load import compare as compare_backends  # noqa: PLC0415 - needs the extra

    try:
        shapes = [
            Shape(mix, seed, operations, rate, accounts, *cell)
            for cell in product(*map(_numbers, (theta, reads, cross)))
        ]
        with tempfile.TemporaryDirectory() as folder:
            harnesses = [harness_for(name) for name in backends]
            results = asyncio.run(
                compare_backends(harnesses, Path(folder), shapes, rounds=rounds, clients=closed, api=api)
            )
    except (ImportError, LookupError, ServerMissing, ValueError) as error:
        raise ConfigurationError(str(error)) from error
    for shape in shapes:
        _console().print(tables.latencies(shape, [one for one in results if one.shape == shape]))
    keep_servers(out, backends)
    keep(out, "load.json", {f"{one.backend} {one.name}": one.plain() for one in results})
    if any(one.wrong for one in results):
        raise typer.Exit(1)


@app.command(epilog="Example:  wallet-gql lab cost sqlite postgres-3 --cross 0,1 --in-flight 1,64 --out results")
def cost(
    backends: Backends = None,
    *,
    cross: Annotated[str, typer.Option(help="Shares of transfers between two nodes, where there are several.")] = "0,1",
    in_flight: Annotated[str, typer.Option(help="How many clients wait for answers.")] = "1,16",
    transfers: Annotated[int, typer.Option(min=1, help="In each cell, twice.")] = 200,
    seed: Seed = 1,
    out: Out = None,
) -> None:
    """Count syncs, bytes, commits, round trips and processor time of a transfer."""
    from ..testing.harness import harness_for  # noqa: PLC0415 - the other commands need no harness
    from . import tables  # noqa: PLC0415 - needs the extra
    from .cost import cost as cost_of  # noqa: PLC0415 - needs the extra

    crosses, levels = _numbers(cross), [int(number) for number in _numbers(in_flight)]
    if min(levels) < 1 or not all(0 <= share <= 1 for share in crosses):
        raise ConfigurationError("--cross is from 0 to 1, --in-flight at least 1")

    async def work(name: str, step: Step) -> list[Cost]:
        with tempfile.TemporaryDirectory() as folder:
            options: dict[str, Any] = {"transfers": transfers, "seed": seed, "step": step}
            cells = await cost_of(harness_for(name), Path(folder), crosses, levels, **options)
        keep(out, "cost.json", {f"{name} {cell.name}": cell.plain() for cell in cells})
        return cells

    found, missing = _each(backends, "cost", len(crosses) * len(levels), work, out)
    _console().print(tables.costs([cell for cells in found for cell in cells]))
    _name_missing(backends, missing)


@app.command(epilog="Example:  wallet-gql lab fault postgres-3 mongodb --kinds kill,cut --faults 20 --out results")
def fault(
    backends: Backends = None,
    *,
    kinds: Annotated[str, typer.Option(help="Which, with commas; each equally often.")] = ",".join(KINDS),
    faults: Annotated[int, typer.Option(min=1, help="How many in all, of each backend.")] = 16,
    seed: Seed = 1,
    out: Out = None,
) -> None:
    """Kill, stop, cut off and delay servers under load: exit 1 if a backend shows what it must not."""
    from ..testing.harness import harness_for  # noqa: PLC0415 - the other commands need no harness
    from . import tables  # noqa: PLC0415 - needs the extra
    from .fault import kinds_of, suffer  # noqa: PLC0415 - needs the extra
    from .formats import write_all  # noqa: PLC0415 - same

    chosen = kinds_of(kinds)

    async def work(name: str, step: Step) -> Suffered:
        with tempfile.TemporaryDirectory() as folder:
            told, history = await suffer(harness_for(name), Path(folder), seed, faults, chosen)
        if out is not None and history is not None:
            write_all(history, out, "faults")
        keep(out, "fault.json", {name: told.plain()})
        step()
        return told

    found, missing = _each(backends, "fault", 1, work, out)
    _console().print(tables.clear_times(found))
    for told in found:
        typer.echo("".join(f"{told.backend}: ANOMALY {what}\n" for what in told.wrong[:FAULTS_SHOWN]), nl=False)
        if told.not_tried:
            typer.echo(f"{told.backend}: not tried, for there is no such means: {', '.join(told.not_tried)}")
    _name_missing(backends, missing)
    if any(told.wrong for told in found):
        raise typer.Exit(1)


@app.command(
    epilog="Example:  wallet-gql lab power sqlite --mutants tests.integration.mutants --seeds 20 --out results"
)
def power(
    backend: Annotated[str, typer.Argument(help="The harness's name whose product the mutants break.")],
    *,
    mutants: Annotated[str, typer.Option(help="A module with a mapping MUTANTS, name to function.")],
    only: Annotated[str, typer.Option(help="Some of them, with commas; all by default.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Trials of each mutant.")] = 20,
    faults: Annotated[int, typer.Option(min=0, help="In each trial, after a history that finds nothing.")] = 0,
    at_once: Annotated[
        int, typer.Option(min=1, help="Processes side by side; most trials wait more than they run.")
    ] = 1,
    seed: Seed = 1,
    out: Out = None,
) -> None:
    """Run `check` and `fault` on products that are broken on purpose: how much a clean result is worth.

    What `--out` has of the same commit and as many faults is gone on with. Exit 1 if the sound product is convicted.
    """
    from . import tables  # noqa: PLC0415 - needs the extra
    from .broken import SOUND  # noqa: PLC0415 - same
    from .power import ENOUGH, earlier, mutants_of, parts, weak  # noqa: PLC0415 - same
    from .power import power as power_of  # noqa: PLC0415 - same

    sys.path.insert(0, "")  # as `python -m` does: modules of the working directory
    known = mutants_of(mutants)
    chosen = only.split(",") if only else known
    if unknown := set(chosen) - set(known):
        raise ConfigurationError(f"{mutants} has no {', '.join(sorted(unknown))}")

    async def work(name: str, step: Step) -> list[Power]:
        drawn, before = range(seed, seed + seeds), earlier(out, name, faults)

        def told(found: Sequence[Power]) -> None:
            keep(out, "power.json", parts(name, faults, found))

        few = partial(power_of, faults=faults, at_once=at_once, step=step, before=before, told=told)
        return await few(name, mutants, chosen, drawn)

    (found, *_), _ = _each([backend], "power", seeds * (len(chosen) + 1), work, out)
    _console().print(tables.mutants(backend, found))
    rare = weak(parts(backend, faults, found))[backend]
    typer.echo(f"convicted in less than {ENOUGH:.0%} of the trials: {', '.join(rare) or 'none'}")
    if any(one.convicted for one in found if one.mutant == SOUND):
        raise typer.Exit(1)


@app.command("all", epilog="Example:  wallet-gql lab all --out results")
def everything(
    backends: Backends = None,
    *,
    operations: Annotated[int, typer.Option(min=1, help="In each round of a load.")] = 200,
    transfers: Annotated[int, typer.Option(min=1, help="In each cell of costs, twice.")] = 100,
    faults: Annotated[int, typer.Option(min=1, help="Of each backend.")] = 16,
    seed: Seed = 1,
    out: Annotated[Path, typer.Option(help="A folder for the results; created if it is missing.")] = Path("results"),
) -> None:
    """Run check, load with three cells, cost, fault and report: exit 1 if one of them finds something wrong."""
    from ..testing.harness import harness_for  # noqa: PLC0415 - the other commands need no harness

    async def work(name: str, step: Step) -> str:
        with tempfile.TemporaryDirectory() as folder:
            harness = harness_for(name)
            await harness.start(Path(folder))
            await harness.stop()
        step()
        return name

    names, missing = _each(backends, "start", 1, work)
    _name_missing(backends, missing)
    steps = (
        partial(check, names, seed=seed, out=out),
        partial(load, names, theta="0,0.8,1.2", operations=operations, seed=seed, out=out),
        partial(cost, names, transfers=transfers, seed=seed, out=out),
        partial(fault, names, faults=faults, seed=seed, out=out),
    )
    failed = [step.func.__name__ for step in steps if _fails(step)]
    report(out)
    if failed:
        typer.echo(f"something is wrong: {', '.join(failed)}")
        raise typer.Exit(1)


def _fails(step: Callable[[], None]) -> bool:
    """Whether a command ends with an exit code other than 0."""
    try:
        step()
    except typer.Exit as ended:
        return ended.exit_code != 0
    return False


@app.command(epilog="Example:  wallet-gql lab compare before after")
def compare(
    before: Annotated[Path, typer.Argument(help="A folder of results.")],
    after: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Put two folders of results side by side: what has changed, and what cannot be told."""
    from .compare import compare_folders  # noqa: PLC0415 - needs the extra

    try:
        changes = compare_folders(before, after)
    except FileNotFoundError as error:
        raise ConfigurationError(str(error)) from error
    table = Table(title=f"{before} and {after}")
    for head in ("what", "before", "after", "ratio", "verdict"):
        table.add_column(head)
    for change in changes:
        table.add_row(*map(escape, (change.what, change.before, change.after, change.ratio, change.verdict)))
    _console().print(table)


@app.command(epilog="Example:  wallet-gql lab report results")
def report(
    folder: Annotated[Path, typer.Argument(help="Where `--out` of the other commands has put results.")],
    *,
    publish: Annotated[
        Path | None, typer.Option(help="A checkout's `docs`: gets a page of evidence, and columns in comparison.md.")
    ] = None,
) -> None:
    """Write one HTML page with the tables and plots of all results in a folder."""
    from .publish import publish as publish_in  # noqa: PLC0415 - needs the extra
    from .report import write_report  # noqa: PLC0415 - same

    try:
        typer.echo(write_report(folder))
        if publish is not None:
            typer.echo(publish_in(folder, publish))
    except FileNotFoundError as error:
        raise ConfigurationError(str(error)) from error


def _console() -> Console:
    """Where tables go; in a file or pipe they are as wide as they want to be."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def _tell(reports: Sequence[Report]) -> None:
    for report in reports:
        for scope, verdict in report.verdicts.items():
            if verdict.anomaly:
                typer.echo(f"{report.backend}, {scope}: {verdict.anomaly}")
        for seed, run in report.runs.items():
            typer.echo(f"{report.backend}, seed {seed}: {run.summary}")
            typer.echo("".join(f"  FAULT {fault}\n" for fault in run.faults[:FAULTS_SHOWN]), nl=False)
            if len(run.faults) > FAULTS_SHOWN:
                typer.echo(f"  and {len(run.faults) - FAULTS_SHOWN} more")
