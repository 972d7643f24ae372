"""Settings and failpoints: all faults are reported at once, and nothing dangerous starts in production."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wallet_gql import failpoints
from wallet_gql.backends import open_store, schemes
from wallet_gql.backends.kit.nodes import NodeMap
from wallet_gql.domain.errors import ConfigurationError
from wallet_gql.domain.ids import SLOTS
from wallet_gql.settings import Mode, load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variables and no `.env` from outside."""
    for name in list(os.environ):
        if name.startswith("WALLET_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_give_a_sqlite_wallet() -> None:
    """Nothing needs to be set."""
    settings = load_settings()

    assert (settings.storage, settings.mode, settings.workers) == ("sqlite:///wallet.db", Mode.DEVELOPMENT, 1)


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by the name of its variable."""
    for name, value in {"PORT": "x", "WORKERS": "0", "MODE": "prod", "FAILPOINTS": "nonsense"}.items():
        monkeypatch.setenv(f"WALLET_{name}", value)

    with pytest.raises(ConfigurationError) as caught:
        load_settings()

    for name in ("WALLET_PORT", "WALLET_WORKERS", "WALLET_MODE", "WALLET_FAILPOINTS"):
        assert name in caught.value.message


def test_the_environment_wins_over_the_file_and_options_over_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`.env`, then variables, then overrides; absent overrides do not count."""
    (tmp_path / ".env").write_text("WALLET_PORT=1\nWALLET_HOST=file\nWALLET_WORKERS=2\n")
    monkeypatch.setenv("WALLET_HOST", "environment")

    settings = load_settings(workers=3, port=None)

    assert (settings.port, settings.host, settings.workers) == (1, "environment", 3)


def test_memory_lives_in_one_process() -> None:
    """Several workers would each have books of their own."""
    with pytest.raises(ConfigurationError, match="one process"):
        load_settings(storage="memory://", workers=2)
    with pytest.raises(ConfigurationError, match="keeps nothing"):
        load_settings(storage="memory://", mode="production")


def test_failpoints_are_for_test_mode_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """An armed production server refuses to start."""
    monkeypatch.setenv("WALLET_FAILPOINTS", "x=kill")
    with pytest.raises(ConfigurationError, match="unset the variable"):
        load_settings(mode="production")

    monkeypatch.setenv("WALLET_FAILPOINTS", "x=fail@2")
    load_settings(mode="test")
    failpoints.reach("x")
    failpoints.reach("y")
    with pytest.raises(failpoints.FailpointError):
        failpoints.reach("x")
    failpoints.reach("x")
    failpoints.arm("")


def test_failpoints_kill_and_sleep() -> None:
    """`kill` is SIGKILL: nothing runs after it."""
    program = (
        "from wallet_gql.failpoints import arm, reach; arm('a=sleep:0.01,b=kill'); reach('a'); reach('b'); print(1)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


@pytest.mark.parametrize(
    "url", ["wallet.db", "nosuch://x", "memory://?nodes=0", "memory://?nodes=x", "sqlite://host/x"]
)
def test_storage_urls_that_cannot_be_opened(url: str) -> None:
    """The message says what to write instead."""
    with pytest.raises(ConfigurationError):
        open_store(url)


def test_known_schemes() -> None:
    """Own ones are always there."""
    assert {"memory", "sqlite"} <= set(schemes())


async def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    """Neither a foreign database, nor a newer one, nor a folder that is not there."""
    import sqlite3  # noqa: PLC0415 - makes the foreign files

    for name, sql in {
        "other.db": "CREATE TABLE x (a)",
        "newer.db": "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('9999')",
    }.items():
        connection = sqlite3.connect(tmp_path / name)
        connection.executescript(sql)
        connection.close()
    for name, words in {"other.db": "other tables", "newer.db": "9999", "no/such.db": "cannot open"}.items():
        with pytest.raises(ConfigurationError, match=words):
            async with open_store(f"sqlite:///{tmp_path / name}"):
                pass


def test_slots_spread_evenly() -> None:
    """Each node has about its share; the order of names does not matter; names must be given and differ."""
    three = NodeMap(["a", "b", "c"])
    assert [NodeMap(["c", "a", "b"]).home(slot) for slot in range(SLOTS)] == [three.home(slot) for slot in range(SLOTS)]
    assert all(SLOTS / 3 * 0.85 < sum(three.home(s) == n for s in range(SLOTS)) < SLOTS / 3 * 1.15 for n in "abc")
    for names in ([], ["a", "a"]):
        with pytest.raises(ConfigurationError):
            NodeMap(names)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 25, 49])
def test_a_node_moves_its_own_slots_only(count: int) -> None:
    """All to the node that comes or from the one that goes, as many as chance says within four standard deviations."""
    names = [f"n{number}" for number in range(1, count + 1)]
    fewer, more = NodeMap(names), NodeMap([*names, "new"])
    moved = [slot for slot in range(SLOTS) if fewer.home(slot) != more.home(slot)]
    assert {more.home(slot) for slot in moved} == {"new"}
    assert len(moved) == sum(more.home(slot) == "new" for slot in range(SLOTS))
    share = 1 / (count + 1)
    assert abs(len(moved) - SLOTS * share) <= 4 * (SLOTS * share * (1 - share)) ** 0.5
