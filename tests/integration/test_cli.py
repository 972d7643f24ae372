"""The command line: each command in a process of its own; many bad inputs in this process, which is faster."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from tests.integration._server import Person, environment, new_key, run_cli, settle_all
from tests.integration._server import command as command_line
from wallet_gql import open_ledger
from wallet_gql.backends.relational.migrations import VERSION_TABLE
from wallet_gql.domain.errors import Unauthenticated
from wallet_gql.domain.ids import OPERATOR, AccountId
from wallet_gql.runtime import open_wallet
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience
from wallet_gql.transports.cli.app import app, main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def storage(tmp_path: Path) -> str:
    """The URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'wallet.db'}"


@pytest.fixture
def person(storage: str) -> Person:
    """A user with 10.00 EUR on a fresh file."""
    return settle_all(storage, 1000)[0]


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class Here(Protocol):
    """Runs a command in this process."""

    def __call__(self, *arguments: str, storage: str, **settings: str) -> Done:
        """Run it to its end."""
        ...


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """`run_cli` without a new process; an exception that would become a traceback fails the test."""

    def run(*arguments: str, storage: str, **settings: str) -> Done:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["wallet-gql", *arguments])
        for name, value in environment(storage, **settings).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(ended.value.code or 0), *capsys.readouterr())

    return run


def damage(storage: str, statement: str) -> None:
    """Change the file behind the wallet's back."""
    with closing(sqlite3.connect(storage.removeprefix("sqlite:///"))) as connection, connection:
        assert connection.execute(statement).rowcount > 0


@pytest.mark.smoke
def test_help_names_the_commands(tmp_path: Path) -> None:
    """--help lists every command, the exit codes and how to get completion."""
    done = run_cli(tmp_path, "--help", storage="memory://")
    commands = "audit close config demo deposit digest export freeze import limits migrate openapi recover schema serve"
    assert done.returncode == 0
    for word in [*commands.split(), "transfers", "unfreeze", "users", "withdraw", "Exit codes", "--install-completion"]:
        assert word in done.stdout


def commands(group: Any, path: str = "wallet-gql") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with how it is called."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_every_command_has_an_example() -> None:
    """Each command says what it does and shows how it is used."""
    for path, command in commands(get_command(app)):
        assert command.help, path
        assert path in (command.epilog or ""), path


NEED_NO_LEDGER = ("serve", "demo", "migrate", "import", "schema", "openapi", "certificate", "stripe-stand-in")


def other_commands() -> Iterator[list[str]]:
    """Every other one, with the arguments of its examples."""
    for path, command in commands(get_command(app)):
        words = path.split()[1:]
        if words[0] in {*NEED_NO_LEDGER, "config", "nodes", "lab"}:
            continue
        for arguments in examples(command):
            if arguments[: len(words)] != words:
                continue
            yield [word for word in arguments if not word.endswith(".jsonl")]


def test_d2_only_some_commands_make_a_ledger(tmp_path: Path, here: Here, storage: str) -> None:
    """Every other one makes nothing and says where there is none: exit code 2."""
    tried = list(other_commands())
    for arguments in tried:
        done = here(*arguments, storage=storage)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), (arguments, done)
        assert "there is no ledger at" in done.stderr, done.stderr
        assert not list(tmp_path.iterdir()), arguments
    assert len(tried) > 15


def test_only_some_commands_migrate_a_ledger(tmp_path: Path, here: Here) -> None:
    """Every other one leaves an older ledger as it is, so that the release that made it can go on: exit code 2."""
    path = tmp_path / "wallet.db"
    storage = f"sqlite:///{path}"
    assert here("migrate", storage=storage).returncode == 0
    older(path)
    for arguments in other_commands():
        done = here(*arguments, storage=storage)
        assert (done.returncode, done.stderr.count("\n"), version_of(path)) == (2, 1, OLDER), (arguments, done)
        assert "run: wallet-gql migrate" in done.stderr, done.stderr


def examples(command: Any) -> Iterator[list[str]]:
    """The arguments of every example of a command, without what stands before and behind them."""
    for example in re.findall(r"Example: +(.+)", command.epilog or ""):
        words = shlex.split(example)
        for place in (place for place, word in enumerate(words) if word == "wallet-gql"):
            yield list(takewhile(lambda word: word not in {"|", "||", "&&", ">"}, words[place + 1 :]))


