"""Counts failed log-ins, and refuses further ones before the password is checked.

Failures are counted for each pair of name and address, and for each address. So guessing is slow, and nobody can lock a
user out from another address. An attempt is counted as failed before it is made, and forgotten if it succeeds: so even
of many concurrent attempts, at most `FAILURES_MAX` passwords are checked. The counts are records: they survive a
restart, and all processes share them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from ..domain.errors import RateLimited
from ..domain.model import Record, RecordKey
from ..domain.security_events import ADDRESS_FAILURES_MAX, FAILURES_MAX, Throttle, Visitor, throttle_key
from ..records import change, read, remove
from ..storage import Store


class Throttles:
    """The counts. Without a visitor (on the command line) nothing is counted."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    async def attempt(self, name: str, visitor: Visitor | None) -> RecordKey | None:
        """Count an attempt for a name as failed, before the password is checked. Raises RateLimited."""
        if visitor is None:
            return None
        now = self._clock()
        everything = Throttle.from_record(await read(self._store, _of_address(visitor)), now)
        if everything.count >= ADDRESS_FAILURES_MAX:
            raise _refusal(everything, now)
        key = throttle_key("name", name, visitor.network)

        def make(before: Record | None) -> Record:
            found = Throttle.from_record(before, now)
            if found.count >= FAILURES_MAX:
                raise _refusal(found, now)
            return replace(found, count=found.count + 1).to_record(key)

        await change(self._store, key, make)
        return key

    async def failed(self, visitor: Visitor | None) -> None:
        """Count a failure for the address."""
        if visitor is None:
            return
        now, key = self._clock(), _of_address(visitor)

        def make(before: Record | None) -> Record:
            found = Throttle.from_record(before, now)
            return replace(found, count=found.count + 1).to_record(key)

        await change(self._store, key, make)

    async def succeeded(self, attempt: RecordKey | None) -> None:
        """Forget the failures for this name and address."""
        if attempt is not None:
            await remove(self._store, attempt, lambda _: True)

    async def refund_attempt(self, attempt: RecordKey | None) -> None:
        """Take one attempt off the count, because no password was checked."""
        if attempt is None:
            return
        now = self._clock()

        def make(before: Record | None) -> Record | None:
            found = Throttle.from_record(before, now)
            if before is None or not found.count:
                return None
            return replace(found, count=found.count - 1).to_record(attempt)

        await change(self._store, attempt, make)


def _of_address(visitor: Visitor) -> RecordKey:
    return throttle_key("address", visitor.network)


def _refusal(found: Throttle, now: datetime) -> RateLimited:
    return RateLimited(max(1, math.ceil((found.ends_at - now).total_seconds())))
