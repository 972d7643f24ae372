"""`config check` and `config show`: the settings, what is wrong, and how to correct it."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Final

import typer

from ...backends import open_store
from ...backends.kit.versions import NotMigrated
from ...books.exchange import check_finished
from ...domain.errors import ConfigurationError, WalletError
from ...environment import origin, variable
from ...settings import Mode, Settings, load_settings
from ...storage import check_writable
from ...urls import hidden, redacted
from .common import AsJson, tell

app = typer.Typer(rich_markup_mode="rich", no_args_is_help=True, help="What is set, and whether it can work.")

_URLS: Final = frozenset({"storage", "rate_limit_storage", "stripe_api_base"})


@app.command(
    epilog="Example:  WALLET_STORAGE=sqlite:///wallet.db wallet-gql config check\n\n"
    "Example:  wallet-gql config check --open && wallet-gql serve"
)
def check(
    *,
    store: Annotated[bool, typer.Option("--open", help="Open the store too, and change nothing in it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check all that `serve` checks; exit 2 and name each variable that is wrong, with the remedy."""
    from ..server.checks import CHECKS, warnings_of  # noqa: PLC0415 - the other commands need no web server

    faults: list[str] = []
    warnings: list[str] = []
    text = ""
    try:
        settings = load_settings(CHECKS)
        warnings = warnings_of(settings)
        if store:
            warnings += asyncio.run(_open(settings))
        text = "\n".join([*warnings, f"all is well: {redacted(settings.storage)}"])
    except ConfigurationError as error:
        faults = [hidden(line) for line in error.message.splitlines()]
    tell(
        "\n".join(faults) or text,
        {"ok": not faults, "faults": faults, "warnings": warnings},
        as_json=as_json,
        err=bool(faults and not as_json),
    )
    if faults:
        raise typer.Exit(2)


@app.command(epilog="Example:  wallet-gql config show --json")
def show(*, as_json: AsJson = False) -> None:
    """Print every setting as it is in force, without secrets, and where it comes from."""
    settings = load_settings()
    values = {name: _shown(name, str(getattr(settings, name))) for name in Settings.model_fields}
    if as_json:
        plain = {variable(name): {"value": value, "from": origin(name)} for name, value in values.items()}
        typer.echo(json.dumps(plain))
        return
    for name, value in values.items():
        typer.echo(f"{variable(name)}={value}  # {origin(name)}")


def _shown(field: str, value: str) -> str:
    return redacted(value) if field in _URLS else value


async def _open(settings: Settings) -> list[str]:
    """Open the store and try to write. Returns what `serve` would do to it first. Raises ConfigurationError."""
    try:
        is_production = settings.mode is Mode.PRODUCTION
        async with open_store(settings.storage, migrates=False, production=is_production) as store:
            await check_finished(store)
            await check_writable(store)
    except NotMigrated as error:
        return [f"{variable('storage')}: warning: {error.message} (`serve` does that, too); more was not tried"]
    except WalletError as error:
        lines = error.message.splitlines()
        raise ConfigurationError("\n".join(f"{variable('storage')}: {line}" for line in lines)) from error
    return []