def test_examples_are_understood() -> None:
    """Every example names a command that there is, with options and arguments that it takes."""
    group: Any = get_command(app)
    found = [arguments for _, command in commands(group) for arguments in examples(command)]
    assert len(found) > 20
    for arguments in found:
        command, rest, context = group, arguments, None
        while isinstance(command, TyperGroup):
            context = command.make_context("wallet-gql", list(rest), parent=context)
            _, command, rest = command.resolve_command(context, rest)
        command.make_context("wallet-gql", list(rest), parent=context)  # raises on what it does not take


def watched(folder: Path, *arguments: str, storage: str) -> tuple[str, str]:
    """Run a command whose standard error is a terminal; what came on standard output, and what the terminal showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command_line(*arguments),
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        cwd=folder,
        env={**environment(storage), "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # how Linux says that the other end is closed
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    told, _ = process.communicate(timeout=patience(60))
    assert process.returncode == 0, shown
    return told, shown.decode()


def test_progress_is_shown_to_a_terminal(tmp_path: Path, storage: str, person: Person) -> None:
    """A terminal shows the progress, and nothing of it remains at the end; a pipe gets no progress output."""
    assert person.account_id
    file, shown = tmp_path / "export.jsonl", ""
    for arguments, where, says in (
        (("audit", "--json"), storage, "reading: "),
        (("export", str(file)), storage, "writing: "),
        (("import", str(file), "--json"), f"sqlite:///{tmp_path / 'copy.db'}", "importing: "),
    ):
        told, shown = watched(tmp_path, *arguments, storage=where)
        assert says in shown, shown
        assert "\x1b[2K" in shown, "it takes its line away again"
        assert "\x1b" not in told
    assert "100%" in shown, "an import knows how much there is"
    piped = run_cli(tmp_path, "audit", storage=storage)
    assert (piped.stderr, piped.stdout.count("\n")) == ("", 1)


def test_the_committed_schema_is_current(tmp_path: Path, here: Here) -> None:
    """Schema prints what schema.graphql holds; --check passes on it and shows the difference otherwise."""
    printed = run_cli(tmp_path, "schema", storage="memory://").stdout
    assert printed == (ROOT / "schema.graphql").read_text(encoding="utf-8")
    missing = here("schema", "--check", storage="memory://")
    assert (missing.returncode, "make schema" in missing.stderr) == (1, True)
    (tmp_path / "schema.graphql").write_text(printed, encoding="utf-8")
    assert here("schema", "--check", storage="memory://").returncode == 0
    (tmp_path / "schema.graphql").write_text(printed.replace("decimal: String!", "decimal: Float!"), encoding="utf-8")
    differs = here("schema", "--check", storage="memory://")
    assert differs.returncode == 1
    assert "-  decimal: Float!" in differs.stdout
    assert "+  decimal: String!" in differs.stdout


def test_migrating_twice(tmp_path: Path, here: Here, storage: str) -> None:
    """Migrate makes the file and may be run again; memory:// has nothing to migrate."""
    for done in (run_cli(tmp_path, "migrate", storage=storage), here("migrate", storage=storage)):
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "wallet.db").exists()
    assert "nothing to migrate" in here("migrate", storage="memory://").stdout


def test_deposits(tmp_path: Path, here: Here, storage: str, person: Person) -> None:
    """Deposit adds money by username or e-mail, opens the account where there is none, and pays once per key."""
    key = new_key()
    first = run_cli(tmp_path, "deposit", person.username, "12.30", "EUR", "--key", key, storage=storage)
    again = here("deposit", person.username, "12.30", "EUR", "--key", key, storage=storage)
    assert (first.returncode, again.returncode) == (0, 0)
    assert "balance  22.30 EUR" in first.stdout
    assert "balance  22.30 EUR" in again.stdout
    assert ("before" in first.stdout, "before" in again.stdout) == (False, True)
    by_mail = here("deposit", f"{person.username}@example.org", "500", "jpy", storage=storage)
    assert "balance  500 JPY" in by_mail.stdout
    assert "key      deposit-" in by_mail.stdout
    audited = here("audit", storage=storage)
    assert (audited.returncode, audited.stdout[:5]) == (0, "clean")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nobody", "1.00", "EUR"), "nobody"),
        (("USER", "1.001", "EUR"), "1.001"),
        (("USER", "0", "EUR"), "greater than zero"),
        (("USER", "1e3", "EUR"), "1e3"),
        (("USER", "1.00", "XXX"), "XXX"),
        (("USER", "1.00", "EUR", "--key", ""), "idempotencyKey"),
    ],
)
def test_bad_deposits(here: Here, storage: str, person: Person, arguments: tuple[str, ...], says: str) -> None:
    """A deposit that cannot be made is one clear line and exit code 2."""
    given = [person.username if argument == "USER" else argument for argument in arguments]
    done = here("deposit", *given, storage=storage)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert says in done.stderr


