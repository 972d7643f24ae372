"""The command line `wallet-gql`. Settings come from `WALLET_…` variables and `.env`; options override them.

This module has the commands for servers and schemas; `accounts`, `data` and `config` have the operator's.
"""

from __future__ import annotations

import difflib
import io
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Final

import typer

from ... import __version__
from ...domain.errors import WalletError
from ...lab.cli import app as lab_app
from ...settings import check_names, load_settings
from ...urls import hidden
from . import accounts as cli_accounts
from . import config as cli_config
from . import data as cli_data
from . import merchants as cli_merchants
from . import nodes as cli_nodes
from . import spending as cli_spending
from . import stand_in as cli_stand_in
from . import stripe as cli_stripe

SCHEMA_FILE: Final = Path("schema.graphql")

_EXIT_CODES: Final = """\
[bold]Exit codes[/bold]

0  done

1  a check failed: `audit`, `nodes status`, `reconcile`, `schema --check`, `lab` but `cost` and `report`

2  it could not be done, with one clear line why

130  interrupted with Ctrl-C
"""

_WITHOUT_SETTINGS: Final = frozenset({"certificate", "lab", "openapi", "schema", "stripe-stand-in"})
"""Commands that read no settings. `options` refuses misspelt names of settings for them; the others do on reading."""

app = typer.Typer(
    name="wallet-gql",
    help="A payment wallet over GraphQL and REST.\n\nBegin with:  wallet-gql demo\n\n"
    "Settings are environment variables: see `wallet-gql config show`.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Run the command line. An error of the wallet is one line on standard error and exit code 2.

    With `--json` the line is an object: its code, and what is wrong.

    A character that the terminal's encoding lacks, such as an emoji in a reference, is shown as a question mark.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except WalletError as error:
        faults = [hidden(line) for line in str(error).splitlines()]  # operators see the detail, too
        if "--json" in sys.argv[1:]:
            typer.echo(json.dumps({"ok": False, "code": error.code, "faults": faults}), err=True)
        else:
            for line in faults:
                typer.echo(f"wallet-gql: {line}", err=True)
        sys.exit(2)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,  # noqa: ARG001 - its callback has done all
) -> None:
    """Nothing but `--version`."""
    if context.invoked_subcommand in _WITHOUT_SETTINGS:
        check_names()


@app.command(epilog="Example:  WALLET_STORAGE=sqlite:///wallet.db wallet-gql serve --port 9000 --workers 2")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Server processes.")] = None,
    *,
    tls_cert: Annotated[str | None, typer.Option(help="File with the TLS certificate and its chain (PEM).")] = None,
    tls_key: Annotated[str | None, typer.Option(help="File with its key (PEM).")] = None,
    tls_self_signed: Annotated[bool, typer.Option(help="TLS with a new certificate of its own, to try it.")] = False,
    insecure_http: Annotated[
        bool | None, typer.Option("--insecure-http", help="Serve plain HTTP beyond this machine: behind a proxy.")
    ] = None,
) -> None:
    """Serve GraphQL and REST until Ctrl-C."""
    from ..http.tls import self_signed  # noqa: PLC0415 - same
    from ..server.checks import CHECKS, TRANSPORT  # noqa: PLC0415 - the other commands need no web server
    from ..server.serving import serve as run_server  # noqa: PLC0415 - same

    checks = [check for check in CHECKS if check is not TRANSPORT or not tls_self_signed]
    settings = load_settings(
        checks, host=host, port=port, workers=workers, tls_cert=tls_cert, tls_key=tls_key, insecure_http=insecure_http
    )
    with self_signed(settings) if tls_self_signed else nullcontext(settings) as served:
        run_server(served, lambda url: typer.echo(f"Listening on {url}"))


@app.command(
    epilog="Example:  wallet-gql certificate && wallet-gql serve --tls-cert wallet-cert.pem --tls-key wallet-key.pem"
)
def certificate(
    folder: Annotated[Path, typer.Option(help="Where to write wallet-cert.pem and wallet-key.pem.")] = Path(),
    name: Annotated[list[str] | None, typer.Option(help="A name or address it is for; repeat it.")] = None,
) -> None:
    """Write a self-signed TLS certificate, for development: clients must be told to trust it."""
    from ..http.tls import write_certificate  # noqa: PLC0415 - the other commands need no cryptography

    made = write_certificate(folder, tuple(name)) if name else write_certificate(folder)
    for path in made:
        typer.echo(path)


@app.command(epilog="Example:  wallet-gql demo --port 9000 --no-browser")
def demo(
    *,
    port: Annotated[int | None, typer.Option(help="Port to listen on; the usual or a free one if not given.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the wallet in a browser.")] = True,
) -> None:
    """Serve a throw-away wallet with users and some money."""
    from .demo import demo as run_demo  # noqa: PLC0415 - the other commands need no web server

    run_demo(port, browser=browser)


@app.command(epilog="Example:  wallet-gql schema > schema.graphql")
def schema(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with ./schema.graphql; exit 1 if it differs.")
    ] = False,
) -> None:
    """Print the GraphQL schema, sorted."""
    from ..graphql.schema import sdl  # noqa: PLC0415 - the other commands need no GraphQL

    text = sdl()
    if not check:
        typer.echo(text, nl=False)
        return
    stored = SCHEMA_FILE.read_text(encoding="utf-8") if SCHEMA_FILE.exists() else ""
    if stored != text:
        lines = stored.splitlines(keepends=True), text.splitlines(keepends=True)
        typer.echo("".join(difflib.unified_diff(*lines, str(SCHEMA_FILE), "wallet-gql schema")), nl=False)
        typer.echo(f"{SCHEMA_FILE} is not the schema of this version; run: make schema", err=True)
        raise typer.Exit(1)
    typer.echo(f"{SCHEMA_FILE} is up to date")


@app.command(epilog="Example:  wallet-gql openapi > openapi.json")
def openapi() -> None:
    """Print the OpenAPI file of REST, as the server shows it at /openapi.json."""
    from ..rest.routes import openapi_text  # noqa: PLC0415 - the other commands need no REST

    typer.echo(openapi_text(), nl=False)


app.add_typer(cli_data.app)
app.add_typer(cli_accounts.app)
app.add_typer(cli_spending.app)
app.add_typer(cli_config.app, name="config")
app.add_typer(cli_stripe.app)
app.add_typer(cli_stand_in.app)
app.add_typer(cli_stripe.group, name="payments")
app.add_typer(cli_nodes.app, name="nodes")
app.add_typer(cli_merchants.app, name="merchants")
app.add_typer(lab_app, name="lab")
