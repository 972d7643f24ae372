"""The commands on a whole ledger: `audit`, `recover`, `migrate`, `digest`, `export`, `import`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Annotated, Any, Final

import typer

from ...books.audit import Report
from ...books.audit import audit as check_books
from ...books.exchange import Digest, digest_of, export_lines, import_lines
from ...domain.errors import ConfigurationError, InvalidInput, InvariantViolated
from ...runtime import Wallet
from ...settings import load_settings
from ...urls import redacted
from .common import AsJson, counted, progress, tell, with_wallet

app = typer.Typer(rich_markup_mode="rich")

_PIPE: Final = Path("-")
_ENVELOPE_LINES: Final = 2
"""Lines of an export that are not records: the first and the last."""


@app.command(epilog="Example:  WALLET_STORAGE=sqlite:///wallet.db wallet-gql migrate")
def migrate(*, as_json: AsJson = False) -> None:
    """Bring the store's schema to this version. `serve` does it too when it starts."""

    async def work(wallet: Wallet) -> None:
        storage, durable = redacted(wallet.settings.storage), wallet.store.capabilities.durable
        text = f"{storage} has the schema of this version"
        if not durable:
            text = f"{wallet.store.name} keeps nothing: there is nothing to migrate"
        tell(text, {"storage": storage, "durable": durable}, as_json=as_json)

    with_wallet(work, migrates=True)


@app.command(epilog="Example:  WALLET_STORAGE=sqlite:///wallet.db wallet-gql audit --json")
def audit(*, as_json: AsJson = False) -> None:
    """Prove the books, also while the wallet serves; exit 1 and name the first bad record if anything is wrong."""
    storage = redacted(load_settings().storage)

    async def work(wallet: Wallet) -> Report:
        with progress("reading") as update:
            return await check_books(wallet.store, lambda kind, count: update(count, f"{kind} records"))

    try:
        report = with_wallet(work)
    except InvariantViolated as error:  # the record is so damaged that it could not be read
        report = Report()
        report.add("a record", str(error))
    if as_json:
        typer.echo(json.dumps({"storage": storage, "clean": report.clean, **asdict(report)}))
    else:
        _tell_report(storage, report)
    if not report.clean:
        raise typer.Exit(1)


def _tell_report(storage: str, report: Report) -> None:
    kinds = ("accounts", "entries", "transfers", "holds", "receipts")
    counts = ", ".join(f"{getattr(report, kind)} {kind}" for kind in kinds)
    if report.clean:
        typer.echo(f"clean: {storage} with {counts}")
        return
    typer.echo(f"NOT clean: {storage} with {counts}; problems found: {report.problems}, the first of them:", err=True)
    for finding in report.findings:
        typer.echo(f"{finding.record}: {finding.problem}", err=True)


@app.command(epilog="Example:  WALLET_STORAGE=sqlite:///wallet.db wallet-gql recover")
def recover(*, as_json: AsJson = False) -> None:
    """Settle what a crash left in doubt. Servers do it by themselves; doing it again is harmless."""

    async def work(wallet: Wallet) -> None:
        done = await wallet.store.recover(limit=1_000_000)
        text = f"committed {done.committed}, rolled back {done.rolled_back}, credited {done.credited}"
        tell(text, asdict(done), as_json=as_json)

    with_wallet(work)


@app.command(epilog="Example:  WALLET_STORAGE=sqlite:///wallet.db wallet-gql digest")
def digest(*, as_json: AsJson = False) -> None:
    """Print the digest of a whole ledger: equal for equal ledgers, whatever store holds them. Writers wait."""

    async def work(wallet: Wallet) -> Digest:
        return await digest_of(wallet.store)

    _tell_digest(with_wallet(work), as_json=as_json, err=False)


