"""`wallet-gql lab power`: rates of conviction with their intervals, from trials in processes of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final
from unittest.mock import AsyncMock

import pytest
from typer.testing import CliRunner

from tests.integration.test_lab_check import FOUND
from tests.integration.test_lab_fault import SHOWN_BY
from wallet_gql.domain.errors import ConfigurationError
from wallet_gql.lab import power as lab_power
from wallet_gql.lab.broken import SOUND
from wallet_gql.lab.power import (
    ENDLESS,
    ENOUGH,
    Power,
    earlier,
    judged,
    mutants_of,
    parts,
    power,
    weak,
    without_folders,
)
from wallet_gql.lab.results import keep
from wallet_gql.testing.harness import Harness
from wallet_gql.testing.missing import server_or_skip
from wallet_gql.testing.servers.process import ServerMissing
from wallet_gql.transports.cli import app as cli

MODULE: Final = "tests.integration.mutants"
SEEDS: Final = 20
FAULTS: Final = 16
"""In each trial of the soak."""
AT_ONCE: Final = 3
RARELY: Final = {
    *("another_ones_page", "commit_told_as_nothing_written", "holds_read_without_the_lock", "drivers_errors_leave"),
}
"""The mutants of SQLite that docs/evidence/2026-11-30-lab-2.md names: 16 faults meet them only now and then."""


@pytest.mark.trial
@pytest.mark.backend("sqlite")
def test_a_mutant_is_convicted_and_the_sound_product_is_not(tmp_path: Path) -> None:
    """From the command to the page."""
    options = ["--mutants", MODULE, "--only", "gap_in_sequences", "--seeds", "1", "--out", str(tmp_path)]
    told = CliRunner().invoke(cli.app, ["lab", "power", "sqlite", *options])
    assert told.exit_code == 0, told.output
    kept = json.loads((tmp_path / "power.json").read_text())
    assert {name: one["convicted"] for name, one in kept.items()} == {
        f"sqlite {SOUND}": 0,
        "sqlite gap_in_sequences": 1,
    }
    CliRunner().invoke(cli.app, ["lab", "report", str(tmp_path)])
    assert "gap_in_sequences" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "wrong", [["--mutants", "no.such.module"], ["--mutants", "json"], ["--mutants", MODULE, "--only", "nothing"]]
)
def test_what_is_no_mutant_is_refused(wrong: list[str]) -> None:
    """Before any trial."""
    assert CliRunner().invoke(cli.app, ["lab", "power", "sqlite", *wrong]).exit_code == 1


def test_rates_have_exact_intervals() -> None:
    """Of 20 convictions in 20 trials the true rate is above 0.83; of none in 20 it is below 0.17."""
    always, never = Power("a", [*range(20)], [1.0] * 19 + [3.0]), Power("b", [*range(20)])
    assert [round(bound, 4) for bound in (*always.bounds, *never.bounds)] == [0.8316, 1, 0, 0.1684]
    assert (always.rate, always.median_seconds, never.median_seconds) == (1.0, 1.0, None)


def test_what_is_found_names_no_folder() -> None:
    """Absolute paths are cut down to their last parts; anything else stays."""
    said = 'File "/srv/ann/wallet gql/x/writer.py", 5/6 of postgres://n1/wallet in /srv/trials/1/load'
    assert without_folders(said) == 'File "wallet gql/x/writer.py", 5/6 of postgres://n1/wallet in load'


def test_mutants_that_are_rarely_convicted_are_named() -> None:
    """Those below 95 %, by backend; the sound product, which nothing should convict, is none of them."""
    found = [Power("a", [*range(20)], [1.0] * 18), Power("b", [*range(20)], [1.0] * 19), Power(SOUND, [*range(20)])]
    told = parts("sqlite", 16, found) | parts("postgres-3", 16, found[1:])
    assert weak(told) == {"sqlite": ["a"], "postgres-3": []}


async def test_trials_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a folder has of the same commit, backend and number of faults is not tried again."""
    asked: list[tuple[str, list[int]]] = []

    async def trials(
        _: str, mutant: str, __: str, seeds: list[int], ___: int
    ) -> AsyncGenerator[tuple[int, str, float]]:
        asked.append((mutant, seeds))
        for seed in seeds:
            yield seed, "wrong", 2.0

    monkeypatch.setattr(lab_power, "commit", lambda: "this")
    monkeypatch.setattr(lab_power, "_trials", trials)
    monkeypatch.setattr(lab_power, "TOGETHER", 1)
    told: list[list[int]] = []
    first = await power("sqlite", MODULE, ["a"], [1, 2], told=lambda some: told.append([one.trials for one in some]))
    assert told == [[1], [1, 1], [2, 1], [2, 2]]
    keep(tmp_path, "power.json", parts("sqlite", 16, first))
    before = earlier(tmp_path, "sqlite", 16)
    assert before == {one.mutant: one for one in first}
    assert earlier(tmp_path, "sqlite", 8) == earlier(tmp_path, "postgres", 16) == earlier(None, "sqlite", 16) == {}
    asked.clear()
    *_, last = await power("sqlite", MODULE, ["a", "b"], [2, 3], before=before)
    assert [one for one in asked if one[1]] == [("b", [2]), (SOUND, [3]), ("a", [3]), ("b", [3])]
    assert (before["a"].seeds, last.seeds, last.seconds) == ([1, 2, 3], [2, 3], [2.0, 2.0])
    for other in ("another", None):
        monkeypatch.setattr(lab_power, "commit", lambda other=other: other)
        assert earlier(tmp_path, "sqlite", 16) == {}
    monkeypatch.setattr(lab_power, "commit", lambda: "this-dirty")
    keep(tmp_path, "power.json", parts("sqlite", 16, first))
    assert earlier(tmp_path, "sqlite", 16) == {}


