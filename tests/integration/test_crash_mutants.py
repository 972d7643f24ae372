"""Crash trials detect a broken product: a trial that finds nothing wrong with a mutant is useless."""

from pathlib import Path

import pytest

from tests.integration._suite_runs import ROOT
from wallet_gql.lab import broken
from wallet_gql.testing.crash import Kill, Trial, run_trial
from wallet_gql.testing.harness import harness_for

MODULE = "tests.integration.mutants"
KILLS = (5, 12, 21, 30)
"""At which passing of the window each life ends."""

CONVICTED_WITH = {
    "receipt_outside_the_commit": ("sqlite.written", r"paid \d+ times|has no receipt"),
    "reply_before_commit": ("sqlite.written", "the books have nothing|names cannot be found"),
    "state_before_key": ("sqlite.committed", r"was refused \(\w+\) and paid|answered as done and as refused"),
}


@pytest.mark.trial
@pytest.mark.backend("sqlite")
@pytest.mark.parametrize("mutant", CONVICTED_WITH)
async def test_a_mutant_is_convicted_by_one_trial(mutant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kills in the right window are enough; what the checker complains of is what the mutant does wrong."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    window, words = CONVICTED_WITH[mutant]
    trial = Trial(seed=7, kills=tuple(Kill(window, hit) for hit in KILLS), companion=False)

    with pytest.raises(AssertionError, match=words):
        await run_trial(harness_for("sqlite"), tmp_path, trial, command=broken.command(MODULE, mutant))


@pytest.mark.trial
@pytest.mark.backend("sqlite")
async def test_the_same_trial_acquits_the_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no mutation chosen nothing is found."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    windows = ("sqlite.written", "sqlite.committed")
    trial = Trial(seed=7, kills=tuple(Kill(window, hit) for window in windows for hit in KILLS[:2]), companion=False)
    tally = await run_trial(harness_for("sqlite"), tmp_path, trial, command=broken.command(MODULE, broken.SOUND))

    assert tally.windows == dict.fromkeys(windows, 2)