@app.command(
    epilog="Example:  wallet-gql export wallet.jsonl\n\n"
    "Example:  wallet-gql export | WALLET_STORAGE=postgres://localhost/wallet wallet-gql import"
)
def export(
    file: Annotated[Path, typer.Argument(help="Where to; - is standard output.", dir_okay=False)] = _PIPE,
    *,
    as_json: AsJson = False,
) -> None:
    """Write the whole ledger as JSON lines, receipts included; digest and counts go to standard error.

    Every writer waits meanwhile, so that it is one moment. The file holds e-mail addresses and password hashes: only
    its owner may read it.
    """

    async def work(wallet: Wallet, out: IO[str]) -> Digest:
        last = ""
        with progress("writing") as update:
            count = 0
            async for line in export_lines(wallet.store):
                out.write(f"{line}\n")
                last = line
                count += 1
                update(count, "lines")
        return _trailer(last)

    with _writing(file) as out:
        done = with_wallet(lambda wallet: work(wallet, out))
    _tell_digest(done, as_json=as_json, err=True)


@app.command(
    "import",
    epilog="Example:  WALLET_STORAGE=sqlite:///copy.db wallet-gql import wallet.jsonl\n\n"
    "Example:  wallet-gql export | WALLET_STORAGE=sqlite:///copy.db wallet-gql import -",
)
def import_(
    file: Annotated[Path, typer.Argument(help="An export; - is standard input.", dir_okay=False)] = _PIPE,
    *,
    as_json: AsJson = False,
) -> None:
    """Fill an empty store that nobody else uses from an export; old idempotency keys replay afterwards.

    The export is read twice: it is checked whole before anything is written. Afterwards the digest of the store is
    compared with that of the export.
    """

    async def work(wallet: Wallet, spooled: IO[str], lines: int) -> Digest:
        if not wallet.store.capabilities.durable:
            typer.echo(f"{wallet.store.name} keeps nothing: this only checks the export", err=True)

        def again() -> Iterator[str]:
            spooled.seek(0)
            return iter(spooled)

        with progress("importing", max(lines - _ENVELOPE_LINES, 0)) as update:
            return await import_lines(wallet.store, again, lambda count: update(count, "lines"))

    with _spooled(file) as (spooled, lines, last):
        done = with_wallet(lambda wallet: work(wallet, spooled, lines), migrates=True)
    if done.text != _trailer(last).text:
        raise InvariantViolated(
            f"the store's digest {done.text} is not that of the export: do not use it, and report this"
        )
    _tell_digest(done, as_json=as_json, err=not as_json)


def _tell_digest(done: Digest, *, as_json: bool, err: bool) -> None:
    text = f"digest   {done.text}\nrecords  {counted(done.counts)}"
    tell(text, {"digest": done.text, "counts": done.counts}, as_json=as_json, err=err)


def _trailer(line: str) -> Digest:
    plain: dict[str, Any] = json.loads(line)
    return Digest(int(plain["digest"], 16), plain["counts"])


@contextmanager
def _writing(file: Path) -> Iterator[IO[str]]:
    """Open the output of an export. A file appears only when it is complete, and only its owner may read it.

    Raises:
        ConfigurationError: it cannot be written.
    """
    try:
        if file == _PIPE:
            yield sys.stdout
            sys.stdout.flush()
            return
        number, name = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(number, "w", encoding="utf-8") as out:
                yield out
                out.flush()
                os.fsync(number)
            Path(name).replace(file)
        finally:
            Path(name).unlink(missing_ok=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter flushes again at its end
        raise ConfigurationError("cannot write: whoever was to read the export is gone") from None
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror or error}") from error


@contextmanager
def _spooled(file: Path) -> Iterator[tuple[IO[str], int, str]]:
    """A copy of the export that can be read twice, the number of its lines, and the last line.

    Raises:
        ConfigurationError: it cannot be read. InvalidInput: it is not text.
    """
    lines, last = 0, ""
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n") as spooled:
        try:
            with _reading(file) as source:
                for line in source:
                    spooled.write(line)
                    lines, last = lines + 1, line
        except UnicodeDecodeError as error:
            raise InvalidInput("export", "it is not UTF-8 text, so it is no export") from error
        except OSError as error:
            raise ConfigurationError(f"cannot read {file}: {error.strerror or error}") from error
        yield spooled, lines, last


@contextmanager
def _reading(file: Path) -> Iterator[IO[str]]:
    if file != _PIPE:
        with file.open(encoding="utf-8", newline="\n") as source:
            yield source
        return
    if sys.stdin.isatty():
        raise ConfigurationError("name a file to import, or pipe an export in")
    with open(sys.stdin.fileno(), encoding="utf-8", newline="\n", closefd=False) as source:
        yield source