def test_a_mistaken_deposit_is_taken_back(here: Here, storage: str, person: Person) -> None:
    """Withdraw takes the money out once per key, whatever the user may spend; both say why in the user's history."""
    why = ("--reference", "cash, desk 2")
    given = here("deposit", person.username, "123.00", "EUR", *why, storage=storage)
    assert "balance  133.00 EUR" in given.stdout
    key = ("--key", new_key())
    taken = [
        here(
            "withdraw", *by, "110.70", "eur", *key, "--reference", "typed 123.00 for 12.30", storage=storage, **settings
        )
        for by, settings in (((person.username,), {"spending_limits": "EUR:payment=5.00"}), ((person.username,), {}))
    ]
    assert [done.returncode for done in taken] == [0, 0], taken
    assert ["before" in done.stdout for done in taken] == [False, True]
    assert all("balance  22.30 EUR" in done.stdout for done in taken)
    listed = here("transfers", person.username, "--json", storage=storage).stdout.splitlines()
    history = [(row["kind"], row["amount"], row["reference"]) for row in map(json.loads, listed)]
    assert history[:2] == [
        ("withdrawal", "-110.70", "typed 123.00 for 12.30"),
        ("deposit", "123.00", "cash, desk 2"),
    ]
    assert here("audit", storage=storage).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nobody", "1.00", "EUR"), "nobody"),
        (("USER", "10.01", "EUR"), "10.00"),
        (("USER", "1", "JPY"), "has no JPY account"),
        (("USER", "1.00", "EUR", "--account", "acc_01a20402c78872e2b9cb9e25e6844824"), "has no EUR account acc_01"),
        (("USER", "0", "EUR"), "greater than zero"),
        (("USER", "1.00", "EUR", "--key", ""), "idempotencyKey"),
        (("USER", "1.00", "EUR", "--reference", "x" * 141), "reference"),
    ],
)
def test_bad_withdrawals(here: Here, storage: str, person: Person, arguments: tuple[str, ...], says: str) -> None:
    """A withdrawal that cannot be made is one clear line and exit code 2; it opens no account."""
    given = [person.username if argument == "USER" else argument for argument in arguments]
    done = here("withdraw", *given, storage=storage)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert says in done.stderr
    listed = here("transfers", person.username, storage=storage).stdout
    assert listed.count("account  ") == 1
    assert "10.00 EUR posted" in listed


def test_money_on_a_closed_account_is_withdrawn(here: Here, storage: str, person: Person) -> None:
    """It may have been on its way when the account was closed. If there is another account, the closed one is named."""
    closed = person.account_id
    damage(storage, "UPDATE accounts SET status = 'closed'")
    one = here("withdraw", person.username, "4.00", "EUR", "--json", storage=storage)
    assert json.loads(one.stdout) | {"key": "", "transfer": ""} == {
        "key": "",
        "transfer": "",
        "account": closed,
        "currency": "EUR",
        "amount": "4.00",
        "balance": "6.00",
        "replayed": False,
    }
    here("deposit", person.username, "5.00", "EUR", storage=storage)
    assert "balance  4.00 EUR" in here("withdraw", person.username, "1.00", "EUR", storage=storage).stdout
    rest = here("withdraw", person.username, "6.00", "EUR", "--account", closed, storage=storage)
    assert "balance  0.00 EUR" in rest.stdout
    assert here("audit", storage=storage).returncode == 0


def test_what_emptied_a_closed_account_can_be_repeated(here: Here, storage: str, person: Person) -> None:
    """Its answer may have been lost; then the same command with its key tells it."""
    damage(storage, "UPDATE accounts SET status = 'closed'")
    for replayed in (False, True):
        done = here("withdraw", person.username, "10.00", "EUR", "--key", "once", "--json", storage=storage)
        told = json.loads(done.stdout)
        assert (told["balance"], told["replayed"]) == ("0.00", replayed)


