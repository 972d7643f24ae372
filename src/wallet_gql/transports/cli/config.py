"""`config check` and `config show`: what is set, what is wrong with it, and how to mend it."""

from __future__ import annotations

import asyncio
import difflib
import json
import os
from typing import Annotated, Final

import typer
from dotenv import dotenv_values

from ... import failpoints
from ...backends import open_store
from ...domain.errors import ConfigurationError, WalletError
from ...settings import Settings, env_file, load_settings
from .common import AsJson, hidden, tell

app = typer.Typer(rich_markup_mode="rich", no_args_is_help=True, help="What is set, and whether it can work.")

_PREFIX: Final = "WALLET_"
_OF_TESTS: Final = "WALLET_TEST_"


@app.command(
    epilog="Example:  WALLET_STORAGE=sqlite:///wallet.db wallet-gql config check\n\n"
    "Example:  wallet-gql config check --open && wallet-gql serve"
)
def check(
    *,
    store: Annotated[
        bool, typer.Option("--open", help="Open the store too; makes or migrates it, as `serve` does.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check every setting; exit 1 and name each variable that is wrong, with the remedy."""
    faults = _misspelt() + _faults(open_it=store)
    text = "\n".join(faults) if faults else f"all is well: {hidden(load_settings().storage)}"
    tell(text, {"ok": not faults, "faults": faults}, as_json=as_json, err=bool(faults) and not as_json)
    if faults:
        raise typer.Exit(1)


@app.command(epilog="Example:  wallet-gql config show --json")
def show(*, as_json: AsJson = False) -> None:
    """Print every setting as it is in force, without secrets."""
    settings = load_settings()
    values = {variable(name): hidden(str(getattr(settings, name))) for name in Settings.model_fields}
    if as_json:
        typer.echo(json.dumps(values))
        return
    for name, value in values.items():
        typer.echo(f"{name}={value}")


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return f"{_PREFIX}{field.upper()}"


def _faults(*, open_it: bool) -> list[str]:
    try:
        settings = load_settings()
    except ConfigurationError as error:
        return [_with_remedy(line) for line in error.message.splitlines()]
    try:
        store = open_store(settings.storage)
        if open_it:
            asyncio.run(_open(settings.storage))
        else:
            del store
    except WalletError as error:
        return [f"{variable('storage')}: {hidden(line)}" for line in error.message.splitlines()]
    return []


async def _open(storage: str) -> None:
    async with open_store(storage) as store:
        await store.ping()


def _with_remedy(line: str) -> str:
    fields = {variable(name): field for name, field in Settings.model_fields.items()}
    field = fields.get(line.partition(":")[0])
    if field is None:
        return hidden(line)
    return f"{hidden(line)}. It sets: {field.description}; the default is {field.default}"


def _misspelt() -> list[str]:
    """Variables that look like settings and are none."""
    known = [variable(name) for name in Settings.model_fields]
    given = {*os.environ, *(dotenv_values(env_file()) if env_file().exists() else {})}
    strange = sorted(
        name
        for name in given
        if name.startswith(_PREFIX) and not name.startswith(_OF_TESTS) and name not in {*known, failpoints.VARIABLE}
    )
    return [f"{name}: there is no such setting{_meant(name, known)}; unset it" for name in strange]


def _meant(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f", perhaps {near[0]} was meant" if near else ""