MODULES: Final = {
    "sqlite": "mutants",
    "postgres-3": "postgres_mutants",
    "redis-3": "redis_mutants",
    "mongodb": "mongodb_mutants",
    "cassandra-16": "cassandra_mutants",
}


@pytest.mark.trial
async def test_a_process_makes_trials_until_one_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are left go to another one. A process that cannot make any is named, with what it says."""
    verdicts = iter([("wrong", 1.0), (ENDLESS, 9.0), ("", 2.0)])
    monkeypatch.setattr(lab_power, "_verdict", AsyncMock(side_effect=lambda *_: next(verdicts, None)))
    begun = AsyncMock(wraps=asyncio.create_subprocess_exec)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", begun)
    found = [one async for one in lab_power._trials(MODULE, SOUND, "memory", [4, 5, 6], 0)]
    assert found == [(4, "wrong", 1.0), (5, ENDLESS, 9.0), (6, "", 2.0)]
    assert [call.args[-3:] for call in begun.await_args_list] == [("4", "5", "6"), ("memory", "0", "6")]
    monkeypatch.undo()
    with pytest.raises(ConfigurationError, match=r"(?s)no_mutant memory 0 1: .*KeyError: 'no_mutant'"):
        _ = [one async for one in lab_power._trials(MODULE, "no_mutant", "memory", [1], 0)]


async def test_processes_make_trials_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are asked for, and no more; each seed of each mutant is tried once."""
    running, most = 0, 0

    async def trials(_: str, __: str, ___: str, seeds: list[int], ____: int) -> AsyncGenerator[tuple[int, str, float]]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for seed in seeds:
            await asyncio.sleep(0)
            yield seed, "", 1.0
        running -= 1

    monkeypatch.setattr(lab_power, "_trials", trials)
    found = await power("sqlite", MODULE, ["a", "b"], range(20), at_once=3)
    assert [sorted(one.seeds) for one in found] == [[*range(20)]] * 3
    assert (running, most) == (0, 3)


async def test_trials_that_cannot_be_made_end_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the first of them says."""

    async def trials(_: str, mutant: str, *__: object) -> AsyncGenerator[tuple[int, str, float]]:
        yield 1, "", 1.0
        await asyncio.sleep(0 if mutant == "a" else 3600)
        raise ConfigurationError(mutant)

    monkeypatch.setattr(lab_power, "_trials", trials)
    with pytest.raises(ConfigurationError, match=r"^a$"):
        await power("sqlite", MODULE, ["a", "b"], range(20), at_once=3)


@pytest.mark.parametrize("backend", MODULES)
def test_every_backend_has_mutants(backend: str) -> None:
    """`lab power` finds them."""
    assert mutants_of(f"tests.integration.{MODULES[backend]}")


async def test_without_a_server_nothing_is_convicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a mutant nor the sound product: the trial says what is missing."""
    monkeypatch.setattr(Harness, "start", AsyncMock(side_effect=ServerMissing("no mongod")))
    with pytest.raises(ServerMissing, match="no mongod"):
        await judged("memory", 1)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("backend", MODULES)
async def test_a_clean_result_is_worth_something(backend: str) -> None:
    """No seed convicts the sound product; nearly all seeds convict what histories or faults of SQLite show.

    Those that are named as rarely convicted are convicted by some.
    """
    module = f"tests.integration.{MODULES[backend]}"
    with server_or_skip():
        sound, *found = await power(
            backend, module, mutants_of(module), range(1, SEEDS + 1), faults=FAULTS, at_once=AT_ONCE
        )
    print(*(f"{one.mutant}: {one.convicted} of {one.trials}" for one in found), sep="\n")  # noqa: T201 - for the page
    assert sound.convicted == 0, sound.found
    shown = [one for one in found if one.mutant in {*FOUND, *SHOWN_BY}]
    assert {one.mutant for one in shown if not one.convicted} == set()
    assert {one.mutant for one in shown if one.rate < ENOUGH} <= RARELY