DAMAGES = {
    "a balance": "UPDATE accounts SET posted_minor = posted_minor + 1",
    "an entry": "UPDATE entries SET amount_minor = amount_minor - 1",
    "a lost entry": "DELETE FROM entries",
    "a lost receipt": "DELETE FROM receipts",
    "an impossible record": "UPDATE transfers SET amount_minor = 0",
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_audit_convicts(here: Here, storage: str, person: Person, kind: str) -> None:
    """Audit ends with 1 on a damaged file and names the first bad record; no traceback, also as JSON."""
    assert person.account_id
    damage(storage, DAMAGES[kind])
    done = here("audit", "--json", storage=storage)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["clean"] is False
    assert report["findings"][0]["record"]
    told = here("audit", storage=storage)
    assert (told.returncode, "NOT clean" in told.stderr) == (1, True)
    assert report["findings"][0]["record"] in told.stderr


def test_audit_of_a_clean_file(here: Here, storage: str, person: Person) -> None:
    """Audit of sound books ends with 0 and says how much it looked at."""
    assert person.account_id
    report = json.loads(here("audit", "--json", storage=storage).stdout)
    assert (report["clean"], report["accounts"], report["transfers"], report["findings"]) == (True, 1, 1, [])


def test_recover_is_harmless(here: Here, storage: str, person: Person) -> None:
    """Recover settles what is in doubt, and says how much that was."""
    assert person.account_id
    done = here("recover", storage=storage)
    assert (done.returncode, done.stdout.strip()) == (0, "committed 0, rolled back 0, credited 0")


@pytest.mark.parametrize(
    ("storage_url", "settings", "says"),
    [
        ("nonsense", {}, ["no storage URL", "sqlite:///"]),
        ("cockroach://x", {}, ["cockroach", "sqlite"]),
        ("sqlite:///no/such/folder/wallet.db", {}, ["no/such/folder"]),
        (
            "memory://",
            {"port": "99999", "workers": "0", "log_level": "loud"},
            ["WALLET_PORT", "WALLET_WORKERS", "WALLET_LOG"],
        ),
        ("memory://", {"mode": "production", "failpoints": "sqlite.written=kill"}, ["WALLET_FAILPOINTS"]),
    ],
    ids=["no URL", "unknown scheme", "no folder", "several faults", "failpoints in production"],
)
def test_configuration_errors(here: Here, storage_url: str, settings: dict[str, str], says: list[str]) -> None:
    """All faults of the configuration are reported at once, without a traceback."""
    done = here("migrate", storage=storage_url, **settings)
    assert done.returncode == 2
    assert all(word in done.stderr for word in says), done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_ledger(tmp_path: Path, here: Here, storage: str) -> None:
    """Another program's database, and a file that is no database, are refused by name."""
    with closing(sqlite3.connect(tmp_path / "wallet.db")) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    other = here("audit", storage=storage)
    assert (other.returncode, "songs" in other.stderr) == (2, True)
    (tmp_path / "wallet.db").write_bytes(b"not a database" * 1000)
    none = here("audit", storage=storage)
    assert (none.returncode, "Traceback" in none.stderr) == (2, False)


def test_freezing_and_closing(here: Here, storage: str, person: Person) -> None:
    """An account is frozen, let go, and closed once it is empty; closed is for good."""
    account = person.account_id
    frozen = json.loads(here("freeze", account, "--json", storage=storage).stdout)
    assert frozen == {"account": account, "state": "frozen", "posted": "10.00", "currency": "EUR"}
    assert "is open" in here("unfreeze", account, storage=storage).stdout
    full = here("close", account, storage=storage)
    assert (full.returncode, "empty it first" in full.stderr) == (2, True)
    empty = settle_all(storage, 0)[0].account_id
    assert "is closed" in here("close", empty, storage=storage).stdout
    for command in ("freeze", "unfreeze", "close"):
        again = here(command, empty, storage=storage)
        assert (again.returncode, "closed" in again.stderr, len(again.stderr.splitlines())) == (2, True, 1)


def test_spending_limits_of_one_user(here: Here, storage: str, person: Person) -> None:
    """An operator sets them in place of the wallet's, and takes that back; a currency without any is refused."""
    wallets = {"spending_limits": "EUR:payment=5.00,day=8.00"}

    def limits(*more: str) -> dict[str, Any]:
        done = here("limits", person.username, *more, "--json", storage=storage, **wallets)
        return dict(json.loads(done.stdout)["limits"])

    assert limits() == {"payment": "5.00", "day": "8.00", "newPayee": None}
    assert limits("eur", "--day", "9.00", "--new-payee", "1.00") == {
        "payment": "5.00",
        "day": "9.00",
        "newPayee": "1.00",
    }
    assert limits("EUR", "--day", "default") == {"payment": "5.00", "day": "8.00", "newPayee": "1.00"}
    assert limits("EUR", "--lift-own") == {"payment": "5.00", "day": "8.00", "newPayee": "1.00"}
    assert "spent today 0.00" in here("limits", person.username, storage=storage, **wallets).stdout
    for arguments in (("USD", "--day", "1.00"), ("--day", "1.00"), ("EUR", "--day", "0"), ("--lift-own",)):
        refused = here("limits", person.username, *arguments, storage=storage, **wallets)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused


@pytest.mark.parametrize("command", ["freeze", "unfreeze", "close"])
@pytest.mark.parametrize("account", ["acc_1", "", "acc_01a20402c78872e2b9cb9e25e6844824", "sys:cash:EUR"])
def test_accounts_that_are_not_there(here: Here, storage: str, command: str, account: str) -> None:
    """No such account is one clear line and exit code 2."""
    done = here(command, account, storage=storage)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_listing_users(here: Here, storage: str, person: Person) -> None:
    """Users are listed, all or some, for people or for programs, and without their passwords."""
    other = settle_all(storage, 0)[0]
    listed = here("users", storage=storage).stdout
    assert {line.split()[0] for line in listed.splitlines()} == {person.username, other.username}
    plain = [json.loads(line) for line in here("users", "--json", storage=storage).stdout.splitlines()]
    assert {one["id"] for one in plain} == {person.id, other.id}
    assert set(plain[0]) == {"username", "email", "id", "createdAt"}
    assert len(here("users", "--first", "1", storage=storage).stdout.splitlines()) == 1
    assert here("users", "--first", "0", storage=storage).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ("users", "users"),
        ("limits", "spending limits"),
        ("transfers", "transfers"),
        ("merchants dead-letters", "dead letters"),
        ("payments list", "top-ups"),
        ("payments list --kind withdrawals", "withdrawals"),
        ("payments alarms", "open alarms"),
        ("payments alarms --all", "alarms"),
    ],
)
def test_an_empty_list_says_so(here: Here, storage: str, arguments: str, what: str) -> None:
    """To people, on the standard error; to programs nothing is told."""
    users = () if arguments == "users" else (settle_all(storage, 0)[0].username,)
    whose = users if arguments in {"limits", "transfers"} else ()
    assert here("migrate", storage=storage).returncode == 0
    for options, says in ((["--json"], ""), ([], f"no {what}")):
        done = here(*arguments.split(), *whose, *options, storage=storage)
        assert done.returncode == 0
        assert [line for line in done.stdout.splitlines() if not line.startswith("account ")] == []
        assert done.stderr.startswith(says)
        assert bool(done.stderr) == bool(says)


