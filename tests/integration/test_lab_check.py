"""`wallet-gql lab check`: sound backends keep exactly what they claim, and broken ones are found out."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from tests.integration._old_ledgers import FOLDER, unpacked
from tests.integration.mutants import MUTANTS
from wallet_gql.backends.kit import NotMigrated
from wallet_gql.lab.check import SCOPES, Judgement, Report, Scope, judge, run
from wallet_gql.lab.formats import to_edn, to_jsonl, to_porcupine, write_all
from wallet_gql.lab.graph import Operation, gravest
from wallet_gql.lab.history import History, Seen
from wallet_gql.lab.workload import Size
from wallet_gql.testing.harness import HARNESSES, harness_for
from wallet_gql.testing.levels import FORBIDS, Level
from wallet_gql.testing.missing import server_or_skip
from wallet_gql.testing.world import World
from wallet_gql.transports.cli import app as cli

QUICK: Final = Size(writes=200)
FOUND: Final = (
    *("reply_before_commit", "state_before_key", "lost_held_amount", "gap_in_sequences", "reads_from_a_cache"),
    *("fetch_without_a_snapshot", "holds_read_without_the_lock", "blind_to_case", "three_byte_text", "short_text"),
    *("whole_seconds", "one_snapshot_for_all", "another_ones_page", "a_group_that_has_left"),
    *("numbers_as_floats", "unsynced", "synced_at_checkpoints"),
)
"""Mutants of SQLite that a history shows; those that take a fault are in `test_lab_fault`."""


TRIED: Final = 4
"""So many of them are trials; `make soak` tries the others, too."""


async def judged(backend: str, folder: Path, seed: int = 1, size: Size = QUICK) -> tuple[History, Judgement]:
    """One history of a backend."""
    return await run(harness_for(backend), folder, seed, size)


async def histories(
    backend: str, folder: Path, size: Size, seeds: range, scopes: Sequence[Scope] = SCOPES
) -> tuple[Report, History]:
    """Histories, until the claims of these scopes are met exactly, and the first one. What meets what is chance."""
    report, found = Report(backend), []
    for seed in seeds:
        harness, place = harness_for(backend), folder / str(seed)
        place.mkdir()
        with server_or_skip():
            history, judgement = await run(harness, place, seed, size)
        found.append(history)
        report.add(seed, judgement, harness.claims)
        below = [str(one.anomaly) for one in report.verdicts.values() if one.seen < one.claim]
        assert not judgement.faults + below, said(judgement)
        if all(one.text == "holds" for scope, one in report.verdicts.items() if scope in scopes):
            break
    return report, found[0]


def said(judgement: Judgement) -> str:
    """Everything that is wrong, as text."""
    return "; ".join([*judgement.faults, *map(str, judgement.anomalies.values())])


@pytest.mark.parametrize("backend", ["memory", "memory-3", "memory-3-late", "sqlite"])
async def test_a_sound_backend_keeps_exactly_its_claims(backend: str, tmp_path: Path) -> None:
    """No fault, every level as claimed, and a history that has reads, refusals, holds and repetitions."""
    claims = harness_for(backend).claims
    scopes = SCOPES if claims.account is Level.PL_SS else ("across",)  # a stale page is rare: the soak waits for one
    report, history = await histories(backend, tmp_path, QUICK, range(1, 11), scopes)
    assert all(report.verdicts[scope].text == "holds" for scope in scopes if scope in report.verdicts)
    judgement = report.runs[1]
    assert {"read ok", "page ok", "transfer ok", "transfer refused", "hold ok", "capture ok"} <= set(judgement.outcomes)
    assert any(call.told.get("replayed") for call in history.calls)
    assert judgement.whole_reads > 0
    fractured = any(run.fractured for run in report.runs.values())
    assert fractured is (claims.across is not Level.PL_SS)


@pytest.mark.trial
@pytest.mark.backend("postgres-3")
@pytest.mark.service("postgres")
async def test_a_claim_must_be_tight(tmp_path: Path) -> None:
    """Each node receives credits in its own order: claiming more across nodes fails. Nothing is below its claim."""
    report, _ = await histories("postgres-3", tmp_path, Size(writes=300), range(1, 11), scopes=["across"])
    assert report.verdicts["across"].text == "holds"
    other = Report("postgres-3")
    other.add(1, report.runs[max(report.runs)], replace(harness_for("postgres-3").claims, across=Level.PL_1))
    assert other.verdicts["across"].text == "below its claim"
    assert not other.holds


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("backend", HARNESSES)
async def test_every_claim_is_tight(backend: str, tmp_path: Path) -> None:
    """No history is below a claim, and for each scope that claims less than everything some history shows why."""
    report, _ = await histories(backend, tmp_path, Size(writes=300), range(1, 31))
    assert report.holds, f"claims too little: {report.plain()['scopes']}"


async def found_in(mutant: str, folder: Path, seeds: range) -> str:
    """What the first history that finds something says of SQLite, which is broken already."""
    for seed in seeds:
        place = folder / str(seed)
        place.mkdir()
        _, judgement = await judged("sqlite", place, seed)
        if said(judgement):
            return said(judgement)
    return f"nothing found of {mutant}"


async def test_a_stale_cache_is_convicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of 20 ms: nothing is wrong but the time at which it is told."""
    MUTANTS["reads_from_a_cache"](monkeypatch)
    assert "real time" in await found_in("reads_from_a_cache", tmp_path, range(1, 6))


