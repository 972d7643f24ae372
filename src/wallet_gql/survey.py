"""Looks at the store for operators: can it write, what is overdue or unsettled, do the books sum to zero.

Every process has a survey, but only one process of a server looks at a time: all would see the same. When it ends,
another one goes on.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Final, get_args

from .background import attempt, log_once_a_minute
from .domain.errors import WalletError
from .domain.model import Hold
from .integrations.stripe.desk import count_open_alarms
from .integrations.webhooks.dead_letters import DEAD
from .metrics import (
    BOOKS_AT,
    BOOKS_OFF,
    BOOKS_SECONDS,
    CLOCK_SECONDS,
    DEAD_LETTERS,
    IN_DOUBT,
    INTENTS,
    OVERDUE_SECONDS,
    PAYMENT_ALARMS,
    PENDING_CREDITS,
    UNSETTLED_SECONDS,
    WRITABLE,
)
from .records import SweepKind
from .storage import NodeTotal, Observed, Store, SummedApart, check_writable

if sys.platform != "win32":
    import fcntl

log = logging.getLogger("wallet_gql.survey")

KINDS: Final[tuple[SweepKind, ...]] = get_args(SweepKind)
_DEAD_MAX: Final = 1_000
_COUNT_SECONDS: Final = 60.0
"""How often dead letters and alarms are counted, which reads them."""
_ALARMS_MAX: Final = 1_000
"""How many open alarms are counted, so that a look costs at most ten pages of a list. Settled ones are not read."""


class Survey:
    """Puts what it sees into metrics, and logs what an operator must know."""

    def __init__(self, store: Store, folder: Path, clock: Callable[[], datetime], *, books_seconds: float) -> None:
        """`folder` is shared by the processes of a server. The books are summed every `books_seconds`; 0: never."""
        self._store = store
        self._clock = clock
        self._books_seconds = books_seconds
        self._done_at: dict[str, float] = {}
        """When what is not done at each look was done last, by its name."""
        self._answered: set[str] = set()
        """The nodes that have answered at some time."""
        self._began_summing = False
        self._path: Final = folder / "survey.lock"
        self._turn: IO[bytes] | None = None

    def close(self) -> None:
        """Let another process look."""
        if self._turn is not None:
            self._turn.close()

    async def look(self) -> None:
        """Look once, if this process is the one that looks. A part that fails does not stop the others.

        What takes as long as the ledger is large is `sum_books`: it must not delay the rest.
        """
        if not self._is_ours():
            return
        WRITABLE.set(await attempt(log, "the check whether the store can write", partial(check_writable, self._store)))
        await attempt(log, "looking for overdue records", self._overdue)
        await attempt(log, "looking at the nodes", self._nodes)
        await self._now_and_then("counting dead letters", self._dead_letters, _COUNT_SECONDS)
        await self._now_and_then("counting alarms about payments", self._alarms, _COUNT_SECONDS)

    async def sum_books(self) -> None:
        """Sum the books if that is due, and if this process is the one that looks."""
        if not self._books_seconds or not self._is_ours():
            return
        if not self._began_summing:
            self._began_summing = True
            BOOKS_AT.set(self._clock().timestamp())
            BOOKS_SECONDS.set(self._books_seconds)
        await self._now_and_then("summing the books", self._books, self._books_seconds)

    async def _now_and_then(self, name: str, step: Callable[[], Awaitable[object]], every_seconds: float) -> None:
        """Do it if the last time is long ago."""
        now = time.monotonic()
        if now - self._done_at.get(name, -math.inf) >= every_seconds:
            self._done_at[name] = now
            await attempt(log, name, step)

    def _is_ours(self) -> bool:
        if sys.platform == "win32":
            return True
        if self._turn is None:
            self._turn = self._path.open("ab")
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    async def _overdue(self) -> None:
        now = self._clock()
        for kind in KINDS:
            found = await self._store.list_due(kind, now, 1)
            due = [one.expires_at if isinstance(one, Hold) else one.due_at for one in found]
            OVERDUE_SECONDS.set(max(((now - at).total_seconds() for at in due if at is not None), default=0), kind)

    async def _dead_letters(self) -> None:
        DEAD_LETTERS.set(len(await self._store.list_due(DEAD, self._clock(), _DEAD_MAX)))

    async def _nodes(self) -> None:
        """What is known of the nodes. Of one that does not answer nothing is known: its old values would be lies."""
        if not isinstance(self._store, Observed):
            return
        found = await self._store.vitals()
        for silent in self._answered - {node.node for node in found}:
            for metric in (IN_DOUBT, INTENTS, PENDING_CREDITS, UNSETTLED_SECONDS, CLOCK_SECONDS):
                metric.set(math.nan, silent)
        for node in found:
            self._answered.add(node.node)
            IN_DOUBT.set(node.in_doubt, node.node)
            INTENTS.set(node.intents, node.node)
            PENDING_CREDITS.set(node.pending_credits, node.node)
            UNSETTLED_SECONDS.set(node.unsettled_seconds, node.node)
            CLOCK_SECONDS.set(node.clock_seconds, node.node)

    async def _alarms(self) -> None:
        PAYMENT_ALARMS.set(await count_open_alarms(self._store, _ALARMS_MAX))

    async def _books(self) -> None:
        """The sums of each node are told although another one is down; only with all of them the books are summed."""
        store = self._store
        if not isinstance(store, SummedApart):
            _tell_books(await store.totals())
        else:
            found = (await store.totals_apart()).values()
            for part in found:
                if not isinstance(part, WalletError):
                    _tell_books(part)
            for part in found:
                if isinstance(part, WalletError):
                    raise part
        BOOKS_AT.set(self._clock().timestamp())


def _tell_books(totals: Iterable[NodeTotal]) -> None:
    for total in totals:
        off = total.customer_minor + total.system_minor
        BOOKS_OFF.set(off, total.node, total.currency)
        if off:
            where = f"{total.currency} on {total.node}"
            text = f"the books are wrong: {where} sums to {off} minor units, not to zero; run: wallet-gql audit"
            log_once_a_minute(log, logging.ERROR, f"books {where}", text)
