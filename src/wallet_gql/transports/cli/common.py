"""What the commands share: opening the wallet, showing progress, hiding secrets, output as text or JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from ...runtime import Wallet, open_wallet
from ...settings import load_settings

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]


def shown(text: str) -> str:
    """Text from others, made safe for a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def tell(text: str, plain: Mapping[str, Any], *, as_json: bool, err: bool = False) -> None:
    """Print a result: text for people, or one line of JSON."""
    typer.echo(json.dumps(plain) if as_json else text, err=err)


def tell_none(told: int, what: str, *, as_json: bool) -> None:
    """Say to people that a list is empty, if nothing was told of it. To programs no line is enough."""
    if not told and not as_json:
        typer.echo(f"no {what}", err=True)


def counted(counts: Mapping[str, int]) -> str:
    """A phrase such as `3 accounts, 1 entry`."""
    parts = (f"{count} {_plural(kind) if count != 1 else kind}" for kind, count in sorted(counts.items()))
    return ", ".join(parts) or "nothing"


def _plural(kind: str) -> str:
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"


def with_wallet(work: Callable[[Wallet], Coroutine[Any, Any, T]], *, migrates: bool = False) -> T:
    """Open the wallet of the settings, run `work`, close it.

    Only with `migrates` a missing ledger is made, and an older one brought up to date. Raises ConfigurationError, and
    what `work` raises.
    """
    settings = load_settings()

    async def run() -> T:
        async with open_wallet(settings, sweeps=False, migrates=migrates) as wallet:
            return await work(wallet)

    return asyncio.run(run())


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int, str], None]]:
    """Show progress on a terminal, with a bar if the total is known. Call the result with the count and the kind."""
    console = Console(stderr=True)
    bar = () if total is None else (BarColumn(), TaskProgressColumn())
    columns = (SpinnerColumn(), TextColumn("{task.description}"), *bar)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown_bar:
        task = shown_bar.add_task(what, total=total)

        def update(count: int, kind: str) -> None:
            shown_bar.update(task, completed=count, description=f"{what}: {count:,} {kind}")

        yield update