@pytest.mark.backend("sqlite")
@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(one, marks=pytest.mark.trial if place < TRIED else pytest.mark.soak)
        for place, one in enumerate(FOUND)
    ],
)
async def test_a_mutant_is_convicted(mutant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mistake that a history without faults can show, within a few seeds."""
    MUTANTS[mutant](monkeypatch)
    assert "nothing found" not in await found_in(mutant, tmp_path, range(1, 6))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> History:
    """A sound history of a store in memory."""
    return asyncio.run(judged("memory", tmp_path_factory.mktemp("sound")))[0]


def refuse_without_a_cause(history: History, drawn: random.Random) -> str:
    """A payment of one cent was refused while there was enough (E9)."""
    drawn_one = drawn.choice([call for call in history.calls if call.outcome == "refused"])
    for call in history.calls:  # whoever asked again was told the same, which is judged once
        if (call.actor, call.key) == (drawn_one.actor, drawn_one.key):
            call.asked = {**call.asked, "amount_minor": 0}
    return "was refused with"


def refuse_for_an_unknown_reason(history: History, drawn: random.Random) -> str:
    """A refusal that the workload never asks for."""
    call = drawn.choice([call for call in history.calls if call.verb in ("capture", "void")])
    call.outcome, call.told = "refused", {"code": "HOLD_NOT_OPEN"}
    return "(HOLD_NOT_OPEN) without a cause"


def read_what_never_was(history: History, drawn: random.Random) -> str:
    """A read told a balance that the account never had."""
    call = drawn.choice([call for call in history.calls if call.verb == "read"])
    name = drawn.choice(list(call.seen))
    call.seen = {**call.seen, name: replace(call.seen[name], posted_minor=call.seen[name].posted_minor + 1)}
    return "the books have"


def read_an_account_away(history: History, drawn: random.Random) -> str:
    """A read found nothing where there was an account."""
    call = drawn.choice([call for call in history.calls if call.verb == "read"])
    call.seen = dict(list(call.seen.items())[1:])
    return "found nothing"


def change_a_line_of_a_page(history: History, drawn: random.Random) -> str:
    """A page told an amount that the entry does not have."""
    call = drawn.choice([call for call in history.calls if call.verb == "page"])
    sequence, transfer, amount_minor, balance_minor = call.page[-1]
    call.page = (*call.page[:-1], (sequence, transfer, amount_minor + 1, balance_minor))
    return "otherwise than the books have them"


def lose_what_was_answered(history: History, drawn: random.Random) -> str:
    """An answer names a transfer that is in nobody's books."""
    call = drawn.choice([call for call in history.calls if call.verb == "transfer" and call.outcome == "ok"])
    call.told = {**call.told, "made": "trf_lost"}
    return "trf_lost"


def pay_what_nobody_asked_for(history: History, drawn: random.Random) -> str:
    """The books have a transfer of a user under a key that no call has."""
    call = drawn.choice([call for call in history.calls if call.verb == "transfer" and call.outcome == "ok"])
    history.calls = [other for other in history.calls if (other.actor, other.key) != (call.actor, call.key)]
    return str(call.key)


def read_the_past(history: History, drawn: random.Random) -> str:
    """A read that was sent after everything was answered missed the last entry of an account."""
    call = drawn.choice([call for call in history.calls if call.verb == "read"])
    name = drawn.choice(history.accounts)
    before = history.books.entries[name][-2]
    call.asked, call.seen = {"accounts": [name]}, {name: Seen(before.sequence, before.balance_minor)}
    call.sent_at = 1 + max(each.ended_at for each in history.calls)
    call.ended_at = call.sent_at + 1
    return "real time"


def read_a_part(history: History, drawn: random.Random) -> str:
    """A read saw one entry of a transfer and not the other one."""
    transfers = [t for t in history.books.transfers.values() if t.debit_account_id in history.homes]
    transfer = drawn.choice(transfers[len(transfers) // 3 :])
    seen: dict[str, Seen] = {}
    for name, back in ((transfer.debit_account_id, 0), (transfer.credit_account_id, 1)):
        entries = history.books.entries[name]
        at = next(entry for entry in entries if entry.transfer_id == transfer.id).sequence - back
        seen[name] = Seen(at, entries[at - 1].balance_minor)
    call = drawn.choice([call for call in history.calls if call.verb == "read"])
    call.asked, call.seen = {"accounts": list(seen)}, seen
    return "G-single"


def read_an_amount_without_its_hold(history: History, drawn: random.Random) -> str:
    """A read saw what is held, but not the hold."""
    call = drawn.choice([call for call in history.calls if any(seen.held_minor for seen in call.seen.values())])
    call.seen = {str(name): replace(seen, open_minor=0) for name, seen in call.seen.items()}
    return "held and open holds of 0"


DAMAGES: Final = (
    refuse_without_a_cause,
    refuse_for_an_unknown_reason,
    read_what_never_was,
    read_an_account_away,
    change_a_line_of_a_page,
    lose_what_was_answered,
    pay_what_nobody_asked_for,
    read_the_past,
    read_a_part,
    read_an_amount_without_its_hold,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("seed", range(3))
def test_damage_is_found(sound: History, seed: int, damage: Callable[[History, random.Random], str]) -> None:
    """Each kind of damage, at a drawn place, is found and named."""
    history = deepcopy(sound)
    words = damage(history, random.Random(seed))
    assert words in said(judge(history))


@pytest.fixture(scope="module")
def of_three(tmp_path_factory: pytest.TempPathFactory) -> History:
    """A sound history of three nodes in memory."""
    return asyncio.run(judged("memory-3", tmp_path_factory.mktemp("three")))[0]


@pytest.mark.parametrize("keeps_pending", [False, True])
def test_a_balance_before_its_entry(of_three: History, keeps_pending: bool) -> None:
    """It is damage, unless the backend says that credits of other nodes may count before their entries."""
    history = deepcopy(of_three)
    history.keeps_pending = keeps_pending
    books, homes = history.books, history.homes
    early = {
        name: (entry.sequence - 1, entry.balance_minor)
        for name in history.accounts
        for entry in books.entries[name][history.opening[name] :]
        if homes.get(books.transfers[entry.transfer_id].debit_account_id) not in (None, homes[name])
        and entry.amount_minor > 0
    }
    call = next(call for call in history.calls if call.verb == "read" and call.outcome == "ok")
    name, (sequence, posted_minor) = next(iter(early.items()))
    call.asked, call.seen = {"accounts": [name]}, {name: Seen(sequence, posted_minor)}
    assert ("the books have" in said(judge(history))) is not keeps_pending


def serial(drawn: random.Random, accounts: str = "abc") -> list[Operation]:
    """Transfers and reads one after another, each seeing all before it."""
    versions = dict.fromkeys(accounts, 0)
    done = []
    for place in range(30):
        at = place * 10
        if drawn.random() < 0.5:
            done.append(Operation(f"read {place}", at, at + 5, saw=dict(versions)))
            continue
        for name in drawn.sample(accounts, 2):
            versions[name] += 1
            made = {**(done.pop().made if done and done[-1].sent_at == at else {}), name: versions[name]}
            done.append(Operation(f"transfer {place}", at, at + 5, made=made))
    return done


@pytest.mark.parametrize("seed", range(20))
def test_a_serial_execution_has_no_cycle(seed: int) -> None:
    """Whatever was done, one after another explains itself."""
    assert gravest(serial(random.Random(seed))) is None


def at_once(*operations: Operation) -> list[Operation]:
    """The operations, all sent before any was answered."""
    return [replace(operation, sent_at=0, answered_at=100) for operation in operations]


def op(label: str, *, made: dict[str, int] | None = None, saw: dict[str, int] | None = None, at: int = 0) -> Operation:
    """One operation that took one moment."""
    return Operation(label, at, at + 1, made or {}, saw or {})


CYCLES: Final = {
    "G0": at_once(op("t", made={"a": 1, "b": 2}), op("u", made={"a": 2, "b": 1})),
    "G1c": at_once(op("t", made={"a": 1}, saw={"b": 1}), op("u", made={"b": 1}, saw={"a": 1})),
    "G-single": at_once(op("t", made={"a": 1, "b": 1}), op("r", saw={"a": 1, "b": 0})),
    "G2": at_once(
        *(op("t", made={"a": 1}), op("u", made={"b": 1})),
        *(op("r", saw={"a": 1, "b": 0}), op("s", saw={"a": 0, "b": 1})),
    ),
    "real time": [op("t", made={"a": 1}), op("r", saw={"a": 0}, at=10)],
}


@pytest.mark.parametrize("kind", CYCLES)
def test_the_smallest_cycle_of_each_kind_is_named(kind: str) -> None:
    """By Adya's definitions; among other operations it is found, too."""
    found = gravest(CYCLES[kind])
    assert found is not None
    assert found.name == kind
    assert found.operations == len(CYCLES[kind])
    assert found.witness.count("->") >= 2
    later = [replace(each, sent_at=each.sent_at + 1000, answered_at=each.answered_at + 1000) for each in CYCLES[kind]]
    among = gravest([*serial(random.Random(1), "xyz"), *later])
    assert among is not None
    assert (among.name, among.operations) == (found.name, found.operations)


def test_every_level_says_what_it_forbids() -> None:
    """The levels are a chain, and each forbids something of its own."""
    assert set(FORBIDS) == set(Level)
    assert [str(level) for level in Level] == ["PL-0", "PL-1", "PL-2", "PL-2+", "PL-3", "PL-SS"]


def test_histories_as_files(sound: History, tmp_path: Path) -> None:
    """JSON lines have every call; EDN has every transfer once and whole lists for reads; numbers never come twice."""
    calls = [json.loads(line) for line in to_jsonl(sound)]
    assert len(calls) == 1 + len(sound.calls) + len(sound.accounts)
    edn = "\n".join(to_edn(sound))
    moved = [t for t in sound.books.transfers.values() if t.debit_account_id in sound.homes]
    assert edn.count(":append") == 2 * (2 * len(moved) + len(sound.accounts) + 1)  # one has two deposits
    assert edn.count(":type :ok") == edn.count(":type :invoke")
    for place, name in enumerate(sound.accounts):
        longest = max(seen.sequence for call in sound.calls for key, seen in call.seen.items() if key == name)
        lists = [part.split("]")[0].split() for part in edn.split(f"[:r {place} [")[1:]]
        assert max(map(len, lists)) == longest
        assert all(len(set(numbers)) == len(numbers) for numbers in lists)
    operations = [json.loads(line) for line in to_porcupine(sound)][1:]
    keys = {(call.actor, call.key) for call in sound.calls if call.key}
    assert sum(operation["verb"] not in ("read", "page") for operation in operations) == len(keys)
    assert {path.suffix for path in write_all(sound, tmp_path / "new")} == {".jsonl", ".edn"}


if shutil.which("go"):  # a checker in another language; the others need only what the lock installs

    @pytest.mark.trial
    def test_porcupine_agrees(sound: History, tmp_path: Path) -> None:
        """The Go program finds one order of a sound history, holds and refusals included, and none of a stale one."""
        folder = Path(__file__).parents[2] / "examples" / "porcupine"
        program = tmp_path / "porcupine"
        subprocess.run(["go", "build", "-o", str(program), "."], cwd=folder, check=True)
        stale = deepcopy(sound)
        read_the_past(stale, random.Random(1))
        for history, code in ((sound, 0), (stale, 1)):
            file = tmp_path / f"{code}.jsonl"
            file.write_text("\n".join(to_porcupine(history)), encoding="utf-8")
            assert subprocess.run([str(program), str(file)], check=False).returncode == code


def test_the_command_writes_results_and_merges_them(tmp_path: Path) -> None:
    """Each run adds its backend; nothing is overwritten (D7)."""
    for backend in ("memory", "sqlite"):
        told = CliRunner().invoke(
            cli.app, ["lab", "check", backend, "--repeats", "1", "--writes", "40", "--out", str(tmp_path)]
        )
        assert told.exit_code == 0, told.output
        assert "holds" in told.output
    results = json.loads((tmp_path / "check.json").read_text())
    assert set(results) == {"memory", "sqlite"}
    assert all(result["holds"] for result in results.values())
    assert (tmp_path / "history-sqlite-1.edn").exists()


def test_the_command_names_what_it_does_not_know() -> None:
    """An unknown backend is no passed check."""
    told = CliRunner().invoke(cli.app, ["lab", "check", "nosuch"])
    assert told.exit_code != 0
    assert "nosuch" in told.output


@pytest.mark.parametrize("command", [["check", "--repeats", "1"], ["load", "memory", "--operations", "8"]])
def test_the_lab_writes_into_no_ledger_that_holds_something(command: list[str], tmp_path: Path) -> None:
    """A URL without {tmp} may be somebody's wallet."""
    url = f"sqlite:///{tmp_path}/used.db"

    async def use() -> None:
        async with World(harness_for(url), tmp_path) as world:
            await world.person(100)

    asyncio.run(use())
    before = CliRunner().invoke(cli.app, ["digest"], env={"WALLET_STORAGE": url}).output
    told = CliRunner().invoke(cli.app, ["lab", command[0], url, *command[1:]])
    assert told.exit_code != 0
    assert "not empty" in str(told.exception) + told.output
    assert CliRunner().invoke(cli.app, ["digest"], env={"WALLET_STORAGE": url}).output == before


@pytest.mark.parametrize("command", ["check", "load", "cost", "fault"])
def test_the_lab_leaves_a_ledger_of_an_older_release(command: str, tmp_path: Path) -> None:
    """It is refused before it is opened, which would bring it to this version: then its own release could not go on."""
    path = tmp_path / "older.db"
    path.write_bytes(unpacked(FOLDER / "0.1.0" / "sqlite" / "wallet.db.gz"))
    before = path.read_bytes()
    told = CliRunner().invoke(cli.app, ["lab", command, f"sqlite:///{path}"])
    assert isinstance(told.exception, NotMigrated)
    assert path.read_bytes() == before


def test_the_lab_is_no_tool_of_production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even on an empty ledger."""
    monkeypatch.setenv("WALLET_MODE", "production")
    told = CliRunner().invoke(cli.app, ["lab", "check", f"sqlite:///{tmp_path}/new.db", "--repeats", "1"])
    assert told.exit_code != 0
    assert "production" in str(told.exception) + told.output
