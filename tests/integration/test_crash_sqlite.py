"""SQLite under kill -9: nothing answered is lost, nothing is doubled, at every named point of its commit."""

import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration._evidence import write_evidence
from wallet_gql.testing.crash import FULL_DISK, RANDOM, Kill, Tally, Trial, draw_trials, run_trial
from wallet_gql.testing.harness import harness_for

KILLS = 25
SOAK_KILLS = 100
SOAK_SEED = 20_261_122


@pytest.mark.trial
@pytest.mark.timeout(300)
@pytest.mark.backend("sqlite")
@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_answered_is_lost_and_nothing_doubled(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """25 kills over every failpoint, random moments and full disks, each followed by a restart with the same keys."""
    tally = Tally()
    for number, trial in enumerate(draw_trials(harness_for("sqlite"), seed, KILLS, per_trial=9)):
        folder = tmp_path / str(number)
        folder.mkdir()
        tally.add(await run_trial(harness_for("sqlite"), folder, trial))
    record_property("trials", tally.kills)
    logging.getLogger(__name__).info("\n%s", tally.table())
    assert tally.kills >= KILLS
    assert {RANDOM, FULL_DISK, *harness_for("sqlite").failpoints} <= set(tally.windows)
    assert tally.missed == 0
    assert tally.found_done > 0, "no kill fell between a commit and its answer"


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
