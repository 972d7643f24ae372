"""SQLite under kill -9: nothing answered is lost, nothing is doubled, at every named point of its commit."""

import random
import shutil
from pathlib import Path

import pytest

from tests.integration._evidence import write_evidence
from wallet_gql.testing.conformance import CrashConformance
from wallet_gql.testing.crash import FULL_DISK, Kill, Tally, Trial, run_trial
from wallet_gql.testing.harness import harness_for

SOAK_KILLS = 100
SOAK_SEED = 20_261_122


@pytest.mark.trial
@pytest.mark.timeout(600)
class TestSqliteKilled(CrashConformance):
    """At every failpoint, at random moments and on full disks."""

    backend = "sqlite"
    kills = 20


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.backend("sqlite")
async def test_soak_of_full_disks(tmp_path: Path) -> None:
    """A hundred lives that end on a full disk: the store stops, answers nothing false, and loses nothing."""
    tally = Tally()
    drawn = random.Random(SOAK_SEED)
    for number in range(SOAK_KILLS // 5):
        kills = tuple(Kill(FULL_DISK, hit=drawn.randint(1, 40)) for _ in range(5))
        folder = tmp_path / str(number)
        folder.mkdir()
        trial = Trial(drawn.randrange(2**31), kills, companion=number % 3 != 0)
        tally.add(await run_trial(harness_for("sqlite"), folder, trial))
        shutil.rmtree(folder)
    text = (
        "No file of the victim could grow beyond a drawn size (RLIMIT_FSIZE); once a call had failed it was killed.\n"
        f"Seed {SOAK_SEED}; no trial found a contradiction.\n\n"
    )
    write_evidence("sqlite-full-disk", "SQLite on a full disk", "make soak ARGS='-k full_disks'", text + tally.table())
    assert tally.windows[FULL_DISK] >= SOAK_KILLS * 9 // 10
