"""`nodes status`: asks each node of a sharded store separately, so that one that is down does not hide the others."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...domain.errors import ConfigurationError
from ...settings import load_settings
from ...urls import parse_all
from .common import AsJson, tell

if TYPE_CHECKING:
    from ...backends.postgres.status import NodeStatus

app = typer.Typer(
    rich_markup_mode="rich",
    no_args_is_help=True,
    help="The nodes of a sharded store.",
    epilog="Example: wallet-gql nodes status --json",
)

_SCHEMES: Final = ("postgres", "postgresql", "redis+postgres", "rediss+postgres")


@app.command(epilog="Example:  WALLET_STORAGE='postgres://?nodes=nodes.toml' wallet-gql nodes status --json")
def status(*, as_json: AsJson = False) -> None:
    """Show each node: whether it answers, its users, what is in doubt, its sum; exit 1 unless all is well."""
    storage = load_settings().storage
    scheme = parse_all(storage)[0].scheme
    if scheme not in _SCHEMES:
        raise ConfigurationError(f"WALLET_STORAGE is {scheme}://; nodes are of postgres://")
    from ...backends.postgres.status import survey  # noqa: PLC0415 - needs the driver, which other stores do not need

    found = asyncio.run(survey(storage))
    if as_json:
        tell("", {"nodes": [asdict(node) for node in found]}, as_json=True)
    else:
        Console().print(_table(found))
    if not all(node.well for node in found):
        raise typer.Exit(1)


def _table(found: list[NodeStatus]) -> Table:
    table = Table()
    for name in ("node", "reachable", "users", "prepared", "intents", "oldest in doubt", "sum"):
        table.add_column(name, justify="left" if name in ("node", "reachable") else "right")
    for node in found:
        if not node.reachable:
            table.add_row(node.node, f"[red]no[/]: {escape(node.reason)}")
            continue
        oldest = "" if node.oldest_in_doubt_seconds is None else f"{node.oldest_in_doubt_seconds:.1f} s"
        sums = ", ".join(f"{minor} {currency}" for currency, minor in node.sums_minor.items() if minor) or "0"
        table.add_row(
            node.node, "[green]yes[/]", f"{node.users:,}", str(node.prepared), str(node.intents), oldest, sums
        )
    return table