def test_without_a_provider_nothing_is_reconciled(here: Here, storage: str) -> None:
    """The operator is told what to set, not to ask the operator."""
    assert here("migrate", storage=storage).returncode == 0
    done = here("reconcile", storage=storage)
    assert (done.returncode, "WALLET_STRIPE_API_KEY" in done.stderr) == (2, True)


def lives(storage: str, person: Person) -> bool:
    """Whether somebody's session is alive."""

    async def look() -> bool:
        async with open_wallet(load_settings(storage=storage), sweeps=False) as wallet:
            with suppress(Unauthenticated):
                await wallet.identity.authenticate(person.token)
                return True
            return False

    return asyncio.run(look())


def test_logging_out(here: Here, storage: str, person: Person) -> None:
    """All sessions of a user end, or with --all those of everybody; one of the two has to be said."""
    second, third = settle_all(storage, 0, 0)
    done = here("log-out", person.username, "--json", storage=storage)
    assert json.loads(done.stdout) == {"users": 1, "sessions": 1}
    assert [lives(storage, each) for each in (person, second, third)] == [False, True, True]
    assert "2 sessions, 3 users" in here("log-out", "--all", storage=storage).stdout
    assert [lives(storage, each) for each in (second, third)] == [False, False]
    for arguments in ((), ("nobody",), (person.username, "--all")):
        wrong = here("log-out", *arguments, storage=storage)
        assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)


