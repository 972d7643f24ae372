"""`wallet-gql lab fault`: sound backends come back with nothing lost, and broken ones are found out under faults."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from threading import Timer
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from tests.integration.mutants import MUTANTS
from tests.integration.test_lab_check import FOUND
from tests.integration.test_mutants import CONVICTED_BY
from wallet_gql.backends.sqlite.connection import connect
from wallet_gql.lab import broken, fault
from wallet_gql.lab.fault import ANY, CLEAR_SECONDS_MAX, SECONDS, draw_faults, suffer
from wallet_gql.lab.formats import to_jsonl
from wallet_gql.lab.schedule import KINDS, Kind
from wallet_gql.testing import crash, harness
from wallet_gql.testing.harness import HARNESSES, harness_for
from wallet_gql.testing.missing import server_or_skip
from wallet_gql.testing.patience import VARIABLE, patience
from wallet_gql.testing.proxy import Proxy
from wallet_gql.transports.cli import app as cli
from wallet_gql.verbs.ledger import Ledger

FAULTS: Final = 6
SEEDS_MAX: Final = 8
NETWORKED: Final = sorted(set(HARNESSES) - {"memory", "memory-3", "sqlite"})


def test_a_seed_decides_all_faults() -> None:
    """Each kind equally often; another seed draws others."""
    planned = draw_faults(7, 3 * len(KINDS), KINDS)
    assert planned == draw_faults(7, 3 * len(KINDS), KINDS)
    assert planned != draw_faults(8, 3 * len(KINDS), KINDS)
    assert Counter(fault.kind for fault in planned) == dict.fromkeys(KINDS, 3)
    assert all(SECONDS[0] <= fault.seconds <= SECONDS[1] for fault in planned)


@pytest.mark.trial
def test_writers_are_killed_on_sqlite(tmp_path: Path) -> None:
    """From the command to the page; what SQLite has no means for is named."""
    chosen = ["--kinds", "cut,writers", "--faults", "2", "--out", str(tmp_path)]
    told = CliRunner().invoke(cli.app, ["lab", "fault", "memory", "sqlite", *chosen])
    assert told.exit_code == 0, told.output
    assert "sqlite: not tried, for there is no such means: cut" in told.output
    kept = json.loads((tmp_path / "fault.json").read_text())
    assert kept["sqlite"]["crashes"]["windows"].keys()
    assert kept["sqlite"]["anomalies"] == []
    assert kept["memory"]["notTried"] == ["cut", "writers"]
    CliRunner().invoke(cli.app, ["lab", "report", str(tmp_path)])
    assert "What faults do" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_mistake_of_the_lab_is_no_missing_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all backends are tried, those that cannot be started are left out: not one whose judge fails."""
    monkeypatch.setattr(harness, "harness_names", lambda: ("memory",))
    monkeypatch.setattr("wallet_gql.lab.check.judge", lambda _: dict[str, str]()["nothing"])
    told = CliRunner().invoke(cli.app, ["lab", "check", "--repeats", "1", "--writes", "5"])
    assert isinstance(told.exception, KeyError)
    assert CliRunner().invoke(cli.app, ["lab", "check", "nosuch"]).exit_code != 0


def test_unknown_kinds_are_refused() -> None:
    """Before anything starts."""
    assert CliRunner().invoke(cli.app, ["lab", "fault", "memory", "--kinds", "kill,flood"]).exit_code != 0


@pytest.mark.trial
@pytest.mark.service("postgres")
async def test_a_server_that_suffers_loses_nothing(tmp_path: Path) -> None:
    """Every kind but killed writers once: all is answered again, and the history has the schedule."""
    kinds = [kind for kind in KINDS if kind != "writers"]
    with server_or_skip():
        told, history = await suffer(harness_for("postgres"), tmp_path, 1, len(kinds), kinds)
    assert told.wrong == []
    assert told.not_tried == []
    assert told.faults == dict.fromkeys(kinds, 1)
    assert {kind: len(times) for kind, times in told.clear_seconds.items()} == dict.fromkeys(kinds, 1)
    assert max(told.clear) < patience(CLEAR_SECONDS_MAX)
    assert told.silent_seconds > 0
    assert history is not None
    first = json.loads(next(to_jsonl(history)))
    assert [fault["kind"] for fault in first["nemesis"]] == [fault.kind for fault in draw_faults(1, len(kinds), kinds)]
    assert all(fault["beganAt"] <= fault["endedAt"] for fault in first["nemesis"])
    json.dumps(told.plain())


