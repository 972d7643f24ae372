"""Replies that wait a moment for credits of other nodes, where those come after the commit (`remote_credit`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ...domain.changes import Done, Outcome
from ...storage import Committed

C = TypeVar("C")
R = TypeVar("R")
Arrivals = Sequence[asyncio.Future[bool]]
"""One future for each credit: whether it has arrived."""

CREDIT_SECONDS: Final = 2.0
"""How long a credit is tried before it is left to the sweep; also the longest time that a reply waits for it."""

_REPLY_SHARE: Final = 0.9
"""The wait for a credit ends after this share of the caller's time."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """A command's result, and its credits on their way."""

    result: Any
    credits: Arrivals


def sending(outcome: Outcome, credits_: Sequence[C], send: Callable[[Sequence[C]], Arrivals]) -> Outcome:
    """The outcome of a command, whose credits are sent if it was decided."""
    if not credits_ or not isinstance(outcome, Done):
        return outcome
    return Done(_Sent(outcome.result, send(credits_)), accounts=outcome.accounts)


async def replied(committing: Awaitable[Committed[R]], timeout_seconds: float) -> Committed[R]:
    """What was committed, after a wait for the credits that `sending` has sent: `credited` says whether all arrived."""
    loop = asyncio.get_running_loop()
    late = loop.time() + timeout_seconds * _REPLY_SHARE
    done = await committing
    sent: Any = done.result
    if not isinstance(sent, _Sent):
        return done
    seconds = min(late - loop.time(), CREDIT_SECONDS)
    if seconds > 0 and sent.credits:
        await asyncio.wait(sent.credits, timeout=seconds)
    arrived = (credit.done() and not credit.cancelled() and credit.result() for credit in sent.credits)
    return Committed(sent.result, credited=bool(sent.credits) and all(arrived), accounts=done.accounts)
