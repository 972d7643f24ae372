"""A whole ledger moves between stores through the command line: equal digests, and old keys replay after each move."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration._server import (
    PASSWORD,
    Person,
    command,
    environment,
    new_key,
    run_cli,
    serving,
    settle_all,
)
from wallet_gql.backends import open_store
from wallet_gql.books.exchange import UNFINISHED, export_lines, import_lines
from wallet_gql.domain.ids import AccountId, UserId
from wallet_gql.testing.patience import patience
from wallet_gql.verbs.ledger import Ledger, To


def url_of(folder: Path, name: str) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{folder / name}.db"


def pay(url: str, person: Person, key: str, to: str, minor: int) -> httpx.Response:
    """Pay over REST."""
    amount = {"minorUnits": minor, "currency": "EUR"}
    body = {"fromAccountId": person.account_id, "to": {"username": to}, "amount": amount}
    headers = {"Authorization": f"Bearer {person.token}", "Idempotency-Key": key}
    return httpx.post(f"{url}/v1/transfer", json=body, headers=headers, timeout=patience(30))


def digest(folder: Path, storage: str) -> dict[str, Any]:
    """Digest and counts of a store."""
    done = run_cli(folder, "digest", "--json", storage=storage)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def through_a_pipe(folder: Path, source: str, target: str) -> tuple[str, str]:
    """`wallet-gql export | wallet-gql import -`; answers what both told."""
    exporting = subprocess.Popen(
        command("export"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=environment(source)
    )
    importing = subprocess.run(
        command("import", "-"),
        stdin=exporting.stdout,
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=False,
        cwd=folder,
        env=environment(target),
    )
    with exporting:
        assert exporting.stdout is not None
        assert exporting.stderr is not None
        exporting.stdout.close()
        told = exporting.stderr.read().decode()
    assert (exporting.returncode, importing.returncode) == (0, 0), (told, importing.stderr)
    assert importing.stdout == ""
    return told, importing.stderr


@pytest.fixture
def books(tmp_path: Path) -> tuple[str, Person, Person, dict[str, httpx.Response]]:
    """A SQLite ledger with two users, and the answers to three keys: a payment, a refusal, another payment."""
    storage = url_of(tmp_path, "first")
    ann, bob = settle_all(storage, 10_000, 50)
    with serving(tmp_path, storage=storage) as server:
        answers = {
            "paid": pay(server.url, ann, "paid", bob.username, 700),
            "refused": pay(server.url, ann, "refused", bob.username, 10**9),
            "back": pay(server.url, bob, "back", ann.username, 25),
        }
    assert [answer.status_code for answer in answers.values()] == [201, 409, 201]
    return storage, ann, bob, answers


@pytest.mark.trial
def test_there_and_back(tmp_path: Path, books: tuple[str, Person, Person, dict[str, httpx.Response]]) -> None:
    """Through a pipe into a second file and from there into a third: equal digests, keys and log-ins work on."""
    storage, ann, bob, answers = books
    told = digest(tmp_path, storage)
    for name in ("second", "third"):
        target = url_of(tmp_path, name)
        exported, imported = through_a_pipe(tmp_path, storage, target)
        assert told["digest"] in exported
        assert exported == imported
        assert "4 transfers" in imported
        storage = target

    with serving(tmp_path, storage=storage) as server:
        again = pay(server.url, ann, "paid", bob.username, 700)
        assert (again.status_code, again.json()) == (200, {**answers["paid"].json(), "replayed": True})
        refused = pay(server.url, ann, "refused", bob.username, 10**9)
        assert (refused.status_code, refused.json()["availableMinor"]) == (409, "9300")
        assert pay(server.url, ann, "paid", bob.username, 701).status_code == 422
        session = httpx.post(f"{server.url}/v1/session", json={"login": bob.username, "password": PASSWORD})
        assert session.status_code == 201
        new = pay(server.url, bob, new_key(), ann.username, 1)
        assert (new.status_code, new.json()["transfer"]["accountId"]) == (201, bob.account_id)
    assert run_cli(tmp_path, "audit", storage=storage).returncode == 0


async def test_over_three_nodes_and_back(
    tmp_path: Path, books: tuple[str, Person, Person, dict[str, httpx.Response]]
) -> None:
    """From a file into three nodes in memory and back into a file: equal digests, and the key replays on each."""
    storage, ann, bob, answers = books
    first = tmp_path / "first.jsonl"
    exported = run_cli(tmp_path, "export", str(first), "--json", storage=storage)
    assert (exported.returncode, exported.stdout) == (0, ""), exported.stderr
    told = json.loads(exported.stderr)
    assert first.stat().st_mode & 0o077 == 0

    async with open_store("memory://?nodes=3") as nodes:
        imported = await import_lines(nodes, lambda: first.read_text(encoding="utf-8").splitlines())
        assert (imported.text, imported.counts) == (told["digest"], told["counts"])
        again = await Ledger(nodes).transfer(
            UserId(ann.id),
            "paid",
            source=AccountId(ann.account_id),
            to=To(username=bob.username),
            amount_minor=700,
            currency="EUR",
        )
        assert (again.replayed, again.result.id) == (True, answers["paid"].json()["transfer"]["id"])
        lines = [line async for line in export_lines(nodes)]
    second = tmp_path / "second.jsonl"
    second.write_text("\n".join(lines), encoding="utf-8")

    target = url_of(tmp_path, "second")
    back = run_cli(tmp_path, "import", str(second), "--json", storage=target)
    assert (back.returncode, json.loads(back.stdout)) == (0, told), back.stderr
    assert digest(tmp_path, target) == told
    with serving(tmp_path, storage=target) as server:
        answer = pay(server.url, ann, "paid", bob.username, 700)
        assert (answer.status_code, answer.json()["transfer"]) == (200, answers["paid"].json()["transfer"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a small ledger, `first.db` beside it."""
    folder = tmp_path_factory.mktemp("exported")
    settle_all(url_of(folder, "first"), 50)
    file = folder / "export.jsonl"
    assert run_cli(folder, "export", str(file), storage=url_of(folder, "first")).returncode == 0
    return file


