"""The command line: each command as a process of its own; many bad inputs in this process, which is faster."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.integration._server import Person, environment, new_key, run_cli, settle_all
from wallet_gql.transports.cli import main

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
    """--help lists every command, and each command's help has an example."""
    done = run_cli(tmp_path, "--help", storage="memory://")
    commands = ("serve", "migrate", "schema", "deposit", "audit", "recover", "demo")
    assert done.returncode == 0
    assert all(command in done.stdout for command in commands)
    assert "Example:" in run_cli(tmp_path, "deposit", "--help", storage="memory://").stdout


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
        ("nonsense", {}, ["nonsense"]),
        ("cassandra://x", {}, ["cassandra", "sqlite"]),
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
    """What is wrong with the configuration is told at once and in full, without a traceback."""
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
