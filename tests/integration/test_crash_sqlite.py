"""SQLite under kill -9: nothing answered is lost, nothing is doubled, at every named point of its commit."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from wallet_gql.testing.crash import RANDOM, Tally, draw_trials, run_trial
from wallet_gql.testing.harness import harness_for

KILLS = 25


@pytest.mark.backend("sqlite")
@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_answered_is_lost_and_nothing_doubled(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """25 kills, drawn over every failpoint and random moments, each followed by a restart with the same keys."""
    tally = Tally()
    for number, trial in enumerate(draw_trials(harness_for("sqlite"), seed, KILLS, per_trial=9)):
        folder = tmp_path / str(number)
        folder.mkdir()
        tally.add(await run_trial(harness_for("sqlite"), folder, trial))
    record_property("trials", tally.kills)
    logging.getLogger(__name__).info("\n%s", tally.table())
    assert tally.kills >= KILLS
    assert {RANDOM, *harness_for("sqlite").failpoints} <= set(tally.windows)
    assert tally.missed == 0
    assert tally.found_done > 0, "no kill fell between a commit and its answer"