def _cut(lines: list[str]) -> list[str]:
    return lines[:-1]


def _changed(lines: list[str]) -> list[str]:
    return [line.replace('"posted_minor":50', '"posted_minor":51') for line in lines]


def _foreign(lines: list[str]) -> list[str]:
    return ['{"product": "another"}\n', *lines[1:]]


def _newer(lines: list[str]) -> list[str]:
    return ['{"product": "wallet-gql", "format": 99}\n', *lines[1:]]


def _garbled(lines: list[str]) -> list[str]:
    return [lines[0], "not json\n", *lines[1:]]


def _nothing(_lines: list[str]) -> list[str]:
    return []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_cut, "cut short"),
        (_changed, "digest differs"),
        (_foreign, "not say that this is a wallet-gql export"),
        (_newer, "format 99"),
        (_garbled, "line 2"),
        (_nothing, "ends before"),
    ],
    ids=["cut", "changed", "foreign", "newer", "garbled", "nothing"],
)
def test_bad_exports(tmp_path: Path, exported: Path, damage: Callable[[list[str]], list[str]], says: str) -> None:
    """A file that is no sound export is refused with one line, exit code 2, and nothing in the store."""
    file, target = tmp_path / "export.jsonl", tmp_path / "second.db"
    lines = exported.read_text(encoding="utf-8").splitlines(keepends=True)
    assert damage(lines) != lines
    file.write_text("".join(damage(lines)), encoding="utf-8")
    done = run_cli(tmp_path, "import", str(file), storage=f"sqlite:///{target}")
    assert (done.returncode, len(done.stderr.splitlines()), done.stdout) == (2, 1, "")
    assert says in done.stderr
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("SELECT count(*) FROM accounts").fetchone() == (0,)


def test_an_import_needs_an_empty_store(exported: Path) -> None:
    """Importing into a store that holds something is refused and changes nothing."""
    storage = url_of(exported.parent, "first")
    done = run_cli(exported.parent, "import", str(exported), storage=storage)
    assert (done.returncode, "not empty" in done.stderr) == (2, True)
    assert digest(exported.parent, storage)["counts"]["transfer"] == 1


@pytest.mark.parametrize(
    "words",
    [
        "serve",
        "audit",
        "recover",
        "digest",
        "export",
        "migrate",
        "config check --open",
        "import {file}",
        "log-out --all",
    ],
)
async def test_a_half_imported_ledger_is_refused(tmp_path: Path, exported: Path, words: str) -> None:
    """By whatever opens it: a request whose receipt is missing would pay again."""
    storage = url_of(tmp_path, "half")
    async with open_store(storage) as store:
        await store.load_raw([UNFINISHED])
    done = run_cli(tmp_path, *words.format(file=exported).split(), storage=storage)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "an import of this ledger was not finished: empty this database and import again" in done.stderr


def test_files_that_cannot_be(tmp_path: Path) -> None:
    """What cannot be read or written is one line and exit code 2; no half file is left behind."""
    storage = url_of(tmp_path, "first")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for arguments, says in (
        (("import", "absent.jsonl"), "absent.jsonl"),
        (("import", str(binary)), "not UTF-8"),
        (("export", "no/such/folder/x"), "no/such/folder/x"),
    ):
        done = run_cli(tmp_path, *arguments, storage=storage)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert says in done.stderr
    assert not list(tmp_path.glob(".*"))


def test_a_reader_that_goes_away(exported: Path) -> None:
    """An export whose reader stops early ends with one line and exit code 2, without a traceback."""
    export = subprocess.Popen(
        command("export"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=exported.parent,
        env=environment(url_of(exported.parent, "first")),
    )
    with export:
        assert export.stdout is not None
        assert export.stderr is not None
        export.stdout.close()
        told = export.stderr.read().decode()
    assert (export.returncode, told.count("\n"), "Traceback" in told) == (2, 1, False), told


def test_memory_keeps_nothing(exported: Path) -> None:
    """Importing into memory:// says that it only checks the file, and prints the same digest."""
    done = run_cli(exported.parent, "import", str(exported), storage="memory://?nodes=3")
    assert (done.returncode, "only checks" in done.stderr) == (0, True)
    assert json.loads(exported.read_text(encoding="utf-8").splitlines()[-1])["digest"] in done.stderr