def test_listing_transfers(here: Here, storage: str, person: Person) -> None:
    """A user's last transfers over all accounts are listed, the newest first."""
    for amount, currency in (("1.50", "EUR"), ("700", "JPY"), ("2.50", "EUR")):
        assert here("deposit", person.username, amount, currency, storage=storage).returncode == 0
    listed = here("transfers", person.username, storage=storage).stdout.splitlines()
    accounts = [line for line in listed if line.startswith("account")]
    assert len(accounts) == 2
    assert "14.00 EUR posted, 14.00 available" in accounts[0]
    assert [line.split()[2:4] for line in listed[2:]] == [
        ["2.50", "EUR"],
        ["700", "JPY"],
        ["1.50", "EUR"],
        ["10.00", "EUR"],
    ]
    done = here("transfers", f"{person.username}@example.org", "--first", "2", "--json", storage=storage)
    plain = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["amount"], one["balance"], one["kind"]) for one in plain] == [
        ("2.50", "14.00", "deposit"),
        ("700", "700", "deposit"),
    ]
    nobody = here("transfers", "nobody", storage=storage)
    assert (nobody.returncode, "nobody" in nobody.stderr) == (2, True)


@pytest.mark.parametrize(
    "encoding", ["ascii", *(pytest.param(name, marks=pytest.mark.soak) for name in ("cp1252", "utf-8"))]
)
async def test_d4_a_terminal_lacks_a_character(encoding: str, storage: str, person: Person, tmp_path: Path) -> None:
    """Text that users typed never ends a listing: exit 1 of `audit` means wrong books and nothing else."""
    async with open_ledger(storage) as ledger:
        account = AccountId(person.account_id)
        await ledger.deposit(OPERATOR, new_key(), account, 150, "EUR", reference="R\u00e9union \U0001f680")
    for words in (("transfers", person.username), ("transfers", person.username, "--json"), ("audit",), ("users",)):
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "wallet_gql", *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env={**environment(storage), "PYTHONIOENCODING": encoding},
        )
        async with asyncio.timeout(patience(60)):
            out, err = await running.communicate()
        assert (running.returncode, err) == (0, b"")
        assert out


def test_answers_in_json(here: Here, storage: str, person: Person) -> None:
    """With --json, standard output is JSON and nothing else."""
    for arguments in (
        ("migrate",),
        ("recover",),
        ("audit",),
        ("digest",),
        ("deposit", person.username, "1.00", "EUR"),
        ("config", "show"),
        ("config", "check"),
        ("config", "check", "--open"),
    ):
        done = here(*arguments, "--json", storage=storage)
        assert done.returncode == 0, done.stderr
        assert isinstance(json.loads(done.stdout), dict)


def test_equal_digests(here: Here, storage: str, person: Person) -> None:
    """The digest of a ledger stays until something is written."""
    first, second = (here("digest", storage=storage).stdout for _ in range(2))
    assert first == second
    assert "1 transfer," in first or first.endswith("1 transfer\n")
    assert here("deposit", person.username, "1.00", "EUR", storage=storage).returncode == 0
    assert here("digest", storage=storage).stdout != first


def test_secrets_stay_secret(here: Here) -> None:
    """No command prints the password of a storage URL."""
    url = "postgres://me:s3cr3t@db/x?password=s3cr3t"
    shown = here("config", "show", storage=url)
    assert "WALLET_STORAGE=postgres://***@db/x?***" in shown.stdout
    unknown = url.replace("postgres", "oracle")
    told = [shown, here("config", "check", storage=unknown), here("audit", storage=unknown)]
    for done in told:
        assert "s3cr3t" not in done.stdout + done.stderr


def test_checking_the_configuration(tmp_path: Path, here: Here, storage: str) -> None:
    """Each wrong or misspelt variable is named with its remedy, exit code 2; checking makes no file."""
    good = here("config", "check", storage=storage)
    assert (good.returncode, "all is well" in good.stdout) == (0, True)
    assert not (tmp_path / "wallet.db").exists()
    bad = here("config", "check", storage=storage, port="99999", log_level="loud", storages="x")
    assert (bad.returncode, bad.stdout) == (2, "")
    faults = bad.stderr.splitlines()
    assert [fault.split(":")[0] for fault in faults] == ["WALLET_STORAGES", "WALLET_PORT", "WALLET_LOG_LEVEL"]
    assert "perhaps WALLET_STORAGE was meant" in faults[0]
    assert "Port to listen on" in faults[1]
    assert "the default is info" in faults[2]


