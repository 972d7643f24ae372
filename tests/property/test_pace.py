"""A mover rests in proportion to its work."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet_gql.backends.postgres.pace import SHARE, Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which sleeping moves on."""
    return clocked(monkeypatch)


def clocked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """See `clock`."""
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(asyncio, "sleep", sleep)
    return now


@given(
    share=st.floats(0.05, 1.0),
    steps=st.lists(st.floats(0.001, 100.0), min_size=1, max_size=20),
)
def test_it_works_for_its_share_of_the_time(share: float, steps: list[float]) -> None:
    """However long each step takes."""
    with pytest.MonkeyPatch.context() as patch:
        now = clocked(patch)
        _rested(Pace(share), now, steps, 0)
    assert sum(steps) / now[0] == pytest.approx(share)


def test_a_rate_is_kept(clock: list[float]) -> None:
    """If that is the slower of the two."""
    _rested(Pace(SHARE, rate=100.0), clock, [0.1, 0.1, 0.1], 200)
    assert clock[0] == pytest.approx(6.0)


def test_a_high_rate_is_no_license(clock: list[float]) -> None:
    """The share is kept then."""
    _rested(Pace(SHARE, rate=1e9), clock, [1.0, 2.0], 10)
    assert clock[0] == pytest.approx(3.0 / SHARE)


def _rested(pace: Pace, now: list[float], steps: list[float], rows: int) -> None:
    async def run() -> None:
        pace.begin()
        for seconds in steps:
            now[0] += seconds
            await pace.rest(rows)

    coroutine = run()
    with pytest.raises(StopIteration):  # no loop: its own clock would be the patched one
        coroutine.send(None)