def asked_twice(sound: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """A transfer whose answer is an error is sent once more under another key, as careless clients do."""

    async def careless(ledger: Ledger, actor: Any, key: str, **asked: Any) -> Any:
        try:
            return await sound(ledger, actor, key, **asked)
        except Exception:
            await sound(ledger, actor, f"{key}-again", **asked)
            raise

    return careless


@pytest.mark.soak
@pytest.mark.service("postgres")
async def test_a_payment_made_twice_under_faults_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistake shows only when an answer is lost."""
    monkeypatch.setattr(Ledger, "transfer", asked_twice(Ledger.transfer))
    told, _ = await suffer(harness_for("postgres"), tmp_path, 1, 12, ["drop", "cut"])
    assert told.wrong != []


SHOWN_BY: Final[dict[str, Kind]] = {
    "receipt_outside_the_commit": "writers",
    "commit_told_as_nothing_written": "fail",
    "drivers_errors_leave": "kill",
    "ping_raises_the_drivers_error": "kill",
    "reads_wait_for_ever": "kill",
}
"""Mutants of SQLite that a history shows under faults of a kind."""

QUICKLY_SHOWN: Final = ("commit_told_as_nothing_written", "reads_wait_for_ever")
"""These are trials; `make soak` tries the others, too."""

NOT_OF_STORAGE: Final = {"spending_counted_before_the_commit"}
"""Its mistake is in `verbs`, above every store."""


def test_what_the_suite_convicts_the_lab_convicts_too() -> None:
    """Every mutant of storage is one that histories show, or faults."""
    assert set(CONVICTED_BY) - NOT_OF_STORAGE == {*FOUND, *SHOWN_BY}
    assert not set(FOUND) & set(SHOWN_BY)


@pytest.mark.parametrize(
    "mutant",
    [pytest.param(one, marks=pytest.mark.trial if one in QUICKLY_SHOWN else pytest.mark.soak) for one in SHOWN_BY],
)
async def test_a_mutant_is_found_under_faults(mutant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a few of them."""
    MUTANTS[mutant](monkeypatch)
    monkeypatch.setattr(fault, "READ_SECONDS_MAX", 1.0)  # nobody answers who waits for ever
    monkeypatch.setattr(crash, "WRITER", broken.command("tests.integration.mutants", mutant))
    for seed in range(1, SEEDS_MAX + 1):
        told, _ = await suffer(harness_for("sqlite"), tmp_path / str(seed), seed, FAULTS, [SHOWN_BY[mutant]])
        if told.wrong:
            return
    pytest.fail(f"nothing found of {mutant}")


@pytest.mark.trial
async def test_sqlite_suffers_what_a_file_can(tmp_path: Path) -> None:
    """Its folder taken away, its file locked, errors in commits: all is answered again, and nothing lost."""
    kinds: list[Kind] = ["kill", "stop", "fail"]
    told, _ = await suffer(harness_for("sqlite"), tmp_path, 1, 2 * len(kinds), kinds)
    assert (told.wrong, told.not_tried) == ([], [])
    assert told.faults == dict.fromkeys(kinds, 2)


def test_a_file_is_locked_however_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes gets as much time as the machine is slow, and the lock is free when it is given back."""
    monkeypatch.setattr(harness, "PAUSE_SECONDS_MAX", 0.05)
    monkeypatch.setenv(VARIABLE, "600")
    file = tmp_path / "wallet.db"
    with closing(connect(file)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        Timer(1.0, writer.execute, ["COMMIT"]).start()
        disk = harness.SqliteDisk(file)
        disk.pause()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            writer.execute("BEGIN IMMEDIATE")
        disk.resume()
        writer.execute("BEGIN IMMEDIATE")


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("backend", "histories"), [*((name, 2) for name in NETWORKED), ("postgres-3", 20)])
async def test_a_backend_suffers_for_long(backend: str, histories: int, tmp_path: Path) -> None:
    """Fifty faults of all kinds a history: nothing lost, nothing doubled, nothing stuck."""
    faults, answered, clear = Counter[str](), 0, [0.0]
    for seed in range(1, histories + 1):
        with server_or_skip():
            told, _ = await suffer(harness_for(backend), tmp_path / str(seed), seed, 50)
        assert (told.wrong, told.not_tried) == ([], []), f"seed {seed}"
        faults += told.faults
        answered += sum(count for name, count in told.outcomes.items() if not name.endswith("unknown"))
        clear += told.clear
        print(f"{backend}, seed {seed}: {faults.total()} faults, {answered} answers, clear {max(clear):.2f} s at most")  # noqa: T201
    print(f"{backend}: {dict(faults)}")  # noqa: T201


def test_any_request_has_its_answer_dropped() -> None:
    """Whatever it says."""
    proxy = Proxy("127.0.0.1", 1)
    proxy.drop_reply(ANY)
    assert proxy._dropping == {b"": 1}