@pytest.mark.parametrize(
    ("mode", "host", "warns"),
    [("development", "0.0.0.0", True), ("production", "0.0.0.0", False), ("development", "127.0.0.1", False)],
)
def test_development_beyond_this_machine_is_warned_of(
    here: Here, storage: str, mode: str, host: str, *, warns: bool
) -> None:
    """It is allowed, and most likely a setting that somebody forgot."""
    more = {"mode": mode, "host": host, "insecure_http": "true"}
    done = here("config", "check", storage=storage, **more)
    assert (done.returncode, "WALLET_MODE: warning: " in done.stdout) == (0, warns), done
    told = json.loads(here("config", "check", "--json", storage=storage, **more).stdout)
    assert (told["ok"], len(told["warnings"])) == (True, int(warns))


def test_a_misspelt_setting_in_a_file(tmp_path: Path, here: Here, storage: str) -> None:
    """`.env` is checked for misspelt settings too."""
    (tmp_path / ".env").write_text("WALLET_PROT=9000\nOTHER=1\n", encoding="utf-8")
    done = here("config", "check", storage=storage)
    assert (done.returncode, "WALLET_PROT" in done.stderr, "WALLET_PORT" in done.stderr) == (2, True, True)


def test_a_store_that_cannot_be_opened(here: Here, tmp_path: Path) -> None:
    """With --open, the store is tried too."""
    missing = f"sqlite:///{tmp_path}/no/such/wallet.db"
    assert here("config", "check", storage=missing).returncode == 0
    done = here("config", "check", "--open", "--json", storage=missing)
    assert done.returncode == 2
    assert json.loads(done.stdout)["faults"][0].startswith("WALLET_STORAGE: ")


def test_a_check_of_the_store_changes_nothing(here: Here, tmp_path: Path) -> None:
    """A ledger that is missing, or of an older version, is what `serve` makes or upgrades: told, and no fault."""
    path = tmp_path / "wallet.db"
    storage = f"sqlite:///{path}"
    done = here("config", "check", "--open", storage=storage)
    assert (done.returncode, path.exists(), done.stderr) == (0, False, "")
    assert "there is no ledger" in done.stdout
    assert "all is well" in done.stdout
    assert here("migrate", storage=storage).returncode == 0
    older(path)
    for words in (("config", "check", "--open"), ("config", "check", "--open", "--json")):
        done = here(*words, storage=storage)
        assert (done.returncode, version_of(path)) == (0, OLDER)
        assert "needs" in done.stdout


def test_a_check_of_the_store_tells_where_none_can_be_made(here: Here, tmp_path: Path) -> None:
    """`serve` would not start there: a fault, and no word of a ledger that only has to be made."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("missing/wallet.db")
    for place in ("folder", "file/wallet.db", "missing/wallet.db", "link"):
        storage = f"sqlite:///{tmp_path / place}"
        assert here("migrate", storage=storage).returncode == 2, place
        done = here("config", "check", "--open", storage=storage)
        assert (done.returncode, done.stdout) == (2, ""), place
        assert "cannot open" in done.stderr, place


@pytest.mark.parametrize("kind", ["another program's", "older"])
def test_what_is_refused_is_not_changed(here: Here, tmp_path: Path, kind: str) -> None:
    """Not even how SQLite keeps its journal: the file may belong to another program, or be a copy of an old ledger."""
    path = tmp_path / "wallet.db"
    storage = f"sqlite:///{path}"
    if kind == "older":
        assert here("migrate", storage=storage).returncode == 0
        older(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        if kind != "older":
            connection.execute("CREATE TABLE songs (name TEXT)")
    before = path.read_bytes()
    for words in (("config", "check", "--open"), ("users",), ("audit",)):
        done = here(*words, storage=storage)
        assert kind == "older" or "songs" in done.stderr
        assert path.read_bytes() == before, words
        assert [file.name for file in tmp_path.iterdir()] == ["wallet.db"]
    if kind != "older":
        assert here("migrate", storage=storage).returncode == 2
        assert path.read_bytes() == before


OLDER: Final = "0010"


def older(path: Path) -> None:
    """Let a ledger look like one that an older release has made."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = ?", (OLDER,))


def version_of(path: Path) -> str:
    """Of which version a ledger says it is."""
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()[0])
