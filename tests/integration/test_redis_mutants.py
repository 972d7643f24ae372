"""Each mutation of the Redis protocol is detected within `TRIALS_MAX` trials that the product passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration._redis import Bench, PausedTally, paused_trial
from tests.integration.redis_mutants import MUTANTS
from wallet_gql.domain.errors import InvariantViolated

pytestmark = [*(pytest.mark.backend("redis-3"), pytest.mark.service("redis")), pytest.mark.trial]

TRIALS_MAX = 50
TRIALS = 4
SOAK_TRIALS = 100
FORGETTING = ("tokens_from_zero",)
"""Mutants whose Redis is flushed all the time."""


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_spoiled_protocol_is_found_out(
    made: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """By the books, by the audit, by what leaves a frozen account, or by an answer that a promise is broken."""
    MUTANTS[name](monkeypatch)
    for number in range(1, TRIALS_MAX + 1):
        try:
            await paused_trial(made, tmp_path / str(number), number, monkeypatch, forgetting=name in FORGETTING)
        except (AssertionError, InvariantViolated) as found:
            print(f"{name}: trial {number}: {found}")  # noqa: T201 - shown with -s
            return
    pytest.fail(f"{name} survived {TRIALS_MAX} trials")


@pytest.mark.parametrize("forgetting", [False, True])
async def test_the_product_passes(
    made: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetting: bool
) -> None:
    """The same trials, on the same seeds; holders were late, and were refused."""
    tally = PausedTally()
    for number in range(1, TRIALS + 1):
        tally.add(await paused_trial(made, tmp_path / str(number), number, monkeypatch, forgetting=forgetting))
    assert tally.late > 5 * TRIALS
    assert tally.refused > TRIALS
    assert tally.paid > TRIALS


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("forgetting", [False, True])
async def test_the_product_passes_for_long(
    made: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetting: bool
) -> None:
    """Other seeds, many of them."""
    tally = PausedTally()
    for number in range(1_000, 1_000 + SOAK_TRIALS):
        tally.add(await paused_trial(made, tmp_path / str(number), number, monkeypatch, forgetting=forgetting))
        print(f"{number - 999} trials: {tally}")  # noqa: T201 - shown with -s
