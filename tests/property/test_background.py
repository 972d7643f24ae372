"""Background loops survive all errors of their steps, and end when they are cancelled."""

from __future__ import annotations

import asyncio
import logging

import pytest

from wallet_gql import background
from wallet_gql.background import attempt, run_for_ever
from wallet_gql.domain.errors import Contended, InDoubt, InvariantViolated, NodeUnavailable

log = logging.getLogger("tests.background")

ANYTHING = (
    RuntimeError("the handler is closed"),
    OSError("reset"),
    EOFError(),
    TimeoutError(),
    AssertionError(),
    MemoryError(),
    Contended(),
    NodeUnavailable("n1"),
    InDoubt(),
    InvariantViolated("a bug"),
    asyncio.CancelledError("a library cancelled its own work"),
    StopAsyncIteration(),
    ExceptionGroup("several", [ValueError()]),
)


@pytest.fixture(autouse=True)
def _nothing_logged_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_logged", {})


async def test_k2_a_loop_survives_anything(caplog: pytest.LogCaptureFixture) -> None:
    """Each kind is raised twice and logged once; then the loop still works, until it is cancelled."""
    raised = iter([*ANYTHING, *ANYTHING])
    went_on = asyncio.Event()

    async def step() -> None:
        for error in raised:
            raise error
        went_on.set()

    task = asyncio.create_task(run_for_ever(log, "renewing", step, every_seconds=0.0, slowest_seconds=0.0))
    waiting = asyncio.create_task(went_on.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    assert waiting.done(), "the loop has ended"
    assert len(caplog.records) == len(ANYTHING), caplog.text
    expected = {type(error).__name__ for error in (Contended(), NodeUnavailable("n1"), InDoubt())}
    assert {type(error).__name__ for error in ANYTHING if f"again: {error}" in caplog.text} >= expected
    assert sum(record.exc_info is not None for record in caplog.records) == len(ANYTHING) - len(expected)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_loop_that_is_cancelled_in_its_step_ends() -> None:
    """A cancellation of the loop itself is no failure of its step."""
    begun = asyncio.Event()

    async def step() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run_for_ever(log, "renewing", step, every_seconds=0.0))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_pause_grows_with_failures_and_shrinks_with_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """1, 2, 4, then no more than the most; after a success as before."""
    pauses: list[float] = []
    outcomes = iter([False, False, False, False, True, True])

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def step() -> None:
        if not next(outcomes):
            raise OSError

    class EndError(BaseException):
        """Ends the loop."""

    async def last(_log: logging.Logger, _name: str, _step: object) -> bool:
        if len(pauses) > 6:
            raise EndError
        return await attempt(log, "x", step)

    monkeypatch.setattr("wallet_gql.background.asyncio.sleep", sleep)
    monkeypatch.setattr(background, "attempt", last)
    with pytest.raises(EndError):
        await run_for_ever(log, "x", step, every_seconds=1.0, slowest_seconds=5.0)
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0, 1.0, 1.0]
