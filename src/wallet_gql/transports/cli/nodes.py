"""The nodes of a sharded store: their state, and slots that move when a node is added or drained.

`nodes status` asks each node separately, so that one that is down does not hide the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...backends.postgres.pace import SHARE
from ...books.exchange import check_finished
from ...domain.errors import ConfigurationError
from ...settings import load_settings
from ...urls import parse_all
from .common import AsJson, progress, tell

if TYPE_CHECKING:
    from ...backends.postgres.membership import Membership, Part
    from ...backends.postgres.membership import Progress as Moved
    from ...backends.postgres.status import NodeStatus

T = TypeVar("T")

NodeUrl = Annotated[str, typer.Argument(help="Not needed if the file of nodes lists it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would move, or be refused.")]
Rate = Annotated[float, typer.Option(min=0.0, help="At most so many rows a second; 0: no limit.")]
Share = Annotated[
    float, typer.Option(min=0.01, max=1.0, help="The share of the time to work in; the rest is left to who pays.")
]

app = typer.Typer(
    rich_markup_mode="rich",
    no_args_is_help=True,
    help="The nodes of a sharded store.",
    epilog="Example: wallet-gql nodes status --json",
)

NOT_KNOWN: Final = "not known"
"""Of what takes longer to count than the command waits; `audit` and the servers' metrics know the sums."""

_SCHEMES: Final = ("postgres", "postgresql", "redis+postgres", "rediss+postgres")


@app.command(epilog="Example:  WALLET_STORAGE='postgres://?nodes=nodes.toml' wallet-gql nodes status --json")
def status(*, as_json: AsJson = False) -> None:
    """Show each node: whether it answers, its slots and users, what is in doubt, its sum; exit 1 unless all is well.

    A node that is too large to be counted within seconds is well all the same; its users and sum are told as not known.
    """
    storage = _storage()
    from ...backends.postgres.status import survey  # noqa: PLC0415 - needs the driver, which other stores do not need

    found = asyncio.run(survey(storage))
    if as_json:
        tell("", {"nodes": [asdict(node) for node in found]}, as_json=True)
    else:
        Console().print(_table(found))
    if not all(node.well for node in found):
        raise typer.Exit(1)


@app.command(epilog="Example:  wallet-gql nodes add n4 postgres://wallet@db4.example/wallet --dry-run")
def add(
    name: str,
    url: NodeUrl = "",
    *,
    dry_run: DryRun = False,
    share: Share = SHARE,
    rate: Rate = 0.0,
    as_json: AsJson = False,
) -> None:
    """Make an empty database a node of the ledger, and move its share of the slots to it while the wallet serves."""

    async def work(members: Membership) -> None:
        if dry_run:
            await members.check_add(name, url)
            _tell_plan(await members.plan(more=[name]), as_json=as_json)
            return
        await members.add(name, url)
        await _rebalance(members, share, rate, as_json=as_json)

    _with_members(work)


@app.command(epilog="Example:  wallet-gql nodes drain n2 --rate 20000")
def drain(
    name: str, *, dry_run: DryRun = False, share: Share = SHARE, rate: Rate = 0.0, as_json: AsJson = False
) -> None:
    """Move everything off a node while the wallet serves. Then it is no longer needed, and its name is used up."""

    async def work(members: Membership) -> None:
        if dry_run:
            _tell_plan(await members.plan(less=[name]), as_json=as_json)
            return
        await members.drain(name)
        await _rebalance(members, share, rate, as_json=as_json)

    _with_members(work)


@app.command(epilog="Example:  wallet-gql nodes rebalance")
def rebalance(*, dry_run: DryRun = False, share: Share = SHARE, rate: Rate = 0.0, as_json: AsJson = False) -> None:
    """Go on with a move that was stopped or killed; without one there is nothing to do."""

    async def work(members: Membership) -> None:
        if dry_run:
            _tell_plan(await members.plan(), as_json=as_json)
            return
        await _rebalance(members, share, rate, as_json=as_json)

    _with_members(work)


def _storage() -> str:
    storage = load_settings().storage
    scheme = parse_all(storage)[0].scheme
    if scheme not in _SCHEMES:
        raise ConfigurationError(f"WALLET_STORAGE is {scheme}://; nodes are of postgres:// and redis+postgres://")
    return storage


def _with_members(work: Callable[[Membership], Awaitable[T]]) -> T:
    storage = _storage()
    from ...backends import open_store  # noqa: PLC0415 - as below
    from ...backends.postgres.membership import Membership  # noqa: PLC0415 - needs the driver
    from ...backends.postgres.sharded import PgStore  # noqa: PLC0415 - as above

    async def run() -> T:
        store = open_store(storage, migrates=False)
        assert isinstance(store, PgStore), "the scheme is one of `_SCHEMES`"
        async with store:
            await check_finished(store)
            return await work(Membership(store))

    return asyncio.run(run())


async def _rebalance(members: Membership, share: float, rate: float, *, as_json: bool) -> None:
    parts = await members.plan()
    with progress("moving", sum(len(part.slots) for part in parts)) as update:
        done = await members.rebalance(
            lambda now: update(now.moved, f"slots, {now.rows_per_second:,.0f} rows/s"), rate=rate, share=share
        )
    _tell_done(done, as_json=as_json)


def _tell_done(done: Moved, *, as_json: bool) -> None:
    text = (
        f"moved {done.moved:,} slots with {done.rows:,} rows, {done.rows_per_second:,.0f} a second; "
        f"none was unavailable for longer than {done.frozen_seconds_max:.2f} s"
    )
    plain = {
        "slots": done.moved,
        "rows": done.rows,
        "rowsPerSecond": round(done.rows_per_second, 1),
        "frozenSecondsMax": round(done.frozen_seconds_max, 3),
    }
    tell(text, plain, as_json=as_json)


def _tell_plan(parts: list[Part], *, as_json: bool) -> None:
    lines = [
        f"{part.source} -> {part.target}: {len(part.slots):,} slots, {part.users:,} users, {part.accounts:,} accounts, "
        f"{part.entries:,} entries, about {part.size_bytes / 2**20:,.0f} MiB"
        for part in parts
    ]
    plain = [{**asdict(part), "slots": len(part.slots)} for part in parts]
    tell("\n".join(lines) or "no slot would move", {"parts": plain}, as_json=as_json)


def _table(found: list[NodeStatus]) -> Table:
    table = Table()
    for name in ("node", "reachable", "slots", "users", "prepared", "intents", "oldest in doubt", "sum"):
        table.add_column(name, justify="left" if name in ("node", "reachable") else "right")
    for node in found:
        if node.reason:
            answers = "[yellow]yes[/], but" if node.reachable else "[red]no[/]:"
            table.add_row(node.node, f"{answers} {escape(node.reason)}")
            continue
        oldest = "" if node.oldest_in_doubt_seconds is None else f"{node.oldest_in_doubt_seconds:.1f} s"
        sums = NOT_KNOWN if node.sums_minor is None else _off(node.sums_minor)
        slots = f"{node.slots:,}" + (f" ({node.slots_leaving} leave)" if node.slots_leaving else "")
        users = NOT_KNOWN if node.users is None else f"{node.users:,}"
        counts = (users, str(node.prepared), str(node.intents))
        table.add_row(node.node, f"[green]yes[/] {node.state}", slots, *counts, oldest, sums)
    return table


def _off(sums_minor: Mapping[str, int]) -> str:
    return ", ".join(f"{minor} {currency}" for currency, minor in sums_minor.items() if minor) or "0"
