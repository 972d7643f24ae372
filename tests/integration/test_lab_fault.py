"""`wallet-gql lab fault`: sound backends come back with nothing lost, and broken ones are found out under faults."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from wallet_gql.lab.fault import ANY, CLEAR_SECONDS_MAX, SECONDS, draw_faults, suffer
from wallet_gql.lab.formats import to_jsonl
from wallet_gql.lab.schedule import KINDS
from wallet_gql.testing.harness import HARNESSES, harness_for
from wallet_gql.testing.missing import server_or_skip
from wallet_gql.testing.patience import patience
from wallet_gql.testing.proxy import Proxy
from wallet_gql.transports.cli import app as cli
from wallet_gql.verbs.ledger import Ledger

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
    chosen = ["--kinds", "kill,writers", "--faults", "2", "--out", str(tmp_path)]
    told = CliRunner().invoke(cli.app, ["lab", "fault", "memory", "sqlite", *chosen])
    assert told.exit_code == 0, told.output
    assert "sqlite: not tried, for there is no such means: kill" in told.output
    kept = json.loads((tmp_path / "fault.json").read_text())
    assert kept["sqlite"]["crashes"]["windows"].keys()
    assert kept["sqlite"]["anomalies"] == []
    assert kept["memory"]["notTried"] == ["kill", "writers"]
    CliRunner().invoke(cli.app, ["lab", "report", str(tmp_path)])
    assert "What faults do" in (tmp_path / "report.html").read_text(encoding="utf-8")


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


@pytest.mark.soak
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("backend", NETWORKED)
async def test_every_networked_backend_suffers(backend: str, tmp_path: Path) -> None:
    """A hundred faults of all kinds: nothing lost, nothing doubled, nothing stuck."""
    with server_or_skip():
        told, _ = await suffer(harness_for(backend), tmp_path, 1, 100)
    assert told.wrong == []
    assert told.not_tried == []


def test_any_request_has_its_answer_dropped() -> None:
    """Whatever it says."""
    proxy = Proxy("127.0.0.1", 1)
    proxy.drop_reply(ANY)
    assert proxy._dropping == {b"": 1}
