"""The command line `wallet-gql`. Settings come from `WALLET_…` variables and `.env`; options win over them.

Exit codes: 0 done; 1 a check failed (`audit`, `schema --check`); 2 it could not be done, with one clear line why.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import sys
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from .. import __version__
from ..audit import Report
from ..audit import audit as check_books
from ..domain.errors import AccountExists, InvariantViolated, PayeeNotFound, WalletError
from ..domain.ids import OPERATOR, AccountId, UserId
from ..domain.money import format_decimal, parse_decimal
from ..runtime import Wallet, open_wallet
from ..settings import load_settings

T = TypeVar("T")

SCHEMA_FILE: Final = Path("schema.graphql")

app = typer.Typer(
    name="wallet-gql",
    help="A payment wallet over GraphQL.\n\nBegin with:  wallet-gql demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """The command; what the wallet refuses is one line on standard error and exit code 2."""
    try:
        app()
    except WalletError as error:
        for line in error.message.splitlines():
            typer.echo(f"wallet-gql: {line}", err=True)
        sys.exit(2)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """Nothing but `--version`."""


@app.command(epilog="Example:  WALLET_STORAGE=sqlite:///wallet.db wallet-gql serve --port 9000 --workers 2")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Server processes.")] = None,
) -> None:
    """Serve the GraphQL API until Ctrl-C."""
    from .serving import serve as run_server  # noqa: PLC0415 - the other commands need no web server

    settings = load_settings(host=host, port=port, workers=workers)
    run_server(settings, lambda url: typer.echo(f"Listening on {url}"))


@app.command(epilog="Example:  wallet-gql demo --port 9000 --no-browser")
def demo(
    port: Annotated[int | None, typer.Option(help="Port to listen on; the usual or a free one if not given.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the start page in a browser.")] = True,
) -> None:
    """Serve a throw-away wallet with two users and some money."""
    from .demo import demo as run_demo  # noqa: PLC0415 - the other commands need no web server

    run_demo(port, browser=browser)


@app.command(epilog="Example:  WALLET_STORAGE=sqlite:///wallet.db wallet-gql migrate")
def migrate() -> None:
    """Bring the store's schema to this version. `serve` does it too when it starts."""

    async def work(wallet: Wallet) -> str:
        if not wallet.store.capabilities.durable:
            return f"{wallet.store.name} keeps nothing: there is nothing to migrate"
        return f"{_without_password(wallet.settings.storage)} has the schema of this version"

    typer.echo(_with_wallet(work))


@app.command(epilog="Example:  wallet-gql schema > schema.graphql")
def schema(
    check: Annotated[
        bool, typer.Option("--check", help="Compare with ./schema.graphql; exit 1 if it differs.")
    ] = False,
) -> None:
    """Print the GraphQL schema, sorted."""
    from .graphql.schema import sdl  # noqa: PLC0415 - the other commands need no GraphQL

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


@app.command(epilog="Example:  wallet-gql deposit alice 12.30 EUR --key invoice-4711")
def deposit(
    user: Annotated[str, typer.Argument(help="A username or an e-mail address.")],
    amount: Annotated[str, typer.Argument(help="Decimal text with a point, such as 12.30.")],
    currency: Annotated[str, typer.Argument(help="An ISO 4217 code, such as EUR.")],
    key: Annotated[str | None, typer.Option(help="Idempotency key; a new one if not given.")] = None,
) -> None:
    """Give a user money, as the operator; opens the account if there is none in this currency."""
    code = currency.upper()
    amount_minor = parse_decimal(amount, code)
    used = f"deposit-{uuid.uuid4()}" if key is None else key
    typer.echo(f"key      {used}")  # before the deposit, for whoever has to repeat it

    async def work(wallet: Wallet) -> str:
        found = await wallet.identity.find(user)
        if found is None:
            raise PayeeNotFound(user)
        account_id = await _account_for(wallet, found.id, code)
        posted = await wallet.ledger.deposit(OPERATOR, used, account_id, amount_minor, code)
        account = await wallet.ledger.account(OPERATOR, account_id)
        shown = [format_decimal(minor, code) for minor in (posted.result.amount_minor, account.posted_minor)]
        did = "was deposited before, under this key" if posted.replayed else "deposited"
        return (
            f"account  {account_id} of {found.username}\namount   {shown[0]} {code} {did}\nbalance  {shown[1]} {code}"
        )

    typer.echo(_with_wallet(work))


async def _account_for(wallet: Wallet, user_id: UserId, currency: str) -> AccountId:
    try:
        return (await wallet.ledger.open_account(user_id, currency)).id
    except AccountExists as error:
        return AccountId(str(error.fields["account_id"]))


@app.command(epilog="Example:  WALLET_STORAGE=sqlite:///wallet.db wallet-gql audit --json")
def audit(as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False) -> None:
    """Prove the books, also while the wallet serves; exit 1 and name the first bad record if anything is wrong."""
    storage = _without_password(load_settings().storage)

    async def work(wallet: Wallet) -> Report:
        with _progress() as tell:
            return await check_books(wallet.store, tell)

    try:
        report = _with_wallet(work)
    except InvariantViolated as error:  # a record so bad that it could not even be read
        report = Report()
        report.add("a record", error.message)
    if as_json:
        typer.echo(json.dumps({"storage": storage, "clean": report.clean, **asdict(report)}))
    else:
        _tell(storage, report)
    if not report.clean:
        raise typer.Exit(1)


def _tell(storage: str, report: Report) -> None:
    kinds = ("accounts", "entries", "transfers", "holds", "receipts")
    counts = ", ".join(f"{getattr(report, kind)} {kind}" for kind in kinds)
    if report.clean:
        typer.echo(f"clean: {storage} with {counts}")
        return
    typer.echo(f"NOT clean: {storage} with {counts}; problems found: {report.problems}, the first of them:", err=True)
    for finding in report.findings:
        typer.echo(f"{finding.record}: {finding.problem}", err=True)


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """Shows what is read and how much, if a terminal watches."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading")
        yield lambda kind, count: progress.update(task, description=f"{count:,} {kind} records read")


@app.command(epilog="Example:  WALLET_STORAGE=sqlite:///wallet.db wallet-gql recover")
def recover() -> None:
    """Settle what a crash left in doubt. Servers do it by themselves; doing it again is harmless."""

    async def work(wallet: Wallet) -> str:
        done = await wallet.store.recover(limit=1_000_000)
        return f"committed {done.committed}, rolled back {done.rolled_back}, credited {done.credited}"

    typer.echo(_with_wallet(work))


def _without_password(url: str) -> str:
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@") if password else url


def _with_wallet(work: Callable[[Wallet], Coroutine[Any, Any, T]]) -> T:
    """Open the wallet of the settings, do one thing, close it. Raises ConfigurationError, and what `work` raises."""
    settings = load_settings()

    async def run() -> T:
        async with open_wallet(settings, sweeps=False) as wallet:
            return await work(wallet)

    return asyncio.run(run())
